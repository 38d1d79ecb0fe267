"""Peers that search quantized vectors: graphs (SymphonyQG, vsag, zvec) and inverted lists (RaBitQ, ScaNN, faiss PQ).

Each function takes the data, `measure` of compare.py and the number of threads, and returns a system. All of them answer
one query on one thread. On unit vectors L2 orders as cosine does, so that is what they search by.
"""

import tempfile
import time

import numpy as np


def system(name, build, rows):
    return dict(system=name, build_s=build, rows=rows)


def timed(work):
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def symqg(data, measure, threads):
    import rabitqlib

    index = rabitqlib.SymqgIndex(dim=data["base"].shape[1], max_degree=32, metric="l2")
    _, build = timed(lambda: index.build(data["base"], 200, num_threads=threads))
    k, rows = data["k"], []
    for ef in (20, 40, 80, 160, 320):
        def run(queries):
            if len(queries) == 1:
                return np.atleast_2d(index.search(queries, k, ef)[0])
            return index.search_batch(queries, k, ef, num_threads=threads)[0]

        rows.append(dict(setting=f"ef={ef}", **measure(run, data["queries"], data["truth"], k)))
    return system("SymphonyQG (rabitqlib)", build, rows)


def rabitq(data, measure, threads):
    import rabitqlib

    dim, nlist, k = data["base"].shape[1], data["nlist"], data["k"]

    def make():
        means = rabitqlib.RaBitQKMeans(dim, nlist)
        means.train(data["base"])
        index = rabitqlib.IvfIndex(dim=dim, max_elements=len(data["base"]), num_clusters=nlist, nbits=32, metric="l2")
        index.build(data["base"], means.centroids, means.assignments, num_threads=threads)
        return index

    index, build = timed(make)
    rows = [dict(setting=f"nprobe={nprobe}",
                 **measure(lambda q: np.atleast_2d(index.search(q, k, nprobe, num_threads=threads)[0]),
                           data["queries"], data["truth"], k)) for nprobe in (16, 32, 64, 128)]
    return system("RaBitQ IVF, raw re-rank (rabitqlib)", build, rows)


def scann(data, measure, threads):
    import scann as library

    n, k, cosine = len(data["base"]), data["k"], data["metric"] == "cosine"
    spill = dict(soar_lambda=1.5, overretrieve_factor=1.8) if cosine else {}

    def make():
        maker = library.scann_ops_pybind.builder(data["base"], k, "dot_product" if cosine else "squared_l2")
        maker = maker.tree(2000 if n > 500_000 else 500, 50, training_sample_size=min(n, 250_000), **spill)
        threshold = dict(anisotropic_quantization_threshold=0.2) if cosine else {}
        return maker.score_ah(2, **threshold).reorder(100).build()

    index, build = timed(make)
    index.set_num_threads(threads)
    rows = []
    for leaves, reorder in ((10, 60), (20, 80), (40, 100), (80, 150), (160, 200)):
        def run(queries):
            options = dict(leaves_to_search=leaves, pre_reorder_num_neighbors=max(reorder, k))
            if len(queries) == 1:
                return index.search(queries[0], **options)[0][None]
            return index.search_batched_parallel(queries, **options)[0]

        rows.append(dict(setting=f"leaves={leaves}, reorder={reorder}", **measure(run, data["queries"], data["truth"], k)))
    return system("ScaNN" + (" with SOAR" if cosine else ""), build, rows)


def pqfs(data, measure, threads):
    import faiss

    dim, k = data["base"].shape[1], data["k"]
    index = faiss.index_factory(dim, f"IVF{4 * data['nlist']},PQ{dim // 2}x4fs,RFlat")

    def make():
        index.train(data["base"])
        index.add(data["base"])

    _, build = timed(make)
    lists, rows = faiss.extract_index_ivf(faiss.downcast_index(index.base_index)), []
    for nprobe, factor in ((32, 4), (64, 10), (128, 10), (256, 10)):
        lists.nprobe, index.k_factor = nprobe, factor
        rows.append(dict(setting=f"nprobe={nprobe}, k_factor={factor}",
                         **measure(lambda q: index.search(q, k)[1], data["queries"], data["truth"], k)))
    return system("faiss IVF,PQfs,RFlat", build, rows)


def vsag(data, measure, threads):
    import json

    import pyvsag

    n, dim, k = *data["base"].shape, data["k"]
    index = pyvsag.Index("hgraph", json.dumps({
        "dtype": "float32", "metric_type": "l2", "dim": dim,
        "index_param": {"base_quantization_type": "sq8", "max_degree": 32, "ef_construction": 200, "build_thread_count": threads,
                        "use_reorder": True, "precise_quantization_type": "fp32"}}))
    _, build = timed(lambda: index.build(vectors=data["base"], ids=np.arange(n), num_elements=n, dim=dim))
    rows = []
    for ef in (20, 40, 80, 160):
        options = json.dumps({"hgraph": {"ef_search": max(ef, k)}})
        rows.append(dict(setting=f"ef={ef}", **measure(lambda qs: [index.knn_search(vector=q, k=k, parameters=options)[0] for q in qs],
                                                       data["queries"], data["truth"], k)))
    return system("vsag hgraph sq8", build, rows)


def zvec(data, measure, threads):
    import zvec as library

    dim, k = data["base"].shape[1], data["k"]
    folder = tempfile.TemporaryDirectory()
    param = library.HnswIndexParam(metric_type=library.MetricType.L2, m=16, ef_construction=200)
    schema = library.CollectionSchema(
        name="c", vectors=[library.VectorSchema("e", library.DataType.VECTOR_FP32, dim, index_param=param)])

    def make():
        collection = library.create_and_open(f"{folder.name}/c", schema)
        for first in range(0, len(data["base"]), 1000):
            part = enumerate(data["base"][first:first + 1000], first)
            collection.insert([library.Doc(id=str(i), vectors={"e": row}) for i, row in part])
        collection.optimize()
        return collection

    collection, build = timed(make)
    rows = []
    for ef in (16, 32, 64, 128):
        def run(queries):
            param = library.HnswQueryParam(ef=max(ef, k))
            return [[int(row.id) for row in collection.query(library.VectorQuery("e", vector=q, param=param), topk=k)]
                    for q in queries]

        rows.append(dict(setting=f"ef={ef}", **measure(run, data["queries"], data["truth"], k)))
    return system("zvec HNSW", build, rows)


PEERS = dict(symqg=symqg, rabitq=rabitq, scann=scann, pqfs=pqfs, vsag=vsag, zvec=zvec)
