"""Ids of rows: their range, and which shard has which."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Sequence

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The smallest and the largest one.
FIRST, LAST = -(2**63), 2**63 - 1


def _mix(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of splitmix64: part of the format, it must never change."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))  # type: ignore[no-any-return]


def placement(ids: Any, names: Sequence[str]) -> NDArray[np.int64]:
    """Which of the shards, by their index, has each row: the one with the largest hash of row and name (rendezvous hashing). One
    more name takes its rows evenly from all others, and moves no other row.

    >>> placement([1, 2, 3, 4, 5, 6], ["0", "1", "2"]).tolist()
    [0, 2, 2, 1, 2, 1]
    >>> placement([1, 2, 3, 4, 5, 6], ["0", "1", "2", "3"]).tolist()
    [0, 2, 2, 1, 2, 1]
    """
    rows = _mix(np.asarray(ids).astype(np.int64, casting="safe").view(np.uint64))
    best, owner = np.zeros(len(rows), np.uint64), np.zeros(len(rows), np.int64)
    for index, name in enumerate(names):
        key = np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))
        weight = _mix(rows ^ key)
        larger = weight > best
        best[larger], owner[larger] = weight[larger], index
    return owner
