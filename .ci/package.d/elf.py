"""What an ELF library is made for, needs and gives: read from its headers, whatever machine it is of."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

MACHINES = {62: "x86_64", 183: "aarch64"}


class Library(NamedTuple):
    """The facts."""

    bits: int
    machine: str
    needed: list[str]
    exports: list[str]
    glibc: tuple[int, ...]
    """The newest version of a GLIBC_ symbol."""


def read(data: bytes) -> Library:
    """Reads a 64-bit little-endian library."""
    if data[:4] != b"\x7fELF":
        raise ValueError("not an ELF file")
    if data[4] != 2:
        raise ValueError("a 32-bit ELF file")
    if data[5] != 1:
        raise ValueError("a big-endian ELF file")
    kind, machine = struct.unpack_from("<HH", data, 16)
    if kind != 3:
        raise ValueError(f"ELF type {kind}, not a shared library")
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    # Of each section: type, offset, size, link.
    sections: dict[int, list[tuple[int, int, int]]] = {}
    places: list[tuple[int, int]] = []
    for i in range(count):
        _, kind, _, _, offset, length, link = struct.unpack_from("<IIQQQQI", data, table + i * size)
        sections.setdefault(kind, []).append((offset, length, link))
        places.append((offset, length))

    def text(link: int, at: int) -> str:
        start = places[link][0] + at
        return data[start : data.index(b"\0", start)].decode()

    exports, needed, versions = [], [], []
    for offset, length, link in sections.get(11, []):  # SHT_DYNSYM
        for at in range(offset, offset + length, 24):
            name, _, _, section = struct.unpack_from("<IBBH", data, at)
            if name and section:
                exports.append(text(link, name))
    for offset, length, link in sections.get(6, []):  # SHT_DYNAMIC
        for at in range(offset, offset + length, 16):
            tag, value = struct.unpack_from("<qQ", data, at)
            if tag == 1:
                needed.append(text(link, value))
    for offset, length, link in sections.get(0x6FFFFFFE, []):  # SHT_GNU_verneed
        at = offset
        while at:
            _, entries, _, first, following = struct.unpack_from("<HHIII", data, at)
            entry = at + first
            for _ in range(entries):
                _, _, _, name, step = struct.unpack_from("<IHHII", data, entry)
                versions.append(text(link, name))
                entry += step
            at = at + following if following else 0
    numbers = [tuple(map(int, each[6:].split("."))) for each in versions if re.fullmatch(r"GLIBC_[\d.]+", each)]
    return Library(64, MACHINES.get(machine, str(machine)), sorted(needed), sorted(exports), max(numbers, default=()))
