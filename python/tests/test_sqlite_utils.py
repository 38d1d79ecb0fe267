"""The plugin of sqlite-utils, by the real command and the real library."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest

import sqlite_ivf
from conftest import nearest, random
from sqlite_ivf import Table
from sqlite_ivf.loading import LoadError, _opener

pytest.importorskip("sqlite_utils")
if _opener("sqlite3") is None:
    pytest.skip("sqlite3 cannot load extensions here", allow_module_level=True)

from click.testing import CliRunner
from sqlite_utils import Database, plugins

import sqlite_ivf.sqlite_utils as plugin
from sqlite_ivf.sqlite_utils import disable_ivf, enable_ivf

if hasattr(plugins, "ensure_plugins_loaded"):  # sqlite-utils 4
    plugins.ensure_plugins_loaded()
if plugin not in plugins.pm.get_plugins():  # the source tree is not installed
    plugins.pm.register(plugin, name="sqlite-ivf")

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

DIM = 8


@pytest.fixture
def tool(entry_points: Dict[str, str], tmp_path: Path) -> Callable[..., Any]:
    """Runs the command, and gives its JSON, its text, or its error."""

    def run(*words: str, fails: bool = False, given: str = "") -> Any:
        command = [sys.executable, "-m", "sqlite_utils", *words]
        out = subprocess.run(command, input=given, capture_output=True, text=True, env=entry_points, cwd=tmp_path)
        assert (out.returncode != 0) == fails, out.stderr
        if fails:
            return out.stderr
        return json.loads(out.stdout) if out.stdout[:1] in "[{" and out.stdout else out.stdout

    return run


def texts_of(rows: Any) -> List[Dict[str, Any]]:
    return [
        {"id": i + 1, "lang": ["en", "de"][i % 2], "title": f"row {i} of {i % 7}", "v": row.tolist()} for i, row in enumerate(rows)
    ]


def test_a_table_is_indexed_searched_and_followed_by_the_command(tool: Callable[..., Any], tmp_path: Path) -> None:
    rows = random(60, DIM)
    tool("insert", "notes.db", "notes", "-", "--pk", "id", given=json.dumps(texts_of(rows)))
    tool("enable-fts", "notes.db", "notes", "title", "--create-triggers")
    tool("enable-ivf", "notes.db", "notes", "v", "--metric", "l2", "--filter", "lang", "--create-triggers")

    def near(query: Any, where: str = "") -> List[int]:
        sql = f"SELECT rowid FROM notes_ivf WHERE v MATCH :q AND k = 5 {where} ORDER BY distance"
        return [row["rowid"] - 1 for row in tool("query", "notes.db", sql, "-p", "q", json.dumps(query.tolist()))]

    query = random(1, DIM, 5)[0]
    assert near(query) == nearest(rows, query, 5)
    assert near(query, "AND lang = 'de'") == [2 * i + 1 for i in nearest(rows[1::2], query, 5)]
    replaced = [{**texts_of(rows)[3], "v": query.tolist()}]
    tool("insert", "notes.db", "notes", "-", "--pk", "id", "--replace", given=json.dumps(replaced))
    tool("upsert", "notes.db", "notes", "-", "--pk", "id", given=json.dumps([{"id": 9, "v": (query * 2).tolist()}]))
    tool("query", "notes.db", "DELETE FROM notes WHERE id = 20")
    rows[3], rows[8], rows[19] = query, query * 2, 1e6
    assert near(query) == nearest(rows, query, 5)

    db = sqlite_ivf.connect(str(tmp_path / "notes.db"))
    expected = Table(db, "notes_ivf").hybrid("notes_fts", query, "row 30", 4).ids.tolist()
    db.close()
    sql = "SELECT rowid FROM ivf_hybrid('notes_ivf', 'notes_fts', :q, 'row 30', 4) ORDER BY rank"
    assert [row["rowid"] for row in tool("query", "notes.db", sql, "-p", "q", json.dumps(query.tolist()))] == expected
    tool("query", "notes.db", "INSERT INTO notes_ivf(notes_ivf) VALUES ('integrity-check')")

    tool("disable-ivf", "notes.db", "notes")
    assert "notes_ivf" not in tool("schema", "notes.db")
    assert len(tool("rows", "notes.db", "notes")) == 59


def test_a_table_of_vectors_takes_the_commands_of_others(tool: Callable[..., Any]) -> None:
    tool("query", "items.db", "CREATE VIRTUAL TABLE items USING ivf(vec float[2], lang TEXT, +title TEXT)")
    rows = [{"rowid": i, "vec": f"[{i}, 1]", "lang": "en", "title": f"t{i}"} for i in (1, 2, 3)]
    tool("insert", "items.db", "items", "-", given=json.dumps(rows))
    assert [row["title"] for row in tool("rows", "items.db", "items", "-c", "title")] == ["t1", "t2", "t3"]
    found = tool("query", "items.db", "SELECT rowid, distance FROM items WHERE vec MATCH :q AND k = 1", "-p", "q", "[3, 1]")
    assert found == [{"rowid": 3, "distance": 0.0}]
    assert {"name": "sqlite-ivf", "hooks": ["prepare_connection", "register_commands"], "version": "0"} in tool("plugins")


def test_a_wrong_command_says_what_is_wrong_and_changes_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "notes.db")
    db = Database(path)
    db["notes"].insert_all({**row, "v": json.dumps(row["v"]), "n": None} for row in texts_of(random(4, DIM)))
    db.execute(f"CREATE VIRTUAL TABLE own USING ivf(vec float[{DIM}])")
    before = db.schema

    def told(command: str, *words: str, code: int = 1) -> str:
        from sqlite_utils.cli import cli  # which asks the plugins for their commands

        result = CliRunner().invoke(cli, [command, path, *words])
        assert (result.exit_code != 0) == bool(code), result.output
        return str(result.output).replace("\n", " ")

    for words, text in [
        (["nothing", "v"], "there is no table 'nothing'"),
        (["notes", "w"], "'notes' has no column 'w', its own are id, lang, title, v, n"),
        (["notes", "v", "--filter", "w"], "'notes' has no column 'w'"),
        (["notes", "n"], "notes.n has no vector yet"),
        (["notes", "title"], "not a JSON array"),
        (["notes", "v", "--metric", "l3"], "'cosine', 'l2', 'ip'"),
        (["notes", "v", "--rowid", "nothing"], "nothing"),
        (["notes", "v", "--name", "own", "--replace"], "'own' is no index over another table"),
    ]:
        assert text in told("enable-ivf", *words), words
        assert db.schema == before
    assert "'own' is no index over another table" in told("disable-ivf", "notes", "--name", "own")
    assert "no such table: notes_ivf" in told("disable-ivf", "notes")
    told("enable-ivf", "notes", "v", code=0)
    assert "already exists" in told("enable-ivf", "notes", "v")
    told("enable-ivf", "notes", "v", "--replace", "--partition", "lang", "--model", "small", code=0)
    stats = list(db.query("SELECT rows, partitions, model, metric FROM ivf_stats('notes_ivf')"))
    assert stats == [{"rows": 4, "partitions": 2, "model": "small", "metric": "cosine"}]
    with pytest.raises(ValueError, match="notes.x: a column to filter by is INTEGER, FLOAT, TEXT, BOOLEAN, REAL, INT, got 'BLOB'"):
        db["notes"].add_column("x", bytes)
        enable_ivf(db, "notes", "v", filters=["x"], name="other")


@pytest.mark.parametrize("element", ["float32", "float16", "int8"])
def test_the_library_indexes_blobs_of_any_element(element: str) -> None:
    db = Database(memory=True)
    whole = np.random.default_rng(1).integers(-9, 9, (50, DIM))
    blobs = [getattr(sqlite_ivf, f"serialize_{element}")(row) for row in whole.tolist()]
    db["notes"].insert_all({"name": f"n{i}", "v": blob, "score": i / 2, "live": i % 2} for i, blob in enumerate(blobs))
    index = enable_ivf(db, "notes", "v", element=element, metric="l2", filters=["score", "live"], create_triggers=True)
    assert isinstance(index, Table) and index.dim == DIM
    assert index.search(whole[7], k=4, where="score > ?", values=(5.0,)).ids.tolist() == [
        i + 12 for i in nearest(whole[11:], whole[7], 4)
    ]
    db["notes"].delete_where("name = ?", ["n20"])
    assert len(index) == 49
    disable_ivf(db, "notes")
    assert "notes_ivf" not in db.table_names()


def test_a_view_is_indexed_by_a_column_of_whole_numbers() -> None:
    db = Database(memory=True)
    rows = random(30, DIM)
    db["notes"].insert_all({"name": f"n{i}", "kind": i % 3, "v": row.tobytes()} for i, row in enumerate(rows))
    db.create_view("some", "SELECT rowid AS n, v FROM notes WHERE kind = 1")
    found = enable_ivf(db, "some", "v", metric="l2", rowid="n").search(rows[0], k=3).ids.tolist()
    assert found == [3 * i + 2 for i in nearest(rows[1::3], rows[0], 3)]


def test_where_the_library_does_not_load_sqlite_utils_works_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(connection: object) -> None:
        raise LoadError("the library does not load: it is a test")

    monkeypatch.setattr(plugin, "load", load)
    with pytest.warns(RuntimeWarning, match="it is a test"):
        db = Database(memory=True)
    db["notes"].insert({"id": 1})
    assert db["notes"].count == 1


def test_a_connection_that_has_the_extension_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = sqlite3.connect(":memory:")
    sqlite_ivf.load(connection)
    monkeypatch.setattr(plugin, "load", lambda connection: pytest.fail("loaded again"))
    Database(connection)


def test_the_program_of_the_page_runs(page_program: Callable[..., str]) -> None:
    out = page_program("sqlite-utils.md")
    assert '"title": "Bread is baked from flour and water"' in out
    assert "exact: 3 rows" in out


def test_an_index_that_would_be_empty_is_an_error(tmp_path: Path) -> None:
    path = str(tmp_path / "notes.db")
    db = Database(path)
    rows = random(6, DIM)
    db["notes"].insert_all(({"id": i + 1, "v": rows[i].tobytes()} for i in range(6)), pk="id")
    db["gone"].insert_all({"v": rows[i].tobytes()[:8], "rowid": f"r{i}"} for i in range(3))
    db.execute("CREATE TABLE bare(name TEXT PRIMARY KEY, n INTEGER, v BLOB) WITHOUT ROWID")
    db.execute("INSERT INTO bare SELECT 'n' || id, id, v FROM notes")
    for name, key in [("plain", "id AS n"), ("texts", "'n' || id AS n"), ("twice", "id / 2 AS n"), ("named", "id AS rowid")]:
        db.create_view(name, f"SELECT {key}, v FROM notes")
    before = db.schema

    def told(*words: str, code: int = 1) -> str:
        from sqlite_utils.cli import cli

        result = CliRunner().invoke(cli, ["enable-ivf", path, *words])
        assert result.exit_code == code, result.output
        return str(result.output).replace("\n", " ")

    unique = "is a column of unique whole numbers"
    for words, text in [
        (["plain", "v"], f"'plain' is a view: --rowid {unique}, of n, v; got none"),
        (["plain", "v", "--rowid", "rowid"], f"'plain' is a view: --rowid {unique}, of n, v; got 'rowid'"),
        (["plain", "v", "--rowid", "v"], "plain.v: --rowid"),
        (["named", "v"], f"'named' is a view: --rowid {unique}, of rowid, v; got none"),
        (["texts", "v", "--rowid", "n"], f"texts.n: --rowid {unique}, got 'n1'"),
        (["twice", "v", "--rowid", "n"], f"twice.n: --rowid {unique}, got 1 in 2 rows"),
        (["gone", "v", "--rowid", "rowid"], f"gone.rowid: --rowid {unique}, got 'r0'"),
        (["notes", "v", "--rowid", "m"], f"'notes' has no such column: --rowid {unique}, of id, v; got 'm'"),
        (["bare", "v"], f"'bare' has no rowid of its own: --rowid {unique}, of name, n, v; got none"),
        (["notes", "v", "--dim", "3"], "--dim must be 8, as the first vector of notes.v has as float32, or be left out; got 3"),
        (["notes", "v", "--dim", "8", "--element", "int8"], "--dim must be 32, as the first vector of notes.v has as int8"),
    ]:
        assert text in told(*words), words
        assert db.schema == before
    told("notes", "v", code=0)
    for words in (["plain", "v", "--rowid", "n"], ["named", "v", "--rowid", "rowid"], ["bare", "v", "--rowid", "n"], ["gone", "v"]):
        told(*words, code=0)
        rows_of = next(db.query(f"SELECT rows FROM ivf_stats('{words[0]}_ivf')"))["rows"]
        assert rows_of == (3 if words[0] == "gone" else 6), words
    # A column called rowid hides the rowid, not from the index.
    content = next(db.query("SELECT g.v FROM gone_ivf AS i JOIN gone AS g ON g._rowid_ = i.rowid WHERE i.rowid = 2"))
    assert content["v"] == rows[1].tobytes()[:8]


def test_vectors_that_are_left_out_are_counted(tmp_path: Path) -> None:
    path = str(tmp_path / "notes.db")
    db = Database(path)
    db["notes"].insert_all({"id": i, "v": json.dumps([i] * (2 + (i > 5)))} for i in range(1, 8))
    db.execute("CREATE TABLE made(id INTEGER PRIMARY KEY, n INT, v TEXT AS (json_array(n, 0)) VIRTUAL)")
    db["made"].insert_all({"id": i, "n": 0} for i in (1, 2))
    with pytest.warns(UserWarning, match="notes.v: 2 of 7 vectors do not fit an index of 2 dimensions of float32 and are left out"):
        assert len(enable_ivf(db, "notes", "v", metric="l2", replace=False)) == 5
    with pytest.raises(ValueError, match="made.v: none of 2 vectors fits an index of 2 dimensions of float32 with metric cosine"):
        enable_ivf(db, "made", "v")
    assert len(enable_ivf(db, "made", "v", metric="l2")) == 2

    from sqlite_utils.cli import cli

    result = CliRunner().invoke(cli, ["enable-ivf", path, "notes", "v", "--replace"])
    assert result.exit_code == 0 and "Warning: notes.v: 2 of 7 vectors do not fit" in result.output + (result.stderr or "")
