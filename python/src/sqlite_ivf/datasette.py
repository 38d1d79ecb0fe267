"""A plugin of Datasette: docs/datasette.md.

Each connection has the extension, and the SQL functions that the setting `embed` names. A table `USING ivf`, or an ordinary one
that such a table indexes, has queries that search by one of its rows and by a typed text. Pages show vectors as numbers.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import logging
import re
import sqlite3
import urllib.parse
import warnings
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Set, Tuple
from weakref import WeakKeyDictionary, WeakSet

from datasette import hookimpl
from datasette.plugins import pm
from datasette.utils import StartupError
from markupsafe import Markup

from . import vectors
from .loading import LoadError, load
from .table import _ELEMENTS, _VECTOR, Table, _literal, _option, _unquoted, quoted

#: The plugin's name in Datasette's configuration, and its settings.
NAME = "sqlite-ivf"
SETTINGS = ("embed", "queries")
TABLE_SETTINGS = ("function", "fts", "queries")

_MODULE = re.compile(r"\s*CREATE\s+VIRTUAL\s+TABLE\b.*?\bUSING\s+[\"`\[]?(\w+)", re.IGNORECASE | re.DOTALL)
_log = logging.getLogger("sqlite_ivf.datasette")


@dataclass(frozen=True)
class _Column:
    """A vector column."""

    name: str
    element: str
    dim: int
    metric: str

    def holds(self, value: object) -> bool:
        return isinstance(value, bytes) and len(value) * 8 == self.dim * vectors.ELEMENTS[self.element]

    def asked(self, function: str) -> str:
        """The SQL of a typed text's vector, of which `function` makes 4-byte floats."""
        text = f"{function}(:text)"
        if self.metric == "cosine":  # zeros have no direction, and are what many functions make of a text without words
            text = f"nullif({text}, zeroblob({4 * self.dim}))"
        if self.element == "int8":
            return f"vec_quantize_int8({text}, 'unit')"
        if self.element == "bit":
            return f"vec_quantize_binary({text})"
        return text if self.element == "float32" else f"vec_f32({text})"

    def shown(self, value: bytes) -> str:
        """The type and the first numbers."""
        read = getattr(vectors, "deserialize_bits" if self.element == "bit" else f"deserialize_{self.element}")
        numbers = read(value[: max(1, 3 * vectors.ELEMENTS[self.element] // 8)])
        listed = [*(format(number, ".2g") for number in numbers), *(["…"] if len(numbers) < self.dim else [])]
        return f"{self.element.replace('float32', 'float')}[{self.dim}] [{', '.join(listed)}]"


@dataclass(frozen=True)
class _Index:
    """A table `USING ivf`, and what its rows are read from: an ordinary table that it indexes, or itself."""

    name: str
    columns: Tuple[_Column, ...]
    #: Columns that are parameters of searches, which Datasette would show.
    hidden: Tuple[str, ...]
    shadows: Tuple[str, ...]
    source: str
    #: The source's rowid, the columns that identify its row, and those worth showing.
    rowid: str
    keys: Tuple[str, ...]
    shown: Tuple[str, ...]
    #: FTS5 tables that may have the same rowids, the likeliest first.
    fts: Tuple[str, ...]

    @property
    def own(self) -> bool:
        return self.source == self.name

    def near(self, vector: str) -> str:
        """The SQL of a search."""
        column = quoted(self.columns[0].name)
        shown, joined = self._shown("near")
        return (
            f"SELECT round(near.distance, 4) AS distance, {shown}\n  FROM {quoted(self.name)} AS near{joined}\n"
            f" WHERE near.{column} MATCH {vector}\n   AND near.k = coalesce(nullif(:k, ''), 20)\n ORDER BY near.distance"
        )

    def hybrid(self, fts: str, vector: str) -> str:
        """The SQL of a hybrid search."""
        shown, joined = self._shown("found")
        return (
            f"SELECT found.rank, found.vec_rank, found.fts_rank, {shown}\n"
            f"  FROM ivf_hybrid({_literal(self.name)}, {_literal(fts)}, {vector}, :text, coalesce(nullif(:k, ''), 20)) AS found"
            f"{joined}\n ORDER BY found.rank"
        )

    def _shown(self, found: str) -> Tuple[str, str]:
        """What a search shows of its rows, and the join that reads it."""
        if self.own and found == "near":
            return ", ".join(["near.rowid", *(f"near.{quoted(name)}" for name in self.shown)]), ""
        names = [*(["source.rowid"] if self.own else []), *(f"source.{quoted(name)}" for name in self.shown)]
        return ", ".join(names), f"\n  JOIN {quoted(self.source)} AS source ON source.{quoted(self.rowid)} = {found}.rowid"

    @property
    def parameters(self) -> Dict[str, str]:
        """The parameters that identify a row, and their columns."""
        return {
            key if re.fullmatch(r"[A-Za-z_]\w*", key, re.ASCII) and key not in ("k", "text") else f"key{place}": key
            for place, key in enumerate(self.keys)
        }

    @property
    def like(self) -> str:
        """The SQL of the vector of a row."""
        where = " AND ".join(f"{quoted(key)} = :{parameter}" for parameter, key in self.parameters.items())
        return f"(SELECT {quoted(self.columns[0].name)} FROM {quoted(self.source)} WHERE {where})"


def _indexes(connection: sqlite3.Connection) -> List[_Index]:
    """All tables `USING ivf` of a database."""
    listed = connection.execute("SELECT name, coalesce(sql, '') FROM sqlite_master WHERE type IN ('table', 'view')")
    created = {name: sql for name, sql in listed}
    modules = {name: found.group(1).lower() for name, sql in created.items() for found in [_MODULE.match(sql)] if found}
    found = []
    for name, module in modules.items():
        if module not in ("ivf", "vec0"):
            continue
        try:
            table = Table(connection, name)
            state = connection.execute("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'shadow'").fetchall()
        except (ValueError, sqlite3.DatabaseError) as error:  # damaged, or without the extension
            _log.warning("%s: %s", name, error)
            continue
        columns = [
            _Column(_unquoted(each[0]), _ELEMENTS.get(each[1].lower(), each[1].lower()), int(each[2]), each[3].lower())
            for each in _VECTOR.findall(table.created)
        ]
        columns.sort(key=lambda column: column.name != table.column)
        source = _option(table.created, "content") or name
        source = next((each for each in created if each.lower() == source.lower()), source)
        details = connection.execute("SELECT name, pk, hidden FROM pragma_table_xinfo(?)", (source,)).fetchall()
        if not details:  # the indexed table is gone
            continue
        rowid = _option(table.created, "content_rowid") or "rowid"
        keys = [each for each, pk, _ in sorted(details, key=lambda detail: int(detail[1])) if pk] or [rowid]
        others = [other for other, module in modules.items() if module == "fts5"]
        fts = [other for other in others if _option(created[other], "content") in (source, name)]
        fts += [other for other in others if other in (f"{source}_fts", f"{name}_fts") and other not in fts]
        found.append(
            _Index(
                name=name,
                columns=tuple(columns),
                hidden=tuple(table._hidden),
                shadows=tuple(each for (each,) in state if re.fullmatch(rf"{re.escape(name)}_\w+", each)),
                source=source,
                rowid=rowid,
                keys=tuple(keys),
                shown=tuple(each for each, _, hidden in details if hidden != 1 and each not in {column.name for column in columns}),
                fts=tuple(fts),
            )
        )
    return found


def _settings(datasette: Any, database: str, *tables: str) -> Dict[str, Any]:
    """The settings of a database or of tables, those of the last one first."""
    merged: Dict[str, Any] = {}
    levels: List[Tuple[str, Any, Tuple[str, ...]]] = [("plugins", datasette.plugin_config(NAME), SETTINGS)]
    own = datasette.plugin_config(NAME, database=database, fallback=False)
    levels.append((f"databases: {database}: plugins", own, SETTINGS))
    for table in tables:
        own = datasette.plugin_config(NAME, database=database, table=table, fallback=False)
        levels.append((f"databases: {database}: tables: {table}: plugins", own, TABLE_SETTINGS))
    for where, given, accepted in levels:
        if not isinstance(given or {}, Mapping):
            raise StartupError(f"{where}: {NAME}: settings are expected ({', '.join(accepted)}), got {given!r}")
        for name in given or {}:
            if name not in accepted:
                raise StartupError(f"{where}: {NAME}: unknown setting {name!r}, expected one of {', '.join(accepted)}")
        if not isinstance((given or {}).get("queries", True), bool):
            raise StartupError(f"{where}: {NAME}: queries: true or false is expected, got {given['queries']!r}")
        merged.update(given or {})
    return merged


def _functions(settings: Mapping[str, Any]) -> Dict[str, str]:
    """SQL functions that embed a text, and the Python functions that they are."""
    given = settings.get("embed") or {}
    functions = {"embed": given} if isinstance(given, str) else given
    form = "'module:function', or names of SQL functions with such values"
    if not isinstance(functions, Mapping):
        raise StartupError(f"plugins: {NAME}: embed: {form} is expected, got {given!r}")
    for name, python in functions.items():
        if not (isinstance(python, str) and re.fullmatch(r"[\w.]+:[\w.]+", python) and re.fullmatch(r"[A-Za-z_]\w*", str(name))):
            raise StartupError(f"plugins: {NAME}: embed: {form} is expected, got {name!r}: {python!r}")
    return dict(functions)


@functools.cache
def _python(python: str) -> Callable[[str], Any]:
    """The function that a setting names, from a module or from a file of --plugins-dir."""
    module, _, path = python.partition(":")
    found: Any = next((each for each in pm.get_plugins() if getattr(each, "__name__", "") == f"{module}.py"), None)
    try:
        found = functools.reduce(getattr, path.split("."), found or importlib.import_module(module))
        if not callable(found):
            raise TypeError(f"a function is expected, got {type(found).__name__}")
    except Exception as error:
        raise StartupError(f"plugins: {NAME}: embed: {python!r}: {type(error).__name__}: {error}") from error
    return found  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=256)
def _embedded(python: str, text: str) -> Optional[bytes]:
    """The vector of a text; none where the function gives one without numbers."""
    vector = _python(python)(text)
    return (bytes(vector) if isinstance(vector, (bytes, bytearray, memoryview)) else vectors.serialize_float32(vector)) or None


def _sql_function(python: str) -> Callable[[Any], Optional[bytes]]:
    def embed(text: Any) -> Optional[bytes]:
        # An empty form asks for nothing: a search by NULL finds no rows.
        if text is None or not str(text).strip():
            return None
        try:
            return _embedded(python, str(text))
        except Exception as error:  # SQLite says only that a function failed, and Datasette prints this
            raise RuntimeError(f"plugins: {NAME}: embed: {python!r}: {type(error).__name__}: {error}") from error

    return embed


def _refused(table: str, command: str) -> None:
    """In the place of ivf_command, which changes the memory of the process."""
    raise PermissionError("ivf_command is not for visitors")


@hookimpl
def prepare_connection(conn: sqlite3.Connection, database: str, datasette: Any) -> None:
    """Loads the extension, and registers the functions that embed."""
    try:
        load(conn)
    except LoadError as error:  # the plugin comes with the package: who has no ivf tables must not miss it
        warnings.warn(str(error), RuntimeWarning, stacklevel=2)
        return
    conn.create_function("ivf_command", 2, _refused)
    for name, python in _functions(_settings(datasette, database)).items():
        conn.create_function(name, 1, _sql_function(python), deterministic=True)


#: What was found in a database, and at which version of its schema.
_known: WeakKeyDictionary[Any, Tuple[int, List[_Index]]] = WeakKeyDictionary()
_wrapped: WeakSet[Any] = WeakSet()


def _known_of(database: Any) -> List[_Index]:
    return [] if database is None else _known.get(database, (0, []))[1]


def _read(database: Any, connection: sqlite3.Connection) -> List[_Index]:
    version = connection.execute("PRAGMA schema_version").fetchone()[0]
    known = _known.get(database)
    if known is None or known[0] != version:
        known = _known[database] = (version, _indexes(connection))
    return known[1]


async def _indexes_of(datasette: Any, name: str) -> List[_Index]:
    database = datasette.databases[name]
    before = _known.get(database)
    found: List[_Index] = await database.execute_fn(lambda connection: _read(database, connection))
    _leave_out_parameters(database)
    if hasattr(datasette, "add_query") and _known.get(database) is not before:
        await _store(datasette, name, found)
    return found


def _leave_out_parameters(database: Any) -> None:
    """Lets Datasette see the columns of a table without those that are parameters of its searches.

    Otherwise these are empty columns of its pages, JSON and CSV, and facets are looked for in them, where a search refuses that.
    Datasette has no hook for it, so the methods of the object are wrapped.
    """
    if database in _wrapped:
        return
    _wrapped.add(database)

    def wrap(method: str, name_of: Callable[[Any], str]) -> None:
        listed = getattr(database, method)

        @functools.wraps(listed)
        async def without(table: str) -> List[Any]:
            columns = await listed(table)
            hidden = {name for index in _known_of(database) if index.name == table for name in index.hidden}
            return [column for column in columns if name_of(column) not in hidden] if hidden else columns

        setattr(database, method, without)

    wrap("table_columns", str)
    wrap("table_column_details", lambda column: column.name)


@dataclass(frozen=True)
class _Query:
    """A query that the plugin offers."""

    index: _Index
    sql: str
    parameters: List[str]
    title: str
    description: str


#: The queries of a database, as made from what was found in it: Datasette asks for all of them whenever it needs one.
_made: WeakKeyDictionary[Any, Tuple[List[_Index], Dict[str, _Query]]] = WeakKeyDictionary()


def _queries(datasette: Any, database: str, indexes: List[_Index]) -> Dict[str, _Query]:
    """The queries of a database, by name."""
    key = datasette.databases[database]
    made = _made.get(key)
    if made is None or made[0] is not indexes:
        made = _made[key] = (indexes, _make_queries(datasette, database, indexes))
    return made[1]


def _make_queries(datasette: Any, database: str, indexes: List[_Index]) -> Dict[str, _Query]:
    offered: Dict[str, _Query] = {}
    functions = _functions(_settings(datasette, database))
    for index in indexes:
        settings = _settings(datasette, database, index.source, index.name)
        if settings.get("queries") is False:
            continue
        function, fts = settings.get("function", next(iter(functions), None)), settings.get("fts", next(iter(index.fts), None))
        if function is not None and function not in functions:
            known = ", ".join(functions) or "none"
            raise StartupError(f"plugins: {NAME}: function: one of the setting embed is expected ({known}), got {function!r}")
        # Two indexes of one table are told apart by their own names.
        base = index.source if f"{index.source}_similar" not in offered else index.name
        k = "k is how many, 20 if it is empty."
        offered[f"{base}_similar"] = _Query(
            index,
            index.near(index.like),
            [*index.parameters, "k"],
            f"{base}: rows like this one",
            f"The nearest rows of a row of {base}, by {index.columns[0].name}. {k}",
        )
        if function is None:
            continue
        vector = index.columns[0].asked(function)
        none = "A text without words, of which the function makes no vector or only zeros, finds nothing by meaning: type others."
        offered[f"{base}_search"] = _Query(
            index,
            index.near(vector),
            ["text", "k"],
            f"{base}: search by meaning",
            f"The rows of {base} whose {index.columns[0].name} is nearest to that of a text. {none} {k}",
        )
        if fts is not None:
            offered[f"{base}_hybrid"] = _Query(
                index,
                index.hybrid(fts, vector),
                ["text", "k"],
                f"{base}: search by meaning and words",
                f"The rows of {base} that the vector and the words of a text find together. {none} {k}",
            )
    return offered


async def _store(datasette: Any, database: str, indexes: List[_Index]) -> None:
    """Keeps the queries of a database in Datasette 1.0, which has no hook for them."""
    offered = _queries(datasette, database, indexes)
    page = await datasette.list_queries(database, source=NAME, limit=1000, include_private=True)
    for query in page.queries:
        if query.name not in offered:
            await datasette.remove_query(database, query.name, source=NAME)
    for name, query in offered.items():
        there = await datasette.get_query(database, name)
        if there is None or there.source == NAME:
            # Not trusted: who may not run SQL may not read a table by this.
            await datasette.add_query(
                database,
                name,
                query.sql,
                title=query.title,
                description=query.description,
                parameters=query.parameters,
                hide_sql=True,
                source=NAME,
            )


@hookimpl
def startup(datasette: Any) -> Callable[[], Any]:
    """Says at the start what is wrong with the settings, and imports what embeds: a search has a time limit."""

    async def check() -> None:
        for name in datasette.databases:
            for python in _functions(_settings(datasette, name)).values():
                _python(python)
            indexes = await _indexes_of(datasette, name)
            _queries(datasette, name, indexes)
            _check_tables(datasette, name, {each for index in indexes for each in (index.name, index.source)})

    return check


def _check_tables(datasette: Any, database: str, tables: Set[str]) -> None:
    """Says which settings are of no table that is searched. A table may still be made, so this is no error."""
    everything = datasette.config if hasattr(datasette, "add_query") else datasette.metadata()
    own = ((everything or {}).get("databases") or {}).get(database) or {}
    for table, given in (own.get("tables") or {}).items():
        if table not in tables and NAME in ((given or {}).get("plugins") or {}):
            known = ", ".join(sorted(tables)) or "none"
            warnings.warn(
                f"databases: {database}: tables: {table}: plugins: {NAME}: there is no such table USING ivf, or indexed by one; "
                f"those of {database} are {known}",
                RuntimeWarning,
                stacklevel=2,
            )


#: Who may read what, as long as one request is served: Datasette asks for all queries of a database for each of them.
_allowed: WeakKeyDictionary[Any, Dict[Tuple[Any, ...], bool]] = WeakKeyDictionary()


async def _visible(datasette: Any, database: str, table: str, actor: Any) -> bool:
    known = _allowed.setdefault(asyncio.current_task(), {})
    key = (id(datasette), database, table, repr(actor))
    if key not in known:
        permissions = [("view-table", (database, table)), ("view-database", database), "view-instance"]
        known[key], _ = await datasette.check_visibility(actor, permissions=permissions)
    return known[key]


@hookimpl(optionalhook=True)  # Datasette 0.65
def canned_queries(datasette: Any, database: str, actor: Any) -> Callable[[], Any]:
    """Queries that search. Who may not read a table may not run its queries."""

    async def offer() -> Dict[str, Dict[str, Any]]:
        taken = {*(datasette.metadata("queries", database=database, fallback=False) or {})}
        taken.update(await datasette.databases[database].table_names())
        found = {}
        for name, query in _queries(datasette, database, await _indexes_of(datasette, database)).items():
            if name in taken:
                continue
            visible = await _visible(datasette, database, query.index.source, actor)
            found[name] = {
                "sql": query.sql,
                "title": query.title,
                "description": query.description,
                "params": query.parameters,
                "hide_sql": True,
                # A query is asked for with each actor whose right is checked.
                **({} if visible else {"allow": False}),
            }
        return found

    return offer


@hookimpl(optionalhook=True)  # Datasette 0.65; 1.0 hides shadow tables by itself
def get_metadata(datasette: Any, key: Any, database: Any, table: Any) -> Dict[str, Any]:
    """Hides shadow tables, and tables that only index others, as Datasette hides those of FTS."""
    hidden = {}
    for name, each in getattr(datasette, "databases", {}).items():
        indexes = _known_of(each)
        names = [shadow for index in indexes for shadow in index.shadows] + [index.name for index in indexes if not index.own]
        if names:
            hidden[name] = {"tables": {name: {"hidden": True} for name in names}}
    return {"databases": hidden}


@hookimpl
def render_cell(row: Any, value: Any, column: str, table: Optional[str], database: str, datasette: Any) -> Any:
    """A vector as numbers, and a link to the rows like its own."""
    if not isinstance(value, bytes):
        return None
    indexes = _known_of(datasette.databases.get(database))
    for index in indexes:
        # A query's cells are of no table: there a name and a length tell a vector.
        shown = next((each for each in index.columns if each.name == column and each.holds(value)), None)
        if shown is None or table not in (None, index.name, index.source):
            continue
        numbers = Markup("<code>{}</code>").format(shown.shown(value))
        if table != index.source or shown is not index.columns[0]:
            return numbers
        names = [name for name, query in _queries(datasette, database, indexes).items() if query.index is index]
        if not names or not {*index.keys} <= {*row.keys()}:
            return numbers
        key = urllib.parse.urlencode({parameter: row[key] for parameter, key in index.parameters.items()})
        return numbers + Markup(' <a href="{}?{}">similar&nbsp;rows</a>').format(datasette.urls.query(database, names[0]), key)
    return None


@hookimpl
def table_actions(datasette: Any, actor: Any, database: str, table: str, request: Any) -> Callable[[], Any]:
    """Links to the queries of a table."""

    async def links() -> List[Dict[str, str]]:
        found = []
        for name, query in _queries(datasette, database, await _indexes_of(datasette, database)).items():
            if table in (query.index.name, query.index.source):
                link = {"href": datasette.urls.query(database, name), "label": query.title.partition(": ")[2].capitalize()}
                found.append({**link, "description": query.description})
        return found

    return links
