"""Every way to a connection that this Python has; tests of others are skipped."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import numpy as np
import pytest
from numpy.typing import NDArray

import sqlite_ivf
from sqlite_ivf import Table
from sqlite_ivf.loading import _opener

# A shell's background job ignores Ctrl-C, and so would all that it starts. Tests press it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

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


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def entry_points(tmp_path: Path) -> Dict[str, str]:
    """The environment of a program that finds the plugins of this package, installed or not."""
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    folder = tmp_path / "installed" / "sqlite_ivf-0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: sqlite-ivf\nVersion: 0\n")
    found = re.findall(r'^\[project\.entry-points\.(\w+)\]\n([\w-]+) = "([\w.]+)"', project, re.MULTILINE)
    assert {group for group, _, _ in found} == {"datasette", "sqlite_utils"}
    (folder / "entry_points.txt").write_text("".join(f"[{group}]\n{name} = {module}\n" for group, name, module in found))
    source = Path(sqlite_ivf.__file__).parents[1]
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    modules = os.pathsep.join([str(folder.parent), str(source), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PATH": path, "PYTHONPATH": modules}


@pytest.fixture
def page_program(tmp_path: Path, entry_points: Dict[str, str]) -> Callable[..., str]:
    """Runs the shell program of a page, and gives what it prints."""

    def run(page: str, **more: str) -> str:
        if not (ROOT / "docs" / page).exists():
            pytest.skip("the pages are in the source tree only")
        (program,) = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)
        assert program.count("\n") <= 40
        folder = tmp_path / "page"
        folder.mkdir()
        out = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", program], cwd=folder, env={**entry_points, **more}, capture_output=True, text=True
        )
        assert out.returncode == 0, out.stderr
        return out.stdout

    return run
