"""Examples that open a database by sqlite3 are skipped where the sqlite3 of this Python cannot load extensions."""

from __future__ import annotations

from importlib.util import find_spec
from typing import List

import pytest

from sqlite_ivf.loading import _opener

#: Doctests import a module, which these cannot bear without their packages.
PACKAGES = {
    "langchain": "langchain_core",
    "llamaindex": "llama_index",
    "datasette": "datasette",
    "sqlite_utils": "sqlite_utils",
    "sqlalchemy": "sqlalchemy",
    "haystack": "haystack",
}
collect_ignore = [f"src/sqlite_ivf/{name}.py" for name, package in PACKAGES.items() if find_spec(package) is None]
if find_spec("numpy") is None:
    collect_ignore_glob = ["src/sqlite_ivf/shards/*"]
if find_spec("django") is None:
    collect_ignore += [f"src/sqlite_ivf/django/{name}.py" for name in ("__init__", "base")]


def pytest_configure(config: pytest.Config) -> None:
    """The suite of langchain-tests has async tests without a mark, for pytest-asyncio where it is installed."""
    if hasattr(config.option, "asyncio_mode"):
        config.option.asyncio_mode = "auto"


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """Marks them."""
    if _opener("sqlite3") is not None:
        return
    for item in items:
        examples = getattr(getattr(item, "dtest", None), "examples", [])
        if any("sqlite3" in example.source or "sqlite_vec" in example.source for example in examples):
            item.add_marker(pytest.mark.skip(reason="sqlite3 cannot load extensions here"))
