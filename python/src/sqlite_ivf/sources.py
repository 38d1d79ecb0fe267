"""Vectors out of files and other databases, for `sqlite-ivf import`."""

from __future__ import annotations

import csv
import json
import re
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Generator,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    TypeVar,
)

from . import loading, table, vectors

if TYPE_CHECKING:
    pass

Row = TypeVar("Row")

__all__ = ["Chunk", "Source", "open_source"]

#: Rows that are read at a time.
ROWS = 4096

KINDS = ".npy, .fvecs, .parquet, .csv, .faiss (or .index), or DATABASE:TABLE of SQLite"


class Chunk(NamedTuple):
    """Some rows: ids if the source has them, vectors, and the values of other columns."""

    ids: Optional[Sequence[int]]
    vectors: Any
    metadata: Mapping[str, Sequence[Any]]


@dataclass
class Source:
    """What a file holds, and what it says about a table for it."""

    dim: int
    chunks: Generator[Chunk, None, None]
    rows: Optional[int] = None
    metric: Optional[str] = None
    element: Optional[str] = None
    columns: Dict[str, str] = field(default_factory=dict)
    options: Dict[str, Any] = field(default_factory=dict)


@dataclass
class _Wanted:
    """Names of the columns that the caller asks for."""

    vector: Optional[str]
    id: Optional[str]
    columns: Dict[str, str]

    @property
    def values(self) -> List[str]:
        """Columns beside vector and id that are to be read; a key that is the rowid is not."""
        return [name.lstrip("+") for name, kind in self.columns.items() if not _is_rowid(kind)]


def _is_rowid(kind: str) -> bool:
    return bool(re.match(r"int(eger)?\s+primary\s+key", kind.strip(), re.IGNORECASE))


def open_source(
    name: str, vector: Optional[str] = None, id: Optional[str] = None, columns: Optional[Dict[str, str]] = None
) -> Source:
    """Opens a file by the ending of its name, or a table of a database by `DATABASE:TABLE`.

    `vector` and `id` name columns of a Parquet or CSV file or of a table, `columns` those beside them with their types.

    >>> import tempfile, os, numpy as np
    >>> file = os.path.join(tempfile.mkdtemp(), "rows.npy")
    >>> np.save(file, np.eye(3))
    >>> source = open_source(file)
    >>> source.dim, source.rows, next(source.chunks).vectors.shape
    (3, 3, (3, 3))
    """
    wanted = _Wanted(vector, id, columns or {})
    readers: Dict[str, Callable[[Path, _Wanted], Source]] = {
        ".npy": _npy,
        ".fvecs": _fvecs,
        ".parquet": _parquet,
        ".csv": _csv,
        ".faiss": _faiss,
        ".index": _faiss,
    }
    path = Path(name)
    if not path.is_file():
        database, colon, source_table = name.rpartition(":")
        if colon and Path(database).is_file():
            return _sqlite(Path(database), source_table, wanted)
        raise FileNotFoundError(f"there is no file {name}; a source is {KINDS}")
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{name}: a source is {KINDS}")
    if reader in (_npy, _fvecs, _faiss) and (vector or id or columns):
        raise ValueError(f"{name}: this kind of file has no columns to name")
    return reader(path, wanted)


def _nothing() -> Generator[Chunk, None, None]:
    yield from ()


def _sliced(matrix: Any, ids: Any = None) -> Generator[Chunk, None, None]:
    for start in range(0, len(matrix), ROWS):
        # Files count their rows from 0, and so does faiss.
        part = matrix[start : start + ROWS]
        yield Chunk(range(start, start + len(part)) if ids is None else ids[start : start + ROWS], part, {})


def _npy(path: Path, _: _Wanted) -> Source:
    matrix = vectors.numpy("a .npy file").load(path, mmap_mode="r", allow_pickle=False)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiub":
        raise ValueError(f"{path}: a matrix of numbers is expected, got {matrix.dtype} of shape {matrix.shape}")
    return Source(matrix.shape[1], _sliced(matrix), len(matrix))


def _fvecs(path: Path, _: _Wanted) -> Source:
    np = vectors.numpy("a .fvecs file")
    words = np.memmap(path, "<i4", "r") if path.stat().st_size >= 4 else np.zeros(1, "<i4")
    dim = int(words[0])
    if dim < 1 or path.stat().st_size % (4 * (dim + 1)):
        raise ValueError(f"{path}: not a whole number of vectors of {dim} floats")
    matrix = words.reshape(-1, dim + 1)
    if (other := matrix[:, 0] != dim).any():
        row = int(other.argmax())
        raise ValueError(f"{path}: row {row} has {matrix[row, 0]} dimensions, expected {dim}")
    return Source(dim, _sliced(matrix.view("<f4")[:, 1:]), len(matrix))


def _chosen(path: Path, what: str, names: Sequence[str], fitting: Sequence[str], asked: Optional[str]) -> str:
    """The one column that is asked for, or the only one that fits."""
    if asked is not None:
        if asked not in names:
            raise ValueError(f"{path} has no column {asked!r}, its own are {', '.join(names)}")
        return asked
    if len(fitting) != 1:
        raise ValueError(f"{path}: name the column of {what} by --vector, one of {', '.join(fitting or names)}")
    return fitting[0]


def _known(path: Path, names: Sequence[str], wanted: _Wanted) -> None:
    for name in [*wanted.values, *([wanted.id] if wanted.id else [])]:
        if name not in names:
            raise ValueError(f"{path} has no column {name!r}, its own are {', '.join(names)}")


def _parquet(path: Path, wanted: _Wanted) -> Source:
    np = vectors.numpy("a .parquet file")
    try:
        import pyarrow.parquet
        import pyarrow.types as types
    except ImportError:
        raise ImportError("a .parquet file needs pyarrow: pip install 'sqlite-ivf[parquet]'") from None
    file = pyarrow.parquet.ParquetFile(path)
    schema = file.schema_arrow

    def lists(kind: Any) -> bool:
        either = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        return bool(either and (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)))

    fitting = [name for name in schema.names if lists(schema.field(name).type)]
    vector = _chosen(path, "lists of numbers", schema.names, fitting, wanted.vector)
    if vector not in fitting:
        raise ValueError(f"{path}: {vector} is {schema.field(vector).type}, lists of numbers are expected")
    _known(path, schema.names, wanted)
    read = list(dict.fromkeys([vector, *wanted.values, *([wanted.id] if wanted.id else [])]))

    def chunks() -> Generator[Chunk, None, None]:
        row = 0
        for batch in file.iter_batches(ROWS, columns=read):
            column = batch.column(vector)
            lengths = np.array([-1 if each is None else each for each in column.value_lengths().to_pylist()])
            if column.null_count or (lengths != dim).any():
                bad = int((lengths != dim).argmax() if (lengths != dim).any() else np.array(column.is_null()).argmax())
                got = "no vector" if lengths[bad] < 0 or column[bad].as_py() is None else f"{lengths[bad]} numbers"
                raise ValueError(f"{path}: row {row + bad} has {got} in {vector}, expected {dim}")
            flat = column.flatten()
            if flat.null_count:
                raise ValueError(f"{path}: a vector between rows {row} and {row + len(batch)} has a NULL among its numbers")
            ids = batch.column(wanted.id).to_pylist() if wanted.id else range(row, row + len(batch))
            yield Chunk(
                ids,
                flat.to_numpy(zero_copy_only=False).reshape(len(batch), dim),
                {name: batch.column(name).to_pylist() for name in wanted.values},
            )
            row += len(batch)

    first = next(
        (each for batch in file.iter_batches(1, columns=[vector]) for each in batch.column(vector).to_pylist() if each), None
    )
    if first is None:
        raise ValueError(f"{path} holds no vector in {vector}")
    dim = len(first)
    return Source(dim, chunks(), file.metadata.num_rows)


def _text_vector(text: str) -> List[float]:
    return [float(number) for number in text.strip().strip("[]").replace(",", " ").split()]


def _is_number(text: Optional[str]) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


def _csv(path: Path, wanted: _Wanted) -> Source:
    """A column of vectors as `[1, 2]` or `1 2`, or else all columns of numbers that are not asked for otherwise."""

    def read() -> Iterator[List[str]]:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from csv.reader(file)

    some = list(islice(read(), 2))
    if not some or not some[0]:
        raise ValueError(f"{path} is empty")
    named = not all(map(_is_number, some[0]))
    names = some[0] if named else [str(number) for number in range(len(some[0]))]
    _known(path, names, wanted)
    if named and len(some) < 2:
        raise ValueError(f"{path} has names and no rows")
    head = some[named]
    taken = {*wanted.values, wanted.id}
    bracketed = [name for name, value in zip(names, head) if value.strip().startswith("[") and name not in taken]
    if wanted.vector or bracketed:
        places = [names.index(_chosen(path, "vectors", names, bracketed, wanted.vector))]
    else:
        places = [place for place, value in enumerate(head) if _is_number(value) and names[place] not in taken]

    def vector(number: int, line: Sequence[str]) -> List[float]:
        try:
            if len(line) != len(names):
                raise ValueError(f"{len(line)} fields, expected {len(names)}")
            return _text_vector(line[places[0]]) if len(places) == 1 else [float(line[place]) for place in places]
        except ValueError as error:
            raise ValueError(f"{path}: row {number}: {error}") from None

    if not places or not (dim := len(vector(0, head))):
        raise ValueError(f"{path}: no column holds vectors, name one by --vector, of {', '.join(names)}")

    def chunks() -> Generator[Chunk, None, None]:
        start = 0
        for some in _batches(islice(read(), int(named), None)):
            matrix = [vector(start + i, line) for i, line in enumerate(some)]
            for i, each in enumerate(matrix):
                if len(each) != dim:
                    raise ValueError(f"{path}: row {start + i} has {len(each)} numbers, expected {dim}")
            ids: Sequence[int] = range(start, start + len(some))
            if wanted.id:
                place = names.index(wanted.id)
                ids = [int(line[place]) for line in some]
            metadata = {name: [line[names.index(name)] or None for line in some] for name in wanted.values}
            yield Chunk(ids, matrix, metadata)
            start += len(some)

    return Source(dim, chunks())


def _faiss(path: Path, _: _Wanted) -> Source:
    np = vectors.numpy("a faiss index")
    try:
        import faiss
    except ImportError:
        raise ImportError("a faiss index needs faiss: pip install 'sqlite-ivf[faiss]'") from None
    whole: Any = faiss.read_index(str(path))
    index, ids = whole, None
    if isinstance(whole, (faiss.IndexIDMap, faiss.IndexIDMap2)):
        ids, index = faiss.vector_to_array(whole.id_map), faiss.downcast_index(whole.index)
    metrics = {faiss.METRIC_L2: "l2", faiss.METRIC_INNER_PRODUCT: "ip", faiss.METRIC_L1: "l1"}
    if index.metric_type not in metrics:
        raise ValueError(f"{path}: the metric {index.metric_type} of faiss is not here, only L2, inner product and L1")
    source = Source(index.d, _nothing(), index.ntotal, metrics[index.metric_type])
    if isinstance(index, faiss.IndexIVFFlat):
        source.options["nlist"] = index.nlist

        def chunks(owner: Any) -> Generator[Chunk, None, None]:
            """The owner of the index inside it has to live as long."""
            inverted: Any = index.invlists
            for list_no in range(index.nlist):
                size = inverted.list_size(list_no)
                if not size:
                    continue
                labels: Any = faiss.rev_swig_ptr(inverted.get_ids(list_no), size)
                codes = faiss.rev_swig_ptr(inverted.get_codes(list_no), size * index.code_size)
                matrix = codes.view(np.float32).reshape(size, index.d)
                yield Chunk(labels if ids is None else ids[labels], matrix, {})

        source.chunks = chunks(whole)
        return source
    storage = faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index
    if not isinstance(storage, faiss.IndexFlat):
        raise ValueError(
            f"{path}: a {type(index).__name__} keeps codes, an index that keeps its vectors is needed: Flat, IVFFlat, HNSWFlat"
        )
    source.chunks = _sliced(storage.reconstruct_n(0, index.ntotal) if index.ntotal else np.zeros((0, index.d)), ids)
    return source


def _declared(created: str) -> List[str]:
    """The arguments of a CREATE VIRTUAL TABLE, cut at the commas that stand in no parentheses or quotes.

    >>> _declared("CREATE VIRTUAL TABLE t USING vec0(a float[2], +b TEXT, chunk_size=8)")
    ['a float[2]', '+b TEXT', 'chunk_size=8']
    """
    inside = re.search(r"USING\s+\S+?\s*\((.*)\)\s*$", created, re.IGNORECASE | re.DOTALL)
    parts = re.findall(r"(?:\"[^\"]*\"|'[^']*'|`[^`]*`|\([^)]*\)|\[[^\]]*\]|[^,])+", inside.group(1) if inside else "")
    return [part.strip() for part in parts]


def _sqlite(path: Path, name: str, wanted: _Wanted) -> Source:
    connection = loading.connect(str(path))
    try:
        names = {each.lower() for (each,) in connection.execute("SELECT name FROM sqlite_schema")}
        vec0 = f"{name}_chunks".lower() in names and f"{name}_codes".lower() not in names
        if vec0:
            connection.close()
            connection = _with_sqlite_vec(path)
        return _table(connection, path, name, wanted)
    except BaseException:
        connection.close()
        raise


def _table(connection: loading.Connection, path: Path, name: str, wanted: _Wanted) -> Source:
    found = connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ? COLLATE NOCASE", (name,)
    ).fetchone()
    if found is None:
        raise ValueError(f"{path} has no table {name!r}")
    name, created = found
    source = Source(0, _nothing())
    names = [each for (each,) in connection.execute("SELECT name FROM pragma_table_info(?)", (name,))]
    kind = re.search(r"\bUSING\s+[\"`\[]?(vec0|ivf)\b", created or "", re.IGNORECASE)
    if kind:
        _known(path, names, _Wanted(None, None, wanted.columns))
        columns = [
            (table._unquoted(each[0]), table._ELEMENTS.get(each[1].lower(), each[1].lower()), each[3].lower() or None)
            for each in table._VECTOR.findall(created)
        ]
        vector = _chosen(path, "vectors", [each[0] for each in columns], [each[0] for each in columns], wanted.vector)
        source.element, source.metric = next(each[1:] for each in columns if each[0] == vector)
        if not wanted.columns:
            for part in _declared(created):
                declared = re.fullmatch(rf"(\+?)\s*({table._NAME})\s+(.*)", part, re.DOTALL)
                if declared and not table._VECTOR.match("," + part) and "=" not in declared.group(3):
                    source.columns[declared.group(1) + table._unquoted(declared.group(2))] = declared.group(3)
        keys = [name for name, each in {**source.columns, **wanted.columns}.items() if _is_rowid(each)]
        texts = [name for name, each in source.columns.items() if re.match(r"text\s+primary", each, re.IGNORECASE)]
        # A vec0 table with a text key has no column rowid.
        has_none = bool(texts) and kind.group(1).lower() == "vec0"
        rowid = table.quoted(keys[0]) if keys else "NULL" if has_none else "rowid"
    else:
        _known(path, names, wanted)
        blobs = [
            each
            for each in names
            if each not in [*wanted.values, wanted.id]
            and connection.execute(f"SELECT typeof({table.quoted(each)}) = 'blob' FROM {table.quoted(name)} LIMIT 1").fetchone()
            in [(1,)]
        ]
        vector = _chosen(path, "vectors", names, blobs, wanted.vector)
        rowid = table.quoted(wanted.id) if wanted.id else "rowid"
    wanted = _Wanted(vector, wanted.id, wanted.columns or source.columns)
    element = source.element or "float32"
    selected = ", ".join([rowid, table.quoted(vector), *map(table.quoted, wanted.values)])
    sql = f"SELECT {selected} FROM {table.quoted(name)}"

    def row_vector(rowid: Any, value: Any) -> Any:
        if isinstance(value, str):
            return json.loads(value)
        if not isinstance(value, bytes):
            raise ValueError(f"{path}: row {rowid} of {name} has no vector in {vector}")
        return vectors.decode([value], element)[0]

    first = connection.execute(f"{sql} LIMIT 1").fetchone()
    if first is None:
        raise ValueError(f"{path}: {name} has no rows")
    source.dim = len(row_vector(first[0], first[1]))
    source.rows = connection.execute(f"SELECT count(*) FROM {table.quoted(name)}").fetchone()[0]

    def read() -> Generator[Chunk, None, None]:
        with closing(connection):
            for some in _batches(connection.execute(sql)):
                matrix = [row_vector(row[0], row[1]) for row in some]
                for row, each in zip(some, matrix):
                    if len(each) != source.dim:
                        raise ValueError(f"{path}: row {row[0]} of {name} has {len(each)} numbers, expected {source.dim}")
                metadata = {each: [row[2 + place] for row in some] for place, each in enumerate(wanted.values)}
                yield Chunk(None if rowid == "NULL" else [row[0] for row in some], matrix, metadata)

    source.chunks = read()
    return source


def _batches(rows: Iterable[Row]) -> Iterator[List[Row]]:
    iterator = iter(rows)
    while some := list(islice(iterator, ROWS)):
        yield some


def _with_sqlite_vec(path: Path) -> loading.Connection:
    try:
        import sqlite_vec
    except ImportError:
        raise ImportError(f"{path} is of sqlite-vec, which reads it: pip install 'sqlite-ivf[sqlite-vec]'") from None
    for name in ("sqlite3", "pysqlite3", "apsw"):
        opener = loading._opener(name)
        if opener is not None:
            connection = opener(str(path))
            connection.enable_load_extension(True)
            sqlite_vec.load(connection)
            connection.enable_load_extension(False)
            return connection  # type: ignore[no-any-return]
    raise loading.LoadError(f"no SQLite that loads extensions was found.{loading.WAYS_OUT}")
