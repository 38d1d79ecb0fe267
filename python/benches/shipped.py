"""How many bytes a write sends to a replica: those of SQLite's WAL, and of the LTX files of Litestream, if it is installed.

    python benches/shipped.py --rows 20000 --dim 128

Litestream compresses pages, and sends a page once for all transactions since the last time; here it is called after each step.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import subprocess
import tempfile
from pathlib import Path
from typing import Callable, List, Tuple

import numpy as np

import sqlite_ivf


def main() -> None:
    """Measures each step, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=128)
    options = parser.parse_args()
    n, numbers = options.rows, np.random.default_rng(1)
    centres = numbers.standard_normal((200, options.dim))
    vectors = (centres[numbers.integers(200, size=n + 2100)] + numbers.standard_normal((n + 2100, options.dim))).astype(np.float32)

    def insert(db: sqlite3.Connection, first: int, count: int, step: int) -> None:
        for at in range(first, first + count, step):
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO t(rowid, vec) VALUES (?, ?)", [(i, vectors[i].tobytes()) for i in range(at, at + step)])
            db.execute("COMMIT")

    def command(text: str) -> Callable[[sqlite3.Connection], object]:
        return lambda db: db.execute("INSERT INTO t(t) VALUES (?)", (text,))

    steps: List[Tuple[str, Callable[[sqlite3.Connection], object]]] = [
        (f"insert {n - 1000:,} rows, one transaction", lambda db: insert(db, 0, n - 1000, n - 1000)),
        ("insert 1,000 rows, not trained", lambda db: insert(db, n - 1000, 1000, 1000)),
        (f"train {n:,} rows", command("train")),
        ("insert 1,000 rows, one transaction", lambda db: insert(db, n, 1000, 1000)),
        ("insert 1,000 rows, 100 transactions", lambda db: insert(db, n + 1000, 1000, 10)),
        ("insert 100 rows, 100 transactions", lambda db: insert(db, n + 2000, 100, 1)),
        ("delete 1 row in 20", lambda db: db.execute("DELETE FROM t WHERE rowid % 20 = 3")),
        ("optimize", command("optimize")),
        ("optimize again", command("optimize")),
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / "wal.db"] + ([folder / "ltx.db"] if shutil.which("litestream") else [])
        databases = []
        for path in paths:
            db = sqlite3.connect(path, isolation_level=None)
            sqlite_ivf.load(db)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA wal_autocheckpoint = 0")
            db.execute(f"CREATE VIRTUAL TABLE t USING ivf(vec float[{options.dim}], train_at=off)")
            databases.append(db)
        replica = folder / "replica"

        def sent() -> List[int]:
            sizes = [(folder / "wal.db-wal").stat().st_size]
            if len(paths) > 1:
                ship = ["litestream", "replicate", "-once", "-log-level", "error", str(paths[1]), replica.as_uri()]
                subprocess.run(ship, check=True, stdout=subprocess.DEVNULL)
                sizes.append(sum(file.stat().st_size for file in replica.rglob("*.ltx")))
            return sizes

        before = sent()
        print("| MB | WAL" + (" | Litestream |" if len(paths) > 1 else " |"))
        print("|---|---" + ("|---|" if len(paths) > 1 else "|"))
        for what, step in steps:
            for db in databases:
                step(db)
            after = sent()
            print(f"| {what} | " + " | ".join(f"{(b - a) / 1e6:.2f}" for a, b in zip(before, after)) + " |", flush=True)
            before = after
        ((rows, bytes_),) = databases[0].execute("SELECT rows, bytes FROM ivf_stats('t')")
        print(f"\n{rows:,} rows, {bytes_ / 1e6:.1f} MB in the shadow tables")
        for db in databases:
            db.close()


if __name__ == "__main__":
    main()
