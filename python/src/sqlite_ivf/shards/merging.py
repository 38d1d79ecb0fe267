"""Merging the answers of shards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Sequence, Tuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def real(ids: NDArray[Any], distances: NDArray[Any]) -> NDArray[np.bool_]:
    """Which answers are rows: lines with fewer than others end with id -1 and an infinite distance."""
    return (ids != -1) | np.isfinite(distances)  # type: ignore[no-any-return]


def stacked(answers: Sequence[Tuple[NDArray[Any], NDArray[Any]]]) -> Tuple[NDArray[Any], NDArray[Any]]:
    """The ids and distances of several batches of queries, one below the other."""
    if len(answers) == 1:
        return answers[0]
    width = max(ids.shape[1] for ids, _ in answers)
    ids, distances = zip(*(widened(*each, width) for each in answers))
    return np.concatenate(ids), np.concatenate(distances)


def widened(ids: NDArray[Any], distances: NDArray[Any], width: int) -> Tuple[NDArray[Any], NDArray[Any]]:
    """Lines of at least so many answers, those that there are not in the form of `real`."""
    if ids.shape[1] >= width:
        return ids, distances
    missing = ((0, 0), (0, width - ids.shape[1]))
    return np.pad(ids, missing, constant_values=-1), np.pad(distances, missing, constant_values=np.inf)


def _sorted(ids: NDArray[Any], distances: NDArray[Any]) -> Tuple[NDArray[Any], NDArray[Any]]:
    order = np.lexsort((ids, distances), axis=1)
    return np.take_along_axis(ids, order, 1), np.take_along_axis(distances, order, 1)


def merged(
    found: Sequence[Tuple[Any, Any]], k: Optional[int], moving: bool
) -> Optional[Tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """The nearest of all answers, by distance and id.

    While rows move, a row may be in the answers of two shards: once is enough. If it is there with two distances it was replaced
    between the two answers, and then neither of them is complete without the other: None.
    """
    ids, distances = _sorted(*(np.concatenate(arrays, axis=1) for arrays in zip(*found)))
    if moving:
        by_id = np.argsort(ids, axis=1, kind="stable")  # of those with one id the nearest first
        sorted_ids, sorted_distances = np.take_along_axis(ids, by_id, 1), np.take_along_axis(distances, by_id, 1)
        again = (sorted_ids[:, 1:] == sorted_ids[:, :-1]) & real(sorted_ids, sorted_distances)[:, 1:]
        if (again & (sorted_distances[:, 1:] != sorted_distances[:, :-1])).any():
            return None
        if again.any():
            line, place = np.nonzero(again)
            at = by_id[line, place + 1]
            ids[line, at], distances[line, at] = -1, np.inf
            ids, distances = _sorted(ids, distances)
    width = k if k is not None else int(real(ids, distances).sum(axis=1).max(initial=0))
    return ids[:, :width], distances[:, :width]
