"""The tables beside other products are what docs/comparison.json and docs/figures/results.json say, and each fact has a source."""

from __future__ import annotations

import datetime
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benches" / "compare" / "tables.py"
FIGURE = re.compile(r"(?<![\d.,])\d[\d,]*(?:\.\d+)? (?:us|ms|s|queries/s)(?![\w/])")

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="the pages are in the source tree only")


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def faults_of(data: dict[str, Any], not_checked: str) -> list[str]:
    """What is wrong with the facts: cells that are missing, say nothing, or do not say where and when they were read."""
    faults = []
    products = [product["key"] for product in data["products"]]
    for row in data["rows"]:
        if list(row["cells"]) != products:
            faults.append(f"{row['key']}: the products are {list(row['cells'])}, expected {products}")
        for product, cell in row["cells"].items():
            place = f"{row['key']}, {product}"
            if not cell.get("value"):
                faults.append(f"{place}: no value")
            elif cell["value"] == not_checked:
                continue
            source = cell.get("source", "")
            if "://" not in source and not (source and (ROOT / source).is_file()):
                faults.append(f"{place}: {source!r} is no address, and no file of this repository")
            if product != "sqlite-ivf" and not source.startswith("https://"):
                faults.append(f"{place}: {source!r} is not where that project says it")
            try:
                if datetime.date.fromisoformat(cell.get("date", "")) > datetime.date.today() + datetime.timedelta(1):
                    faults.append(f"{place}: {cell['date']} has not come yet")
            except ValueError:
                faults.append(f"{place}: {cell.get('date')!r} is no date")
            if row["readme"] and "ja" not in cell:
                faults.append(f"{place}: README.ja.md needs it in Japanese")
            if any("|" in text or "\n" in text for text in cell.values()):
                faults.append(f"{place}: a cell of a table is one line without |")
    return faults


def test_every_cell_has_a_source_and_a_date(tables: ModuleType) -> None:
    assert faults_of(tables.load()[0], tables.NOT_CHECKED) == []


def test_a_cell_without_source_or_date_is_seen(tables: ModuleType) -> None:
    for key, value in [("source", ""), ("date", ""), ("date", "soon"), ("value", ""), ("source", "docs/nowhere.md")]:
        data = tables.load()[0]
        data["rows"][0]["cells"]["sqlite-vec"][key] = value
        assert faults_of(data, tables.NOT_CHECKED), (key, value)


def test_the_tables_of_the_pages_are_drawn_from_the_data(tables: ModuleType) -> None:
    for page in tables.PAGES:
        text = (ROOT / page).read_text("utf-8")
        assert text.count("<!-- table: ") == len(tables.BLOCK.findall(text)) > 0, page
        assert tables.drawn(page, text) == text, f"{page}: run python3 benches/compare/tables.py"


def test_a_table_that_was_changed_by_hand_is_seen(tables: ModuleType) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    p50 = tables.measured("sift", "sqlite-ivf (SQL)", "nprobe=24")["p50_us"]
    changed = text.replace(f"| {p50:.0f} us |", f"| {p50 - 1:.0f} us |")
    assert changed != text and tables.drawn("README.md", changed) == text


def test_every_time_and_rate_beside_others_was_measured(tables: ModuleType) -> None:
    known = tables.figures()
    for page in ("README.md", "README.ja.md", "docs/comparison.md"):
        prose = re.sub(r"^```.*?^```", "", (ROOT / page).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        found = FIGURE.findall(prose)
        assert found, page
        assert [figure for figure in found if figure not in known] == [], f"{page}: not in docs/figures/results.json"


def test_the_first_lines_of_the_readme_are_what_was_measured(tables: ModuleType) -> None:
    row = tables.measured("sift", "sqlite-ivf (SQL)", "nprobe=24")
    ratios = [each["ratio"] for each in tables.load()[1]["vec0"]["rows"] if each["unit"] == "ms"]
    for page in ("README.md", "README.ja.md"):
        head = (ROOT / page).read_text("utf-8").split("\n## ")[0]
        rate, recall = float(f"{row['batch_qps']:.3g}"), f"{row['recall']:.4f}"[:-1]  # cut off, not rounded up
        for number in (f"{row['p50_us']:.0f} us", recall, f"{rate:,.0f} ", str(min(ratios)), str(max(ratios))):
            assert number in head, (page, number)
