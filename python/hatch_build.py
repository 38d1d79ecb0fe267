"""Puts the library into the wheel: the one that SQLITE_IVF_LIBRARY names, or one that cargo builds.

SQLITE_IVF_PLATFORM is the wheel's platform tag where it is another than this machine's, like manylinux_2_17_aarch64.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any, Dict, List

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FEATURES = "loadable,vec0"


class CargoHook(BuildHookInterface):  # type: ignore[misc]
    """Builds for one platform and any Python."""

    def initialize(self, version: str, build_data: Dict[str, Any]) -> None:
        """Builds."""
        here = Path(self.root)
        crate = here / "rust" if (here / "rust" / "Cargo.toml").is_file() else here.parent
        given = os.environ.get("SQLITE_IVF_LIBRARY")
        library = Path(given) if given else _cargo(crate)
        if not library.is_file():
            raise FileNotFoundError(f"SQLITE_IVF_LIBRARY names {library}, and there is no such file")
        # SQLite finds the entry point by this name on every system.
        name = f"libsqlite_ivf{library.suffix}"
        if version == "editable":
            shutil.copyfile(library, here / "src" / "sqlite_ivf" / name)
        else:
            build_data["force_include"][str(library)] = f"sqlite_ivf/{name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{os.environ.get('SQLITE_IVF_PLATFORM') or _platform()}"
        self.scratch = tempfile.TemporaryDirectory()
        sbom = _sbom(crate, self.metadata.version)
        if sbom is not None:
            file = Path(self.scratch.name) / "sqlite-ivf.cdx.json"
            file.write_text(json.dumps(sbom, indent=1) + "\n")
            build_data.setdefault("sbom_files", []).append(str(file))

    def finalize(self, version: str, build_data: Dict[str, Any], artifact_path: str) -> None:
        """Clears up."""
        self.scratch.cleanup()


def _platform() -> str:
    if sys.platform == "darwin":
        return f"macosx_11_0_{platform.machine()}"
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def _cargo(crate: Path) -> Path:
    command = [
        "cargo",
        "build",
        "--release",
        "--locked",
        "--lib",
        "--features",
        FEATURES,
        "--message-format",
        "json-render-diagnostics",
    ]
    try:
        built = subprocess.run(command, cwd=crate, stdout=subprocess.PIPE, text=True, check=True)
    except FileNotFoundError:
        raise RuntimeError("building sqlite-ivf needs Rust and a C compiler, or a library named by SQLITE_IVF_LIBRARY") from None
    messages: List[Dict[str, Any]] = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
    files = [file for each in messages if each.get("target", {}).get("name") == "sqlite_ivf" for file in each.get("filenames", [])]
    return next(Path(file) for file in files if file.endswith((".so", ".dylib", ".dll")))


def _sbom(crate: Path, version: str) -> Dict[str, Any] | None:
    """The crates that the library is made of, as CycloneDX; none where there is no cargo to ask."""
    tree = ["cargo", "tree", "--locked", "--edges", "normal", "--prefix", "none", "--features", FEATURES, "--format", "{p}|{l}"]
    try:
        listed = subprocess.run(tree, cwd=crate, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        print("no SBOM: cargo is not here, or cannot read the crate")
        return None
    components = []
    for line in sorted(set(listed.replace(" (*)", "").splitlines())):
        crate_of, _, license = line.partition("|")
        name, number = crate_of.split()[:2]
        if name == "sqlite-ivf":
            continue
        number = number.lstrip("v")
        licenses = [{"expression": license.replace("/", " OR ")}] if license else []
        purl = f"pkg:cargo/{name}@{number}"
        components.append({"type": "library", "name": name, "version": number, "purl": purl, "bom-ref": purl, "licenses": licenses})
    root = {"type": "library", "name": "sqlite-ivf", "version": version, "purl": f"pkg:cargo/sqlite-ivf@{version}"}
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "metadata": {"component": root}, "components": components}
