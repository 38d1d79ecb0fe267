from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

import sqlite_ivf
from conftest import needs
from sqlite_ivf import LoadError, loading


def refuses_to_load(connection: Any) -> bool:
    try:
        connection.execute("SELECT load_extension('nothing')")
    except Exception as error:
        return "not authorized" in str(error)
    return False


def test_load_works_and_switches_extension_loading_off_again(opened: Callable[[], Any]) -> None:
    db = opened()
    assert db.execute("SELECT vec_length('[1, 2, 3]')").fetchone() == (3,)
    assert refuses_to_load(db)


def test_load_leaves_extension_loading_on_where_it_was_on(opened: Callable[[], Any]) -> None:
    db = opened()
    db.enable_load_extension(True)
    sqlite_ivf.load(db)
    assert not refuses_to_load(db)


def test_loading_twice_is_no_harm(db: Any) -> None:
    sqlite_ivf.load(db)
    db.execute("CREATE VIRTUAL TABLE t USING ivf(v float[2])")


def test_two_sqlites_in_one_process_each_have_the_extension() -> None:
    connections = [sqlite_ivf.connect()]
    for name in ("pysqlite3", "apsw"):
        opener = loading._opener(name)
        if opener is not None:
            connections.append(opener(":memory:"))
            sqlite_ivf.load(connections[-1])
    for db in connections * 2:
        db.execute("DROP TABLE IF EXISTS t")
        db.execute("CREATE VIRTUAL TABLE t USING ivf(v float[2])")
        db.execute("INSERT INTO t(rowid, v) VALUES (7, '[1, 2]')")
        assert db.execute("SELECT rowid FROM t WHERE v MATCH '[1, 2]' AND k = 1").fetchall() == [(7,)]


def test_a_python_without_extension_loading_is_told_what_to_do() -> None:
    class Bare(sqlite3.Connection):
        """As sqlite3 is where it was built without."""

        def __getattribute__(self, name: str) -> Any:
            if name in ("enable_load_extension", "load_extension"):
                raise AttributeError(name)
            return super().__getattribute__(name)

    with pytest.raises(LoadError, match=r"built without extension loading(.|\n)*sqlite-ivf\[apsw\](.|\n)*pysqlite3-binary"):
        sqlite_ivf.load(Bare(":memory:"))


def test_connect_names_the_ways_out_where_nothing_can_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_opener", lambda name: None)
    with pytest.raises(LoadError, match=r"no SQLite from 3.38 that loads extensions(.|\n)*sqlite-ivf\[apsw\]"):
        sqlite_ivf.connect()


def test_something_else_than_a_connection_is_an_error_that_says_what_is_taken() -> None:
    with pytest.raises(TypeError, match="sqlite3, pysqlite3 or apsw is expected, got builtins.str"):
        sqlite_ivf.load("items.db")


def test_a_library_that_is_not_there_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLITE_IVF_LIBRARY", "/nowhere/libsqlite_ivf.so")
    with pytest.raises(LoadError, match=r"there is no file .*nowhere.*SQLITE_IVF_LIBRARY"):
        sqlite_ivf.loadable_path()


def test_a_file_that_is_no_library_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "libsqlite_ivf.so").write_text("no library")
    monkeypatch.setenv("SQLITE_IVF_LIBRARY", str(tmp_path / "libsqlite_ivf.so"))
    with pytest.raises(LoadError, match="the library does not load"):
        sqlite_ivf.connect()


def test_the_path_is_without_suffix_and_loads_by_hand(db: Any) -> None:
    path = sqlite_ivf.loadable_path()
    assert Path(path).suffix == "" and os.path.basename(path) == "libsqlite_ivf"
    db.enable_load_extension(True)
    db.load_extension(path)


def test_aiosqlite_is_loaded_by_aload_and_only_by_it() -> None:
    aiosqlite = needs("aiosqlite")
    if loading._opener("sqlite3") is None:
        pytest.skip("sqlite3 cannot load extensions here")
    import asyncio

    async def session() -> Any:
        async with aiosqlite.connect(":memory:") as db:
            with pytest.raises(TypeError, match="await sqlite_ivf.aload"):
                sqlite_ivf.load(db)
            await sqlite_ivf.aload(db)
            await db.execute("CREATE VIRTUAL TABLE t USING ivf(v float[2])")
            await db.execute("INSERT INTO t(v) VALUES (?)", (sqlite_ivf.serialize_float32([1, 2]),))
            return await (await db.execute("SELECT count(*) FROM t")).fetchone()

    assert asyncio.run(session()) == (1,)
    with pytest.raises(TypeError, match="aload.. takes a connection of aiosqlite, got Connection"):
        asyncio.run(sqlite_ivf.aload(sqlite3.connect(":memory:")))


def test_a_program_for_sqlite_vec_runs_after_the_alias_is_installed() -> None:
    program = """
import sqlite_ivf
sqlite_ivf.install_as_sqlite_vec()
sqlite_ivf.install_as_sqlite_vec()

import sqlite_vec, struct
from sqlite_vec import serialize_float32
from sqlite_ivf.loading import _opener
db = next(filter(None, map(_opener, ["sqlite3", "pysqlite3", "apsw"])))(":memory:")
db.enable_load_extension(True)
sqlite_vec.load(db)
db.enable_load_extension(False)
db.execute("CREATE VIRTUAL TABLE v USING vec0(embedding float[4])")
for i in range(1, 6):
    db.execute("INSERT INTO v(rowid, embedding) VALUES (?, ?)", (i, serialize_float32([i / 10] * 4)))
found = db.execute("SELECT rowid FROM v WHERE embedding MATCH ? AND k = 2", (serialize_float32([0.31] * 4),)).fetchall()
print(found)
print(sqlite_vec.serialize_int8([1, -2]) == struct.pack("2b", 1, -2), sqlite_vec.__version__ >= "0.1.6")
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "[(3,), (4,)]\nTrue True\n", run.stderr


def test_the_alias_does_not_take_the_place_of_an_imported_sqlite_vec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlite_vec", type(sys)("sqlite_vec"))
    sys.modules["sqlite_vec"].__file__ = "somewhere"
    with pytest.raises(RuntimeError, match="imported already, from somewhere"):
        sqlite_ivf.install_as_sqlite_vec()
