"""A vector store of LlamaIndex in a table `USING ivf`: `pip install 'sqlite-ivf[llamaindex]'`, and docs/llamaindex.md."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
import warnings
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ._store import FEW, KINDS, SETTINGS, Term, connected, created, fetched, kind_of, searched, transaction, whole
from .table import Table, _literal, _unquoted, quoted

try:
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.schema import BaseNode, Document, ImageDocument, MetadataMode, TextNode
    from llama_index.core.vector_stores.types import (
        BasePydanticVectorStore,
        MetadataFilters,
        VectorStoreQuery,
        VectorStoreQueryResult,
    )
    from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
except ImportError as error:
    raise ImportError(f"sqlite_ivf.llamaindex needs llama-index-core: pip install 'sqlite-ivf[llamaindex]' ({error})") from error

__all__ = ["IVFVectorStore"]

#: The columns of every table of this store. What is declared comes after them.
_OWN = {"_node_id": "TEXT PRIMARY KEY", "_ref_doc_id": "TEXT", "+_text": "TEXT", "+_node": "TEXT", "+_type": "TEXT"}
_VECTOR = "_embedding"
#: The keys by which LlamaIndex knows the document of a node.
_DOCUMENT = ("ref_doc_id", "doc_id", "document_id")
_DECLARED = re.compile(r', ("(?:[^"]|"")+") (\w+(?: PARTITION KEY)?)(?=[,)])')
_GIVEN = ("database", "table_name", "columns", "hybrid", "metric", "options")
_MODES = ("default", "mmr", "hybrid", "text_search")
#: What `query` takes besides the query, in each mode.
_ASKED = {
    "default": ("per", *SETTINGS),
    "mmr": ("per", "mmr_threshold", "mmr_prefetch_factor", "mmr_prefetch_k", *SETTINGS),
    "hybrid": ("fusion", "fts_mode", "candidates", *SETTINGS),
    "text_search": ("fts_mode",),
}

Condition = Tuple[str, List[Any]]


def _refuse(given: Mapping[str, Any], accepted: Sequence[str], what: str) -> None:
    for name in given:
        if name not in accepted:
            raise TypeError(f"{what} takes {', '.join(accepted) or 'nothing else'}, got {name}={given[name]!r}")


def _joined(conditions: Sequence[Condition], word: str) -> Condition:
    return "(" + f" {word} ".join(sql for sql, _ in conditions) + ")", [value for _, values in conditions for value in values]


class _Filters:
    """Metadata filters in SQL, by the rules of LlamaIndex's own SimpleVectorStore."""

    def __init__(self, columns: Mapping[str, str], texts: Callable[[str], List[Tuple[int, str]]]) -> None:
        self.columns: Dict[str, Tuple[str, bool]] = {
            **{key: (quoted("_ref_doc_id"), True) for key in _DOCUMENT},
            **{key: (quoted(key), kind.startswith("TEXT")) for key, kind in columns.items()},
        }
        self.texts = texts

    def terms(self, filters: Optional[MetadataFilters]) -> List[Term]:
        """The conditions that must all hold."""
        found = []
        for part in self._parts(filters):
            condition, passed = self._leaf(part) if hasattr(part, "operator") else (self.tree(part), False)
            found.append((*condition, passed))
        return found

    def _parts(self, filters: Optional[MetadataFilters]) -> List[Any]:
        """The filters of which all must hold."""
        if filters is None:
            return []
        word = filters.condition.value if filters.condition is not None else "and"
        if word != "and" and not (word == "or" and len(filters.filters) == 1):
            return [filters]
        parts = []
        for part in filters.filters:
            parts += [part] if hasattr(part, "operator") else self._parts(part)
        return parts

    def tree(self, filters: MetadataFilters) -> Condition:
        """Nested filters, as an expression that is 0 or 1."""
        word = filters.condition.value if filters.condition is not None else "and"
        if word not in ("and", "or", "not"):
            raise ValueError(f"a condition of filters is and, or or not, got {word!r}")
        parts = []
        for part in filters.filters:
            sql, values = self._leaf(part)[0] if hasattr(part, "operator") else self.tree(part)
            parts.append((f"coalesce({sql}, 0)", values))
        if not parts:
            return "1", []  # as in SimpleVectorStore: filters without a filter let everything pass
        sql, values = _joined(parts, "AND" if word == "and" else "OR")
        return (f"(NOT {sql})" if word == "not" else sql), values

    def _leaf(self, one: Any) -> Tuple[Condition, bool]:
        """The condition of one filter, and whether SQLite passes it to the table."""
        key, value, word = one.key, one.value, one.operator.value
        self._check(key, word, value)
        if key in self.columns:
            return self._column(key, word, value)
        if re.search(r'["\\\x00-\x1f]', key):
            raise ValueError(f"a filter's key that is no column may have no quotes, backslashes or control characters, got {key!r}")
        return self._json(key, word, value), False

    @staticmethod
    def _check(key: str, word: str, value: Any) -> None:
        where = f"the filter {key} {word}"
        if word in ("in", "nin", "any", "all"):
            if not isinstance(value, list):
                raise ValueError(f"{where} takes a list of texts or numbers, got {value!r}")
        elif word in ("text_match", "text_match_insensitive"):
            if not isinstance(value, str):
                raise ValueError(f"{where} takes a text, got {value!r}")
        elif word in ("==", "!=", ">", ">=", "<", "<=", "contains"):
            if isinstance(value, list) or (value is None and word not in ("==", "!=")):
                raise ValueError(f"{where} takes a text or a number, got {value!r}")
        elif word != "is_empty":
            raise ValueError(f"{where}: the operator is not known here")
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, float) and each - each != 0:
                raise ValueError(f"{where} takes finite numbers, got {each!r}")
            if isinstance(each, int) and not -(2**63) <= each < 2**63:
                raise ValueError(f"{where} takes whole numbers of 64 bits, got {each!r}")

    def _insensitive(self, expression: str, value: str) -> Condition:
        """In Python, whose `lower` knows all letters; SQLite's knows those of ASCII."""
        found = [rowid for rowid, text in self.texts(expression) if value.lower() in text.lower()]
        return "rowid IN (SELECT value FROM json_each(?))", [json.dumps(found)]

    def _column(self, key: str, word: str, value: Any) -> Tuple[Condition, bool]:
        name, is_text = self.columns[key]

        def fits(each: Any) -> bool:
            return each is not None and isinstance(each, str) == is_text

        if word == "==":
            return ((f"{name} = ?", [value]), True) if fits(value) else (("0", []), False)
        if word == "!=":
            return ((f"{name} IS NOT ?", [value]), True) if fits(value) else (("1", []), False)
        if word in ("in", "nin"):
            values = [each for each in value if fits(each)]
            if word == "in":
                return (f"{name} IN (SELECT value FROM json_each(?))", [json.dumps(values)]), True
            if 0 < len(values) <= FEW:
                return _joined([(f"{name} IS NOT ?", [each]) for each in values], "AND"), True
            return (f"coalesce({name} NOT IN (SELECT value FROM json_each(?)), 1)", [json.dumps(values)]), False
        if word == "is_empty":
            return ((f"coalesce({name}, '') = ''", []), False) if is_text else ((f"{name} IS NULL", []), True)
        if word in (">", ">=", "<", "<="):
            if not fits(value):
                raise ValueError(f"the filter {key} {word} is on a column of {'texts' if is_text else 'numbers'}, got {value!r}")
            return (f"{name} {word} ?", [value]), True
        if not is_text:
            raise ValueError(f"the filter {key} {word} is for texts and lists, and the column {key} has numbers")
        if word == "text_match_insensitive":
            return self._insensitive(name, value), False
        if word == "text_match":
            return (f"instr({name}, ?) > 0", [value]), False
        has = f"w.type = 'text' AND instr({name}, w.value) > 0"
        return self._has(word, value, has, f"{name} IS NOT NULL"), False

    def _json(self, key: str, word: str, value: Any) -> Condition:
        path = _literal(f'$.metadata."{key}"')
        found, kind = f'json_extract("_node", {path})', f'json_type("_node", {path})'
        alike = "= 'text'" if isinstance(value, str) else "IN ('integer', 'real', 'true', 'false')"
        if word in ("==", "!="):
            equal: Condition = ("0", []) if value is None else (f"({kind} {alike} AND {found} = ?)", [value])
            return equal if word == "==" else (f"NOT coalesce({equal[0]}, 0)", equal[1])
        if word in (">", ">=", "<", "<="):
            return f"({kind} {alike} AND {found} {word} ?)", [value]
        if word in ("in", "nin"):
            among = f"({kind} NOT IN ('array', 'object') AND {found} IN (SELECT value FROM json_each(?)))"
            return (among if word == "in" else f"NOT coalesce({among}, 0)"), [json.dumps(value)]
        if word == "is_empty":
            empty = f"WHEN 'null' THEN 1 WHEN 'text' THEN {found} = '' WHEN 'array' THEN {found} = '[]'"
            return f"CASE coalesce({kind}, 'null') {empty} END", []
        if word == "text_match":
            return f"({kind} = 'text' AND instr({found}, ?) > 0)", [value]
        if word == "text_match_insensitive":
            return self._insensitive(f"CASE {kind} WHEN 'text' THEN {found} END", value)
        has = (
            f"CASE {kind} WHEN 'text' THEN w.type = 'text' AND instr({found}, w.value) > 0"
            f' ELSE EXISTS (SELECT 1 FROM json_each("_node", {path}) AS e'
            f" WHERE w.value = CASE {kind} WHEN 'array' THEN e.atom WHEN 'object' THEN e.key END) END"
        )
        return self._has(word, value, has, f"coalesce({kind}, 'null') <> 'null'")

    @staticmethod
    def _has(word: str, value: Any, has: str, there: str) -> Condition:
        values = json.dumps([value] if word == "contains" else value)
        if word == "all":
            return f"({there} AND NOT EXISTS (SELECT 1 FROM json_each(?) AS w WHERE NOT coalesce({has}, 0)))", [values]
        return f"EXISTS (SELECT 1 FROM json_each(?) AS w WHERE {has})", [values]


class IVFVectorStore(BasePydanticVectorStore):  # type: ignore[misc]
    """A vector store in a table of an SQLite database, which is a file or a connection that you have.

    The table is made by the first `add`, which knows the number of dimensions; one that is there is opened. `columns` declares
    metadata that searches filter by inside: `{"year": "INTEGER"}`, of INTEGER, FLOAT, TEXT, BOOLEAN, INTEGER PARTITION KEY or TEXT
    PARTITION KEY. Filters on other metadata read all nodes first. `hybrid` keeps an FTS5 table of the texts beside, for the modes
    HYBRID and TEXT_SEARCH. `metric` is cosine (unless given), l2, ip or l1, and `options` are those of `Table.create`. Where the
    table is there, what is given is compared with it.

    A connection that you give has the extension loaded, stays yours, and is used in the thread of the caller, also by the methods
    that are async. One that is opened here works in any thread, one call at a time. Each call is a transaction, or part of the one
    that is open on your connection.

    Similarities are 1 - distance for cosine and the negated distance otherwise; in HYBRID the fused score, in TEXT_SEARCH FTS5's
    bm25 with the other sign.

    >>> from llama_index.core.schema import TextNode
    >>> from llama_index.core.vector_stores.types import VectorStoreQuery
    >>> store = IVFVectorStore(":memory:", columns={"year": "INTEGER"})
    >>> store.add([TextNode(id_="a", text="one", embedding=[1, 0], metadata={"year": 2019}),
    ...            TextNode(id_="b", text="two", embedding=[0, 1], metadata={"year": 2024})])
    ['a', 'b']
    >>> store.query(VectorStoreQuery(query_embedding=[1, 0.1])).nodes[0].text
    'one'
    """

    stores_text: bool = True
    is_embedding_query: bool = True
    flat_metadata: bool = False

    #: The file, None for a connection.
    database: Optional[str] = None
    table_name: str = "llama_index"
    columns: Optional[Dict[str, str]] = None
    hybrid: bool = False
    metric: Optional[str] = None
    options: Dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it

    _connection: Any = PrivateAttr()
    _own: bool = PrivateAttr()
    _lock: Any = PrivateAttr()
    _table: Optional[Table] = PrivateAttr()

    def __init__(
        self,
        database: Any,
        table_name: str = "llama_index",
        *,
        columns: Optional[Mapping[str, str]] = None,
        hybrid: bool = False,
        metric: Optional[str] = None,
        options: Optional[Mapping[str, Any]] = None,
        **fields: Any,
    ) -> None:
        fixed = {"stores_text": True, "is_embedding_query": True, "flat_metadata": False}  # to_dict has them
        _refuse({name: value for name, value in fields.items() if value != fixed.get(name)}, _GIVEN, "IVFVectorStore")
        own = isinstance(database, (str, os.PathLike))
        if database is None:
            raise ValueError(
                "database is a path or a connection, got None: a store of a connection is not kept by to_dict or pickle"
            )
        super().__init__(
            database=os.fspath(database) if own else None,
            table_name=table_name,
            columns=None if columns is None else self._declared(columns),
            hybrid=hybrid,
            metric=metric,
            options=dict(options or {}),
        )
        self._own, self._lock, self._table = own, threading.RLock(), None
        self._connection = connected(os.fspath(database), isolation_level=None) if own else database
        try:
            self._find()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _declared(columns: Mapping[str, str]) -> Dict[str, str]:
        taken = {name.lstrip("+") for name in _OWN} | {_VECTOR, "params", *_DOCUMENT}
        result = {}
        for name, kind in columns.items():
            if name.lower() in taken or name.startswith("+") or not name:
                why = "is the node's document already" if name.lower() in _DOCUMENT else "is no name of a column here"
                raise ValueError(f"columns: {name!r} {why}; taken are {', '.join(sorted(taken))}, and names with a +")
            if kind_of(kind) not in KINDS:
                raise ValueError(f"columns: {name} is one of {', '.join(KINDS)}, got {kind!r}")
            result[name] = kind_of(kind)
        return result

    @classmethod
    def class_name(cls) -> str:
        """The name by which LlamaIndex knows it."""
        return "IVFVectorStore"

    @property
    def client(self) -> Any:
        """The connection."""
        return self._connection

    @property
    def table(self) -> Optional[Table]:
        """The table, for `stats`, `train`, `recall` and settings; None before the first `add`."""
        with self._lock:
            return self._find()

    def close(self) -> None:
        """Closes the connection, unless you gave it."""
        if self._own:
            with self._lock:
                self._connection.close()

    # ----- the tables

    @property
    def _words(self) -> str:
        return f"{self.table_name}_fts"

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> List[Tuple[Any, ...]]:
        return fetched(self._connection, sql, values)

    def _find(self) -> Optional[Table]:
        """Opens the table, once it is there."""
        if created(self._connection, self.table_name) is None:
            self._table = None  # dropped, or made in a transaction that was rolled back
        elif self._table is None:
            table = Table(self._connection, self.table_name, model=self.options.get("model"))
            missing = {_VECTOR, *(name.lstrip("+") for name in _OWN)} - set(table.columns)
            if missing:
                raise ValueError(
                    f"the table {self.table_name!r} is not one of IVFVectorStore: it has no {', '.join(sorted(missing))}"
                )
            there = {_unquoted(name): kind for name, kind in _DECLARED.findall(table.created)}
            del there["_ref_doc_id"]
            for what, given, real in [("columns", self.columns, there), ("metric", self.metric, table.metric)]:
                if given is not None and given != real:
                    raise ValueError(f"the table {self.table_name!r} has {what} {real!r}, got {given!r}")
            for name, value in self.options.items():
                if name not in ("model", "element") and not re.search(rf"\b{re.escape(f'{name}={value}')}[,)]", table.created):
                    raise ValueError(f"the table {self.table_name!r} was not made with {name}={value}: {table.created}")
            if self.options.get("element", table.element) != table.element:
                raise ValueError(f"the table {self.table_name!r} has elements {table.element}, got {self.options['element']!r}")
            self.columns, self.metric = there, table.metric
            if created(self._connection, self._words) is None:
                if self.hybrid:
                    self._table = table
                    try:
                        with self._writing():
                            self._make_words()
                    except BaseException:
                        self._table = None
                        raise
            else:
                self.hybrid = True
            self._table = table
        return self._table

    def _make_words(self) -> None:
        """The FTS5 table, with the texts of the nodes that are there."""
        self._connection.execute(f"CREATE VIRTUAL TABLE IF NOT EXISTS main.{quoted(self._words)} USING fts5(text)")
        if self._table is not None:
            rows = self._rows(f'SELECT rowid, "_text", "_node", "_type" FROM {self._table._table}')
            self._add_words((rowid, _loaded(*kept).get_content(metadata_mode=MetadataMode.NONE)) for rowid, *kept in rows)

    def _add_words(self, rows: Any) -> None:
        self._connection.cursor().executemany(f"INSERT INTO main.{quoted(self._words)}(rowid, text) VALUES (?, ?)", rows)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction; where one is open, a part of it."""
        with transaction(self._connection):
            if self._table is not None and not self.hybrid:
                self.hybrid = created(self._connection, self._words) is not None  # another store may have made it since
            yield

    def _filters(self, table: Table) -> _Filters:
        def texts(expression: str) -> List[Tuple[int, str]]:
            sql = f"SELECT rowid, text FROM (SELECT rowid, {expression} AS text FROM {table._table}) WHERE text IS NOT NULL"
            return [(rowid, text) for rowid, text in self._rows(sql)]

        return _Filters(self.columns or {}, texts)

    def _conditions(
        self,
        table: Table,
        filters: Optional[MetadataFilters],
        node_ids: Optional[Sequence[str]] = None,
        doc_ids: Optional[Sequence[str]] = None,
    ) -> Condition:
        terms = self._filters(table).terms(filters)
        for column, ids in (("_node_id", node_ids), ("_ref_doc_id", doc_ids)):
            if ids is not None:
                terms.append((f"{quoted(column)} IN (SELECT value FROM json_each(?))", [json.dumps(list(ids))], True))
        conditions, values = searched(table._table, terms)
        return f"({' AND '.join(conditions)})" if conditions else "", values

    # ----- writing

    def add(self, nodes: Sequence[BaseNode], **add_kwargs: Any) -> List[str]:
        """Adds nodes with their embeddings, all or none, and gives their ids. A node whose id is there is replaced."""
        _refuse(add_kwargs, (), "add")
        ids = [node.node_id for node in nodes]
        latest = {node.node_id: node for node in nodes}  # of two with one id the last one stays
        if not latest:
            return []
        with self._lock:
            before = self._table
            vectors = [list(node.get_embedding()) for node in latest.values()]
            try:
                with self._writing():
                    table = self._find()
                    if table is None:
                        table = self._table = self._create(len(vectors[0]))
                    for node_id, vector in zip(latest, vectors):
                        if len(vector) != table.dim:
                            raise ValueError(f"node {node_id}: embeddings have {table.dim} dimensions, got {len(vector)}")
                    values = [self._values(node) for node in latest.values()]
                    self._remove(table, *self._conditions(table, None, list(latest)))
                    rowids = table.add(vectors, metadata={name: [each[name] for each in values] for name in values[0]})
                    if self.hybrid:
                        texts = [node.get_content(metadata_mode=MetadataMode.NONE) for node in latest.values()]
                        self._add_words(zip(rowids.tolist(), texts))
            except BaseException:
                self._table = before
                raise
        return ids

    def _create(self, dim: int) -> Table:
        self.columns, self.metric = self.columns or {}, self.metric or "cosine"
        columns = {**_OWN, **self.columns}
        table = Table.create(
            self._connection,
            self.table_name,
            dim,
            metric=self.metric,
            column=_VECTOR,
            columns=columns,
            schema="main",
            **self.options,
        )
        if self.hybrid:
            self._make_words()
        return table

    def _values(self, node: BaseNode) -> Dict[str, Any]:
        try:
            json.dumps(node.metadata, allow_nan=False, default=str)
        except ValueError as error:
            raise ValueError(f"node {node.node_id}: metadata cannot be kept as JSON, got {node.metadata!r}: {error}") from None
        text = isinstance(node, TextNode)
        kept = node_to_metadata_dict(node, remove_text=text)
        values = {
            "_node_id": node.node_id,
            "_ref_doc_id": node.ref_doc_id,
            "_text": node.get_content(metadata_mode=MetadataMode.NONE) if text else None,
            "_node": kept["_node_content"],
            "_type": kept["_node_type"],
        }
        for name, kind in (self.columns or {}).items():
            value = values[name] = node.metadata.get(name)
            accepted: Tuple[type, ...] = (str,) if kind.startswith("TEXT") else (int, float) if kind == "FLOAT" else (int,)
            fits = value is None or isinstance(value, accepted)
            if not fits or (kind == "BOOLEAN" and value not in (None, 0, 1)):
                what = {"TEXT": "a text", "FLOAT": "a number", "BOOLEAN": "a boolean"}.get(kind.split()[0], "a whole number")
                raise ValueError(f"node {node.node_id}: {name} is {what} or None, got {value!r}")
            if isinstance(value, bool):
                values[name] = int(value)
        return values

    def _remove(self, table: Table, sql: str, values: List[Any]) -> None:
        rowids = json.dumps([rowid for (rowid,) in self._rows(f"SELECT rowid FROM {table._table} WHERE {sql or '1'}", values)])
        names = [table._table] + ([f"main.{quoted(self._words)}"] if self.hybrid else [])
        for name in names if rowids != "[]" else []:
            self._rows(f"DELETE FROM {name} WHERE rowid IN (SELECT value FROM json_each(?))", (rowids,))

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Deletes the nodes of a document."""
        _refuse(delete_kwargs, (), "delete")
        with self._lock:
            table = self._find()
            if table is not None:
                with self._writing():
                    self._remove(table, '"_ref_doc_id" = ?', [ref_doc_id])

    def delete_nodes(
        self, node_ids: Optional[List[str]] = None, filters: Optional[MetadataFilters] = None, **delete_kwargs: Any
    ) -> None:
        """Deletes the nodes of these ids that the filters let pass. Without either it is an error: `clear` deletes all."""
        _refuse(delete_kwargs, (), "delete_nodes")
        if node_ids is None and (filters is None or not filters.filters):
            raise ValueError("delete_nodes takes node_ids or filters, got neither: clear() deletes all nodes")
        with self._lock:
            table = self._find()
            if table is not None:
                with self._writing():
                    self._remove(table, *self._conditions(table, filters, node_ids))

    def clear(self) -> None:
        """Deletes all nodes; the table stays as it was made."""
        with self._lock:
            table = self._find()
            if table is not None:
                with self._writing():
                    self._remove(table, "1", [])

    def persist(self, persist_path: str = "", fs: Any = None) -> None:
        """Does nothing: what is added is in the database. A database in memory is not kept, which is a warning."""
        (file,) = self._rows("SELECT file FROM pragma_database_list WHERE name = 'main'")[0]
        if not file:
            warnings.warn("IVFVectorStore: the database is in memory, and persist keeps nothing of it", stacklevel=2)

    # ----- reading

    def get_nodes(self, node_ids: Optional[List[str]] = None, filters: Optional[MetadataFilters] = None) -> List[BaseNode]:
        """The nodes of these ids, in their order, that the filters let pass; without ids all, as added. With their embeddings."""
        with self._lock:
            table = self._find()
            if table is None:
                return []
            with table.transaction():
                sql, values = self._conditions(table, filters, node_ids)
                found = self._rows(f"SELECT rowid FROM {table._table} WHERE {sql or '1'} ORDER BY rowid", values)
                rowids = [rowid for (rowid,) in found]
                nodes = [_loaded(*row) for row in table.get(rowids, "_text", "_node", "_type")]
                for node, vector in zip(nodes, table.vectors(rowids) if rowids else []):
                    node.embedding = vector.tolist()
        if node_ids is None:
            return nodes
        by_id = {node.node_id: node for node in nodes}
        return [by_id[each] for each in dict.fromkeys(node_ids) if each in by_id]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nodes that a query finds, the best ones first.

        In every mode `kwargs` has settings of the search, such as `nprobe` and `recall_target`; TEXT_SEARCH has none. DEFAULT and
        MMR take `per="ref_doc_id"` (or a column), for the best node of each document, and `per=("ref_doc_id", 3)`. MMR takes
        `mmr_threshold` (1 is near the query, 0 far from each other, 0.5 unless given) and `mmr_prefetch_factor` times
        `similarity_top_k`, or `mmr_prefetch_k`, nodes to choose from (5 times, at least 50, unless given). What it chooses comes
        by the similarity to the query. HYBRID takes `alpha` of the query (1 is the vector, 0 the text, 0.5 unless given),
        `fusion` (`rrf` or `sum`) and `candidates`; it and TEXT_SEARCH take `fts_mode` (`any`, `all`, `fts5`).
        """
        mode = getattr(query.mode, "value", query.mode)
        if mode not in _MODES:
            raise ValueError(f"the mode of a query is one of {', '.join(_MODES)}, got {mode!r}")
        _refuse(kwargs, _ASKED[mode], f"a query of mode {mode}")
        for name in ("output_fields", "embedding_field"):
            if getattr(query, name) is not None:
                raise ValueError(f"{name} is for other stores, got {getattr(query, name)!r}")
        whole("similarity_top_k", query.similarity_top_k)
        for name in ("hybrid_top_k", "sparse_top_k"):
            if getattr(query, name) is not None:
                whole(name, getattr(query, name))
        text, vector = query.query_str, query.query_embedding
        if vector is None and mode != "text_search":
            raise ValueError(f"a query of mode {mode} has a query_embedding, got None")
        if text is None and mode in ("hybrid", "text_search"):
            raise ValueError(f"a query of mode {mode} has a query_str, got None")
        search = self._fused if mode in ("hybrid", "text_search") else self._nearest
        with self._lock:
            table = self._find()
            if mode in ("hybrid", "text_search") and not self.hybrid:
                raise ValueError(
                    f"a query of mode {mode} searches texts: IVFVectorStore(..., hybrid=True) keeps them in an FTS5 table"
                )
            if table is None:
                return VectorStoreQueryResult(nodes=[], similarities=[], ids=[])
            if vector is not None and mode != "text_search" and len(vector) != table.dim:
                raise ValueError(f"query_embedding: vectors have {table.dim} dimensions, got {len(vector)}")
            with table.transaction():
                # VectorStoreIndex says [] where it limits nothing: it lists no nodes whose text the store has.
                where, values = self._conditions(table, query.filters, query.node_ids or None, query.doc_ids)
                rowids, similarities = search(table, query, dict(kwargs), where or None, values)
                rows = table.get(rowids, "_text", "_node", "_type")
        nodes = [_loaded(*row) for row in rows]
        return VectorStoreQueryResult(nodes=nodes, similarities=similarities, ids=[node.node_id for node in nodes])

    def _nearest(
        self, table: Table, query: VectorStoreQuery, asked: Dict[str, Any], where: Optional[str], values: List[Any]
    ) -> Tuple[List[int], List[float]]:
        k = query.similarity_top_k
        per = asked.pop("per", None)
        if per is not None:
            name, *each = (per,) if isinstance(per, str) else per
            accepted = [*_DOCUMENT, *(self.columns or {})]
            if name not in accepted:
                raise ValueError(f"per is one of {', '.join(accepted)}, got {name!r}")
            name = "_ref_doc_id" if name in _DOCUMENT else name
            per = (name, *each) if each else name
        mmr = None
        if query.mode == "mmr":
            given = asked.pop("mmr_threshold", query.mmr_threshold)
            threshold = 0.5 if given is None else given
            if not 0 <= threshold <= 1:
                raise ValueError(f"mmr_threshold is between 0 and 1, got {threshold!r}")
            factor, prefetch = asked.pop("mmr_prefetch_factor", None), asked.pop("mmr_prefetch_k", None)
            if factor is not None and prefetch is not None:
                raise ValueError(f"mmr_prefetch_factor or mmr_prefetch_k, not both, got {factor!r} and {prefetch!r}")
            if factor is not None:
                if not factor >= 1:
                    raise ValueError(f"mmr_prefetch_factor is at least 1, got {factor!r}")
                prefetch = int(k * factor)
            if prefetch is not None and prefetch < k:
                raise ValueError(f"mmr_prefetch_k is at least similarity_top_k ({k}), got {prefetch!r}")
            mmr = threshold if prefetch is None else (threshold, prefetch)
        hits = table.search(query.query_embedding, k, where=where, values=values, per=per, mmr=mmr, **asked)
        closest = 1.0 if table.metric == "cosine" else 0.0
        return hits.ids.tolist(), (closest - hits.distances).tolist()

    def _fused(
        self, table: Table, query: VectorStoreQuery, asked: Dict[str, Any], where: Optional[str], values: List[Any]
    ) -> Tuple[List[int], List[float]]:
        k, words = query.similarity_top_k, f"main.{self._words}"
        mode = asked.pop("fts_mode", "any")
        if query.mode == "text_search":
            hits = table.hybrid(words, None, query.query_str, k, where=where, values=values, mode=mode)
            return hits.ids.tolist(), hits.fts_scores.tolist()
        alpha = 0.5 if query.alpha is None else query.alpha
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha is between 0 (the text) and 1 (the vector), got {alpha!r}")
        if query.hybrid_top_k is not None:
            k = query.hybrid_top_k
        if query.sparse_top_k is not None or query.hybrid_top_k is not None:  # each side finds as many, or more
            asked.setdefault("candidates", max(2 * k + 60, query.similarity_top_k, query.sparse_top_k or 0))
        hits = table.hybrid(
            words,
            query.query_embedding,
            query.query_str,
            k,
            where=where,
            values=values,
            mode=mode,
            weights=(alpha, 1 - alpha),
            **asked,
        )
        return hits.ids.tolist(), hits.scores.tolist()

    # ----- async: in a thread, where the connection is the store's own

    async def _aside(self, act: Callable[..., Any], *given: Any, **named: Any) -> Any:
        if self._own:
            return await asyncio.to_thread(act, *given, **named)
        return act(*given, **named)

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> List[str]:
        """`add`."""
        return await self._aside(self.add, nodes, **kwargs)  # type: ignore[no-any-return]

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """`delete`."""
        await self._aside(self.delete, ref_doc_id, **delete_kwargs)

    async def adelete_nodes(
        self, node_ids: Optional[List[str]] = None, filters: Optional[MetadataFilters] = None, **delete_kwargs: Any
    ) -> None:
        """`delete_nodes`."""
        await self._aside(self.delete_nodes, node_ids, filters, **delete_kwargs)

    async def aclear(self) -> None:
        """`clear`."""
        await self._aside(self.clear)

    async def aget_nodes(self, node_ids: Optional[List[str]] = None, filters: Optional[MetadataFilters] = None) -> List[BaseNode]:
        """`get_nodes`."""
        return await self._aside(self.get_nodes, node_ids, filters)  # type: ignore[no-any-return]

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """`query`."""
        return await self._aside(self.query, query, **kwargs)


def _loaded(text: Optional[str], content: str, kind: str) -> BaseNode:
    """The node that was added, without its embedding."""
    for each in (Document, ImageDocument):  # metadata_dict_to_node makes a TextNode of them
        if kind == each.class_name():
            return each.from_json(content)
    return metadata_dict_to_node({"_node_content": content, "_node_type": kind}, text=text)
