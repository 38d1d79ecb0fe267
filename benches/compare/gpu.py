"""Batches of every size on a device, beside faiss-cpu and torch-ivf on identical data, in one run. See README.md.

Ours is measured twice: through the engine (`cargo bench --bench device`, on the data that this script writes), and through SQL, where
SQLite hands over row by row. Peers that are not installed are left out with a note."""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--device", default="cuda:0", help="as in SQL: cuda:0, or emulated to try the script")
parser.add_argument("--features", default="cuda", help="cargo features of the engine's bench; empty for a build without a GPU")
parser.add_argument("--bench", type=Path, help="the engine's bench, built elsewhere: `cargo bench --no-run` says where it is")
parser.add_argument("--rows", type=int, default=262_144)
parser.add_argument("--queries", type=int, default=19_600)
parser.add_argument("--library", type=Path, default=Path("target/release/libsqlite_ivf.so"))
args = parser.parse_args()

import apsw  # noqa: E402
import numpy as np  # noqa: E402

DIM, NLIST, NPROBE, K = 128, 512, 32, 20
BATCHES = [nq for nq in (1, 8, 32, 128, 512, 2_048, 19_600) if nq <= args.queries]

# torch-ivf's own setup: base first, then queries, of one generator.
numbers = np.random.default_rng(1234)
base = numbers.standard_normal((args.rows, DIM), dtype=np.float32)
queries = numbers.standard_normal((args.queries, DIM), dtype=np.float32)


def median_seconds(search, nq):
    search(queries[:nq])
    times = []
    for _ in range(5):
        start = time.perf_counter()
        search(queries[:nq])
        times.append(time.perf_counter() - start)
    return sorted(times)[2]


def ours():
    db = apsw.Connection(":memory:")
    db.enable_load_extension(True)
    db.load_extension(str(args.library.resolve()))
    db.execute(f"CREATE VIRTUAL TABLE t USING ivf(vec float[{DIM}], nlist={NLIST}, train_at=off)")
    with db:
        db.executemany("INSERT INTO t(rowid, vec) VALUES (?, ?)", ((i, row.tobytes()) for i, row in enumerate(base)))
    db.execute("INSERT INTO t(t) VALUES ('train')")
    db.execute("INSERT INTO t(t) VALUES ('device=" + args.device + "')")
    sql = "SELECT rowids, distances FROM t WHERE batch MATCH ? AND k = ? AND nprobe = ? AND packed = 1"

    def search(q):
        rowids, distances = zip(*db.execute(sql, (q.tobytes(), K, NPROBE)))
        return np.frombuffer(b"".join(rowids), "<i8"), np.frombuffer(b"".join(distances), "<f8")

    return search


def faiss_cpu():
    import faiss

    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(DIM), DIM, NLIST)
    index.train(base[: 40 * NLIST])
    index.add(base)
    index.nprobe = NPROBE
    return lambda q: index.search(q, K)


def torch_ivf():
    import torch
    from torch_ivf.index import IndexIVFFlat

    device = "cuda" if args.device.startswith("cuda") else "cpu"
    index = IndexIVFFlat(DIM, nlist=NLIST, nprobe=NPROBE).to(device)
    rows = torch.from_numpy(base).to(device)
    index.train(rows[: 40 * NLIST])
    index.add(rows)
    there = torch.from_numpy(queries).to(device)

    def search(q):
        index.search(there[: len(q)], K)
        if device == "cuda":
            torch.cuda.synchronize()

    return search


print(f"{args.rows:,} x {DIM} N(0,1), nlist {NLIST}, nprobe {NPROBE}, k {K}; queries/s, median of 5\n", flush=True)
with tempfile.TemporaryDirectory() as folder:
    base.tofile(f"{folder}/base.f32")
    queries.tofile(f"{folder}/queries.f32")
    environment = dict(os.environ, SQLITE_IVF_SEED_DATA=folder, SQLITE_IVF_DEVICE=args.device)
    features = ["--features", args.features] if args.features else []
    bench = [args.bench, "--"] if args.bench else ["cargo", "bench", *features, "--bench", "device", "--"]
    subprocess.run([*bench, "seed"], env=environment, check=True)
columns = {}
for name, make in {"through SQL": ours, "faiss-cpu IVFFlat": faiss_cpu, "torch-ivf": torch_ivf}.items():
    try:
        search = make()
    except ImportError as missing:
        print(f"{name} is left out: {missing}")
        continue
    columns[name] = [nq / median_seconds(search, nq) for nq in BATCHES]
print("\n| queries | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
for i, nq in enumerate(BATCHES):
    print(f"| {nq:,} | " + " | ".join(f"{column[i]:,.0f}" for column in columns.values()) + " |")
