"""The Python on the pages of the project runs, in the order of each page."""

from __future__ import annotations

import re
import sqlite3
import sys
from pathlib import Path

import pytest

import sqlite_ivf

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    "README.md",
    "docs/cookbook.md",
    "docs/deployment.md",
    "docs/changing.md",
    "docs/demo.md",
    "docs/install.md",
]
#: Pages whose programs need a package.
PACKAGES = {
    "docs/llamaindex.md": "llama_index.core",
    "docs/sqlite-utils.md": "sqlite_utils",
    "docs/sqlalchemy.md": "sqlalchemy",
    "docs/django.md": "django",
    "docs/haystack.md": "haystack",
}


@pytest.mark.parametrize("page", [*PAGES, *PACKAGES])
def test_the_blocks_of_a_page_run_in_their_order(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (ROOT / page).exists():
        pytest.skip("the pages are in the source tree only")
    if not hasattr(sqlite3.Connection, "enable_load_extension") or sys.version_info < (3, 10):
        pytest.skip("the pages use the sqlite3 module of a Python that loads extensions")
    if page in PACKAGES:
        monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")
        pytest.importorskip(PACKAGES[page])
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{page}, block {number}", "exec", dont_inherit=True), names)


def test_the_statements_of_the_first_page_run() -> None:
    page = ROOT / "docs/README.md"
    if not page.exists() or not hasattr(sqlite3.Connection, "enable_load_extension"):
        pytest.skip("the pages are in the source tree only, and use a Python that loads extensions")
    (text,) = re.findall(r"^```sql\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    db = sqlite3.connect(":memory:")
    sqlite_ivf.load(db)
    db.execute("CREATE TABLE docs(id INTEGER PRIMARY KEY, embedding BLOB, year INTEGER)")
    vectors = [sqlite_ivf.serialize_float32([1.0, float(i)] + [0.0] * 382) for i in range(30)]
    db.executemany("INSERT INTO docs VALUES (?, ?, ?)", [(i, vector, 2000 + i) for i, vector in enumerate(vectors)])
    create, insert, search = text.strip().rstrip(";").split(";")
    db.execute(create)
    db.execute(insert)
    assert [rowid for rowid, _ in db.execute(search, {"query": vectors[0]})] == [21, 22, 23, 24, 25, 26, 27, 28, 29]
