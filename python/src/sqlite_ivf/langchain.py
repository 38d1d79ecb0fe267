"""A vector store of LangChain in a table `USING ivf`: docs/langchain.md.

>>> from langchain_core.embeddings import DeterministicFakeEmbedding
>>> store = IVFStore(DeterministicFakeEmbedding(size=8), columns={"year": "INTEGER"})
>>> store.add_texts(["a red fox", "a blue whale"], [{"year": 2019}, {"year": 2024}], ids=["fox", "whale"])
['fox', 'whale']
>>> [document.id for document in store.similarity_search("a red fox", k=1)]
['fox']
>>> [document.metadata for document in store.similarity_search("a red fox", filter={"year": {"$gt": 2020}})]
[{'year': 2024}]
"""

from __future__ import annotations

import json
import os
import re
import threading
import uuid
from contextlib import contextmanager
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)
from weakref import WeakValueDictionary

try:
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore
except ImportError as error:
    raise ImportError(f"sqlite_ivf.langchain needs langchain-core ({error}): pip install 'sqlite-ivf[langchain]'") from error

from ._store import FEW, KINDS, OPTIONS, SETTINGS, TYPES, Term, connected, created, fetched, kind_of, searched, transaction, whole
from .loading import Connection, load
from .table import Table, _literal, _plain, _text_of, quoted
from .vectors import _serialize

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["IVFStore"]

Per = Union[str, Tuple[str, int], None]

_OWN = ("id", "embedding", "text", "metadata")
_SEARCH = (
    "k", "distance", "nprobe", "max_codes", "recall_target", "batch", "query", "packed", "rowids",
    "distances", "params", "per", "mmr", "model", "rowid",
)
_METRICS = ("cosine", "l2", "ip", "l1")
_ELEMENTS = ("float32", "float16", "bfloat16")
#: What a search of vectors takes, and what a hybrid one.
_NEAREST = ("filter", "per", *SETTINGS)
_HYBRID = ("text", "filter", "mode", "weights", "fusion", "rank_constant", "candidates", *SETTINGS)
_COMPARISONS = {"$eq": "=", "$ne": "!=", "$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">="}
_OPERATORS = (*_COMPARISONS, "$in", "$nin", "$between", "$like", "$exists")
_TYPES = {"INTEGER": "a whole number", "FLOAT": "a number", "TEXT": "a text", "BOOLEAN": "True or False"}
_FOUND = re.compile(r'[(,] "((?:[^"]|"")+)" (INTEGER|FLOAT|TEXT|BOOLEAN)( PARTITION KEY)?(?=[,)])')
#: Stores of one connection share a lock, by the connection's `id`; each of them keeps both alive.
_locks: WeakValueDictionary[int, Any] = WeakValueDictionary()
_locks_lock = threading.Lock()


class _Opened(NamedTuple):
    table: Table
    columns: Dict[str, str]
    fts: bool


def _refuse(what: str, given: Mapping[str, Any], accepted: Sequence[str]) -> None:
    """An error for an argument that would be dropped."""
    for name in given:
        if name not in accepted:
            expected = f", expected one of {', '.join(accepted)}" if accepted else ""
            raise TypeError(f"{what}: unknown argument {name!r}{expected}")


def _lock_of(connection: object) -> Any:
    with _locks_lock:
        lock = _locks.get(id(connection))
        if lock is None:
            lock = _locks[id(connection)] = threading.RLock()
        return lock


def _kinds(columns: Mapping[str, str], table: str) -> Dict[str, str]:
    """The declared types, checked, in one spelling."""
    kinds = {}
    reserved = [*_OWN, *_SEARCH, table.lower(), f"{table}_command".lower()]
    for name, declared in columns.items():
        kind = kind_of(declared)
        if kind not in KINDS:
            expected = f"{', '.join(TYPES)}, INTEGER PARTITION KEY or TEXT PARTITION KEY"
            raise ValueError(f"columns: the type of {name!r} must be {expected}, got {declared!r}")
        if name.lower() in reserved:
            raise ValueError(f"columns: the table has a {name!r} of its own, as it has {', '.join(reserved)}")
        kinds[name] = kind
    return kinds


def _value(where: str, kind: str, value: Any) -> Any:
    """A value as its column stores it, which is equal to it; an error if there is none."""
    value = _plain(value)
    kind = kind.split()[0]
    fits = {
        "INTEGER": isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63,
        "FLOAT": isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1023),
        "TEXT": isinstance(value, str),
        "BOOLEAN": isinstance(value, bool),
    }[kind]
    if not fits:
        raise ValueError(f"{where}: {_TYPES[kind]} is expected (the column is {kind}), got {value!r}")
    return float(value) if kind == "FLOAT" else int(value) if kind == "BOOLEAN" else value


def _listed(where: str, values: Any) -> List[Any]:
    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__iter__"):
        raise ValueError(f"{where}: a list is expected, got {values!r}")
    return list(values)


def _json(where: str, values: List[Any]) -> str:
    """The values for `json_each`, which ends a text at a NUL."""
    for each in values:
        if isinstance(each, str) and "\0" in each:
            raise ValueError(f"{where}: a text without NUL is expected, got {each!r}")
    return json.dumps(values)


def _json_of_ids(ids: Any) -> str:
    listed = _listed("ids", ids)
    for each in listed:
        if not isinstance(each, str):
            raise ValueError(f"ids: each id is a text, got {each!r}")
    return _json("ids", listed)


def _condition(name: str, kind: str, operator: str, value: Any) -> Term:
    """One operator on one column."""
    where, column = f"filter: {name} {operator}", quoted(name)
    if operator == "$exists":
        return f"{column} IS {'NOT ' if _value(where, 'BOOLEAN', value) else ''}NULL", [], True
    if value is None and operator in ("$eq", "$ne"):
        return f"{column} IS {'NOT ' if operator == '$ne' else ''}NULL", [], True
    if operator in _COMPARISONS:
        return f"{column} {_COMPARISONS[operator]} ?", [_value(where, kind, value)], True
    if operator == "$like":
        if not kind.startswith("TEXT"):
            raise ValueError(f"{where}: the column must be TEXT, it is {kind}")
        return f"{column} LIKE ?", [_value(where, kind, value)], True
    if operator not in _OPERATORS:
        raise ValueError(f"filter: {name}: unknown operator {operator!r}, expected one of {', '.join(_OPERATORS)}")
    values = [_value(where, kind, each) for each in _listed(where, value)]
    if operator == "$between":
        if len(values) != 2:
            raise ValueError(f"{where}: the smallest and the largest value are expected, got {value!r}")
        return f"{column} BETWEEN ? AND ?", values, True
    if operator == "$nin" and 0 < len(values) <= FEW:  # SQLite does not make NOT IN part of a search
        return " AND ".join([f"{column} != ?"] * len(values)), values, True
    negated = "NOT " if operator == "$nin" else ""
    return f"{column} {negated}IN (SELECT value FROM json_each(?))", [_json(where, values)], not negated


def _terms(given: Optional[Mapping[str, Any]], columns: Mapping[str, str], table: str) -> List[Term]:
    """The conditions of a filter, all of which must hold."""
    if given is None:
        return []
    if not isinstance(given, Mapping):
        raise ValueError(f"filter: a dict of columns and values is expected, got {given!r}")
    terms: List[Term] = []
    for name, value in given.items():
        if name in ("$and", "$or"):
            parts = [_terms(each, columns, table) for each in _listed(f"filter: {name}", value)]
            if not parts or not all(parts):
                raise ValueError(f"filter: {name}: a list of filters with conditions is expected, got {value!r}")
            terms += [term for part in parts for term in part] if name == "$and" else [_joined(" OR ", map(_all, parts))]
        elif name == "$not":
            sql, values, _ = _all(_terms(value, columns, table))
            terms.append((f"NOT ({sql})", values, False))
        elif name not in columns:
            has = f"its columns are {', '.join(columns)}" if columns else "it has none"
            raise ValueError(
                f"filter: {name!r} is no column of {table!r}, {has}: IVFStore(..., columns={{{name!r}: 'TEXT'}}) makes a table "
                "that filters by it"
            )
        elif isinstance(value, Mapping):
            if not value:
                raise ValueError(f"filter: {name}: an operator is expected, one of {', '.join(_OPERATORS)}, got {value!r}")
            terms += [_condition(name, columns[name], operator, each) for operator, each in value.items()]
        else:
            operator = "$in" if isinstance(value, (list, tuple, set, frozenset)) else "$eq"
            terms.append(_condition(name, columns[name], operator, value))
    return terms


def _joined(by: str, terms: Iterable[Term]) -> Term:
    listed = list(terms)
    return by.join(f"({sql})" for sql, _, _ in listed), [value for _, values, _ in listed for value in values], False


def _all(terms: List[Term]) -> Term:
    if not terms:
        raise ValueError("filter: $not expects a filter with conditions, got none")
    return _joined(" AND ", terms)


def _params(settings: Mapping[str, Any]) -> str:
    return _text_of({name: _plain(value) for name, value in settings.items() if value is not None})


def _clipped(score: float) -> float:
    return min(max(score, 0.0), 1.0)


class IVFStore(VectorStore):
    """A vector store of LangChain in a table `USING ivf` of an SQLite database.

    The table has the columns `id TEXT PRIMARY KEY`, `embedding`, `+text` and `+metadata` (all of it, as JSON), and a copy of each
    value of the metadata that `columns` names, by which searches filter. An add or delete is one transaction, or part of the one
    that is open on the connection. Errors of SQLite come as the connection raises them.

    Searches take `filter`, `per` and the settings of docs/sql.md, "How much is searched" (`nprobe`, `recall_target` and so on).

    - `filter` is a dict of columns and values: `{"lang": "en", "year": {"$gte": 2020}}`. A list is `$in`. Operators are `$eq`,
      `$ne`, `$lt`, `$lte`, `$gt`, `$gte`, `$in`, `$nin`, `$between`, `$like` and `$exists`, and around filters `$and`, `$or` and
      `$not`. A document without a value meets `{"year": None}` and `{"year": {"$exists": False}}`, and no other condition.
    - `per="doc_id"` gives the nearest document of each of the `k` nearest values of that column, `per=("doc_id", 3)` up to three.

    The store may be used from several threads: a call waits for the one that runs. A connection of `sqlite3` that you give must
    be opened with `check_same_thread=False` for that, and for the async methods, which run in other threads.
    """

    def __init__(
        self,
        embedding: Embeddings,
        database: Union[str, os.PathLike[str], Connection] = ":memory:",
        *,
        table: str = "langchain",
        columns: Optional[Mapping[str, str]] = None,
        hybrid: bool = False,
        tokenize: Optional[str] = None,
        metric: Optional[str] = None,
        element: Optional[str] = None,
        dim: Optional[int] = None,
        model: Optional[str] = None,
        relevance_score_fn: Optional[Callable[[float], float]] = None,
        **options: Any,
    ) -> None:
        """Opens a table, or makes one: now if `dim` is given, otherwise when the first documents come.

        `database` is a path, or a connection of `sqlite3`, `pysqlite3` or `apsw`, into which the extension is loaded. `columns`
        are values of the metadata to filter by, with their types: INTEGER, FLOAT, TEXT, BOOLEAN, INTEGER PARTITION KEY or TEXT
        PARTITION KEY. `hybrid` keeps an FTS5 table, `<table>_fts`, for `hybrid_search`; `tokenize` is FTS5's, such as `porter`.
        `metric` is cosine (the default), l2, ip or l1; `element` is float32 (the default), float16 or bfloat16. `model` is the
        name of the embedding model, which the table keeps, and which each add and search then checks. `relevance_score_fn`
        makes a relevance score of a distance. `options` are those of the table: `nlist`, `train_at`, `nprobe` and so on.

        What is said of a table that exists must be true of it. What is not said is taken from it.
        """
        for name, value, accepted in (("metric", metric, _METRICS), ("element", element, _ELEMENTS)):
            if value is not None and value not in accepted:
                raise ValueError(f"{name} must be one of {', '.join(accepted)}, got {value!r}")
        _refuse("IVFStore", options, OPTIONS)
        if tokenize is not None and not hybrid:
            raise ValueError(f"tokenize={tokenize!r} is for hybrid=True, got hybrid={hybrid!r}")
        self._embedding = embedding
        self._name, self._metric, self._element, self._dim, self._model = table, metric, element, dim, model
        self._columns = None if columns is None else _kinds(columns, table)
        self._hybrid, self._tokenize, self._relevance, self._options = hybrid, tokenize, relevance_score_fn, options
        self._owned = isinstance(database, (str, os.PathLike))
        #: The connection.
        self.connection: Any = connected(os.fspath(database)) if isinstance(database, (str, os.PathLike)) else database
        self._lock = _lock_of(self.connection)
        try:
            if not self._owned:
                load(self.connection)
            with self._using() as opened:
                ready = dim is None if opened is None else opened.fts or not hybrid
            if not ready:
                with self._transaction() as opened:
                    self._made(opened, dim or 0)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the connection, if the store opened it."""
        if self._owned:
            with self._lock:
                self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def embeddings(self) -> Embeddings:
        """The embedding model, as given."""
        return self._embedding

    @property
    def table(self) -> Optional[Table]:
        """The table, for all that `sqlite_ivf.Table` does; None before it is made."""
        with self._using() as opened:
            return None if opened is None else opened.table

    # The table

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> List[Tuple[Any, ...]]:
        return fetched(self.connection, sql, values)

    @property
    def _fts(self) -> str:
        return f"{self._name}_fts"

    def _opened(self) -> Optional[_Opened]:
        """The table as it is now: another store, or a rollback, may have changed what there is."""
        if created(self.connection, self._name) is None:
            return None
        table = Table(self.connection, self._name, model=self._model)
        missing = [name for name in _OWN if name not in table.columns]
        if missing:
            raise ValueError(f"table {self._name!r} was not made by IVFStore: it has {table.columns}, not {missing}")
        columns = {each.replace('""', '"'): kind + key for each, kind, key in _FOUND.findall(table.created)}
        columns = {name: kind for name, kind in columns.items() if name in table.columns}
        for name, wanted, got in (
            ("metric", self._metric, table.metric),
            ("element", self._element, table.element),
            ("dim", self._dim, table.dim),
            ("columns", self._columns, columns),
        ):
            if wanted is not None and wanted != got:
                raise ValueError(f"{name}={wanted!r}, but table {self._name!r} exists with {name}={got!r}")
        for name, value in self._options.items():
            if not re.search(rf", {name}={re.escape(str(value))}[,)]", table.created):
                raise ValueError(f"{name}={value!r}, but table {self._name!r} exists, made by: {table.created}")
        fts = created(self.connection, self._fts)
        if fts is not None and self._tokenize is not None and _literal(self._tokenize) not in fts:
            raise ValueError(f"tokenize={self._tokenize!r}, but table {self._fts!r} exists, made by: {fts}")
        return _Opened(table, columns, fts is not None)

    def _made(self, opened: Optional[_Opened], dim: int) -> _Opened:
        """The table and the FTS5 table, made if they are missing; in a transaction."""
        if opened is None:
            if created(self.connection, self._fts) is not None:
                raise ValueError(f"table {self._fts!r} exists without {self._name!r}, whose texts it should have: drop it first")
            table = Table.create(
                self.connection,
                self._name,
                dim,
                metric=self._metric or "cosine",
                element=self._element or "float32",
                column="embedding",
                columns={"id": "TEXT PRIMARY KEY", **(self._columns or {}), "+text": "TEXT", "+metadata": "TEXT"},
                schema="main",
                model=self._model,
                **self._options,
            )
            opened = _Opened(table, self._columns or {}, False)
        if self._hybrid and not opened.fts:
            tokenize = "" if self._tokenize is None else f", tokenize={_literal(self._tokenize)}"
            self._rows(f"CREATE VIRTUAL TABLE main.{quoted(self._fts)} USING fts5(text{tokenize})")
            self._rows(f"INSERT INTO main.{quoted(self._fts)}(rowid, text) SELECT rowid, text FROM {opened.table._table}")
            opened = opened._replace(fts=True)
        return opened

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except Exception as error:
                if "created in a thread" in str(error):
                    raise RuntimeError(
                        f"{error}. Open the connection with check_same_thread=False, or give IVFStore the path: calls from "
                        "several threads, and the async methods, need it"
                    ) from error
                raise

    @contextmanager
    def _using(self) -> Iterator[Optional[_Opened]]:
        with self._locked():
            yield self._opened()

    @contextmanager
    def _transaction(self) -> Iterator[Optional[_Opened]]:
        """All or nothing: a transaction, or a savepoint of the one that is open."""
        with self._locked(), transaction(self.connection):
            yield self._opened()

    # Writing

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Optional[List[Dict[str, Any]]] = None,
        *,
        ids: Optional[List[Any]] = None,
        **kwargs: Any,
    ) -> List[str]:
        """Embeds texts and adds them, all or none, and gives their ids.

        An id that exists is replaced. Where none is given, or None, it is a new UUID. The same id twice in one call is an error.
        """
        _refuse("add_texts", kwargs, ())
        listed = _listed("texts", texts)
        self._check(listed, metadatas, ids)
        with self._using() as opened:
            columns = (self._columns or {}) if opened is None else opened.columns
        for metadata, name in zip(metadatas or (), ids or range(len(listed))):
            self._metadata(name, metadata, columns)  # now, because a model that is asked may cost
        return self.add_embeddings(listed, self._embedding.embed_documents(listed) if listed else [], metadatas, ids=ids)

    def _check(self, texts: List[str], metadatas: Optional[Sequence[Any]], ids: Optional[Sequence[Any]]) -> None:
        for name, given in (("metadatas", metadatas), ("ids", ids)):
            if given is not None and len(_listed(name, given)) != len(texts):
                raise ValueError(f"{name}: {len(given)} for {len(texts)} texts")
        for at, text in enumerate(texts):
            if not isinstance(text, str):
                raise ValueError(f"texts: text {at} is no text: {text!r}")
        seen: Dict[str, int] = {}
        for at, each in enumerate(ids or ()):
            if each is not None and not isinstance(each, str):
                raise ValueError(f"ids: each id is a text or None, got {each!r}")
            if each is not None and seen.setdefault(each, at) != at:
                raise ValueError(f"ids: {each!r} is given twice, for texts {seen[each]} and {at}")
        _json("ids", list(seen))

    def add_embeddings(
        self,
        texts: Iterable[str],
        embeddings: Sequence[Sequence[float]],
        metadatas: Optional[Sequence[Optional[Mapping[str, Any]]]] = None,
        *,
        ids: Optional[Sequence[Optional[str]]] = None,
    ) -> List[str]:
        """Adds texts whose embeddings are there already, one for each, as `add_texts` does."""
        listed = _listed("texts", texts)
        self._check(listed, metadatas, ids)
        if len(embeddings) != len(listed):
            raise ValueError(f"embeddings: {len(embeddings)} for {len(listed)} texts")
        if not listed:
            return []
        names = [str(uuid.uuid4()) if each is None else each for each in ids or [None] * len(listed)]
        with self._transaction() as found:
            opened = self._made(found, len(embeddings[0]))
            table = opened.table
            if self._model is not None:
                table.check_model(self._model)
            blobs = [_serialize(each, table.element) for each in embeddings]
            rows = [
                [name, blob, text, *self._metadata(name, metadata, opened.columns)]
                for name, blob, text, metadata in zip(names, blobs, listed, metadatas or [None] * len(listed))
            ]
            for at in range(0, len(rows), 200):
                self._insert(opened, rows[at : at + 200])
        return names

    def _metadata(self, name: Any, metadata: Optional[Mapping[str, Any]], columns: Mapping[str, str]) -> List[Any]:
        """The metadata as JSON, and the values that have columns."""
        metadata = {} if metadata is None else metadata
        where = f"metadata of document {name!r}"
        if not isinstance(metadata, Mapping) or not all(isinstance(key, str) for key in metadata):
            raise ValueError(f"{where}: a dict with texts as keys is expected, got {metadata!r}")
        try:
            plain = {key: _plain(value) for key, value in metadata.items()}
            values: List[Any] = [json.dumps(plain, ensure_ascii=False, allow_nan=False)]
        except (TypeError, ValueError) as error:
            accepted = "texts, numbers, True, False, None, lists and dicts"
            raise ValueError(f"{where}: values are what JSON has, {accepted}: {error}") from error
        for column, kind in columns.items():
            value = plain.get(column)
            values.append(None if value is None else _value(f"{where}: {column}", kind, value))
        return values

    def _insert(self, opened: _Opened, rows: List[List[Any]]) -> None:
        table, fts = opened.table._table, f"main.{quoted(self._fts)}"
        ids = json.dumps([row[0] for row in rows])
        # A text key that is replaced gets another rowid, unless it is given the one it has.
        among = f"FROM {table} WHERE id IN (SELECT value FROM json_each(?))"
        rowids = dict(self._rows(f"SELECT id, rowid {among}", (ids,)))
        if opened.fts and rowids:
            old = json.dumps(list(rowids.values()))
            self._rows(f"DELETE FROM {fts} WHERE rowid IN (SELECT value FROM json_each(?))", (old,))
        names = ", ".join(["rowid", *map(quoted, [*_OWN, *opened.columns])])
        marks = ", ".join([f"({', '.join('?' * (len(rows[0]) + 1))})"] * len(rows))
        values = [value for row in rows for value in (rowids.get(row[0]), *row)]
        self._rows(f"INSERT OR REPLACE INTO {table}({names}) VALUES {marks}", values)
        if opened.fts:
            self._rows(f"INSERT INTO {fts}(rowid, text) SELECT rowid, text {among}", (ids,))

    def delete(self, ids: Optional[List[str]] = None, **kwargs: Any) -> bool:
        """Deletes documents by their ids, all of them if `ids` is None. An id without a document is no error."""
        _refuse("delete", kwargs, ())
        which, values = "", []
        if ids is not None:
            which, values = " WHERE id IN (SELECT value FROM json_each(?))", [_json_of_ids(ids)]
        with self._transaction() as opened:
            if opened is not None:
                table = opened.table._table
                if opened.fts:
                    rowids = f"SELECT rowid FROM {table}{which}"
                    self._rows(f"DELETE FROM main.{quoted(self._fts)} WHERE rowid IN ({rowids})", values)
                self._rows(f"DELETE FROM {table}{which}", values)
        return True

    @classmethod
    def from_texts(
        cls,
        texts: List[str],
        embedding: Embeddings,
        metadatas: Optional[List[Dict[str, Any]]] = None,
        *,
        ids: Optional[List[str]] = None,
        **kwargs: Any,
    ) -> Self:
        """A store with these texts; `kwargs` are those of `IVFStore`."""
        store = cls(embedding, **kwargs)
        try:
            store.add_texts(texts, metadatas, ids=ids)
        except BaseException:
            store.close()
            raise
        return store

    # Reading

    @staticmethod
    def _document(id: str, text: str, metadata: str) -> Document:
        return Document(id=id, page_content=text, metadata=json.loads(metadata))

    def get_by_ids(self, ids: Sequence[str], /) -> List[Document]:
        """The documents of these ids that there are, in their order."""
        ids = _listed("ids", ids)
        values = (_json_of_ids(ids),)
        with self._using() as opened:
            if opened is None:
                return []
            sql = f"SELECT id, text, metadata FROM {opened.table._table} WHERE id IN (SELECT value FROM json_each(?))"
            found = {row[0]: self._document(*row) for row in self._rows(sql, values)}
        return [found[each] for each in dict.fromkeys(ids) if each in found]

    def _nearest(
        self,
        embedding: Any,
        k: int,
        mmr: Optional[str] = None,
        filter: Optional[Mapping[str, Any]] = None,
        per: Per = None,
        **settings: Any,
    ) -> List[Tuple[Document, float]]:
        with self._using() as opened:
            terms = _terms(filter, (self._columns or {}) if opened is None else opened.columns, self._name)
            if opened is None:
                return []
            table = opened.table
            asked = {
                "k": whole("k", k),
                "per": ":".join(map(str, per)) if isinstance(per, (tuple, list)) else per,
                "mmr": mmr,
                "model": self._model,
                "params": _params(settings) or None,
            }
            asked = {name: value for name, value in asked.items() if value is not None}
            conditions, values = searched(table._table, terms)
            conditions = ["embedding MATCH ?", *(f"{name} = ?" for name in asked), *conditions]
            sql = f"SELECT id, text, metadata, distance FROM {table._table} WHERE {' AND '.join(conditions)}"
            given = [_serialize(embedding, table.element), *asked.values(), *values]
            rows = self._rows(f"{sql} ORDER BY distance, rowid", given)
        return [(self._document(*row[:3]), row[3]) for row in rows]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> List[Document]:
        """The `k` documents nearest to a text; `kwargs` are `filter`, `per` and settings, see `IVFStore`."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> List[Tuple[Document, float]]:
        """The same, with the distances in the table's metric: smaller is nearer."""
        return self.similarity_search_with_score_by_vector(self._embedding.embed_query(query), k, **kwargs)

    def similarity_search_by_vector(self, embedding: List[float], k: int = 4, **kwargs: Any) -> List[Document]:
        """The `k` documents nearest to a vector."""
        return [document for document, _ in self.similarity_search_with_score_by_vector(embedding, k, **kwargs)]

    def similarity_search_with_score_by_vector(
        self, embedding: List[float], k: int = 4, **kwargs: Any
    ) -> List[Tuple[Document, float]]:
        """The same, with the distances."""
        _refuse("search", kwargs, _NEAREST)
        return self._nearest(embedding, k, **kwargs)

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> List[Document]:
        """`k` documents that are near a text and differ from each other, nearest first: docs/sql.md, "Diverse answers".

        They are chosen among the `fetch_k` nearest ones (`k`, if that is more). `lambda_mult` is between 1 (near the text) and 0
        (far from each other).
        """
        return self.max_marginal_relevance_search_by_vector(
            self._embedding.embed_query(query), k, fetch_k, lambda_mult, **kwargs
        )

    def max_marginal_relevance_search_by_vector(
        self, embedding: List[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> List[Document]:
        """The same for a vector."""
        _refuse("search", kwargs, _NEAREST)
        mmr = f"{_plain(lambda_mult)}:{max(whole('fetch_k', fetch_k), whole('k', k))}"
        return [document for document, _ in self._nearest(embedding, k, mmr, **kwargs)]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """What makes a score from 0 to 1 of a distance.

        Of cosine it is the cosine, and of ip the inner product, with 0 for what is below it and 1 for what is above; of l2 and l1
        it is 1 / (1 + distance).
        """
        if self._relevance is not None:
            return self._relevance
        table = self.table
        metric = (self._metric or "cosine") if table is None else table.metric
        if metric == "cosine":
            return lambda distance: _clipped(1 - distance)
        if metric == "ip":
            return lambda distance: _clipped(-distance)
        return lambda distance: 1 / (1 + distance)

    def hybrid_search(self, query: str, k: int = 4, **kwargs: Any) -> List[Document]:
        """The `k` documents that the embedding and the words of a text find together; `kwargs` as in `hybrid_search_with_score`."""
        return [document for document, _ in self.hybrid_search_with_score(query, k, **kwargs)]

    def hybrid_search_with_score(
        self,
        query: str,
        k: int = 4,
        *,
        text: Optional[str] = None,
        filter: Optional[Mapping[str, Any]] = None,
        mode: str = "any",
        weights: Tuple[float, float] = (1.0, 1.0),
        fusion: str = "rrf",
        rank_constant: Optional[float] = None,
        candidates: Optional[int] = None,
        **settings: Any,
    ) -> List[Tuple[Document, float]]:
        """The same with the scores of the fusion: larger is better. It needs `hybrid=True`.

        `text` is what to look for in the FTS5 table, `query` unless given. The others are those of docs/sql.md, "Hybrid search":
        `mode` is `any`, `all` or `fts5`, `weights` are those of the embedding and of the words, `fusion` is `rrf` or `sum`.
        """
        _refuse("hybrid_search", settings, _HYBRID)
        params = _params(settings)
        if self._model is not None:
            params += f"{', ' if params else ''}model={_literal(self._model)}"
        vector = self._embedding.embed_query(query)
        with self._using() as opened:
            terms = _terms(filter, (self._columns or {}) if opened is None else opened.columns, self._name)
            if not (self._hybrid if opened is None else opened.fts):
                raise ValueError(
                    f"hybrid_search needs the FTS5 table {self._fts!r}: IVFStore(..., table={self._name!r}, hybrid=True) makes it"
                )
            if opened is None:
                return []
            table = opened.table
            given: Dict[str, Any] = {
                "fts_mode": mode,
                "fusion": fusion,
                "rank_constant": rank_constant,
                "vec_weight": weights[0],
                "fts_weight": weights[1],
                "candidates": candidates,
                "vec_params": params or None,
            }
            if terms:
                conditions, bound = searched(table._table, terms)
                given["filter"], given["filter_values"] = " AND ".join(conditions), _json("filter", bound)
            given = {name: _plain(value) for name, value in given.items() if value is not None}
            sql = (
                "SELECT t.id, t.text, t.metadata, h.score "
                f"FROM ivf_hybrid(?, ?, ?, ?, ?) AS h CROSS JOIN {table._table} AS t ON t.rowid = h.rowid "
                f"WHERE {' AND '.join(f'h.{name} = ?' for name in given)} ORDER BY h.rank"
            )
            words = query if text is None else text
            asked = [table._named, f"main.{self._fts}", _serialize(vector, table.element), words, whole("k", k)]
            rows = self._rows(sql, [*asked, *given.values()])
        return [(self._document(*row[:3]), row[3]) for row in rows]
