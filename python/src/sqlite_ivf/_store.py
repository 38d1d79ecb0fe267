"""What the vector stores of LangChain and LlamaIndex share: connections, transactions, and the words for tables and searches."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator, List, Optional, Sequence, Tuple

from .loading import connect

#: The types of the columns that a store filters by.
TYPES = ("INTEGER", "FLOAT", "TEXT", "BOOLEAN")
KINDS = (*TYPES, "INTEGER PARTITION KEY", "TEXT PARTITION KEY")
#: How much a search scans: docs/sql.md, "How much is searched".
SETTINGS = (
    "nprobe", "recall_target", "max_codes", "profile", "candidate_budget", "budget_strategy",
    "min_rows_per_list", "max_rows_per_list", "search_mode",
)


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


def fetched(connection: Any, sql: str, values: Sequence[Any] = ()) -> List[Tuple[Any, ...]]:
    """All rows of a statement, whatever the connection's row factory."""
    cursor = connection.cursor()
    if hasattr(cursor, "row_factory"):
        cursor.row_factory = None
    return [tuple(row) for row in cursor.execute(sql, tuple(values)).fetchall()]


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
