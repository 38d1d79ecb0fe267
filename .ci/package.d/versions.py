"""Prints the version, which Cargo.toml says; ends with an error where another file says another."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def found(pattern: str, file: str) -> str | None:
    """What a file says, if it is there and says so."""
    path = ROOT / file
    match = re.search(pattern, path.read_text()) if path.is_file() else None
    return match.group(1) if match else None


def others() -> Iterator[tuple[str, str | None]]:
    """Files that could say a version of their own, and what they say."""
    for lock in ("Cargo.lock", "fuzz/Cargo.lock"):
        yield lock, found(r'name = "sqlite-ivf"\nversion = "([^"]+)"', lock)
    yield "python/pyproject.toml", found(r'(?m)^version = "([^"]+)"', "python/pyproject.toml")
    yield "python/src/sqlite_ivf/__init__.py", found(r'(?m)^__version__ = "([1-9][^"]*|0\.[^"]+)"', "python/src/sqlite_ivf/__init__.py")
    package = ROOT / "npm/package.json"
    if package.is_file():
        manifest = json.loads(package.read_text())
        yield "npm/package.json", manifest.get("version")
        for name, number in manifest.get("optionalDependencies", {}).items():
            yield f"npm/package.json ({name})", number
    # The newest release that the changes tell of, once there is one.
    yield "CHANGELOG.md", found(r"(?m)^## v?(\d+\.\d+\.\d+\S*)", "CHANGELOG.md")
    if (tag := released()) is not None:
        yield "the git tag", tag


def released() -> str | None:
    """The tag of the commit that is checked out, if it is a version."""
    command = ["git", "-C", str(ROOT), "tag", "--points-at", "HEAD", "v*"]
    listed = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout.split()
    return listed[0][1:] if listed else None


def main() -> int:
    """Runs."""
    version = found(r'(?m)^version = "([^"]+)"', "Cargo.toml")
    if version is None:
        sys.exit("Cargo.toml says no version")
    wrong = [f"{file} says {said}" for file, said in others() if said is not None and said != version]
    if wrong:
        sys.exit(f"Cargo.toml says version {version}, but {', '.join(wrong)}")
    print(version)
    return 0


if __name__ == "__main__":
    sys.exit(main())
