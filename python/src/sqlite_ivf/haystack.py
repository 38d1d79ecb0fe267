"""A document store of Haystack in an SQLite file, with retrievers by embedding, by words, and by both: docs/haystack.md.

>>> from haystack import Document
>>> store = IVFDocumentStore(columns={"year": "INTEGER"})
>>> documents = [Document(id="fox", content="a red fox", meta={"year": 2019}, embedding=[1.0, 0.0]),
...              Document(id="whale", content="a blue whale", meta={"year": 2024}, embedding=[0.0, 1.0])]
>>> store.write_documents(documents)
2
>>> newer = {"field": "meta.year", "operator": ">", "value": 2020}
>>> [document.id for document in store.embedding_retrieval([1.0, 0.1], filters=newer)]
['whale']
>>> [document.id for document in store.bm25_retrieval("Which fox?")]
['fox']
"""

# Without annotations as texts: Haystack reads the types of components' arguments.
import asyncio
import copy
import functools
import json
import math
import os
import re
import threading
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.dataclasses import ByteStream, SparseEmbedding
    from haystack.document_stores.errors import DuplicateDocumentError
    from haystack.document_stores.types import DuplicatePolicy, FilterPolicy, apply_filter_policy
    from haystack.errors import FilterError
except ImportError as error:
    raise ImportError(f"sqlite_ivf.haystack needs haystack-ai ({error}): pip install 'sqlite-ivf[haystack]'") from error

from ._store import FEW, KINDS, OPTIONS, SETTINGS, connected, created, fetched, kind_of, transaction, whole
from .table import Table, _literal, _plain, _text_of, quoted
from .vectors import numpy

__all__ = ["IVFBM25Retriever", "IVFDocumentStore", "IVFEmbeddingRetriever", "IVFHybridRetriever"]

_METRICS = ("cosine", "l2", "ip")
_ORDER = {">": ">", ">=": ">=", "<": "<", "<=": "<="}
_OPERATORS = ("==", "!=", *_ORDER, "in", "not in")
#: The columns of a document.
_STORED = ("id", "content", "meta", "embedding", "doubles", "blob", "rest")
#: How many documents are retrieved unless it is said.
_TOP_K = 10
_LOGIC = ("AND", "OR", "NOT")
#: The types of JSON as Haystack's stores call them.
_KEYWORDS = {"text": "keyword", "integer": "int", "real": "float", "true": "boolean", "false": "boolean"}
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?(Z|[+-]\d\d:\d\d)?$")


class _Term(NamedTuple):
    """A condition on the table of documents, and one on a column of the index that means the same, if there is one."""

    sql: str
    values: List[Any]
    pushed: Optional[str] = None


def _field(where: str, name: Any) -> Tuple[str, str]:
    """The value of a document's field, and its type, as SQL."""
    if not isinstance(name, str) or not name:
        raise FilterError(f"{where}: a name of a field is expected, such as 'meta.year', got {name!r}")
    if name in ("id", "content"):
        return name, "'text'"
    path = _path(name)
    return f"json_extract(meta, {path})", f"json_type(meta, {path})"


def _path(name: str) -> str:
    """The place of a value in the metadata, as a literal: `json_extract` of a generated column takes no parameter."""
    keys = name[5:] if name.startswith("meta.") else name
    if '"' in keys or "\0" in keys:
        raise FilterError(f'filters: a key of meta without " and NUL is expected, got {name!r}')
    return _literal("$" + "".join(f'."{key}"' for key in keys.split(".")))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _term(given: Any, columns: Mapping[str, str], where: str = "filters") -> _Term:
    """A filter of Haystack. Its SQL is 0 or 1, never NULL, so that NOT means what Python means by it."""
    if not isinstance(given, Mapping):
        raise FilterError(f"{where}: a dict is expected, got {given!r}")
    if "field" in given:
        return _comparison(given, columns, where)
    for key in ("operator", "conditions"):
        if key not in given:
            raise FilterError(f"{where}: 'field', or 'operator' and 'conditions' are expected, got {dict(given)!r}")
    operator, conditions = given["operator"], given["conditions"]
    if operator not in _LOGIC:
        raise FilterError(f"{where}: operator must be one of {', '.join(_LOGIC)}, got {operator!r}")
    if not isinstance(conditions, list):
        raise FilterError(f"{where}: conditions must be a list, got {conditions!r}")
    terms = [_term(each, columns, f"{where}: {operator}") for each in conditions]
    sql = (" OR " if operator == "OR" else " AND ").join(f"({each.sql})" for each in terms)
    sql = sql or ("0" if operator == "OR" else "1")
    return _Term(f"NOT ({sql})" if operator == "NOT" else sql, [value for each in terms for value in each.values])


def _comparison(given: Mapping[str, Any], columns: Mapping[str, str], where: str) -> _Term:
    for key in ("operator", "value"):
        if key not in given:
            raise FilterError(f"{where}: {key!r} is missing in {dict(given)!r}")
    name, operator, value = given["field"], given["operator"], _plain(given["value"])
    where = f"{where}: {name} {operator}"
    sql, kind = _field(where, name)
    column = name if name.startswith("meta.") else f"meta.{name}"
    declared = columns.get(column[5:], "").split(" ")[0]
    if operator in ("in", "not in"):
        if not isinstance(value, list):
            raise FilterError(f"{where}: a list is expected, got {value!r}")
        listed = [_scalar(where, each) for each in value]
        condition, values = f"ifnull({sql} IN (SELECT value FROM json_each(?)), 0)", [_json(listed)]
        if None in listed:
            condition += f" OR {sql} IS NULL"
        dates = [each for each in listed if _is_date(each)]
        if dates:
            condition += f" OR {_dated(sql, 'IN (SELECT julianday(value) FROM json_each(?))')}"
            values.append(_json(dates))
        fits = operator == "in" and all(_fits(declared, each) for each in listed)
        pushed = f"{quoted(column)} IN (SELECT value FROM json_each(?))" if fits else None
        return _Term(f"({condition})" if operator == "in" else f"NOT ({condition})", values, pushed)
    if operator in ("==", "!="):
        if isinstance(value, (list, dict)):
            condition, bound = f"ifnull({sql} = ? AND {kind} IN ('array', 'object'), 0)", _json(value)
            return _Term(condition if operator == "==" else f"NOT {condition}", [bound])
        bound, compare = _scalar(where, value), "IS" if operator == "==" else "IS NOT"
        if _is_date(bound):
            condition = f"({sql} IS ? OR {_dated(sql, '= julianday(?)')})"
            return _Term(condition if operator == "==" else f"NOT {condition}", [bound, bound])
        pushed = f"{quoted(column)} {compare} ?" if _fits(declared, bound) or (bound is None and declared) else None
        return _Term(f"{sql} {compare} ?", [bound], pushed)
    if operator not in _ORDER:
        raise FilterError(f"{where}: operator must be one of {', '.join(_OPERATORS)}, got {operator!r}")
    if value is None:
        return _Term("0", [])
    if isinstance(value, datetime):
        value = value.isoformat()
    if _is_date(value):
        return _Term(_dated(sql, f"{operator} julianday(?)"), [value])
    if not isinstance(value, (int, float)):
        raise FilterError(f"{where}: a number or an ISO date is expected, got {value!r}")
    value = _scalar(where, value)
    pushed = f"{quoted(column)} {operator} ?" if declared in ("INTEGER", "FLOAT") else None
    return _Term(f"ifnull({kind} IN ('integer', 'real', 'true', 'false') AND {sql} {operator} ?, 0)", [value], pushed)


def _is_date(value: Any) -> bool:
    return isinstance(value, str) and _DATE.match(value) is not None


def _dated(sql: str, comparison: str) -> str:
    """A comparison of a value, if it is a date, as an instant."""
    return f"ifnull({sql} GLOB '[0-9][0-9][0-9][0-9]-*' AND julianday({sql}) {comparison}, 0)"


def _count(top_k: Optional[int]) -> int:
    return _TOP_K if top_k is None else whole("top_k", top_k, 1)


def _scalar(where: str, value: Any) -> Any:
    """A value as JSON has it."""
    value = _plain(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if value is None or isinstance(value, (str, float)):
        return value
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    raise FilterError(f"{where}: a text, a number, True, False or None is expected, got {value!r}")


def _fits(declared: str, value: Any) -> bool:
    """Whether a column of the index compares with a value as JSON does."""
    if declared == "TEXT":
        return isinstance(value, str) and not _is_date(value)
    return declared in ("INTEGER", "FLOAT", "BOOLEAN") and isinstance(value, (int, float))


def _async(method: Callable[..., Any]) -> Callable[..., Any]:
    """The same in another thread."""

    @functools.wraps(method)
    async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(method, self, *args, **kwargs)

    run.__name__ = run.__qualname__ = f"{method.__name__}_async"
    return run


class IVFDocumentStore:
    """A document store of Haystack in an SQLite database.

    Documents are rows of an ordinary table, their metadata JSON. An ivf index over it, `<table>_near`, answers retrievals by
    embedding, an FTS5 table, `<table>_fts`, those by words. Documents without an embedding are in the table only. Each call that
    writes is all or nothing. Errors of SQLite come as its module raises them.

    Filters are Haystack's, on `id`, `content` and whatever the metadata has, and are part of the search. A value of the metadata
    that `columns` names is a column of the index; conditions on it are faster. The store may be used from several threads.
    """

    def __init__(
        self,
        database: Union[str, os.PathLike[str]] = ":memory:",
        *,
        table: str = "documents",
        embedding_dim: Optional[int] = None,
        metric: Optional[str] = None,
        columns: Optional[Dict[str, str]] = None,
        bm25: bool = True,
        tokenize: Optional[str] = None,
        doubles: bool = False,
        model: Optional[str] = None,
        **options: Any,
    ) -> None:
        """Opens a table or makes one; the index is made now if `embedding_dim` is given, otherwise by the first embedding.

        `metric` is cosine (the default), l2 or ip. `columns` are values of the metadata, with their types: INTEGER, FLOAT,
        TEXT, BOOLEAN, INTEGER PARTITION KEY or TEXT PARTITION KEY. `bm25` keeps the FTS5 table; `tokenize` is FTS5's, such as
        `porter`. Embeddings are stored as 4-byte floats; `doubles` keeps them in full as well, where that loses digits. `model`
        is the name of the embedding model, which the index keeps. `options` are those of the index: `nlist`, `train_at`, ...

        What is said of a table that exists must be true of it. What is not said is taken from it, and `bm25=True` says nothing.
        `doubles` is about what this store writes.
        """
        if metric is not None and metric not in _METRICS:
            raise ValueError(f"metric must be one of {', '.join(_METRICS)}, got {metric!r}")
        for name in options:
            if name not in OPTIONS:
                raise TypeError(f"IVFDocumentStore: unknown argument {name!r}, expected one of {', '.join(OPTIONS)}")
        for name, kind in (columns or {}).items():
            if kind_of(kind) not in KINDS:
                raise ValueError(f"columns: the type of {name!r} must be one of {', '.join(KINDS)}, got {kind!r}")
            _path(name)
        if tokenize is not None and not bm25:
            raise ValueError(f"tokenize={tokenize!r} is for bm25=True, got bm25={bm25!r}")
        self._given = {
            "database": os.fspath(database), "table": table, "embedding_dim": embedding_dim, "metric": metric, "columns": columns,
            "bm25": bm25, "tokenize": tokenize, "doubles": doubles, "model": model, **options,
        }  # fmt: skip
        self._name, self._metric, self._model, self._doubles, self._options = table, metric, model, doubles, options
        self._columns = None if columns is None else {name: kind_of(kind) for name, kind in columns.items()}
        self._bm25, self._tokenize = bm25, tokenize
        self._lock = threading.RLock()
        #: The connection.
        self.connection: Any = connected(os.fspath(database))
        try:
            if created(self.connection, table) is not None and embedding_dim is None:
                self._open()  # which only reads
                self._near()
            else:
                with self._transaction():
                    self._open()
                    self._near(embedding_dim)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            self.connection.close()

    def to_dict(self) -> Dict[str, Any]:
        """For pipelines that are saved."""
        return default_to_dict(self, **copy.deepcopy(self._given))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, data: Dict[str, Any]) -> "IVFDocumentStore":
        """A store of what `to_dict` gave."""
        return default_from_dict(cls, data)  # type: ignore[no-any-return]

    # The tables

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, transaction(self.connection):
            yield

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> List[Tuple[Any, ...]]:
        with self._lock:
            return fetched(self.connection, sql, values)

    def _open(self) -> None:
        """The table of documents and its columns, made if it is missing."""
        name, fts = quoted(self._name), quoted(f"{self._name}_fts")
        if created(self.connection, self._name) is None:
            generated = "".join(
                f", {quoted(f'meta.{column}')} {kind} AS (json_extract(meta, {_path(column)})) VIRTUAL"
                for column, kind in (self._columns or {}).items()
            )
            self._rows(
                f"CREATE TABLE {name}(nr INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, content TEXT, meta TEXT NOT NULL, "
                f"embedding BLOB, doubles BLOB, blob BLOB, rest TEXT{generated})"
            )
            if self._bm25:
                tokenize = "" if self._tokenize is None else f", tokenize={_literal(self._tokenize)}"
                self._rows(f"CREATE VIRTUAL TABLE {fts} USING fts5(content, content={name}, content_rowid='nr'{tokenize})")
                add = f"INSERT INTO {fts}(rowid, content) VALUES (new.nr, new.content);"
                drop = f"INSERT INTO {fts}({fts}, rowid, content) VALUES ('delete', old.nr, old.content);"
                for event, body in (("INSERT", add), ("DELETE", drop), ("UPDATE OF nr, content", drop + add)):
                    trigger = quoted(f"{self._name}_fts_{event.split(' ')[0].lower()}")
                    self._rows(f"CREATE TRIGGER {trigger} AFTER {event} ON {name} BEGIN {body} END")
        found = {
            column[5:]: kind
            for column, kind in self._rows("SELECT name, type FROM pragma_table_xinfo(?) WHERE hidden = 2", (self._name,))
        }
        if self._columns not in (None, found):
            raise ValueError(f"columns={self._columns!r}, but table {self._name!r} exists with columns={found!r}")
        self._columns = found
        words = created(self.connection, f"{self._name}_fts")
        exists = f"but table {self._name!r} exists with the FTS5 table: {words}"
        if words is not None and not self._bm25:
            raise ValueError(f"bm25={self._bm25!r}, {exists}")
        if self._tokenize is not None and _literal(self._tokenize) not in (words or ""):
            raise ValueError(f"tokenize={self._tokenize!r}, {exists}")
        self._bm25 = words is not None

    def _near(self, dim: Optional[int] = None) -> Optional[Table]:
        """The index as it is now; made if it is missing and there is a number of dimensions."""
        name = f"{self._name}_near"
        if created(self.connection, name) is not None:
            table = Table(self.connection, name)
            for what, wanted, got in (("metric", self._metric, table.metric), ("embedding_dim", dim, table.dim)):
                if wanted is not None and wanted != got:
                    raise ValueError(f"{what}={wanted!r}, but table {self._name!r} exists with {what}={got!r}")
            for what, value in self._options.items():
                if not re.search(rf", {what}={re.escape(str(value))}[,)]", table.created):
                    raise ValueError(f"{what}={value!r}, but table {self._name!r} exists, its index made by: {table.created}")
            if self._model is not None:
                table.check_model(self._model)
            return table
        if dim is None:
            return None
        table = Table.create(
            self.connection,
            name,
            dim,
            metric=self._metric or "cosine",
            column="embedding",
            columns={f"meta.{column}": kind for column, kind in (self._columns or {}).items()},
            model=self._model,
            content=self._name,
            content_rowid="nr",
            **self._options,
        )
        self._rows("SELECT ivf_triggers(?, 'create')", (table._named,))
        return table

    @property
    def table(self) -> Optional[Table]:
        """The index, for all that `sqlite_ivf.Table` does; None before it is made."""
        with self._lock:
            return self._near()

    # Writing

    def write_documents(self, documents: List[Document], policy: Any = DuplicatePolicy.NONE) -> int:
        """Writes documents, all or none, and tells how many. NONE is FAIL: an id that exists, or comes twice, is an error."""
        if not isinstance(documents, list) or not all(isinstance(each, Document) for each in documents):
            raise ValueError(f"write_documents: a list of Documents is expected, got {documents!r}")
        rows: Dict[str, List[Any]] = {}
        written = 0
        with self._transaction():
            found = f"SELECT id FROM {self._from} WHERE id IN (SELECT value FROM json_each(?))"
            there = {row[0] for row in self._rows(found, (json.dumps([each.id for each in documents]),))}
            for document in documents:
                if document.id in there or document.id in rows:
                    if policy == DuplicatePolicy.SKIP:
                        continue
                    if policy != DuplicatePolicy.OVERWRITE:
                        raise DuplicateDocumentError(f"ID {document.id!r} already exists in table {self._name!r}.")
                rows[document.id] = self._row(document)
                written += 1
            for dim in sorted({len(row[3]) // 4 for row in rows.values() if row[3] is not None}):
                self._near(dim)
            sql = f"INSERT INTO {self._from}({', '.join(_STORED)}) VALUES (?, ?, ?, ?, ?, ?, ?)"
            if policy == DuplicatePolicy.OVERWRITE:
                changes = ", ".join(f"{each} = excluded.{each}" for each in _STORED[1:])
                sql += f" ON CONFLICT(id) DO UPDATE SET {changes}"
            self.connection.cursor().executemany(sql, rows.values())
        return written

    @property
    def _from(self) -> str:
        return f"main.{quoted(self._name)}"

    def _row(self, document: Document) -> List[Any]:
        try:
            meta = _json(document.meta)
            rest: Dict[str, Any] = {}
            if document.blob is not None:
                rest["blob"] = {"meta": document.blob.meta, "mime_type": document.blob.mime_type}
            if document.sparse_embedding is not None:
                rest["sparse_embedding"] = document.sparse_embedding.to_dict()
            encoded = _json(rest) if rest else None
        except (TypeError, ValueError) as error:
            raise ValueError(f"meta of document {document.id!r}: values are what JSON has: {error}") from error
        embedding = doubles = None
        if document.embedding is not None:
            embedding, doubles = self._vector(document.embedding, f"embedding of document {document.id!r}")
        blob = None if document.blob is None else document.blob.data
        return [document.id, document.content, meta, embedding, doubles, blob, encoded]

    def _vector(self, embedding: Any, where: str) -> Tuple[bytes, Optional[bytes]]:
        np = numpy("sqlite_ivf.haystack")
        numbers = np.asarray(embedding, "<f8")
        if numbers.ndim != 1 or not len(numbers):
            raise ValueError(f"{where}: a list of numbers is expected, got an array of shape {numbers.shape}")
        with np.errstate(over="ignore"):
            floats = numbers.astype("<f4")
        return floats.tobytes(), numbers.tobytes() if self._doubles and (floats != numbers).any() else None

    def delete_documents(self, document_ids: List[str]) -> None:
        """Deletes documents by their ids. An id without a document is no error."""
        with self._transaction():
            self._rows(f"DELETE FROM {self._from} WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(document_ids)),))

    def delete_all_documents(self) -> None:
        """Deletes all documents. The index keeps its settings and its number of dimensions."""
        with self._transaction():
            self._rows(f"DELETE FROM {self._from}")

    def delete_by_filter(self, filters: Dict[str, Any]) -> int:
        """Deletes the documents that meet a filter, and tells how many."""
        sql, values = self._where(filters)
        with self._transaction():
            count = self.count_documents_by_filter(filters)
            self._rows(f"DELETE FROM {self._from} WHERE {sql}", values)
        return count

    def update_by_filter(self, filters: Dict[str, Any], meta: Dict[str, Any]) -> int:
        """Sets values of the metadata in the documents that meet a filter, and tells how many."""
        sql, values = self._where(filters)
        with self._transaction():
            rows = self._rows(f"SELECT nr, meta FROM {self._from} WHERE {sql}", values)
            changes = [(_json({**json.loads(old), **meta}), nr) for nr, old in rows]
            self.connection.cursor().executemany(f"UPDATE {self._from} SET meta = ? WHERE nr = ?", changes)
        return len(rows)

    # Reading

    def _where(self, filters: Optional[Mapping[str, Any]]) -> Tuple[str, List[Any]]:
        if not filters:
            return "1", []
        term = _term(filters, {})
        return term.sql, term.values

    def _document(self, row: Sequence[Any], score: Optional[float] = None, embedding: bool = True) -> Document:
        np = numpy("sqlite_ivf.haystack")
        id, content, meta, floats, doubles, blob, rest = row
        more = json.loads(rest) if rest else {}
        vector = None
        if embedding and floats is not None:
            vector = np.frombuffer(floats, "<f4").tolist() if doubles is None else np.frombuffer(doubles, "<f8").tolist()
        sparse = more.get("sparse_embedding")
        return Document(
            id=id,
            content=content,
            meta=json.loads(meta),
            embedding=vector,
            blob=None if blob is None else ByteStream(data=blob, **more["blob"]),
            sparse_embedding=None if sparse is None else SparseEmbedding.from_dict(sparse),
            score=score,
        )

    def count_documents(self) -> int:
        """How many documents."""
        return int(self._rows(f"SELECT count(*) FROM {self._from}")[0][0])

    def count_documents_by_filter(self, filters: Dict[str, Any]) -> int:
        """How many documents meet a filter."""
        sql, values = self._where(filters)
        return int(self._rows(f"SELECT count(*) FROM {self._from} WHERE {sql}", values)[0][0])

    def filter_documents(self, filters: Optional[Dict[str, Any]] = None) -> List[Document]:
        """The documents that meet a filter, in the order in which they were written."""
        sql, values = self._where(filters)
        rows = self._rows(f"SELECT {', '.join(_STORED)} FROM {self._from} WHERE {sql} ORDER BY nr", values)
        return [self._document(row) for row in rows]

    def get_metadata_fields_info(self) -> Dict[str, Dict[str, str]]:
        """The names of the metadata, and their types: keyword, int, float or boolean."""
        each = f"{self._from}, json_each(meta) AS each WHERE each.type != 'null'"
        rows = self._rows(f"SELECT DISTINCT each.key, each.type FROM {each} ORDER BY each.key")
        kinds: Dict[str, set[str]] = {}
        for key, kind in rows:
            kinds.setdefault(key, set()).add(_KEYWORDS.get(kind, "keyword"))
        return {key: {"type": found.pop() if len(found) == 1 else "float" if found == {"int", "float"} else "keyword"}
                for key, found in kinds.items()}  # fmt: skip

    def _of_field(self, field: str, filters: Optional[Mapping[str, Any]]) -> Tuple[str, List[Any]]:
        """The different values of a field, with their types."""
        path = _path(field)
        sql, values = self._where(filters)
        columns = f"json_type(meta, {path}) AS kind, json_extract(meta, {path}) AS value"
        return f"SELECT DISTINCT {columns} FROM {self._from} WHERE {sql} AND json_extract(meta, {path}) IS NOT NULL", values

    def count_unique_metadata_by_filter(self, filters: Dict[str, Any], metadata_fields: List[str]) -> Dict[str, int]:
        """How many different values each of some fields has in the documents that meet a filter."""
        counts = {}
        for field in metadata_fields:
            sql, values = self._of_field(field, filters)
            counts[field] = int(self._rows(f"SELECT count(*) FROM ({sql})", values)[0][0])
        return counts

    def get_metadata_field_min_max(self, metadata_field: str) -> Dict[str, Any]:
        """The smallest and the largest value of a field: of the numbers, or of the texts if there are none."""
        sql, values = self._of_field(metadata_field, None)
        for kinds in ("'integer', 'real'", "'text'"):
            smallest, largest = self._rows(f"SELECT min(value), max(value) FROM ({sql}) WHERE kind IN ({kinds})", values)[0]
            if smallest is not None:
                break
        return {"min": smallest, "max": largest}

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: Optional[str] = None,
        from_: int = 0,
        size: Optional[int] = 10,
        filters: Optional[Dict[str, Any]] = None,
    ) -> Tuple[List[Any], int]:
        """A page of the different values of a field, in their order, and how many there are.

        `search_term` leaves those that contain it, in upper or lower case.
        """
        sql, values = self._of_field(metadata_field, filters)
        if search_term is not None:
            sql, values = f"SELECT * FROM ({sql}) WHERE instr(lower(value), lower(?))", [*values, search_term]
        total = int(self._rows(f"SELECT count(*) FROM ({sql})", values)[0][0])
        rows = self._rows(f"{sql} ORDER BY value, kind LIMIT ? OFFSET ?", [*values, -1 if size is None else size, from_])
        plain: Dict[str, Callable[[Any], Any]] = {"true": bool, "false": bool, "array": json.loads, "object": json.loads}
        return [plain[kind](value) if kind in plain else value for kind, value in rows], total

    # Retrieving

    def _retrieved(self, found: List[Tuple[int, float]], embedding: bool) -> List[Document]:
        nrs = json.dumps([nr for nr, _ in found])
        sql = f"SELECT nr, {', '.join(_STORED)} FROM {self._from} WHERE nr IN (SELECT value FROM json_each(?))"
        rows = {row[0]: row[1:] for row in self._rows(sql, (nrs,))}
        return [self._document(rows[nr], score, embedding) for nr, score in found if nr in rows]

    def _among(self, filters: Optional[Mapping[str, Any]], column: str) -> Tuple[str, List[Any]]:
        """A filter as a condition of a search."""
        sql, values = self._where(filters)
        return (f" AND {column} IN (SELECT nr FROM {self._from} WHERE {sql})", values) if filters else ("", [])

    def embedding_retrieval(
        self,
        query_embedding: Sequence[float],
        *,
        filters: Optional[Dict[str, Any]] = None,
        top_k: Optional[int] = _TOP_K,
        scale_score: bool = False,
        return_embedding: bool = False,
        per: Union[str, Tuple[str, int], None] = None,
        mmr: Union[float, str, None] = None,
        **settings: Any,
    ) -> List[Document]:
        """The documents nearest to an embedding, with scores: cosine, inner product, or the negated distance.

        `scale_score` makes scores from 0 to 1. `per`, one of `columns`, gives the nearest document of each value, `("book", 3)`
        up to three. `mmr` chooses documents that differ. `settings` are `nprobe`, `recall_target` and so on.
        """
        for name in settings:
            if name not in SETTINGS:
                raise TypeError(f"embedding_retrieval: unknown argument {name!r}, expected one of {', '.join(SETTINGS)}")
        top_k = _count(top_k)
        pushed, rest = self._split(filters)
        with self._lock:
            near = self._near()
            if near is None:
                return []
            blob, _ = self._vector(query_embedding, "query_embedding")
            if len(blob) != 4 * near.dim:
                raise ValueError(f"query_embedding: {near.dim} dimensions are expected, got {len(blob) // 4}")
            params = _text_of({name: _plain(value) for name, value in settings.items() if value is not None})
            asked = {
                "k": top_k, "per": None if per is None else self._per(per), "mmr": None if mmr is None else str(mmr),
                "params": params or None, "model": self._model,
            }  # fmt: skip
            asked = {name: value for name, value in asked.items() if value is not None}
            among, values = self._among(rest, "rowid")
            conditions = "".join(f" AND {name} = ?" for name in asked) + "".join(f" AND {term.pushed}" for term in pushed)
            sql = f"SELECT rowid, distance FROM {near._table} WHERE embedding MATCH ?{conditions}{among} ORDER BY distance, rowid"
            bound = [blob, *asked.values(), *(value for term in pushed for value in term.values), *values]
            found = [(nr, self._score(near.metric, distance, scale_score)) for nr, distance in self._rows(sql, bound)]
            return self._retrieved(found, return_embedding)

    def _per(self, per: Union[str, Tuple[str, int]]) -> str:
        name, *count = [per] if isinstance(per, str) else per
        column = str(name)[5:] if str(name).startswith("meta.") else name
        if column not in (self._columns or {}):
            raise ValueError(f"per must be one of the columns {', '.join(self._columns or {}) or '(there are none)'}, got {name!r}")
        return ":".join(map(str, [f"meta.{column}", *count]))

    def _split(self, filters: Optional[Mapping[str, Any]]) -> Tuple[List[_Term], Optional[Mapping[str, Any]]]:
        """The conditions that the index's columns answer, if they are few, and the filter of the others."""
        if not filters:
            return [], None
        conditions, where = [filters], "filters"
        if "field" not in filters and filters.get("operator") == "AND" and isinstance(filters.get("conditions"), list):
            conditions, where = filters["conditions"], "filters: AND"
        terms = [_term(each, self._columns or {}, where) for each in conditions]
        if sum(term.pushed is not None for term in terms) > FEW:  # more than SQLite leaves to a table
            return [], filters
        others = [each for each, term in zip(conditions, terms) if term.pushed is None]
        return [term for term in terms if term.pushed], {"operator": "AND", "conditions": others} if others else None

    @staticmethod
    def _score(metric: str, distance: float, scale: bool) -> float:
        if metric == "cosine":
            return 1 - distance / 2 if scale else 1 - distance
        if metric == "ip":
            return 1 / (1 + math.exp(min(distance / 100, 700))) if scale else -distance
        return 1 / (1 + distance) if scale else -distance

    def _need_words(self) -> None:
        if not self._bm25:
            raise ValueError(
                f"words need the FTS5 table, which IVFDocumentStore(table={self._name!r}, bm25=True) makes with the table"
            )

    def bm25_retrieval(
        self, query: str, *, filters: Optional[Dict[str, Any]] = None, top_k: Optional[int] = _TOP_K, scale_score: bool = False
    ) -> List[Document]:
        """The documents with words of a text, with the scores of FTS5's BM25. No character of the text is an operator."""
        self._need_words()
        top_k = _count(top_k)
        words = " OR ".join(f'"{word}"' for word in dict.fromkeys(re.findall(r"\w+", query)))
        among, values = self._among(filters, "rowid")
        if not words:
            return []
        fts = quoted(f"{self._name}_fts")
        sql = f"SELECT rowid, -rank FROM {fts} WHERE {fts} MATCH ?{among} ORDER BY rank, rowid LIMIT ?"
        found = self._rows(sql, [words, *values, top_k])
        return self._retrieved([(nr, 1 / (1 + math.exp(-score / 8)) if scale_score else score) for nr, score in found], False)

    def hybrid_retrieval(
        self,
        query: str,
        query_embedding: Optional[Sequence[float]],
        *,
        filters: Optional[Dict[str, Any]] = None,
        top_k: Optional[int] = _TOP_K,
        weights: Tuple[float, float] = (1.0, 1.0),
        fusion: str = "rrf",
        candidates: Optional[int] = None,
    ) -> List[Document]:
        """The documents that an embedding and the words of a text find together: docs/sql.md, "Hybrid search"."""
        with self._lock:
            self._need_words()
            top_k = _count(top_k)
            near = self._near()
            if near is None or query_embedding is None:
                return self.bm25_retrieval(query, filters=filters, top_k=top_k)
            blob, _ = self._vector(query_embedding, "query_embedding")
            given = {"vec_weight": weights[0], "fts_weight": weights[1], "fusion": fusion, "candidates": candidates}
            if self._model is not None:
                given["vec_params"] = f"model={_literal(self._model)}"
            given = {name: _plain(value) for name, value in given.items() if value is not None}
            among, values = self._among(filters, "rowid")
            conditions = " AND ".join(f"{name} = ?" for name in given)
            sql = f"SELECT rowid, score FROM ivf_hybrid(?, ?, ?, ?, ?) WHERE {conditions}{among} ORDER BY rank"
            asked = [near._named, f"main.{self._name}_fts", blob, query, top_k, *given.values(), *values]
            return self._retrieved(self._rows(sql, asked), False)

    write_documents_async = _async(write_documents)
    delete_documents_async = _async(delete_documents)
    delete_all_documents_async = _async(delete_all_documents)
    delete_by_filter_async = _async(delete_by_filter)
    update_by_filter_async = _async(update_by_filter)
    count_documents_async = _async(count_documents)
    count_documents_by_filter_async = _async(count_documents_by_filter)
    filter_documents_async = _async(filter_documents)
    get_metadata_fields_info_async = _async(get_metadata_fields_info)
    count_unique_metadata_by_filter_async = _async(count_unique_metadata_by_filter)
    get_metadata_field_min_max_async = _async(get_metadata_field_min_max)
    get_metadata_field_unique_values_async = _async(get_metadata_field_unique_values)
    embedding_retrieval_async = _async(embedding_retrieval)
    bm25_retrieval_async = _async(bm25_retrieval)
    hybrid_retrieval_async = _async(hybrid_retrieval)


class _Retriever:
    """What the retrievers share: `options` are those of the store's method."""

    def __init__(
        self,
        document_store: IVFDocumentStore,
        filters: Optional[Dict[str, Any]] = None,
        top_k: int = 10,
        filter_policy: Any = FilterPolicy.REPLACE,
        options: Optional[Dict[str, Any]] = None,
    ) -> None:
        if not isinstance(document_store, IVFDocumentStore):
            raise TypeError(f"document_store: an IVFDocumentStore is expected, got {type(document_store).__name__}")
        self.document_store, self.filters, self.top_k, self.options = document_store, filters, _count(top_k), options or {}
        self.filter_policy = FilterPolicy.from_str(filter_policy) if isinstance(filter_policy, str) else filter_policy

    def to_dict(self) -> Dict[str, Any]:
        """For pipelines that are saved."""
        return default_to_dict(  # type: ignore[no-any-return]
            self,
            document_store=self.document_store.to_dict(),
            filters=self.filters,
            top_k=self.top_k,
            filter_policy=self.filter_policy.value,
            options=self.options,
        )

    @classmethod
    def from_dict(cls, data: Dict[str, Any]) -> Any:
        """A retriever of what `to_dict` gave."""
        parameters = dict(data["init_parameters"])
        if isinstance(parameters["document_store"], dict):
            parameters["document_store"] = IVFDocumentStore.from_dict(parameters["document_store"])
        return default_from_dict(cls, {**data, "init_parameters": parameters})

    def _asked(self, filters: Optional[Dict[str, Any]], top_k: Optional[int]) -> Dict[str, Any]:
        both = apply_filter_policy(self.filter_policy, self.filters, filters)
        return {**self.options, "filters": both, "top_k": self.top_k if top_k is None else top_k}


@component
class IVFEmbeddingRetriever(_Retriever):
    """Retrieves by embedding. `options` are `scale_score`, `return_embedding`, `per`, `mmr` and settings such as `nprobe`."""

    @component.output_types(documents=List[Document])
    def run(
        self, query_embedding: List[float], filters: Optional[Dict[str, Any]] = None, top_k: Optional[int] = None
    ) -> Dict[str, List[Document]]:
        """The documents nearest to the embedding."""
        return {"documents": self.document_store.embedding_retrieval(query_embedding, **self._asked(filters, top_k))}

    @component.output_types(documents=List[Document])
    async def run_async(
        self, query_embedding: List[float], filters: Optional[Dict[str, Any]] = None, top_k: Optional[int] = None
    ) -> Dict[str, List[Document]]:
        """The same in another thread."""
        return await asyncio.to_thread(self.run, query_embedding, filters, top_k)


@component
class IVFBM25Retriever(_Retriever):
    """Retrieves by words. `options` are `scale_score`."""

    @component.output_types(documents=List[Document])
    def run(self, query: str, filters: Optional[Dict[str, Any]] = None, top_k: Optional[int] = None) -> Dict[str, List[Document]]:
        """The documents with words of the query."""
        return {"documents": self.document_store.bm25_retrieval(query, **self._asked(filters, top_k))}

    @component.output_types(documents=List[Document])
    async def run_async(
        self, query: str, filters: Optional[Dict[str, Any]] = None, top_k: Optional[int] = None
    ) -> Dict[str, List[Document]]:
        """The same in another thread."""
        return await asyncio.to_thread(self.run, query, filters, top_k)


@component
class IVFHybridRetriever(_Retriever):
    """Retrieves by embedding and words together. `options` are `weights`, `fusion` and `candidates`."""

    @component.output_types(documents=List[Document])
    def run(
        self,
        query: str,
        query_embedding: List[float],
        filters: Optional[Dict[str, Any]] = None,
        top_k: Optional[int] = None,
    ) -> Dict[str, List[Document]]:
        """The documents that both find."""
        return {"documents": self.document_store.hybrid_retrieval(query, query_embedding, **self._asked(filters, top_k))}

    @component.output_types(documents=List[Document])
    async def run_async(
        self,
        query: str,
        query_embedding: List[float],
        filters: Optional[Dict[str, Any]] = None,
        top_k: Optional[int] = None,
    ) -> Dict[str, List[Document]]:
        """The same in another thread."""
        return await asyncio.to_thread(self.run, query, query_embedding, filters, top_k)
