"""Writes the bundled texts of `sqlite-ivf demo` from the fixture of the source tree: `python tests/demo_data.py`, with NumPy."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, Tuple

import numpy as np

from sqlite_ivf.demo import data

FIXTURE = Path(__file__).resolve().parents[2] / "examples" / "data"


def rounded() -> Tuple[bytes, Any]:
    """The lines as they are, and the embeddings in steps."""
    vectors = np.fromfile(FIXTURE / "debian-packages.f16", "<f2").reshape(-1, data.DIM).astype(np.float64)
    steps = np.round(vectors / (vectors.std() / data.STEPS))
    assert abs(steps).max() < 128
    return (FIXTURE / "debian-packages.txt").read_bytes(), steps.astype(np.int8)


def packed(blob: bytes, strategy: int) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, strategy)
    return stream.compress(blob) + stream.flush()


if __name__ == "__main__":
    lines, numbers = rounded()
    # Nothing repeats in the numbers: codes of single bytes are smaller than matches.
    data.FILE.write_bytes(
        packed(lines, zlib.Z_DEFAULT_STRATEGY) + packed(np.ascontiguousarray(numbers.T).tobytes(), zlib.Z_HUFFMAN_ONLY)
    )
    print(f"{data.FILE}: {data.FILE.stat().st_size:,} bytes")
