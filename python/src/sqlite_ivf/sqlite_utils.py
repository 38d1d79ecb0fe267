"""A plugin of sqlite-utils: docs/sqlite-utils.md.

Each connection has the extension, so `sqlite-utils query`, `insert` and the others work with tables `USING ivf`. The commands
`enable-ivf` and `disable-ivf` are to a column of vectors what `enable-fts` and `disable-fts` are to one of texts.
"""

from __future__ import annotations

import sqlite3
import warnings
from typing import Any, Dict, Optional, Sequence

import click
from sqlite_utils import hookimpl

from . import vectors
from ._store import TYPES, created, fetched, transaction
from .loading import LoadError, load
from .table import Table, quoted

__all__ = ["disable_ivf", "enable_ivf"]

ENABLE = """Enable vector search for a column of embeddings

The vectors stay in the table, as blobs or JSON arrays.

Example:

\b
    sqlite-utils enable-ivf articles.db articles embedding
"""
DISABLE = """Drop the index that enable-ivf made, and its triggers

Example:

\b
    sqlite-utils disable-ivf articles.db articles
"""
#: Declared types in the words of an ivf table.
_KINDS = {**{kind: kind for kind in TYPES}, "REAL": "FLOAT", "INT": "INTEGER"}


@hookimpl
def prepare_connection(conn: sqlite3.Connection) -> None:
    """Loads the extension, unless the host has done that."""
    try:
        conn.execute("SELECT ivf_version()")
    except sqlite3.OperationalError:
        try:
            load(conn)
        except LoadError as error:  # the plugin comes with the package: who has no ivf tables must not miss it
            warnings.warn(str(error), RuntimeWarning, stacklevel=2)


def enable_ivf(
    db: Any,
    table: str,
    column: str,
    *,
    name: Optional[str] = None,
    metric: str = "cosine",
    element: str = "float32",
    dim: Optional[int] = None,
    rowid: Optional[str] = None,
    filters: Sequence[str] = (),
    partitions: Sequence[str] = (),
    model: Optional[str] = None,
    create_triggers: bool = False,
    replace: bool = False,
) -> Table:
    """Makes an index over a column of vectors of an ordinary table: docs/sql.md, "An index over your table".

    The index is called `<table>_ivf` unless `name` is given. `filters` and `partitions` are columns of the table by which
    searches filter, those of `partitions` with lists of their own for each value. `dim` is that of the first vector unless given.
    `rowid` is the column with unique whole numbers of a view.
    With `create_triggers` the index follows the table; without, `INSERT INTO index(index) VALUES ('rebuild')` does. `replace`
    drops an index of that name first.

    >>> from sqlite_utils import Database
    >>> db = Database(memory=True)
    >>> _ = db["notes"].insert_all({"id": i, "embedding": vectors.serialize_float32([i, 1])} for i in (1, 2, 3))
    >>> enable_ivf(db, "notes", "embedding", create_triggers=True).search([2, 1], k=1).ids.tolist()
    [2]
    """
    connection = db.conn
    prepare_connection(connection)
    name = name or f"{table}_ivf"
    details = {row[0]: row for row in fetched(connection, "SELECT name, type, pk FROM pragma_table_info(?)", (table,))}
    if not details:
        raise ValueError(f"there is no table {table!r}")
    for each in (column, *filters, *partitions):
        if each not in details:
            raise ValueError(f"{table!r} has no column {each!r}, its own are {', '.join(details)}")
    columns: Dict[str, str] = {}
    for each in (*filters, *partitions):
        kind = _KINDS.get(details[each][1].upper())
        accepted = ("INTEGER", "TEXT") if each in partitions else tuple(_KINDS)
        if kind is None or kind not in accepted:
            what = "of a partition is" if each in partitions else "to filter by is"
            raise ValueError(f"{table}.{each}: a column {what} {', '.join(accepted)}, got {details[each][1] or 'no type'!r}")
        columns[each] = kind + (" PARTITION KEY" if each in partitions else "")
    keys = [row for row in details.values() if row[2]]
    if rowid is None and len(keys) == 1 and keys[0][1].upper() == "INTEGER":
        rowid = keys[0][0]
    options: Dict[str, Any] = {"content": table, "content_rowid": rowid or "rowid"}
    if dim is None:
        first = fetched(connection, f"SELECT {quoted(column)} FROM {quoted(table)} WHERE {quoted(column)} IS NOT NULL LIMIT 1")
        if not first:
            raise ValueError(f"{table}.{column} has no vector yet: say how many dimensions they will have (dim)")
        value = first[0][0]
        bits = vectors.element_bits(element)
        dim = len(value) * 8 // bits if isinstance(value, bytes) else fetched(connection, "SELECT vec_length(?)", (value,))[0][0]
    with transaction(connection):
        if replace and created(connection, name) is not None:
            _drop(connection, name)
        index = Table.create(
            connection, name, int(dim), metric=metric, element=element, column=column, columns=columns, model=model, **options
        )
        index.command("rebuild")
        if create_triggers:
            fetched(connection, "SELECT ivf_triggers(?, 'create')", (name,))
    return index


def disable_ivf(db: Any, table: str, *, name: Optional[str] = None) -> None:
    """Drops an index that `enable_ivf` made, and its triggers."""
    prepare_connection(db.conn)
    with transaction(db.conn):
        _drop(db.conn, name or f"{table}_ivf")


def _drop(connection: Any, name: str) -> None:
    """Drops an index, not a table that has vectors of its own."""
    if fetched(connection, "SELECT content FROM ivf_stats(?)", (name,)) == [(None,)]:
        raise ValueError(f"{name!r} is no index over another table: it has vectors of its own, which would be lost")
    fetched(connection, "SELECT ivf_triggers(?, 'drop')", (name,))
    connection.execute(f"DROP TABLE {quoted(name)}")


@hookimpl
def register_commands(cli: Any) -> None:
    """Adds `enable-ivf` and `disable-ivf`."""
    path = click.argument("path", type=click.Path(exists=True, dir_okay=False, allow_dash=False))

    @cli.command(name="enable-ivf", help=ENABLE)
    @path
    @click.argument("table")
    @click.argument("column")
    @click.option("--name", help="Name of the index, TABLE_ivf unless given")
    @click.option("--metric", type=click.Choice(["cosine", "l2", "ip"]), default="cosine", show_default=True)
    @click.option(
        "--element",
        type=click.Choice(["float32", "float16", "bfloat16", "int8"]),
        default="float32",
        show_default=True,
        help="What the blobs are made of",
    )
    @click.option("--dim", type=int, help="Number of dimensions, for a table without vectors")
    @click.option("--rowid", metavar="COLUMN", help="Column with unique whole numbers, for a view")
    @click.option("--filter", "filters", multiple=True, metavar="COLUMN", help="Column to filter by in searches")
    @click.option("--partition", "partitions", multiple=True, metavar="COLUMN", help="Column whose values have lists of their own")
    @click.option("--model", help="Name of the embedding model, which searches can check")
    @click.option("--create-triggers", is_flag=True, help="Create triggers to update the index when the table changes")
    @click.option("--replace", is_flag=True, help="Replace an index of that name")
    def enable(path: str, table: str, column: str, **options: Any) -> None:
        _run(path, enable_ivf, table, column, **options)

    @cli.command(name="disable-ivf", help=DISABLE)
    @path
    @click.argument("table")
    @click.option("--name", help="Name of the index, TABLE_ivf unless given")
    def disable(path: str, table: str, **options: Any) -> None:
        _run(path, disable_ivf, table, **options)


def _run(path: str, command: Any, *given: Any, **options: Any) -> None:
    from sqlite_utils import Database  # sqlite-utils 3 imports plugins before it has this

    db = Database(path)
    try:
        command(db, *given, **options)
    except (ValueError, sqlite3.Error) as error:
        raise click.ClickException(str(error)) from error
    finally:
        db.close()
