"""What the integrations share: connections, transactions, the words for tables and searches, values of vectors."""

from __future__ import annotations

import json
import operator
from contextlib import contextmanager
from typing import Any, Iterable, Iterator, List, Optional, Sequence, Tuple

from . import vectors as _vectors
from .loading import connect

#: The types of the columns that a store filters by.
TYPES = ("INTEGER", "FLOAT", "TEXT", "BOOLEAN")
KINDS = (*TYPES, "INTEGER PARTITION KEY", "TEXT PARTITION KEY")
#: How much a search scans: docs/sql.md, "How much is searched".
SETTINGS = (
    "nprobe", "recall_target", "max_codes", "profile", "candidate_budget", "budget_strategy",
    "min_rows_per_list", "max_rows_per_list", "search_mode",
)
#: What a table is made with, beside `content` and `model`: docs/sql.md, "Creating a table".
OPTIONS = (*SETTINGS, "nlist", "train_at", "list_ordering", "quantizer", "device", "seed")
#: As many conditions on columns are left to a search as they are. SQLite leaves 16 to a table, and MATCH, `k`, `packed`, the
#: largest distance and options are 8 of them: docs/sql.md, "Conditions".
FEW = 8
#: A condition, its values, and whether SQLite leaves it to the table.
Term = Tuple[str, List[Any], bool]
#: What a vector of the database becomes.
RESULTS = ("numpy", "memoryview", "list")


def kind_of(declared: str) -> str:
    """A declared type in the spelling of `KINDS`, if it is one."""
    return " ".join(declared.upper().split())


def connected(path: str, **options: Any) -> Any:
    """A connection for all threads, which the store lets in one by one. `options` are those of `sqlite3`."""
    try:
        return connect(path, check_same_thread=False, **options)
    except TypeError:  # apsw has no such options, works in all threads, and does not wait for a lock by itself
        connection: Any = connect(path)
        connection.setbusytimeout(5000)
        return connection


def executed(cursor: Any, sql: str, values: Sequence[Any]) -> Any:
    """The cursor, with a statement run; a whole number that SQLite has not is an error that names it."""
    try:
        return cursor.execute(sql, tuple(values))
    except OverflowError as error:
        for each in values:
            if isinstance(each, int) and not -(2**63) <= each < 2**63:
                raise ValueError(f"a whole number of 64 bits is expected, got {each}") from error
        raise


def fetched(connection: Any, sql: str, values: Sequence[Any] = ()) -> List[Tuple[Any, ...]]:
    """All rows of a statement, whatever the connection's row factory."""
    cursor = connection.cursor()
    if hasattr(cursor, "row_factory"):
        cursor.row_factory = None
    return [tuple(row) for row in executed(cursor, sql, values).fetchall()]


def created(connection: Any, name: str) -> Optional[str]:
    """The CREATE statement of a table, None if there is no such table."""
    sql = "SELECT sql FROM main.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE"
    found = fetched(connection, sql, (name,))
    return str(found[0][0]) if found else None


@contextmanager
def transaction(connection: Any) -> Iterator[None]:
    """All or nothing: a transaction, or a savepoint of the one that is open."""
    name = "sqlite_ivf_store"
    inside = connection.in_transaction
    # IMMEDIATE, because a transaction that reads first cannot wait for another writer.
    fetched(connection, f"SAVEPOINT {name}" if inside else "BEGIN IMMEDIATE")
    try:
        yield
        fetched(connection, f"RELEASE {name}" if inside else "COMMIT")
    except BaseException:
        if connection.in_transaction:  # an interrupt may have rolled it back already
            for sql in [f"ROLLBACK TO {name}", f"RELEASE {name}"] if inside else ["ROLLBACK"]:
                fetched(connection, sql)
        raise


def metadata_kind(declared: str) -> Optional[str]:
    """The type of a metadata column for what an ordinary column was declared as, None where there is none.

    >>> [metadata_kind(each) for each in ("varchar(20)", "BIGINT", "datetime", "BOOLEAN", "NUMERIC(9, 2)", "BLOB")]
    ['TEXT', 'INTEGER', 'TEXT', 'BOOLEAN', 'FLOAT', None]
    """
    for kind, parts in (
        ("TEXT", ("CHAR", "TEXT", "CLOB", "DATE", "TIME", "JSON")),
        ("BOOLEAN", ("BOOL",)),
        ("INTEGER", ("INT",)),
        ("FLOAT", ("REAL", "FLOA", "DOUB", "NUMERIC", "DECIMAL")),
    ):
        if any(part in declared.upper() for part in parts):
            return kind
    return None


def searched(table: str, terms: Iterable[Term]) -> Tuple[List[str], List[Any]]:
    """Conditions that must all hold, and their values, as a search of a table takes them.

    What SQLite would apply after the search becomes one list of rowids, selected before it. So do all of them, if they are many.
    """
    listed = list(terms)
    many = sum(max(1, len(values)) for _, values, left in listed if left) > FEW
    inside = [] if many else [(sql, values) for sql, values, left in listed if left]
    before = [(sql, values) for sql, values, left in listed if many or not left]
    if before:
        both = " AND ".join(f"({sql})" for sql, _ in before)
        inside.append((f"rowid IN (SELECT rowid FROM {table} WHERE {both})", [each for _, values in before for each in values]))
    return [sql for sql, _ in inside], [each for _, values in inside for each in values]


def whole(name: str, value: Any, least: int = 0) -> int:
    """A whole number that SQLite has, such as a `k`; an error that names it otherwise."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or not least <= operator.index(value) < 2**63:
        raise ValueError(f"{name} must be a whole number from {least} to {2**63 - 1}, got {value!r}")
    return operator.index(value)


def check_vector(dim: Any, element: str, result: str) -> None:
    """An error unless there are such vectors."""
    _vectors.element_bits(element)
    if isinstance(dim, bool) or not isinstance(dim, int) or not 1 <= dim <= 16384:
        raise ValueError(f"dim is a number from 1 to 16384, got {dim!r}")
    if result not in RESULTS:
        raise ValueError(f"result is one of {', '.join(RESULTS)}, got {result!r}")


def vector_blob(value: Any, dim: int, element: str) -> memoryview:
    """A vector as the bytes of its column: those that are given, if they are these already.

    >>> vector_blob([1, 0.5], 2, "float32").hex()
    '0000803f0000003f'
    >>> vector_blob(b"1234", 2, "float32")
    Traceback (most recent call last):
    ValueError: a vector of 2 dimensions is expected (float32: 8 bytes), got 4 bytes
    """
    expected = f"a vector of {dim} dimensions is expected"
    if isinstance(value, (bytes, bytearray)) or (isinstance(value, memoryview) and value.format in "Bbc"):
        blob = memoryview(value)
        size = dim * _vectors.element_bits(element) // 8
        if blob.nbytes != size:
            raise ValueError(f"{expected} ({element}: {size} bytes), got {blob.nbytes} bytes")
        return blob
    if hasattr(value, "__array__") or hasattr(value, "__dlpack__"):
        array = _vectors.as_array(value)
        if array.shape != (dim,):
            raise ValueError(f"{expected}, got an array of shape {array.shape}")
        return _vectors.encode(array, element).data.cast("B")
    if isinstance(value, str) or not hasattr(value, "__len__"):
        raise TypeError(f"{expected}: numbers, an array or a buffer, got {value!r}")
    if len(value) != dim:
        raise ValueError(f"{expected}, got {len(value)}")
    return memoryview(_vectors._serialize(value, element))


def vector_value(stored: Any, element: str, result: str) -> Any:
    """What the bytes of a column are as `result` says; of floats and bytes a view, which is read-only.

    >>> vector_value(bytes.fromhex("0000803f0000003f"), "float32", "numpy")
    array([1. , 0.5], dtype=float32)
    """
    if isinstance(stored, str):  # an ordinary column may have JSON
        stored = _vectors._serialize(json.loads(stored), element)
    if result == "list":
        name = "bits" if element == "bit" else element
        return getattr(_vectors, f"deserialize_{name}")(stored).tolist()
    if result == "memoryview":
        view = memoryview(stored)
        return view.cast("f") if element == "float32" else view.cast("b") if element == "int8" else view
    np = _vectors.numpy("result='numpy'")
    if element in ("float32", "int8"):
        return np.frombuffer(stored, "<f4" if element == "float32" else "i1")
    return _vectors.decode([stored], element)[0]
