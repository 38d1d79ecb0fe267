"""The collection: what is written to it and read from it."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Type, Union

import numpy as np

from .. import vectors as _vectors
from .._store import SETTINGS, fetched
from ..loading import connect
from ..progress import Callback
from ..table import Hits, Table, Where, _values
from .catalogue import FILE, Catalogue, Layout, Writer
from .files import TABLE, ShardLostError, Want, file_of
from .merging import merged, real, stacked, widened
from .operations import taken
from .told import Told
from .workers import Calls, Threads, Workers

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray
    from typing_extensions import Self, Unpack

    from ..table import Options, Settings

#: What one task carries, in bytes: the scheduler of Dask passes it on, and warns from 10 MB.
_TASK_BYTES = 4 << 20


class _RemovedError(Exception):
    """A shard was removed since its name was read."""


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
        if client is not None and (not hasattr(client, "scheduler_info") or getattr(client, "asynchronous", False)):
            raise TypeError(f"client is a distributed.Client that is not asynchronous, got {client!r}")
        self.path, self.client = os.path.abspath(path), client
        self.copies, self.fetch = None if copies is None else os.path.abspath(copies), fetch
        self._catalogue = catalogue = Catalogue(self.path, timeout, preload)
        self._workers = Threads(self.path)
        if client is not None:
            self._workers = Workers(client, self.path, lambda: catalogue.layout().shards, timeout, restore_after)
        # An empty table of the same kind: it knows the columns and reads vectors as the shards' tables do.
        memory = connect()
        fetched(memory, catalogue.sql)
        self._kind = Table(memory, TABLE, model=catalogue.model)

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
        where = os.path.abspath(path)
        catalogue = os.path.join(where, FILE)
        if os.path.exists(catalogue):
            raise FileExistsError(f"there is a collection in {where} already: Shards.open(path) opens it")
        kind = Table.create(connect(), TABLE, dim, metric=metric, element=element, columns=columns, model=model, **options)
        Catalogue.create(where, kind.created, model)
        shards = cls(where, client, copies=copies, fetch=fetch, timeout=timeout, restore_after=restore_after, preload=preload)
        try:
            with shards._writing():
                for number in range(n):
                    shards._made(number)
                shards._catalogue.add(range(n))
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
        layout = self._catalogue.layout()
        moving = f", {_under_way(layout)}" if layout.changed else ""
        return f"<sqlite_ivf.Shards {self.path!r}: {len(layout.shards)} shards of {self._kind.element}[{self._kind.dim}]{moving}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], value: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files, also in the workers."""
        self._workers.close()
        self._catalogue.close()
        self._kind.connection.close()

    # All shards

    def _all(self, calls: Calls, writer: Optional[Writer] = None, done: Optional[Callable[[str], None]] = None) -> Dict[str, Any]:
        """Runs an operation in several shards at once. A shard whose file is nowhere is restored first.

        All have ended when this ends, also where one of them is an error.
        """
        answers: Dict[str, Any] = {}
        while calls:
            wants = self._shards_of(calls)
            found, lost = self._workers.ask(wants, calls, done)
            answers.update(found)
            for name, why in lost.items():
                try:
                    with self._writing() if writer is None else nullcontext():
                        self._restored(wants[name])
                except (ShardLostError, OSError) as error:
                    raise ShardLostError(f"shard {name}: {why}; {error}") from error
            calls = {name: calls[name] for name in lost}
        return answers

    def _shards_of(self, names: Iterable[str]) -> Dict[str, Want]:
        wants = self._catalogue.layout().shards
        for name in names:
            if name not in wants:
                raise _RemovedError(f"shard {name} was removed")
        return wants

    def _made(self, number: int) -> None:
        self._workers.make(self._catalogue.new(number), "create", self._catalogue.sql, self._catalogue.settings())

    def _restored(self, want: Want, stale: bool = False) -> None:
        now = self._shards_of([want.name])[want.name]
        if now.generation == want.generation:  # else another one has restored it meanwhile
            written = self._workers.make(now, "restore", self.copies, self.fetch, stale)
            self._catalogue.restored(now.name, now.generation + 1, written)

    @contextmanager
    def _writing(self, before: Optional[Callable[[Writer], None]] = None) -> Iterator[Writer]:
        """The one that writes now. If the last one did not come to its end, this fences all shards against its tasks, and ends the
        batch that was moving; `before` is called before that.
        """
        with self._catalogue.writing() as writer:
            if before is not None:
                before(writer)
            if writer.unclean:
                self._recover(writer)
            yield writer

    def _recover(self, writer: Writer) -> None:
        self._all({name: ("fence", writer.step) for name in writer.layout.shards}, writer)
        batch = self._catalogue.batch()
        if batch is not None:
            source, ids = batch
            calls = {name: ("read", ids[rows], ()) for name, rows in writer.layout.destinations(ids).items()}
            arrived = [row[0] for rows in self._all(calls, writer).values() for row in rows]
            self._leave(writer, source, np.array(arrived, np.int64))

    def _write(self, writer: Writer, calls: Calls, told: Optional[Told] = None) -> Dict[str, Any]:
        """Writes in parallel, one transaction in each shard."""
        writer.step += 1

        def done(name: str) -> None:
            writer.written[name] = writer.step
            if told is not None:
                told.more(1)

        return self._all({name: (operation, writer.step, *args) for name, (operation, *args) in calls.items()}, writer, done)

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
            with self._writing():
                rowids = self._catalogue.free(count)
        else:
            rowids = np.asarray(ids).astype(np.int64, casting="safe") if count else np.zeros(0, np.int64)
        # A task has the rows of one shard: a batch may be larger by their number.
        line = matrix.itemsize * self._kind.dim + 64 * (1 + len(columns))
        size = max(1, _TASK_BYTES * len(self._catalogue.layout().shards) // line)
        with Told("insert", "rows", count, progress) as told:
            for start in range(0, count, size):
                some = slice(start, start + size)
                with self._writing() as writer:
                    if ids is not None:
                        self._catalogue.take(rowids[some])
                    self._put_rows(writer, rowids[some], matrix[some], {name: values[some] for name, values in columns.items()})
                told.more(len(rowids[some]))
        return rowids

    def _put_rows(self, writer: Writer, ids: NDArray[np.int64], matrix: NDArray[Any], metadata: Dict[str, Any]) -> None:
        layout = writer.layout
        # A row that has still to move is replaced where it is: in one transaction, so that no search sees it twice or not at all.
        # The others, new or moved, go where they are to be.
        only = None if layout.changed is None else layout.moves(ids)
        calls = {
            name: ("add", ids[rows], matrix[rows], taken(metadata, rows), None if only is None else only[rows])
            for name, rows in layout.routes(ids).items()
        }
        absent = np.concatenate([np.zeros(0, np.int64), *self._write(writer, calls).values()])
        if len(absent):
            self._put_moving(writer, np.flatnonzero(np.isin(ids, absent)), ids, matrix, metadata)

    def _put_moving(
        self, writer: Writer, some: NDArray[Any], ids: NDArray[np.int64], matrix: NDArray[Any], metadata: Dict[str, Any]
    ) -> None:
        """Puts some of these rows, by their index, where rows that move are to be."""
        places = {name: some[rows] for name, rows in writer.layout.destinations(ids[some]).items()}
        self._write(writer, {name: ("add", ids[at], matrix[at], taken(metadata, at)) for name, at in places.items()})

    def delete(self, ids: Any) -> int:
        """Deletes rows; how many there were. An id without a row is no error."""
        rowids = np.asarray(_values(ids), np.int64)
        with self._writing() as writer:
            layout = writer.layout
            there = {name: rowids[rows] for name, rows in layout.routes(rowids).items()}
            moving = rowids[layout.moves(rowids)]
            for name, rows in layout.destinations(moving).items():
                there[name] = np.concatenate([there.get(name, moving[:0]), moving[rows]])
            calls = {name: ("delete", some) for name, some in there.items()}
            return int(sum(count[0] for count in self._write(writer, calls).values()))

    def _call_all(self, method: str, progress: Union[bool, Callback, None] = None, **keywords: Any) -> None:
        with self._writing() as writer, Told(method, "shards", len(writer.layout.shards), progress) as told:
            self._write(writer, {name: ("call", method, keywords) for name in writer.layout.shards}, told)

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
            self._catalogue.set(settings)
            self._write(writer, {name: ("call", "set", settings) for name in writer.layout.shards})

    # One shard more, one less

    def add_shard(self, *, batch: int = 1000, progress: Union[bool, Callback, None] = None) -> str:
        """Makes one more shard and moves to it the rows that it is to have, one of n + 1 of each of the n others.

        At most `batch` rows move in a transaction. Searches go on and see every row once; others may write between batches. What
        does not come to its end, `finish_move` ends. Gives the name of the shard.
        """
        with self._writing() as writer:
            self._check_still(writer)
            number = self._catalogue.next_number()
            self._made(number)
            self._catalogue.begin_move(number)
        self.finish_move(batch=batch, progress=progress)
        return str(number)

    def remove_shard(self, name: str, *, batch: int = 1000, progress: Union[bool, Callback, None] = None) -> None:
        """Moves the rows of a shard to the others, of which each takes its share, and removes the shard and its file.

        Rows move as those of `add_shard`, and no row of the other shards does. The name is not given again.
        """
        with self._writing() as writer:
            self._check_still(writer)
            names = writer.layout.names
            if name not in names:
                raise ValueError(f"there is no shard {name!r}, there are {names}")
            if len(names) == 1:
                raise ValueError(f"a collection has 1 shard or more: {name!r} is the only one")
            self._catalogue.begin_leave(name)
        self.finish_move(batch=batch, progress=progress)

    def _check_still(self, writer: Writer) -> None:
        if writer.layout.changed is not None:
            raise RuntimeError(f"{_under_way(writer.layout)} still: finish_move() moves the rest")

    def finish_move(self, *, batch: int = 1000, progress: Union[bool, Callback, None] = None) -> None:
        """Moves the rows that `add_shard` or `remove_shard` left; nothing if there are none."""
        if batch < 1:
            raise ValueError(f"a batch has 1 row or more, got {batch}")
        layout = self._catalogue.layout()
        if layout.changed is None:
            return
        command = "add_shard" if layout.moving else "remove_shard"
        with Told(command, "rows", self._rows(layout.leaving) if progress else None, progress) as told:
            while True:
                with self._writing() as writer:
                    source = self._catalogue.next_source()
                    if writer.layout.changed is None or source is None:
                        self._end_move(writer)
                        return
                    began = time.monotonic()
                    looked = self._move(writer, *source, batch)
                told.more(looked)
                # The lock of a file has no queue: writers that wait have their turn here.
                time.sleep(max(0.02, (time.monotonic() - began) / 4))

    def _move(self, writer: Writer, source: str, cursor: int, batch: int) -> int:
        """Moves a batch: first it is written down, then it is in two shards, then in the new one. Gives how many rows it saw."""
        names = writer.layout.names
        call = ("batch", names, names.index(str(writer.layout.changed)), cursor, batch)
        ids, vectors, metadata, looked, following = self._all({source: call}, writer)[source]
        if len(ids):
            self._catalogue.begin_batch(source, ids)
            self._put_moving(writer, np.arange(len(ids)), ids, vectors, metadata)
            self._leave(writer, source, ids)
        self._catalogue.looked(source, following)
        return int(looked)

    def _leave(self, writer: Writer, source: str, ids: NDArray[np.int64]) -> None:
        """Deletes the rows of a batch that have arrived."""
        if len(ids):
            self._write(writer, {source: ("delete", ids)})
        self._catalogue.end_batch()

    def _end_move(self, writer: Writer) -> None:
        """Ends a move: a shard that all rows have left is no shard any more."""
        name = writer.layout.leaving
        if name is None:
            self._catalogue.end_move()
            return
        left = self._all({name: ("length",)}, writer)[name]
        if left:  # which its hash gives to others: written by other means
            raise RuntimeError(f"shard {name} has {left} rows of other shards: put them where they belong, and finish_move()")
        wants = {name: self._catalogue.layout().shards[name]}
        self._catalogue.end_move()
        # The file has no rows. Where its worker is gone, it stays.
        self._workers.ask(wants, {name: ("drop",)})

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
        keywords = {"where": where, "values": values, "within": within, "model": model or self._catalogue.model, **settings}
        line = matrix.itemsize * self._kind.dim
        size = max(1, _TASK_BYTES // max(line, 16 * (k or 100)))
        starts = range(0, max(len(matrix), 1), size)
        ids, distances = stacked([self._found(matrix[start : start + size], k, keywords) for start in starts])
        if single:
            found = real(ids[0], distances[0])
            return Hits(ids[0][found], distances[0][found])
        return Hits(*widened(ids, distances, k or 0))

    def _found(self, matrix: NDArray[Any], k: Optional[int], keywords: Dict[str, Any]) -> Tuple[NDArray[Any], NDArray[Any]]:
        call = ("search", matrix, k, keywords)
        while True:
            layout = self._catalogue.layout()
            found: List[Any] = []
            with suppress(_RemovedError):  # then the version is another one
                # One after the other: a row that has left the first before these were asked has arrived.
                for names in filter(None, layout.asked):
                    found += self._all({name: call for name in names}).values()
            if self._catalogue.layout().version != layout.version:
                continue
            nearest = merged(found, k, layout.changed is not None)
            if nearest is not None:
                return nearest

    def get(self, ids: Any, *columns: str) -> List[Tuple[Any, ...]]:
        """Values of rows, a tuple for each id; an id without a row is an error."""
        wanted = _values(ids)
        known = ["rowid", *self._kind.columns]
        unknown = [name for name in columns if name not in known]
        if unknown:
            raise ValueError(f"there is no column {unknown[0]!r}, there are {known}")
        names = [name for name in columns if name != "rowid"]
        rowids = np.asarray(wanted, np.int64)
        while True:
            layout, rows = self._catalogue.layout(), []
            moving = rowids[layout.moves(rowids)]
            with suppress(_RemovedError):
                for some, routes in ((rowids, layout.routes(rowids)), (moving, layout.destinations(moving))):
                    calls = {name: ("read", some[places], names) for name, places in routes.items()}
                    rows += [row for each in self._all(calls).values() for row in each]
            if self._catalogue.layout().version == layout.version:
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
        return self._rows()

    def _rows(self, name: Optional[str] = None) -> int:
        """How many rows a shard has, or all of them."""
        with self._writing() as writer:
            names = [each for each in writer.layout.shards if name in (None, each)]
            return int(sum(self._all({each: ("length",) for each in names}, writer).values()))

    def stats(self) -> List[Dict[str, Any]]:
        """For each shard its name, file and worker, and `Table.stats`."""
        while True:
            try:
                found = self._all({name: ("stats",) for name in self._catalogue.layout().shards})
                break
            except _RemovedError:
                continue
        return [
            {"shard": name, "file": file_of(name), "worker": self._workers.chosen(name), **stats} for name, stats in found.items()
        ]

    def check(self) -> None:
        """Reads and compares all that is stored, as `Table.check`, and that every row is in its shard."""
        with self._writing() as writer:
            layout = writer.layout
            found = self._all({name: ("check", layout.names, name) for name in layout.shards}, writer)
            if layout.changed is not None:
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
        with self._writing() as writer, Told("copy", "shards", len(writer.layout.shards), progress) as told:
            calls = {name: ("copy", self.copies) for name in writer.layout.shards}
            self._all(calls, writer, lambda _: told.more(1))
            self._catalogue.copy(self.copies)

    def restore(self, name: str, *, stale: bool = False) -> None:
        """Puts the copy of a shard in the place of its file, on the worker with the fewest shards.

        A copy that lacks writes which were acknowledged is refused, unless `stale`: then those rows are lost, and deleted rows
        are there again.
        """
        layout = self._catalogue.layout()
        if name not in layout.shards:
            raise ValueError(f"there is no shard {name!r}, there are {layout.names}")

        def restored(writer: Writer) -> None:
            if stale and writer.layout.changed is not None:
                raise RuntimeError(f"{_under_way(writer.layout)}: only all copies together are of one moment")
            self._restored(self._catalogue.layout().shards[name], stale)

        with self._writing(restored):
            pass


def _under_way(layout: Layout) -> str:
    """What moves."""
    return f"rows move to shard {layout.moving}" if layout.moving else f"rows leave shard {layout.leaving}"
