"""Draws the tables that compare this library with others, from docs/comparison.json and docs/figures/results.json, into the pages.

python3 benches/compare/tables.py            # rewrites the pages; --check only says which differ

A page has `<!-- table: NAME -->` before each table and `<!-- end of table -->` after it. A cell of comparison.json says where it was
read, and when; one that nobody has read is "not checked". Figures are those that compare.py and vec0.py wrote to results.json.
Python's standard library is enough.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"README.md": "en", "README.ja.md": "ja", "docs/comparison.md": "en", "docs/from-sqlite-vec.md": "en"}
BLOCK = re.compile(r"(<!-- table: ([\w ]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
NOT_CHECKED = "not checked"
HEADS = {
    "en": {"setting": "setting", "one": "one query, p50", "batch": "batch", "data": "data", "exact": "exact", "read": "read on"},
    "ja": {"setting": "設定", "one": "単発クエリの p50", "batch": "一括", "data": "データ", "exact": "厳密", "read": "確認日"},
}


def load() -> tuple[dict, dict]:
    return tuple(json.loads((ROOT / "docs" / name).read_text("utf-8")) for name in ("comparison.json", "figures/results.json"))


def grid(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]) + "\n"


def link(source: str, page: str) -> str:
    """A source as the page reaches it: an address, or a file of this repository."""
    return source if "://" in source or "/" not in page else "../" + source if "/" not in source else source.removeprefix("docs/")


def facts(group: str, page: str, full: bool) -> str:
    data, language = load()[0], PAGES[page]
    products = [product for product in data["products"] if product["key"] == "sqlite-ivf" or product["group"] == group]
    rows = []
    for row in data["rows"]:
        if full or row["readme"]:
            cells = [row["cells"][product["key"]] for product in products]
            texts = [cell.get("ja" if language == "ja" else "value") or cell["value"] for cell in cells]
            if full:
                texts = [f"[{text}]({link(cell['source'], page)})" if "source" in cell else text for text, cell in zip(texts, cells)]
            rows.append([row["ja" if language == "ja" else "name"], *texts])
    if full:
        dates = [min(row["cells"][p["key"]]["date"] for row in data["rows"] if "date" in row["cells"][p["key"]]) for p in products]
        rows.append([HEADS[language]["read"], *dates])
    return grid(["", *(f"{p['name']} {p['version']}" for p in products)], rows)


def notes() -> str:
    data = load()[0]
    names = {product["key"]: product["name"] for product in data["products"]}
    return "".join(
        f"- {names[key]}, {row['name']}: {cell['note']}\n" for row in data["rows"] for key, cell in row["cells"].items() if "note" in cell
    )


def measured(data: str, system: str, setting: str) -> dict:
    """One row of results.json."""
    systems = load()[1]["results"][data]["systems"]
    (row,) = (row for s in systems if s["system"] == system for row in s["rows"] if row["setting"] == setting)
    return row


def speed(data: str, page: str, full: bool) -> str:
    heads, rows = HEADS[PAGES[page]], []
    for entry in load()[0]["speed"]:
        if entry["data"] == data and (full or entry["readme"]):
            row = measured(data, entry["system"], entry["setting"])
            setting = f"`{entry['setting']}`" if entry["setting"] else heads["exact"]
            rows.append([entry["name"], setting, f"{row['recall']:.4f}", f"{row['p50_us']:,.0f} us", f"{row['batch_qps']:,.0f} queries/s"])
    return grid(["", heads["setting"], "recall@10", heads["one"], heads["batch"]], rows)


def amount(value: float, unit: str) -> str:
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.2f} {unit}" if value < 1 else f"{value:.1f} {unit}"


def vec0(page: str, full: bool) -> str:
    data, results = load()
    rows = results["vec0"]["rows"]
    if full:
        lines, before = [], None
        for row in rows:
            both = (amount(row[key], row["unit"]) for key in ("sqlite_vec", "here"))
            lines.append(["" if row["data"] == before else row["data"], row["condition"], *both, f"{row['ratio']:g}"])
            before = row["data"]
        return grid(["data", "condition", "sqlite-vec 0.1.9", "here", "ratio"], lines)
    heads, lines = HEADS[PAGES[page]], []
    for entry in data["vec0"]:
        (row,) = (row for row in rows if all(row[key] == entry[key] for key in ("data", "condition")))
        name = entry["ja" if PAGES[page] == "ja" else "name"]
        lines.append([name, *(f"{row[key]:.{0 if row[key] >= 10 else 1}f} {row['unit']}" for key in ("sqlite_vec", "here"))])
    return grid([heads["data"], "sqlite-vec", "sqlite-ivf"], lines)


def table(name: str, page: str) -> str:
    full = name.endswith(" in full")
    name = name.removesuffix(" in full")
    if name in ("sqlite", "elsewhere"):
        return facts(name, page, full)
    if name.startswith("speed "):
        return speed(name.removeprefix("speed "), page, full)
    return {"vec0": lambda: vec0(page, full), "notes": notes}[name]()


def drawn(page: str, text: str) -> str:
    """The page with its tables as the data have them."""
    return BLOCK.sub(lambda found: found[1] + table(found[2], page) + found[3], text)


def figures() -> set[str]:
    """Every time and rate of results.json as a page may write it: in full, or to three digits."""
    results = load()[1]
    found = set()
    for group in results["results"].values():
        for system in group["systems"]:
            found.add(f"{system['build_s']:.1f} s")
            for row in system["rows"]:
                found |= {f"{row[key]:,.0f} us" for key in ("p50_us", "p99_us")}
                found |= {f"{number:,.0f} queries/s" for number in (row["batch_qps"], float(f"{row['batch_qps']:.3g}"))}
    for row in results["vec0"]["rows"]:
        for key in ("sqlite_vec", "here"):
            found |= {amount(row[key], row["unit"]), f"{row[key]:.0f} {row['unit']}", f"{row[key]:.1f} {row['unit']}"}
    return found


def main() -> int:
    check = "--check" in sys.argv[1:]
    differ = []
    for page in PAGES:
        path = ROOT / page
        text = path.read_text("utf-8")
        if drawn(page, text) != text:
            differ.append(page)
            if not check:
                path.write_text(drawn(page, text), "utf-8")
    print("\n".join(f"{page}: {'differs' if check else 'rewritten'}" for page in differ) or "all tables are as the data have them")
    return int(check and bool(differ))


if __name__ == "__main__":
    sys.exit(main())
