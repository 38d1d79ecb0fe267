"""Examples that open a database by sqlite3 are skipped where the sqlite3 of this Python cannot load extensions."""

from __future__ import annotations

from importlib.util import find_spec
from typing import List

import pytest

from sqlite_ivf.loading import _opener

# Its examples run where it can be imported.
collect_ignore = [] if find_spec("llama_index") else ["src/sqlite_ivf/llamaindex.py"]


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """Marks them."""
    if _opener("sqlite3") is not None:
        return
    for item in items:
        examples = getattr(getattr(item, "dtest", None), "examples", [])
        if any("sqlite3" in example.source or "sqlite_vec" in example.source for example in examples):
            item.add_marker(pytest.mark.skip(reason="sqlite3 cannot load extensions here"))
