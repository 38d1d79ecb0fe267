"""The command `sqlite-ivf`, also `python -m sqlite_ivf`."""

from __future__ import annotations

import argparse
import json
import re
import sys
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from . import __version__, connect, sources, tune, vectors, watch
from .progress import Callback
from .table import _NAME, Table, _unquoted

ABOUT = """\
Vectors in SQLite: fill a table, search it, choose its settings, look inside.

  sqlite-ivf import vectors.npy items.db items --metric cosine   # a file of vectors becomes a table
  sqlite-ivf tune items.db items -o report.html                  # recall against time, and which setting to take
  sqlite-ivf search items.db items queries.npy -k 5              # the nearest rows
  sqlite-ivf search items.db items rowid:17 --show title         # rows like row 17
  sqlite-ivf demo                                                # a page to look at searches, of 4,400 bundled texts

The database is an ordinary SQLite file: in Python sqlite_ivf.connect("items.db") opens it, elsewhere the extension is loaded.
`sqlite-ivf COMMAND --help` says more about each command."""

IMPORT = """\
Copies vectors from a file into a table, all or none. The table is made if it is not there; from 10,000 rows on it is trained.

  sqlite-ivf import vectors.npy items.db items --metric cosine
  sqlite-ivf import items.parquet items.db items --vector embedding --id id --columns 'year INTEGER, +title TEXT'
  sqlite-ivf import items.faiss items.db items
  sqlite-ivf import old.db:items items.db items                  # a table of sqlite-vec, with its other columns

SOURCE is by its ending a .npy (a matrix), a .fvecs, a .parquet (a column of lists), a .csv (a column of texts like [1, 2], or all
its columns of numbers), an index of faiss that keeps its vectors (.faiss, .index), or DATABASE:TABLE: a table of sqlite-vec, of
this extension, or an ordinary one with a column of blobs of 4-byte floats. Rows are numbered from 0, unless the source has ids."""

SEARCH = """\
Prints the nearest rows of each query, nearest first.

  sqlite-ivf search items.db items '[0.1, 0.2, 0.3]' -k 5
  sqlite-ivf search items.db items queries.npy --set recall_target=0.95 --json
  sqlite-ivf search items.db items rowid:17 --where 'year > 2020' --show title

QUERIES is a vector or several as JSON, a file as `import` takes it, or rowid:N[,N...] for rows of the table."""

TRAIN = """\
Makes new lists of all rows of a table. A table does that by itself at 10,000 rows, and keeps its lists in order from then on:
this is for other numbers of lists, or for a table made with train_at=off."""

TUNE = """\
Measures what share of the exact answers is found, and in what time, for several settings; prints a table, and draws it.

  sqlite-ivf tune items.db items                                 # measured on 500 rows of the table
  sqlite-ivf tune items.db items --queries asked.npy --goal 0.98 -o report.html -o curve.svg
  sqlite-ivf tune items.db items --apply                         # and keeps the best setting in the table

Queries like those that will be asked give the answer that counts: --queries. Two settings are tried. nprobe is how many lists a
search reads, the same for each query; recall_target lets each query read as many as it needs. The page has the curve of recall
against time, the sizes of the lists, and how the distances of near rows compare with those of random pairs: where these overlap,
no index can tell near from far without reading most rows."""

STATS = "Says what a table is made of: rows, lists, bytes, memory, training. Without TABLE: all tables of the file."
CHECK = """\
Reads all that is stored and compares it: checksums, lengths, rows, lists. Without TABLE: all tables of the file. Exit code 1 says
that something is damaged; each fault names the table and the row."""

DEMO = """\
Serves a page on this machine alone: pick a text, and see its neighbours, the lists that were probed, recall and microseconds.

  sqlite-ivf demo                                                # 4,400 bundled texts with their embeddings
  sqlite-ivf demo --save packages.db                             # and keeps their database
  sqlite-ivf demo items.db items --texts items_fts               # a table of yours, read only
  sqlite-ivf demo items.db --embed mymodel:embed                 # what is typed becomes a vector by your function

A typed text finds stored ones, and the vector of the one that is picked is the query. With --embed the text itself is the query:
a function of a module takes the text and gives the vector."""


def _columns(text: str) -> Dict[str, str]:
    """Declarations as in SQL.

    >>> _columns('year INTEGER, +"the title" TEXT')
    {'year': 'INTEGER', '+the title': 'TEXT'}
    """
    columns = {}
    for part in text.split(","):
        declared = re.fullmatch(rf"\s*(\+?)\s*({_NAME})\s+(\w[\w\s]*)", part)
        if not declared:
            raise argparse.ArgumentTypeError(f"a column is like 'year INTEGER' or '+title TEXT', got {part.strip()!r}")
        columns[declared.group(1) + _unquoted(declared.group(2))] = declared.group(3).strip()
    return columns


def _setting(text: str) -> Tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"a setting is like nprobe=16, got {text!r}")
    return name.strip(), value.strip()


def _numbers(text: str) -> List[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"numbers like 1,2,4 are expected, got {text!r}") from None


def parser() -> argparse.ArgumentParser:
    """What the command line is like.

    >>> parser().parse_args(["stats", "items.db"]).database
    'items.db'
    """
    top = argparse.ArgumentParser("sqlite-ivf", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--version", action="version", version=f"sqlite-ivf {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, help: str, about: str, table: Optional[str] = None) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name, help=help, description=about, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        if name == "import":
            added.add_argument("source", metavar="SOURCE", help="where the vectors are")
        added.add_argument("database", metavar="DATABASE", help="a file of SQLite")
        added.add_argument("table", metavar="TABLE", nargs=table, help="a table USING ivf")
        added.add_argument("--json", action="store_true", help="print one JSON object")
        added.add_argument("--quiet", action="store_true", help="no progress bar")
        return added

    into = command("import", "copy vectors from a file into a table", IMPORT)
    into.add_argument("--metric", choices=["l2", "cosine", "ip", "l1", "hamming"], help="of a new table; l2 unless the source says")
    into.add_argument("--element", choices=list(vectors.ELEMENTS), help="what a new table stores; float32 unless the source says")
    into.add_argument("--column", default="vec", metavar="NAME", help="a new table's vector column (vec)")
    into.add_argument("--vector", metavar="NAME", help="the source's column of vectors, where there are several")
    into.add_argument("--id", metavar="NAME", help="the source's column of ids; rows are numbered from 0 without")
    into.add_argument("--columns", type=_columns, metavar="SQL", help="other columns to copy: 'year INTEGER, +title TEXT'")
    into.add_argument(
        "--option",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of a new table, like nlist=512",
    )
    into.add_argument("--replace", action="store_true", help="rows take the place of those with their ids")

    search = command("search", "print the nearest rows", SEARCH)
    search.add_argument("queries", metavar="QUERIES", help="JSON, a file, or rowid:N")
    search.add_argument("-k", type=int, default=10, help="how many rows (10)")
    search.add_argument("--where", metavar="SQL", help="a condition, like 'year > 2020'")
    search.add_argument("--set", type=_setting, action="append", default=[], metavar="NAME=VALUE", help="like nprobe=16")
    search.add_argument("--show", metavar="NAMES", help="columns to print, like title,year")

    train = command("train", "make new lists", TRAIN)
    train.add_argument("--nlist", type=int, help="how many lists; the table's option, or the root of its rows")
    train.add_argument("--seed", type=int, help="same rows, same seed: same lists")
    train.add_argument("--max-iterations", type=int, help="of k-means")

    tuned = command("tune", "measure recall against time, and choose", TUNE)
    tuned.add_argument("--queries", metavar="FILE", help="queries to measure with, as `search` takes them")
    tuned.add_argument("--sample", type=int, default=500, metavar="N", help="without --queries: so many rows of the table (500)")
    tuned.add_argument("-k", type=int, default=10, help="how many rows a search asks for (10)")
    tuned.add_argument("--goal", type=float, default=0.95, help="the recall to reach (0.95)")
    tuned.add_argument("--nprobe", type=_numbers, metavar="N,N,...", help="numbers of lists to try: powers of two unless given")
    tuned.add_argument(
        "--recall-target", type=_numbers, metavar="R,R,...", help="targets to try: 0.8,0.9,0.95,0.98,0.99 unless given"
    )
    tuned.add_argument(
        "-o", "--out", action="append", default=[], metavar="FILE", help="a report: .html, .svg or .png; may be repeated"
    )
    tuned.add_argument("--apply", action="store_true", help="make the best setting the table's default")

    stats = command("stats", "say what a table is made of", STATS, "?")
    stats.add_argument("--lists", action="store_true", help="also its lists")
    command("check", "look for damage", CHECK, "?")

    demo = commands.add_parser(
        "demo",
        help="look at searches in a browser",
        description=DEMO,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    demo.set_defaults(json=False, quiet=True)
    demo.add_argument("database", metavar="DATABASE", nargs="?", help="a file of SQLite; the bundled texts unless given")
    demo.add_argument("table", metavar="TABLE", nargs="?", help="a table USING ivf, if the file has several")
    demo.add_argument("--texts", metavar="NAME", help="an FTS5 table with the same rowids (TABLE_fts, if there is one)")
    demo.add_argument("--label", metavar="[TABLE.]COLUMN", help="the text to show of a row")
    demo.add_argument("--embed", metavar="MODULE:FUNCTION", help="makes a vector of a text")
    demo.add_argument("--save", metavar="FILE", help="keep the database of the bundled texts")
    demo.add_argument("--port", type=int, default=0, help="0, the default, is a free one")
    demo.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="another one lets other machines in (127.0.0.1)")
    browser = demo.add_mutually_exclusive_group()
    browser.add_argument("--open", action="store_true", help="open a browser, also if the output is no terminal")
    browser.add_argument("--no-browser", action="store_true", help="open none")
    return top


def _tables(args: argparse.Namespace) -> List[Table]:
    """The table that is named, or all of the file."""
    if not Path(args.database).is_file():
        raise FileNotFoundError(f"there is no file {args.database}")
    db = args.stack.enter_context(closing(connect(args.database)))
    if args.table is not None:
        return [Table(db, args.table)]
    rows = db.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql LIKE 'CREATE VIRTUAL TABLE%' ORDER BY name"
    ).fetchall()
    found = []
    for (each,) in rows:
        try:
            found.append(Table(db, each))
        except ValueError:
            continue
    if not found:
        raise ValueError(f"{args.database} has no ivf table")
    return found


def _queries(table: Table, given: str) -> Any:
    if given.startswith("rowid:"):
        return table.vectors([int(rowid) for rowid in given[6:].split(",")])
    if given.lstrip().startswith("["):
        numbers = json.loads(given)
        return numbers if numbers and isinstance(numbers[0], list) else [numbers]
    source = sources.open_source(given)
    return vectors.numpy("search").concatenate([vectors.as_array(chunk.vectors) for chunk in source.chunks])


def _watched(bar: bool) -> Union[bool, Callback]:
    """What a long command tells: a bar, or nothing; but with it Ctrl-C is heard."""
    return bar or (lambda progress: None)


def _import(args: argparse.Namespace, bar: bool) -> Tuple[Dict[str, Any], str]:
    source = sources.open_source(args.source, args.vector, args.id, args.columns)
    new = not Path(args.database).exists()
    db = args.stack.enter_context(closing(connect(args.database)))
    exists = db.execute("SELECT 1 FROM sqlite_schema WHERE name = ? COLLATE NOCASE", (args.table,)).fetchone()
    columns = args.columns or source.columns
    count = 0
    drawn = None
    args.stack.enter_context(closing(source.chunks))
    try:
        db.execute("BEGIN IMMEDIATE")
        if exists:
            table = Table(db, args.table)
            if args.metric not in (None, table.metric) or args.element not in (None, table.element) or args.option:
                raise ValueError(f"{args.table} exists: --metric, --element and --option are for a new table")
        else:
            options: Dict[str, Any] = {**source.options, **dict(args.option)}
            element = args.element or source.element or "float32"
            metric = args.metric or source.metric
            table = Table.create(
                db, args.table, source.dim, metric=metric, element=element, column=args.column, columns=columns, **options
            )
        if source.dim != table.dim:
            raise ValueError(f"the vectors of {args.source} have {source.dim} dimensions, those of {args.table} {table.dim}")
        if bar:
            from tqdm.auto import tqdm

            drawn = tqdm(total=source.rows, unit=" rows", desc="insert", leave=False)
        for chunk in source.chunks:
            table.add(chunk.vectors, chunk.ids, chunk.metadata, replace=args.replace)
            count += len(chunk.vectors)
            if drawn is not None:
                drawn.update(len(chunk.vectors))
        if drawn is not None:
            drawn.close()
        with watch(db, _watched(bar)):
            db.execute("COMMIT")
    except BaseException:
        if drawn is not None:
            drawn.close()
        db.close()
        if new:
            Path(args.database).unlink(missing_ok=True)
        raise
    stats = table.stats()
    result = {"rows": count, "table": table.name, "nlist": stats["nlist"], "training": stats["training"]}
    return result, f"{count:,} rows of {args.source} are in {table.name} of {args.database}; {stats['training']}"


def _search(args: argparse.Namespace, bar: bool) -> Tuple[Dict[str, Any], str]:
    (table,) = _tables(args)
    queries = _queries(table, args.queries)
    settings: Dict[str, Any] = dict(args.set)
    hits = table.search(vectors.as_array(queries), args.k, where=args.where, **settings)
    names = [name.strip() for name in args.show.split(",")] if args.show else []
    answers: List[List[Dict[str, Any]]] = []
    for ids, distances in zip(hits.ids, hits.distances):
        found = [(int(i), float(d)) for i, d in zip(ids, distances) if d != float("inf")]
        shown = table.get([i for i, _ in found], *names) if names else [()] * len(found)
        answers.append([{"rowid": i, "distance": d, **dict(zip(names, more))} for (i, d), more in zip(found, shown)])
    lines = []
    for query, answer in enumerate(answers):
        for hit in answer:
            values = [str(value) for name, value in hit.items() if name not in ("rowid", "distance")]
            lines.append("\t".join([str(query), str(hit["rowid"]), f"{hit['distance']:.6g}", *values]))
    return {"k": args.k, "sql": table.sql, "answers": answers}, "\n".join(
        ["\t".join(["query", "rowid", "distance", *names]), *lines]
    )


def _train(args: argparse.Namespace, bar: bool) -> Tuple[Dict[str, Any], str]:
    (table,) = _tables(args)
    table.train(nlist=args.nlist, seed=args.seed, max_iterations=args.max_iterations, progress=_watched(bar))
    stats = table.stats()
    kept = ("rows", "nlist", "largest_list", "smallest_list", "imbalance", "training")
    return {name: stats[name] for name in kept}, f"{table.name}: {stats['training']}"


def _tune(args: argparse.Namespace, bar: bool) -> Tuple[Dict[str, Any], str]:
    (table,) = _tables(args)
    for file in args.out:
        if Path(file).suffix.lower() not in (".html", ".svg", ".png"):
            raise ValueError(f"{file}: a report is a .html, .svg or .png")
    if args.out and not find_spec("matplotlib"):
        raise ImportError("reports need matplotlib: pip install 'sqlite-ivf[plot]'")
    drawn = None
    if bar:
        from tqdm.auto import tqdm

        drawn = tqdm(unit="", leave=False)

    def told(setting: str, done: int, total: int) -> None:
        if drawn is not None:
            drawn.total, drawn.n = total, done
            drawn.set_description(f"measure {setting}")

    try:
        report = tune.measure(
            table,
            _queries(table, args.queries) if args.queries else None,
            args.k,
            count=args.sample,
            goal=args.goal,
            nprobe=[int(each) for each in args.nprobe] if args.nprobe is not None else None,
            recall_target=args.recall_target,
            told=told,
        )
    finally:
        if drawn is not None:
            drawn.close()
    for file in args.out:
        tune.write(report, file)
    said = tune.text(report)
    if args.apply and report.best:
        table.command(report.best)
        said += f"\nkept in {table.name}: {table.sql.replace('?', repr(report.best))}"
    return tune.record(report), "\n".join([said, *(f"written: {file}" for file in args.out)])


def _stats(args: argparse.Namespace, bar: bool) -> Tuple[Dict[str, Any], str]:
    result: Dict[str, Any] = {}
    lines: List[str] = []
    for table in _tables(args):
        stats: Dict[str, Any] = {"table": table.name, **table.stats()}
        if args.lists:
            stats["lists"] = table.lists()
        result[table.name] = stats
        width = max(map(len, stats))
        lines += [f"{name:<{width}}  {value}" for name, value in stats.items() if name != "lists" and value is not None]
        for each in stats.get("lists", []):
            lines.append("  ".join(f"{name} {value}" for name, value in each.items()))
        lines.append("")
    return result, "\n".join(lines).rstrip()


def _check(args: argparse.Namespace, bar: bool) -> Tuple[Dict[str, Any], str]:
    result: Dict[str, Any] = {}
    for table in _tables(args):
        try:
            table.check(progress=_watched(bar))
            result[table.name] = []
        except Exception as error:
            if "corrupt" not in str(error):
                raise
            result[table.name] = str(error).split("\n")
    lines = [f"{name}: {fault}" for name, faults in result.items() for fault in faults or ["no fault"]]
    return {"damaged": any(result.values()), "tables": result}, "\n".join(lines)


def _demo(args: argparse.Namespace, bar: bool) -> Tuple[Dict[str, Any], str]:
    from . import demo

    if not 0 <= args.port < 65536:
        raise ValueError(f"--port: a number from 0 to 65535 is expected, got {args.port}")
    if args.database is not None and args.save is not None:
        raise ValueError("--save is for the bundled texts: it goes without DATABASE")
    if args.database is None and sys.stderr.isatty():
        print("the bundled texts become a table ...", file=sys.stderr, flush=True)
    names = ("database", "table", "save", "texts", "label", "embed")
    opened = args.stack.enter_context(demo.opened(**{name: getattr(args, name) for name in names}))
    browser = args.open or (sys.stdout.isatty() and not args.no_browser)
    demo.serve(opened, host=args.host, port=args.port, browser=browser)
    return {}, "ended"


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Runs a command; the exit code: 0, 1 for an error or damage, 2 for a wrong command line, 130 for Ctrl-C.

    >>> main(["stats", "nothing.db"])
    1
    """
    args = parser().parse_args(arguments)
    bar = not args.quiet and sys.stderr.isatty() and find_spec("tqdm") is not None
    run = {"import": _import, "search": _search, "train": _train, "tune": _tune, "stats": _stats, "check": _check, "demo": _demo}
    try:
        with ExitStack() as args.stack:
            result, said = run[args.command](args, bar)
    except KeyboardInterrupt:
        print("sqlite-ivf: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        print(f"sqlite-ivf: {error}", file=sys.stderr)
        return 1
    try:
        print(json.dumps(result, default=_plain) if args.json else said)
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  who reads has enough
        return 0
    return int(bool(result.get("damaged")))


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value.hex() if isinstance(value, bytes) else str(value)
