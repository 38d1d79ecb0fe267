"""Recall against time: what `sqlite-ivf tune` measures and draws."""

from __future__ import annotations

import html
import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, Tuple

from . import vectors
from .table import Table, quoted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Point", "Report", "draw", "measure", "page", "text"]

RECALL_TARGETS = (0.8, 0.9, 0.95, 0.98, 0.99)


@dataclass
class Point:
    """One setting, measured."""

    setting: str
    recall: float
    #: Milliseconds of one query: the median, and the 99th of 100.
    p50: float
    p99: float
    #: Milliseconds per query in one batch.
    batch: float
    lists_probed: float
    rows_scanned: float


@dataclass
class Report:
    """All that was measured."""

    table: str
    rows: int
    nlist: int
    k: int
    queries: int
    #: Where the queries come from.
    source: str
    goal: float
    points: List[Point]
    #: The setting that reaches the goal in the least time of one query, none if none does.
    best: Optional[str]
    #: Rows of each list, the longest first.
    lists: List[int]
    #: Distances from the queries to their nearest row, to their k-th nearest, and of pairs of rows taken at random.
    distances: Dict[str, List[float]]
    metric: str = ""
    stats: Dict[str, Any] = field(default_factory=dict)


def sample(table: Table, count: int, seed: int = 1234) -> Tuple[NDArray[np.int64], NDArray[Any]]:
    """Rows of the table taken at random, with their ids."""
    np = vectors.numpy("tune")
    ids = np.array([row[0] for row in table._execute(f"SELECT rowid FROM {table._table}")], np.int64)
    chosen = np.sort(np.random.default_rng(seed).permutation(ids)[:count])
    return chosen, table.vectors(chosen)


def _random_distances(table: Table, seed: int = 4321) -> NDArray[Any]:
    np = vectors.numpy("tune")
    rows = sample(table, 1000, seed)[1].astype(np.float64)
    a, b = rows[: len(rows) // 2], rows[len(rows) // 2 :][: len(rows) // 2]
    if table.metric == "cosine":
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        return 1 - (a * b).sum(1) / lengths  # type: ignore[no-any-return]
    if table.metric == "ip":
        return -(a * b).sum(1)  # type: ignore[no-any-return]
    if table.metric == "l2":
        return np.linalg.norm(a - b, axis=1)  # type: ignore[no-any-return]
    return np.abs(a - b).sum(1)  # type: ignore[no-any-return]


def measure(
    table: Table,
    queries: Any = None,
    k: int = 10,
    *,
    count: int = 500,
    singles: int = 200,
    goal: float = 0.95,
    nprobe: Optional[Sequence[int]] = None,
    recall_target: Optional[Sequence[float]] = None,
    told: Callable[[str, int, int], None] = lambda setting, done, total: None,
) -> Report:
    """Measures settings on these queries, or on `count` rows of the table, whose own row then does not count as an answer.

    An answer counts if it is as near as the k-th of the exact search. `singles` queries are asked one by one, all of them in a
    batch. `told` hears which setting is next.

    >>> import numpy as np, sqlite_ivf
    >>> items = sqlite_ivf.Table.create(sqlite_ivf.connect(), "items", 4)
    >>> _ = items.add(np.random.default_rng(0).random((2000, 4)))
    >>> items.train(nlist=16)
    >>> report = measure(items, count=50, singles=5, nprobe=[1, 16], recall_target=[])
    >>> [point.setting for point in report.points], report.points[1].recall
    (['nprobe=1', 'nprobe=16', 'default'], 1.0)
    """
    np = vectors.numpy("tune")
    stats = table.stats()
    if not stats["trained"]:
        raise ValueError(f"{table.name} is not trained, so each search is exact: nothing to tune ({stats['training']})")
    own: Optional[NDArray[Any]] = None
    if queries is None:
        own, queries = sample(table, count)
        source = f"{len(own)} rows of the table"
    else:
        queries = vectors.as_array(queries)
        source = f"{len(queries)} queries"
    asked = k + (own is not None)
    if not len(queries):
        raise ValueError("there is no query to measure with")

    def distances(**settings: Any) -> NDArray[Any]:
        ids, found = table.search(queries, asked, **settings)
        if own is None:
            return found
        # The row itself goes, or, where it was not found, the last answer.
        ids, found = ids.copy(), found.copy()
        mine = ids == own[:, None]
        mine[~mine.any(axis=1), -1] = True
        return found[~mine].reshape(len(own), k)  # type: ignore[no-any-return]

    if nprobe is None:
        nprobe = [2**i for i in range(64) if 2**i < stats["nlist"]] + [stats["nlist"]]
    if recall_target is None:
        recall_target = RECALL_TARGETS if stats["calibrated"] else ()
    settings: List[Dict[str, Any]] = [{"nprobe": each} for each in nprobe]
    settings += [{"recall_target": each} for each in recall_target]
    settings.append({})
    table.command("preload")
    total = len(settings) + 1
    told("exact", 0, total)
    truth = distances(nprobe=-1)
    points = []
    for place, setting in enumerate(settings):
        name = ", ".join(f"{key}={value}" for key, value in setting.items()) or "default"
        told(name, place + 1, total)
        batches = []
        for _ in range(2):
            start = perf_counter()
            found = distances(**setting)
            batches.append(perf_counter() - start)
        counted = table.profile()
        hits = (found <= truth[:, -1:]) & np.isfinite(found)
        rounds = []
        for _ in range(2):
            times = []
            for query in queries[:singles]:
                start = perf_counter()
                table.search(query, asked, **setting)
                times.append(perf_counter() - start)
            rounds.append(np.percentile(times, [50, 99]) * 1000)
        p50, p99 = min(rounds, key=lambda each: each[0])  # other work of the machine only adds
        points.append(
            Point(
                name,
                float(hits.sum() / max(1, np.isfinite(truth).sum())),
                float(p50),
                float(p99),
                1000 * min(batches) / len(queries),
                counted.get("probe", (0, 0))[0] / len(queries),
                counted.get("scan", (0, 0))[0] / len(queries),
            )
        )
    told("done", total, total)
    reached = [point for point in points if point.recall >= goal and point.setting != "default"]
    best = min(reached, key=lambda point: point.p50).setting if reached else None
    return Report(
        table.name,
        stats["rows"],
        stats["nlist"],
        k,
        len(queries),
        source,
        goal,
        points,
        best,
        sorted((each["rows"] for each in table.lists()), reverse=True),
        {
            "nearest row": truth[:, 0][np.isfinite(truth[:, 0])].tolist(),
            f"row {k}": truth[:, -1][np.isfinite(truth[:, -1])].tolist(),
            "random pairs": _random_distances(table).tolist(),
        },
        table.metric,
        stats,
    )


def advice(report: Report) -> str:
    """What to do with it, in a line or two.

    >>> print(advice(Report("items", 0, 1, 10, 5, "5 queries", 0.9, [], "nprobe=8", [], {})))
    recall 0.9 in the least time: nprobe=8
    to keep it: INSERT INTO items(items) VALUES ('nprobe=8'), or tune --apply
    """
    if report.best is None:
        return f"no setting that was measured reaches recall {report.goal:g}: measure larger ones by --nprobe"
    name = report.table if report.table.isidentifier() else quoted(report.table)
    kept = f"INSERT INTO {name}({name}) VALUES ('{report.best}'), or tune --apply"
    return f"recall {report.goal:g} in the least time: {report.best}\nto keep it: {kept}"


_HEAD = ("setting", "recall", "one query p50", "p99", "per query in a batch", "lists", "rows scanned")


def _cells(point: Point) -> Tuple[str, ...]:
    return (
        point.setting,
        f"{point.recall:.4f}",
        f"{point.p50:.3f} ms",
        f"{point.p99:.3f} ms",
        f"{point.batch:.4f} ms",
        f"{point.lists_probed:.1f}",
        f"{point.rows_scanned:,.0f}",
    )


def text(report: Report) -> str:
    """The table for a terminal."""
    rows = [_HEAD, *map(_cells, report.points)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    lines = [
        "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths)))
        + ("  <-" if row[0] == report.best else "")
        for row in rows
    ]
    head = f"{report.table}: {report.rows:,} rows in {report.nlist} lists, {report.source}, k = {report.k}"
    return "\n".join([head, "", *lines, "", advice(report)])


def draw(report: Report, file: Any, format: str) -> None:
    """Draws the curves, the lists and the distances, as `svg` or `png`."""
    try:
        import matplotlib
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install 'sqlite-ivf[plot]'") from None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    np = vectors.numpy("tune")
    blue, orange, grey = "#1f6feb", "#d9730d", "#8a8f98"
    with matplotlib.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "ivf"}):
        figure = Figure(figsize=(11, 7.5), layout="constrained")
        FigureCanvasAgg(figure)
        (one, batch), (lists, distances) = figure.subplots(2, 2)
        for axes, time, title in ((one, "p50", "one query, median"), (batch, "batch", "per query in one batch")):
            for kind, color in (("nprobe", blue), ("recall_target", orange)):
                points = [point for point in report.points if point.setting.startswith(kind + "=")]
                if not points:
                    continue
                points.sort(key=lambda point: point.recall)
                axes.plot(
                    [p.recall for p in points], [getattr(p, time) for p in points], "o-", color=color, label=kind, markersize=4
                )
                for point in points:
                    value = point.setting.split("=")[1]
                    side = (4, -11) if kind == "nprobe" else (-4, 6)
                    axes.annotate(
                        value,
                        (point.recall, getattr(point, time)),
                        side,
                        textcoords="offset points",
                        fontsize=7,
                        color=color,
                        ha="left" if kind == "nprobe" else "right",
                    )
            for point in report.points:
                if point.setting == "default":
                    axes.plot(point.recall, getattr(point, time), "x", color="black", label="default", markersize=7)
            axes.axvline(report.goal, color=grey, linewidth=0.8, linestyle="--", label=f"goal {report.goal:g}")
            axes.set(yscale="log", xlabel=f"recall@{report.k}", ylabel="milliseconds", title=title)
            axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("{x:g}")
            axes.grid(True, which="both", alpha=0.25)
        one.legend(frameon=False, fontsize=8)
        sizes = np.array(report.lists)
        lists.fill_between(range(len(sizes)), sizes, step="mid", color=blue)
        lists.axhline(sizes.mean(), color=grey, linewidth=0.8, linestyle="--")
        lists.set(
            xlabel="lists, the longest first",
            ylabel="rows",
            title=f"list sizes, mean {sizes.mean():,.0f}",
            xlim=(0, max(1, len(sizes) - 1)),
            ylim=(0, None),
        )
        bins = np.histogram_bin_edges(np.concatenate([values for values in report.distances.values()]), 60)
        for (name, values), color in zip(report.distances.items(), (orange, blue, grey)):
            distances.hist(
                values, bins=bins, weights=np.full(len(values), 1 / max(1, len(values))), alpha=0.55, color=color, label=name
            )
        distances.set(xlabel=f"distance ({report.metric})", ylabel="share", title="distances of near rows and of random pairs")
        distances.legend(frameon=False, fontsize=8)
        figure.suptitle(f"{report.table}: {report.rows:,} rows in {report.nlist} lists, {report.source}")
        figure.savefig(file, format=format, dpi=150, metadata={"Date": None} if format == "svg" else None)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #1d2026 }}
svg {{ width: 100%; height: auto }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
th, td {{ padding: .25em .8em; text-align: right; white-space: nowrap; border-bottom: 1px solid #e3e5e8 }}
th:first-child, td:first-child {{ text-align: left }}
tr.best {{ background: #e9f2ff }}
pre {{ background: #f4f5f7; padding: .5em .8em; white-space: pre-wrap }}
details {{ margin-top: 1.5em }}
</style></head><body>
<h1>{title}</h1><p>{about}</p>
<pre>{advice}</pre>
{picture}
<h2>Settings</h2><table>{rows}</table>
<p>Recall: the share of the {k} nearest rows of the exact search that are found, equally near ones too. Times are those of this
machine with the rows in memory, through Python. Lists and rows scanned are means per query.</p>
<details><summary>ivf_stats</summary><table>{stats}</table></details>
</body></html>
"""


def page(report: Report) -> str:
    """A page that stands alone."""
    svg = io.StringIO()
    draw(report, svg, "svg")

    def row(cells: Sequence[object], tag: str = "td", best: bool = False) -> str:
        inside = "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells)
        return f'<tr class="best">{inside}</tr>' if best else f"<tr>{inside}</tr>"

    return _PAGE.format(
        title=html.escape(f"sqlite-ivf: tuning {report.table}"),
        about=html.escape(
            f"{report.rows:,} rows in {report.nlist} lists; {report.source}; k = {report.k}; metric {report.metric}."
        ),
        advice=html.escape(advice(report)),
        picture=svg.getvalue()[svg.getvalue().index("<svg") :],
        rows=row(_HEAD, "th") + "".join(row(_cells(p), best=p.setting == report.best) for p in report.points),
        k=report.k,
        stats="".join(row(pair) for pair in report.stats.items()),
    )


def write(report: Report, file: str) -> None:
    """Writes a report by the ending of the file's name: .svg, .png, .html."""
    ending = Path(file).suffix.lower()
    if ending == ".html":
        Path(file).write_text(page(report), encoding="utf-8")
    elif ending in (".svg", ".png"):
        draw(report, file, ending[1:])
    else:
        raise ValueError(f"{file}: a report is a .html, .svg or .png")


def record(report: Report) -> Dict[str, Any]:
    """What `--json` prints: all but the single distances."""
    return {name: value for name, value in asdict(report).items() if name not in ("distances", "stats")}
