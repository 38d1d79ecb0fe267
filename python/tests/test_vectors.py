from __future__ import annotations

import struct
import subprocess
import sys
from array import array
from typing import Any, Callable

import numpy as np
import pytest

import sqlite_ivf
from conftest import needs
from sqlite_ivf import vectors

NUMBERS = [1.0, -0.5, 0.1, 3.0, 0.0, 2.0, -7.0, 100.0]


@pytest.mark.parametrize(
    "given",
    [
        NUMBERS,
        tuple(NUMBERS),
        iter(NUMBERS),
        array("d", NUMBERS),
        array("f", NUMBERS),
        memoryview(array("d", NUMBERS)),
        np.array(NUMBERS),
        np.array(NUMBERS, np.float32),
        np.array(NUMBERS, ">f8"),
        np.repeat(np.array(NUMBERS), 2)[::2],
        np.array(NUMBERS)[::-1][::-1],
        np.array([NUMBERS, NUMBERS], order="F")[1],
    ],
    ids=lambda given: f"{type(given).__name__}-{getattr(given, 'dtype', '')}",
)
def test_every_kind_of_vector_becomes_the_same_floats(given: Any) -> None:
    assert sqlite_ivf.serialize_float32(given) == struct.pack("<8f", *NUMBERS)


@pytest.mark.parametrize(
    ("serialize", "deserialize", "numbers"),
    [
        (sqlite_ivf.serialize_float32, sqlite_ivf.deserialize_float32, [1, -0.5, 2.0**127, 0, 1, 2, 3, 4]),
        (sqlite_ivf.serialize_float16, sqlite_ivf.deserialize_float16, [1, -0.5, 65504, 0, 1, 2, 3, 4]),
        (sqlite_ivf.serialize_bfloat16, sqlite_ivf.deserialize_bfloat16, [1, -0.5, 2.0**120, 0, 1, 2, 3, 4]),
        (sqlite_ivf.serialize_int8, sqlite_ivf.deserialize_int8, [1, -128, 127, 0, 1, 2, 3, 4]),
        (sqlite_ivf.serialize_bits, sqlite_ivf.deserialize_bits, [1, 0, 1, 1, 0, 0, 0, 0]),
    ],
)
def test_what_is_serialized_comes_back(serialize: Callable[..., bytes], deserialize: Callable[..., Any], numbers: Any) -> None:
    for given in (numbers, np.array(numbers, np.float64)):
        assert list(deserialize(serialize(given))) == numbers
    assert list(deserialize(b"")) == []


def test_lists_and_arrays_are_rounded_alike() -> None:
    numbers = np.random.default_rng(0).standard_normal(800).astype(np.float32) * 100
    for element in ("float32", "float16", "bfloat16"):
        assert vectors._serialize(numbers.tolist(), element) == vectors._serialize(numbers, element)
    bits = np.random.default_rng(0).integers(0, 2, 800)
    assert sqlite_ivf.serialize_bits(bits.tolist()) == sqlite_ivf.serialize_bits(bits)


@pytest.mark.parametrize("kind", [list, np.array])
@pytest.mark.parametrize(
    ("serialize", "numbers", "words"),
    [
        (sqlite_ivf.serialize_float16, [1, 70000.0], "70000 is too large for a float16"),
        (sqlite_ivf.serialize_int8, [1, 128], "from -128 to 127, got 128"),
        (sqlite_ivf.serialize_int8, [0.5, 1], "whole number from -128 to 127, got 0.5"),
        (sqlite_ivf.serialize_bits, [0, 2] * 4, "a bit is 0 or 1, got 2"),
        (sqlite_ivf.serialize_bits, [0, 1], "bits come in eights, got 2"),
    ],
)
def test_a_number_that_does_not_fit_is_named(kind: Any, serialize: Callable[..., bytes], numbers: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        serialize(kind(numbers))


def test_what_is_no_vector_is_an_error() -> None:
    for wrong, words in [
        (b"\0\0\0\0", "got bytes"),
        ("[1, 2]", "got str"),
        ([1, "x"], "got 'x'"),
        (np.array([1j]), "got dtype complex128"),
        (np.array(["x"]), "got dtype"),
    ]:
        with pytest.raises(TypeError, match=words):
            sqlite_ivf.serialize_float32(wrong)
    with pytest.raises(ValueError, match=r"shape \(2, 2\): pack"):
        sqlite_ivf.serialize_float32(np.eye(2))
    with pytest.raises(ValueError, match="3 bytes are not whole numbers of 4 bytes"):
        sqlite_ivf.deserialize_float32(b"abc")


def test_a_batch_is_the_same_from_lists_and_matrices() -> None:
    matrix = np.arange(6, dtype=np.float64).reshape(2, 3)
    expected = struct.pack("<6f", *range(6))
    for given in (matrix, matrix.tolist(), list(matrix), np.asfortranarray(matrix), matrix.astype(np.int32)):
        assert sqlite_ivf.pack(given) == expected
    with pytest.raises(ValueError, match="different lengths"):
        sqlite_ivf.pack([[1, 2], [3]])
    with pytest.raises(ValueError, match="element is one of float32"):
        sqlite_ivf.pack([[1.0]], "float64")


def test_answers_of_different_lengths_are_filled_up() -> None:
    rows = [(struct.pack("<2q", 5, 6), struct.pack("<2d", 0.5, 1)), (b"", b"")]
    ids, distances = sqlite_ivf.unpack(rows)
    assert ids.tolist() == [[5, 6], [-1, -1]] and distances.tolist() == [[0.5, 1], [np.inf, np.inf]]
    assert sqlite_ivf.unpack(rows, 3)[0].tolist() == [[5, 6, -1], [-1, -1, -1]]
    assert sqlite_ivf.unpack([], 3)[0].shape == (0, 3)
    assert sqlite_ivf.unpack([(0, *rows[0])])[0].tolist() == [[5, 6]]


def test_torch_tensors_are_vectors() -> None:
    torch = needs("torch")
    for tensor in (torch.tensor(NUMBERS), torch.tensor(NUMBERS, dtype=torch.float64, requires_grad=True)):
        assert sqlite_ivf.serialize_float32(tensor) == struct.pack("<8f", *NUMBERS)
    halves = torch.tensor(NUMBERS).bfloat16()
    assert sqlite_ivf.serialize_bfloat16(halves) == vectors._serialize(halves.float().tolist(), "bfloat16")


def test_arrays_of_dlpack_alone_are_vectors() -> None:
    class Capsule:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __dlpack__(self, **options: Any) -> Any:
            return self.inner.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return self.inner.__dlpack_device__()

    assert sqlite_ivf.serialize_float32(Capsule(np.array(NUMBERS))) == struct.pack("<8f", *NUMBERS)


def test_without_numpy_lists_and_buffers_work_and_matrices_say_what_is_missing() -> None:
    program = """
import sys
sys.modules["numpy"] = None
import sqlite_ivf
from array import array
assert sqlite_ivf.serialize_float32(array("d", [1, 2])) == sqlite_ivf.pack([[1], [2]])
assert list(sqlite_ivf.deserialize_float16(sqlite_ivf.serialize_float16([1, 2]))) == [1, 2]
db = sqlite_ivf.connect()
table = sqlite_ivf.Table.create(db, "t", 2)
print(len(table))
try:
    table.search([1, 2])
except ImportError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "0\nTable.search needs NumPy: pip install 'sqlite-ivf[numpy]'\n", run.stderr
