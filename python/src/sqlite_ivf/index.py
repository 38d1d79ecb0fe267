"""The indexes of faiss and torch-ivf under their names, over a table in memory or in a file.

`from torch_ivf.index import IndexIVFFlat` becomes `from sqlite_ivf.index import IndexIVFFlat`. NumPy arrays and torch tensors go
in; what comes out is of the kind and on the device of the queries.

>>> import numpy as np
>>> numbers = np.random.default_rng(0)
>>> xb, xq = numbers.random((5000, 16), np.float32), numbers.random((3, 16), np.float32)
>>> index = IndexIVFFlat(16, nlist=32, nprobe=32)
>>> index.train(xb[:2000])
>>> index.add(xb)
>>> distances, ids = index.search(xq, k=5)
>>> bool((ids[:, 0] == ((xq[:, None] - xb) ** 2).sum(2).argmin(1)).all())
True

What differs from torch-ivf, and mostly from faiss:

- Answers do not depend on `search_mode`, on the number of threads, or on what else is in a batch. Equal distances come by id.
- `max_codes` has one meaning, faiss's: exactly so many rows are scanned at most, of the last list a part. A `candidate_budget` is
  never exceeded, and what one list has no rows for goes to others; it needs no `approximate=True`.
- Lists are always in the order `residual_norm_asc`. So `list_ordering` and `rebuild_policy` of `SearchParams` are taken and do
  nothing, as do `approximate`, `use_per_list_sizes`, `strict_budget`, `dynamic_nprobe`, `safe_pruning` and `debug_stats`: budgets
  are always per list and strict, `recall_target` gives each query its own number of lists, and stats are always there. There is
  no `rebuild_lists`, and `auto` has no thresholds.
- Lists are of about one size. So `nprobe` reads its share of the rows, where faiss reads more wherever its lists are uneven (on
  Gaussian noise twice as many): compare at equal recall, by `recall_target` or `sqlite-ivf tune`.
- `train` keeps the rows that are there, and is the same each time for the same rows and `seed`. Fewer rows than lists, or a number
  that is not finite, are an error.
- Ids are unique: one that exists is an error. `add` goes on after the largest id. Any int64 is an id, but -1 also says "none".
- `remove_ids`, `reconstruct`, `reset` are faiss's (`reset` keeps the training). After `remove_ids` the other ids stay.
- `range_search` is inclusive, as in torch-ivf, and sorted; it heeds `nprobe` and `max_codes`.
- `D` is float32; what a query has no row for is id -1 at an infinite distance. No row is named twice or by mistake.
- `save` writes a database file, `load` opens one in place: what is added then is saved. Everything that was set is kept.
- `to` and `cuda` choose where searches compute. A library without CUDA warns, and computes on the CPU; tensors may be anywhere.
- A connection, so an index, is used by one thread at a time.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Dict, Optional, Tuple, Type, TypeVar, Union

from . import vectors as _vectors
from .loading import Connection, connect
from .table import Table, quoted

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["METRIC_INNER_PRODUCT", "METRIC_L2", "IndexFlatIP", "IndexFlatL2", "IndexIVFFlat", "SearchParams"]

#: faiss's numbers of the metrics.
METRIC_INNER_PRODUCT = 0
METRIC_L2 = 1

_METRICS: Dict[Union[str, int], str] = {"l2": "l2", "ip": "ip", METRIC_L2: "l2", METRIC_INNER_PRODUCT: "ip"}
_MODES = ("auto", "matrix", "csr")

I = TypeVar("I", bound="_Index")


@dataclass(frozen=True)
class SearchParams:
    """What one search does otherwise than the index says.

    `profile` is `exact` (no budget), `approx_fast`, `approx_balanced` or `approx_quality`: budgets of 32,768, 65,536 and 131,072
    rows. `speed` and `approx` are torch-ivf's other names of `exact`.

    >>> SearchParams(profile="approx_fast", candidate_budget=1000).settings()
    {'profile': 'approx_fast', 'candidate_budget': 1000}
    >>> SearchParams(profile="fast")
    Traceback (most recent call last):
    ValueError: profile is one of exact, speed, approx, approx_fast, approx_balanced, approx_quality, got 'fast'
    """

    profile: str = "exact"
    nprobe: Optional[int] = None
    max_codes: Optional[int] = None
    candidate_budget: Optional[int] = None
    budget_strategy: Optional[str] = None
    min_codes_per_list: int = 0
    max_codes_cap_per_list: int = 0
    recall_target: Optional[float] = None
    # Those of torch-ivf that have nothing left to do: budgets are always per list and strict, and there is no order to rebuild.
    list_ordering: Optional[str] = None
    approximate: bool = True
    use_per_list_sizes: bool = True
    strict_budget: bool = True
    safe_pruning: bool = True
    dynamic_nprobe: bool = False
    debug_stats: bool = True
    rebuild_policy: str = "manual"
    rebuild_threshold_adds: int = 0

    def __post_init__(self) -> None:
        """Checks."""
        profiles = ("exact", "speed", "approx", "approx_fast", "approx_balanced", "approx_quality")
        _one_of("profile", self.profile, profiles)
        _one_of("budget_strategy", self.budget_strategy, (None, "distance_weighted", "uniform"))
        _one_of("list_ordering", self.list_ordering, (None, "none", "residual_norm_asc"))

    def settings(self) -> Dict[str, Any]:
        """As `Table.search` takes them."""
        names = {"min_codes_per_list": "min_rows_per_list", "max_codes_cap_per_list": "max_rows_per_list"}
        plain = {"profile": ("exact", "speed", "approx"), "min_codes_per_list": (0,), "max_codes_cap_per_list": (0,)}
        kept = [field.name for field in fields(self)]
        given = {name: getattr(self, name) for name in kept[: kept.index("list_ordering")]}
        return {
            names.get(name, name): value for name, value in given.items() if value is not None and value not in plain.get(name, ())
        }


def _one_of(name: str, value: Any, choices: Tuple[Any, ...]) -> Any:
    if value not in choices:
        raise ValueError(f"{name} is one of {', '.join(str(choice) for choice in choices)}, got {value!r}")
    return value


class _Index:
    """What all indexes have."""

    _kind: ClassVar[str]

    def __init__(
        self, d: int, metric: Union[str, int], dtype: Any, path: Union[str, PathLike[str], None], table: str, **options: Any
    ) -> None:
        if isinstance(d, bool) or not isinstance(d, int) or d < 1:
            raise ValueError(f"d is the number of dimensions, from 1, got {d!r}: there is no quantizer to give here")
        if metric not in _METRICS:
            raise ValueError(f"metric is 'l2' or 'ip', got {metric!r}")
        element = _one_of("dtype", str(dtype).split(".")[-1], ("float32", "float16", "bfloat16"))
        connection = _open(":memory:" if path is None else path)
        self._set_up(Table.create(connection, table, d, metric=_METRICS[metric], element=element, train_at="off", **options))
        self._remember()

    def _set_up(self, table: Table) -> None:
        #: The table, for all that this class has no name for.
        self.table = table
        self._search_mode = "auto"

    @property
    def connection(self) -> Connection:
        """The connection to the database."""
        return self.table.connection

    @property
    def d(self) -> int:
        """How many dimensions."""
        return self.table.dim

    @property
    def metric(self) -> str:
        """l2 or ip."""
        return self.table.metric

    @property
    def dtype(self) -> str:
        """What vectors are stored as."""
        return self.table.element

    @property
    def ntotal(self) -> int:
        """How many rows."""
        return len(self.table)

    @property
    def is_trained(self) -> bool:
        """Whether rows may be added."""
        return True

    @property
    def search_mode(self) -> str:
        """How the work is cut, `auto`, `matrix` or `csr`: never what comes out."""
        return self._search_mode

    @search_mode.setter
    def search_mode(self, mode: str) -> None:
        self._search_mode = _one_of("search_mode", mode, _MODES)
        self._remember()

    @property
    def last_search_stats(self) -> Dict[str, int]:
        """How many lists were probed, rows scanned and so on by the last search."""
        return {stage: n for stage, (n, _) in self.table.profile().items()}

    def _settings(self) -> Dict[str, Any]:
        return {"search_mode": self._search_mode}

    def _remember(self) -> None:
        """Keeps what is set in the database, also for those who search by SQL."""
        record = json.dumps({"kind": self._kind, **self._settings()})
        with self.table.transaction():
            self.connection.execute("CREATE TABLE IF NOT EXISTS ivf_index(name TEXT PRIMARY KEY, settings TEXT)")
            self.connection.execute("INSERT OR REPLACE INTO ivf_index VALUES (?, ?)", (self.table.name, record))
            self.table.set(**self._settings())

    def _recall(self, settings: Dict[str, Any]) -> None:
        self._search_mode = settings.get("search_mode", "auto")

    def train(self, x: Any) -> None:
        """Nothing: a flat index needs no training."""
        self.table._matrix(x)

    def add(self, x: Any) -> None:
        """Adds rows; their ids go on after the largest one, from 0."""
        self.add_with_ids(x, None if self.ntotal else range(len(x)))

    def add_with_ids(self, x: Any, ids: Any) -> None:
        """Adds rows with these ids."""
        self.table.add(x, _ids(ids))

    def remove_ids(self, ids: Any) -> int:
        """Removes rows; how many there were."""
        return self.table.delete(_ids(ids))

    def reset(self) -> None:
        """Removes all rows. The training stays."""
        with self.table.transaction():
            self.connection.execute(f"DELETE FROM {self.table._table}")

    def reconstruct(self, key: int) -> Any:
        """The vector of a row."""
        return self.table.vectors([key])[0]

    def reconstruct_n(self, n0: int, ni: int) -> Any:
        """The vectors of `ni` rows from id `n0` on."""
        return self.table.vectors(range(n0, n0 + ni))

    def _queries(self, x: Any) -> Any:
        if getattr(x, "ndim", 2) != 2:
            raise ValueError(f"queries are a matrix with a line for each, got shape {tuple(x.shape)}")
        return x

    def _scores(self, distances: Any) -> Any:
        """Distances of the table as faiss gives them: l2 squared, inner products as they are."""
        np = _vectors.numpy("search")
        return (np.square(distances) if self.metric == "l2" else -distances).astype(np.float32)

    def search(self, x: Any, k: int, *, params: Optional[SearchParams] = None) -> Tuple[Any, Any]:
        """The `k` nearest rows of each query: their distances (l2 squared, or inner products) and ids, best first."""
        if k < 1:
            raise ValueError(f"k is a positive number, got {k}")
        hits = self.table.search(self._queries(x), k, **self._asked(params))
        return _like(x, self._scores(hits.distances)), _like(x, hits.ids)

    def range_search(self, x: Any, radius: float) -> Tuple[Any, Any, Any]:
        """All rows of the probed lists within a (squared) distance, or with an inner product of `radius` or more.

        Gives `lims`, distances, ids: those of query i are from `lims[i]` to `lims[i + 1]`, best first.
        """
        np = _vectors.numpy("range_search")
        radius = float(np.float32(radius))
        # A little more than what is asked for, since the table's distance is a root; then exactly that.
        within = np.nextafter(np.float32(max(radius, 0.0) ** 0.5), np.float32(np.inf)) if self.metric == "l2" else -radius
        hits = self.table.search(self._queries(x), None, within=float(within), **self._asked(None))
        scores = self._scores(hits.distances)
        found = (hits.ids >= 0) | np.isfinite(scores)
        found &= scores <= radius if self.metric == "l2" else scores >= radius
        lims = np.concatenate([[0], found.sum(axis=1).cumsum()]).astype(np.int64)
        return _like(x, lims), _like(x, scores[found]), _like(x, hits.ids[found])

    def _asked(self, params: Optional[SearchParams]) -> Dict[str, Any]:
        return {**self._settings(), **(params.settings() if params else {})}

    def to(self: I, device: Any) -> I:
        """Chooses where searches compute: `cpu` or `cuda`. The index itself, not a copy."""
        name = str(device or "cpu")
        try:
            self.table.command(f"device={name}")
        except Exception as error:
            if "not available" not in str(error):
                raise
            warnings.warn(f"searches compute on the CPU: {error}", RuntimeWarning, stacklevel=2)
        return self

    def cpu(self: I) -> I:
        """Searches compute on the CPU."""
        return self.to("cpu")

    def cuda(self: I) -> I:
        """Searches compute on the first NVIDIA GPU."""
        return self.to("cuda")

    def save(self, path: Union[str, PathLike[str]]) -> None:
        """Writes the database to a file, in the place of one that is there."""
        path = Path(path)
        beside = path.with_name(path.name + ".new")
        beside.unlink(missing_ok=True)
        self.connection.execute("VACUUM INTO ?", (str(beside),))
        os.replace(beside, path)

    @classmethod
    def load(cls: Type[I], path: Union[str, PathLike[str]], table: str = "vectors") -> I:
        """Opens a file that `save` wrote, or any database with such a table. What is added then is saved."""
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no file {path}")
        index = cls.__new__(cls)
        connection = _open(path)
        index._set_up(Table(connection, table))
        if index.metric not in ("l2", "ip"):
            raise ValueError(f"the metric of {table!r} is {index.metric}, this class has l2 and ip: sqlite_ivf.Table has all")
        there = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'ivf_index'").fetchone()
        kept = there and connection.execute("SELECT settings FROM ivf_index WHERE name = ?", (index.table.name,)).fetchone()
        settings = json.loads(kept[0]) if kept else {}
        kind = settings.get("kind", cls._kind)
        if kind != cls._kind:
            raise ValueError(f"{path} has an {kind}: {kind}.load opens it")
        index._recall(settings)
        return index

    def close(self) -> None:
        """Closes the connection."""
        self.connection.close()

    def __repr__(self) -> str:
        return f"<sqlite_ivf.index.{self._kind} d={self.d} ntotal={self.ntotal}>"


def _open(path: Union[str, PathLike[str]]) -> Connection:
    try:
        return connect(os.fspath(path), check_same_thread=False)
    except TypeError:  # apsw has no such check
        return connect(os.fspath(path))


def _ids(ids: Any) -> Any:
    return ids.detach().cpu().numpy() if _vectors.is_torch(ids) else ids


def _like(x: Any, result: Any) -> Any:
    if not _vectors.is_torch(x):
        return result
    import torch

    return torch.from_numpy(result).to(x.device)


class IndexFlatL2(_Index):
    """The exact index by Euclidean distance.

    >>> import numpy as np
    >>> index = IndexFlatL2(2)
    >>> index.add(np.array([[0, 0], [3, 4]], np.float32))
    >>> index.search(np.array([[0, 0]], np.float32), 3)
    (array([[ 0., 25., inf]], dtype=float32), array([[ 0,  1, -1]]))
    """

    _kind = "IndexFlatL2"

    def __init__(
        self, d: int, *, dtype: Any = "float32", path: Union[str, PathLike[str], None] = None, table: str = "vectors"
    ) -> None:
        """An empty index, in memory or in a file."""
        super().__init__(d, "l2", dtype, path, table)


class IndexFlatIP(_Index):
    """The exact index by inner product.

    >>> import numpy as np
    >>> index = IndexFlatIP(2)
    >>> index.add(np.array([[1, 0], [3, 4]], np.float32))
    >>> index.range_search(np.array([[1, 1]], np.float32), 2)
    (array([0, 1]), array([7.], dtype=float32), array([1]))
    """

    _kind = "IndexFlatIP"

    def __init__(
        self, d: int, *, dtype: Any = "float32", path: Union[str, PathLike[str], None] = None, table: str = "vectors"
    ) -> None:
        """An empty index, in memory or in a file."""
        super().__init__(d, "ip", dtype, path, table)


class IndexIVFFlat(_Index):
    """The index with lists, of which a search probes the nearest.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).random((1000, 8), np.float32)
    >>> index = IndexIVFFlat(8, nlist=10, nprobe=10, metric="ip")
    >>> index.train(x)
    >>> index.add_with_ids(x, np.arange(1000) + 5000)
    >>> index.remove_ids([5000, 5001, 1])
    2
    >>> index.ntotal, bool((index.reconstruct(5002) == x[2]).all())
    (998, True)
    """

    _kind = "IndexIVFFlat"

    def __init__(
        self,
        d: int,
        nlist: Optional[int] = None,
        nprobe: Optional[int] = None,
        metric: Union[str, int] = "l2",
        *,
        dtype: Any = "float32",
        path: Union[str, PathLike[str], None] = None,
        table: str = "vectors",
    ) -> None:
        """An untrained index, in memory or in a file. `nlist` is 1,024 and `nprobe` 8 unless given."""
        self._nlist = 1024 if nlist is None else nlist
        if self._nlist < 1:
            raise ValueError(f"nlist is a positive number, got {nlist}")
        self._nprobe = min(_positive("nprobe", 8 if nprobe is None else nprobe), self._nlist)
        self._max_codes = 0
        self._trained = False
        super().__init__(d, metric, dtype, path, table, nlist=self._nlist, list_ordering="residual_norm_asc")

    @property
    def nlist(self) -> int:
        """How many lists."""
        return self._nlist

    @property
    def nprobe(self) -> int:
        """How many lists a search probes, at most `nlist`."""
        return self._nprobe

    @nprobe.setter
    def nprobe(self, nprobe: int) -> None:
        self._nprobe = min(_positive("nprobe", nprobe), self._nlist)
        self._remember()

    @property
    def max_codes(self) -> int:
        """How many rows a search scans at most, 0 for no limit."""
        return self._max_codes

    @max_codes.setter
    def max_codes(self, max_codes: int) -> None:
        if max_codes < 0:
            raise ValueError(f"max_codes is a number of rows, or 0 for no limit, got {max_codes}")
        self._max_codes = int(max_codes)
        self._remember()

    @property
    def is_trained(self) -> bool:
        """Whether there are lists."""
        self._trained = self._trained or bool(self.table.stats()["trained"])
        return self._trained

    def _settings(self) -> Dict[str, Any]:
        return {**super()._settings(), "nprobe": self._nprobe, "max_codes": self._max_codes}

    def _recall(self, settings: Dict[str, Any]) -> None:
        super()._recall(settings)
        stats = self.table.stats()
        self._trained = bool(stats["trained"])
        self._nlist = stats["nlist"] or 1024
        self._nprobe = settings.get("nprobe", min(8, self._nlist))
        self._max_codes = settings.get("max_codes", 0)

    def _need_training(self, what: str) -> None:
        if not self.is_trained:
            raise RuntimeError(f"an IndexIVFFlat is trained before {what}: index.train(x) of {self._nlist} rows or more")

    def train(self, x: Any, *, max_iter: Optional[int] = None, seed: Optional[int] = None, verbose: bool = False) -> None:
        """Makes the lists by k-means over `x` and the rows that are there; `verbose` draws a bar of tqdm."""
        if len(x) < self._nlist:
            raise ValueError(f"{self._nlist} lists need as many rows to train on, got {len(x)}")
        with self.table.transaction():
            # The table trains on its rows: the sample is put in for that, behind them, and taken out.
            first = int(self.table.add(x)[0])
            self.table.train(nlist=self._nlist, max_iterations=max_iter, seed=seed, progress=verbose)
            self.connection.execute(f"DELETE FROM {quoted(self.table.name)} WHERE rowid >= ?", (first,))

    def add_with_ids(self, x: Any, ids: Any) -> None:
        """Adds rows with these ids."""
        self._need_training("rows are added")
        super().add_with_ids(x, ids)

    def _queries(self, x: Any) -> Any:
        self._need_training("a search")
        return super()._queries(x)

    def _asked(self, params: Optional[SearchParams]) -> Dict[str, Any]:
        asked = super()._asked(params)
        if params and params.recall_target and not params.nprobe:
            del asked["nprobe"]  # it would be the most lists that are probed
        return asked


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{name} is a positive number, got {value}")
    return int(value)
