"""What the pages for contributors name is there, and what the forms for issues ask for can be answered."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

import sqlite_ivf

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["CONTRIBUTING.md", "SECURITY.md", "docs/versions.md", "docs/comparison.md", ".github/pull_request_template.md"]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
KINDS = {"markdown", "textarea", "input", "dropdown", "checkboxes"}

pytestmark = pytest.mark.skipif(not (ROOT / "CONTRIBUTING.md").exists(), reason="the pages are in the source tree only")


def named(text: str) -> list[str]:
    """Paths in code: with a folder of the tree, or the ending of a source file. NAME stands for anything."""
    found = []
    for code in re.findall(r"`([^`\n]+)`", text):
        is_path = code.startswith((".ci/", "src/")) or code.endswith((".rs", ".py", ".md", ".json", ".test", ".toml", ".txt", "/"))
        if is_path and re.fullmatch(r"[\w./-]+", code) and "NAME" not in code:
            found.append(code)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_are_there(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    links = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    paths = [ROOT / code for code in named(text)] + [(ROOT / page).parent / link for link in links if link]
    assert paths
    assert [str(path) for path in paths if not path.exists()] == []


def test_a_file_that_is_not_there_is_seen() -> None:
    text = "`src/kernels/none.rs`, `python/tests/test_NAME.py`, `cargo test`, `tests/sql/`"
    assert [(ROOT / code).exists() for code in named(text)] == [False, True]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_a_form_has_what_the_code_host_wants(form: Path) -> None:
    yaml = pytest.importorskip("yaml")
    data = yaml.safe_load(form.read_text("utf-8"))
    if form.stem == "config":
        assert set(data) <= {"blank_issues_enabled", "contact_links"}
        return
    assert data["name"]
    assert data["description"]
    fields = data["body"]
    assert {field["type"] for field in fields} <= KINDS
    asked = [field for field in fields if field["type"] != "markdown"]
    assert len({field["id"] for field in asked}) == len(asked) == len({field["attributes"]["label"] for field in asked})
    assert any(field.get("validations", {}).get("required") for field in asked)


def statements() -> list[str]:
    """The statements of the forms, and those in code of the pages."""
    found = []
    for form in FORMS:
        found += re.findall(r"((?:SELECT|INSERT INTO|PRAGMA) [^;]*);", form.read_text("utf-8"))
    for page in ("SECURITY.md", "docs/versions.md"):
        found += re.findall(
            r"(?:`|^)((?:SELECT|INSERT INTO|PRAGMA) [^`\n;]*)(?:`|;$)", (ROOT / page).read_text("utf-8"), re.MULTILINE
        )
    return sorted(set(found))


@pytest.mark.skipif(not hasattr(sqlite3.Connection, "enable_load_extension"), reason="this sqlite3 loads no extensions")
def test_the_statements_that_a_report_asks_for_run() -> None:
    db = sqlite3.connect(":memory:")
    sqlite_ivf.load(db)
    for name in ("items", "t"):
        db.execute(f"CREATE VIRTUAL TABLE {name} USING ivf(vec float[2])")
        db.execute(f"INSERT INTO {name}(rowid, vec) VALUES (1, '[1, 2]'), (2, '[3, 4]')")
    db.execute("SELECT rowid FROM items WHERE vec MATCH '[1, 2]' AND k = 1").fetchall()
    asked = statements()
    assert {"ivf_stats", "ivf_version", "ivf_profile", "ivf_recall"} <= set(re.findall(r"ivf_\w+", " ".join(asked)))
    for sql in asked:
        db.execute(sql, {"queries": "[[1, 2], [3, 4]]"} if ":queries" in sql else ()).fetchall()
