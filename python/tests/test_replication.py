"""What docs/replication.md says of replicas by statements, and of copies of a file."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import pytest
from conftest import random

import sqlite_ivf

pytestmark = pytest.mark.skipif(
    not hasattr(sqlite3.Connection, "enable_load_extension"), reason="needs an sqlite3 module that loads extensions"
)

Statement = Tuple[str, List[Any]]

# One machine: runs the statements of a file, in a process with its own threads and instruction set.
MACHINE = """
import json, sqlite3, sys, sqlite_ivf
db = sqlite3.connect(sys.argv[1], isolation_level=None)
sqlite_ivf.load(db)
db.execute("PRAGMA synchronous = OFF")
for line in open(sys.argv[2]):
    sql, parameters = json.loads(line)
    db.execute(sql, [bytes.fromhex(p["hex"]) if isinstance(p, dict) else p for p in parameters]).fetchall()
print(*db.execute("SELECT isa, threads FROM ivf_stats('t')").fetchone())
"""
MACHINES = [{"RAYON_NUM_THREADS": "1", "SQLITE_IVF_ISA": "scalar"}, {"RAYON_NUM_THREADS": "2"}]


def run(machine: Dict[str, str], path: Path, statements: List[Statement]) -> str:
    script = path.with_suffix(".statements")
    with open(script, "w") as file:
        for sql, parameters in statements:
            file.write(json.dumps([sql, [{"hex": p.hex()} if isinstance(p, bytes) else p for p in parameters]]) + "\n")
    done = subprocess.run([sys.executable, "-c", MACHINE, str(path), str(script)], env={**os.environ, **machine}, stdout=subprocess.PIPE)
    assert done.returncode == 0
    return done.stdout.decode().strip()


def opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    sqlite_ivf.load(db)
    return db


def shadow_tables(path: Path) -> Dict[str, List[Any]]:
    """Every stored row of the file, read without the extension."""
    db = sqlite3.connect(path)
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 ORDER BY name")]
    tables = {name: db.execute(f'SELECT * FROM "{name}" ORDER BY 1').fetchall() for name in names}
    db.close()
    return tables


def without_seals(name: str, row: Tuple[Any, ...]) -> Tuple[Any, ...]:
    """A stored row without the uuid and the checksums that are seeded with it, by docs/format.md."""
    kind = name.split("_", 1)[1].rstrip("0123456789")
    if kind == "state":
        id, _uuid, *rest, _checksum = row
        return (id, *rest)
    blob = row[-1]
    if not isinstance(blob, bytes) or kind not in ("config", "centroids", "lists", "codes", "vectors", "metadata"):
        return row
    if kind == "codes":
        return (*row[:-1], blob[:16] + blob[32:])
    if kind == "vectors":
        element, m, dim = (int.from_bytes(blob[a:b], "little") for a, b in [(6, 8), (8, 12), (12, 16)])
        size = [4 * dim, 2 * dim, 2 * dim, dim, dim // 8][element] + 4
        assert len(blob) == 16 + m * size
        return (*row[:-1], blob[:16], *[blob[at : at + size - 4] for at in range(16, len(blob), size)])
    return (*row[:-1], blob[:-8])


def assert_equal(a: Dict[str, List[Any]], b: Dict[str, List[Any]]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert len(a[name]) == len(b[name]), name
        for row, other in zip(a[name], b[name]):
            assert row == other, f"{name}, {row[0]}"


TABLES = {
    "floats": "vec float[24], train_at=600",
    "sketches": "vec float[64], train_at=off, nlist=8",
    "cosine, metadata and partitions": "id TEXT PRIMARY KEY, u INTEGER PARTITION KEY, vec float[24] distance_metric=cosine, "
    "year INTEGER, lang TEXT, +body TEXT, train_at=500",
    "two columns": "vec float16[24] distance_metric=ip, other int8[24], year INTEGER, train_at=700",
    "bits": "vec bit[24], train_at=600",
    "no codes": "vec bfloat16[24] distance_metric=l1, quantizer=none, train_at=600",
}


def life(name: str, n: int = 1500) -> Iterator[Statement]:
    """Writes of all kinds, in transactions of several sizes, with queries between them."""
    dim = 64 if name == "sketches" else 24
    numbers = np.random.default_rng(5)
    # Of a spread that falls from dimension to dimension: such vectors have sketches.
    rows = (random(n, dim) * (np.exp(-np.arange(dim) / 6) + 0.01)).astype(np.float32)

    def vector(i: int) -> Tuple[str, List[Any]]:
        value = {"two columns": "vec_f16(vec_f32(?))", "bits": "vec_quantize_binary(vec_f32(?))", "no codes": "vec_bf16(vec_f32(?))"}
        return value.get(name, "?"), [rows[i % n].tobytes()]

    def insert(verb: str, i: int, id: int) -> Statement:
        sql, parameters = vector(i)
        if name.startswith("cosine"):
            values: List[Any] = [f"key {id}", i % 3, *parameters, 2000 + i % 7, None if i % 5 else "de", "x" * (i % 9)]
            return f"{verb} INTO t(id, u, vec, year, lang, body) VALUES (?, ?, ?, ?, ?, ?)", values
        if name == "two columns":
            sql += ", vec_quantize_int8(vec_normalize(vec_f32(?)), 'unit'), ?"
            return f"{verb} INTO t(rowid, vec, other, year) VALUES (?, {sql})", [id, *parameters, *parameters, i]
        return f"{verb} INTO t(rowid, vec) VALUES (?, {sql})", [id, *parameters]

    def transaction(statements: List[Statement]) -> Iterator[Statement]:
        yield "BEGIN IMMEDIATE", []
        yield from statements
        yield "COMMIT", []

    key = "id" if name.startswith("cosine") else "rowid"
    ids: List[Any] = [f"key {i}" if key == "id" else i for i in range(n)]
    at = 0
    while at < n:
        step = int(numbers.choice([1, 30, 200]))
        yield from transaction([insert("INSERT", i, i) for i in range(at, min(at + step, n))])
        at += step
        sql, parameters = vector(at)
        yield f"SELECT count(*) FROM t WHERE vec MATCH {sql} AND k = 5", parameters
    yield "INSERT INTO t(t) VALUES ('train')", []
    yield from transaction([insert("INSERT OR REPLACE", i + 7, i) for i in range(0, n, 11)])
    yield from transaction([(f"DELETE FROM t WHERE {key} = ?", [ids[i]]) for i in range(3, n, 4)])
    yield "INSERT INTO t(t) VALUES ('optimize')", []
    sql, parameters = vector(5)
    yield f"UPDATE t SET vec = {sql} WHERE {key} = ?", [*parameters, ids[0]]
    yield from transaction([("SAVEPOINT s", []), ("DELETE FROM t", []), ("ROLLBACK TO s", []), ("RELEASE s", []), insert("INSERT", 9, n + 9)])
    if not name.startswith("cosine"):  # without partitions
        yield "INSERT INTO t(t) VALUES ('calibrate')", []
    yield "INSERT INTO t(t) VALUES (?)", ['train:{"nlist":9,"seed":4}']
    yield from transaction([insert("INSERT", i, 2 * n + i) for i in range(n)])
    yield "INSERT INTO t(t) VALUES ('optimize')", []
    yield "INSERT INTO t(t) VALUES ('nprobe=3')", []


@pytest.mark.parametrize("name", TABLES)
def test_the_same_statements_write_the_same_bytes_whatever_the_threads_and_the_instruction_set(name: str, tmp_path: Path) -> None:
    create = (f"CREATE VIRTUAL TABLE t USING ivf({TABLES[name]})", [])
    statements = list(life(name))
    first = tmp_path / "first.db"
    run({}, first, [create])
    content, kinds = [], []
    for number, machine in enumerate(MACHINES):
        copy, own = tmp_path / f"copy{number}.db", tmp_path / f"own{number}.db"
        copy.write_bytes(first.read_bytes())
        kinds.append(run(machine, copy, statements))
        run(machine, own, [create, *statements])
        content.append((shadow_tables(copy), shadow_tables(own)))
        db = opened(own)
        assert db.execute("SELECT ivf_command('t', 'integrity-check')").fetchone() == ("ok",)
        (trained,) = db.execute("SELECT trained FROM ivf_stats('t')").fetchone()
        assert trained
        db.close()
    assert kinds[0] == "scalar 1" and kinds[0] != kinds[1]
    if name == "sketches":
        assert any(key == "projection" for key, _ in content[0][0]["t_config"])
    # From a copy of one table: every byte.
    assert_equal(content[0][0], content[1][0])
    # Each with a CREATE of its own: all but the uuid, and the checksums that are seeded with it.
    (ours, theirs) = (own for _, own in content)
    assert ours["t_state"][0][1] != theirs["t_state"][0][1]
    for tables in (ours, theirs, content[0][0]):
        for table in tables:
            tables[table] = [without_seals(table, row) for row in tables[table]]
    assert_equal(ours, theirs)
    assert_equal(ours, content[0][0])
