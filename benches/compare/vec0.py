"""The same program on sqlite-vec and on this library in its place: exact searches of vec0 tables, with filters and without.

cargo build --release --lib --features loadable,vec0
venv/bin/python benches/compare/vec0.py --data ../shared/data [--only text,sift,million]

Both fill a table of the same declaration by the same statements and answer the same queries; rows that differ are counted (equal
distances may come in another order). Needs apsw, numpy and sqlite-vec. With --out docs/figures/results.json the figures go there,
and tables.py draws them into the pages.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import apsw
import numpy as np
import sqlite_vec

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, default=Path("../shared/data"))
parser.add_argument("--library", type=Path, default=Path("target/release/libsqlite_ivf.so"))
parser.add_argument("--only", default="text,sift,million")
parser.add_argument("--queries", type=int, default=60)
parser.add_argument("--out", type=Path)
args = parser.parse_args()


def text() -> tuple[str, np.ndarray, np.ndarray]:
    rows = np.fromfile(args.data / "debian-minilm-384.f16", np.float16).reshape(-1, 384).astype(np.float32)
    return "texts, cosine", rows, rows[:: len(rows) // args.queries][: args.queries] + np.float32(0.001)


def sift() -> tuple[str, np.ndarray, np.ndarray]:
    base = np.fromfile(args.data / "sift-200k-128.u8", np.uint8).reshape(-1, 128).astype(np.float32)
    queries = np.fromfile(args.data / "sift-q2k-128.u8", np.uint8).reshape(-1, 128).astype(np.float32)
    return "SIFT, l2", base, queries[: args.queries]


def million() -> tuple[str, np.ndarray, np.ndarray]:
    _, base, queries = sift()
    noise = np.random.default_rng(7)
    copies = [base] + [base + noise.normal(0, 12, base.shape).astype(np.float32) for _ in range(4)]
    return "SIFT and 4 noisy copies", np.concatenate(copies), queries


FILTERS = {"none": "", "`year = 2007` (1 in 30)": " AND year = 2007", "`year > 2003` (26 in 30)": " AND year > 2003"}


def measure(library: str, folder: Path, base: np.ndarray, queries: np.ndarray, metric: str):
    db = apsw.Connection(str(folder / f"{library}.db"))
    db.enable_load_extension(True)
    db.load_extension(sqlite_vec.loadable_path() if library == "sqlite-vec" else str(folder / "vec0"))
    db.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF")
    dim = base.shape[1]
    db.execute(f"CREATE VIRTUAL TABLE v USING vec0(e float[{dim}] distance_metric={metric}, year INTEGER)")
    start = time.perf_counter()
    with db:
        rows = ((i + 1, row.tobytes(), 2000 + i % 30) for i, row in enumerate(base))
        db.executemany("INSERT INTO v(rowid, e, year) VALUES (?, ?, ?)", rows)
    load = time.perf_counter() - start
    answers, times = {}, {}
    for name, condition in FILTERS.items():
        sql = f"SELECT rowid, distance FROM v WHERE e MATCH ? AND k = 10{condition}"
        for query in queries:
            db.execute(sql, (query.tobytes(),)).fetchall()
        answers[name], taken = [], []
        for query in queries:
            start = time.perf_counter()
            answers[name].append(db.execute(sql, (query.tobytes(),)).fetchall())
            taken.append(time.perf_counter() - start)
        times[name] = 1e3 * statistics.median(taken)
    return load, times, answers


rows = []


def keep(data: str, condition: str, a: float, b: float, unit: str) -> None:
    ratio = round(a / b, 1 if unit == "s" else None)
    rows.append(dict(data=data, condition=condition, sqlite_vec=a, here=b, ratio=ratio, unit=unit))


print(f"{os.cpu_count()} cores; one query, k = 10, median of {args.queries}, through SQL\n")
print("| data | condition | sqlite-vec | here | ratio | rows that differ |\n|---|---|---|---|---|---|")
for name in args.only.split(","):
    title, base, queries = {"text": text, "sift": sift, "million": million}[name]()
    metric = "cosine" if name == "text" else "l2"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copy(args.library, folder / "vec0.so")
        theirs, ours = (measure(library, folder, base, queries, metric) for library in ("sqlite-vec", "ours"))
    for condition in FILTERS:
        differ = 0
        for a, b in zip(theirs[2][condition], ours[2][condition]):
            # Rows as far away as the last one may stand in its place.
            edge = min(a[-1][1], b[-1][1]) * (1 - 1e-5) if a and b else 0
            differ += len({r for r, d in a if d < edge} ^ {r for r, d in b if d < edge})
        a, b = theirs[1][condition], ours[1][condition]
        keep(f"{title}, {len(base):,} x {base.shape[1]}", condition, a, b, "ms")
        print(f"| {title}, {len(base):,} x {base.shape[1]} | {condition} | {a:.2f} ms | {b:.2f} ms | {a / b:.0f} | {differ} |", flush=True)
    print(f"| {title} | inserting all rows | {theirs[0]:.1f} s | {ours[0]:.1f} s | {theirs[0] / ours[0]:.1f} | |", flush=True)
    keep(f"{title}, {len(base):,} x {base.shape[1]}", "inserting all rows", *(each[0] for each in (theirs, ours)), "s")
if args.out:
    what = f"{os.cpu_count()} cores; one query, k = 10, median of {args.queries}; sqlite-vec {version('sqlite-vec')}"
    data = json.loads(args.out.read_text())
    args.out.write_text(json.dumps(data | dict(vec0=dict(versions=what, rows=rows)), indent=1) + "\n")
