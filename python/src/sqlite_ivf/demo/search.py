"""What the page of `sqlite-ivf demo` asks: searches of one table, and what they did."""

from __future__ import annotations

import json
import re
import statistics
import threading
import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple, Union

from .. import vectors
from .._store import fetched
from ..table import _NAME, Table, _literal, _option, _unquoted, quoted

#: Reciprocal rank fusion, as `ivf_hybrid` computes it unless told otherwise.
RANK_CONSTANT = 60
#: A column with so many values or fewer is a choice of them; numbers with more are a range.
CHOICES = 24
#: Where the curve of recall is measured, and on how many rows.
TARGETS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 1.0)
SAMPLE = 100
#: A search is timed several times, and the fastest counts: so many runs, fewer where they take more than so many seconds.
RUNS, SECONDS, LEAST = 7, 0.1, 3

#: Columns that probably have the text of a row.
USUAL = ("text", "title", "body", "name", "content", "sentence", "document")

_MAX_K = 100
_FUNCTIONS = {"float32": "vec_f32", "float16": "vec_f16", "bfloat16": "vec_bf16", "int8": "vec_int8", "bit": "vec_bit"}


class RequestError(ValueError):
    """A request that cannot be answered, and why."""


def _storable(value: Any) -> bool:
    """Whether SQLite takes a value."""
    return isinstance(value, (str, float)) or (isinstance(value, int) and -(2**63) <= value < 2**63)


class _Value(NamedTuple):
    value: Any

    def __str__(self) -> str:
        if self.value is None:
            return "NULL"
        if isinstance(self.value, bytes):
            return f"x'{self.value.hex()}'"
        return _literal(self.value) if isinstance(self.value, str) else repr(self.value)


_Piece = Union[str, _Value]
_Pieces = List[_Piece]


class _Statement:
    """SQL with values: to run it, and to read it."""

    def __init__(self, *pieces: _Piece) -> None:
        self.pieces = list(pieces)

    def __str__(self) -> str:
        return "".join(map(str, self.pieces))

    def run(self, connection: Any) -> List[Tuple[Any, ...]]:
        sql = "".join("?" if isinstance(piece, _Value) else piece for piece in self.pieces)
        return fetched(connection, sql, [piece.value for piece in self.pieces if isinstance(piece, _Value)])


def _joined(parts: Sequence[Sequence[_Piece]], between: str) -> _Pieces:
    pieces: _Pieces = []
    for at, part in enumerate(parts):
        pieces += [between, *part] if at else part
    return pieces


class Request(NamedTuple):
    """What is asked for, checked."""

    row: Optional[int] = None
    text: str = ""
    k: int = 10
    recall: Optional[float] = None
    nprobe: Optional[int] = None
    where: Mapping[str, Any] = {}
    per: Optional[str] = None
    mmr: Optional[float] = None
    hybrid: bool = False
    words: float = 0.5
    exact: bool = False


def _safe(row: int) -> Union[int, str]:
    """A rowid that JavaScript does not round."""
    return row if abs(row) < 2**53 else str(row)


def _number(name: str, value: Any, low: float, high: float, whole: bool = False) -> Any:
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        raise RequestError(
            f"{name}: a {'whole ' if whole else ''}number from {low:g} to {high:g} is expected, got {json.dumps(value)}"
        )
    return value


class Demo:
    """Searches of a table, one by one, whatever the thread."""

    def __init__(
        self,
        table: Table,
        file: str,
        *,
        texts: Optional[str] = None,
        label: Optional[str] = None,
        embed: Optional[Callable[[str], Any]] = None,
        examples: Sequence[str] = (),
        about: str = "",
    ) -> None:
        self.table, self.file, self.embed, self.about = table, file, embed, about
        self.connection: Any = table.connection
        self._table = quoted(table.name)
        self._lock = threading.Lock()
        self._curve: Optional[List[Dict[str, Any]]] = None
        db = self.connection
        self.texts = self._full_text(texts)
        created = table.created
        aside = {_unquoted(name) for name in re.findall(rf"[(,]\s*\+\s*({_NAME})", created)}
        keys = {_unquoted(name) for name in re.findall(rf"[(,]\s*({_NAME})\s+\w+\s+PRIMARY\s+KEY", created, re.IGNORECASE)}
        declared = fetched(db, "SELECT name, type FROM pragma_table_xinfo(?, ?) WHERE NOT hidden", (table.name, table.schema))
        stats = table.stats()
        #: Types of the columns that a search can filter by.
        self.types = {name: kind for name, kind in declared if name not in aside | keys and kind != "BLOB"}
        self.label = self._label(label, [name for name, kind in declared if kind == "TEXT" and name not in keys], aside)
        #: Its rows are those of the table by this column: a view has no rowids of its own.
        self.label_rowid = "rowid"
        if self.label is not None and self.label[0].lower() == str(stats["content"]).lower():
            self.label_rowid = quoted(_option(created, "content_rowid") or "rowid")
        #: The text, if it is a column of the table itself.
        self.own = [self.label[1]] if self.label is not None and self.label[0] == table.name else []
        for name in self.own:
            self.types.pop(name, None)
        self.rows, self.nlist = int(stats["rows"]), int(stats["nlist"])
        if not self.rows:
            raise ValueError(f"{table.name} has no rows, so there is nothing to search")
        self.partitioned = stats["partitions"] is not None
        self.lists = {int(each["list_no"]): int(each["rows"]) for each in table.lists()} if self.nlist else {}
        self.facets = [facet for name in self.types for facet in self._facet(name)]
        self.examples = self._examples(examples)

    # What the table is.

    def _full_text(self, given: Optional[str]) -> Optional[str]:
        name = given or f"{self.table.name}_fts"
        sql = f"SELECT name, sql FROM {quoted(self.table.schema)}.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE"
        found = fetched(self.connection, sql, (name,))
        if found and re.search(r"\bUSING\s+[\"`\[]?fts5\b", found[0][1], re.IGNORECASE):
            return str(found[0][0])
        if given:
            raise ValueError(f"--texts {given}: there is no FTS5 table of this name")
        return None

    def _label(self, given: Optional[str], own: List[str], aside: Set[str]) -> Optional[Tuple[str, str]]:
        """The table and the column with the text of a row; the table has the same rowids."""
        db, name = self.connection, self.table.name
        others = [other for other in (self.table.stats()["content"], self.texts) if other is not None]
        if given:
            place, dot, column = given.rpartition(".")
            for each in [place] if dot else [name, *others]:
                for (there,) in fetched(db, "SELECT name FROM pragma_table_info(?)", (each,)):
                    if there.lower() == column.lower():
                        return each, str(there)
            raise ValueError(f"--label {given}: a column of {', '.join([name, *others])}, or TABLE.COLUMN, is expected")
        places = [(name, column) for column in own if column in aside or column.lower() in USUAL]
        for other in others:
            listed = fetched(db, "SELECT name, type FROM pragma_table_info(?)", (other,))
            places += [(other, column) for column, kind in listed if other == self.texts or "TEXT" in kind.upper()]
        for place, column in sorted(places, key=lambda each: (each[0] != name, each[1].lower() not in USUAL)):
            # An FTS5 table without content knows no text.
            if fetched(db, f"SELECT 1 FROM {quoted(place)} WHERE {quoted(column)} IS NOT NULL LIMIT 1"):
                return place, column
        return None

    def _facet(self, name: str) -> List[Dict[str, Any]]:
        table, column = self._table, quoted(name)
        counted = fetched(
            self.connection,
            f"SELECT {column}, count(*) FROM {table} GROUP BY 1 ORDER BY {column} IS NULL, count(*) DESC, 1 LIMIT {CHOICES + 1}",
        )
        if 1 < len(counted) <= CHOICES and not (self.types[name] in ("INTEGER", "FLOAT") and len(counted) > 8):
            return [{"column": name, "values": [{"value": value, "rows": rows} for value, rows in counted]}]
        if self.types[name] in ("INTEGER", "FLOAT"):
            low, high = fetched(self.connection, f"SELECT min({column}), max({column}) FROM {table}")[0]
            if low is not None and low < high:
                return [{"column": name, "min": low, "max": high}]
        return []

    def _examples(self, given: Sequence[str]) -> List[Dict[str, Any]]:
        ids = []
        for start in given:
            place, column = self.label or ("", "")
            sql = f"SELECT {self.label_rowid} FROM {quoted(place)} WHERE substr({quoted(column)}, 1, ?) = ? LIMIT 1"
            ids += [row[0] for row in fetched(self.connection, sql, (len(start) + 1, f"{start}:"))]
        return self._named(ids or self._sample(6))

    def _named(self, ids: Sequence[int]) -> List[Dict[str, Any]]:
        return [{"row": _safe(row), "text": text} for row, text in zip(ids, self.labels(ids))]

    def _sample(self, n: int) -> List[int]:
        """So many rows, evenly spaced as far as rowids are."""
        step = max(1, self.rows // n)
        sql = f"SELECT rowid FROM {self._table} WHERE rowid % ? = 0 LIMIT ?"
        found = fetched(self.connection, sql, (step, n)) or fetched(
            self.connection, f"SELECT rowid FROM {self._table} LIMIT ?", (n,)
        )
        return [int(row[0]) for row in found]

    def labels(self, ids: Sequence[int]) -> List[str]:
        """The texts of rows; their numbers where there is no text."""
        known: Dict[int, Any] = {}
        if self.label is not None:
            place, column = map(quoted, self.label)
            sql = f"SELECT {self.label_rowid}, {column} FROM {place} WHERE {self.label_rowid} IN (SELECT value FROM json_each(?))"
            known = dict(fetched(self.connection, sql, (json.dumps([*ids]),)))
        return [f"row {row}" if known.get(row) is None else str(known[row])[:2000] for row in ids]

    def describe(self) -> Dict[str, Any]:
        """What the page has to know."""
        from ..loading import loadable_path

        table = self.table
        return {
            "file": self.file,
            "library": loadable_path(),
            "table": table.name,
            "about": self.about,
            "rows": self.rows,
            "dim": table.dim,
            "element": table.element,
            "metric": table.metric,
            "model": table.model,
            "nlist": self.nlist,
            "setting": None if not self.nlist else "nprobe" if self.partitioned else "recall_target",
            "lists": [{"list": number, "rows": rows} for number, rows in self.lists.items()],
            "texts": self.texts,
            "label": self.label,
            "embed": self.embed is not None,
            "facets": self.facets,
            "groups": [] if "per" in table.columns else [*self.types],
            "mmr": "mmr" not in table.columns,
            "examples": self.examples,
        }

    def close(self) -> None:
        """Waits for the search under way; there is none after it."""
        self._lock.acquire()

    # What is asked.

    def request(self, given: Any) -> Request:
        """A request out of JSON."""
        if not isinstance(given, dict):
            raise RequestError("a JSON object is expected")
        unknown = set(given) - set(Request._fields)
        if unknown:
            raise RequestError(f"unknown member {sorted(unknown)[0]!r}, expected some of {', '.join(Request._fields)}")
        asked = Request(**{name: value for name, value in given.items() if value is not None})
        if isinstance(asked.row, str) and re.fullmatch(r"-?\d{1,19}", asked.row):
            asked = asked._replace(row=int(asked.row))
        if asked.row is not None:
            _number("row", asked.row, -(2**63), 2**63 - 1, whole=True)
        if not isinstance(asked.text, str) or len(asked.text) > 10_000:
            raise RequestError("text: a text of at most 10,000 characters is expected")
        _number("k", asked.k, 1, _MAX_K, whole=True)
        if asked.recall is not None:
            _number("recall", asked.recall, 0.01, 1)
        if asked.nprobe is not None:
            _number("nprobe", asked.nprobe, -1, max(self.nlist, 1), whole=True)
            if asked.nprobe == 0:
                raise RequestError("nprobe: a number of lists, or -1 for all, is expected, got 0")
        if asked.mmr is not None:
            _number("mmr", asked.mmr, 0, 1)
        _number("words", asked.words, 0, 1)
        for name in ("hybrid", "exact"):
            if not isinstance(getattr(asked, name), bool):
                raise RequestError(f"{name}: true or false is expected, got {json.dumps(getattr(asked, name))}")
        if asked.per is not None and not (isinstance(asked.per, str) and asked.per in self.types):
            raise RequestError(f"per: one of {', '.join(self.types) or 'no column'} is expected, got {json.dumps(asked.per)}")
        if not isinstance(asked.where, dict):
            raise RequestError("where: an object of columns and their values is expected")
        for name, wanted in asked.where.items():
            if name not in self.types:
                raise RequestError(f"where: one of {', '.join(self.types) or 'no column'} is expected, got {json.dumps(name)}")
            self._condition(name, wanted)
        if asked.hybrid and self.texts is None:
            raise RequestError(f"hybrid: {self.table.name} has no FTS5 table beside it")
        if asked.hybrid and (asked.per or asked.mmr is not None):
            raise RequestError("hybrid: per and mmr are for searches by vector alone")
        if asked.row is None and (self.embed is None or not asked.text.strip()):
            raise RequestError("row: the number of a row is expected" + ("" if self.embed is None else ", or a text"))
        return asked

    def _condition(self, name: str, wanted: Any) -> List[_Pieces]:
        """The conditions on one column, all of which are part of a search."""
        column = quoted(name)
        if isinstance(wanted, dict) and not set(wanted) - {"min", "max"}:
            bounds = [(sign, wanted[end]) for end, sign in (("min", ">="), ("max", "<=")) if wanted.get(end) is not None]
            return [[f"{column} {sign} ", _Value(_number(f"where.{name}", bound, -1e300, 1e300))] for sign, bound in bounds]
        scalar = isinstance(wanted, list) and all(each is None or _storable(each) for each in wanted)
        if not scalar or (None in wanted and len(wanted) > 1):
            raise RequestError(
                f'where.{name}: a list of values, [null] alone, or {{"min": number, "max": number}} is expected,'
                f" got {json.dumps(wanted)}"
            )
        if not wanted:
            return []
        if wanted == [None]:
            return [[f"{column} IS NULL"]]
        if len(wanted) == 1:
            return [[f"{column} = ", _Value(wanted[0])]]
        return [[f"{column} IN (", *_joined([[_Value(each)] for each in wanted], ", "), ")"]]

    def _conditions(self, asked: Request) -> List[_Pieces]:
        conditions: List[_Pieces] = [] if asked.row is None else [["rowid != ", _Value(asked.row)]]
        for name, wanted in asked.where.items():
            conditions += self._condition(name, wanted)
        return conditions

    def vector(self, text: str) -> bytes:
        """The embedding of a text, in the bytes of the column."""
        assert self.embed is not None
        made = self.embed(text)
        element = self.table.element
        if not isinstance(made, (bytes, bytearray, memoryview)):
            numbers = made.tolist() if hasattr(made, "tolist") else [*made]
            if element == "int8" and any(number != int(number) or abs(number) > 127 for number in numbers):
                if self.table.metric != "cosine":
                    raise RequestError(
                        f"--embed: {self.table.name} has int8 vectors, so whole numbers from -128 to 127 are expected"
                    )
                # Only the direction counts.
                longest = max(map(abs, numbers))
                numbers = [round(number / longest * 127) for number in numbers]
            made = vectors._serialize([int(n) for n in numbers] if element in ("int8", "bit") else numbers, element)
        expected = self.table.dim * vectors.element_bits(element) // 8
        if len(bytes(made)) != expected:
            wanted = f"a vector of {self.table.dim} elements ({element}, {expected} bytes)"
            raise RequestError(f"--embed: {wanted} is expected, got {len(bytes(made))} bytes")
        return bytes(made)

    def _stored(self, row: int) -> _Pieces:
        return [f"(SELECT {quoted(self.table.column)} FROM {self._table} WHERE rowid = ", _Value(row), ")"]

    def _settings(self, asked: Request) -> List[Tuple[str, Union[int, float]]]:
        if asked.exact or asked.nprobe is not None:
            return [("nprobe", -1 if asked.exact or asked.nprobe is None else asked.nprobe)]
        return [] if asked.recall is None else [("recall_target", asked.recall)]

    def _weights(self, asked: Request) -> Tuple[float, float]:
        return round(1 - asked.words, 6), asked.words

    def _statement(self, asked: Request, query: Sequence[_Piece]) -> _Statement:
        table, columns = self._table, [quoted(name) for name in [*self.own, *self.types]]
        settings, conditions = self._settings(asked), self._conditions(asked)
        if asked.hybrid:
            weights = zip(("vec", "fts"), self._weights(asked))
            lines: List[_Pieces] = [[f"h.{side}_weight = ", _Value(weight)] for side, weight in weights]
            if settings:
                lines.append(["h.vec_params = ", _Value(", ".join(f"{name}={value}" for name, value in settings))])
            if conditions:
                # The condition of `filter` is read as SQL, and its values are JSON.
                condition = _joined(conditions, " AND ")
                values = [piece.value for piece in condition if isinstance(piece, _Value)]
                said = "".join("?" if isinstance(piece, _Value) else piece for piece in condition)
                lines.append(["h.filter = ", _Value(said)])
                if values:
                    lines.append(["h.filter_values = ", _Value(json.dumps(values, ensure_ascii=False))])
            shown = ", ".join(f"t.{column}" for column in columns)
            return _Statement(
                "SELECT h.rowid, h.score, h.vec_rank, h.vec_distance, h.fts_rank, h.fts_score",
                f",\n       {shown}" if shown else "",
                "\n  FROM ivf_hybrid(",
                *_joined([[_Value(self.table.name)], [_Value(self.texts)], query, [_Value(asked.text)], [_Value(asked.k)]], ", "),
                f") AS h\n  JOIN {table} AS t ON t.rowid = h.rowid\n WHERE ",
                *_joined(lines, "\n   AND "),
                "\n ORDER BY h.rank",
            )
        parts: List[_Pieces] = [[f"{quoted(self.table.column)} MATCH ", *query], ["k = ", _Value(asked.k)]]
        for name, value in settings:
            hidden = name not in self.table.columns
            parts.append([f"{name} = ", _Value(value)] if hidden else ["params = ", _Value(f"{name}={value}")])
        if asked.per is not None:
            parts.append(["per = ", _Value(asked.per)])
        if asked.mmr is not None:
            parts.append(["mmr = ", _Value(asked.mmr)])
        return _Statement(
            f"SELECT {', '.join(['rowid', 'distance', *columns])}\n  FROM {table}\n WHERE ",
            *_joined(parts + conditions, "\n   AND "),
            "\n ORDER BY distance",
        )

    # What is answered.

    def _timed(self, statement: _Statement) -> Tuple[List[Tuple[Any, ...]], Dict[str, Tuple[int, int]], int, int, int]:
        """The rows, the profile, the least microseconds of the search and of the statement, and of how many runs."""
        searches: List[int] = []
        statements: List[float] = []
        began = time.perf_counter()
        while True:
            start = time.perf_counter()
            rows = statement.run(self.connection)
            statements.append((time.perf_counter() - start) * 1e6)
            profile = self.table.profile()
            searches.append(profile["total"][1] if "total" in profile else 0)
            if len(searches) >= (LEAST if time.perf_counter() - began > SECONDS else RUNS):
                return rows, profile, min(searches), round(min(statements)), len(searches)

    def search(self, given: Any) -> Dict[str, Any]:
        """A search, the exact one beside it, and what both did."""
        asked = self.request(given)
        query = [_Value(self.vector(asked.text))] if asked.row is None else self._stored(asked.row)
        with self._lock:
            return self._search(asked, query)

    def _search(self, asked: Request, query: Sequence[_Piece]) -> Dict[str, Any]:
        db, table = self.connection, self.table
        vector = _Statement("SELECT ", *query).run(db)[0][0]
        if vector is None:
            raise RequestError(f"row: {table.name} has no row {asked.row}")
        if asked.hybrid and not asked.text.strip() and asked.row is not None:
            asked = asked._replace(text=self.labels([asked.row])[0])
        statement = self._statement(asked, query)
        exact_rows, _, exact_us, exact_statement_us, _ = self._timed(self._statement(asked._replace(exact=True), query))
        rows, profile, us, statement_us, runs = self._timed(statement)
        exact = [int(row[0]) for row in exact_rows]
        ids = [int(row[0]) for row in rows]
        missed = [row for row in exact if row not in set(ids)]
        conditions = self._conditions(asked._replace(row=None))
        matching = self.rows
        if conditions:
            sql = _Statement(f"SELECT count(*) FROM {self._table} WHERE ", *_joined(conditions, " AND "))
            matching = int(sql.run(db)[0][0])
        first = (6 if asked.hybrid else 2) + len(self.own)
        if not matching:
            profile = {}  # a search that finds nothing to search leaves that of another one in place
        answers = []
        for row, text in zip(rows, self.labels(ids)):
            answer: Dict[str, Any] = {"row": _safe(row[0]), "text": text, "exact": row[0] in set(exact)}
            answer["values"] = dict(zip(self.types, row[first:]))
            if asked.hybrid:
                answer.update(zip(("score", "vec_rank", "distance", "fts_rank", "fts_score"), row[1:6]))
                for side, weight, rank in zip(("vec", "fts"), self._weights(asked), (row[2], row[4])):
                    answer[f"{side}_part"] = 0 if rank is None else weight / (RANK_CONSTANT + rank)
            else:
                answer["distance"] = row[1]
            answers.append(answer)
        return {
            "query": {"row": None, "text": asked.text} if asked.row is None else self._named([asked.row])[0],
            "words": asked.text if asked.hybrid else None,
            "answers": answers,
            "missed": self._named(missed),
            "recall": None if not exact else 1 - len(missed) / len(exact),
            "rows": {"of": self.rows, "matching": matching, "scanned": profile.get("scan", (0, 0))[0]},
            "lists": self._lists(profile, vector, ids, missed, bool(conditions)),
            "us": {"search": us, "exact": exact_us, "statement": statement_us, "exact_statement": exact_statement_us, "runs": runs},
            "sql": f"{statement};",
        }

    def _lists(
        self, profile: Dict[str, Tuple[int, int]], vector: bytes, ids: List[int], missed: List[int], filtered: bool
    ) -> Dict[str, Any]:
        """Which lists were probed: the nearest ones, as many as the profile says. Their rows must be those that were scanned."""
        probed, scanned = profile.get("probe", (0, 0))[0], profile.get("scan", (0, 0))[0]
        lists: Dict[str, Any] = {"probed": probed, "of": self.nlist, "order": None, "found": {}, "missed": {}}
        if not self.nlist or self.partitioned or self.table.metric == "hamming":
            return lists
        order = self._nearest_lists(vector)
        chosen = sum(self.lists[each] for each in order[:probed])
        # Of the lists that were chosen, those without a row that meets the filter are not scanned.
        if not (chosen == scanned or (filtered and chosen > scanned)):
            return lists
        lists["order"] = order
        places = {each: place for place, each in enumerate(order)}
        found = self._lists_of(ids + missed)
        for name, rows in (("found", ids), ("missed", missed)):
            for row in rows:
                place = places[found[row]]
                # A row may be in another list than the nearest until `optimize`: then it is not known in which.
                if (place < probed) == (name == "found"):
                    lists[name][place] = lists[name].get(place, 0) + 1
        return lists

    def _point(self, vector: str) -> str:
        """A vector of the column as centroids are."""
        point = f"vec_f32({_FUNCTIONS[self.table.element]}({vector}))"
        return f"vec_normalize({point})" if self.table.metric == "cosine" else point

    def _nearest_lists(self, vector: bytes) -> List[int]:
        """All lists, nearest centroid first, as a query sees them."""
        distance = "vec_distance_ip" if self.table.metric == "ip" else "vec_distance_l2"
        sql = f"SELECT list_no FROM ivf_centroids(?) ORDER BY {distance}(centroid, {self._point('?')}), list_no"
        return [int(row[0]) for row in fetched(self.connection, sql, (self.table._named, vector))]

    def _lists_of(self, ids: List[int]) -> Dict[int, int]:
        """The lists of rows: those with the nearest centroids, by Euclidean distance for every metric."""
        sql = f"""
            WITH lists AS MATERIALIZED (SELECT list_no, centroid FROM ivf_centroids(?)),
                 points AS MATERIALIZED (SELECT rowid AS id, {self._point(quoted(self.table.column))} AS point
                                           FROM {self._table} WHERE rowid IN (SELECT value FROM json_each(?)))
            SELECT id, list_no, min(vec_distance_l2(centroid, point)) FROM points CROSS JOIN lists GROUP BY id"""
        return {row[0]: row[1] for row in fetched(self.connection, sql, (self.table._named, json.dumps(ids)))}

    def suggest(self, text: str, limit: int = 8) -> List[Dict[str, Any]]:
        """Stored texts with all words of a text, the last one as a prefix; if there are none, with some of them."""
        words = re.findall(r"\w+", text)[:32]
        if not words or self.label is None:
            row = int(words[0]) if words and words[0].isdecimal() and len(words[0]) < 19 else None
            ids = [] if row is None else [row]
            with self._lock:
                there = fetched(self.connection, f"SELECT rowid FROM {self._table} WHERE rowid = ?", ids) if ids else []
                return self._named([row for (row,) in there])
        with self._lock:
            if self.texts is None:
                place, column = map(quoted, self.label)
                # A row without a vector is not in the index.
                sql = f"""
                    SELECT {self.label_rowid} FROM {place} AS label WHERE {column} LIKE ? ESCAPE '\\'
                       AND EXISTS (SELECT 1 FROM {self._table} AS t WHERE t.rowid = label.{self.label_rowid}) LIMIT ?"""
                escaped = re.sub(r"([\\%_])", r"\\\1", text.strip())
                found = fetched(self.connection, sql, (f"%{escaped}%", limit))
            else:
                name = quoted(self.texts)
                # The order of all rows that begin with a letter is not worth its time.
                order = "rank" if len(words) > 1 or len(words[0]) > 2 else "rowid"
                sql = f"SELECT rowid FROM {name} WHERE {name} MATCH ? ORDER BY {order} LIMIT ?"
                quotes = [f'"{word}"' for word in words[:-1]] + [f'"{words[-1]}"*']
                found = fetched(self.connection, sql, (" ".join(quotes), limit))
                if not found and len(words) > 1:
                    found = fetched(self.connection, sql, (" OR ".join(quotes), limit))
            return self._named([int(row[0]) for row in found])

    def curve(self, k: int = 10) -> List[Dict[str, Any]]:
        """For each target what recall some rows of the table reach, and how many rows are scanned; means of searches that leave
        the row itself out. Measured once.
        """
        if self._curve is None and self.nlist and not self.partitioned:
            with self._lock:
                sample = self._sample(SAMPLE)
                exact = [self._ids(row, k, exact=True) for row in sample]
            curve = []
            for target in TARGETS:
                with self._lock:  # one target at a time: searches of the page come between
                    shares, scanned = [], []
                    for row, wanted in zip(sample, exact):
                        shares.append(len(self._ids(row, k, recall=target) & wanted) / max(1, len(wanted)))
                        scanned.append(self.table.profile()["scan"][0])
                curve.append({"target": target, "recall": statistics.mean(shares), "rows": statistics.mean(scanned)})
            self._curve = curve
        return self._curve or []

    def _ids(self, row: int, k: int, **settings: Any) -> Set[int]:
        statement = self._statement(Request(row=row, k=k, **settings), self._stored(row))
        return {int(found[0]) for found in statement.run(self.connection)}
