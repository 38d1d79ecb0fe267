"""What runs where the files are: opens a shard's file, creates, copies and restores it."""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from contextlib import closing, contextmanager
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from .._store import connected, created, fetched, transaction
from ..table import Table

TABLE = "items"
#: Where a worker keeps the folders of collections, if it is not where the client says.
_ROOT = "SQLITE_IVF_SHARDS"
#: What SQLite puts beside a database.
_BESIDE = ("-wal", "-shm", "-journal")


class FencedError(RuntimeError):
    """A write came after a later writer had begun; it changed nothing."""


class ShardLostError(RuntimeError):
    """No worker has the file of a shard as it was last written, and no copy of it can take its place."""


class ElsewhereError(Exception):
    """The file of a shard is not here, or not as it should be."""


def file_of(name: str) -> str:
    """The name of a shard's file."""
    return f"shard-{name}.db"


class Want(NamedTuple):
    """The file that a task is for, and what it must hold at least."""

    folder: str
    collection: str
    name: str
    generation: int
    written: int
    preload: bool

    @property
    def file(self) -> str:
        """The name of the file."""
        return file_of(self.name)

    @property
    def path(self) -> str:
        """Where it is in this process."""
        return os.path.join(_here(self.folder), self.file)


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


def _identity(path: str) -> Tuple[int, int]:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        raise ElsewhereError(f"there is no {path}") from None
    return stat.st_dev, stat.st_ino


def _open(path: str) -> Any:
    return connected(path, isolation_level=None, timeout=60)


@contextmanager
def borrowed(want: Want) -> Iterator[_Opened]:
    """A connection of this process to the file, which is that of the path now: a file may be replaced by another one."""
    path = want.path
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
            if created(connection, TABLE) is None or identity != _identity(path):
                raise ElsewhereError(f"{path} is being replaced, or is no shard")
            opened = _Opened(connection, Table(connection, TABLE), identity)
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


def forget(folder: str) -> None:
    """Closes what is open and not in use."""
    with _lock:
        found = [key for key in _idle if key[0] == os.getpid() and os.path.dirname(key[1]) == _here(folder)]
        opened = [each for key in found for each in _idle.pop(key)]
    for each in opened:
        each.connection.close()


def present(folder: str) -> Set[str]:
    """The files that this worker has."""
    try:
        return set(os.listdir(_here(folder)))
    except FileNotFoundError:
        return set()


def state(connection: Any, want: Want) -> Tuple[int, int, bytes]:
    """The highest token the shard has seen, that of its last write, and what that gave; an error if this is another file."""
    found = fetched(connection, "SELECT collection, name, generation, seen, written, result FROM shard")[0]
    if found[:3] != (want.collection, want.name, want.generation):
        raise ElsewhereError(f"{want.path} is shard {found[1]} of collection {found[0]}, generation {found[2]}, not {want[1:4]}")
    if found[4] < want.written:
        raise ElsewhereError(f"{want.path} was last written by step {found[4]}, it lacks that of {want.written}")
    return found[3], found[4], found[5]


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


@contextmanager
def temporary(path: str) -> Iterator[str]:
    """A name beside a path, to write a file that then takes its place. What is left of it at the end is removed."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    name = f"{path}.{uuid.uuid4().hex[:12]}.tmp"
    try:
        yield name
    finally:
        _remove(name, "", *_BESIDE)


def _remove(path: str, *suffixes: str) -> None:
    for suffix in suffixes:
        if os.path.exists(path + suffix):
            os.remove(path + suffix)


def _put(written: str, path: str) -> None:
    """Puts a closed database in the place of another one."""
    _durable(written)
    _remove(path, *_BESIDE)  # of the one that was there: SQLite would take them for its own
    os.replace(written, path)
    _durable(path)


def create(want: Want, sql: str, settings: Dict[str, Any]) -> None:
    """Makes the file of a new shard."""
    path = want.path
    if os.path.exists(path):
        # By a task that was repeated, or of an `add_shard` that ended before it began to move rows.
        with borrowed(want) as (connection, table, _):
            state(connection, want)
            if len(table):
                raise FileExistsError(f"{path} has rows already")
        return
    with temporary(path) as written:
        with closing(_open(written)) as connection:
            fetched(connection, "PRAGMA journal_mode = WAL")
            with transaction(connection):
                fetched(connection, sql)
                if settings:
                    Table(connection, TABLE).set(**settings)
                names = "collection TEXT, name TEXT, generation INTEGER, seen INTEGER, written INTEGER, result BLOB"
                fetched(connection, f"CREATE TABLE shard({names})")
                fetched(connection, "INSERT INTO shard VALUES (?, ?, ?, 0, 0, x'')", (want.collection, want.name, want.generation))
        _durable(written)
        try:
            # Never in the place of a file: one that a task made which was taken for lost may have rows already.
            (os.rename if os.name == "nt" else os.link)(written, path)
        except FileExistsError:
            return create(want, sql, settings)
        _durable(path)


def drop(want: Want) -> None:
    """Removes the file of a shard that has no rows any more."""
    with borrowed(want) as (connection, table, _):
        state(connection, want)
        if len(table):
            raise RuntimeError(f"{want.path} has {len(table)} rows")
    with _lock:
        opened = _idle.pop((os.getpid(), want.path), [])
    for each in opened:
        each.connection.close()
    _remove(want.path, "", *_BESIDE)


def copy(connection: Any, path: str) -> None:
    """Copies a database, as of one moment."""
    with temporary(path) as written:
        fetched(connection, "VACUUM INTO ?", (written,))  # as the backup API, and every package has it
        _put(written, path)


def restore(want: Want, copies: Optional[str], fetch: Optional[Callable[[str, str], None]], stale: bool) -> int:
    """Puts a copy in the place of a lost file, under the next generation; the token of the copy's last write."""
    with temporary(want.path) as written:
        if fetch is not None:
            fetch(want.name, written)
        elif copies is None:
            raise ShardLostError("there are no copies: Shards.open(..., copies=FOLDER)")
        else:
            shutil.copyfile(os.path.join(copies, want.file), written)
        with closing(_open(written)) as connection:
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
        _put(written, want.path)
        return int(found[2])
