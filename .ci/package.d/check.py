"""Checks the artifacts of a release: `check.py DIST VERSION FACTS`. Needs auditwheel, twine and npm in PATH for what they check.

With `--manifest` it writes SHA256SUMS and manifest.json instead of what it found. FACTS is a folder of tables, of which the
manifest tells: build.tsv (name, value), skipped.tsv (what, why), tried.tsv (file, how it was tried).
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import elf

ENTRY_POINTS = [
    "sqlite3_ivf_init",
    "sqlite3_sqliteivf_init",
    "sqlite3_sqliteivfvec0_init",
    "sqlite3_sqliteivfvec_init",
    "sqlite3_sqlitevec_init",
    "sqlite3_vec0_init",
    "sqlite3_vec_init",
]
NEEDED = {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0"}
GLIBC = (2, 17)
MB = 1_000_000
#: The most bytes that each kind may have.
LIMITS = {"library": 8 * MB, "archive": 4 * MB, "wheel": 4 * MB, "sdist": 2 * MB, "npm": 4 * MB, "crate": 600_000}
LICENCES = ("LICENSE-APACHE", "LICENSE-MIT")
NOTICES = "LICENSE-THIRD-PARTY"
ARM = {"arm64": "aarch64", "x64": "x86_64"}


class Wrong(Exception):
    """What an artifact must not be."""


def need(condition: object, text: str) -> None:
    """Ends the check of this artifact."""
    if not condition:
        raise Wrong(text)


def library(data: bytes, machine: str, home: str) -> dict[str, Any]:
    """A library that is to be loaded on such a machine."""
    need(len(data) <= LIMITS["library"], f"the library has {len(data):,} bytes")
    found = elf.read(data)
    need(found.machine == machine, f"the library is for {found.machine}, not for {machine}")
    need(found.glibc and found.glibc <= GLIBC, f"the library needs glibc {'.'.join(map(str, found.glibc))}")
    need(set(found.needed) <= NEEDED, f"the library needs {', '.join(set(found.needed) - NEEDED)}")
    need(found.exports == ENTRY_POINTS, f"the library exports {found.exports}")
    need(home.encode() not in data, f"the library holds paths of {home}")
    return {
        "elf": f"{found.bits}-bit {found.machine}",
        "glibc": ".".join(map(str, found.glibc)),
        "exports": found.exports,
        "library_bytes": len(data),
    }


def licences(names: list[str], *, notices: bool) -> None:
    """The licence files are there, by their last names."""
    have = {name.rsplit("/", 1)[-1] for name in names}
    for name in (*LICENCES, *([NOTICES] if notices else [])):
        need(name in have, f"{name} is missing")


def members(file: Path) -> dict[str, bytes]:
    """The files of a tar.gz, without the folder that all of them are in."""
    with tarfile.open(file) as archive:
        return {each.name.split("/", 1)[1]: archive.extractfile(each).read() for each in archive if each.isfile()}  # type: ignore[union-attr]


def run(*command: str) -> str:
    """What a tool says, if it is content."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    need(done.returncode == 0, f"{Path(command[0]).name}: {done.stdout.strip()}")
    return done.stdout


def archive(file: Path, version: str, home: str) -> dict[str, Any]:
    """A library for whoever wants the plain file."""
    files = members(file)
    licences(list(files), notices=True)
    return library(files["libsqlite_ivf.so"], file.name.removesuffix(".tar.gz").split("-linux-")[1], home)


def wheel(file: Path, version: str, home: str) -> dict[str, Any]:
    """A wheel, and all that its RECORD says."""
    machine = re.fullmatch(r"sqlite_ivf-.*-py3-none-manylinux_2_17_(x86_64|aarch64)\.whl", file.name)
    need(machine, "the wheel's name has another tag")
    with zipfile.ZipFile(file) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    info = f"sqlite_ivf-{version}.dist-info"
    for name, digest, _ in csv.reader(io.StringIO(files[f"{info}/RECORD"].decode())):
        if digest:
            actual = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).decode().rstrip("=")
            need(digest == f"sha256={actual}", f"RECORD has another digest of {name}")
    need(f"\nVersion: {version}\n" in files[f"{info}/METADATA"].decode(), "METADATA says another version")
    for name in ("py.typed", "demo/page.html", "demo/packages.bin"):
        need(f"sqlite_ivf/{name}" in files, f"{name} is missing")
    need([each for each in files if each.startswith(f"{info}/sboms/")], "the SBOM is missing")
    licences([each for each in files if each.startswith(f"{info}/licenses/")], notices=True)
    libraries = [each for each in files if each.endswith((".so", ".dylib", ".dll"))]
    need(libraries == ["sqlite_ivf/libsqlite_ivf.so"], f"the wheel has the libraries {libraries}")
    assert machine is not None
    facts = library(files[libraries[0]], machine[1], home)
    said = " ".join(run("auditwheel", "show", str(file)).split())
    tag = re.search(r'consistent with the following platform tag: "([^"]+)"', said)
    need(tag and tag[1] == f"manylinux_2_17_{machine[1]}", f"auditwheel: {said}")
    run("twine", "check", "--strict", str(file))
    return {**facts, "auditwheel": tag and tag[1], "twine": "passed"}


def sdist(file: Path, version: str, home: str) -> dict[str, Any]:
    """The sources, from which pip builds with cargo."""
    files = members(file)
    need(f"\nVersion: {version}\n" in files["PKG-INFO"].decode(), "PKG-INFO says another version")
    for name in ("Cargo.toml", "Cargo.lock", "build.rs", "src/lib.rs", "vendor/sqlite3ext-sys/Cargo.toml"):
        need(f"rust/{name}" in files, f"rust/{name} is missing")
    need(not [each for each in files if each.endswith((".so", ".dylib", ".dll", ".pyc"))], "there is something compiled in it")
    licences(list(files), notices=False)
    run("twine", "check", "--strict", str(file))
    return {"twine": "passed"}


def npm(file: Path, version: str, home: str) -> dict[str, Any]:
    """The main package, or that of a platform."""
    files = members(file)
    manifest = json.loads(files["package.json"])
    need(manifest["version"] == version, f"package.json says version {manifest['version']}")
    for field in ("private", "scripts", "devDependencies"):
        need(field not in manifest, f"package.json has {field}")
    platform = re.fullmatch(r"sqlite-ivf-linux-(x64|arm64)", manifest["name"])
    licences(list(files), notices=platform is not None)
    with tempfile.TemporaryDirectory() as scratch:
        said = json.loads(run("npm", "pack", "--dry-run", "--json", "--pack-destination", scratch, str(file.resolve())))
    # A list in some versions of npm, an object by name in others.
    listed = said[0] if isinstance(said, list) else said[manifest["name"]]
    need(listed["filename"] == file.name, f"npm pack makes {listed['filename']}")
    facts: dict[str, Any] = {"npm pack": f"{listed['entryCount']} files, {listed['unpackedSize']:,} bytes unpacked"}
    if platform is None:
        need(manifest["name"] == "sqlite-ivf", f"package.json says name {manifest['name']}")
        others = manifest["optionalDependencies"]
        need(others and set(others.values()) == {version}, f"the packages of platforms are {others}")
        for name in others:
            need((file.parent / f"{name}-{version}.tgz").is_file(), f"{name} was not built")
        named = json.dumps([manifest["exports"], manifest["main"], manifest["module"], manifest["types"]])
        for name in re.findall(r'"\./([^"]+\.[cm]?[jt]s)"', named):
            need(name in files, f"package.json names {name}, which is missing")
        return {**facts, "optionalDependencies": sorted(others)}
    need((manifest["os"], manifest["cpu"], manifest["libc"]) == (["linux"], [platform[1]], ["glibc"]), "os, cpu or libc is another")
    return {**facts, **library(files[manifest["main"].removeprefix("./")], ARM[platform[1]], home)}


def crate(file: Path, version: str, home: str) -> dict[str, Any]:
    """What cargo publishes."""
    files = members(file)
    manifest = files["Cargo.toml"].decode()
    need(re.search(rf'(?m)^version = "{re.escape(version)}"$', manifest), "Cargo.toml says another version")
    for field in ("description", "license", "keywords", "categories", "readme", "rust-version"):
        need(re.search(rf"(?m)^{field} = ", manifest), f"Cargo.toml has no {field}")
    for name in ("Cargo.lock", "README.md", "src/lib.rs", "src/device/fused/kernels.cu", "sql/create.sql", "build.rs"):
        need(name in files, f"{name} is missing")
    strays = [each for each in files if each.startswith((".ci/", "fuzz/", "npm/", "python/", "tests/", "docs/figures/", "examples/data/"))]
    need(not strays, f"{len(strays)} files that nobody needs there, such as {strays[:1]}: `include` of Cargo.toml says what is packed")
    licences(list(files), notices=False)
    # Feature `loadable` needs the [patch] of the source tree, which a registry drops: a reader has to be told.
    comments = re.findall(r"(?:^\s*#.*\n)+", files["Cargo.toml.orig"].decode(), re.M)
    told = [each for each in comments if "`loadable`" in each and "source tree" in " ".join(each.replace("#", " ").split())]
    need(told, "no comment of Cargo.toml says that the feature `loadable` builds in the source tree alone")
    return {"files": len(files)}


KINDS = [
    (r"sqlite-ivf-.*-loadable-linux-.*\.tar\.gz", "archive", archive),
    (r".*\.whl", "wheel", wheel),
    (r"sqlite_ivf-.*\.tar\.gz", "sdist", sdist),
    (r".*\.tgz", "npm", npm),
    (r".*\.crate", "crate", crate),
]


def table(file: Path) -> list[list[str]]:
    """The lines of a table, if there is one."""
    return [line.split("\t") for line in file.read_text().splitlines()] if file.is_file() else []


def main(dist: str, version: str, facts: Path, write: bool) -> int:
    """Runs."""
    folder = Path(dist)
    build = dict(table(facts / "build.tsv"))
    home = build.pop("home")
    tried = table(facts / "tried.tsv")
    artifacts, faults = [], 0
    for file in sorted(each for each in folder.iterdir() if re.search(r"\.(whl|gz|tgz|crate)$", each.name)):
        kind, check = next((kind, check) for pattern, kind, check in KINDS if re.fullmatch(pattern, file.name))
        size = file.stat().st_size
        entry: dict[str, Any] = {"file": file.name, "kind": kind, "bytes": size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        try:
            need(version in file.name, f"the name does not say version {version}")
            need(size <= LIMITS[kind], f"{size:,} bytes are over the limit of {LIMITS[kind]:,}")
            entry["checks"] = check(file, version, home)
            said = [f"{name} {each}" for name, each in entry["checks"].items() if isinstance(each, (str, int))]
            if not write:
                print(f"ok    {file.name}: {size:,} bytes" + "".join(f", {each}" for each in said))
        except Exception as error:
            # An artifact that is not even readable is a fault like the others.
            print(f"WRONG {file.name}: {error}" if isinstance(error, Wrong) else f"WRONG {file.name}: {error!r}")
            faults += 1
        entry["tried"] = [how for name, how in tried if name == file.name]
        artifacts.append(entry)
    if not artifacts:
        print("WRONG: there are no artifacts")
        faults += 1
    if write:
        sums = "".join(f"{each['sha256']}  {each['file']}\n" for each in artifacts)
        (folder / "SHA256SUMS").write_text(sums)
        skipped = [{"what": what, "why": why} for what, why in table(facts / "skipped.tsv")]
        manifest = {"name": "sqlite-ivf", "version": version, "build": build, "skipped": skipped, "artifacts": artifacts}
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    assert shutil.which("npm") or not list(Path(sys.argv[1]).glob("*.tgz")), "npm is not here"
    sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), "--manifest" in sys.argv[4:]))
