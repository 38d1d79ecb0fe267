"""Shards under Dask on one machine: throughput from 1 to 4 shards, what the engine costs, recall. Figures for docs/scale-out.md.

python benches/shards.py [--rows 100000] [--dim 128] [--batch 1000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from functools import partial
from statistics import median
from typing import Any, Callable

import numpy as np

from sqlite_ivf.shards import Shards

K = 10


def clustered(n: int, dim: int, seed: int) -> Any:
    """Vectors around 500 centres, some larger than others, in few directions each: more like embeddings than like noise."""
    numbers = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((500, dim))
    basis = np.random.default_rng(1).standard_normal((dim // 8, dim)) / 3
    which = (500 * numbers.random(n) ** 1.5).astype(int)
    return (centres[which] * 0.7 + numbers.standard_normal((n, dim // 8)) @ basis).astype(np.float32)


def milliseconds(call: Callable[[], Any]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    for name, default in (("rows", 100_000), ("dim", 128), ("batch", 1000), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    os.environ.setdefault("RAYON_NUM_THREADS", "1")  # in each worker: shards add threads, nothing else does
    from distributed import Client, LocalCluster

    rows, queries = clustered(given.rows, given.dim, 2), clustered(given.batch, given.dim, 3)
    print(f"{given.rows} x {given.dim}, batches of {given.batch}, k = {K}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(n_workers=4, threads_per_worker=2, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, direct_to_workers=True) as client,
    ):

        def processor() -> float:
            """CPU time of all processes, in milliseconds: it depends less on what else the machine does."""
            return 1000 * (time.process_time() + sum(client.run(time.process_time).values()))

        opened = {}
        for n in (1, 2, 4):
            opened[n] = Shards.create(f"{folder}/{n}", n, given.dim, client=client, train_at="off")
            load = milliseconds(partial(opened[n].insert, rows)) / 1000
            train = milliseconds(opened[n].train) / 1000
            print(f"{n} shards: {given.rows / load:,.0f} rows/s inserted, trained in {train:.1f} s")
        # In turn, so that what else the machine does hits all alike.
        exact = opened[1].search(queries, K, nprobe=-1).ids
        asked: dict[str, dict[str, Any]] = {
            "default": {},
            "recall_target=0.95": {"recall_target": 0.95},
            "nprobe=-1": {"nprobe": -1},
        }
        for title, settings in asked.items():
            times: dict[int, list[float]] = {n: [] for n in opened}
            work: dict[int, list[float]] = {n: [] for n in opened}
            for _ in range(given.rounds + 1):
                for n, shards in opened.items():
                    before = processor()
                    times[n].append(milliseconds(partial(shards.search, queries, K, **settings)))
                    work[n].append(processor() - before)
            for n, shards in opened.items():
                found = shards.search(queries, K, **settings).ids
                recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(found.tolist(), exact.tolist())])
                best, base = min(times[n][1:]), min(times[1][1:])
                print(
                    f"{title:20} {n} shards: {given.batch / best * 1000:8,.0f} queries/s, {base / best:.2f} of 1 shard; "
                    f"CPU {min(work[n][1:]):4.0f} ms a batch; recall {recall:.4f}"
                )
        # What the engine costs: searches of shards with a few rows each.
        for n in (1, 2, 4):
            with Shards.create(f"{folder}/small{n}", n, given.dim, client=client) as small, Shards.open(small.path) as local:
                small.insert(rows[:100])
                for size in (1, given.batch):
                    some = queries[:size]
                    both: dict[str, list[float]] = {"Dask": [], "threads": []}
                    for _ in range(40):
                        both["Dask"].append(milliseconds(partial(small.search, some, 1)))
                        both["threads"].append(milliseconds(partial(local.search, some, 1)))
                    text = ", ".join(f"{name} {min(all):.1f} ms (median {median(all):.1f})" for name, all in both.items())
                    print(f"a batch of {size} to {n} shards of {100 // n} rows: {text}")
        seconds = milliseconds(partial(opened[2].add_shard, batch=5000)) / 1000
        moved = opened[2].stats()[2]["rows"]
        print(f"from 2 shards to 3: {moved:,} rows moved in {seconds:.1f} s, {moved / seconds:,.0f} rows/s")
        for shards in opened.values():
            shards.close()


if __name__ == "__main__":
    main()
