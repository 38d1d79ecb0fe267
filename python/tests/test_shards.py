"""Shards: against one table and brute force, while rows move, while workers and writers die."""

from __future__ import annotations

import json
import os
import random as chance
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
import pytest
from conftest import random
from numpy.typing import NDArray

import sqlite_ivf
from sqlite_ivf import Table
from sqlite_ivf import shards as module
from sqlite_ivf._store import connected, fetched
from sqlite_ivf.shards import FencedError, ShardLostError, Shards, placement

# What Dask and its event loops leave behind is not what is tested here.
pytestmark = [pytest.mark.filterwarnings("ignore::ResourceWarning"), pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]

#: Seconds that the tests with random kills take, each.
LONG = float(os.environ.get("SQLITE_IVF_SHARDS_SECONDS", "6"))
SEED = int(os.environ.get("SQLITE_IVF_SHARDS_SEED", "0"))
DIM = 8
COLUMNS = {"year": "INTEGER", "lang": "TEXT", "+title": "TEXT"}

Rows = Dict[int, Tuple[Any, int]]


def metadata(ids: Any) -> Dict[str, Any]:
    return {"year": [2000 + i % 25 for i in ids], "lang": [["en", "de", None][i % 3] for i in ids], "title": [f"row {i}" for i in ids]}


def brute(rows: Dict[int, NDArray[Any]], queries: NDArray[Any], k: int, keep: Callable[[int], bool] = lambda _: True) -> List[List[int]]:
    """The ids of the nearest rows by comparing with all, ties by id."""
    ids = np.array(sorted(id for id in rows if keep(id)), np.int64)
    if not len(ids):
        return [[] for _ in queries]
    matrix = np.stack([rows[int(id)] for id in ids]).astype(np.float64)
    distances = ((matrix[None] - queries.astype(np.float64)[:, None]) ** 2).sum(axis=2)
    return [ids[np.lexsort((ids, line))[:k]].tolist() for line in distances]


def found(hits: Any) -> List[List[int]]:
    return [[int(id) for id, distance in zip(*line) if np.isfinite(distance)] for line in zip(hits.ids, hits.distances)]


def whole(n: int, seed: int) -> NDArray[Any]:
    """Vectors of small whole numbers: many equal distances, all of them exact in float32."""
    return np.random.default_rng(seed).integers(-3, 4, (n, DIM)).astype(np.float32)


def contents(shards: Shards) -> Dict[str, List[int]]:
    """The ids in each file, read from the files."""
    ids = {}
    for name in shards._layout().shards:
        connection = connected(os.path.join(shards.path, f"shard-{name}.db"))
        ids[name] = [row[0] for row in fetched(connection, "SELECT rowid FROM items ORDER BY rowid")]
        connection.close()
    return ids


# In this process


def test_placement_is_the_same_for_ever() -> None:
    ids = [-(2**63), -1, 0, 1, 2, 1000, 2**62, 2**63 - 1]
    assert placement(ids, ["0", "1", "2", "3"]).tolist() == [2, 2, 3, 0, 2, 2, 2, 2]  # computed without NumPy


def test_one_more_name_takes_its_share_of_rows_and_moves_no_other_one() -> None:
    ids = np.arange(40_000)
    before, after = placement(ids, list("0123")), placement(ids, list("01234"))
    moved = before != after
    assert (after[moved] == 4).all()
    assert (abs(np.bincount(after) - 8000) < 400).all() and (abs(np.bincount(before[moved]) - 2000) < 250).all()


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("element", ["float32", "float16", "bfloat16", "int8", "bit"])
def test_answers_are_those_of_one_table(tmp_path: Path, element: str, n: int) -> None:
    vectors = whole(1500, 1) if element != "bit" else (whole(1500, 1) > 0).astype(np.uint8)
    ids = np.random.default_rng(2).choice(2**40, len(vectors), replace=False) - 2**39
    one = Table.create(sqlite_ivf.connect(), "one", DIM, element=element, columns=COLUMNS)
    one.add(vectors, ids, metadata(ids.tolist()))
    with Shards.create(tmp_path / "c", n, DIM, element=element, columns=COLUMNS) as shards:
        assert (shards.insert(vectors, ids, metadata(ids.tolist())) == ids).all()
        one.train(nlist=20)
        shards.train(nlist=7)
        for queries, k, keywords in [
            (vectors[:20], 10, {}),
            (vectors[:20], 2000, {}),
            (vectors[5], 7, {"where": {"year": [2001, 2003], "lang": "en"}}),
            (vectors[:3], 9, {"where": "year > ? AND lang IS NULL", "values": (2020,)}),
            (vectors[:9], 50, {"where": {"rowid": ids[:30]}}),
            (vectors[:9], 5, {"where": {"year": 1}}),
            (vectors[:2], None, {"within": 3.0}),
            (vectors[:0], 5, {}),
        ]:
            got, expected = shards.search(queries, k, nprobe=-1, **keywords), one.search(queries, k, nprobe=-1, **keywords)
            assert got.ids.shape == expected.ids.shape
            assert (got.ids == expected.ids).all() and (got.distances == expected.distances).all()
        assert shards.get(ids[:40], "rowid", "title", "year") == one.get(ids[:40], "rowid", "title", "year")
        assert (shards.vectors(ids[:40]) == one.vectors(ids[:40])).all()
        assert len(shards) == len(one)
        assert [each["rows"] for each in shards.stats()] == [len(each) for each in contents(shards).values()]


@pytest.mark.parametrize("metric", ["cosine", "ip", "l1"])
def test_metrics_merge(tmp_path: Path, metric: str) -> None:
    vectors = random(600, DIM)
    one = Table.create(sqlite_ivf.connect(), "one", DIM, metric=metric, model="m")
    one.add(vectors, np.arange(600))
    with Shards.create(tmp_path / "c", 3, DIM, metric=metric, model="m") as shards:
        shards.insert(vectors, np.arange(600))
        got, expected = shards.search(vectors[:9], 12), one.search(vectors[:9], 12)
        assert (got.ids == expected.ids).all() and (got.distances == expected.distances).all()
        with pytest.raises(Exception, match="model"):
            shards.search(vectors[0], model="other")


@pytest.mark.parametrize("seed", range(SEED, SEED + 3))
def test_random_steps_agree_with_a_model(tmp_path: Path, seed: int) -> None:
    dice = chance.Random(seed)
    model: Dict[int, NDArray[Any]] = {}
    shards = Shards.create(tmp_path / "c", 2, DIM, columns=COLUMNS, copies=tmp_path / "copies")
    moving: Optional[Iterator[None]] = None
    for step in range(60):
        what = dice.choice(["insert", "insert", "delete", "search", "search", "add", "move", "move", "reopen", "copy"])
        if what == "insert":
            ids = dice.sample(range(400), dice.randrange(1, 60))
            vectors = whole(len(ids), dice.randrange(10**6))
            shards.insert(vectors, ids, metadata(ids))
            model.update(zip(ids, vectors))
        elif what == "delete":
            ids = dice.sample(range(400), dice.randrange(1, 40))
            assert shards.delete(ids) == len(model.keys() & set(ids))
            for id in ids:
                model.pop(id, None)
        elif what == "add" and moving is None and len(shards._layout().shards) < 5:
            moving = stepwise(shards, dice.randrange(1, 20))
        elif what == "move" and moving is not None:
            try:
                next(moving)
            except StopIteration:
                moving = None
                shards.check()
        elif what == "reopen":
            shards.close()
            shards = Shards.open(tmp_path / "c")
            if shards._layout().moving:
                moving = stepwise(shards, dice.randrange(1, 20))
        elif what == "copy":
            shards.copies = str(tmp_path / "copies")
            shards.copy()
        queries = whole(4, step)
        k = dice.choice([1, 5, 30, 500])
        assert found(shards.search(queries, k, nprobe=-1)) == brute(model, queries, k)
        even = found(shards.search(queries, k, where="year >= ?", values=(2012,), nprobe=-1))
        assert even == brute(model, queries, k, lambda id: 2000 + id % 25 >= 2012)
        assert len(shards) == len(model)
    shards.finish_move()
    shards.check()
    names = shards._layout().names
    for name, there in contents(shards).items():
        assert there == [id for id in sorted(model) if names[placement([id], names)[0]] == name]
    shards.close()


def stepwise(shards: Shards, batch: int) -> Iterator[None]:
    """Begins to add a shard, and moves one batch at each step."""
    count = 0

    def stop(_: Any) -> Optional[bool]:
        nonlocal count
        count += 1
        return False

    try:
        (shards.finish_move if shards._layout().moving else shards.add_shard)(batch=batch, progress=stop)
    except InterruptedError:
        pass

    def rest() -> Iterator[None]:
        while shards._layout().moving:
            try:
                shards.finish_move(batch=batch, progress=stop)
            except InterruptedError:
                yield

    return rest()
