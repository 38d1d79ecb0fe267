"""The Python on the pages of the project runs, in the order of each page."""

from __future__ import annotations

import re
import sqlite3
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "docs/cookbook.md", "docs/deployment.md", "docs/changing.md", "docs/llamaindex.md"]
#: Pages whose programs need a package.
PACKAGES = {"docs/sqlalchemy.md": "sqlalchemy", "docs/django.md": "django", "docs/haystack.md": "haystack"}


@pytest.mark.parametrize("page", [*PAGES, *PACKAGES])
def test_the_blocks_of_a_page_run_in_their_order(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (ROOT / page).exists():
        pytest.skip("the pages are in the source tree only")
    if not hasattr(sqlite3.Connection, "enable_load_extension") or sys.version_info < (3, 10):
        pytest.skip("the pages use the sqlite3 module of a Python that loads extensions")
    if page == "docs/llamaindex.md":
        pytest.importorskip("llama_index.core")
    if page in PACKAGES:
        monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")
        pytest.importorskip(PACKAGES[page])
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{page}, block {number}", "exec", dont_inherit=True), names)
