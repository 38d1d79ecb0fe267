"""Vectors as the blobs that SQL takes and gives.

A vector may be a list of numbers, an `array.array` or another buffer, a NumPy array of any type and layout, a torch tensor, or
whatever else has `__array__` or `__dlpack__`. Lists and buffers work without NumPy.
"""

from __future__ import annotations

import struct
import sys
from array import array
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Iterable, Optional, Sequence, Tuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "ELEMENTS",
    "deserialize_bfloat16",
    "deserialize_bits",
    "deserialize_float16",
    "deserialize_float32",
    "deserialize_int8",
    "pack",
    "serialize_bfloat16",
    "serialize_bits",
    "serialize_float16",
    "serialize_float32",
    "serialize_int8",
    "unpack",
]

#: What a column's elements may be, and the bits of one.
ELEMENTS = {"float32": 32, "float16": 16, "bfloat16": 16, "int8": 8, "bit": 1}


def numpy(why: str) -> Any:
    """The module NumPy, or an error that says who needs it.

    >>> numpy("unpack").__name__
    'numpy'
    """
    try:
        import numpy
    except ImportError:
        raise ImportError(f"{why} needs NumPy: pip install 'sqlite-ivf[numpy]'") from None
    return numpy


def element_bits(element: str) -> int:
    """How many bits an element has.

    >>> element_bits("float16")
    16
    """
    try:
        return ELEMENTS[element]
    except KeyError:
        raise ValueError(f"element is one of {', '.join(ELEMENTS)}, got {element!r}") from None


def is_torch(vectors: object) -> bool:
    """Whether it is a torch tensor, without importing torch."""
    return type(vectors).__module__.split(".")[0] == "torch"


def as_array(vectors: Any) -> NDArray[Any]:
    """What was given as a NumPy array of numbers, copied only if it must be.

    >>> as_array([[1, 2], [3, 4]]).shape
    (2, 2)
    """
    np = numpy("a matrix of vectors")
    if isinstance(vectors, (bytes, bytearray, str)):
        raise TypeError(f"vectors are numbers, got {type(vectors).__name__}: bytes are already what SQL takes")
    if is_torch(vectors):
        vectors = vectors.detach().cpu()
        if str(vectors.dtype) == "torch.bfloat16":
            vectors = vectors.float()
    elif hasattr(vectors, "__dlpack__") and not hasattr(vectors, "__array__"):
        vectors = np.from_dlpack(vectors)
    try:
        result = np.asarray(vectors)
    except ValueError:
        raise ValueError("the vectors are of different lengths") from None
    if result.dtype.kind not in "fiub":
        raise TypeError(f"elements of a vector are real numbers, got dtype {result.dtype}")
    return result  # type: ignore[no-any-return]


def encode(vectors: NDArray[Any], element: str) -> NDArray[Any]:
    """The vectors, along the last axis, in the bytes of a column of such elements.

    >>> encode(as_array([[1, 0, 0, 0, 0, 0, 0, 1]]), "bit")
    array([[129]], dtype=uint8)
    """
    np = numpy("a matrix of vectors")
    element_bits(element)
    if element == "float32":
        return np.ascontiguousarray(vectors, "<f4")  # type: ignore[no-any-return]
    if element == "float16":
        with np.errstate(over="ignore"):
            halves = np.ascontiguousarray(vectors, "<f2")
        if (lost := np.isinf(halves) & np.isfinite(vectors)).any():
            raise ValueError(f"{vectors[lost][0]:g} is too large for a float16")
        return halves  # type: ignore[no-any-return]
    if element == "bfloat16":
        bits = np.ascontiguousarray(vectors, "<f4").view("<u4")
        # To nearest, ties to even.
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")  # type: ignore[no-any-return]
    if element == "int8":
        with np.errstate(invalid="ignore"):
            whole = np.ascontiguousarray(vectors).astype("i1")
        if (lost := whole != vectors).any():
            raise ValueError(f"an int8 is a whole number from -128 to 127, got {vectors[lost][0]}")
        return whole  # type: ignore[no-any-return]
    if (other := (vectors != 0) & (vectors != 1)).any():
        raise ValueError(f"a bit is 0 or 1, got {vectors[other][0]}")
    if vectors.shape[-1] % 8:
        raise ValueError(f"bits come in eights, got {vectors.shape[-1]}")
    return np.packbits(vectors.astype(bool), axis=-1, bitorder="little")  # type: ignore[no-any-return]


def _serialize(vector: Any, element: str) -> bytes:
    element_bits(element)
    if isinstance(vector, (bytes, bytearray, str)):
        raise TypeError(f"a vector is a sequence of numbers, got {type(vector).__name__}")
    is_array = hasattr(vector, "__array__") or hasattr(vector, "__dlpack__")
    if is_array and (find_spec("numpy") or not hasattr(vector, "tolist")):
        matrix = as_array(vector)
        if matrix.ndim != 1:
            raise ValueError(f"one vector is expected, got an array of shape {matrix.shape}: pack() takes several")
        return encode(matrix, element).tobytes()
    numbers = vector.tolist() if hasattr(vector, "tolist") else list(vector)
    if element == "float32":
        return _struct("f", numbers, "a float32")
    if element == "float16":
        return _struct("e", numbers, "a float16")
    if element == "bfloat16":
        bits = struct.unpack(f"<{len(numbers)}I", _struct("f", numbers, "a bfloat16"))
        return struct.pack(f"<{len(numbers)}H", *((b + 0x7FFF + (b >> 16 & 1)) >> 16 for b in bits))
    if element == "int8":
        for number in numbers:
            if int(number) != number or not -128 <= number <= 127:
                raise ValueError(f"an int8 is a whole number from -128 to 127, got {number}")
        return _struct("b", [int(number) for number in numbers], "an int8")
    for number in numbers:
        if number not in (0, 1):
            raise ValueError(f"a bit is 0 or 1, got {number}")
    if len(numbers) % 8:
        raise ValueError(f"bits come in eights, got {len(numbers)}")
    return bytes(sum(int(bit) << place for place, bit in enumerate(numbers[i : i + 8])) for i in range(0, len(numbers), 8))


def _struct(code: str, numbers: Sequence[float], what: str) -> bytes:
    try:
        return struct.pack(f"<{len(numbers)}{code}", *numbers)
    except OverflowError:
        largest = max(numbers, key=abs)
        raise ValueError(f"{largest:g} is too large for {what}") from None
    except struct.error:
        other = next((number for number in numbers if not isinstance(number, (int, float))), None)
        raise TypeError(f"elements of a vector are real numbers, got {other!r}") from None


def serialize_float32(vector: Any) -> bytes:
    """A vector as the blob of a `float[N]` column.

    >>> serialize_float32([1, 0.5]).hex()
    '0000803f0000003f'
    >>> import numpy as np
    >>> serialize_float32(np.array([1, 0, 0.5], np.float64)[::2]) == serialize_float32([1, 0.5])
    True
    """
    return _serialize(vector, "float32")


def serialize_float16(vector: Any) -> bytes:
    """A vector as the blob of a `float16[N]` column; numbers are rounded to nearest.

    >>> serialize_float16([1, 0.5]).hex()
    '003c0038'
    """
    return _serialize(vector, "float16")


def serialize_bfloat16(vector: Any) -> bytes:
    """A vector as the blob of a `bfloat16[N]` column; numbers are rounded to nearest.

    >>> serialize_bfloat16([1, 0.5]).hex()
    '803f003f'
    """
    return _serialize(vector, "bfloat16")


def serialize_int8(vector: Any) -> bytes:
    """Whole numbers from -128 to 127 as the blob of an `int8[N]` column.

    >>> serialize_int8([1, -1]).hex()
    '01ff'
    """
    return _serialize(vector, "int8")


def serialize_bits(vector: Any) -> bytes:
    """Zeros and ones as the blob of a `bit[N]` column, the lowest bit of a byte first.

    >>> serialize_bits([1, 0, 0, 0, 0, 0, 0, 1]).hex()
    '81'
    """
    return _serialize(vector, "bit")


def _deserialize(blob: bytes, code: str) -> array[Any]:
    blob = bytes(blob)
    size = struct.calcsize(code)
    if len(blob) % size:
        raise ValueError(f"{len(blob)} bytes are not whole numbers of {size} bytes")
    numbers = array(code, blob)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def deserialize_float32(blob: bytes) -> array[float]:
    """The numbers of a `float[N]` column's blob: an array, which `list` and NumPy take.

    >>> deserialize_float32(bytes.fromhex("0000803f0000003f"))
    array('f', [1.0, 0.5])
    """
    return _deserialize(blob, "f")


def deserialize_float16(blob: bytes) -> array[float]:
    """The numbers of a `float16[N]` column's blob.

    >>> deserialize_float16(bytes.fromhex("003c0038"))
    array('f', [1.0, 0.5])
    """
    if len(blob) % 2:
        raise ValueError(f"{len(blob)} bytes are not whole numbers of 2 bytes")
    return array("f", struct.unpack(f"<{len(blob) // 2}e", blob))


def deserialize_bfloat16(blob: bytes) -> array[float]:
    """The numbers of a `bfloat16[N]` column's blob.

    >>> deserialize_bfloat16(bytes.fromhex("803f003f"))
    array('f', [1.0, 0.5])
    """
    halves = _deserialize(blob, "H")
    return _deserialize(struct.pack(f"<{len(halves)}I", *(half << 16 for half in halves)), "f")


def deserialize_int8(blob: bytes) -> array[int]:
    """The numbers of an `int8[N]` column's blob.

    >>> deserialize_int8(bytes.fromhex("01ff"))
    array('b', [1, -1])
    """
    return _deserialize(blob, "b")


def deserialize_bits(blob: bytes) -> array[int]:
    """The bits of a `bit[N]` column's blob, as numbers.

    >>> deserialize_bits(bytes.fromhex("81"))
    array('b', [1, 0, 0, 0, 0, 0, 0, 1])
    """
    return array("b", (byte >> place & 1 for byte in bytes(blob) for place in range(8)))


def decode(blobs: Sequence[bytes], element: str) -> NDArray[Any]:
    """Blobs of one column as a matrix: of float32, or of int8 where the column is of int8 or bits.

    >>> decode([bytes.fromhex("003c0038")], "float16")
    array([[1. , 0.5]], dtype=float32)
    """
    np = numpy("a matrix of vectors")
    types = {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2", "int8": "i1", "bit": "u1"}
    rows = np.frombuffer(bytearray().join(blobs), types[element]).reshape(len(blobs), -1 if blobs else 0)
    if element == "bfloat16":
        return (rows.astype("<u4") << 16).view("<f4")  # type: ignore[no-any-return]
    if element == "float16":
        return rows.astype(np.float32)  # type: ignore[no-any-return]
    if element == "bit":
        return np.unpackbits(rows, axis=-1, bitorder="little").astype(np.int8)  # type: ignore[no-any-return]
    return rows  # type: ignore[no-any-return]


def pack(vectors: Any, element: str = "float32") -> bytes:
    """Vectors of one length as the blob that `batch MATCH` takes, in the width of the column's elements.

    >>> pack([[1, 2], [3, 4]]) == serialize_float32([1, 2, 3, 4])
    True
    >>> pack([[1, 2], [3]])
    Traceback (most recent call last):
    ValueError: the vectors are of different lengths
    """
    if isinstance(vectors, (list, tuple)):
        blobs = [_serialize(vector, element) for vector in vectors]
        if len({len(blob) for blob in blobs}) > 1:
            raise ValueError("the vectors are of different lengths")
        return b"".join(blobs)
    matrix = as_array(vectors)
    if matrix.ndim != 2:
        raise ValueError(f"a matrix of vectors is expected, got an array of shape {matrix.shape}")
    return encode(matrix, element).tobytes()


def unpack(rows: Iterable[Sequence[Any]], k: Optional[int] = None) -> Tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The answers of a search with `packed = 1` as two matrices: rowids and distances, a line for each query.

    `rows` are those of `SELECT rowids, distances FROM ...`. Where a query has fewer answers than `k`, or than the query with
    the most if `k` is not given, its line ends with rowid -1 and an infinite distance.

    >>> import sqlite_ivf
    >>> db = sqlite_ivf.connect()
    >>> _ = db.execute("CREATE VIRTUAL TABLE items USING ivf(vec float[2])")
    >>> _ = db.execute("INSERT INTO items(rowid, vec) VALUES (1, '[1, 0]'), (2, '[0, 2]')")
    >>> rows = db.execute("SELECT rowids, distances FROM items WHERE batch MATCH ? AND k = 3 AND packed = 1",
    ...                   (pack([[1, 0], [0, 2]]),))
    >>> rowids, distances = unpack(rows, 3)
    >>> rowids
    array([[ 1,  2, -1],
           [ 2,  1, -1]])
    """
    np = numpy("unpack")
    pairs = [(row[-2], row[-1]) for row in rows]
    lengths = [len(rowids) // 8 for rowids, _ in pairs]
    width = max(lengths, default=0) if k is None else k
    if all(length == width for length in lengths):
        shape = len(pairs), width
        rowids = np.frombuffer(bytearray().join([rowids for rowids, _ in pairs]), "<i8").reshape(shape)
        return rowids, np.frombuffer(bytearray().join([distances for _, distances in pairs]), "<f8").reshape(shape)
    all_rowids = np.full((len(pairs), width), -1, np.int64)
    all_distances = np.full((len(pairs), width), np.inf)
    for line, (rowids, distances) in enumerate(pairs):
        found = min(lengths[line], width)
        all_rowids[line, :found] = np.frombuffer(rowids, "<i8", found)
        all_distances[line, :found] = np.frombuffer(distances, "<f8", found)
    return all_rowids, all_distances
