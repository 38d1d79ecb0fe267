"""A plugin of sqlite-utils: docs/sqlite-utils.md.

Each connection has the extension, so `sqlite-utils query`, `insert` and the others work with tables `USING ivf`. The commands
`enable-ivf` and `disable-ivf` are to a column of vectors what `enable-fts` and `disable-fts` are to one of texts.
"""

from __future__ import annotations

import sqlite3
import warnings
from typing import Any, Dict, List, Optional, Sequence, Tuple

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
    `rowid` is the column with unique whole numbers of a view, or of a table without rowids.
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
    found = fetched(connection, "SELECT name, type, pk FROM pragma_table_xinfo(?) WHERE hidden != 1", (table,))
    details = {row[0]: row for row in found}
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
    rowid = _rowid_of(connection, table, column, rowid, list(details.values()))
    dim = _dim_of(connection, table, column, dim, element)
    options: Dict[str, Any] = {"content": table, "content_rowid": rowid}
    with transaction(connection):
        if replace and created(connection, name) is not None:
            _drop(connection, name)
        index = Table.create(
            connection, name, dim, metric=metric, element=element, column=column, columns=columns, model=model, **options
        )
        index.command("rebuild")
        lost = _vectors_of(connection, table, column, "count(*)")[0][0] - len(index)
        if lost and not len(index):
            raise ValueError(
                f"{table}.{column}: none of {lost} vectors fits an index of {dim} dimensions of {element} with metric {metric}: "
                "see --dim, --element and --metric"
            )
        if lost:
            warnings.warn(
                f"{table}.{column}: {lost} of {lost + len(index)} vectors do not fit an index of {dim} dimensions of {element} and "
                f"are left out: INSERT INTO {quoted(name)}({quoted(name)}) VALUES ('integrity-check') names them",
                UserWarning,
                stacklevel=2,
            )
        if create_triggers:
            fetched(connection, "SELECT ivf_triggers(?, 'create')", (name,))
    return index


def _vectors_of(connection: Any, table: str, column: str, what: str, more: str = "") -> List[Tuple[Any, ...]]:
    """What rows with a vector have."""
    return fetched(connection, f"SELECT {what} FROM {quoted(table)} WHERE {quoted(column)} IS NOT NULL {more}")


def _rowid_of(connection: Any, table: str, column: str, rowid: Optional[str], details: Sequence[Tuple[Any, ...]]) -> str:
    """The column of rowids: that which is given, or that of the table."""
    names = [row[0] for row in details]
    taken = {name.lower() for name in names}
    is_view = bool(fetched(connection, "SELECT 1 FROM sqlite_master WHERE type = 'view' AND name = ? COLLATE NOCASE", (table,)))
    keys = [row for row in details if row[2]]
    if rowid is None and len(keys) == 1 and keys[0][1].upper() == "INTEGER":
        return str(keys[0][0])
    if rowid is None and not is_view:
        for each in ("rowid", "_rowid_", "oid"):  # a column of such a name hides the rowid
            if each not in taken:
                try:
                    fetched(connection, f"SELECT {each} FROM {quoted(table)} LIMIT 0")
                except Exception as error:  # the class is the connection's
                    if "no such column" not in str(error):
                        raise
                    break
                return each
    if rowid is None or rowid.lower() not in taken | (set() if is_view else {"rowid", "_rowid_", "oid"}):
        what = "is a view" if is_view else "has no rowid of its own" if rowid is None else "has no such column"
        got = "none" if rowid is None else repr(rowid)
        raise ValueError(f"{table!r} {what}: --rowid is a column of unique whole numbers, of {', '.join(names)}; got {got}")
    if rowid.lower() in taken:
        named = quoted(rowid)
        for (value,) in _vectors_of(connection, table, column, named, f"AND CAST({named} AS INTEGER) IS NOT {named} LIMIT 1"):
            raise ValueError(f"{table}.{rowid}: --rowid is a column of unique whole numbers, got {value!r}")
        several = f"GROUP BY {named} HAVING count(*) > 1 LIMIT 1"
        for value, count in _vectors_of(connection, table, column, f"{named}, count(*)", several):
            raise ValueError(f"{table}.{rowid}: --rowid is a column of unique whole numbers, got {value!r} in {count} rows")
    return rowid


def _dim_of(connection: Any, table: str, column: str, dim: Optional[int], element: str) -> int:
    """The number of dimensions: that which is given, which must be that of the first vector."""
    first = _vectors_of(connection, table, column, quoted(column), "LIMIT 1")
    if not first:
        if dim is None:
            raise ValueError(f"{table}.{column} has no vector yet: say how many dimensions they will have (dim)")
        return int(dim)
    value, bits = first[0][0], vectors.element_bits(element)
    if isinstance(value, bytes):
        if not value or len(value) * 8 % bits:
            raise ValueError(f"{table}.{column}: a blob of {len(value)} bytes is no vector of {element}, see --element")
        there = len(value) * 8 // bits
    else:
        there = fetched(connection, "SELECT vec_length(?)", (value,))[0][0]
    if dim is not None and int(dim) != there:
        raise ValueError(
            f"--dim must be {there}, as the first vector of {table}.{column} has as {element}, or be left out; got {dim}"
        )
    return int(there)


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
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", UserWarning)
            command(db, *given, **options)
        for each in told:
            click.echo(f"Warning: {each.message}", err=True)
    except (ValueError, sqlite3.Error) as error:
        raise click.ClickException(str(error)) from error
    finally:
        db.close()
