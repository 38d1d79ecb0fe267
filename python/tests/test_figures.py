"""Figures on the pages that stem from docs/figures/results.json are those of that file.

`benches/compare/compare.py` writes results.json and results.md. The tables of docs/performance.md are results.md, and the sentences
below are on the pages, with the figures put in. If a new run changes one, the test says what the page should say.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "docs/figures"

if not FIGURES.exists():
    pytest.skip("the pages are in the source tree only", allow_module_level=True)

OURS, FAISS, HNSW, EXACT = "sqlite-ivf (SQL)", "faiss IVF,Flat", "hnswlib M=16", "sqlite-vec (exact)"
RESULTS: Dict[str, Any] = json.loads((FIGURES / "results.json").read_text())


def system(data: str, name: str) -> Any:
    return next(each for each in RESULTS["results"][data]["systems"] if each["system"] == name)


def figure(data: str, name: str, setting: str, what: str) -> float:
    (row,) = [row for row in system(data, name)["rows"] if row["setting"] == setting]
    return float(row[what])


def recall(data: str, name: str, setting: str, digits: int = 4) -> str:
    """Cut off, not rounded: nobody's 0.9755 becomes 0.976."""
    value = figure(data, name, setting, "recall")
    return f"{int(value * 10**digits + 1e-9) / 10**digits:.{digits}f}" if digits < 4 else f"{value:.4f}"


def us(data: str, name: str, setting: str) -> str:
    return f"{figure(data, name, setting, 'p50_us'):,.0f} us"


def qps(data: str, name: str, setting: str) -> str:
    return f"{figure(data, name, setting, 'batch_qps'):,.0f}"


def build(data: str, name: str) -> str:
    return f"{system(data, name)['build_s']:.1f} s"


def row(name: str, shown: str, setting: str) -> str:
    """A row of the table in README.md."""
    where = f"`{setting}`" if setting else "exact"
    return " | ".join([f"| {shown}", where, recall("sift", name, setting), us("sift", name, setting), qps("sift", name, setting)])


def sentences() -> List[Tuple[str, str]]:
    """What pages say, with the figures of results.json in it."""
    sift = "sift"
    ours, theirs = (sift, OURS, "nprobe=24"), (sift, FAISS, "nprobe=24")
    hnsw, text, graph = (sift, HNSW, "ef=64"), ("text", OURS, "nprobe=80"), ("text", HNSW, "ef=64")
    near = (sift, OURS, "nprobe=32")
    times = figure(*near, "batch_qps") / figure(*hnsw, "batch_qps")
    times_text = figure(*text, "batch_qps") / figure(*graph, "batch_qps")
    # SIFT at the recall of hnswlib: between two settings.
    below, above = figure(*ours, "recall"), figure(*near, "recall")
    share = (figure(*hnsw, "recall") - below) / (above - below)
    between = figure(*ours, "p50_us") + share * (figure(*near, "p50_us") - figure(*ours, "p50_us"))
    rate = float(format(figure(*ours, "batch_qps"), ".3g"))
    builds = [build(data, name) for data in (sift, "seed", "text") for name in (OURS, FAISS)]
    return [
        ("README.md", f"one query takes {us(*ours)} at recall@10 {recall(*ours, 3)}"),
        ("README.md", f"a batch of 2,000 queries runs at {rate:,.0f} queries/s"),
        ("README.md", row(OURS, "sqlite-ivf", "nprobe=24")),
        ("README.md", row(FAISS, "faiss IVFFlat", "nprobe=24")),
        ("README.md", row(HNSW, "hnswlib", "ef=64")),
        ("README.md", row(EXACT, "sqlite-vec", "")),
        ("docs/README.md", f"takes {us(*ours)} at recall {recall(*ours, 3)}."),
        ("docs/README.md", f"faiss IVF,Flat takes {us(*theirs)} at {recall(*theirs, 3)}"),
        ("docs/README.md", f"sqlite-vec's exact search {figure(sift, EXACT, '', 'p50_us') / 1000:.0f} ms"),
        ("docs/README.md", f"runs at {qps(*ours)} queries/s. faiss IVF,Flat runs at {qps(*theirs)}"),
        ("docs/README.md", f"hnswlib at {qps(*hnsw)} (recall {recall(*hnsw, 3)})"),
        ("docs/README.md", f"takes {build(sift, OURS)}. hnswlib builds its graph in {build(sift, HNSW)}"),
        ("docs/performance.md", f"on SIFT at 0.98 (about {between:.0f} us to {us(*hnsw)})"),
        (
            "docs/performance.md",
            f"on text ({us(*text)} at {figure(*text, 'recall'):.3f} to {us(*graph)} at {figure(*graph, 'recall'):.3f})",
        ),
        ("docs/performance.md", f"batches are {times:.1f} and {times_text:.1f} times as fast"),
        ("docs/performance.md", f"{builds[0]} and {builds[1]} (SIFT)"),
        ("docs/performance.md", f"{builds[2][:-2]} and {builds[3]} (seed setup)"),
        ("docs/performance.md", f"{builds[4][:-2]} and {builds[5]} (text)"),
    ]


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(("page", "sentence"), sentences())
def test_a_page_says_what_was_measured(page: str, sentence: str) -> None:
    assert flat(sentence) in flat((ROOT / page).read_text(encoding="utf-8")), f"{page} should say: {sentence}"


def test_the_tables_of_the_performance_page_are_those_that_the_comparison_wrote() -> None:
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    assert flat(page.partition("\n## Tables\n")[2]) == flat((FIGURES / "results.md").read_text(encoding="utf-8"))


def test_the_tables_of_the_comparison_are_its_results() -> None:
    written = re.findall(r"^\| (?!system|-).*$", (FIGURES / "results.md").read_text(encoding="utf-8"), re.MULTILINE)
    rows = [
        f"| {each['system']} | {row['setting']} | {row['recall']:.4f} | {row['p50_us']:.0f} us | {row['p99_us']:.0f} us | "
        f"{row['batch_qps']:.0f}/s | {each['build_s']:.1f} s |"
        for data in RESULTS["results"].values()
        for each in data["systems"]
        for row in each["rows"]
    ]
    assert [flat(line) for line in written if not line.startswith("|---")] == [flat(line) for line in rows]
    assert flat(RESULTS["versions"]) in flat((FIGURES / "results.md").read_text(encoding="utf-8"))
