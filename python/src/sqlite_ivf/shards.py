"""A collection of vectors in several SQLite files, its shards, searched together: docs/scale-out.md.

>>> import numpy as np, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> items = Shards.create(folder.name, 3, dim=2, columns={"year": "INTEGER"})
>>> items.insert(np.eye(2), ids=[1, 2], metadata={"year": [2019, 2024]}).tolist()
[1, 2]
>>> items.search([1, 0.1], k=1).ids.tolist(), items.search([1, 0.1], k=1, where={"year": 2024}).ids.tolist()
([1], [2])
>>> items.close(); folder.cleanup()

Without a client of Dask everything runs on threads of this process; with one, where the files are.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import threading
import time
import uuid
from concurrent.futures import CancelledError as _Cancelled
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    Type,
    Union,
)

try:
    import numpy as np
except ImportError as error:
    raise ImportError("sqlite_ivf.shards needs NumPy: pip install 'sqlite-ivf[shards]'") from error

from . import vectors as _vectors
from ._store import SETTINGS, connected, created, fetched, transaction
from .loading import connect
from .progress import Bar, Callback, Progress
from .table import Hits, Table, Where, _values, quoted

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray
    from typing_extensions import Self, Unpack

    from .table import Options, Settings

__all__ = ["FencedError", "ShardLostError", "Shards", "placement"]

_FORMAT = 1
_TABLE = "items"
_FIRST, _LAST = -(2**63), 2**63 - 1
#: What one task carries, in bytes: the scheduler of Dask passes it on, and warns from 10 MB.
_TASK_BYTES = 4 << 20
#: A writer's steps are numbered below its epoch.
_STEP_BITS = 20
#: Where a worker keeps the folders of collections, if it is not where the client says.
_ROOT = "SQLITE_IVF_SHARDS"


class FencedError(RuntimeError):
    """A write came after a later writer had begun; it changed nothing."""


class ShardLostError(RuntimeError):
    """No worker has the file of a shard as it was last written, and no copy of it can take its place."""


class _ElsewhereError(Exception):
    """The file of a shard is not here, or not as it should be."""


class _DiedError(Exception):
    """The worker of a task is gone."""


# Placement


def _mix(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of splitmix64: part of the format, it must never change."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))  # type: ignore[no-any-return]


def placement(ids: Any, names: Sequence[str]) -> NDArray[np.int64]:
    """Which of the shards, by their index, has each row: the one with the largest hash of row and name (rendezvous hashing). One
    more name takes its rows evenly from all others, and moves no other row.

    >>> placement([1, 2, 3, 4, 5, 6], ["0", "1", "2"]).tolist()
    [0, 2, 2, 1, 2, 1]
    >>> placement([1, 2, 3, 4, 5, 6], ["0", "1", "2", "3"]).tolist()
    [0, 2, 2, 1, 2, 1]
    """
    rows = _mix(np.asarray(ids).astype(np.int64, casting="safe").view(np.uint64))
    best, owner = np.zeros(len(rows), np.uint64), np.zeros(len(rows), np.int64)
    for index, name in enumerate(names):
        key = np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))
        weight = _mix(rows ^ key)
        larger = weight > best
        best[larger], owner[larger] = weight[larger], index
    return owner


# What runs where the files are


class _Want(NamedTuple):
    """The file that a task is for, and what it must hold at least."""

    folder: str
    collection: str
    name: str
    generation: int
    written: int
    preload: bool


class _Opened(NamedTuple):
    connection: Any
    table: Table
    identity: Tuple[int, int]


_lock = threading.Lock()
#: Connections that nobody uses now, by process and file.
_idle: Dict[Tuple[int, str], List[_Opened]] = {}


def _here(folder: str) -> str:
    root = os.environ.get(_ROOT)
    return os.path.join(root, os.path.basename(folder)) if root else folder


def _file(name: str) -> str:
    return f"shard-{name}.db"


def _path(want: _Want) -> str:
    return os.path.join(_here(want.folder), _file(want.name))


def _identity(path: str) -> Tuple[int, int]:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        raise _ElsewhereError(f"there is no {path}") from None
    return stat.st_dev, stat.st_ino


def _open(path: str) -> Any:
    return connected(path, isolation_level=None, timeout=60)


@contextmanager
def _borrowed(want: _Want) -> Iterator[_Opened]:
    """A connection of this process to the file, which is that of the path now: a file may be replaced by another one."""
    path = _path(want)
    identity = _identity(path)
    with _lock:
        kept = _idle.setdefault((os.getpid(), path), [])
        old = [each for each in kept if each.identity != identity]
        kept[:] = [each for each in kept if each.identity == identity]
        opened = kept.pop() if kept else None
    for each in old:
        each.connection.close()
    if opened is None:
        connection = _open(path)
        try:
            if created(connection, _TABLE) is None or identity != _identity(path):
                raise _ElsewhereError(f"{path} is being replaced, or is no shard")
            opened = _Opened(connection, Table(connection, _TABLE), identity)
            if want.preload:
                opened.table.command("preload")
        except BaseException:
            connection.close()
            raise
    try:
        yield opened
    except BaseException:
        opened.connection.close()  # with the transaction that may be open
        raise
    with _lock:
        _idle.setdefault((os.getpid(), path), []).append(opened)


def _forget(folder: str) -> None:
    """Closes what is open and not in use."""
    with _lock:
        found = [key for key in _idle if key[0] == os.getpid() and os.path.dirname(key[1]) == _here(folder)]
        opened = [each for key in found for each in _idle.pop(key)]
    for each in opened:
        each.connection.close()


def _present(folder: str) -> Set[str]:
    """The files that this worker has."""
    try:
        return set(os.listdir(_here(folder)))
    except FileNotFoundError:
        return set()


def _state(connection: Any, want: _Want) -> Tuple[int, int, bytes]:
    """The highest token the shard has seen, that of its last write, and what that gave; an error if this is another file."""
    found = fetched(connection, "SELECT collection, name, generation, seen, written, result FROM shard")[0]
    if found[:3] != (want.collection, want.name, want.generation):
        raise _ElsewhereError(f"{_path(want)} is shard {found[1]} of collection {found[0]}, generation {found[2]}, not {want[1:4]}")
    if found[4] < want.written:
        raise _ElsewhereError(f"{_path(want)} was last written by step {found[4]}, it lacks that of {want.written}")
    return found[3], found[4], found[5]


def _there(table: Table, ids: NDArray[np.int64], columns: Sequence[str] = ()) -> List[Tuple[Any, ...]]:
    """Of these rows those that exist, with their columns."""
    names = ", ".join(["rowid", *map(quoted, columns)])
    sql = f"SELECT {names} FROM {table._table} WHERE rowid IN (SELECT value FROM json_each(?)) ORDER BY rowid"
    return fetched(table.connection, sql, (json.dumps(ids.tolist()),))


def _rowids(table: Table, first: int, limit: int) -> NDArray[np.int64]:
    rows = fetched(table.connection, f"SELECT rowid FROM {table._table} WHERE rowid >= ? ORDER BY rowid LIMIT ?", (first, limit))
    return np.array([row[0] for row in rows], np.int64)


def _search(table: Table, queries: Any, k: Optional[int], keywords: Dict[str, Any]) -> Tuple[Any, Any]:
    return tuple(table.search(queries, k, **keywords))  # type: ignore[return-value]


def _batch(table: Table, names: Sequence[str], destination: int, cursor: int, size: int) -> Tuple[Any, ...]:
    """The next rows, `size` at most, that another shard is to have: their ids, vectors and other columns; how many rows were
    looked at, and where to go on, None at the end.
    """
    looked, found, goes_on, some = 0, np.zeros(0, np.int64), True, size * len(names)
    while goes_on and len(found) < size and looked < 50 * size:
        ids = _rowids(table, cursor, some)
        leaving = ids[placement(ids, names) == destination]
        goes_on = len(ids) == some
        if len(found) + len(leaving) > size:
            leaving = leaving[: size - len(found)]
            ids, goes_on = ids[ids <= leaving[-1]], True
        found, looked = np.concatenate([found, leaving]), looked + len(ids)
        if goes_on:
            goes_on = int(ids[-1]) < _LAST
            cursor = int(ids[-1]) + 1
    others = [name for name in table.columns if name != table.column]
    rows = _there(table, found, [table.column, *others])
    vectors = _vectors.decode([row[1] for row in rows], table.element).reshape(len(rows), table.dim)
    metadata = {name: [row[2 + at] for row in rows] for at, name in enumerate(others)}
    return found, vectors, metadata, looked, cursor if goes_on else None


def _check(table: Table, names: Sequence[str], name: str) -> List[int]:
    """Checks a shard, and gives the rows that do not belong to it."""
    table.check()
    first, wrong = _FIRST, []
    while True:
        ids = _rowids(table, first, 100_000)
        wrong += ids[placement(ids, names) != names.index(name)].tolist()
        if len(ids) < 100_000 or ids[-1] == _LAST:
            return wrong
        first = int(ids[-1]) + 1


def _add(table: Table, ids: Any, vectors: Any, metadata: Mapping[str, Any], only: Any = None) -> NDArray[np.int64]:
    """Puts rows; those of `only` in the place of such that exist, and gives back which of these do not."""
    absent = np.zeros(0, np.int64)
    if only is not None:
        there = np.array([row[0] for row in _there(table, ids[only])], np.int64)
        skipped = only & ~np.isin(ids, there)
        absent, kept = ids[skipped], np.flatnonzero(~skipped)
        ids, vectors, metadata = ids[kept], vectors[kept], _taken(metadata, kept)
    table.add(vectors, ids, metadata, replace=True)
    return absent


def _delete(table: Table, ids: Any) -> NDArray[np.int64]:
    return np.array([table.delete(ids)], np.int64)


def _call(table: Table, method: str, keywords: Dict[str, Any]) -> NDArray[np.int64]:
    getattr(table, method)(**keywords)
    return np.zeros(0, np.int64)


def _taken(metadata: Mapping[str, Any], index: NDArray[Any]) -> Dict[str, Any]:
    places = index.tolist()
    return {name: [values[place] for place in places] for name, values in metadata.items()}


_READS: Dict[str, Callable[..., Any]] = {
    "search": _search, "read": _there, "batch": _batch, "length": len, "stats": Table.stats, "check": _check,
}  # fmt: skip
_WRITES: Dict[str, Callable[..., NDArray[np.int64]]] = {"add": _add, "delete": _delete, "call": _call}


def _run(want: _Want, operation: str, args: Tuple[Any, ...]) -> Any:
    """What a worker does: all of it in one transaction of the shard."""
    if operation in ("create", "restore"):
        return (_create if operation == "create" else _restore)(want, *args)
    with _borrowed(want) as (connection, table, _):
        if operation == "copy":
            _state(connection, want)
            return _copy(connection, _file(want.name), *args)
        if operation in _READS:
            fetched(connection, "BEGIN")
            _state(connection, want)
            answer = _READS[operation](table, *args)
            fetched(connection, "COMMIT")
            return answer
        token, *rest = args
        with transaction(connection):
            seen, written, result = _state(connection, want)
            if token < seen:
                raise FencedError(f"shard {want.name} has seen step {seen} of a later writer, and refuses step {token}")
            if operation == "fence":
                fetched(connection, "UPDATE shard SET seen = ?", (token,))
                return None
            if token != written:  # else the task was run before, and its answer was lost
                result = _WRITES[operation](table, *rest).tobytes()
                fetched(connection, "UPDATE shard SET seen = ?1, written = ?1, result = ?2", (token, result))
        return np.frombuffer(result, np.int64)


class _Server:
    """What runs operations in a worker, several at once."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(32, "shards")

    async def run(self, function: Callable[..., Any], args: Tuple[Any, ...]) -> Tuple[Any, Optional[Exception]]:
        """An answer, or its error. What is raised instead is of the way here."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args), None
        except Exception as error:
            return None, error


def _durable(path: str) -> None:
    """What was written and renamed is on the disk."""
    for each in (path, os.path.dirname(path)):
        if os.path.isdir(each) and os.name == "nt":
            continue
        descriptor = os.open(each, os.O_RDONLY if os.path.isdir(each) else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _put(temporary: str, path: str) -> None:
    """Puts a closed database in the place of another one."""
    _durable(temporary)
    for suffix in ("-wal", "-shm", "-journal"):  # of the one that was there: SQLite would take them for its own
        if os.path.exists(path + suffix):
            os.remove(path + suffix)
    os.replace(temporary, path)
    _durable(path)


def _beside(path: str) -> str:
    return f"{path}.{uuid.uuid4().hex[:12]}.tmp"


def _create(want: _Want, sql: str, settings: Dict[str, Any]) -> None:
    path = _path(want)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.exists(path):
        # By a task that was repeated, or of an `add_shard` that ended before it began to move rows.
        with _borrowed(want) as (connection, table, _):
            _state(connection, want)
            if len(table):
                raise FileExistsError(f"{path} has rows already")
        return
    temporary = _beside(path)
    try:
        connection = _open(temporary)
        try:
            fetched(connection, "PRAGMA journal_mode = WAL")
            with transaction(connection):
                fetched(connection, sql)
                if settings:
                    Table(connection, _TABLE).set(**settings)
                names = "collection TEXT, name TEXT, generation INTEGER, seen INTEGER, written INTEGER, result BLOB"
                fetched(connection, f"CREATE TABLE shard({names})")
                values = (want.collection, want.name, want.generation)
                fetched(connection, "INSERT INTO shard VALUES (?, ?, ?, 0, 0, x'')", values)
        finally:
            connection.close()
        _durable(temporary)
        # Never in the place of a file: one that a task made which was taken for lost may have rows already.
        (os.rename if os.name == "nt" else os.link)(temporary, path)
        _durable(path)
    except FileExistsError:
        _create(want, sql, settings)
    finally:
        _removed(temporary)


def _removed(temporary: str) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        if os.path.exists(temporary + suffix):
            os.remove(temporary + suffix)


def _copy(connection: Any, file: str, copies: str) -> None:
    os.makedirs(copies, exist_ok=True)
    path = os.path.join(copies, file)
    temporary = _beside(path)
    try:
        fetched(connection, "VACUUM INTO ?", (temporary,))  # as the backup API, and every package has it
        _put(temporary, path)
    finally:
        _removed(temporary)


def _restore(want: _Want, copies: Optional[str], fetch: Optional[Callable[[str, str], None]], stale: bool) -> int:
    """Puts a copy in the place of a lost file, under the next generation; the token of the copy's last write."""
    path = _path(want)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = _beside(path)
    try:
        if fetch is not None:
            fetch(want.name, temporary)
        elif copies is None:
            raise ShardLostError("there are no copies: Shards.open(..., copies=FOLDER)")
        else:
            shutil.copyfile(os.path.join(copies, _file(want.name)), temporary)
        connection = _open(temporary)
        try:
            found = fetched(connection, "SELECT collection, name, written FROM shard")[0]
            if found[:2] != want[1:3]:
                raise ShardLostError(f"the copy is shard {found[1]} of collection {found[0]}, not {want.name} of {want.collection}")
            if found[2] < want.written and not stale:
                raise ShardLostError(
                    f"the copy of shard {want.name} is of step {found[2]}, it lacks writes up to step {want.written}: "
                    f"restore({want.name!r}, stale=True) does without them"
                )
            fetched(connection, "PRAGMA journal_mode = WAL")
            fetched(connection, "UPDATE shard SET generation = ?", (want.generation + 1,))
        finally:
            connection.close()
        _put(temporary, path)
        return int(found[2])
    finally:
        _removed(temporary)


# The collection


class _Layout(NamedTuple):
    """The shards now. While rows move to one of them, `moving` is its name."""

    version: int
    shards: Dict[str, Tuple[int, int]]
    moving: Optional[str]

    @property
    def names(self) -> List[str]:
        return list(self.shards)

    @property
    def old(self) -> List[str]:
        """Those that rows move from."""
        return [name for name in self.shards if name != self.moving]


#: For each shard an operation and its arguments.
Calls = Mapping[str, Tuple[Any, ...]]


class _Told:
    """Tells a callback how far a command is."""

    def __init__(self, command: str, stage: str, total: Optional[int], progress: Union[bool, Callback, None]) -> None:
        self.bar = Bar() if progress is True else None
        self.callback: Optional[Callback] = self.bar if self.bar is not None else progress or None  # type: ignore[assignment]
        self.command, self.stage, self.total, self.began, self.done = command, stage, total, time.monotonic(), 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def more(self, done: int) -> None:
        """So much more is done. An error if the callback says that it is enough."""
        self.done += done
        if self.callback is not None:
            fraction = None if self.total is None else self.done / max(self.total, 1)
            now = Progress(self.command, self.stage, self.done, self.total, fraction, time.monotonic() - self.began)
            if self.callback(now) is False:
                raise InterruptedError(f"{self.command} was interrupted: {self.done} of {self.total} {self.stage} are done")


class _Writer:
    """The one that writes now. Its steps are ordered, and a shard takes no step after a later one."""

    def __init__(self, shards: Shards, epoch: int, layout: _Layout) -> None:
        self.shards, self.layout, self.step = shards, layout, epoch << _STEP_BITS
        self.written: Dict[str, int] = {}

    def write(self, calls: Calls, told: Optional[_Told] = None) -> Dict[str, Any]:
        """Writes in parallel, one transaction in each shard."""
        self.step += 1
        step = self.step
        stepped = {name: (operation, step, *args) for name, (operation, *args) in calls.items()}

        def done(name: str) -> None:
            self.written[name] = step
            if told is not None:
                told.more(1)

        return self.shards._all(stepped, self, done)


class Shards:
    """A collection of vectors in several SQLite files.

    Rows are known by their ids, whose hash says in which shard each is. Every write replaces what has the id, so that it may be
    repeated. A write is all or nothing in each shard, not over all of them; one writer at a time writes. A search asks all
    shards at once and merges their answers by distance and id.
    """

    def __init__(
        self,
        path: Union[str, os.PathLike[str]],
        client: Any = None,
        *,
        copies: Union[str, os.PathLike[str], None] = None,
        fetch: Optional[Callable[[str, str], None]] = None,
        timeout: float = 60.0,
        restore_after: float = 5.0,
        preload: bool = True,
    ) -> None:
        """Opens a collection, as `open`."""
        self.path = os.path.abspath(os.fspath(path))
        catalogue = os.path.join(self.path, "catalogue.db")
        if not os.path.exists(catalogue):
            raise FileNotFoundError(f"there is no collection in {self.path}: Shards.create(path, n, dim) makes one")
        if client is not None and (not hasattr(client, "scheduler_info") or getattr(client, "asynchronous", False)):
            raise TypeError(f"client is a distributed.Client that is not asynchronous, got {client!r}")
        self.client = client
        self.copies = None if copies is None else os.path.abspath(os.fspath(copies))
        self.fetch, self.timeout, self.restore_after, self.preload = fetch, timeout, restore_after, preload
        self._catalogue = connected(catalogue, isolation_level=None, timeout=timeout)
        self._reading = threading.Lock()
        self._lock = connected(os.path.join(self.path, "lock.db"), isolation_level=None, timeout=0)
        fetched(self._lock, "PRAGMA busy_timeout = 0")
        self._mutex = threading.RLock()
        self._pool = ThreadPoolExecutor(64, "shards")
        form, self.collection, self._sql, self._model = self._ask_catalogue("SELECT format, collection, sql, model FROM state")[0]
        if form != _FORMAT:
            raise ValueError(f"{catalogue} is of format {form}, this version reads {_FORMAT}")
        # An empty table of the same kind: it knows the columns and reads vectors as the shards' tables do.
        memory = connect()
        fetched(memory, self._sql)
        self._kind = Table(memory, _TABLE, model=self._model)
        self._workers, self._starting = threading.RLock(), threading.Lock()
        self._servers: Dict[str, Any] = {}
        self._sees: Dict[str, Set[str]] = {}
        self._chosen: Dict[str, str] = {}
        self._looked = float("-inf")

    @classmethod
    def create(
        cls,
        path: Union[str, os.PathLike[str]],
        n: int,
        dim: int,
        *,
        client: Any = None,
        metric: Optional[str] = None,
        element: str = "float32",
        columns: Optional[Mapping[str, str]] = None,
        model: Optional[str] = None,
        copies: Union[str, os.PathLike[str], None] = None,
        fetch: Optional[Callable[[str, str], None]] = None,
        timeout: float = 60.0,
        restore_after: float = 5.0,
        preload: bool = True,
        **options: Unpack[Options],
    ) -> Self:
        """Creates a collection of `n` shards in a folder, and opens it: `metric` to `options` are those of `Table.create`, the
        others those of `open`.
        """
        if n < 1:
            raise ValueError(f"a collection has 1 shard or more, got {n}")
        if "content" in options or any("PRIMARY KEY" in " ".join(kind.upper().split()) for kind in (columns or {}).values()):
            raise ValueError("rows of shards are known by their ids: there is no PRIMARY KEY column and no content table")
        where = os.path.abspath(os.fspath(path))
        catalogue = os.path.join(where, "catalogue.db")
        if os.path.exists(catalogue):
            raise FileExistsError(f"there is a collection in {where} already: Shards.open(path) opens it")
        kind = Table.create(connect(), _TABLE, dim, metric=metric, element=element, columns=columns, model=model, **options)
        os.makedirs(where, exist_ok=True)
        temporary = _beside(catalogue)
        connection = connected(temporary, isolation_level=None)
        try:
            fetched(connection, "PRAGMA journal_mode = WAL")
            with transaction(connection):
                fetched(
                    connection,
                    "CREATE TABLE state(format INTEGER, collection TEXT, sql TEXT, model TEXT, settings TEXT, epoch INTEGER, "
                    "unclean INTEGER, next_id INTEGER, version INTEGER, moving TEXT, batch_from TEXT, batch BLOB)",
                )
                fetched(
                    connection,
                    "INSERT INTO state VALUES (?, ?, ?, ?, '{}', 0, 0, 1, 0, NULL, NULL, NULL)",
                    (_FORMAT, uuid.uuid4().hex, kind.created, model),
                )
                # cursor: from which row on a shard has still to be looked through for rows that move, NULL if none.
                names = "number INTEGER PRIMARY KEY, name TEXT UNIQUE, generation INTEGER, written INTEGER, cursor INTEGER"
                fetched(connection, f"CREATE TABLE shards({names})")
        finally:
            connection.close()
        os.replace(temporary, catalogue)
        shards = cls(where, client, copies=copies, fetch=fetch, timeout=timeout, restore_after=restore_after, preload=preload)
        try:
            with shards._writing():
                for number in range(n):
                    shards._made(number)
                with transaction(shards._catalogue):
                    for number in range(n):
                        fetched(shards._catalogue, "INSERT INTO shards VALUES (?, ?, 1, 0, NULL)", (number, str(number)))
        except BaseException:
            shards.close()
            os.remove(catalogue)
            raise
        return shards

    @classmethod
    def open(cls, path: Union[str, os.PathLike[str]], client: Any = None, **keywords: Any) -> Self:
        """Opens a collection.

        `client` is a `distributed.Client`, whose workers find the files under the same path (or in the folder that their
        environment variable SQLITE_IVF_SHARDS names, under the last part of the path); None runs everything on threads of this
        process. `copies` is a folder that all workers see, for `copy` and `restore`; `fetch(name, path)`, run on a worker, brings
        the copy of a shard from elsewhere instead. `timeout` is how many seconds a writer waits for another one, and a
        search for workers. A shard that no worker has is restored after `restore_after` seconds. `preload` reads the lists of a
        shard when a process opens it.
        """
        return cls(path, client, **keywords)

    def __repr__(self) -> str:
        layout = self._layout()
        moving = f", rows move to {layout.moving}" if layout.moving else ""
        return f"<sqlite_ivf.Shards {self.path!r}: {len(layout.shards)} shards of {self._kind.element}[{self._kind.dim}]{moving}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], value: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files, also in the workers."""
        self._pool.shutdown()
        _forget(self.path)
        if self.client is not None and getattr(self.client, "status", "") == "running":
            self._everywhere(self._living(), _forget, self.path)
            self._servers.clear()
        for connection in (self._catalogue, self._lock, self._kind.connection):
            connection.close()

    # The catalogue

    def _ask_catalogue(self, sql: str, values: Sequence[Any] = ()) -> List[Tuple[Any, ...]]:
        with self._reading:
            return fetched(self._catalogue, sql, values)

    @contextmanager
    def _changing(self) -> Iterator[Any]:
        """A transaction of the catalogue."""
        with self._reading, transaction(self._catalogue):
            yield self._catalogue

    def _layout(self) -> _Layout:
        rows = self._ask_catalogue(
            "SELECT version, moving, name, generation, written FROM state LEFT JOIN shards ON true ORDER BY number"
        )
        shards = {name: (generation, written) for _, _, name, generation, written in rows if name is not None}
        return _Layout(rows[0][0], shards, rows[0][1])

    @contextmanager
    def _writing(self, before: Optional[Callable[[_Writer], None]] = None) -> Iterator[_Writer]:
        """The lock of all writers, of all processes: it is that of a file, which goes with the process that holds it.

        The epoch is committed before anything is written with it. A writer that did not come to its end leaves `unclean`; then
        tasks of it may be under way. The next one fences all shards against them, and ends the batch that was moving; `before`
        is called before that.
        """
        with self._mutex:
            deadline = time.monotonic() + self.timeout
            while True:
                try:
                    fetched(self._lock, "BEGIN EXCLUSIVE")
                    break
                except Exception as error:
                    if "locked" not in str(error).lower():
                        raise
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"another writer has held {self.path} for {self.timeout} seconds") from error
                time.sleep(0.005)  # oftener than SQLite would try again: see `finish_move`
            try:
                with self._changing() as catalogue:
                    epoch, unclean = fetched(catalogue, "SELECT epoch + 1, unclean FROM state")[0]
                    fetched(catalogue, "UPDATE state SET epoch = ?, unclean = 1", (epoch,))
                writer = _Writer(self, epoch, self._layout())
                clean = 1
                try:
                    if before is not None:
                        before(writer)
                    if unclean:
                        self._recover(writer)
                    yield writer
                    clean = 0
                finally:
                    with self._changing() as catalogue:
                        for name, step in writer.written.items():
                            fetched(catalogue, "UPDATE shards SET written = ? WHERE name = ?", (step, name))
                        fetched(catalogue, "UPDATE state SET unclean = ?", (clean,))
            finally:
                fetched(self._lock, "ROLLBACK")

    def _recover(self, writer: _Writer) -> None:
        self._all({name: ("fence", writer.step) for name in writer.layout.shards}, writer)
        source, batch = self._ask_catalogue("SELECT batch_from, batch FROM state")[0]
        if source is not None:
            moving = str(writer.layout.moving)
            arrived = self._all({moving: ("read", np.frombuffer(batch, np.int64), ())}, writer)[moving]
            self._leave(writer, source, np.array([row[0] for row in arrived], np.int64))

    # Workers

    def _want(self, name: str, layout: Optional[_Layout] = None) -> _Want:
        generation, written = (layout or self._layout()).shards.get(name, (1, 0))
        return _Want(self.path, self.collection, name, generation, written, self.preload)

    def _all(self, calls: Calls, writer: Optional[_Writer] = None, done: Optional[Callable[[str], None]] = None) -> Dict[str, Any]:
        """Runs an operation in several shards at once. A shard whose file is nowhere is restored first.

        All have ended when this ends, also where one of them is an error.
        """
        answers: Dict[str, Any] = {}
        failures: List[Exception] = []

        def take(name: str, answer: Callable[[], Any]) -> None:
            try:
                answers[name] = answer()
                if done is not None:
                    done(name)
            except (_DiedError, _ElsewhereError):
                raise
            except Exception as error:
                failures.append(error)

        while calls and not failures:
            layout = self._layout()
            wants = {name: self._want(name, layout) for name in calls}
            # Where all is as it was last time, this thread asks everybody and waits: others would cost more than they do.
            sent = {} if self.client is None else self._sent_all(wants, calls)
            left = [name for name in calls if name not in sent]
            for name, (address, future) in sent.items():
                try:
                    take(name, partial(self._answer, address, future))
                except (_DiedError, _ElsewhereError):
                    left.append(name)
            asked = {name: self._pool.submit(self._ask, wants[name], calls[name]) for name in left}
            lost: Dict[str, str] = {}
            for name, waiting in asked.items():
                try:
                    take(name, waiting.result)
                except _ElsewhereError as error:
                    lost[name] = str(error)
            for name, why in lost.items() if not failures else ():
                try:
                    if writer is not None:
                        self._restored(writer, name, wants[name].generation)
                    else:
                        with self._writing() as own:
                            self._restored(own, name, wants[name].generation)
                except (ShardLostError, OSError) as error:
                    raise ShardLostError(f"shard {name}: {why}; {error}") from error
            calls = {name: calls[name] for name in lost}
        if failures:
            raise failures[0]
        return answers

    def _sent_all(self, wants: Mapping[str, _Want], calls: Calls) -> Dict[str, Tuple[str, Any]]:
        """The operations on their way to workers, with the address of each; not those without a worker."""
        sent = {}
        for name, (operation, *args) in calls.items():
            with suppress(_DiedError):
                address = self._worker(name, {})
                if address is not None:
                    sent[name] = address, self._sent(address, _run, wants[name], operation, tuple(args))
        return sent

    def _ask(self, want: _Want, call: Tuple[Any, ...]) -> Any:
        """Runs an operation where the shard is; `_ElsewhereError` if that is nowhere."""
        name, (operation, *args) = want.name, call
        if self.client is None:
            return _run(want, operation, tuple(args))
        refused: Dict[str, str] = {}
        began = time.monotonic()
        deaths = 0
        while True:
            address = self._worker(name, refused)
            if address is None:
                waited = time.monotonic() - began
                if not self._sees and waited > self.timeout:
                    raise TimeoutError(f"shard {name}: there has been no worker for {self.timeout} seconds")
                if self._sees and waited > self.restore_after:
                    raise _ElsewhereError("; ".join(refused.values()) or f"none of {len(self._sees)} workers has {_file(name)}")
                time.sleep(0.1)
                refused = {}
                self._look()
                continue
            try:
                return self._on(address, self._want(name), operation, tuple(args))
            except _ElsewhereError as error:
                refused[address] = str(error)
                with self._workers:
                    self._sees.get(address, set()).discard(_file(name))
            except _DiedError as error:
                deaths += 1
                if deaths > 10:
                    raise RuntimeError(f"shard {name}: {deaths} workers died one after the other in {operation!r}") from error
                began = time.monotonic()
                self._look()

    def _server(self, address: str) -> Any:
        """The actor of a worker: calls of it go past the scheduler's queues of tasks, at a third of the cost."""
        import distributed  # is there: the client is of it

        with self._starting:
            if address in self._servers:
                return self._servers[address]
            # On no other worker, which may not have the file. What is bound to one that is gone waits for ever.
            future = self.client.submit(_Server, actor=True, workers=[address], allow_other_workers=False, pure=False)
            ended = threading.Event()
            future.add_done_callback(lambda _: ended.set())
            while not ended.wait(0.2):
                if address not in self._living():
                    break
            if future.status == "error" and not isinstance(future.exception(timeout=5), distributed.KilledWorker):
                raise future.exception(timeout=5)  # sqlite_ivf is not there, say
            if future.status != "finished":
                future.release()
                raise _DiedError(f"worker {address} is gone")
            with self.client.as_current():  # an actor takes the client that is current, and not the one of its future
                self._servers[address] = distributed.Actor(_Server, address, future.key)
            return self._servers[address]

    def _sent(self, address: str, function: Callable[..., Any], *args: Any) -> Any:
        """What will be the answer of a worker."""
        try:
            return self._server(address).run(function, args)
        except RuntimeError as error:  # of the actor: it is lost
            raise self._gone(address, error) from error

    def _gone(self, address: str, error: BaseException) -> _DiedError:
        with self._starting:
            self._servers.pop(address, None)
        return _DiedError(f"worker {address} is gone: {error}")

    def _answer(self, address: str, future: Any) -> Any:
        """What a worker answers, or raises. One that dies may leave its answer open for ever: hence the looks at who is there."""
        ended = False
        while True:
            try:
                answer, error = future.result(timeout=0.2)
                break
            except (TimeoutError, asyncio.TimeoutError) as late:
                if ended or (not future.done() and address not in self._living()):
                    raise self._gone(address, late) from None
                ended = future.done()  # if it was this moment, the answer is there now
            except (OSError, KeyError, RuntimeError, _Cancelled, asyncio.CancelledError) as error:
                raise self._gone(address, error) from error
        if error is not None:
            raise error
        return answer

    def _on(self, address: str, want: _Want, operation: str, args: Tuple[Any, ...]) -> Any:
        return self._answer(address, self._sent(address, _run, want, operation, args))

    def _everywhere(self, addresses: Set[str], function: Callable[..., Any], *args: Any) -> Dict[str, Any]:
        """What each of these workers answers. Not by `Client.run`, which waits half a minute for one that has just died."""
        futures, answers = {}, {}
        for address in sorted(addresses):
            with suppress(_DiedError):
                futures[address] = self._sent(address, function, *args)
        for address, future in futures.items():
            with suppress(_DiedError):
                answers[address] = self._answer(address, future)
        return answers

    def _living(self) -> Set[str]:
        return set(self.client.scheduler_info()["workers"])

    def _look(self) -> None:
        """Asks who is there and has which files, and spreads the shards among them. Who has a shard keeps it if it can, so that its
        lists stay in memory once.
        """
        with self._workers:
            if time.monotonic() - self._looked < 0.05:
                return
            living = self._living()
            if living != set(self._sees) or any(name not in self._chosen for name in self._layout().shards):
                self._sees = self._everywhere(living, _present, self.path)
                self._chosen = {name: address for name, address in self._chosen.items() if address in self._sees}
                for name, address in self._chosen.items():
                    other = self._idlest(_file(name))
                    if other is not None and self._load(address) - self._load(other) > 1:
                        self._chosen[name] = other
            self._looked = time.monotonic()

    def _load(self, address: str) -> int:
        return sum(chosen == address for chosen in self._chosen.values())

    def _idlest(self, file: Optional[str] = None, refused: Mapping[str, str] = {}) -> Optional[str]:
        """The worker with the fewest shards, of those that have a file."""
        having = [each for each, files in self._sees.items() if (file is None or file in files) and each not in refused]
        return min(having, key=lambda each: (self._load(each), each), default=None)

    def _worker(self, name: str, refused: Mapping[str, str]) -> Optional[str]:
        """The worker for a shard: the one of last time, or of those that have its file the one with the fewest shards."""
        with self._workers:
            if time.monotonic() - self._looked > 5:
                self._look()
            address = self._chosen.get(name)
            if address is None or address in refused:
                self._chosen.pop(name, None)
                address = self._idlest(_file(name), refused)
                if address is not None:
                    self._chosen[name] = address
            return address

    def _anywhere(self, want: _Want, operation: str, *args: Any) -> Any:
        """Runs an operation that makes a file, on the worker with the fewest shards."""
        if self.client is None:
            return _run(want, operation, args)
        deadline = time.monotonic() + self.timeout
        while True:
            with self._workers:
                self._look()
                address = self._idlest()
            if address is not None:
                try:
                    answer = self._on(address, want, operation, args)
                    with self._workers:
                        self._sees.setdefault(address, set()).add(_file(want.name))
                        self._chosen[want.name] = address
                    return answer
                except _DiedError:
                    pass
            if time.monotonic() > deadline:
                raise TimeoutError(f"shard {want.name}: no worker could {operation} it for {self.timeout} seconds")
            time.sleep(0.1)

    def _made(self, number: int) -> None:
        settings = json.loads(self._ask_catalogue("SELECT settings FROM state")[0][0])
        want = _Want(self.path, self.collection, str(number), 1, 0, False)
        self._anywhere(want, "create", self._sql, settings)

    def _restored(self, writer: _Writer, name: str, generation: int, stale: bool = False) -> None:
        want = self._want(name)
        if want.generation != generation:
            return  # another one has restored it meanwhile
        written = self._anywhere(want, "restore", self.copies, self.fetch, stale)
        with self._changing() as catalogue:
            fetched(catalogue, "UPDATE shards SET generation = ?, written = ? WHERE name = ?", (generation + 1, written, name))

    # Writing

    def _numbers(self, given: Any) -> Tuple[NDArray[Any], bool]:
        """Vectors as a worker's table takes them, in as few bytes; and whether it was one that is not in a list."""
        matrix, single = self._kind._matrix(given)
        if self._kind.element in ("bfloat16", "bit"):
            numbers = _vectors.as_array(given)
            matrix = numbers.reshape(-1, self._kind.dim).astype(np.uint8 if self._kind.element == "bit" else np.float32)
        return matrix, single

    def insert(
        self,
        vectors: Any,
        ids: Any = None,
        metadata: Optional[Mapping[str, Any]] = None,
        *,
        progress: Union[bool, Callback, None] = None,
    ) -> NDArray[np.int64]:
        """Inserts rows, or replaces those with these ids, and gives the ids: the next free ones unless given.

        It goes on in batches of some MB, between which others may write. In each shard a batch is one transaction. After an
        error some of the rows may be there: inserting them again, with their ids, is safe. `progress` is True for a bar of tqdm,
        or a function that is called with a `Progress` after each batch, and ends the call by giving False.
        """
        matrix, _ = self._numbers(vectors)
        columns = {name: _values(values) for name, values in (metadata or {}).items()}
        for name, values in {**columns, **({} if ids is None else {"ids": ids})}.items():
            if len(values) != len(matrix):
                raise ValueError(f"{name}: {len(values)} values for {len(matrix)} vectors")
        for name in columns:
            if name not in self._kind.columns or name == self._kind.column:
                others = [each for each in self._kind.columns if each != self._kind.column]
                raise ValueError(f"there is no column {name!r} beside the vector, there are {others}")
        count = len(matrix)
        if ids is None:
            with self._writing(), self._changing() as catalogue:
                first = fetched(catalogue, "SELECT next_id FROM state")[0][0]
                if first + count > _LAST:
                    raise ValueError(f"the largest id is {first - 1}: there are no free ones after it, give the ids")
                fetched(catalogue, "UPDATE state SET next_id = ?", (first + count,))
            rowids = np.arange(first, first + count)
        else:
            rowids = np.asarray(ids).astype(np.int64, casting="safe") if count else np.zeros(0, np.int64)
        # A task has the rows of one shard: a batch may be larger by their number.
        size = max(1, _TASK_BYTES * len(self._layout().shards) // (matrix.itemsize * self._kind.dim + 64 * (1 + len(columns))))
        with _Told("insert", "rows", count, progress) as told:
            for start in range(0, count, size):
                some = slice(start, start + size)
                with self._writing() as writer:
                    if ids is not None:
                        following = min(int(rowids[some].max()) + 1, _LAST)
                        with self._changing() as catalogue:
                            fetched(catalogue, "UPDATE state SET next_id = max(next_id, ?)", (following,))
                    self._put_rows(writer, rowids[some], matrix[some], {name: values[some] for name, values in columns.items()})
                told.more(len(rowids[some]))
        return rowids

    def _put_rows(self, writer: _Writer, ids: NDArray[np.int64], matrix: NDArray[Any], metadata: Dict[str, Any]) -> None:
        layout = writer.layout
        owner = placement(ids, layout.old)
        only = None
        if layout.moving is not None:
            # A row that has still to move is replaced where it is: in one transaction, so that no search sees it twice or not
            # at all. The others, new or moved, go to the new shard.
            only = placement(ids, layout.names) == layout.names.index(layout.moving)
        calls: Dict[str, Tuple[Any, ...]] = {}
        for index, name in enumerate(layout.old):
            rows = np.flatnonzero(owner == index)
            if len(rows):
                calls[name] = ("add", ids[rows], matrix[rows], _taken(metadata, rows), None if only is None else only[rows])
        absent = np.concatenate([np.zeros(0, np.int64), *writer.write(calls).values()])
        if len(absent):
            rows = np.flatnonzero(np.isin(ids, absent))
            writer.write({str(layout.moving): ("add", ids[rows], matrix[rows], _taken(metadata, rows))})

    def _route(self, layout: _Layout, ids: NDArray[np.int64]) -> Tuple[Dict[str, Any], Any]:
        """Which rows to look for in the old shards, and which in the one that rows move to."""
        owner = placement(ids, layout.old)
        routes = {name: ids[owner == index] for index, name in enumerate(layout.old)}
        moving = np.zeros(0, np.int64)
        if layout.moving is not None:
            moving = ids[placement(ids, layout.names) == layout.names.index(layout.moving)]
        return {name: rows for name, rows in routes.items() if len(rows)}, moving

    def delete(self, ids: Any) -> int:
        """Deletes rows; how many there were. An id without a row is no error."""
        rowids = np.asarray(_values(ids), np.int64)
        with self._writing() as writer:
            routes, moving = self._route(writer.layout, rowids)
            calls = {name: ("delete", rows) for name, rows in routes.items()}
            if len(moving):
                calls[str(writer.layout.moving)] = ("delete", moving)
            return int(sum(count[0] for count in writer.write(calls).values()))

    def _call_all(self, method: str, progress: Union[bool, Callback, None] = None, **keywords: Any) -> None:
        with self._writing() as writer, _Told(method, "shards", len(writer.layout.shards), progress) as told:
            writer.write({name: ("call", method, keywords) for name in writer.layout.shards}, told)

    def train(self, *, progress: Union[bool, Callback, None] = None, **keywords: Any) -> None:
        """Makes new lists in all shards at once: `nlist`, `seed` and `max_iterations` are those of `Table.train`, for each."""
        self._call_all("train", progress, **keywords)

    def optimize(self, progress: Union[bool, Callback, None] = None) -> None:
        """`Table.optimize` in all shards."""
        self._call_all("optimize", progress)

    def calibrate(self, queries: Any = None, progress: Union[bool, Callback, None] = None) -> None:
        """`Table.calibrate` in all shards."""
        self._call_all("calibrate", progress, queries=None if queries is None else self._numbers(queries)[0])

    def set(self, **settings: Unpack[Settings]) -> None:
        """Sets what searches do that do not say, in all shards and those to come."""
        with self._writing() as writer:
            with self._changing() as catalogue:
                kept = json.loads(fetched(catalogue, "SELECT settings FROM state")[0][0])
                fetched(catalogue, "UPDATE state SET settings = ?", (json.dumps({**kept, **settings}),))
            writer.write({name: ("call", "set", settings) for name in writer.layout.shards})

    # One more shard

    def add_shard(self, *, batch: int = 1000, progress: Union[bool, Callback, None] = None) -> str:
        """Makes one more shard and moves to it the rows that it is to have, one of n + 1 of each of the n others.

        At most `batch` rows move in a transaction. Searches go on and see every row once; others may write between batches. What
        does not come to its end, `finish_move` ends. Gives the name of the shard.
        """
        with self._writing() as writer:
            if writer.layout.moving is not None:
                raise RuntimeError(f"rows are still moving to shard {writer.layout.moving}: finish_move() moves the rest")
            number = self._ask_catalogue("SELECT max(number) + 1 FROM shards")[0][0]
            self._made(number)
            with self._changing() as catalogue:
                fetched(catalogue, "UPDATE shards SET cursor = ?", (_FIRST,))
                fetched(catalogue, "INSERT INTO shards VALUES (?, ?, 1, 0, NULL)", (number, str(number)))
                fetched(catalogue, "UPDATE state SET moving = ?, version = version + 1", (str(number),))
        self.finish_move(batch=batch, progress=progress)
        return str(number)

    def finish_move(self, *, batch: int = 1000, progress: Union[bool, Callback, None] = None) -> None:
        """Moves the rows that `add_shard` left; nothing if there are none."""
        if batch < 1:
            raise ValueError(f"a batch has 1 row or more, got {batch}")
        if self._layout().moving is None:
            return
        with _Told("add_shard", "rows", len(self) if progress else None, progress) as told:
            while True:
                with self._writing() as writer:
                    moving = writer.layout.moving
                    left = self._ask_catalogue("SELECT name, cursor FROM shards WHERE cursor NOT NULL ORDER BY number LIMIT 1")
                    if moving is None or not left:
                        with self._changing() as catalogue:
                            fetched(catalogue, "UPDATE state SET moving = NULL, version = version + (moving NOT NULL)")
                        return
                    began = time.monotonic()
                    looked = self._move(writer, moving, left[0][0], left[0][1], batch)
                told.more(looked)
                # The lock of a file has no queue: writers that wait have their turn here.
                time.sleep(max(0.02, (time.monotonic() - began) / 4))

    def _move(self, writer: _Writer, moving: str, source: str, cursor: int, batch: int) -> int:
        """Moves a batch: first it is written down, then it is in both shards, then in the new one. Gives how many rows it saw."""
        names = writer.layout.names
        call = ("batch", names, names.index(moving), cursor, batch)
        ids, vectors, metadata, looked, following = self._all({source: call}, writer)[source]
        if len(ids):
            with self._changing() as catalogue:
                fetched(catalogue, "UPDATE state SET batch_from = ?, batch = ?", (source, ids.tobytes()))
            writer.write({moving: ("add", ids, vectors, metadata)})
            self._leave(writer, source, ids)
        with self._changing() as catalogue:
            fetched(catalogue, "UPDATE shards SET cursor = ? WHERE name = ?", (following, source))
        return int(looked)

    def _leave(self, writer: _Writer, source: str, ids: NDArray[np.int64]) -> None:
        """Deletes the rows of a batch that have arrived."""
        if len(ids):
            writer.write({source: ("delete", ids)})
        with self._changing() as catalogue:
            fetched(catalogue, "UPDATE state SET batch_from = NULL, batch = NULL")

    # Reading

    def search(
        self,
        queries: Any,
        k: Optional[int] = 10,
        *,
        where: Where = None,
        values: Sequence[Any] = (),
        within: Optional[float] = None,
        model: Optional[str] = None,
        **settings: Unpack[Settings],
    ) -> Hits:
        """The `k` nearest rows of a query, or of each line of a matrix: arguments and answers are those of `Table.search`.

        Every shard answers for all queries, from one moment of its own, and the answers are merged by distance and id. With
        `nprobe=-1` they are those of one table with all rows. `nprobe`, `recall_target` and the other `settings` apply in each
        shard.
        """
        unknown = [name for name in settings if name not in SETTINGS]
        if unknown:
            raise TypeError(f"a search of shards has no {unknown[0]!r}; its settings are {', '.join(SETTINGS)}")
        if k is None and within is None:
            raise ValueError("a search has a k, or the largest distance in `within`")
        matrix, single = self._numbers(queries)
        keywords = {"where": where, "values": values, "within": within, "model": model or self._model, **settings}
        line = matrix.itemsize * self._kind.dim
        size = max(1, _TASK_BYTES // max(line, 16 * (k or 100)))
        parts = [self._found(matrix[start : start + size], k, keywords) for start in range(0, max(len(matrix), 1), size)]
        if len(parts) == 1:
            ids, distances = parts[0]
        else:
            width = max(part[0].shape[1] for part in parts)
            ids = np.concatenate([_padded(part[0], width, -1) for part in parts])
            distances = np.concatenate([_padded(part[1], width, np.inf) for part in parts])
        if single:
            found = _real(ids[0], distances[0])
            return Hits(ids[0][found], distances[0][found])
        return Hits(ids, distances)

    def _found(self, matrix: NDArray[Any], k: Optional[int], keywords: Dict[str, Any]) -> Tuple[NDArray[Any], NDArray[Any]]:
        while True:
            layout = self._layout()
            call = ("search", matrix, k, keywords)
            found = list(self._all({name: call for name in layout.old}).values())
            if layout.moving is not None:
                # After the others: a row that has left one of them before it was asked has arrived.
                found.append(self._all({layout.moving: call})[layout.moving])
            merged = _merged(found, k, layout.moving is not None)
            if merged is not None and self._layout().version == layout.version:
                return merged

    def get(self, ids: Any, *columns: str) -> List[Tuple[Any, ...]]:
        """Values of rows, a tuple for each id; an id without a row is an error."""
        wanted = _values(ids)
        known = ["rowid", *self._kind.columns]
        unknown = [name for name in columns if name not in known]
        if unknown:
            raise ValueError(f"there is no column {unknown[0]!r}, there are {known}")
        names = [name for name in columns if name != "rowid"]
        while True:
            layout = self._layout()
            routes, moving = self._route(layout, np.asarray(wanted, np.int64))
            rows = [row for each in self._all({n: ("read", r, names) for n, r in routes.items()}).values() for row in each]
            if len(moving):
                rows += self._all({str(layout.moving): ("read", moving, names)})[str(layout.moving)]
            if self._layout().version == layout.version:
                break
        found = {row[0]: dict(zip(["rowid", *names], row)) for row in rows}
        for rowid in wanted:
            if rowid not in found:
                raise LookupError(f"{self.path} has no row {rowid}")
        return [tuple(found[rowid][name] for name in columns) for rowid in wanted]

    def vectors(self, ids: Any) -> NDArray[Any]:
        """The vectors of rows as a matrix, as `Table.vectors` gives them."""
        rows = self.get(ids, self._kind.column)
        return _vectors.decode([row[0] for row in rows], self._kind.element).reshape(len(rows), self._kind.dim)

    def __len__(self) -> int:
        """How many rows: it waits for the writer, if there is one."""
        with self._writing() as writer:
            return int(sum(self._all({name: ("length",) for name in writer.layout.shards}, writer).values()))

    def stats(self) -> List[Dict[str, Any]]:
        """For each shard its name, file and worker, and `Table.stats`."""
        found = self._all({name: ("stats",) for name in self._layout().shards})
        return [{"shard": name, "file": _file(name), "worker": self._chosen.get(name), **stats} for name, stats in found.items()]

    def check(self) -> None:
        """Reads and compares all that is stored, as `Table.check`, and that every row is in its shard."""
        with self._writing() as writer:
            layout = writer.layout
            found = self._all({name: ("check", layout.names, name) for name in layout.shards}, writer)
            if layout.moving is not None:
                return  # rows that have still to move are where they should not stay
            wrong = {name: rows for name, rows in found.items() if rows}
            if wrong:
                name, rows = next(iter(wrong.items()))
                raise ValueError(f"shard {name} has {len(rows)} rows of other shards, the first is {rows[0]}")

    # Copies

    def copy(self, progress: Union[bool, Callback, None] = None) -> None:
        """Copies all shards and the catalogue into the folder `copies`, as of one moment: writers wait, searches do not."""
        if self.copies is None:
            raise ValueError("there is no folder for copies: Shards.open(..., copies=FOLDER)")
        with self._writing() as writer, _Told("copy", "shards", len(writer.layout.shards), progress) as told:
            calls = {name: ("copy", self.copies) for name in writer.layout.shards}
            self._all(calls, writer, lambda _: told.more(1))
            with self._reading:
                _copy(self._catalogue, "catalogue.db", self.copies)

    def restore(self, name: str, *, stale: bool = False) -> None:
        """Puts the copy of a shard in the place of its file, on the worker with the fewest shards.

        A copy that lacks writes which were acknowledged is refused, unless `stale`: then those rows are lost, and deleted rows
        are there again.
        """
        layout = self._layout()
        if name not in layout.shards:
            raise ValueError(f"there is no shard {name!r}, there are {layout.names}")

        def restored(writer: _Writer) -> None:
            if stale and writer.layout.moving is not None:
                raise RuntimeError(f"rows are moving to shard {writer.layout.moving}: only all copies together are of one moment")
            self._restored(writer, name, self._want(name).generation, stale)

        with self._writing(restored):
            pass


def _real(ids: NDArray[Any], distances: NDArray[Any]) -> NDArray[np.bool_]:
    """Which answers are none: lines with fewer than others end with id -1 and an infinite distance."""
    return (ids != -1) | np.isfinite(distances)  # type: ignore[no-any-return]


def _padded(array: NDArray[Any], width: int, value: float) -> NDArray[Any]:
    return np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=value)


def _merged(
    found: Sequence[Tuple[Any, Any]], k: Optional[int], moving: bool
) -> Optional[Tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """The nearest of all answers, by distance and id.

    While rows move, a row may be in the answers of two shards: once is enough. If it is there with two distances it was replaced
    between the two answers, and then neither of them is complete without the other: None.
    """
    ids = np.concatenate([each[0] for each in found], axis=1)
    distances = np.concatenate([each[1] for each in found], axis=1)
    order = np.lexsort((ids, distances), axis=1)
    ids, distances = np.take_along_axis(ids, order, 1), np.take_along_axis(distances, order, 1)
    if moving:
        by_id = np.argsort(ids, axis=1, kind="stable")  # of those with one id the nearest first
        sorted_ids, sorted_distances = np.take_along_axis(ids, by_id, 1), np.take_along_axis(distances, by_id, 1)
        again = (sorted_ids[:, 1:] == sorted_ids[:, :-1]) & _real(sorted_ids, sorted_distances)[:, 1:]
        if (again & (sorted_distances[:, 1:] != sorted_distances[:, :-1])).any():
            return None
        if again.any():
            line, place = np.nonzero(again)
            at = by_id[line, place + 1]
            ids[line, at], distances[line, at] = -1, np.inf
            order = np.lexsort((ids, distances), axis=1)
            ids, distances = np.take_along_axis(ids, order, 1), np.take_along_axis(distances, order, 1)
    width = k if k is not None else int(_real(ids, distances).sum(axis=1).max(initial=0))
    return ids[:, :width], distances[:, :width]
