"""Embeddings that are made up of a text, and one way to print a result."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import struct
from typing import Any


def embed(text: str, dim: int = 8) -> list[float]:
    """The same unit vector for the same text, on every machine."""
    raw = hashlib.sha256(text.encode()).digest()
    while len(raw) < 2 * dim:
        raw += hashlib.sha256(raw).digest()
    values = [raw[2 * i] + raw[2 * i + 1] / 256 - 128 for i in range(dim)]
    norm = math.sqrt(sum(v * v for v in values))
    return [v / norm for v in values]


def blob(values: list[float]) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def plain(value: Any) -> Any:
    """Something that JSON can hold: floats with five digits, blobs as hex digits."""
    if isinstance(value, float):
        return round(value, 5) + 0.0
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "x" + bytes(value).hex()
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)


def tell_loaded() -> None:
    """Write the path of the vec0.so that is loaded into the file that run.py names (on Linux)."""
    report = os.environ.get("PROGRAMS_LOADED")
    if report and os.path.exists("/proc/self/maps"):
        with open("/proc/self/maps") as maps, open(report, "a") as out:
            out.writelines(path + "\n" for path in set(re.findall(r"/\S*vec0\.so", maps.read())))


def show(what: str, value: Any) -> None:
    """One line of output. A function is called, and its error is shown by its class."""
    try:
        result = plain(value() if callable(value) else value)
    except Exception as error:
        result = {"error": type(error).__name__}
    print(json.dumps({what: result}), flush=True)
    tell_loaded()
