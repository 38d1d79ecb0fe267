"""An IVF vector index inside SQLite: the extension, loaded in one line, and typed helpers around it.

>>> import sqlite3, sqlite_ivf
>>> db = sqlite3.connect(":memory:")
>>> sqlite_ivf.load(db)
>>> _ = db.execute("CREATE VIRTUAL TABLE items USING ivf(vec float[3] distance_metric=cosine)")
>>> _ = db.execute("INSERT INTO items(rowid, vec) VALUES (1, ?)", (sqlite_ivf.serialize_float32([1, 0, 0]),))
>>> db.execute("SELECT rowid FROM items WHERE vec MATCH '[1, 1, 0]' AND k = 1").fetchall()
[(1,)]

`Table` does the same without SQL, `sqlite_ivf.index` has the names of faiss and torch-ivf, and `python -m sqlite_ivf` is a
command. NumPy is needed for what gives matrices, and for nothing else.
"""

from importlib.metadata import PackageNotFoundError as _NotInstalled
from importlib.metadata import version as _version

from .loading import Connection, LoadError, aload, connect, install_as_sqlite_vec, load, loadable_path
from .progress import Progress, watch
from .table import Hits, HybridHits, Recall, Table
from .vectors import (
    deserialize_bfloat16,
    deserialize_bits,
    deserialize_float16,
    deserialize_float32,
    deserialize_int8,
    pack,
    serialize_bfloat16,
    serialize_bits,
    serialize_float16,
    serialize_float32,
    serialize_int8,
    unpack,
)

try:
    __version__ = _version("sqlite-ivf")
except _NotInstalled:  # run from the source tree
    __version__ = "0"

__all__ = [
    "Connection",
    "Hits",
    "HybridHits",
    "LoadError",
    "Progress",
    "Recall",
    "Table",
    "__version__",
    "aload",
    "connect",
    "deserialize_bfloat16",
    "deserialize_bits",
    "deserialize_float16",
    "deserialize_float32",
    "deserialize_int8",
    "install_as_sqlite_vec",
    "load",
    "loadable_path",
    "pack",
    "serialize_bfloat16",
    "serialize_bits",
    "serialize_float16",
    "serialize_float32",
    "serialize_int8",
    "unpack",
    "watch",
]
