"""The licences of the crates that are linked into the library: `notices.py FEATURES TARGET`, printed.

Their terms ask that these texts go with it. Of a crate that leaves the choice the shortest is taken, and equal texts are
printed once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

#: Where a crate offers several, the first of these that it has.
CHOICES = ("MIT", "ZLIB", "BSD")
NAMES = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE")


def linked(features: str, target: str) -> list[tuple[str, str]]:
    """Names and versions of the crates that the library is made of; those that run at build time are not in it."""
    command = ["cargo", "tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--features", features]
    command += ["--target", target, "--format", "{p}"]
    lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return sorted({(line.split()[0], line.split()[1].lstrip("v")) for line in lines if line.strip()})


def main(features: str, target: str) -> None:
    """Runs."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--features", features, "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    packages = {(each["name"], each["version"]): each for each in metadata["packages"]}
    texts: dict[str, tuple[str, list[str]]] = {}
    silent = []
    for key in linked(features, target):
        if key[0] == "sqlite-ivf":
            continue
        package = packages[key]
        who = f"{key[0]} {key[1]} ({package['license'] or 'see its text'})"
        folder = Path(package["manifest_path"]).parent
        files = sorted(each for each in folder.iterdir() if each.is_file() and each.name.upper().startswith(NAMES))
        if not files:
            silent.append(who)
        for choice in CHOICES:
            chosen = [each for each in files if choice in each.name.upper()]
            if chosen and " AND " not in (package["license"] or ""):
                files = chosen
                break
        for file in files:
            text = file.read_text(errors="replace").strip()
            kept = texts.setdefault(" ".join(text.split()), (text, []))
            kept[1].append(f"{who}: {file.name}")
    print("The library of sqlite-ivf holds code of these Rust crates, under the licences that follow.\n")
    if silent:
        print("Crates that come without a text of their own, under the licences that they name:\n")
        print("".join(f"  {each}\n" for each in silent))
    for text, owners in sorted(texts.values(), key=lambda each: each[1]):
        print("=" * 100)
        print("".join(f"{each}\n" for each in owners))
        print(text + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
