"""A file for each tenant, a partition for each tenant, or a metadata column: size, rates and memory, each in a process of its own.

    python benches/tenants.py --tenants 10000 --rows 20 --dim 64

No flush of the disk is counted (`synchronous = OFF`). Compare the columns of one run, not runs with each other.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import numpy as np

import sqlite_ivf

K = 10
WAYS = {
    "file": ("", ""),
    "partition": ("tenant INTEGER PARTITION KEY, ", " AND tenant = ?"),
    "metadata": ("tenant INTEGER, ", " AND tenant = ?"),
}


def memory() -> float:
    """MB of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def opened(path: Path) -> sqlite3.Connection:
    """A connection with the extension."""
    db = sqlite3.connect(path, isolation_level=None)
    sqlite_ivf.load(db)
    db.execute("PRAGMA synchronous = OFF")
    return db


def size(folder: Path) -> float:
    """MB on the disk, in its blocks."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*")) / 1e6


class Store:
    """One way to keep tenants apart."""

    def __init__(self, way: str, folder: Path, options: argparse.Namespace) -> None:
        self.way, self.folder, self.options = way, folder, options
        self.column, self.condition = WAYS[way]
        self.db: Optional[sqlite3.Connection] = None if way == "file" else self.create(folder / "all.db")

    def create(self, path: Path) -> sqlite3.Connection:
        """A new table in a file, for one tenant or all."""
        db = opened(path)
        db.execute(f"CREATE VIRTUAL TABLE t USING ivf({self.column}vec float[{self.options.dim}])")
        return db

    def path(self, tenant: int) -> Path:
        """The file of a tenant, a hundred of them to a folder."""
        return self.folder / f"{tenant % 100:02}" / f"{tenant}.db"

    def fill(self) -> Iterator[int]:
        """All rows, in one transaction for a hundred tenants, or for each file."""
        numbers, rows = np.random.default_rng(1), self.options.rows
        for tenant in range(self.options.tenants):
            vectors = numbers.standard_normal((rows, self.options.dim)).astype(np.float32)
            if self.db is None:
                self.path(tenant).parent.mkdir(exist_ok=True)
                db = self.create(self.path(tenant))
                db.execute("BEGIN")
                db.executemany("INSERT INTO t(rowid, vec) VALUES (?, ?)", [(i, v.tobytes()) for i, v in enumerate(vectors)])
                db.execute("COMMIT")
                db.close()
            else:
                if tenant % 100 == 0:
                    self.db.execute("BEGIN")
                values = [(tenant * rows + i, tenant, v.tobytes()) for i, v in enumerate(vectors)]
                self.db.executemany("INSERT INTO t(rowid, tenant, vec) VALUES (?, ?, ?)", values)
                if tenant % 100 == 99 or tenant == self.options.tenants - 1:
                    self.db.execute("COMMIT")
            yield rows

    def insert(self, tenant: int, vector: bytes) -> None:
        """One row in a transaction of its own."""
        if self.db is None:
            db = opened(self.path(tenant))
            db.execute("INSERT INTO t(vec) VALUES (?)", (vector,))
            db.close()
        else:
            self.db.execute("INSERT INTO t(tenant, vec) VALUES (?, ?)", (tenant, vector))

    def search(self, db: Optional[sqlite3.Connection], tenant: int, query: bytes) -> List[Any]:
        """The nearest rows of a tenant; opens its file, unless a connection to it is given."""
        sql = f"SELECT rowid, distance FROM t WHERE vec MATCH ? AND k = {K}{self.condition} ORDER BY distance"
        if self.db is not None:
            return self.db.execute(sql, (query, tenant)).fetchall()
        if db is not None:
            return db.execute(sql, (query,)).fetchall()
        db = opened(self.path(tenant))
        found = db.execute(sql, (query,)).fetchall()
        db.close()
        return found


def measure(way: str, folder: Path, options: argparse.Namespace) -> Dict[str, float]:
    """One column of the table."""
    store, figures = Store(way, folder, options), {}
    begin = time.perf_counter()
    figures["rows inserted per second, in bulk"] = sum(store.fill()) / (time.perf_counter() - begin)
    if store.db is not None:
        store.db.close()
        store.db = opened(folder / "all.db")
    figures["MB on the disk"] = size(folder)
    numbers = np.random.default_rng(2)
    tenants = [int(tenant) for tenant in numbers.integers(options.tenants, size=options.queries)]
    queries = [query.tobytes() for query in numbers.standard_normal((options.queries, options.dim)).astype(np.float32)]
    begin = time.perf_counter()
    for tenant, query in zip(tenants, queries):
        assert len(store.search(None, tenant, query)) == min(K, options.rows)
    figures["us per search, tenants in turn, files are opened"] = (time.perf_counter() - begin) / options.queries * 1e6
    kept = opened(store.path(tenants[0])) if store.db is None else None
    store.search(kept, tenants[0], queries[0])
    begin = time.perf_counter()
    for query in queries:
        store.search(kept, tenants[0], query)
    figures["us per search, one tenant, file is open"] = (time.perf_counter() - begin) / options.queries * 1e6
    for tenant in range(options.tenants):
        store.search(None, tenant, queries[0])
    figures["MB of memory, after a search of each tenant"] = memory()
    begin = time.perf_counter()
    for tenant, query in zip(tenants, queries):
        store.insert(tenant, query)
    figures["us per insert, tenants in turn, each committed"] = (time.perf_counter() - begin) / options.queries * 1e6
    return figures


def main() -> None:
    """Measures each way, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=20, help="of each tenant")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.folder, options)))
        return
    results = {}
    for way in WAYS:
        folder = Path(tempfile.mkdtemp())
        try:
            command = [sys.executable, __file__, *sys.argv[1:], "--way", way, "--folder", str(folder)]
            results[way] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ).stdout)
        finally:
            shutil.rmtree(folder)
    print(f"| {options.tenants:,} tenants x {options.rows} rows x {options.dim} | " + " | ".join(f"`{way}`" for way in WAYS) + " |")
    print("|---" * (len(WAYS) + 1) + "|")
    for name in results["file"]:
        print(f"| {name} | " + " | ".join(f"{results[way][name]:,.0f}" for way in WAYS) + " |")


if __name__ == "__main__":
    main()
