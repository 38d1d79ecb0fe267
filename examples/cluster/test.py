"""Kills the leader of a cluster under load, again and again: nothing that was acknowledged may be lost, no answer may be wrong.

    python3 test.py --library ./libsqlite_ivf.so --kills 3

A writer inserts, replaces, updates and deletes rows, trains and optimizes, while a reader searches. After each kill all rows and
searches are compared with a model of what was acknowledged. Each node leads in turn and must give the same rows and version.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sqlite3
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, TypeVar

from cluster import Cluster, missing
from dqlite import Failure, LeaderLost, Node

DIM, K = 16, 10
Vector = Tuple[int, ...]
T = TypeVar("T")
# What a statement gets when its leader dies or steps down. Any other failure is one of the test, but for EARLY: seldom, a
# connection to dqlite 1.11 that was opened during an election says so, of ordinary tables too. The next one must have all rows.
LOST, EARLY = (OSError, LeaderLost), "no such table"


def blob(vector: Vector) -> bytes:
    return struct.pack(f"<{DIM}f", *vector)


def vector_of(data: bytes) -> Vector:
    return tuple(int(value) for value in struct.unpack(f"<{DIM}f", data))


def distance(a: Vector, b: Vector) -> float:
    """Exact, as the elements are small integers."""
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b)))


class Model:
    """What was acknowledged, and what is not known of statements that were under way."""

    def __init__(self, seed: int) -> None:
        self.rows: Dict[int, Vector] = {}
        self.maybe: Dict[int, Optional[Vector]] = {}
        self.numbers = random.Random(seed)
        self.acknowledged = self.unknown = 0

    def vector(self) -> Vector:
        centre = self.numbers.randrange(40)
        return tuple((centre * 37 + i * 11) % 100 + self.numbers.randrange(10) for i in range(DIM))

    def statement(self) -> Tuple[str, Tuple[Any, ...], Dict[int, Optional[Vector]]]:
        """A random write, and what it does to rows: their vectors afterwards, None for a deleted one."""
        draw = self.numbers.random()
        some = self.numbers.sample(sorted(self.rows), min(5, len(self.rows)))
        if len(self.rows) > 4000:
            third = self.numbers.randrange(3)
            return f"DELETE FROM items WHERE rowid % 3 = {third}", (), {id: None for id in self.rows if id % 3 == third}
        if draw < 0.02:
            return "INSERT INTO items(items) VALUES (?)", (self.numbers.choice(["train", "optimize"]),), {}
        if draw < 0.15 and some:
            return f"DELETE FROM items WHERE rowid IN ({','.join(map(str, some))})", (), dict.fromkeys(some)
        if draw < 0.3 and some:
            new = self.vector()
            return "UPDATE items SET vec = ? WHERE rowid = ?", (blob(new), some[0]), {some[0]: new}
        verb, ids = "INSERT", [self.numbers.randrange(1 << 40) for _ in range(self.numbers.randrange(1, 30))]
        if draw < 0.4 and some:
            verb, ids = "INSERT OR REPLACE", some
        changes: Dict[int, Optional[Vector]] = {id: self.vector() for id in ids}
        parameters = tuple(value for id, new in changes.items() if new for value in (id, blob(new)))
        return f"{verb} INTO items(rowid, vec) VALUES {','.join(['(?, ?)'] * len(changes))}", parameters, changes

    def apply(self, changes: Dict[int, Optional[Vector]]) -> None:
        for id, new in changes.items():
            if new is None:
                self.rows.pop(id, None)
            else:
                self.rows[id] = new

    def settle(self, found: Dict[int, Vector]) -> None:
        """Compares all rows. The one statement that was under way has taken effect as a whole or not at all."""
        if found != self.rows:
            before = dict(self.rows)
            self.apply(self.maybe)
            if found != self.rows:
                lost = [id for id in before if id not in found and id not in self.maybe]
                strange = [id for id in found if id not in before and id not in self.maybe]
                raise AssertionError(f"{len(found)} rows, acknowledged {len(before)}; lost {lost[:5]}, not known {strange[:5]}")
        self.maybe = {}


class Writer(threading.Thread):
    """Writes until it loses its leader."""

    def __init__(self, node: Node, model: Model) -> None:
        super().__init__(daemon=True)
        self.node, self.model, self.wrong = node, model, ""

    def run(self) -> None:
        self.node.open("demo")
        while True:
            sql, parameters, changes = self.model.statement()
            try:
                self.node.execute(sql, parameters)
            except LOST:
                self.model.maybe = changes
                self.model.unknown += 1
                return
            except Failure as failure:
                self.wrong = "" if EARLY in str(failure) else f"{sql[:80]}: {failure}"
                return
            self.model.apply(changes)
            self.model.acknowledged += 1


class Searcher(threading.Thread):
    """Searches all the time, finds the leader again, and remembers the longest time without an answer."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self.cluster, self.stopping, self.answers, self.longest = cluster, False, 0, 0.0
        self.wrong: List[str] = []

    def run(self) -> None:
        node: Optional[Node] = None
        numbers, last = random.Random(7), time.monotonic()
        while not self.stopping:
            query = tuple(numbers.randrange(100) for _ in range(DIM))
            try:
                if node is None:
                    node = self.cluster.leader(60)[1]
                    node.open("demo")
                rows = node.query("SELECT rowid, distance, vec FROM items WHERE vec MATCH ? AND k = ?", (blob(query), K))
            except (*LOST, Failure) as error:
                if not isinstance(error, LOST) and EARLY not in str(error):
                    self.wrong.append(str(error))
                    return
                if node:
                    node.close()
                node = None
                continue
            now = time.monotonic()
            self.longest, last = max(self.longest, now - last), now
            self.answers += 1
            if any(abs(d - distance(query, vector_of(v))) > 1e-9 for _, d, v in rows) or sorted(d for _, d, _ in rows) != [
                r[1] for r in rows
            ]:
                self.wrong.append(f"{query}: {rows}")
            time.sleep(0.005)


def led(cluster: Cluster, seconds: float, but: int, action: Callable[[Any], T]) -> T:
    """Runs queries on the leader; again on the next one, if it steps down meanwhile."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            node = cluster.leader(seconds, but)[1]
            with node:
                node.open("demo")
                return action(node.query)
        except (*LOST, Failure) as error:
            if time.monotonic() > deadline or not (isinstance(error, LOST) or EARLY in str(error)):
                raise


def rows_of(run: Any) -> Dict[int, Vector]:
    return {id: vector_of(vec) for id, vec in run("SELECT rowid, vec FROM items")}


def check(run: Any, model: Model, seed: int) -> Tuple[str, List[Any]]:
    """Searches against brute force, and the integrity check; the table's version and the answers of the default search."""
    assert rows_of(run) == model.rows
    numbers, answers = random.Random(seed), []
    for _ in range(5):
        query = tuple(numbers.randrange(100) for _ in range(DIM))
        want = sorted(distance(query, v) for v in model.rows.values())[:K]
        sql = "SELECT rowid, distance FROM items WHERE vec MATCH ? AND k = ?"
        exact = run(sql + " AND nprobe = -1", (blob(query), K))
        assert [d for _, d in exact] == want, (query, exact, want)
        assert all(distance(query, model.rows[id]) == d for id, d in exact)
        default = run(sql, (blob(query), K))
        assert len(default) == min(K, len(model.rows)) and all(distance(query, model.rows[id]) == d for id, d in default)
        answers.append((exact, default))
    assert run("SELECT ivf_command('items', 'integrity-check')") == [("ok",)]
    ((ver, rows),) = run("SELECT ver, rows FROM ivf_stats('items')")
    assert rows == len(model.rows)
    return ver, answers


WORKS = """
CREATE TABLE docs(id INTEGER PRIMARY KEY, vec BLOB, txt TEXT)
CREATE VIRTUAL TABLE words USING fts5(txt, content='docs', content_rowid='id')
CREATE VIRTUAL TABLE notes USING ivf(id TEXT PRIMARY KEY, u INTEGER PARTITION KEY, vec float[4], half float16[4], year INTEGER, +txt TEXT)
CREATE VIRTUAL TABLE over USING ivf(vec float[4], content='docs', content_rowid='id')
CREATE TRIGGER noted AFTER INSERT ON docs BEGIN INSERT INTO notes VALUES (new.id, 1, new.vec, '[1, 1, 1, 1]', 2024, new.txt); END
INSERT INTO docs VALUES (1, vec_f32('[1, 0, 0, 0]'), 'hello world'), (2, vec_f32('[0, 1, 0, 0]'), 'goodbye')
INSERT INTO words(words) VALUES ('rebuild')
INSERT INTO over(over) VALUES ('rebuild')
BEGIN
SAVEPOINT a
DELETE FROM notes
ROLLBACK TO a
COMMIT
UPDATE notes SET year = 1999 WHERE id = '2'
INSERT INTO notes(notes) VALUES ('train')
INSERT INTO notes(notes) VALUES ('nprobe=2')
INSERT INTO notes(notes) VALUES ('preload')
INSERT INTO notes(notes) VALUES ('unload')
ALTER TABLE notes RENAME TO remarks
DROP TRIGGER noted
INSERT INTO over(over) VALUES ('triggers=create')
INSERT INTO docs VALUES (3, vec_f32('[9, 9, 9, 9]'), 'far away')
CREATE VIRTUAL TABLE pages USING ivf(vec float[4], model='a')
CREATE VIRTUAL TABLE pages_next USING ivf(vec float[4], model='b')
INSERT INTO pages(rowid, vec) SELECT id, vec FROM docs
INSERT INTO pages_next(rowid, vec) SELECT id, vec FROM docs
INSERT INTO pages(pages) VALUES ('switch=pages_next')
DROP TABLE pages_old
CREATE VIRTUAL TABLE saved USING ivf(vec float[4], model='b')
INSERT INTO saved(saved) VALUES ('salvage=pages')
VACUUM
"""
ANSWERS: List[Tuple[str, Any]] = [
    ("SELECT id, txt FROM remarks WHERE vec MATCH '[1, 0, 0, 0]' AND k = 5 AND u = 1 AND year > 2000", [("1", "hello world")]),
    ("SELECT query, id FROM remarks WHERE batch MATCH '[[1, 0, 0, 0], [0, 1, 0, 0]]' AND k = 1", [(0, "1"), (1, "2")]),
    ("SELECT rowid, distance FROM over WHERE vec MATCH '[0, 1, 0, 0]' AND k = 1", [(2, 0.0)]),
    ("SELECT rowid FROM ivf_hybrid('over', 'words', '[1, 0, 0, 0]', 'goodbye', 2) ORDER BY rowid", [(1,), (2,)]),
    ("SELECT recall FROM ivf_recall('over', '[[1, 0, 0, 0]]', 1, 1)", [(1.0,)]),
    ("SELECT * FROM ivf_progress", []),
    ("SELECT count(*) FROM over", [(3,)]),
    ("SELECT ivf_model('pages'), count(*) FROM pages", [("b", 3)]),
    ("SELECT count(*) FROM saved", [(3,)]),
    # What does not work.
    ("SELECT id FROM remarks WHERE vec MATCH '[1, 0, 0, 0]' LIMIT 1", "LIMIT alone is enough from SQLite 3.41"),
    ("SELECT ivf_command('remarks', 'train')", "only commands that write nothing"),
    ("SELECT load_extension('libsqlite_ivf')", ""),
]


def surface(node: Node) -> None:
    """What docs/replication.md says of the statements that dqlite takes."""
    for sql in WORKS.strip().splitlines():
        node.execute(sql)
    for sql, want in ANSWERS:
        try:
            found: Any = node.query(sql)
        except Failure as failure:
            assert isinstance(want, str) and want in str(failure), (sql, failure)
        else:
            assert found == want, (sql, found)


def large(node: Node) -> None:
    """Transactions of several times SQLite's page cache."""
    node.execute("CREATE VIRTUAL TABLE large USING ivf(vec int8[512], train_at=off)")
    ids = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 6000)"
    node.execute(f"INSERT INTO large(rowid, vec) {ids} SELECT i, vec_int8(randomblob(512)) FROM c")
    node.execute("INSERT INTO large(large) VALUES ('train')")
    node.execute("DELETE FROM large WHERE rowid % 60 = 1")
    for command in ["optimize", "train", "integrity-check"]:
        node.execute("INSERT INTO large(large) VALUES (?)", (command,))
    assert node.query("SELECT rows, generation FROM ivf_stats('large')") == [(5900, 3)]


def files_are_equal(cluster: Cluster, model: Model, version: str) -> None:
    """Opens what each node has on its own disk, followers too."""
    for address in cluster.addresses:
        deadline = time.monotonic() + 10
        while True:
            with Node(address) as node, tempfile.TemporaryDirectory() as folder:
                for name, data in node.dump("demo").items():
                    (Path(folder) / name).write_bytes(data)
                db = sqlite3.connect(Path(folder) / "demo")
                db.enable_load_extension(True)
                db.load_extension(str(cluster.library))
                (found,) = db.execute("SELECT ver FROM ivf_stats('items')").fetchone()
                # A follower learns with the next message that the last transaction is committed.
                if found == version or time.monotonic() > deadline:
                    assert check(lambda sql, parameters=(): db.execute(sql, parameters).fetchall(), model, 3)[0] == version, address
                    db.close()
                    break
                db.close()
            time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=Path, default=os.environ.get("SQLITE_IVF_LIBRARY"), help="libsqlite_ivf.so")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--election", type=float, default=40, help="seconds that searches may be without an answer (40)")
    options = parser.parse_args()
    if not options.library:
        parser.error("--library or SQLITE_IVF_LIBRARY must name libsqlite_ivf.so")
    if missing():
        sys.exit(f"apt-get install {missing()}")
    begin, model, numbers = time.monotonic(), Model(options.seed), random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder, Cluster(Path(folder), options.library) as cluster:
        print(f"three nodes after {time.monotonic() - begin:.1f} s", flush=True)
        node = cluster.leader()[1]
        node.open("demo")
        node.socket.settimeout(30)
        surface(node)
        large(node)
        node.execute(f"CREATE VIRTUAL TABLE items USING ivf(vec float[{DIM}], train_at=200)")
        node.close()
        searcher = Searcher(cluster)
        searcher.start()
        gaps = []
        for kill in range(1, options.kills + 1):
            cluster.wait_for_voters(60)
            leader, node = cluster.leader()
            writer = Writer(node, model)
            writer.start()
            time.sleep(numbers.uniform(0.5, 2))
            searcher.longest = 0.0
            cluster.kill(leader)
            writer.join(30)
            assert not writer.is_alive(), "the leader was killed, and the writer does not notice"
            assert not writer.wrong, writer.wrong
            node.close()
            # A majority of two goes on.
            model.settle(led(cluster, options.election, leader, rows_of))
            seen = searcher.answers
            led(cluster, options.election, leader, lambda run: check(run, model, kill))
            deadline = time.monotonic() + options.election
            while searcher.answers == seen and not searcher.wrong and time.monotonic() < deadline:
                time.sleep(0.01)
            assert searcher.answers > seen or searcher.wrong, "a leader is there, and searches get no answer"
            gaps.append(searcher.longest)
            assert searcher.longest < options.election, f"no answer for {searcher.longest:.1f} s"
            assert not searcher.wrong, searcher.wrong[0]
            cluster.start(leader)
            print(
                f"kill {kill}: {len(model.rows)} rows, {model.acknowledged} statements, no answer for {gaps[-1]:.1f} s", flush=True
            )
        cluster.wait_for_voters(60)
        searcher.stopping = True
        searcher.join(30)
        results = []
        for number in range(len(cluster.addresses)):
            with cluster.lead(number) as node:
                node.open("demo")
                results.append(check(node.query, model, 2))
        assert results[0] == results[1] == results[2], "the nodes differ"
        files_are_equal(cluster, model, results[0][0])
        assert not cluster.died(), f"nodes ended: {cluster.died()}"
    gaps.sort()
    print(
        f"{options.kills} kills, {model.acknowledged} statements acknowledged, {model.unknown} unknown, {searcher.answers} searches; "
        f"without an answer: median {gaps[len(gaps) // 2]:.1f} s, longest {gaps[-1]:.1f} s; {time.monotonic() - begin:.0f} s"
    )


if __name__ == "__main__":
    main()
