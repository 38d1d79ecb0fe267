"""A tar.gz whose bytes depend on its content alone: `archive.py FILE FOLDER EPOCH NAME=PATH ...`."""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Runs."""
    file, folder, epoch, *members = arguments
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for member in sorted(members):
            name, _, path = member.partition("=")
            content = Path(path).read_bytes()
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            info.mtime = int(epoch)
            info.mode = 0o644
            archive.addfile(info, io.BytesIO(content))
    with open(file, "wb") as out, gzip.GzipFile("", "wb", 9, out, int(epoch)) as packed:
        packed.write(tar.getvalue())


if __name__ == "__main__":
    main(sys.argv[1:])
