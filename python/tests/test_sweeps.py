"""`benches/compare/sweep.py` measures, draws and records, and docs/performance.md has the tables of its last records."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import pytest

import sqlite_ivf

ROOT = Path(__file__).resolve().parents[2]
COMPARE, FIGURES = ROOT / "benches" / "compare", ROOT / "docs" / "figures"
SWEEPS = ["batch", "max_codes", "budget"]
OLD = {"sweep": "batch", "date": "2026-01-01T00:00:00+00:00", "data": []}

pytestmark = pytest.mark.skipif(not (COMPARE / "sweep.py").exists(), reason="the benches are in the source tree only")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Cargo puts other files of the same name beside a library that it builds.
    files = [Path(sqlite_ivf.loadable_path() + suffix) for suffix in (".so", ".dylib", ".dll")]
    (file,) = filter(Path.exists, files)
    command = [sys.executable, str(COMPARE / "sweep.py"), "--out", str(folder), "--data", str(folder / "nothing")]
    command += ["--library", str(file), "--threads", "1", "--rounds", "1", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_sweep_prints_a_table_draws_a_picture_and_appends_a_record(sweep: str, tmp_path: Path) -> None:
    pytest.importorskip("apsw")
    (tmp_path / "sweeps.json").write_text(json.dumps([OLD]))
    done = run(tmp_path, sweep, "--only", "sift")
    assert done.returncode == 0, done.stderr
    assert "the fixture takes its place" in done.stderr
    before, record = json.loads((tmp_path / "sweeps.json").read_text())
    assert before == OLD
    assert record["sweep"] == sweep
    assert record["machine"]["cpu"] and record["versions"]["sqlite-ivf"]
    (part,) = record["data"]
    ours = [row for row in part["rows"] if row["system"].startswith("sqlite-ivf")]
    assert all(row["qps"] >= row["median_qps"] > 0 for row in ours)
    for number in {f"{row['qps']:,.0f}" for row in ours}:
        assert f"| {number} |" in done.stdout
    if sweep == "batch":
        assert [row["queries"] for row in ours] == [1, 8, 32, 128]
    for row in ours if sweep != "batch" else []:
        limit = row["setting"].partition("max_codes=")[2] or row["setting"].partition("candidate_budget=")[2].partition(",")[0]
        assert row["rows"] <= int(limit or part["nprobe"] * 4_200)
        assert row["recall"] <= 1 and row["same"] <= 1
    if sweep == "max_codes":
        limited = [row["recall"] for row in ours if row["setting"] != "no limit" and row["queries"] > 1]
        assert limited == sorted(limited) and limited[0] < limited[-1]
    if importlib.util.find_spec("matplotlib"):
        drawn = (tmp_path / f"sweep-{sweep.replace('_', '-')}.svg").read_text()
        xml.etree.ElementTree.fromstring(drawn)
        assert "prefers-color-scheme: dark" in drawn and "var(--ink)" in drawn


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["batch", "--only", "glove"], "--only must be some of seed, sift, text, fixture, got 'glove'"),
        (["batch", "--threads", "1,0"], "--threads must be numbers from 1, as in 1,2, got '0'"),
        (["batch", "--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["batch"], "must be a list of records, got dict"),
    ],
)
def test_a_wrong_option_or_file_is_an_error_before_anything_is_measured(arguments: list[str], message: str, tmp_path: Path) -> None:
    pytest.importorskip("apsw")
    (tmp_path / "sweeps.json").write_text("{}")
    done = run(tmp_path, *arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert (tmp_path / "sweeps.json").read_text() == "{}"


@pytest.fixture(scope="module")
def script() -> Any:
    pytest.importorskip("apsw")
    sys.path.insert(0, str(COMPARE))
    try:
        return importlib.import_module("sweep")
    finally:
        sys.path.remove(str(COMPARE))


@pytest.mark.parametrize("sweep", SWEEPS)
def test_the_performance_page_has_the_tables_and_the_picture_of_the_last_record(sweep: str, script: Any) -> None:
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    records = [record for record in json.loads((FIGURES / "sweeps.json").read_text("utf-8")) if record["sweep"] == sweep]
    for table in script.tables(records[-1]):
        assert table in page, f"docs/performance.md should have:\n{table}"
    picture = f"sweep-{sweep.replace('_', '-')}.svg"
    assert f"](figures/{picture})" in page
    assert (FIGURES / picture).exists()
