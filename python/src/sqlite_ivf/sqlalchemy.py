"""SQLAlchemy: tables `USING ivf` in the metadata, vectors as a type, searches as expressions: docs/sqlalchemy.md.

>>> from sqlalchemy import Column, Integer, MetaData, Table, create_engine, insert, select
>>> engine = create_engine("sqlite://")
>>> load(engine)
>>> items = Table("items", MetaData(), Column("id", Integer, primary_key=True), Column("embedding", Vector(2)),
...               Column("year", Integer), sqlite_ivf=True)
>>> items.create(engine)
>>> with engine.begin() as connection:
...     rows = [{"embedding": [1, 0], "year": 2019}, {"embedding": [0, 2], "year": 2024}]
...     _ = connection.execute(insert(items), rows)
...     near = items.c.embedding
...     found = connection.execute(select(items.c.id, near.distance).where(near.knn([1, 0], k=1), items.c.year > 2020)).all()
>>> found
[(2, 2.236067977...)]
"""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

try:
    from sqlalchemy import (
        CheckConstraint,
        Column,
        Float,
        ForeignKeyConstraint,
        Integer,
        LargeBinary,
        Table,
        Text,
        UniqueConstraint,
        and_,
        bindparam,
        event,
        func,
        select,
    )
    from sqlalchemy.dialects import plugins
    from sqlalchemy.dialects.sqlite.base import SQLiteDialect
    from sqlalchemy.engine import CreateEnginePlugin
    from sqlalchemy.exc import ArgumentError, CompileError
    from sqlalchemy.ext.compiler import compiles
    from sqlalchemy.schema import CreateTable, DropTable
    from sqlalchemy.sql.expression import (
        BindParameter,
        ClauseElement,
        ColumnClause,
        ColumnElement,
        FromClause,
        ReturnsRows,
        ScalarSelect,
    )
    from sqlalchemy.types import UserDefinedType
except ImportError as error:
    raise ImportError(f"sqlite_ivf.sqlalchemy needs SQLAlchemy 2 ({error}): pip install 'sqlite-ivf[sqlalchemy]'") from error

from ._store import OPTIONS, SETTINGS, check_vector, metadata_kind, vector_blob, vector_value
from .loading import aload
from .loading import load as _load
from .table import _ELEMENTS, _NAME, _VECTOR, _literal, _plain, _text_of, _unquoted, quoted
from .vectors import pack

__all__ = ["Vector", "compare_type", "include_object", "index", "load", "render_item"]

_METRICS = ("l2", "cosine", "ip", "l1", "hamming")
#: What `sqlite_ivf={...}` takes beside the options of CREATE.
_OWN = ("partition_key", "auxiliary", "triggers")
_TABLE = (*OPTIONS, "content", "content_rowid", "model", *_OWN)
#: The function that tells others of which elements a blob is.
_MARKS = {"float16": "vec_f16", "bfloat16": "vec_bf16", "int8": "vec_int8", "bit": "vec_bit"}

# Table(..., sqlite_ivf=...), as other arguments of the dialect are: alembic writes it into its migrations.
Table.argument_for("sqlite", "ivf", None)


# Vectors


class Vector(UserDefinedType):
    """A vector: a column of an ivf table, or the bytes of one (`BLOB`) in an ordinary table.

    Values are what `serialize_float32` takes, or the bytes. `element` is float32, float16, bfloat16, int8 or bit, `metric` that of
    searches: l2 (the default), cosine, ip or l1, of bits hamming. `result` says what SELECT gives: "numpy", "memoryview" or "list".

    Expressions of such a column have `knn`, `distance`, `query_number` and `distance_to`.
    """

    cache_ok = True
    hashable = False

    def __init__(self, dim: int, metric: Optional[str] = None, element: str = "float32", result: str = "numpy") -> None:
        check_vector(dim, element, result)
        if metric is not None and metric not in _METRICS:
            raise ValueError(f"metric is one of {', '.join(_METRICS)}, got {metric!r}")
        self.dim, self.metric, self.element, self.result = dim, metric, element, result

    def get_col_spec(self, **_: Any) -> str:
        """The type in an ordinary table."""
        return "BLOB"

    def bind_processor(self, dialect: Any) -> Any:
        """Vectors to bytes."""
        return lambda value: None if value is None else vector_blob(value, self.dim, self.element)

    def literal_processor(self, dialect: Any) -> Any:
        """Vectors to SQL."""
        return lambda value: f"x'{vector_blob(value, self.dim, self.element).hex()}'"

    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        """Bytes to vectors."""
        return lambda stored: None if stored is None else vector_value(stored, self.element, self.result)

    def compare_values(self, x: Any, y: Any) -> bool:
        """Whether the bytes are the same: arrays do not compare as a whole."""
        try:
            return x is y or vector_blob(x, self.dim, self.element) == vector_blob(y, self.dim, self.element)
        except (TypeError, ValueError):  # None, or the ORM's mark of a value that is not loaded
            return False

    class comparator_factory(UserDefinedType.Comparator):  # noqa: N801
        """What the expressions have."""

        def _hidden(self, name: str, kind: Any) -> Any:
            table = getattr(self.expr, "table", None)
            if table is None or (isinstance(base := _base(table), Table) and _options(base) is None):
                raise ArgumentError(
                    f"{self.expr} is no column of an ivf table: declare it with sqlite_ivf=True, or search an index over it, "
                    "sqlite_ivf.sqlalchemy.index(...)"
                )
            return ColumnClause(name, kind, _selectable=table)

        @property
        def distance(self) -> Any:
            """The distance of the rows that `knn` finds; in conditions, a bound of the search."""
            return self._hidden("distance", Float())

        @property
        def query_number(self) -> Any:
            """Which query of `knn(matrix)` a row answers, from 0."""
            return self._hidden("query", Integer())

        def distance_to(self, other: Any, metric: Optional[str] = None) -> Any:
            """The distance of each row to a vector, computed without an index, in the type's metric unless one is given."""
            metric = metric or self.type.metric or ("hamming" if self.type.element == "bit" else "l2")
            if metric not in _METRICS:
                raise ValueError(f"metric is one of {', '.join(_METRICS)}, got {metric!r}")
            sides: List[Any] = [self.expr, self._vector(other)]
            if mark := _MARKS.get(self.type.element):
                sides = [getattr(func, mark)(side, type_=self.type) for side in sides]
            return getattr(func, f"vec_distance_{metric}")(*sides, type_=Float())

        def _vector(self, query: Any) -> Any:
            if _is_sql(query):
                return query
            return bindparam(None, query, type_=self.type, unique=True)

        def knn(
            self,
            query: Any,
            k: Optional[int] = None,
            *,
            among: Any = None,
            within: Any = None,
            per: Any = None,
            mmr: Union[float, str, None] = None,
            model: Optional[str] = None,
            **settings: Any,
        ) -> Any:
            """The condition that a row is one of the `k` nearest to a vector, or within a distance of it.

            Other conditions of the same WHERE are part of the search if docs/sql.md, "Conditions" lists them. `among` makes any
            others part of it: a condition on this table, a SELECT of keys, or a list of keys. `within` is a number or an
            expression, `per` a column, its name, or a tuple of one and a number; docs/sql.md describes `per`, `mmr` and `model`.
            `settings` are `nprobe`, `recall_target` and so on. A matrix asks many queries at once.
            """
            for name in settings:
                if name not in SETTINGS:
                    raise TypeError(f"knn: unknown argument {name!r}, expected one of {', '.join(SETTINGS)}")
            if getattr(query, "ndim", 1) == 2:
                batch = bindparam(None, pack(query, self.type.element), type_=LargeBinary(), unique=True)
                terms = [self._hidden("batch", Text()).match(batch)]
            else:
                self._hidden("k", Integer())  # an error where it is no ivf table
                terms = [self.expr.match(self._vector(query))]
            k = _plain(k)
            if isinstance(k, int) and not -(2**63) <= k < 2**63:
                raise ArgumentError(f"knn: k is a whole number of at most 64 bits, got {k}")
            given = {name: _plain(value) for name, value in settings.items() if value is not None}
            asked = (
                ("k", Integer(), k),
                ("per", Text(), None if per is None else self._per(per)),
                ("mmr", Text(), None if mmr is None else str(mmr)),
                ("model", Text(), model),
                ("params", Text(), _text_of(given) or None),
            )
            terms += [self._hidden(name, kind) == value for name, kind, value in asked if value is not None]
            if within is not None:
                terms.append(self.distance <= (within if _is_sql(within) else _distance(within)))
            if among is not None:
                terms.append(self._among(among))
            return and_(*terms)

        def _per(self, per: Any) -> Any:
            """The text of `per`; a column as a value would be each row's own."""
            if isinstance(per, BindParameter):
                return per
            named, *rows = per if isinstance(per, (tuple, list)) and len(per) == 2 else (per,)
            named = named.__clause_element__() if hasattr(named, "__clause_element__") else named
            base, numbers = _base(self.expr.table), [_plain(number) for number in rows]
            if isinstance(named, ColumnClause) and named.table is not None and _base(named.table) == base:
                named = named.name
            if not isinstance(named, str) or any(type(number) is not int or number < 1 for number in numbers):
                raise ArgumentError(f"knn: per is a column of {base}, its name, or a tuple of one and a number from 1, got {per!r}")
            return ":".join(map(str, (named, *numbers)))

        def _among(self, among: Any) -> Any:
            keys = list(self.expr.table.primary_key)
            key = keys[0] if keys else self._hidden("rowid", Integer())
            if hasattr(among, "__clause_element__"):
                among = among.__clause_element__()
            if isinstance(among, ScalarSelect):  # as a condition it would be the truth of one key
                among = among.element
            if _is_from(among):
                names = [column.name for column in among.exported_columns]
                if len(names) > 1:
                    raise ArgumentError(f"knn: among is a SELECT of one column, the keys, got columns {', '.join(names)}")
                return key.in_(select(among) if isinstance(among, FromClause) else among)
            if isinstance(among, ClauseElement):
                for other in _columns(among):
                    if other.table is not None and other.table != key.table:
                        # SELECT would join the other table, for every row of which every key is found.
                        raise ArgumentError(
                            f"knn: among is a condition on {key.table}, and {other} is no column of it: "
                            f"write a SELECT of keys, select({key}).where(...)"
                        )
                return key.in_(select(key).where(among).correlate(None))
            if isinstance(among, (str, bytes, Mapping)) or not isinstance(among, Iterable):
                raise ArgumentError(f"knn: among is a condition, a SELECT of keys or a list of keys, got {among!r}")
            # One parameter of any length; and SQLite would make `= ?` of a list of one, which asks something else.
            keys = [_plain(each) for each in among]
            for each in keys:
                if isinstance(each, (tuple, list, Mapping)):
                    raise ArgumentError(f"knn: among is a list of keys, got {each!r} in it")
            listed = func.json_each(json.dumps(keys)).table_valued("value")
            return key.in_(select(listed.c.value))


def _is_sql(given: Any) -> bool:
    """Whether it is an expression, or makes one."""
    return isinstance(given, ClauseElement) or hasattr(given, "__clause_element__")


def _distance(within: Any) -> float:
    number = math.nan
    if not isinstance(within, (bool, str, bytes, bytearray)):
        with suppress(TypeError, ValueError, OverflowError):
            number = float(within)
    if math.isnan(number):  # which SQLite would take as NULL
        raise ArgumentError(f"knn: within is a number, got {within!r}")
    return number


def _base(table: Any) -> Any:
    """The table of an alias."""
    while hasattr(table, "element"):
        table = table.element
    return table


def _is_from(given: Any) -> bool:
    """Whether it is a SELECT, a subquery or a table; a function is a FROM and a condition, and taken as the latter."""
    return isinstance(given, ReturnsRows) and not isinstance(given, ColumnElement)


def _columns(condition: Any) -> Iterable[Any]:
    """The columns that a condition names, without those of the SELECTs in it."""
    if isinstance(condition, ColumnClause):
        yield condition
    elif not _is_from(condition):
        for part in condition.get_children():
            yield from _columns(part)


# Tables


def _options(table: Any) -> Optional[Dict[str, Any]]:
    """What `sqlite_ivf` says of a table, None of an ordinary one."""
    given = table.dialect_options["sqlite"]["ivf"]
    if given is None or given is False:
        return None
    if given is not True and not isinstance(given, Mapping):
        raise ArgumentError(f"table {table.name!r}: sqlite_ivf is True or a dict of options, got {given!r}")
    options = {} if given is True else dict(given)
    for name in options:
        if name not in _TABLE:
            raise ArgumentError(f"table {table.name!r}: sqlite_ivf: unknown option {name!r}, expected one of {', '.join(_TABLE)}")
    for name in ("partition_key", "auxiliary"):
        options[name] = [options[name]] if isinstance(options.get(name), str) else list(options.get(name) or ())
        for column in options[name]:
            if column not in table.columns:
                raise ArgumentError(f"table {table.name!r}: sqlite_ivf: {name}: there is no column {column!r}")
    return options


@event.listens_for(Table, "after_parent_attach")
def _attached(table: Any, metadata: Any) -> None:
    options = _options(table)
    # Reflection attaches an index and its table in any order.
    for near in metadata.info.get("sqlite_ivf", {}).get(_key(table, table.name), ()):
        near.add_is_dependent_on(table)
    if options is None:
        return
    if content := options.get("content"):
        over = metadata.info.setdefault("sqlite_ivf", {})
        known = [near for near in over.get(_key(table, content), ()) if metadata.tables.get(near.key) is near]
        over[_key(table, content)] = [*known, table]
        for other in metadata.tables.values():
            if other is not table and _key(other, other.name) == _key(table, content):
                table.add_is_dependent_on(other)
    table.implicit_returning = False  # RETURNING of a virtual table gives -1 for a rowid that the table chooses
    for column in table.columns:
        column.nullable = not (column.primary_key or isinstance(column.type, Vector))


def _key(table: Any, name: str) -> Tuple[str, str]:
    """What tells tables of a schema apart: SQLite's names have no case."""
    return (table.schema or "main").lower(), name.lower()


@compiles(CreateTable, "sqlite")
def _create_table(create: Any, compiler: Any, **kw: Any) -> str:
    table = create.element
    options = _options(table)
    if options is None:
        return compiler.visit_create_table(create, **kw)  # type: ignore[no-any-return]
    for items, what in (
        (table._prefixes, "a prefix such as TEMPORARY"),
        (table.indexes, "an index of its columns"),
        ([each for each in table.constraints if isinstance(each, ForeignKeyConstraint)], "a foreign key"),
        ([each for each in table.constraints if isinstance(each, CheckConstraint)], "a CHECK constraint"),
        ([each for each in table.constraints if isinstance(each, UniqueConstraint)], "a UNIQUE constraint"),
        ([each for each in table.columns if each.server_default is not None], "a server default"),
    ):
        if items:
            raise CompileError(f"table {table.name!r} is an ivf table, which cannot have {what}: {next(iter(items))}")
    if len(table.primary_key) > 1:
        raise CompileError(f"table {table.name!r} is an ivf table, whose key is one column, got {list(table.primary_key)}")
    parts = [_column(column, options, compiler) for column in table.columns]
    for name, value in options.items():
        if name not in _OWN and value is not None:
            in_quotes = name in ("content", "content_rowid")
            parts.append(f"{name}={quoted(value) if in_quotes else _literal(value) if name == 'model' else value}")
    exists = "IF NOT EXISTS " if create.if_not_exists else ""
    return f"\nCREATE VIRTUAL TABLE {exists}{compiler.preparer.format_table(table)} USING ivf({', '.join(parts)})\n\n"


def _column(column: Any, options: Mapping[str, Any], compiler: Any) -> str:
    name = quoted(column.name)
    if isinstance(column.type, Vector):
        metric = f" distance_metric={column.type.metric}" if column.type.metric else ""
        return f"{name} {column.type.element}[{column.type.dim}]{metric}"
    declared = compiler.dialect.type_compiler_instance.process(column.type, type_expression=column)
    kind = metadata_kind(declared)
    if column.name in options["auxiliary"]:
        return f"+{name} {kind or 'BLOB'}"
    if kind is None:
        raise CompileError(
            f"table {column.table.name!r}: column {column.name!r} is {declared}, which an ivf table only carries along: "
            f"sqlite_ivf={{'auxiliary': [{column.name!r}]}}"
        )
    key = " PRIMARY KEY" if column.primary_key else " PARTITION KEY" if column.name in options["partition_key"] else ""
    return f"{name} {kind}{key}"


def index(name: str, vector: Any, *columns: Any, rowid: Any = None, **options: Any) -> Any:
    """An index over a table: an ivf table beside it that keeps no vectors, filled and kept up to date by triggers.

    `vector` is a column with vectors, of a table or a mapped class, and `columns` are those by which searches filter. The result
    is a `Table` of the same metadata with these columns and the key of the table, which is INTEGER. `rowid` is another column
    that identifies the rows. `options` are those of `sqlite_ivf={...}`. `triggers=False` leaves the triggers out.
    """
    chosen = [_column_of(each) for each in (vector, *columns)]
    table = chosen[0].table
    keys = list(table.primary_key) if rowid is None else [_column_of(rowid)]
    if len(keys) != 1 or not isinstance(keys[0].type, Integer):
        raise ArgumentError(f"index {name!r}: {table.name!r} has no INTEGER key: give a column of unique whole numbers as rowid")
    for each in chosen:
        if each.table is not table:
            raise ArgumentError(f"index {name!r}: {each} is no column of {table.name!r}")
    if not isinstance(chosen[0].type, Vector):
        raise ArgumentError(f"index {name!r}: {chosen[0]} is {chosen[0].type!r}, a Vector is expected")
    return Table(
        name,
        table.metadata,
        Column(keys[0].name, keys[0].type, primary_key=True, autoincrement=False),
        *(Column(each.name, each.type) for each in chosen),
        sqlite_ivf={**options, "content": table.name, "content_rowid": keys[0].name},
        schema=table.schema,
    )


def _column_of(given: Any) -> Any:
    """The column of a table, also of a mapped attribute."""
    prop: Any = getattr(given, "property", None)
    column = prop.columns[0] if hasattr(prop, "columns") else given
    if not isinstance(column, Column):
        raise ArgumentError(f"a column of a table is expected, got {given!r}")
    return column


# Engines


def load(engine: Any) -> None:
    """Loads the extension into each connection that an engine opens from now on; for an `AsyncEngine`, too.

    The engine then creates and drops the triggers of indexes with them, and its reflection knows ivf tables: it leaves the shadow
    tables out, and finds vectors and options.
    """
    engine = getattr(engine, "sync_engine", engine)
    if engine.dialect.name != "sqlite":
        raise ValueError(f"an engine of SQLite is expected, got one of {engine.dialect.name!r}")
    if isinstance(engine.dialect, _Reflection):
        return
    kind = type(engine.dialect)
    # A subclass of the class that it is: reflection has no events for the names of tables.
    engine.dialect.__class__ = type(kind.__name__, (_Reflection, kind), {"supports_statement_cache": True})
    event.listen(engine, "connect", _connected)
    event.listen(engine, "before_execute", _before)
    event.listen(engine, "after_execute", _after)


class _Plugin(CreateEnginePlugin):
    """`create_engine(url, plugins=["sqlite_ivf"])`, or `?plugin=sqlite_ivf` in the URL."""

    def update_url(self, url: Any) -> Any:
        return url

    def engine_created(self, engine: Any) -> None:
        load(engine)


plugins.register("sqlite_ivf", __name__, "_Plugin")


def _connected(connection: Any, _: Any) -> None:
    if hasattr(connection, "run_async"):
        connection.run_async(aload)
    else:
        _load(connection)


def _before(connection: Any, statement: Any, *_: Any) -> None:
    """DROP of an index leaves its triggers, which then fail every write to the table."""
    if isinstance(statement, DropTable):
        table: Any = statement.element
        made = _made(connection, table.name, table.schema)
        if made is not None and "content" in made.options:
            connection.exec_driver_sql("SELECT ivf_triggers(?, 'drop')", (_named(table),)).all()


def _after(connection: Any, statement: Any, *_: Any) -> None:
    options = _options(statement.element) if isinstance(statement, CreateTable) else None
    if options is not None and "content" in options:
        table: Any = statement.element
        if options.get("triggers", True):
            connection.exec_driver_sql("SELECT ivf_triggers(?, 'create')", (_named(table),)).all()
        target = f"{quoted(table.schema or 'main')}.{quoted(table.name)}"
        taken = table.name.lower() in [column.name.lower() for column in table.columns]
        command = quoted(f"{table.name}_command" if taken else table.name)
        connection.exec_driver_sql(f"INSERT INTO {target}({command}) VALUES ('rebuild')")


def _named(table: Any) -> str:
    return f"{table.schema or 'main'}.{table.name}"


# Reflection


class _Made(NamedTuple):
    vectors: Dict[str, Vector]
    key: Optional[str]
    options: Dict[str, Any]


_PART = re.compile(r"""(?:[^,'"`\[(]|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|\([^)]*\))+""")


def _made(connection: Any, name: str, schema: Optional[str]) -> Optional[_Made]:
    """What the statement that made an ivf table says, None of other tables."""
    sql = f"SELECT sql FROM {quoted(schema or 'main')}.sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE"
    created = connection.exec_driver_sql(sql, (name,)).scalar() or ""
    found = re.search(r"\bUSING\s+[\"`\[]?ivf[\"`\]]?\s*\((.*)\)\s*;?\s*$", created, re.IGNORECASE | re.DOTALL)
    if not created.upper().startswith("CREATE VIRTUAL TABLE") or found is None:
        return None
    vectors = {}
    for column, element, dim, metric in _VECTOR.findall(created):
        vectors[_unquoted(column)] = Vector(int(dim), metric.lower() or None, _ELEMENTS.get(element.lower(), element.lower()))
    key: Optional[str] = None
    options: Dict[str, Any] = {}
    for part in _PART.findall(found.group(1)):
        own = re.match(rf"\s*(\+?)\s*({_NAME})\s*(.*)", part, re.DOTALL)
        if own is None:
            continue
        plus, column, rest = own.groups()
        if plus:
            options.setdefault("auxiliary", []).append(_unquoted(column))
        elif re.search(r"\bPRIMARY\s+KEY\b", rest, re.IGNORECASE):
            key = _unquoted(column)
        elif re.search(r"\bPARTITION\s+KEY\b", rest, re.IGNORECASE):
            options.setdefault("partition_key", []).append(_unquoted(column))
        elif rest.startswith("=") and column.lower() in _TABLE:
            value = rest[1:].strip()
            options[column.lower()] = value[1:-1].replace(value[0] * 2, value[0]) if value[:1] in "'\"`" else value
    return _Made(vectors, key, options)


class _Reflection(SQLiteDialect):
    """What `load` adds to the dialect of an engine."""

    def get_table_names(self, connection: Any, schema: Optional[str] = None, **kw: Any) -> Sequence[str]:
        names = super().get_table_names(connection, schema, **kw)
        sql = "SELECT name FROM pragma_table_list WHERE schema = ? COLLATE NOCASE AND type = 'shadow'"
        shadows = set(connection.exec_driver_sql(sql, (schema or "main",)).scalars())
        return [name for name in names if name not in shadows]

    def get_columns(self, connection: Any, table_name: str, schema: Optional[str] = None, **kw: Any) -> Sequence[Any]:
        columns: Sequence[Any] = super().get_columns(connection, table_name, schema, **kw)
        made = _made(connection, table_name, schema)
        if made is None:
            return columns
        changes: Dict[Any, Any] = {name: {"type": kind, "nullable": False} for name, kind in made.vectors.items()}
        changes[made.key] = {"primary_key": 1, "nullable": False}  # which SQLite does not tell of a text
        return [{**column, **changes.get(column["name"], {})} for column in columns]

    def get_table_options(self, connection: Any, table_name: str, schema: Optional[str] = None, **kw: Any) -> Any:
        made = _made(connection, table_name, schema)
        if made is not None:
            return {"sqlite_ivf": made.options or True}
        try:
            return super().get_table_options(connection, table_name, schema, **kw)
        except NotImplementedError:  # SQLAlchemy 2.0
            return {}


# Alembic


def include_object(item: Any, name: Optional[str], type_: str, reflected: bool, compare_to: Any) -> bool:
    """For alembic's `context.configure`: leaves the ivf tables alone that the metadata does not have, as those of `op.execute`."""
    return not (type_ == "table" and reflected and compare_to is None and _options(item) is not None)


def render_item(type_: str, item: Any, autogen_context: Any) -> Any:
    """For alembic's `context.configure`: writes `Vector` with its import."""
    if type_ == "type" and isinstance(item, Vector):
        autogen_context.imports.add("import sqlite_ivf.sqlalchemy")
        return f"sqlite_ivf.sqlalchemy.{item!r}"
    return False


def compare_type(context: Any, inspected: Any, declared: Any, inspected_type: Any, declared_type: Any) -> Optional[bool]:
    """For alembic's `context.configure`: types of an ivf table differ if it would be made with others."""
    if _options(declared.table) is None:
        return None
    if isinstance(declared_type, Vector) or isinstance(inspected_type, Vector):
        kinds = [(each.dim, each.element, each.metric) for each in (inspected_type, declared_type) if isinstance(each, Vector)]
        return len(set(kinds)) != 1 or len(kinds) != 2
    compiled = [context.dialect.type_compiler_instance.process(each) for each in (inspected_type, declared_type)]
    return metadata_kind(compiled[0]) != metadata_kind(compiled[1])
