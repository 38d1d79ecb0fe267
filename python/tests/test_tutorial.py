"""Every file and command of docs/tutorial.md runs in an empty folder, and prints what the page says."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/tutorial.md"
EXAMPLE = ROOT / "examples/tutorial.rs"
#: A folder of wheels to install from, as `.ci/package` makes it. Without it the page's way to install is left out.
WHEELS = os.environ.get("SQLITE_IVF_WHEELS")
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the pages are in the source tree only")


class Block(NamedTuple):
    line: int
    kind: str
    text: str


def blocks(variant: str) -> List[Block]:
    """The fenced blocks of the page that one follows who chooses a variant."""
    found: List[Block] = []
    chosen, inside, kind, start, lines = True, False, "", 0, [""]
    for number, line in enumerate(PAGE.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            inside = not inside
            if inside:
                kind, start, lines = line[3:], number, []
            elif chosen:
                found.append(Block(start, kind, "".join(each + "\n" for each in lines)))
        elif inside:
            lines.append(line)
        elif line.startswith("#### "):
            chosen = line[5:] == variant
        elif line == "<!-- /tabs -->":
            chosen = True
    return found


def steps(variant: str) -> List[Tuple[Block, str]]:
    """What the shell is given for each block, and what it should print."""
    given: List[Tuple[Block, str]] = []
    before = ""
    for block in blocks(variant):
        first = re.match(r"# (\w+\.py)\n", block.text)
        if block.kind == "text" and before == "rust":
            pass  # what the program prints, which runs after all steps
        elif block.kind == "text":
            assert block.text, f"line {block.line}: what is printed there?"
            given[-1] = (given[-1][0], block.text)
        elif block.kind == "python" and first:
            given.append((block._replace(text=f"cat > {first.group(1)} <<'END OF FILE'\n{block.text}END OF FILE\n"), ""))
        elif block.kind == "sql":
            text = f"sqlite3 -batch -init ivf.sql notes.db <<'END OF SQL'\n{block.text}END OF SQL\n"
            given.append((block._replace(text=text), ""))
        elif block.kind == "sh" and (WHEELS or "pip install" not in block.text):
            given.append((block, ""))
        before = block.kind
    return given


def environment(folder: Path) -> Dict[str, str]:
    """With the commands that the page's installation would bring, if it is left out."""
    folder.mkdir()
    for name, module in (("python", ""), ("sqlite-ivf", "-m sqlite_ivf ")):
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module}"$@"\n')
        (folder / name).chmod(0o755)
    (folder / "python3").symlink_to(sys.executable)
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    if WHEELS:
        env["PIP_FIND_LINKS"] = str(Path(WHEELS).resolve())
        for name in ("PYTHONPATH", "SQLITE_IVF_LIBRARY"):
            env.pop(name, None)
    return env


def follow(variant: str, tmp_path: Path) -> Path:
    """Runs the steps in one shell, and checks what they print. The folder in which it did."""
    if not hasattr(sqlite3.Connection, "enable_load_extension"):
        pytest.skip("the page uses the sqlite3 module of a Python that loads extensions")
    env, place = environment(tmp_path / "bin"), tmp_path / "empty"
    place.mkdir()
    given = steps(variant)
    script = "".join(f"{block.text}printf '\\n@@ %s\\n' {block.line}\n" for block, _ in given)
    run = subprocess.run(["bash", "-eu"], input=script, cwd=place, env=env, capture_output=True, text=True, timeout=600)
    printed = re.split(r"\n@@ \d+\n", run.stdout)
    if run.returncode or len(printed) != len(given) + 1:
        at = given[min(len(printed) - 1, len(given) - 1)][0]
        pytest.fail(f"docs/tutorial.md, line {at.line}: exit code {run.returncode}\n{at.text}\n{printed[-1]}\n{run.stderr}")
    wrong = [
        f"line {block.line}: {block.text}expected:\n{expected}printed:\n{got}"
        for (block, expected), got in zip(given, printed)
        if expected and not same(expected, got)
    ]
    assert not wrong, "\n".join(wrong)
    return place


def same(expected: str, got: str) -> bool:
    return doctest.OutputChecker().check_output(expected, got, doctest.ELLIPSIS)


def test_the_tutorial_runs_in_python(tmp_path: Path) -> None:
    follow("Python", tmp_path)


def test_the_tutorial_runs_in_the_shell(tmp_path: Path) -> None:
    if not shutil.which("sqlite3"):
        pytest.skip("there is no sqlite3 shell here")
    follow("Shell", tmp_path)


def test_the_rust_of_the_tutorial_is_the_example() -> None:
    page = "".join(block.text for block in blocks("Rust") if block.kind == "rust")
    example = EXAMPLE.read_text(encoding="utf-8")
    assert example.partition("\n\n")[2] == page, "examples/tutorial.rs, after its head, is the Rust of docs/tutorial.md"


def test_the_rust_of_the_page_about_rust_is_that_of_the_crate() -> None:
    (page,) = re.findall(r"^```rust\n(.*?)^```", (ROOT / "docs/rust.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^//! ?(.*)$", (ROOT / "src/lib.rs").read_text(encoding="utf-8"), re.MULTILINE)
    assert page in "".join(line + "\n" for line in lines if not line.startswith("# "))


def test_the_example_prints_what_the_tutorial_says(tmp_path: Path) -> None:
    programs = [each for each in (TARGET / "debug/examples/tutorial", TARGET / "release/examples/tutorial") if each.exists()]
    if not programs:
        pytest.skip("examples/tutorial.rs is not built: cargo build --example tutorial")
    found = blocks("Rust")
    expected = "".join(block.text for before, block in zip(found, found[1:]) if block.kind == "text" and before.kind == "rust")
    place = follow("Rust", tmp_path)
    run = subprocess.run([programs[0]], cwd=place, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert same(expected, run.stdout), f"expected:\n{expected}printed:\n{run.stdout}"


def test_the_model_of_the_tutorial_takes_the_place_of_its_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a package that has the name and the call of the real one, since models cannot be downloaded here."""
    (text,) = [block.text for block in blocks("Python") if block.text.startswith("# embed.py with a model")]
    (tmp_path / "sentence_transformers.py").write_text(
        "import numpy\nclass SentenceTransformer:\n    def __init__(self, name): self.name = name\n"
        "    def encode(self, texts, normalize_embeddings=False): return numpy.ones((len(texts), 384), numpy.float32)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    names: Dict[str, object] = {}
    exec(compile(text, "embed.py", "exec"), names)
    embed = names["embed"]
    assert callable(embed)
    assert embed(["one", "two"]).shape == (2, names["DIM"])
