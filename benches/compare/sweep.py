"""Sweeps of one setting through SQL: queries per second, and recall where the setting cuts it.

venv/bin/python benches/compare/sweep.py batch --threads 1,2        # batches of 1 to 19,600 queries, beside faiss
venv/bin/python benches/compare/sweep.py max_codes                  # limits of the rows per query, beside faiss
venv/bin/python benches/compare/sweep.py budget                     # shared limits and profiles, beside recall targets

Each prints a table, draws docs/figures/sweep-NAME.svg, and appends a record of the machine, versions, settings and figures to
docs/figures/sweeps.json. Needs apsw and numpy; without faiss-cpu or matplotlib, its column or the picture is left out.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from common import exact, fixture_data, machine, our_table, recall, seed_data, sift_data, text_data, versions

SIZES = [1, 8, 32, 128, 512, 2_048, 8_192, 19_600]
DATA = dict(seed=seed_data, sift=sift_data, text=text_data, fixture=fixture_data)
ONLY = dict(batch="seed", max_codes="seed,sift", budget="seed,sift")
PROFILES = ("exact", "approx_fast", "approx_balanced", "approx_quality")
OURS, FAISS = "sqlite-ivf (SQL)", "faiss IVFFlat"


def settings(sweep, data):
    """The searches of a sweep: a name and what `params` says, in the order of the table."""
    lists, rows = data["nlist"], len(data["base"])
    if sweep == "batch":
        nprobe = min(32, lists // 2)
        return nprobe, {f"nprobe={nprobe}": ""}
    limits = [2**n for n in range(6, 18) if rows / 64 <= 2**n <= rows]
    if sweep == "max_codes":
        return lists // 4, {"no limit": "", **{f"max_codes={limit}": f"max_codes={limit}" for limit in limits}}
    found = {f"profile={profile}": f"profile={profile}" for profile in PROFILES}
    for strategy in ("distance_weighted", "uniform"):
        for limit in limits:
            name = f"candidate_budget={limit}, budget_strategy={strategy}"
            found[name] = name
    # A target chooses the lists itself.
    return lists * 3 // 4, found | {f"recall_target={target}": f"recall_target={target}" for target in (0.9, 0.95, 0.98, 0.99)}


def our_search(db, k, nprobe, text):
    params = text if "recall_target" in text else f"nprobe={nprobe}" + (text and f", {text}")
    sql = "SELECT rowids, distances FROM t WHERE batch MATCH ? AND k = ? AND params = ? AND packed = 1"
    return lambda queries: [np.frombuffer(rowids, "<i8") for rowids, _ in db.execute(sql, (queries.tobytes(), k, params))]


def faiss_search(data, nprobe, threads):
    """A function that makes the search of a `max_codes`, or None where faiss is not installed."""
    try:
        import faiss
    except ImportError as missing:
        print(f"{FAISS} is left out: {missing}", file=sys.stderr)
        return None
    faiss.omp_set_num_threads(threads)
    cosine = data["metric"] == "cosine"
    index = faiss.index_factory(data["base"].shape[1], f"IVF{data['nlist']},Flat",
                                faiss.METRIC_INNER_PRODUCT if cosine else faiss.METRIC_L2)
    index.train(data["base"])
    index.add(data["base"])

    def search_of(max_codes):
        params = faiss.SearchParametersIVF(nprobe=nprobe, max_codes=max_codes)
        return lambda queries: index.search(queries, data["k"], params=params)[1]

    return search_of


def rates(searches, queries, sizes, rounds):
    """Queries per second of each search at each size of a batch, one number per round: the searches take turns."""
    found = {(name, size): [] for name in searches for size in sizes}
    # Threads of OpenMP wait busily for a while after a search, and would disturb the next one.
    pause = 0.25 if any(system == FAISS for system, _ in searches) else 0
    for turn in range(rounds + 1):
        for size in sizes:
            asked = queries[: max(size, 256 if size == 1 else 2_048)]
            batches = [asked[at: at + size] for at in range(0, len(asked), size)]
            for name, search in searches.items():
                time.sleep(pause)
                # The first turn warms up.
                part = batches if turn else batches[:20]
                start = time.perf_counter()
                for batch in part:
                    search(batch)
                if turn:
                    found[name, size].append(len(asked) / (time.perf_counter() - start))
    return found


def measured(sweep, name, folder, library, threads, rounds):
    """A data set at a number of threads, in a process of its own: what was set, and a row per search and size of a batch."""
    data = seed_data(folder, SIZES[-1]) if (sweep, name) == ("batch", "seed") else DATA[name](folder)
    data = {key: np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value for key, value in data.items()}
    nprobe, wanted = settings(sweep, data)
    queries, k = data["queries"], data["k"]
    with tempfile.TemporaryDirectory() as scratch:
        db, _, _ = our_table(data, library, os.path.join(scratch, "ours.db"))
        searches = {(OURS, setting): our_search(db, k, nprobe, text) for setting, text in wanted.items()}
        search_of = faiss_search(data, nprobe, threads) if sweep != "budget" else None
        if search_of:
            for setting in wanted:
                searches[FAISS, setting] = search_of(int(setting.partition("max_codes=")[2] or 0))
        sizes = [size for size in SIZES if size <= len(queries)] if sweep == "batch" else [1, len(queries)]
        found = rates(searches, queries, sizes, rounds)
        truth, unlimited, rows = None if sweep == "batch" else exact(data), {}, []
        for (system, setting), search in searches.items():
            extra = {}
            if sweep != "batch":
                answers = search(queries)
                unlimited.setdefault(system, answers)
                extra = dict(recall=round(recall(answers, truth), 4), same=round(recall(answers, unlimited[system]), 4))
            if system == OURS and extra:
                scanned = db.execute("SELECT n FROM ivf_profile('t') WHERE stage = 'scan'").fetchall()[0][0]
                extra["rows"] = round(scanned / len(queries))
            for size in sizes:
                times = found[(system, setting), size]
                rows.append(dict(system=system, setting=setting, threads=threads, queries=size, qps=round(max(times), 1),
                                 median_qps=round(statistics.median(times), 1), **extra))
        library, sqlite, isa = db.execute("SELECT ivf_version(), sqlite_version(), isa FROM ivf_stats('t')").fetchall()[0]
        db.close()
    return dict(key=name, name=data["name"], metric=data["metric"], nlist=data["nlist"], nprobe=nprobe, k=k, rows=rows), {
        "sqlite-ivf": library, "kernels": isa, "sqlite": sqlite}


def grid(head, rows):
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]) + "\n"


def heading(part):
    return f"{part['name']}, nlist {part['nlist']}, nprobe {part['nprobe']}, k {part['k']}"


def by(rows, *keys):
    """The rows by the values of keys, in order."""
    found = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def with_threads(count):
    return f"{count} thread" + "s" * (count > 1)


def tables(record):
    """The tables of a record: of batches one for each data set, else one for each number of threads, too."""
    found = []
    for part in record["data"]:
        if record["sweep"] == "batch":
            head, lines = ["queries"], {}
            for (system, threads), rows in by(part["rows"], "system", "threads").items():
                head.append(f"{system}, {with_threads(threads)}")
                for row in rows:
                    lines.setdefault(row["queries"], [f"{row['queries']:,}"]).append(f"{row['qps']:,.0f}")
            found.append(f"**{heading(part)}**, queries/s\n\n" + grid(head, lines.values()))
            continue
        for (threads,), rows in by(part["rows"], "threads").items():
            head, lines = ["setting", "rows", "recall", "as without a limit", "one query", "batch"], {}
            for (system, setting), (one, batch) in by(rows, "system", "setting").items():
                rows_of, same = ([f"{one['rows']:,}"], [f"{one['same']:.3f}"]) if system == OURS else ([], [])
                cells = [*rows_of, f"{one['recall']:.3f}", *same, f"{one['qps']:,.0f}", f"{batch['qps']:,.0f}"]
                lines.setdefault(setting, [setting]).extend(cells)
            head += [f"{FAISS}: recall", "one query", "batch"] * any(row["system"] == FAISS for row in rows)
            found.append(f"**{heading(part)}**, {with_threads(threads)}, queries/s\n\n" + grid(head, lines.values()))
    return found


# A colour that matplotlib writes: its name in the picture, in light, and in dark.
COLOURS = {
    "#010101": ("ink", "#24292f", "#d0d7de"),
    "#020202": ("rule", "#d8dee4", "#353c44"),
    "#fefefe": ("paper", "#ffffff", "#161b22"),
    "#030303": ("one", "#0a58ca", "#6cb3f5"),
    "#040404": ("two", "#b3470e", "#ff9d5c"),
    "#050505": ("three", "#1a7f37", "#56d364"),
    "#060606": ("four", "#8250df", "#d2a8ff"),
}
INK, RULE, PAPER, *LINES = COLOURS


def picture(record, path):
    try:
        import matplotlib
    except ImportError as missing:
        print(f"the picture is left out: {missing}", file=sys.stderr)
        return
    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    names = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    papers = ("axes.facecolor", "figure.facecolor", "savefig.facecolor", "legend.facecolor")
    style = {"legend.edgecolor": RULE, "grid.color": RULE, "svg.hashsalt": "sweep", "svg.fonttype": "none", "font.size": 9,
             "axes.titlesize": 9, "lines.markersize": 4, **dict.fromkeys(names, INK), **dict.fromkeys(papers, PAPER)}
    draw, columns = dict(batch=(draw_batch, 1), max_codes=(draw_max_codes, 2), budget=(draw_budget, 2))[record["sweep"]]
    with plt.rc_context(style):
        parts = record["data"]
        figure, rows = plt.subplots(len(parts), columns, figsize=(9, 0.6 + 3.4 * len(parts)), squeeze=False)
        for part, row in zip(parts, rows):
            draw(part, row)
            for axes in row:
                if axes.get_yscale() == "log":
                    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 3, 5, 7)))
                    axes.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
                    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
                axes.grid(True, linewidth=0.6)
                axes.set_axisbelow(True)
                axes.legend(fontsize=8, handlelength=3)
        figure.tight_layout(h_pad=2)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
    drawn = path.read_text("utf-8")
    for written, (name, _, _) in COLOURS.items():
        drawn = drawn.replace(written, f"var(--{name})")
    light, dark = ("".join(f"--{name}: {colours[at]}; " for name, *colours in COLOURS.values()) for at in (0, 1))
    rules = f"<style>:root {{ {light}}} @media (prefers-color-scheme: dark) {{ :root {{ {dark}}} }}</style>"
    head, tag, rest = drawn.partition("<defs>")
    path.write_text(head + rules + "\n " + tag + rest, "utf-8")


def draw_batch(part, row):
    for (system, threads), rows in by(part["rows"], "system", "threads").items():
        row[0].plot([each["queries"] for each in rows], [each["qps"] for each in rows], marker="o", color=LINES[system == FAISS],
                    linestyle="--" if threads == 1 else "-", label=f"{system}, {with_threads(threads)}")
    ticks = sorted({each["queries"] for each in part["rows"]})
    row[0].set(xscale="log", yscale="log", xlabel="queries in one statement or call", ylabel="queries per second")
    row[0].set_title(heading(part))
    row[0].set_xticks(ticks, [f"{size:,}" for size in ticks])
    row[0].set_xticks([], minor=True)


def of_most_threads(part):
    threads = max(each["threads"] for each in part["rows"])
    return [each for each in part["rows"] if each["threads"] == threads], with_threads(threads)


def draw_max_codes(part, row):
    shown, threads = of_most_threads(part)
    for (system,), rows in by(shown, "system").items():
        pairs = by(rows, "setting")
        limits = [int(setting.partition("=")[2] or 0) for setting, in pairs]
        # No limit stands on the right, where twice the largest would be.
        points = sorted((limit or 2 * max(limits), one, batch) for limit, (one, batch) in zip(limits, pairs.values()))
        at, colour = [limit for limit, _, _ in points], LINES[system == FAISS]
        row[0].plot(at, [one["recall"] for _, one, _ in points], marker="o", color=colour, label=system)
        row[1].plot(at, [batch["qps"] for _, _, batch in points], marker="o", color=colour, label=f"{system}, batch")
        row[1].plot(at, [one["qps"] for _, one, _ in points], marker="o", color=colour, ls="--", label=f"{system}, one query")
        for axes in row:
            axes.set(xscale="log", xlabel="max_codes")
            axes.set_xticks(at, [*(f"{limit:,}" for limit in at[:-1]), "no limit"], fontsize=7)
            axes.set_xticks([], minor=True)
    row[0].set(ylabel=f"recall@{part['k']}", title=heading(part))
    row[1].set(yscale="log", ylabel="queries per second", title=f"the same, {threads}")


def draw_budget(part, row):
    shown, threads = of_most_threads(part)
    pairs = {setting: pair for (setting,), pair in by(shown, "setting").items()}
    for colour, kind in zip(LINES, ("recall_target", "profile", "distance_weighted", "uniform")):
        points = sorted((one["recall"], one["qps"], batch["qps"]) for setting, (one, batch) in pairs.items() if kind in setting)
        for axes, at in zip(row, (1, 2)):
            axes.plot([point[0] for point in points], [point[at] for point in points], marker="s" if kind == "profile" else "o",
                      linestyle="none" if kind == "profile" else "-", color=colour,
                      label=f"candidate_budget, {kind}" if kind in ("distance_weighted", "uniform") else kind)
    most = max(each["queries"] for each in shown)
    for axes, title, what in zip(row, (heading(part), f"the same, {threads}"), ("one query at a time", f"{most:,} in a statement")):
        axes.set(yscale="log", xlabel=f"recall@{part['k']}", ylabel=f"queries per second, {what}", title=title)


def records(path):
    """The records so far. A file that is none of ours is an error before anything is measured."""
    found = json.loads(path.read_text("utf-8")) if path.exists() else []
    if not isinstance(found, list):
        raise SystemExit(f"{path} must be a list of records, got {type(found).__name__}")
    return found


def append(path, record):
    """Adds a record, on a line of its own. The others stay as they are, and a crash leaves the file as it was."""
    draft = path.with_suffix(".new")
    draft.write_text("[\n" + ",\n".join(map(json.dumps, [*records(path), record])) + "\n]\n", "utf-8")
    os.replace(draft, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", choices=ONLY)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the folder of the real data sets")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    parser.add_argument("--library", type=Path, default=Path("target/release/libsqlite_ivf.so"))
    parser.add_argument("--only", help="data sets; by default " + "; ".join(f"{sweep}: {names}" for sweep, names in ONLY.items()))
    parser.add_argument("--threads", default=str(os.cpu_count()), help="a number, or several: 1,2")
    parser.add_argument("--rounds", type=int, default=5, help="the best of so many is the figure")
    args = parser.parse_args()
    names, threads_wanted = (args.only or ONLY[args.sweep]).split(","), args.threads.split(",")
    for name in names:
        if name not in DATA:
            parser.error(f"--only must be some of {', '.join(DATA)}, got {name!r}")
    for count in threads_wanted:
        if not count.isdecimal() or int(count) < 1:
            parser.error(f"--threads must be numbers from 1, as in 1,2, got {count!r}")
    if args.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {args.rounds}")
    if not args.library.exists():
        parser.error(f"--library must be the loadable library, and there is no {args.library}")
    args.out.mkdir(parents=True, exist_ok=True)
    records(args.out / "sweeps.json")
    load = os.getloadavg()[0]
    parts, library = {}, {}
    for name in names:  # which may grow by the fixture
        for threads in map(int, threads_wanted):
            # The number of threads of a process is set once.
            os.environ["RAYON_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(threads)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                what = (args.sweep, name, args.data, args.library.resolve(), threads, args.rounds)
                try:
                    part, library = pool.apply(measured, what)
                except FileNotFoundError as error:
                    print(f"{name}: {error}: the fixture takes its place", file=sys.stderr)
                    if "fixture" not in names:
                        names.append("fixture")
                    break
            parts.setdefault(name, part | dict(rows=[]))["rows"] += part["rows"]
    record = dict(
        sweep=args.sweep, date=datetime.now(timezone.utc).isoformat(timespec="seconds"), machine=machine(),
        load_before=round(load, 2), load_after=round(os.getloadavg()[0], 2),  # processes that want a core
        versions={"python": platform.python_version(), **library, **versions(("apsw", "faiss-cpu", "numpy"))},
        rounds=args.rounds, data=list(parts.values()))
    append(args.out / "sweeps.json", record)
    print("\n".join(tables(record)))
    picture(record, args.out / f"sweep-{args.sweep.replace('_', '-')}.svg")


if __name__ == "__main__":
    main()
