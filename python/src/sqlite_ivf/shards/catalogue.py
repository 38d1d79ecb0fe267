"""The catalogue of a collection: its shards, rows that move, and the one that writes now."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .._store import connected, fetched, transaction
from .files import Want, copy, temporary
from .ids import FIRST, LAST, placement

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE = "catalogue.db"
_FORMAT = 1
#: A writer's steps are numbered below its epoch.
_STEP_BITS = 20


class Layout(NamedTuple):
    """The shards now, by name. While rows move to one of them, `moving` is its name; while they leave one, `leaving` is."""

    version: int
    shards: Dict[str, Want]
    moving: Optional[str]
    leaving: Optional[str]

    @property
    def names(self) -> List[str]:
        """All shards."""
        return list(self.shards)

    @property
    def changed(self) -> Optional[str]:
        """The shard that rows move to or leave, if there is one."""
        return self.moving or self.leaving

    @property
    def old(self) -> List[str]:
        """Those that have the rows which have still to move."""
        return [name for name in self.shards if name != self.moving]

    @property
    def asked(self) -> Tuple[List[str], List[str]]:
        """Those that a search asks first, and those that it asks after these, so that it sees a row that moves in between."""
        if self.changed is None:
            return self.names, []
        others = [name for name in self.shards if name != self.changed]
        return (others, [self.changed]) if self.moving else ([self.changed], others)

    def routes(self, ids: NDArray[np.int64]) -> Dict[str, NDArray[np.int64]]:
        """Which of the rows, by their index, each of the old shards has that has any."""
        return _routes(ids, self.old)

    def moves(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the rows have moved or have still to move, if any do."""
        if self.changed is None:
            return np.zeros(len(ids), np.bool_)
        return placement(ids, self.names) == self.names.index(self.changed)  # type: ignore[no-any-return]

    def destinations(self, ids: NDArray[np.int64]) -> Dict[str, NDArray[np.int64]]:
        """Which of the rows, all of which move, each shard is to have that is to have any."""
        return _routes(ids, [self.moving] if self.moving else [name for name in self.shards if name != self.leaving])


def _routes(ids: NDArray[np.int64], names: Sequence[str]) -> Dict[str, NDArray[np.int64]]:
    owner = placement(ids, names)
    routes = {name: np.flatnonzero(owner == index) for index, name in enumerate(names)}
    return {name: rows for name, rows in routes.items() if len(rows)}


class Writer:
    """The one that writes now. Its steps are ordered, and a shard takes no step after a later one."""

    def __init__(self, layout: Layout, epoch: int, unclean: bool) -> None:
        self.layout, self.step, self.unclean = layout, epoch << _STEP_BITS, unclean
        #: The last step of each shard that was written to.
        self.written: Dict[str, int] = {}


class Catalogue:
    """The catalogue of the collection in a folder."""

    def __init__(self, folder: str, timeout: float, preload: bool) -> None:
        path = os.path.join(folder, FILE)
        if not os.path.exists(path):
            raise FileNotFoundError(f"there is no collection in {folder}: Shards.create(path, n, dim) makes one")
        self.folder, self._timeout, self._preload = folder, timeout, preload
        self._connection = connected(path, isolation_level=None, timeout=timeout)
        self._reading = threading.Lock()
        self._lock = connected(os.path.join(folder, "lock.db"), isolation_level=None, timeout=0)
        fetched(self._lock, "PRAGMA busy_timeout = 0")
        self._mutex = threading.RLock()
        form, self.collection, self.sql, self.model = self._ask("SELECT format, collection, sql, model FROM state")[0]
        if form != _FORMAT:
            raise ValueError(f"{path} is of format {form}, this version reads {_FORMAT}")

    @staticmethod
    def create(folder: str, sql: str, model: Optional[str]) -> None:
        """Makes one without shards, for tables of a kind."""
        path = os.path.join(folder, FILE)
        with temporary(path) as written:
            with closing(connected(written, isolation_level=None)) as connection:
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
                        (_FORMAT, uuid.uuid4().hex, sql, model),
                    )
                    # moving: the shard that rows move to, or with a minus the one that they leave. cursor: from which row on a
                    # shard has still to be looked through for rows that move, NULL if none. name: NULL of one that was removed.
                    names = "number INTEGER PRIMARY KEY, name TEXT UNIQUE, generation INTEGER, written INTEGER, cursor INTEGER"
                    fetched(connection, f"CREATE TABLE shards({names})")
            os.replace(written, path)

    def close(self) -> None:
        """Closes the files."""
        self._connection.close()
        self._lock.close()

    def _ask(self, sql: str, values: Sequence[Any] = ()) -> List[Tuple[Any, ...]]:
        with self._reading:
            return fetched(self._connection, sql, values)

    @contextmanager
    def _changing(self) -> Iterator[Any]:
        """A transaction of the catalogue."""
        with self._reading, transaction(self._connection):
            yield self._connection

    def _change(self, sql: str, values: Sequence[Any] = ()) -> None:
        with self._changing() as connection:
            fetched(connection, sql, values)

    def copy(self, folder: str) -> None:
        """Copies the catalogue into a folder."""
        with self._reading:
            copy(self._connection, os.path.join(folder, FILE))

    # Shards and rows

    def layout(self) -> Layout:
        """The shards now."""
        rows = self._ask("SELECT version, moving, name, generation, written FROM state LEFT JOIN shards ON true ORDER BY number")
        shards = {
            name: Want(self.folder, self.collection, name, generation, written, self._preload)
            for _, _, name, generation, written in rows
            if name is not None
        }
        changed = rows[0][1] or ""
        leaving = changed[1:] if changed.startswith("-") else None
        return Layout(rows[0][0], shards, None if leaving else rows[0][1], leaving)

    def new(self, number: int) -> Want:
        """The file of a shard that is to be made."""
        return Want(self.folder, self.collection, str(number), 1, 0, False)

    def add(self, numbers: Sequence[int]) -> None:
        """Takes in the shards of a new collection."""
        with self._changing() as connection:
            for number in numbers:
                fetched(connection, "INSERT INTO shards VALUES (?, ?, 1, 0, NULL)", (number, str(number)))

    def restored(self, name: str, generation: int, written: int) -> None:
        """A shard is of another generation."""
        self._change("UPDATE shards SET generation = ?, written = ? WHERE name = ?", (generation, written, name))

    def settings(self) -> Dict[str, Any]:
        """What is set in all shards and those to come."""
        return json.loads(self._ask("SELECT settings FROM state")[0][0])  # type: ignore[no-any-return]

    def set(self, settings: Mapping[str, Any]) -> None:
        """Sets more."""
        with self._changing() as connection:
            kept = json.loads(fetched(connection, "SELECT settings FROM state")[0][0])
            fetched(connection, "UPDATE state SET settings = ?", (json.dumps({**kept, **settings}),))

    def free(self, count: int) -> NDArray[np.int64]:
        """The next free ids, which are not free after it."""
        with self._changing() as connection:
            first = fetched(connection, "SELECT next_id FROM state")[0][0]
            if first + count > LAST:
                raise ValueError(f"the largest id is {first - 1}: there are no free ones after it, give the ids")
            fetched(connection, "UPDATE state SET next_id = ?", (first + count,))
        return np.arange(first, first + count)

    def take(self, ids: NDArray[np.int64]) -> None:
        """These ids, and all below, are not free."""
        self._change("UPDATE state SET next_id = max(next_id, ?)", (min(int(ids.max()) + 1, LAST),))

    # Rows that move

    def next_number(self) -> int:
        """That of one more shard."""
        return int(self._ask("SELECT max(number) + 1 FROM shards")[0][0])

    def begin_move(self, number: int) -> None:
        """Takes in a new shard, to which rows of all others move."""
        with self._changing() as connection:
            fetched(connection, "UPDATE shards SET cursor = ? WHERE name NOT NULL", (FIRST,))
            fetched(connection, "INSERT INTO shards VALUES (?, ?, 1, 0, NULL)", (number, str(number)))
            fetched(connection, "UPDATE state SET moving = ?, version = version + 1", (str(number),))

    def begin_leave(self, name: str) -> None:
        """All rows of a shard move to the others."""
        with self._changing() as connection:
            fetched(connection, "UPDATE shards SET cursor = ? WHERE name = ?", (FIRST, name))
            fetched(connection, "UPDATE state SET moving = ?, version = version + 1", (f"-{name}",))

    def next_source(self) -> Optional[Tuple[str, int]]:
        """A shard that has rows to move, and from which row on; None if all have moved."""
        left = self._ask("SELECT name, cursor FROM shards WHERE cursor NOT NULL ORDER BY number LIMIT 1")
        return left[0] if left else None

    def looked(self, source: str, cursor: Optional[int]) -> None:
        """How far a shard has been looked through."""
        self._change("UPDATE shards SET cursor = ? WHERE name = ?", (cursor, source))

    def end_move(self) -> None:
        """All rows are where they belong. The number of a shard that they have left stays taken: copies of its file may exist."""
        with self._changing() as connection:
            fetched(connection, "UPDATE shards SET name = NULL WHERE '-' || name = (SELECT moving FROM state)")
            fetched(connection, "UPDATE state SET moving = NULL, version = version + (moving NOT NULL)")

    def begin_batch(self, source: str, ids: NDArray[np.int64]) -> None:
        """Writes down which rows are about to move."""
        self._change("UPDATE state SET batch_from = ?, batch = ?", (source, ids.tobytes()))

    def batch(self) -> Optional[Tuple[str, NDArray[np.int64]]]:
        """From which shard which rows are on their way, if any."""
        source, batch = self._ask("SELECT batch_from, batch FROM state")[0]
        return None if source is None else (source, np.frombuffer(batch, np.int64))

    def end_batch(self) -> None:
        """They have moved."""
        self._change("UPDATE state SET batch_from = NULL, batch = NULL")

    # Writers

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """The lock of all writers, of all processes: it is that of a file, which goes with the process that holds it.

        The epoch is committed before anything is written with it. A writer that did not come to its end leaves `unclean` to the
        next one; then tasks of it may be under way.
        """
        with self._mutex:
            deadline = time.monotonic() + self._timeout
            while True:
                try:
                    fetched(self._lock, "BEGIN EXCLUSIVE")
                    break
                except Exception as error:
                    if "locked" not in str(error).lower():
                        raise
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"another writer has held {self.folder} for {self._timeout} seconds") from error
                time.sleep(0.005)  # oftener than SQLite would try again: see `Shards.finish_move`
            try:
                with self._changing() as connection:
                    epoch, unclean = fetched(connection, "SELECT epoch + 1, unclean FROM state")[0]
                    fetched(connection, "UPDATE state SET epoch = ?, unclean = 1", (epoch,))
                writer = Writer(self.layout(), epoch, bool(unclean))
                unclean = 1
                try:
                    yield writer
                    unclean = 0
                finally:
                    with self._changing() as connection:
                        for name, step in writer.written.items():
                            fetched(connection, "UPDATE shards SET written = ? WHERE name = ?", (step, name))
                        fetched(connection, "UPDATE state SET unclean = ?", (unclean,))
            finally:
                fetched(self._lock, "ROLLBACK")
