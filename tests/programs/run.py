#!/usr/bin/env python3
"""Real programs that use sqlite-vec, run with sqlite-vec and with this library in its place.

    python3 tests/programs/run.py --library target/release/libsqlite_ivf.so [--only NAME]...

Each program is installed from its package index into a folder of its own, in the versions of
requirements-*.txt and constraints.txt, and its script runs twice: with the vec0.so that the package sqlite-vec
brings along, and with a copy of --library over that file. The lines that the two print are
compared. Only the Python library is needed here; see README.md.
"""

from __future__ import annotations

import argparse
import difflib
import fnmatch
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
SQLITE_VEC = "0.1.9"
NODE = "22.23.5"
MINUTES = 60


class Skipped(Exception):
    """The program cannot be run here; the text says why."""


@dataclass(frozen=True)
class Program:
    name: str
    script: str
    package: str
    version: str = ""  # npm packages; those of Python stand in requirements-NAME.txt

    @property
    def node(self) -> bool:
        return self.script.endswith(".mjs")


PROGRAMS = [
    Program("langchain", "langchain_store.py", "langchain-community"),
    Program("langgraph", "langgraph_store.py", "langgraph-checkpoint-sqlite"),
    Program("txtai", "txtai_ann.py", "txtai"),
    Program("sqlite-utils", "sqlite_utils_plugin.py", "sqlite-utils"),
    Program("datasette", "datasette_pages.py", "datasette"),
    Program("datasette-alpha", "datasette_pages.py", "datasette"),
    Program("sqlalchemy", "sqlalchemy_reflection.py", "sqlalchemy"),
    Program("django", "django_model.py", "django"),
    Program("vec-client", "vec_client.py", "sqlite-vec-client"),
    Program("mcp-memory", "mcp_memory.py", "mcp-memory-service"),
    Program("better-sqlite3", "better_sqlite3.mjs", "better-sqlite3", "13.2.0"),
    Program("node-sqlite", "node_sqlite.mjs", "node:sqlite"),
]


@dataclass
class Place:
    """Where a program is installed: how its script starts, and the file that is exchanged."""

    start: list[str]
    folder: Path
    library: Path
    version: str


@dataclass
class Result:
    program: Program
    version: str = "-"
    text: str = ""
    diff: list[str] = field(default_factory=list)
    failed: bool = False


def call(command: list[str], cwd: Path, minutes: float = 10, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=minutes * MINUTES, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise Skipped(f"{Path(command[0]).name} took more than {minutes:g} minutes") from None
    except OSError as error:
        raise Skipped(f"cannot start {Path(command[0]).name}: {error.strerror}") from None


def last_line(text: str) -> str:
    """The line of some output that says most, without addresses: what pip and npm call an error, or the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR:", "npm error", "npm ERR!"))]
    said = (errors or lines[-1:] or ["no output"])[0]
    return re.sub(r"https?://\S+|/\S+/", "", said)[:160]


def able_python(wish: str | None) -> str:
    """A Python whose sqlite3 loads extensions."""
    test = "import sqlite3; sqlite3.connect(':memory:').enable_load_extension(True)"
    for python in [wish] if wish else [sys.executable, "/usr/bin/python3", "python3"]:
        try:
            if subprocess.run([python, "-c", test], capture_output=True).returncode == 0:
                return python
        except OSError:
            pass
    raise Skipped("no Python whose sqlite3 module can load extensions (give one with --python)")


def install_python(program: Program, folder: Path, python: str) -> Place:
    venv = folder / "venv"
    inside = str(venv / "bin/python")
    ready = folder / "ready"
    if not ready.exists():
        fill(program, venv, inside, python)
        ready.touch()
    ask = "import sys, importlib.metadata as m, sqlite_vec; print(m.version(sys.argv[1])); print(sqlite_vec.__file__)"
    found = call([inside, "-c", ask, program.package], folder)
    if found.returncode != 0:
        raise Skipped(f"not importable: {last_line(found.stderr)}")
    version, module = found.stdout.split("\n")[:2]
    return Place([inside], folder, Path(module).resolve().with_name("vec0.so"), version)


def fill(program: Program, venv: Path, inside: str, python: str) -> None:
    folder = venv.parent
    made = call([python, "-m", "venv", "--without-pip", str(venv)], folder)
    if made.returncode != 0:
        raise Skipped(f"no venv: {last_line(made.stdout + made.stderr)}")
    pip = [sys.executable, "-m", "pip", "--python", inside, "install", "--quiet", "--disable-pip-version-check", "-c", str(HERE / "constraints.txt")]
    # Wheels only: nothing is compiled.
    steps = [[*pip, "--only-binary=:all:", "-r", str(HERE / f"requirements-{program.name}.txt")]]
    alone = HERE / f"requirements-{program.name}.alone.txt"
    if alone.exists():
        steps.append([*pip, "--no-deps", "--only-binary=:all:", "-r", str(alone)])
    for step in steps:
        done = call(step, folder)
        if done.returncode != 0:
            raise Skipped(f"not installed: {last_line(done.stderr)}")


def node_version(node: str) -> tuple[int, ...]:
    try:
        out = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    except OSError:
        return (0,)
    return tuple(int(n) for n in re.findall(r"\d+", out)) or (0,)


def install_node(program: Program, folder: Path) -> Place:
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        raise Skipped("the Node programs are set up for Linux on x86_64 and aarch64")
    wanted = [f"sqlite-vec@{SQLITE_VEC}"] + ([f"{program.package}@{program.version}"] if program.version else [])
    own = node_version("node") >= (22, 13)
    if not own:  # node:sqlite loads extensions from 22.13 on; the index has Node as a package too
        wanted.append(f"node-linux-{machine}@{NODE}")
    ready = folder / "ready"
    if not ready.exists():
        (folder / "package.json").write_text('{"private": true, "type": "module"}\n')
        done = call(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", *wanted], folder)
        if done.returncode != 0:
            raise Skipped(f"not installed: {last_line(done.stderr)}")
        ready.touch()
    modules = folder / "node_modules"
    node = "node" if own else str(modules / f"node-linux-{machine}/bin/node")
    if node_version(node) < (22, 13):
        raise Skipped("needs Node 22.13 or newer")
    version = program.version or "node " + ".".join(map(str, node_version(node)))
    return Place([node], folder, modules / f"sqlite-vec-linux-{machine}/vec0.so", version)


def lines_of(program: Program, place: Place) -> tuple[list[str], str]:
    """What the script prints, and the end of its errors where it failed. The file that is exchanged must be the one it loads."""
    script = HERE / program.script
    if program.node:  # packages are looked for beside the script
        for file in [program.script, "made_up.mjs"]:
            shutil.copy(HERE / file, place.folder)
        script = place.folder / program.script
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "NODE_NO_WARNINGS": "1"}
    env.pop("PYTHONPATH", None)
    loaded = place.folder / "loaded"
    loaded.write_text("")
    done = call([*place.start, str(script)], place.folder, 5, env | {"PROGRAMS_LOADED": str(loaded)})
    if done.returncode != 0:
        return done.stdout.splitlines(), last_line(done.stderr)
    # Otherwise a program that brings its own copy along would always be "the same".
    if Path("/proc/self/maps").exists() and str(place.library) not in loaded.read_text().splitlines():
        return done.stdout.splitlines(), f"loaded another file than {place.library.name} of the package sqlite-vec"
    return done.stdout.splitlines(), ""


def intended() -> list[tuple[str, str]]:
    """Program and line of each row of the table in intended.md; both may have * in them."""
    rows = []
    for line in (HERE / "intended.md").read_text().splitlines():
        cells = [c.strip().strip("`") for c in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3 and not set(cells[0]) <= set("-: ") and cells[0] != "program":
            rows.append((cells[0], cells[1]))
    return rows


def label(line: str) -> str:
    try:
        return str(next(iter(json.loads(line))))
    except (ValueError, StopIteration, TypeError):
        return line


def compare(program: Program, theirs: list[str], ours: list[str]) -> tuple[list[str], int]:
    """A diff of what is not intended, and how many lines differ as intended."""
    patterns = [what for name, what in intended() if fnmatch.fnmatchcase(program.name, name)]
    other = dict((label(line), line) for line in ours)
    meant = {label(t) for t in theirs if other.get(label(t), t) != t and any(fnmatch.fnmatchcase(label(t), p) for p in patterns)}
    left, right = ([x for x in lines if label(x) not in meant] for lines in (theirs, ours))
    diff = [d for d in difflib.unified_diff(left, right, "sqlite-vec", "this library", lineterm="", n=0) if not d.startswith("@@")]
    return diff, len(meant)


def replace(old: Path, new: Path) -> None:
    old.unlink(missing_ok=True)  # never written over: a process may have it mapped
    shutil.copy(new, old)


def run(program: Program, library: Path, folder: Path, python: str | None) -> Result:
    result = Result(program)
    try:
        place = install_node(program, folder) if program.node else install_python(program, folder, able_python(python))
        result.version = place.version
        kept = place.library.with_name("vec0.theirs")
        if not kept.exists():
            shutil.copy(place.library, kept)
        replace(place.library, kept)
        theirs, trouble = lines_of(program, place)
        if trouble:
            raise Skipped(f"fails with sqlite-vec too: {trouble}")
        replace(place.library, library)
        ours, trouble = lines_of(program, place)
        replace(place.library, kept)
    except Skipped as why:
        result.text = f"skipped ({why})"
        return result
    # Of a script that broke off, the lines that it got to.
    result.diff, meant = compare(program, theirs[: len(ours)] if trouble else theirs, ours)
    if trouble:
        result.diff.append(f"+ ends with: {trouble}")
    result.failed = bool(result.diff)
    result.text = "differs" if result.failed else f"same, {len(theirs)} lines"
    result.text += f" ({meant} differ as intended)" if meant else ""
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=Path, required=True, help="the extension, built with the features loadable and vec0")
    parser.add_argument("--only", action="append", metavar="NAME", choices=[p.name for p in PROGRAMS], help="one program; may be given again")
    parser.add_argument("--python", help="a Python whose sqlite3 loads extensions; otherwise one is looked for")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="install here, and take what is installed there already; otherwise a folder that goes at the end")
    options = parser.parse_args()
    if not options.library.is_file():
        parser.error(f"no such file: {options.library}")
    chosen = [p for p in PROGRAMS if not options.only or p.name in options.only]
    results = []
    with tempfile.TemporaryDirectory(prefix="programs-") as temporary:
        for program in chosen:
            folder = (options.keep or Path(temporary)).resolve() / program.name
            folder.mkdir(parents=True, exist_ok=True)
            print(f"{program.name} ...", file=sys.stderr, flush=True)
            results.append(run(program, options.library.resolve(), folder, options.python))
    rows = [(r.program.name, r.version, r.text) for r in results]
    widths = [max(len(row[i]) for row in [("program", "version", ""), *rows]) for i in (0, 1)]
    print(f"{'program':{widths[0]}} | {'version':{widths[1]}} | with this library")
    for name, version, text in rows:
        print(f"{name:{widths[0]}} | {version:{widths[1]}} | {text}")
    for r in results:
        if r.diff:
            print(f"\n{r.program.name} {r.version}\n" + "\n".join(r.diff))
    return 1 if any(r.failed for r in results) else 0


if __name__ == "__main__":
    sys.exit(main())
