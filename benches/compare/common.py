"""What compare.py and sweep.py share: data sets, exact answers, our table through SQL, and what a machine is."""

import os
import platform
import time
from importlib.metadata import distributions
from pathlib import Path

import apsw
import numpy as np

FIXTURE = Path(__file__).resolve().parents[2] / "examples" / "data" / "debian-packages.f16"


def seed_data(folder, queries=2_048):
    numbers = np.random.default_rng(1234)
    base = numbers.standard_normal((262_144, 128), dtype=np.float32)
    queries = numbers.standard_normal((queries, 128), dtype=np.float32)
    return dict(name="seed setup, 262,144 x 128 N(0,1)", metric="l2", k=20, nlist=512, nprobe=[32], ef=[],
                base=base, queries=queries)


def sift_data(folder):
    base = np.fromfile(folder / "sift-200k-128.u8", np.uint8).reshape(-1, 128).astype(np.float32)
    queries = np.fromfile(folder / "sift-q2k-128.u8", np.uint8).reshape(-1, 128).astype(np.float32)
    return dict(name="SIFT 200,000 x 128", metric="l2", k=10, nlist=512, nprobe=[4, 8, 16, 24, 32, 64],
                ef=[16, 32, 64, 128, 256], base=base, queries=queries)


def text_data(folder):
    rows = np.fromfile(folder / "debian-minilm-384.f16", np.float16).reshape(-1, 384).astype(np.float32)
    # The file is in alphabetical order: queries are taken evenly out of it.
    is_query = np.zeros(len(rows), bool)
    is_query[::31][:2_000] = True
    is_query[np.flatnonzero(~is_query)[: max(0, 2_000 - is_query.sum())]] = True
    return dict(name="MiniLM text 61,666 x 384", metric="cosine", k=10, nlist=256, nprobe=[8, 16, 32, 64, 80, 128],
                ef=[16, 32, 64, 128, 256], base=rows[~is_query], queries=rows[is_query])


def fixture_data(folder):
    """The project's own rows, where the real data are missing."""
    rows = np.fromfile(FIXTURE, np.float16).reshape(-1, 384).astype(np.float32)
    is_query = np.arange(len(rows)) % 22 == 0
    return dict(name="fixture, 4,200 x 384", metric="cosine", k=10, nlist=64, nprobe=[4, 8, 16, 32],
                ef=[16, 32, 64, 128], base=rows[~is_query], queries=rows[is_query])


def exact(data):
    """The rows of the exact search, by faiss where it is installed."""
    base, queries, k, cosine = data["base"], data["queries"], data["k"], data["metric"] == "cosine"
    try:
        import faiss
    except ImportError:
        # Of unit vectors, the nearest have the largest product.
        halves = 0 if cosine else 0.5 * np.einsum("ij,ij->i", base, base)
        parts = np.array_split(queries, 1 + len(queries) // 64)
        return np.concatenate([np.argpartition(halves - part @ base.T, k, axis=1)[:, :k] for part in parts])
    return faiss.knn(queries, base, k, metric=faiss.METRIC_INNER_PRODUCT if cosine else faiss.METRIC_L2)[1]


def recall(found, truth):
    return float(np.mean([len(set(f) & set(t)) / len(t) for f, t in zip(found, truth)]))


def our_table(data, library, path):
    """A trained table `t` that is in memory, and the seconds that its rows and all of its building took."""
    db = apsw.Connection(path)
    db.enable_load_extension(True)
    db.load_extension(str(library), "sqlite3_sqliteivf_init")
    db.execute("PRAGMA journal_mode=WAL")
    dim = data["base"].shape[1]
    db.execute(f"CREATE VIRTUAL TABLE t USING ivf(v float[{dim}] distance_metric={data['metric']}, "
               f"nlist={data['nlist']}, train_at=off)")
    start = time.perf_counter()
    with db:
        db.executemany("INSERT INTO t(rowid, v) VALUES (?, ?)", ((i, r.tobytes()) for i, r in enumerate(data["base"])))
        inserted = time.perf_counter()
        db.execute("INSERT INTO t(t) VALUES ('train')")
    build = time.perf_counter() - start
    db.execute("INSERT INTO t(t) VALUES ('preload')")
    return db, inserted - start, build


def cpuinfo(key):
    """What Linux says of the first processor; an empty text elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n")
    except OSError:
        return ""
    return next((line.split(":")[1].strip() for line in lines if line.split("\t")[0].strip() == key), "")


# Instructions that kernels here or in a peer use.
FLAGS = ("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "amx_int8", "asimd", "asimddp",
         "i8mm", "sve")


def machine():
    flags = set((cpuinfo("flags") or cpuinfo("Features")).split())
    return dict(cpu=cpuinfo("model name") or platform.processor() or platform.machine(), cores=os.cpu_count(),
                flags=[flag for flag in FLAGS if flag in flags], system=f"{platform.system()} {platform.machine()}")


def versions(names):
    """Those of the packages that are installed."""
    installed = {each.metadata["Name"]: each.version for each in distributions()}
    return {name: installed[name] for name in names if name in installed}
