"""A collection of vectors in several SQLite files, its shards, searched together: docs/scale-out.md.

>>> import numpy as np, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> items = Shards.create(folder.name, 3, dim=2, columns={"year": "INTEGER"})
>>> items.insert(np.eye(2), ids=[1, 2], metadata={"year": [2019, 2024]}).tolist()
[1, 2]
>>> items.search([1, 0.1], k=1).ids.tolist(), items.search([1, 0.1], k=1, where={"year": 2024}).ids.tolist()
([1], [2])
>>> items.close(); folder.cleanup()

Without a client of Dask everything runs on threads of this process; with one, where the files are.

The modules, from below: `ids` says which shard has a row, `files` and `operations` are what runs where a file is, `workers` has
them run there, `catalogue` keeps which shards there are and who writes, `merging` makes one answer of several, `told` is
progress, and `collection` is `Shards`.
"""

from __future__ import annotations

try:
    import numpy as _  # noqa: F401
except ImportError as error:
    raise ImportError("sqlite_ivf.shards needs NumPy: pip install 'sqlite-ivf[shards]'") from error

from .collection import Shards
from .files import FencedError, ShardLostError
from .ids import placement

__all__ = ["FencedError", "ShardLostError", "Shards", "placement"]
