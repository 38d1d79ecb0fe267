"""Runs sqlite-ivf through SQL beside its peers, on the same data with the same threads. See README.md."""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data", type=Path, default=Path("../shared/data"))
parser.add_argument("--out", type=Path, default=Path("docs/figures"))
parser.add_argument("--only", default="seed,sift,text")
parser.add_argument("--peers", default="faiss,panorama,hnswlib,usearch,sqlite-vec,vectorlite,symqg,rabitq,scann,pqfs,vsag,zvec")
parser.add_argument("--k", type=int, help="instead of the 20 or 10 of the data set")
parser.add_argument("--threads", type=int, default=os.cpu_count())
parser.add_argument("--library", type=Path, default=Path("target/release/libsqlite_ivf.so"))
args = parser.parse_args()
os.environ["RAYON_NUM_THREADS"] = str(args.threads)
os.environ["OMP_NUM_THREADS"] = str(args.threads)

import apsw  # noqa: E402
import faiss  # noqa: E402
import numpy as np  # noqa: E402
import quantized  # noqa: E402
from common import exact, machine, our_table, recall, seed_data, sift_data, text_data, versions  # noqa: E402

faiss.omp_set_num_threads(args.threads)
ONE = 300


def measure(search, queries, truth, k, one=ONE):
    """Recall of the batch, seconds of the batch, and the times of single queries."""
    search(queries[:2])
    for q in queries[:20]:
        search(q[None])
    times = []
    for q in queries[:one]:
        start = time.perf_counter()
        search(q[None])
        times.append(time.perf_counter() - start)
    batches = []
    for _ in range(3):
        start = time.perf_counter()
        found = search(queries)
        batches.append(time.perf_counter() - start)
    times.sort()
    return dict(recall=recall(found, truth), batch_qps=len(queries) / min(batches), p50_us=1e6 * statistics.median(times),
                p99_us=1e6 * times[len(times) * 99 // 100])


def ours(data):
    folder = tempfile.TemporaryDirectory()
    path = os.path.join(folder.name, "ours.db")
    db, insert, build = our_table(data, args.library, path)
    rows = []
    k = data["k"]

    def run(queries):
        if len(queries) == 1:
            return [[r for r, _ in db.execute(f"SELECT rowid, distance FROM t WHERE v MATCH ? AND k = ? AND {name} = ?",
                                              (queries[0].tobytes(), k, value))]]
        found = db.execute(f"SELECT rowids, distances FROM t WHERE batch MATCH ? AND k = ? AND {name} = ? AND packed = 1",
                           (queries.tobytes(), k, value))
        return [np.frombuffer(rowids, "<i8") for rowids, _ in found]

    # Random data have no recall to aim for.
    targets = [("recall_target", target) for target in (0.9, 0.95, 0.98, 0.99)] if data["ef"] else []
    for name, value in [("nprobe", nprobe) for nprobe in data["nprobe"]] + targets:
        rows.append(dict(setting=f"{name}={value}", **measure(run, data["queries"], data["truth"], k)))
    disk = os.path.getsize(path) + (os.path.getsize(path + "-wal") if os.path.exists(path + "-wal") else 0)
    resident = [line for line in db.execute("SELECT ivf_debug()").fetchall()[0][0].split("\n") if "resident" in line]
    db.close()
    return dict(system="sqlite-ivf (SQL)", build_s=build, insert_s=insert, disk_bytes=disk,
                note="; ".join(resident), rows=rows)


def with_faiss(data, panorama):
    dim, cosine = data["base"].shape[1], data["metric"] == "cosine"
    factory = f"IVF{data['nlist']},Flat" + ("Panorama8" if panorama else "")
    # On unit vectors L2 orders as cosine does; FlatPanorama knows L2 only.
    index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT if cosine and not panorama else faiss.METRIC_L2)
    start = time.perf_counter()
    index.train(data["base"])
    index.add(data["base"])
    build = time.perf_counter() - start
    ivf = faiss.extract_index_ivf(index)
    rows = []
    for nprobe in data["nprobe"]:
        ivf.nprobe = nprobe
        rows.append(dict(setting=f"nprobe={nprobe}",
                         **measure(lambda q: index.search(q, data["k"])[1], data["queries"], data["truth"], data["k"])))
    return dict(system="faiss IVF,FlatPanorama" if panorama else "faiss IVF,Flat", build_s=build, rows=rows)


def with_hnswlib(data):
    import hnswlib

    index = hnswlib.Index(space="cosine" if data["metric"] == "cosine" else "l2", dim=data["base"].shape[1])
    index.set_num_threads(args.threads)
    index.init_index(max_elements=len(data["base"]), M=16, ef_construction=200)
    start = time.perf_counter()
    index.add_items(data["base"])
    build = time.perf_counter() - start
    rows = []
    for ef in data["ef"]:
        index.set_ef(ef)
        rows.append(dict(setting=f"ef={ef}", **measure(lambda q: index.knn_query(q, k=data["k"])[0], data["queries"],
                                                       data["truth"], data["k"])))
    return dict(system="hnswlib M=16", build_s=build, rows=rows)


def with_usearch(data):
    from usearch.index import Index

    index = Index(ndim=data["base"].shape[1], metric="cos" if data["metric"] == "cosine" else "l2sq", connectivity=16,
                  expansion_add=200)
    start = time.perf_counter()
    index.add(np.arange(len(data["base"])), data["base"], threads=args.threads)
    build = time.perf_counter() - start
    rows = []
    for ef in data["ef"]:
        index.expansion_search = ef

        def run(q):
            keys = index.search(q, data["k"], threads=args.threads).keys
            return keys if keys.ndim == 2 else keys[None]

        rows.append(dict(setting=f"ef={ef}", **measure(run, data["queries"], data["truth"], data["k"])))
    return dict(system="usearch M=16", build_s=build, rows=rows)


def with_sqlite_vec(data):
    import sqlite_vec

    db = apsw.Connection(":memory:")
    db.enable_load_extension(True)
    db.load_extension(sqlite_vec.loadable_path())
    metric = " distance_metric=cosine" if data["metric"] == "cosine" else ""
    db.execute(f"CREATE VIRTUAL TABLE t USING vec0(v float[{data['base'].shape[1]}]{metric})")
    start = time.perf_counter()
    with db:
        db.executemany("INSERT INTO t(rowid, v) VALUES (?, ?)", ((i, r.tobytes()) for i, r in enumerate(data["base"])))
    build = time.perf_counter() - start
    queries, truth = data["queries"][:20], data["truth"][:20]

    def run(queries):
        return [[r for r, _ in db.execute("SELECT rowid, distance FROM t WHERE v MATCH ? AND k = ?",
                                          (q.tobytes(), data["k"]))] for q in queries]

    return dict(system="sqlite-vec (exact)", build_s=build, rows=[dict(setting="", **measure(run, queries, truth, data["k"]))])


def with_vectorlite(data):
    import vectorlite_py

    db = apsw.Connection(":memory:")
    db.enable_load_extension(True)
    db.load_extension(vectorlite_py.vectorlite_path())
    metric = "cosine" if data["metric"] == "cosine" else "l2"
    dim = data["base"].shape[1]
    db.execute(f"CREATE VIRTUAL TABLE t USING vectorlite(v float32[{dim}] {metric}, hnsw(max_elements={len(data['base'])},"
               f"M=16,ef_construction=200))")
    start = time.perf_counter()
    with db:
        db.executemany("INSERT INTO t(rowid, v) VALUES (?, ?)", ((i, r.tobytes()) for i, r in enumerate(data["base"])))
    build = time.perf_counter() - start
    rows = []
    for ef in data["ef"]:
        def run(queries):
            return [[r for r, _ in db.execute("SELECT rowid, distance FROM t WHERE knn_search(v, knn_param(?, ?, ?))",
                                              (q.tobytes(), data["k"], ef))] for q in queries]

        rows.append(dict(setting=f"ef={ef}", **measure(run, data["queries"], data["truth"], data["k"])))
    return dict(system="vectorlite M=16 (SQL)", build_s=build, rows=rows)


def picture(group, path):
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, (one, batch) = plt.subplots(1, 2, figsize=(12, 4.2))
    for at, system in enumerate(group["systems"]):
        rows = sorted(system["rows"], key=lambda row: row["recall"])
        # Ten colours, each with two markers.
        style = dict(color=f"C{at % 10}", marker="o^"[at // 10 % 2], linestyle=("-", "--")[at // 10 % 2], markersize=5,
                     label=system["system"], linewidth=2.5 if "ivf (" in system["system"] else 1.2)
        one.plot([r["recall"] for r in rows], [1e6 / r["p50_us"] for r in rows], **style)
        batch.plot([r["recall"] for r in rows], [r["batch_qps"] for r in rows], **style)
    for axes, title in ((one, "one query at a time"), (batch, "all queries in one call")):
        axes.set_yscale("log")
        axes.set_xlabel(f"recall@{group['k']}")
        axes.set_ylabel("queries per second")
        axes.set_title(title)
        axes.grid(True, which="both", alpha=0.3)
    figure.suptitle(f"{group['name']}, {group['threads']} threads")
    figure.tight_layout(rect=(0, 0, 0.8, 1))
    figure.legend(*one.get_legend_handles_labels(), loc="center right", fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def table(data, systems):
    lines = [f"### {data['name']}, nlist {data['nlist']}, k {data['k']}", "",
             "| system | setting | recall | one query p50 | p99 | batch | build |", "|---|---|---|---|---|---|---|"]
    for system in systems:
        for row in system["rows"]:
            lines.append(f"| {system['system']} | {row['setting']} | {row['recall']:.4f} | {row['p50_us']:.0f} us | "
                         f"{row['p99_us']:.0f} us | {row['batch_qps']:.0f}/s | {system['build_s']:.1f} s |")
    return "\n".join(lines) + "\n"


def described():
    names = ("faiss-cpu", "hnswlib", "usearch", "sqlite-vec", "vectorlite-py", "rabitqlib", "scann-core", "pyvsag", "zvec",
             "apsw", "numpy")
    known = ", ".join(f"{name} {found}" for name, found in versions(names).items())
    return f"{machine()['cpu']}, {args.threads} threads; Python {platform.python_version()}; {known}"


def main():
    args.out.mkdir(parents=True, exist_ok=True)
    makers = dict(seed=seed_data, sift=sift_data, text=text_data)
    peers = {"faiss": lambda d: with_faiss(d, False), "panorama": lambda d: with_faiss(d, True), "hnswlib": with_hnswlib,
             "usearch": with_usearch, "sqlite-vec": with_sqlite_vec, "vectorlite": with_vectorlite}
    peers |= {name: lambda d, run=run: run(d, measure, args.threads) for name, run in quantized.PEERS.items()}
    results, tables = {}, [described() + "\n"]
    for name in args.only.split(","):
        try:
            data = makers[name](args.data)
        except FileNotFoundError as error:
            print(f"{name}: {error}: left out", file=sys.stderr)
            continue
        data["base"] = np.ascontiguousarray(data["base"])
        data["queries"] = np.ascontiguousarray(data["queries"])
        data["k"] = args.k or data["k"]
        data["truth"] = exact(data)
        systems = [ours(data)]
        for peer in args.peers.split(","):
            if peer not in ("faiss", "panorama", "sqlite-vec") and not data["ef"]:
                continue
            try:
                systems.append(peers[peer](data))
            except Exception as error:  # one peer that fails must not hide the others
                print(f"{name}: {peer}: {error!r}", file=sys.stderr)
            print(table(data, systems[-1:]), flush=True)
        print(table(data, systems[:1]), flush=True)
        results[name] = dict(name=data["name"], k=data["k"], threads=args.threads, systems=systems)
        tables.append(table(data, systems))
        if data["ef"]:
            picture(results[name], args.out / f"{name}.svg")
    # What vec0.py has measured stays.
    file = args.out / "results.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(before | dict(versions=described(), results=results), indent=1) + "\n")
    (args.out / "results.md").write_text("\n".join(tables))


main()
