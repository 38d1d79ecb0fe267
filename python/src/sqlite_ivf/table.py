"""A table `USING ivf`, without writing SQL, and without hiding it."""

from __future__ import annotations

import json
import logging
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from . import vectors as _vectors
from ._store import FEW, executed
from .loading import Connection
from .progress import Callback, watch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import TypedDict, Unpack

    class Settings(TypedDict, total=False):
        """How much a search scans, see docs/sql.md, "How much is searched". `auto` is for `Table.set` and `Table.create`."""

        nprobe: Union[int, float, str]
        max_codes: Union[int, str]
        recall_target: Union[float, str]
        profile: str
        candidate_budget: Union[int, str]
        budget_strategy: str
        min_rows_per_list: Union[int, str]
        max_rows_per_list: Union[int, str]
        search_mode: str

    class Options(Settings, total=False):
        """What a table is made with, see docs/sql.md, "Creating a table"."""

        nlist: Union[int, str]
        quantizer: str
        train_at: Union[int, str]
        list_ordering: str
        device: str
        seed: int
        content: str
        content_rowid: str


__all__ = ["Hits", "HybridHits", "Recall", "Table"]

_log = logging.getLogger("sqlite_ivf")

Where = Union[str, Mapping[str, Any], None]

_NAME = r'"(?:[^"]|"")+"|`(?:[^`]|``)+`|\[[^\]]+\]|[^\W\d]\w*'
_VECTOR = re.compile(
    rf"[(,]\s*({_NAME})\s+(float(?:32)?|f32|float16|f16|half|bfloat16|bf16|int8|i8|bit)\s*[\[(]\s*(\d+)\s*[\])]"
    r"(?:\s*distance\w*\s*=\s*(\w+))?",
    re.IGNORECASE,
)
_ELEMENTS = {"float": "float32", "f32": "float32", "f16": "float16", "half": "float16", "bf16": "bfloat16", "i8": "int8"}
#: Commands that write nothing, which `ivf_command` runs where nothing may be inserted.
_READING = ("preload", "unload", "integrity-check", "device", "cache_bytes", "device_bytes")


class Hits(NamedTuple):
    """The answers of a search, nearest first: a line for each query, or one line for one query."""

    ids: NDArray[np.int64]
    distances: NDArray[np.float64]


class HybridHits(NamedTuple):
    """The answers of a hybrid search, best first. What one side did not find has rank -1 there, and NaN."""

    ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    vec_ranks: NDArray[np.int64]
    distances: NDArray[np.float64]
    fts_ranks: NDArray[np.int64]
    fts_scores: NDArray[np.float64]


class Recall(NamedTuple):
    """What share of the exact answers a search finds, and what it costs (means over the queries)."""

    recall: float
    queries: int
    k: int
    nprobe: int
    rows_scanned: float
    lists_probed: float


def quoted(name: str) -> str:
    '''A name as SQL takes it.

    >>> print(quoted('my "items"'))
    "my ""items"""
    '''
    return '"' + name.replace('"', '""') + '"'


def _option(created: str, name: str) -> Optional[str]:
    """The value of an option of a CREATE statement."""
    found = re.search(rf"[(,]\s*{name}\s*=\s*('(?:[^']|'')+'|{_NAME})", created, re.IGNORECASE)
    if not found:
        return None
    given = found.group(1)
    return given[1:-1].replace("''", "'") if given[0] == "'" else _unquoted(given)


def _unquoted(name: str) -> str:
    if name[0] in '"`':
        return name[1:-1].replace(name[0] * 2, name[0])
    return name[1:-1] if name[0] == "[" else name


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _plain(value: Any) -> Any:
    """A value that every package binds: NumPy's own numbers become Python's.

    NaN would be bound as NULL, as if nothing were given.
    """
    value = value.item() if hasattr(value, "item") and not getattr(value, "ndim", 0) else value
    if isinstance(value, float) and value != value:
        raise ValueError("NaN is no value of a search or a row")
    return value


def _text_of(settings: Mapping[str, Any]) -> str:
    """Settings as one text, as `params` takes them."""
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def _values(values: Any) -> List[Any]:
    return values.tolist() if hasattr(values, "tolist") else [_plain(value) for value in values]


def _backquoted(name: str) -> str:
    """A name of another table's column. SQLite takes an unknown one for a text if it is in double quotes, and not in these."""
    return "`" + name.replace("`", "``") + "`"


class Table:
    """A table `USING ivf` of a connection of `sqlite3`, `pysqlite3` or `apsw` with the extension loaded.

    Each call that writes is all or nothing. It is a savepoint: where no transaction is open it is committed when the call ends,
    otherwise it is part of that transaction. The statements are in `sql` (the last one) and in the log `sqlite_ivf`, level DEBUG.
    Errors of SQLite come as the connection raises them.

    >>> import sqlite_ivf
    >>> db = sqlite_ivf.connect()
    >>> items = Table.create(db, "items", 3, metric="cosine", columns={"year": "INTEGER", "+title": "TEXT"})
    >>> items.add([[1, 0, 0], [0, 1, 0], [0.8, 0.6, 0]], ids=[1, 2, 3],
    ...           metadata={"year": [2019, 2024, 2024], "title": ["east", "north", "between"]}).tolist()
    [1, 2, 3]
    >>> hits = items.search([1, 0.1, 0], k=2, where={"year": 2024})
    >>> hits.ids.tolist(), hits.distances.round(3).tolist()
    ([3, 2], [0.144, 0.9])
    >>> items.sql
    'SELECT rowids, distances FROM "main"."items" WHERE "vec" MATCH ? AND k = ? AND packed = 1 AND "year" = ?'
    >>> items.get(hits.ids, "title")
    [('between',), ('north',)]
    """

    def __init__(
        self,
        connection: Connection,
        name: str,
        *,
        schema: str = "main",
        column: Optional[str] = None,
        model: Optional[str] = None,
    ) -> None:
        """Opens a table; `column` says which vector column, the first one unless given.

        `model` is the embedding model that your vectors are of. It is checked now, and by each `search` and `add`: where the
        column's vectors are of another model, or of none that the table names, the connection raises its error.
        """
        #: The connection.
        self.connection = connection
        #: The last statement that was run.
        self.sql = ""
        listed = self._execute(
            f"SELECT name, sql FROM {quoted(schema)}.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE", (name,)
        ).fetchall()
        if not listed or not re.search(r"\bUSING\s+[\"`\[]?(ivf|vec0)\b", listed[0][1] or "", re.IGNORECASE):
            raise ValueError(f"there is no ivf table {name!r} in schema {schema!r}")
        #: The table's name, and the statement that made it.
        self.name: str = listed[0][0]
        self.created: str = listed[0][1]
        self.schema = schema
        columns = [
            (_unquoted(found[0]), found[1].lower(), int(found[2]), (found[3] or "").lower())
            for found in _VECTOR.findall(self.created)
        ]
        chosen = [each for each in columns if column is None or each[0].lower() == column.lower()]
        if not chosen:
            raise ValueError(f"{name!r} has no vector column {column!r}, its own are {[each[0] for each in columns]}")
        #: The vector column, what its elements are, how many, and the metric.
        self.column, element, self.dim, metric = chosen[0]
        self.element: str = _ELEMENTS.get(element, element)
        self.metric: str = metric or ("hamming" if self.element == "bit" else "l2")
        listed = self._execute("SELECT name, hidden FROM pragma_table_xinfo(?, ?)", (self.name, schema)).fetchall()
        #: The columns that are not hidden.
        self.columns: List[str] = [each for each, hidden in listed if not hidden]
        self._hidden = {each for each, hidden in listed if hidden}
        self._known = {each.lower() for each, _ in listed}
        self._commands = self.name if self.name in self._hidden else f"{self.name}_command"
        self._first = chosen[0] is columns[0]
        self._expected = model
        if model is not None:
            self.check_model(model)

    @classmethod
    def create(
        cls,
        connection: Connection,
        name: str,
        dim: int,
        *,
        metric: Optional[str] = None,
        element: str = "float32",
        column: str = "vec",
        columns: Optional[Mapping[str, str]] = None,
        schema: str = "main",
        model: Optional[str] = None,
        **options: Unpack[Options],
    ) -> Table:
        """Creates a table.

        `metric` is l2, cosine, ip or l1, of bits hamming. `columns` has names and types beside the vector: `{"user": "INTEGER
        PARTITION KEY", "lang": "TEXT", "+title": "TEXT"}`, where the `+` is for what is carried along and not searched.
        `model` is the name of the embedding model of the vectors, see `Table`. `options` are those of docs/sql.md: `nlist`,
        `nprobe`, `train_at` and so on. With `content`, the table is an index over another one, which keeps
        the vectors: `SELECT ivf_triggers(name, 'create')` and `command("rebuild")` fill it.

        >>> import sqlite_ivf
        >>> Table.create(sqlite_ivf.connect(), "items", 384, metric="cosine", element="float16", train_at="off").created
        'CREATE VIRTUAL TABLE "items" USING ivf("vec" float16[384] distance_metric=cosine, train_at=off)'
        """
        _vectors.element_bits(element)
        parts = [f"{quoted(column)} {element}[{int(dim)}]" + (f" distance_metric={metric}" if metric else "")]
        for each, kind in (columns or {}).items():
            parts.append(f"+{quoted(each[1:])} {kind}" if each.startswith("+") else f"{quoted(each)} {kind}")
        if model is not None:
            parts.append(f"model={_literal(model)}")
        names = ("content", "content_rowid")
        parts += [f"{each}={quoted(str(value)) if each in names else value}" for each, value in options.items()]
        sql = f"CREATE VIRTUAL TABLE {quoted(schema)}.{quoted(name)} USING ivf({', '.join(parts)})"
        _log.debug("%s", sql)
        connection.execute(sql)
        return cls(connection, name, schema=schema, column=column, model=model)

    def __repr__(self) -> str:
        return f"<sqlite_ivf.Table {self._table}: {quoted(self.column)} {self.element}[{self.dim}] {self.metric}>"

    def __len__(self) -> int:
        """How many rows."""
        return int(self._execute("SELECT rows FROM ivf_stats(?)", (self._named,)).fetchone()[0])

    @property
    def _table(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def _named(self) -> str:
        """The table as the functions of docs/sql.md, "Looking inside", take it."""
        return f"{self.schema}.{self.name}"

    def _cursor(self) -> Any:
        cursor = self.connection.cursor()
        if hasattr(cursor, "row_factory"):
            cursor.row_factory = None  # rows are tuples here, whatever the connection makes of them
        return cursor

    def _execute(self, sql: str, values: Sequence[Any] = ()) -> Any:
        self.sql = sql
        _log.debug("%s", sql)
        return executed(self._cursor(), sql, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is done inside is done as a whole or not at all, in a savepoint.

        >>> import sqlite_ivf
        >>> items = Table.create(sqlite_ivf.connect(), "items", 2)
        >>> with items.transaction():
        ...     _ = items.add([[1, 0]], ids=[1])
        ...     _ = items.delete([1])
        """
        cursor = self._cursor()
        cursor.execute("SAVEPOINT sqlite_ivf")
        try:
            yield
            cursor.execute("RELEASE sqlite_ivf")
        except BaseException:
            try:
                cursor.execute("ROLLBACK TO sqlite_ivf")
                cursor.execute("RELEASE sqlite_ivf")
            except Exception:
                _log.debug("the transaction was rolled back already")  # as after an interrupt
            raise

    def _matrix(self, given: Any) -> Tuple[NDArray[Any], bool]:
        """Vectors in the bytes of the column, one in a line; and whether it was one that is not in a list."""
        numbers = _vectors.as_array(given)
        single = numbers.ndim == 1 and numbers.size > 0
        matrix = numbers.reshape(1, -1) if single else numbers
        if matrix.size == 0:
            matrix = matrix.reshape(0, self.dim)
        if matrix.ndim != 2 or matrix.shape[1] != self.dim:
            raise ValueError(f"{self.column}: vectors have {self.dim} dimensions, got an array of shape {numbers.shape}")
        return _vectors.encode(matrix, self.element), single

    def add(
        self,
        vectors: Any,
        ids: Any = None,
        metadata: Optional[Mapping[str, Any]] = None,
        *,
        replace: bool = False,
        progress: Union[bool, Callback, None] = None,
    ) -> NDArray[np.int64]:
        """Inserts rows, all or none, and gives their ids: rowids, the next free ones unless given.

        `metadata` has a sequence of values for each column beside the vector. `replace` puts rows in the place of those that
        exist, whose ids are an error otherwise. `progress` is as in `watch`, for a training that this begins.

        >>> import numpy as np, sqlite_ivf
        >>> items = Table.create(sqlite_ivf.connect(), "items", 2)
        >>> items.add(np.eye(2)).tolist()
        [1, 2]
        """
        np = _vectors.numpy("Table.add")
        matrix, _ = self._matrix(vectors)
        columns = {name: _values(values) for name, values in (metadata or {}).items()}
        for name, values in {**columns, **({} if ids is None else {"ids": ids})}.items():
            if len(values) != len(matrix):
                raise ValueError(f"{name}: {len(values)} values for {len(matrix)} vectors")
        names = ", ".join(["rowid", quoted(self.column), *map(quoted, columns)])
        marks = ", ".join(["?"] * (2 + len(columns)))
        verb = "INSERT OR REPLACE" if replace else "INSERT"
        self.sql = f"{verb} INTO {self._table}({names}) VALUES ({marks})"
        if not len(matrix):
            return np.zeros(0, np.int64)  # type: ignore[no-any-return]
        lines, others = iter(matrix), list(columns.values())
        sql = self.sql
        with watch(self.connection, progress), self.transaction():
            if self._expected is not None:
                self.check_model(self._expected)  # in the transaction: once for all rows
            self.sql = sql
            _log.debug("%s", self.sql)
            cursor = self._cursor()
            if ids is not None:
                rowids = np.asarray(ids).astype(np.int64, casting="safe")
                rest = rowids
            else:
                # The first row is given the next free rowid, and those after it follow.
                cursor.execute(self.sql, (None, next(lines), *(values[0] for values in others)))
                first = cursor.execute("SELECT last_insert_rowid()").fetchone()[0]
                rowids = np.arange(first, first + len(matrix))
                rest, others = rowids[1:], [values[1:] for values in others]
            cursor.executemany(self.sql, zip(rest.tolist(), lines, *others))
        return rowids  # type: ignore[no-any-return]

    def delete(self, ids: Any) -> int:
        """Deletes rows; how many there were.

        >>> import sqlite_ivf
        >>> items = Table.create(sqlite_ivf.connect(), "items", 2)
        >>> ids = items.add([[1, 0], [0, 1]])
        >>> items.delete(ids[:1])
        1
        """
        with self.transaction():
            self._execute(
                f"DELETE FROM {self._table} WHERE rowid IN (SELECT value FROM json_each(?))", (json.dumps(_values(ids)),)
            ).fetchall()
            return int(self._cursor().execute("SELECT changes()").fetchone()[0])

    def get(self, ids: Any, *columns: str) -> List[Tuple[Any, ...]]:
        """Values of rows, a tuple for each id; an id without a row is an error.

        >>> import sqlite_ivf
        >>> items = Table.create(sqlite_ivf.connect(), "items", 1, columns={"+title": "TEXT"})
        >>> items.get(items.add([[1]], metadata={"title": ["one"]}), "rowid", "title")
        [(1, 'one')]
        """
        names = ", ".join(self._column_called(name) for name in columns)
        self.sql = f"SELECT {names} FROM {self._table} WHERE rowid = ?"
        _log.debug("%s", self.sql)
        cursor = self._cursor()
        rows: List[Tuple[Any, ...]] = []
        for rowid in _values(ids):
            row = cursor.execute(self.sql, (rowid,)).fetchone()
            if row is None:
                raise LookupError(f"{self.name} has no row {rowid}")
            rows.append(tuple(row))
        return rows

    def vectors(self, ids: Any) -> NDArray[Any]:
        """The vectors of rows as a matrix: of float32, or of int8 where the column is of int8 or bits.

        >>> import sqlite_ivf
        >>> items = Table.create(sqlite_ivf.connect(), "items", 2, element="float16")
        >>> items.vectors(items.add([[1, 0.5]]))
        array([[1. , 0.5]], dtype=float32)
        """
        rows = self.get(ids, self.column)
        return _vectors.decode([row[0] for row in rows], self.element).reshape(len(rows), self.dim)

    def _column_called(self, name: str) -> str:
        """A column's name as SQL has it. SQLite takes an unknown name in quotes for a text."""
        if name.lower() in self._known:
            return quoted(name)
        if name.lower() not in ("rowid", "oid", "_rowid_"):
            raise ValueError(f"{self.name} has no column {name!r}, expected one of rowid, {', '.join(self.columns)}")
        return name

    def _conditions(
        self, where: Where, values: Sequence[Any], called: Optional[Callable[[str], str]] = None
    ) -> Tuple[List[str], List[Any]]:
        if where is None:
            return [], []
        if isinstance(where, str):
            return [f"({where})"], [_plain(value) for value in values]
        terms, bound = [], []
        for name, value in where.items():
            place = (called or self._column_called)(name)
            if value is None:
                terms.append(f"{place} IS NULL")
            elif isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
                # `rowid = 5` asks whether row 5 is one of the k nearest; what is meant is a search of row 5 alone.
                terms.append("rowid IN (SELECT ?)" if name == "rowid" else f"{place} = ?")
                bound.append(_plain(value))
            else:
                terms.append(f"{place} IN (SELECT value FROM json_each(?))")
                bound.append(json.dumps(_values(value)))
        return terms, bound

    def _among(self, where: Where, values: Sequence[Any]) -> Tuple[List[str], List[Any]]:
        """The conditions, as one if they are many: SQLite leaves 16 to a table, with those of the search itself."""
        terms, bound = self._conditions(where, values)
        if len(terms) > FEW and not self._hidden.intersection(where or ()):
            terms = [f"rowid IN (SELECT rowid FROM {self._table} WHERE {' AND '.join(terms)})"]
        return terms, bound

    def search(
        self,
        query: Any,
        k: Optional[int] = 10,
        *,
        where: Where = None,
        values: Sequence[Any] = (),
        within: Optional[float] = None,
        per: Union[str, Tuple[str, int], None] = None,
        mmr: Union[float, Tuple[float, int], None] = None,
        model: Optional[str] = None,
        **settings: Unpack[Settings],
    ) -> Hits:
        """The `k` nearest rows of a query, or of each line of a matrix, in one statement.

        `where` is a mapping of columns (or `rowid`) to a value or a collection of values, or a condition in SQL with a `?` for
        each of `values`: `where="year > ? AND lang != ?", values=(2020, "de")`. `within` is the largest distance; with it `k` may
        be None. `model` is the embedding model of the query, unless `Table` was given it: a table of another one is an error of
        the connection. `settings` are those of docs/sql.md, "How much is searched": `nprobe`, `recall_target` and so on.

        `per="doc_id"` gives the nearest row of each of the `k` nearest values of that column, `per=("doc_id", 3)` up to three
        rows of each. `mmr=0.5` gives rows that are near the query (1) and far from each other (0), `mmr=(0.5, 200)` among so many
        candidates.

        The answers for a matrix have `k` columns (`k` times the rows of `per`): a line with fewer answers ends with id -1 and an
        infinite distance. One query has as many as there are.

        >>> import numpy as np, sqlite_ivf
        >>> items = Table.create(sqlite_ivf.connect(), "items", 2)
        >>> _ = items.add([[1, 0], [0, 1], [0, 3]], ids=[10, 20, 30])
        >>> items.search(np.array([[1, 0], [0, 2.5]]), k=2).ids
        array([[10, 20],
               [30, 20]])
        >>> items.search([0, 0], k=None, within=1.5, where={"rowid": [20, 30]})
        Hits(ids=array([20]), distances=array([1.]))
        """
        np = _vectors.numpy("Table.search")
        matrix, single = self._matrix(query)
        if k is None and within is None:
            raise ValueError("a search has a k, or the largest distance in `within`")
        terms, bound = [], []
        if k is not None:
            terms.append("k = ?")
            bound.append(_plain(k))
        arrays = not {"packed", "rowids", "distances"} - self._hidden
        if arrays:
            terms.append("packed = 1")
        if within is not None:
            terms.append("distance <= ?")
            bound.append(_plain(within))
        conditions, given = self._among(where, values)
        terms, bound = terms + conditions, bound + given
        asked: Dict[str, Any] = dict(settings)
        width = k
        if per is not None:
            name, rows_of_each = (per, 1) if isinstance(per, str) else per
            width = None if k is None else k * rows_of_each
            asked["per"] = name if isinstance(per, str) else f"{name}:{rows_of_each}"
        if mmr is not None:
            asked["mmr"] = ":".join(map(str, mmr)) if isinstance(mmr, tuple) else _plain(mmr)
        model = self._expected if model is None else model
        if model is not None:
            asked["model"] = model if "model" in self._hidden else _literal(model)
        for name in ("per", "mmr", "model"):
            if name in asked and name in self._hidden:
                terms.append(f"{name} = ?")
                bound.append(asked.pop(name))
        if asked:
            terms.append("params = ?")
            bound.append(_text_of(asked))
        columns = "rowids, distances" if arrays else "rowid, distance"
        batch = not single and arrays and self._first and "batch" in self._hidden
        what = "batch" if batch else quoted(self.column)
        sql = f"SELECT {columns} FROM {self._table} WHERE {' AND '.join([f'{what} MATCH ?', *terms])}"
        if not arrays:
            sql += " ORDER BY distance, rowid"
        rows: List[Any] = []
        for line in [matrix] if batch else matrix:
            found = self._execute(sql, [line.tobytes(), *bound]).fetchall() if len(matrix) else []
            if not arrays:  # a column of the table's own has one of these names
                found = [(np.array([r for r, _ in found], "<i8").tobytes(), np.array([d for _, d in found], "<f8").tobytes())]
            rows += found
        rows = rows or [(b"", b"")] * len(matrix)  # SQLite saw by itself that no row can match, as with `n = 2 AND n = 3`
        ids, distances = _vectors.unpack(rows, None if single else width)
        return Hits(ids[0], distances[0]) if single else Hits(ids, distances)

    def maxsim(
        self,
        tokens: Any,
        k: int = 10,
        *,
        per: str,
        where: Where = None,
        values: Sequence[Any] = (),
        candidates: Optional[int] = None,
        **settings: Unpack[Settings],
    ) -> List[Tuple[Any, float]]:
        """The `k` documents with the largest sums, over the vectors of `tokens`, of the similarity of the document's most similar
        row, with their scores: docs/sql.md, "Late interaction".

        The documents are the values of the column `per`. `where` and `values` are as in `search`. `candidates` is how many
        documents each vector finds. `settings` are those of `search`.

        >>> import sqlite_ivf
        >>> words = Table.create(sqlite_ivf.connect(), "words", 2, metric="cosine", columns={"doc": "TEXT"})
        >>> _ = words.add([[1, 0], [0, 1], [1, 0]], metadata={"doc": ["a", "a", "b"]})
        >>> words.maxsim([[1, 0], [0, 1]], per="doc")
        [('a', 2.0), ('b', 1.0)]
        """
        matrix, _ = self._matrix(tokens)
        given: Dict[str, Any] = {"vec_column": self.column, "candidates": candidates}
        if settings:
            given["vec_params"] = _text_of(settings)
        terms, bound = self._among(where, values)
        if terms:
            given["filter"], given["filter_values"] = " AND ".join(terms), json.dumps(bound)
        given = {name: _plain(value) for name, value in given.items() if value is not None}
        sql = "SELECT document, score FROM ivf_maxsim(?, ?, ?, ?) WHERE " + " AND ".join(f"{name} = ?" for name in given)
        if not len(matrix):
            return []
        rows = self._execute(sql + " ORDER BY rank", [self._named, matrix.tobytes(), _plain(k), per, *given.values()]).fetchall()
        return [(document, score) for document, score in rows]

    def hybrid(
        self,
        texts: str,
        query: Any,
        text: Optional[str],
        k: int = 10,
        *,
        where: Where = None,
        values: Sequence[Any] = (),
        text_where: Where = None,
        text_values: Sequence[Any] = (),
        ids: Any = None,
        mode: str = "any",
        text_columns: Optional[Sequence[str]] = None,
        weights: Tuple[float, float] = (1.0, 1.0),
        fusion: str = "rrf",
        rank_constant: float = 60.0,
        candidates: Optional[int] = None,
        **settings: Unpack[Settings],
    ) -> HybridHits:
        """The `k` rows that a vector and a text find together: docs/sql.md, "Hybrid search".

        `texts` is an FTS5 table with the same rowids, `name` or `schema.name`. Where `query` or `text` is None, the other one
        decides. `where` and `values` are as in `search`, on this table's columns; `text_where` and `text_values` the same on those
        of `texts`; `ids` are the rowids among which to search. `mode` says how the text is read: rows with `any` or `all` of its
        words, or a query in FTS5's own syntax (`fts5`). `weights` are those of the vector and of the text. `fusion` is `rrf`, or
        `sum` of normalised scores. `settings` are those of `search`.

        >>> import sqlite_ivf
        >>> db = sqlite_ivf.connect()
        >>> items = Table.create(db, "items", 2, columns={"year": "INTEGER"})
        >>> _ = items.add([[1, 0], [2, 0], [9, 0]], ids=[1, 2, 3], metadata={"year": [2019, 2024, 2024]})
        >>> _ = db.execute("CREATE VIRTUAL TABLE words USING fts5(body)")
        >>> _ = db.execute("INSERT INTO words(rowid, body) VALUES (1, 'the red fox'), (2, 'a blue whale'), (3, 'error E-42')")
        >>> items.hybrid("words", [1, 0], "What does E-42 mean?", k=2).ids.tolist()
        [3, 1]
        >>> items.hybrid("words", [1, 0], "a fox", where={"year": 2024}).ids.tolist()
        [2, 3]
        """
        np = _vectors.numpy("Table.hybrid")
        vector = None
        if query is not None:
            matrix, single = self._matrix(query)
            if not single:
                raise ValueError(f"a hybrid search takes one vector, got an array of {len(matrix)}")
            vector = matrix.tobytes()
        options: Dict[str, Any] = {
            "vec_column": self.column,
            "vec_params": _text_of(settings) if settings else None,
            "fts_mode": mode,
            "fusion": fusion,
            "rank_constant": rank_constant,
            "vec_weight": weights[0],
            "fts_weight": weights[1],
            "candidates": candidates,
        }
        if text_columns is not None:
            options["fts_columns"] = json.dumps([text_columns] if isinstance(text_columns, str) else list(text_columns))
        conditions = {"filter": self._among(where, values), "fts_filter": self._conditions(text_where, text_values, _backquoted)}
        for name, (terms, bound) in conditions.items():
            if terms:
                options[name], options[f"{name}_values"] = " AND ".join(terms), json.dumps(bound)
        # The vector, which may be None, comes before the options: after 16 conditions, SQLite lets NULL find nothing.
        given = {"vec_table": self._named, "fts_table": texts, "query_vector": vector, "query_text": text or "", "k": _plain(k)}
        given.update((name, _plain(value)) for name, value in options.items() if value is not None)
        sql = "SELECT rowid, score, vec_rank, vec_distance, fts_rank, fts_score FROM ivf_hybrid"
        sql += " WHERE " + " AND ".join(f"{name} = ?" for name in given)
        bound = [*given.values()]
        if ids is not None:
            sql += " AND rowid IN (SELECT value FROM json_each(?))"
            bound.append(json.dumps(_values(ids)))
        rows = self._execute(sql + " ORDER BY rank", bound).fetchall()
        columns = list(zip(*rows)) if rows else [()] * 6
        ranks = [np.array([-1 if rank is None else rank for rank in columns[at]], np.int64) for at in (0, 2, 4)]
        numbers = [np.array(columns[at], np.float64) for at in (1, 3, 5)]
        return HybridHits(ranks[0], numbers[0], ranks[1], numbers[1], ranks[2], numbers[2])

    def recall(self, queries: Any, k: int = 10, **settings: Unpack[Settings]) -> Recall:
        """What share of the `k` nearest rows a search with these settings finds, against the exact search of each query.

        >>> import sqlite_ivf
        >>> items = Table.create(sqlite_ivf.connect(), "items", 1)
        >>> _ = items.add([[i] for i in range(2000)])
        >>> items.train()
        >>> items.recall([[5], [700.2]], nprobe=-1).recall
        1.0
        """
        matrix, _ = self._matrix(queries)
        text = _text_of(settings)
        row = self._execute(
            f"SELECT {', '.join(Recall._fields)} FROM ivf_recall(?, ?, ?, NULL, ?)", (self._named, matrix.tobytes(), k, text)
        ).fetchone()
        return Recall(*row)

    @property
    def _of_column(self) -> str:
        return f"{self._named}.{self.column}"

    @property
    def model(self) -> Optional[str]:
        """The embedding model of the column's vectors; None if the table names none.

        >>> import sqlite_ivf
        >>> Table.create(sqlite_ivf.connect(), "items", 2, model="all-MiniLM-L6-v2").model
        'all-MiniLM-L6-v2'
        """
        found: Optional[str] = self._execute("SELECT ivf_model(?)", (self._of_column,)).fetchone()[0]
        return found

    def check_model(self, model: str) -> None:
        """An error of the connection unless the column's vectors are of this embedding model."""
        self._execute("SELECT ivf_model(?, ?)", (self._of_column, model)).fetchall()

    def set_model(self, model: Optional[str], instead_of: Optional[str] = None) -> None:
        """Says of which embedding model the column's vectors are. It is a label: no vector changes. A column that has another
        one must have that of `instead_of`, so that no label is overwritten by mistake. None takes the label away.

        >>> import sqlite_ivf
        >>> items = Table.create(sqlite_ivf.connect(), "items", 2)
        >>> items.set_model("all-MiniLM-L6")
        >>> items.set_model("all-MiniLM-L6-v2", instead_of="all-MiniLM-L6")
        >>> items.model
        'all-MiniLM-L6-v2'
        """
        given = {"name": model, "column": self.column, "instead_of": instead_of}
        self.command("model:" + json.dumps(given))
        self._expected = model if self._expected is not None else None

    def missing_in(self, following: Table, limit: int = -1) -> NDArray[np.int64]:
        """The ids, ascending, that another table lacks of this one, at most `limit` (-1: all)."""
        np = _vectors.numpy("Table.missing_in")
        given = (self._named, following._named, limit)
        rows = self._execute("SELECT missing FROM ivf_missing(?, ?, ?)", given).fetchall()
        return np.array([row[0] for row in rows], np.int64)  # type: ignore[no-any-return]

    def switch(self, following: Table, accept: Union[str, Sequence[str]] = ()) -> Table:
        """Puts another table in the place of this one, in one transaction: this one is dropped, and the other gets its name.

        `accept` says which differences are no error: "missing" rows, "extra" rows, other text "keys", other "columns". Gives
        the table under its new name. docs/changing.md tells how to fill the other table.

        >>> import sqlite_ivf
        >>> db = sqlite_ivf.connect()
        >>> items = Table.create(db, "items", 2, model="small")
        >>> _ = items.add([[1, 0], [0, 1]], ids=[1, 2])
        >>> following = Table.create(db, "items_next", 3, model="large")
        >>> for id in items.missing_in(following).tolist():
        ...     _ = following.add([[id, 0, 1]], ids=[id])
        >>> items = items.switch(following)
        >>> items.name, items.dim, items.model
        ('items', 3, 'large')
        """
        given = (self._named, following._named, accept if isinstance(accept, str) else ", ".join(accept))
        self._execute("SELECT ivf_switch(?, ?, ?)", given).fetchall()
        column, expected = following.column, following._expected
        return Table(self.connection, self.name, schema=self.schema, column=column, model=expected)

    def _records(self, sql: str) -> List[Dict[str, Any]]:
        cursor = self._execute(sql, (self._named,))
        rows = []
        for row in cursor:
            rows.append({column[0]: value for column, value in zip(cursor.description, row)})
        return rows

    def stats(self) -> Dict[str, Any]:
        """What the table is made of: docs/sql.md, "Looking inside".

        >>> import sqlite_ivf
        >>> Table.create(sqlite_ivf.connect(), "items", 2).stats()["training"]
        'exact: 0 rows, trains by itself at 10,000'
        """
        return self._records("SELECT * FROM ivf_stats(?)")[0]

    def lists(self) -> List[Dict[str, Any]]:
        """The lists of a trained table: rows, bytes, radius.

        >>> import sqlite_ivf
        >>> items = Table.create(sqlite_ivf.connect(), "items", 1, nlist=2)
        >>> _ = items.add([[1], [2], [8], [9]])
        >>> items.train()
        >>> [each["rows"] for each in items.lists()]
        [2, 2]
        """
        return self._records("SELECT * FROM ivf_lists(?)")

    def profile(self) -> Dict[str, Tuple[int, int]]:
        """The last search of the table on this connection: for each stage how many, and microseconds.

        >>> import sqlite_ivf
        >>> items = Table.create(sqlite_ivf.connect(), "items", 1)
        >>> _ = items.add([[1], [2]])
        >>> _ = items.search([1])
        >>> items.profile()["total"][0]
        2
        """
        rows = self._execute("SELECT stage, n, us FROM ivf_profile(?)", (self._named,)).fetchall()
        return {stage: (n, us) for stage, n, us in rows}

    def command(self, command: str, batch: Optional[bytes] = None) -> None:
        """Runs a command of docs/sql.md, "Commands": `optimize`, `delete-all`, `preload`, `cache_bytes=N` and so on.

        >>> import sqlite_ivf
        >>> items = Table.create(sqlite_ivf.connect(), "items", 1)
        >>> items.command("nprobe=8")
        >>> items.sql
        'INSERT INTO "main"."items"("items") VALUES (?)'
        """
        if command.split("=")[0].strip() in _READING:
            self._execute("SELECT ivf_command(?, ?)", (self._named, command)).fetchall()
            return
        names, values = [quoted(self._commands)], [command]
        if batch is not None:
            names, values = [*names, "batch"], [*values, batch]  # type: ignore[list-item]
        with self.transaction():
            self._execute(f"INSERT INTO {self._table}({', '.join(names)}) VALUES ({', '.join('?' * len(names))})", values)

    def set(self, **settings: Unpack[Settings]) -> None:
        """Sets what searches do that do not say, from now on, for everybody: stored in the table. `"auto"` undoes it.

        >>> import sqlite_ivf
        >>> Table.create(sqlite_ivf.connect(), "items", 1).set(nprobe=16, search_mode="csr")
        """
        with self.transaction():
            for name, value in settings.items():
                self.command(f"{name}={value}")

    def train(
        self,
        *,
        nlist: Optional[int] = None,
        seed: Optional[int] = None,
        max_iterations: Optional[int] = None,
        progress: Union[bool, Callback, None] = None,
    ) -> None:
        """Makes new lists of all rows. `progress` is True for a bar of tqdm, or a function, as in `watch`.

        >>> import sqlite_ivf
        >>> items = Table.create(sqlite_ivf.connect(), "items", 2)
        >>> _ = items.add([[i, i % 7] for i in range(1000)])
        >>> items.train(nlist=10, progress=lambda progress: print(end=""))
        >>> items.stats()["nlist"]
        10
        """
        given = {"nlist": nlist, "seed": seed, "max_iterations": max_iterations}
        chosen = {name: value for name, value in given.items() if value is not None}
        with watch(self.connection, progress):
            self.command("train:" + json.dumps(chosen) if chosen else "train")

    def optimize(self, progress: Union[bool, Callback, None] = None) -> None:
        """Splits and joins all lists that are due, and packs them without deleted rows."""
        with watch(self.connection, progress):
            self.command("optimize")

    def calibrate(self, queries: Any = None, progress: Union[bool, Callback, None] = None) -> None:
        """Measures what `recall_target` goes by: by these queries, 10 or more, or by the table's own rows."""
        batch = None if queries is None else self._matrix(queries)[0].tobytes()
        with watch(self.connection, progress):
            self.command("calibrate", batch)

    def check(self, progress: Union[bool, Callback, None] = None) -> None:
        """Reads and compares all that is stored; faults are an error of the connection that lists them."""
        with watch(self.connection, progress):
            self.command("integrity-check")
