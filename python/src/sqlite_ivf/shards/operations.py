"""What runs where the files are: the operations on a shard."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from .. import vectors as _vectors
from .._store import fetched, transaction
from ..table import Table, quoted
from .files import FencedError, Want, borrowed, copy, create, drop, restore, state
from .ids import FIRST, LAST, placement

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _there(table: Table, ids: NDArray[np.int64], columns: Sequence[str] = ()) -> List[Tuple[Any, ...]]:
    """Of these rows those that exist, with their columns."""
    names = ", ".join(["rowid", *map(quoted, columns)])
    sql = f"SELECT {names} FROM {table._table} WHERE rowid IN (SELECT value FROM json_each(?)) ORDER BY rowid"
    return fetched(table.connection, sql, (json.dumps(ids.tolist()),))


def _rowids(table: Table, first: int, limit: int) -> NDArray[np.int64]:
    rows = fetched(table.connection, f"SELECT rowid FROM {table._table} WHERE rowid >= ? ORDER BY rowid LIMIT ?", (first, limit))
    return np.array([row[0] for row in rows], np.int64)


#: From here on, a search asks for the number of rows first.
_LARGE_K = 4096


def _search(table: Table, queries: Any, k: Optional[int], keywords: Dict[str, Any]) -> Tuple[Any, Any]:
    if k is not None and k > _LARGE_K:  # answers of many queries have room for k rows each
        k = max(1, min(k, len(table)))
    return tuple(table.search(queries, k, **keywords))  # type: ignore[return-value]


def _batch(table: Table, names: Sequence[str], destination: int, cursor: int, size: int) -> Tuple[Any, ...]:
    """The next rows, `size` at most, that belong to one of the shards `names`, by its index: their ids, vectors and other columns;
    how many rows were looked at, and where to go on, None at the end.
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
            goes_on = int(ids[-1]) < LAST
            cursor = int(ids[-1]) + 1
    others = [name for name in table.columns if name != table.column]
    rows = _there(table, found, [table.column, *others])
    vectors = _vectors.decode([row[1] for row in rows], table.element).reshape(len(rows), table.dim)
    metadata = {name: [row[2 + at] for row in rows] for at, name in enumerate(others)}
    return found, vectors, metadata, looked, cursor if goes_on else None


def _check(table: Table, names: Sequence[str], name: str) -> List[int]:
    """Checks a shard, and gives the rows that do not belong to it."""
    table.check()
    first, wrong = FIRST, []
    while True:
        ids = _rowids(table, first, 100_000)
        wrong += ids[placement(ids, names) != names.index(name)].tolist()
        if len(ids) < 100_000 or ids[-1] == LAST:
            return wrong
        first = int(ids[-1]) + 1


def _add(table: Table, ids: Any, vectors: Any, metadata: Mapping[str, Any], only: Any = None) -> NDArray[np.int64]:
    """Puts rows; those of `only` in the place of such that exist, and gives back which of these do not."""
    absent = np.zeros(0, np.int64)
    if only is not None:
        there = np.array([row[0] for row in _there(table, ids[only])], np.int64)
        skipped = only & ~np.isin(ids, there)
        absent, kept = ids[skipped], np.flatnonzero(~skipped)
        ids, vectors, metadata = ids[kept], vectors[kept], taken(metadata, kept)
    table.add(vectors, ids, metadata, replace=True)
    return absent


def _delete(table: Table, ids: Any) -> NDArray[np.int64]:
    return np.array([table.delete(ids)], np.int64)


def _call(table: Table, method: str, keywords: Dict[str, Any]) -> NDArray[np.int64]:
    getattr(table, method)(**keywords)
    return np.zeros(0, np.int64)


def taken(metadata: Mapping[str, Any], index: NDArray[Any]) -> Dict[str, Any]:
    """The metadata of some rows."""
    places = index.tolist()
    return {name: [values[place] for place in places] for name, values in metadata.items()}


_READS: Dict[str, Callable[..., Any]] = {
    "search": _search, "read": _there, "batch": _batch, "length": len, "stats": Table.stats, "check": _check,
}  # fmt: skip
_WRITES: Dict[str, Callable[..., NDArray[np.int64]]] = {"add": _add, "delete": _delete, "call": _call}


def run(want: Want, operation: str, *args: Any) -> Any:
    """What a worker does: all of it in one transaction of the shard."""
    if operation in ("create", "restore"):
        return (create if operation == "create" else restore)(want, *args)
    if operation == "drop":
        return drop(want)
    with borrowed(want) as (connection, table, _):
        if operation == "copy":
            state(connection, want)
            return copy(connection, os.path.join(*args, want.file))
        if operation in _READS:
            fetched(connection, "BEGIN")
            state(connection, want)
            answer = _READS[operation](table, *args)
            fetched(connection, "COMMIT")
            return answer
        token, *rest = args
        with transaction(connection):
            seen, written, result = state(connection, want)
            if token < seen:
                raise FencedError(f"shard {want.name} has seen step {seen} of a later writer, and refuses step {token}")
            if operation == "fence":
                fetched(connection, "UPDATE shard SET seen = ?", (token,))
                return None
            if token != written:  # else the task was run before, and its answer was lost
                result = _WRITES[operation](table, *rest).tobytes()
                fetched(connection, "UPDATE shard SET seen = ?1, written = ?1, result = ?2", (token, result))
        return np.frombuffer(result, np.int64)
