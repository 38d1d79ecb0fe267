"""A project of Django in a temporary folder: its migrations, its commands, its own tests by Django's runner."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest

import sqlite_ivf
from conftest import nearest, random

if not hasattr(sqlite3.Connection, "enable_load_extension"):
    pytest.skip("Django uses the sqlite3 module, which cannot load extensions here", allow_module_level=True)
pytest.importorskip("django", "4.2")

PROJECT = Path(__file__).with_name("django_project")
VECTORS = random(100, 8)


class Project:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__"))

    def manage(self, *arguments: str, code: int = 0) -> str:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-W", "error::DeprecationWarning:sqlite_ivf", "manage.py", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def migrated(self) -> Project:
        self.manage("makemigrations", "library")
        self.manage("migrate")
        with self.db() as db:
            for i, vector in enumerate(VECTORS):
                row = (i, f"doc {i}", ["en", "de"][i % 2], 2000 + i, True, vector.tobytes())
                db.execute("INSERT INTO library_doc(id, title, lang, year, live, embedding) VALUES (?, ?, ?, ?, ?, ?)", row)
        db.close()
        return self

    def migration(self, name: str, *operations: str) -> str:
        """Writes a migration by hand, and runs it."""
        folder = self.folder / "library" / "migrations"
        last = max(path.stem for path in folder.glob("0*.py"))
        number = f"{int(last[:4]) + 1:04}_{name}"
        (folder / f"{number}.py").write_text(
            "from django.db import migrations, models\nimport sqlite_ivf.django\n\n\nclass Migration(migrations.Migration):\n"
            f"    dependencies = [('library', '{last}')]\n    operations = [{', '.join(operations)}]\n"
        )
        self.manage("migrate")
        return number

    def db(self) -> Any:
        db = sqlite3.connect(self.folder / "library.db")
        sqlite_ivf.load(db)
        return db

    def search(self, table: str = "doc_near", column: str = "embedding", where: str = "1") -> List[int]:
        db = self.db()
        sql = f"SELECT rowid FROM {table} WHERE {column} MATCH ? AND k = 5 AND {where}"
        found = [row[0] for row in db.execute(sql, (VECTORS[3].tobytes(),))]
        db.close()
        return found

    def follows(self, table: str = "library_doc", index: str = "doc_near", column: str = "embedding") -> bool:
        """Whether the index is whole, and hears of a change of the table."""
        db = self.db()
        db.execute(f"INSERT INTO {index}({index}) VALUES ('integrity-check')")
        rows = db.execute("SELECT rows FROM ivf_stats(?)", (index,)).fetchone()[0]
        db.execute(f"DELETE FROM {table} WHERE id = 3")
        heard = db.execute("SELECT rows FROM ivf_stats(?)", (index,)).fetchone()[0]
        db.rollback()
        db.close()
        return bool(rows == 100 and heard == 99)

    def names(self) -> List[str]:
        db = self.db()
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'doc%' OR name LIKE '%photos%'")]
        db.close()
        return names


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


EXPECTED = nearest(VECTORS, VECTORS[3], 5, "cosine")


def test_djangos_runner_runs_the_tests_of_the_project(project: Project) -> None:
    project.manage("makemigrations", "library")
    printed = project.manage("test", "-v", "2")
    ran = re.search(r"Ran (\d+) tests", printed)
    assert ran is not None and int(ran.group(1)) > 15
    assert "OK" in printed and "FAILED" not in printed


def test_migrations_are_complete_and_go_backwards(project: Project) -> None:
    printed = project.migrated().manage("makemigrations", "--check", "--dry-run")
    assert "No changes detected" in printed
    sql = project.manage("sqlmigrate", "library", "0001")
    assert 'CREATE VIRTUAL TABLE "doc_near" USING ivf("embedding" float32[8] distance_metric=cosine, "lang" TEXT' in sql
    assert "SELECT ivf_triggers('doc_near', 'create');" in sql
    assert project.search() == EXPECTED and project.follows()
    assert "doc_near" in project.manage("sqlmigrate", "library", "0001", "--backwards")
    project.manage("migrate", "library", "zero")
    assert project.names() == []
    project.manage("migrate")
    assert project.search() == []


def test_a_table_that_django_makes_anew_keeps_its_index(project: Project) -> None:
    project.migrated()
    project.migration("alter", "migrations.AlterField('doc', 'title', models.TextField(unique=True))")
    assert project.search() == EXPECTED and project.follows()
    project.migration("add", "migrations.AddField('doc', 'stars', models.IntegerField(default=5))")
    assert project.search() == EXPECTED and project.follows()
    number = project.migration(
        "more",
        "migrations.AddConstraint('doc', models.UniqueConstraint(fields=['title', 'lang'], name='once'))",
        "migrations.RemoveField('doc', 'stars')",
        "migrations.AddField('doc', 'note', models.TextField(null=True))",
    )
    assert project.search() == EXPECTED and project.follows() and number.startswith("0004")
    project.manage("migrate", "library", "0001")
    assert project.search(where="year < 2050") and project.follows()


def test_tables_and_columns_are_renamed(project: Project) -> None:
    project.migrated()
    project.migration("table", "migrations.AlterModelTable('doc', 'papers')")
    assert project.search() == EXPECTED and project.follows("papers")
    project.migration("model", "migrations.AlterModelTable('doc', None)", "migrations.RenameModel('Doc', 'Paper')")
    assert project.search() == EXPECTED and project.follows("library_paper")
    project.migration("column", "migrations.AlterField('paper', 'year', models.IntegerField(null=True, db_column='anno'))")
    assert project.search(where="anno < 2200") == EXPECTED and project.follows("library_paper")
    project.migration(
        "field",
        "migrations.RemoveIndex('paper', 'doc_near')",
        "migrations.RenameField('paper', 'embedding', 'vector')",
        "migrations.AddIndex('paper', sqlite_ivf.django.IvfIndex(fields=['vector'], name='doc_near', metric='cosine'))",
    )
    assert project.search(column="vector") == EXPECTED and project.follows("library_paper", column="vector")
    project.manage("migrate", "library", "0001")
    assert project.search() == EXPECTED and project.follows()


def test_renames_in_one_migration_that_leave_the_index_alone(project: Project) -> None:
    project.migrated()
    project.migration(
        "renames",
        "migrations.RenameField('doc', 'embedding', 'vec')",
        "migrations.RenameField('doc', 'year', 'anno')",
        "migrations.RenameModel('Doc', 'Paper')",
    )
    assert project.search(column="vec", where="anno < 2200") == EXPECTED and project.follows("library_paper", column="vec")
    project.manage("migrate", "library", "0001")
    assert project.search(where="year < 2200") == EXPECTED and project.follows()


def test_a_changed_index_is_made_anew_and_a_removed_one_leaves_nothing(project: Project) -> None:
    project.migrated()
    models = project.folder / "library" / "models.py"
    models.write_text(models.read_text().replace('metric="cosine"', 'metric="l2", nlist=4'))
    printed = project.manage("makemigrations", "library", "-n", "metric")
    assert "Remove index doc_near" in printed and "Create index doc_near" in printed
    project.manage("migrate")
    assert project.search() == nearest(VECTORS, VECTORS[3], 5) and project.follows()
    project.migration("named", "migrations.RenameIndex('doc', 'doc_other', old_name='doc_near')")
    assert project.search("doc_other") == nearest(VECTORS, VECTORS[3], 5) and project.follows(index="doc_other")
    project.migration("without", "migrations.RemoveIndex('doc', 'doc_other')", "migrations.RemoveField('doc', 'embedding')")
    assert not [name for name in project.names() if name.startswith("doc_") and name != "doc_year"]
    db = project.db()
    assert db.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'library_doc'").fetchone() == (0,)
    db.close()


def test_other_dimensions_leave_the_vectors_out_that_do_not_fit(project: Project) -> None:
    project.migrated()
    project.migration("dim", "migrations.AlterField('doc', 'embedding', sqlite_ivf.django.VectorField(dim=4, null=True))")
    db = project.db()
    assert db.execute("SELECT rows FROM ivf_stats('doc_near')").fetchone() == (0,)
    db.close()


def test_inspectdb_shows_the_models_and_nothing_of_the_index(project: Project) -> None:
    printed = project.migrated().manage("inspectdb")
    assert re.findall(r"^class (\w+)\(", printed, re.MULTILINE) == ["DjangoMigrations", "LibraryAuthor", "LibraryDoc", "ThePhotos"]
    assert "embedding = models.BinaryField(blank=True, null=True)" in printed


def test_another_engine_is_an_error_that_names_the_right_one(project: Project) -> None:
    project.manage("makemigrations", "library")
    settings = project.folder / "settings.py"
    settings.write_text(settings.read_text().replace('"sqlite_ivf.django"', '"django.db.backends.sqlite3"'))
    assert "IvfIndex needs the database engine 'sqlite_ivf.django'" in project.manage("migrate", code=1)


def test_the_vectors_of_the_test_are_not_alike() -> None:
    assert len(np.unique(VECTORS, axis=0)) == 100 and EXPECTED[0] == 3
