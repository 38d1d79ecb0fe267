"""Every way to a connection that this Python has; tests of others are skipped."""

from __future__ import annotations

import importlib
from typing import Any, Callable, Iterator, List

import numpy as np
import pytest
from numpy.typing import NDArray

import sqlite_ivf
from sqlite_ivf import Table
from sqlite_ivf.loading import _opener

#: A project of test_django.py, which runs in a process of its own.
collect_ignore = ["django_project"]
DRIVERS = ["sqlite3", "pysqlite3", "apsw"]


def nearest(rows: NDArray[Any], query: NDArray[Any], k: int, metric: str = "l2") -> List[int]:
    """Which rows are nearest to a query, by comparing with all of them."""
    rows, query = rows.astype(np.float64), query.astype(np.float64)
    if metric == "cosine":
        distances = 1 - rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    elif metric == "ip":
        distances = -(rows @ query)
    elif metric == "l1":
        distances = np.abs(rows - query).sum(axis=1)
    else:
        distances = np.linalg.norm(rows - query, axis=1)
    return [int(row) for row in np.lexsort((np.arange(len(rows)), distances))[:k]]


def random(n: int, dim: int, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


@pytest.fixture(params=DRIVERS)
def opened(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Any]]:
    """Opens databases by each package in turn, with the extension loaded."""
    opener = _opener(request.param)
    if opener is None:
        pytest.skip(f"{request.param} is not here, or cannot load extensions")
    connections: List[Any] = []

    def open(path: str = ":memory:") -> Any:
        connections.append(opener(path))
        sqlite_ivf.load(connections[-1])
        return connections[-1]

    yield open
    for connection in connections:
        connection.close()


@pytest.fixture
def db(opened: Callable[[], Any]) -> Any:
    return opened()


@pytest.fixture
def items(db: Any) -> Table:
    """3,000 rows of 8 dimensions in 20 lists, ids from 0."""
    table = Table.create(db, "items", 8, columns={"year": "INTEGER", "lang": "TEXT", "+title": "TEXT"})
    ids = np.arange(3000)
    metadata = {"year": 2000 + ids % 25, "lang": [["en", "de", "fr"][i % 3] for i in ids], "title": [f"row {i}" for i in ids]}
    table.add(random(3000, 8), ids, metadata)
    table.train(nlist=20)
    return table


def needs(name: str) -> Any:
    """The package, or a test that is skipped."""
    try:
        return importlib.import_module(name)
    except ImportError:
        pytest.skip(f"{name} is not here")
