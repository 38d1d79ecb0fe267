"""A database of the real llm, indexed in place: docs/llm.md."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import pytest

import sqlite_ivf
from conftest import ROOT
from sqlite_ivf import Table
from sqlite_ivf.loading import _opener

llm = pytest.importorskip("llm")
Database = pytest.importorskip("sqlite_utils").Database
if _opener("sqlite3") is None:
    pytest.skip("sqlite3 cannot load extensions here", allow_module_level=True)

#: A model that hashes words, of two lengths.
MODEL = """
import re, zlib
import llm

class Words(llm.EmbeddingModel):
    def __init__(self, dim):
        self.model_id, self.dim = f"words-{dim}", dim

    def embed_batch(self, items):
        for item in items:
            vector = [0.0] * self.dim
            for word in re.findall(r"\\w+", item.lower()):
                vector[zlib.crc32(word.encode()) % self.dim] += 1.0 + len(word) / 8
            yield vector

@llm.hookimpl
def register_embedding_models(register):
    register(Words(64))
    register(Words(384))
"""
WORDS = ["red", "fox", "blue", "whale", "old", "telescope", "mirror", "lens", "bread", "dough", "yeast", "chess", "king", "pawn"]


@pytest.fixture
def environment(entry_points: Dict[str, str], tmp_path: Path) -> Dict[str, str]:
    installed = Path(entry_points["PYTHONPATH"].split(os.pathsep)[0])
    (installed / "llm_words.py").write_text(MODEL)
    folder = installed / "llm_words-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-words\nVersion: 1\n")
    (folder / "entry_points.txt").write_text("[llm]\nwords = llm_words\n")
    entry_points["LLM_USER_PATH"] = str(tmp_path / "llm")
    return entry_points


@pytest.fixture
def run(environment: Dict[str, str], tmp_path: Path) -> Callable[..., str]:
    def run(module: str, *words: str, fails: bool = False) -> str:
        command = [sys.executable, "-m", module, *words]
        out = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert (out.returncode != 0) == fails, out.stderr
        return out.stderr if fails else out.stdout

    return run


def collection(tmp_path: Path, name: str, first: int, many: int) -> str:
    texts = [
        {"id": f"{name}{i}", "text": " ".join(WORDS[(i * n + n * n) % 14] for n in range(1, 6))} for i in range(first, first + many)
    ]
    (tmp_path / f"{name}.json").write_text(json.dumps(texts))
    return f"{name}.json"


def similar(path: Path, name: str, id: str, n: int) -> List[Tuple[str, float]]:
    """What llm says."""
    db = Database(path)
    found = [(each.id, each.score) for each in llm.Collection(name, db, create=False).similar_by_id(id, n)]
    db.close()
    return found


def found(db: sqlite3.Connection, name: str, id: str, n: int, index: str = "embeddings_ivf") -> List[Tuple[str, float]]:
    """What the index says."""
    (number,) = db.execute("SELECT id FROM collections WHERE name = ?", (name,)).fetchone()
    sql = f"""SELECT e.id, 1 - near.distance FROM {index} AS near JOIN embeddings AS e ON e.rowid = near.rowid
               WHERE near.embedding MATCH (SELECT embedding FROM embeddings WHERE collection_id = :c AND id = :id)
                 AND near.k = :n + 1 {"AND near.collection_id = :c" if index == "embeddings_ivf" else ""} ORDER BY near.distance"""
    return [row for row in db.execute(sql, {"c": number, "id": id, "n": n}) if row[0] != id][:n]


def agree(mine: List[Tuple[str, float]], theirs: List[Tuple[str, float]]) -> None:
    """The same scores; the same rows, but for those that are equally near as the last."""
    assert len(mine) == len(theirs)
    assert [score for _, score in mine] == pytest.approx([score for _, score in theirs], abs=1e-6)
    above = [id for id, score in theirs if score > theirs[-1][1] + 1e-6]
    assert sorted(id for id, score in mine if score > theirs[-1][1] + 1e-6) == sorted(above)


def test_the_index_answers_as_llm_does_after_each_way_in_which_llm_writes(run: Callable[..., str], tmp_path: Path) -> None:
    for name, many in [("notes", 80), ("other", 30)]:
        run("llm", "embed-multi", name, collection(tmp_path, name, 0, many), "-d", "e.db", "-m", "words-64", "--store")
    run("sqlite_utils", "enable-ivf", "e.db", "embeddings", "embedding", "--partition", "collection_id", "--create-triggers")
    db = sqlite3.connect(tmp_path / "e.db")
    sqlite_ivf.load(db)

    def check(*ids: str) -> None:
        for id in ids:
            name = re.sub(r"\d+", "", id)
            agree(found(db, name, id, 7), similar(tmp_path / "e.db", name, id, 7))
        db.execute("INSERT INTO embeddings_ivf(embeddings_ivf) VALUES ('integrity-check')")
        db.commit()

    check("notes3", "other3")
    lines = run("llm", "similar", "notes", "notes3", "-d", "e.db", "-n", "7").splitlines()
    agree(found(db, "notes", "notes3", 7), [(each["id"], each["score"]) for each in map(json.loads, lines)])
    run("llm", "embed-multi", "notes", collection(tmp_path, "notes", 75, 20), "-d", "e.db", "--store")
    run("llm", "embed", "notes", "notes3", "-c", "the king of bread and yeast", "-d", "e.db", "--store")  # replaces
    run("llm", "embed", "notes", "notes200", "-c", "old king", "-d", "e.db")
    check("notes3", "notes200", "notes90")
    run("llm", "collections", "delete", "other", "-d", "e.db")
    assert len(Table(db, "embeddings_ivf")) == db.execute("SELECT count(*) FROM embeddings").fetchone()[0]
    check("notes3")
    db.close()


def test_a_collection_beside_others_of_another_length_is_indexed_by_a_view(run: Callable[..., str], tmp_path: Path) -> None:
    run("llm", "embed-multi", "notes", collection(tmp_path, "notes", 0, 40), "-d", "e.db", "-m", "words-384")
    db = sqlite3.connect(tmp_path / "e.db")
    sqlite_ivf.load(db)
    page = ROOT / "docs" / "llm.md"
    if not page.exists():
        pytest.skip("the pages are in the source tree only")
    (sql,) = re.findall(r"^```sql\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    db.executescript(sql)
    run("llm", "embed-multi", "short", collection(tmp_path, "short", 0, 10), "-d", "e.db", "-m", "words-64")
    run("llm", "embed", "notes", "notes3", "-c", "the king of bread and yeast", "-d", "e.db")
    run("llm", "embed", "notes", "notes99", "-c", "old king", "-d", "e.db")
    for id in ("notes3", "notes99", "notes7"):
        agree(found(db, "notes", id, 6, "notes_ivf"), similar(tmp_path / "e.db", "notes", id, 6))
    db.execute("INSERT INTO notes_ivf(notes_ivf) VALUES ('integrity-check')")
    assert len(Table(db, "notes_ivf")) == 41
    db.close()


def test_another_length_in_an_indexed_table_is_an_error_that_says_so(run: Callable[..., str], tmp_path: Path) -> None:
    run("llm", "embed-multi", "notes", collection(tmp_path, "notes", 0, 5), "-d", "e.db", "-m", "words-64")
    run("sqlite_utils", "enable-ivf", "e.db", "embeddings", "embedding", "--create-triggers")
    told = run("llm", "embed", "long", "x", "-c", "old king", "-d", "e.db", "-m", "words-384", fails=True)
    assert "Dimension mismatch: the vector has 384 dimensions, expected 64" in told


def test_the_program_of_the_page_runs(page_program: Callable[..., str], environment: Dict[str, str]) -> None:
    out = page_program("llm.md", **{**environment, "MODEL": "words-64"})
    first, second = (json.loads(each) for each in re.findall(r"\[\{.*?\}\]", out, re.DOTALL))
    assert [row["id"] for row in first] == ["a", "b"]
    assert second[0]["id"] == "c"
