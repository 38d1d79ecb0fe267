"use strict";
// Vectors as the blobs that a column keeps: little-endian elements, one after the other; bits with the lowest of a byte first.

const float64 = new DataView(new ArrayBuffer(8));

/** The numbers of a vector, or an error that says what was given instead. */
function numbers(vector) {
  const isView = ArrayBuffer.isView(vector);
  if (vector instanceof ArrayBuffer || vector instanceof Uint8Array || vector instanceof DataView) {
    throw new TypeError("a vector is an array of numbers, got bytes: a blob is already what SQL takes");
  }
  if (vector === null || typeof vector !== "object" || typeof vector.length !== "number") {
    throw new TypeError(`a vector is an array of numbers, got ${vector === null ? "null" : typeof vector}`);
  }
  if (!isView || typeof vector[0] === "bigint") {
    for (let i = 0; i < vector.length; i++) {
      if (typeof vector[i] !== "number") throw new TypeError(`element ${i} of a vector is a number, got ${describe(vector[i])}`);
    }
  }
  return vector;
}

function describe(value) {
  if (typeof value === "string") return JSON.stringify(value);
  return typeof value === "bigint" ? `${value}n` : Object.prototype.toString.call(value).slice(8, -1).toLowerCase();
}

const bytes = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
const littleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** The bytes in the other order, where the machine is big-endian. */
function ordered(blob, width) {
  if (!littleEndian) for (let i = 0; i < blob.length; i += width) blob.subarray(i, i + width).reverse();
  return blob;
}

function rounded(vector) {
  const given = numbers(vector);
  const floats = Float32Array.from(given);
  if (!(given instanceof Float32Array)) {
    for (let i = 0; i < floats.length; i++) {
      if (!Number.isFinite(floats[i]) && Number.isFinite(given[i])) throw new RangeError(`${given[i]} is too large for a float32`);
    }
  }
  return floats;
}

/** To nearest, ties to even. */
function whole(number) {
  const floor = Math.floor(number);
  const rest = number - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

function toHalf(number) {
  const sign = number < 0 || Object.is(number, -0) ? 0x8000 : 0;
  const size = Math.abs(number);
  if (Number.isNaN(number)) return 0x7e00;
  if (size === Infinity) return sign | 0x7c00;
  if (size >= 65520) throw new RangeError(`${number} is too large for a float16`);
  if (size < 2 ** -14) return sign | whole(size * 2 ** 24);
  float64.setFloat64(0, size);
  const exponent = (float64.getUint16(0) >> 4) - 1023;
  return sign | (((exponent + 15) << 10) + whole((size / 2 ** exponent - 1) * 1024));
}

function fromHalf(half) {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}

function serializeFloat32(vector) {
  return ordered(bytes(rounded(vector)), 4);
}

function serializeFloat16(vector) {
  return ordered(bytes(Uint16Array.from(numbers(vector), toHalf)), 2);
}

function serializeBFloat16(vector) {
  const bits = new Uint32Array(rounded(vector).buffer);
  return ordered(bytes(Uint16Array.from(bits, (each) => (each + 0x7fff + ((each >>> 16) & 1)) >>> 16)), 2);
}

function serializeInt8(vector) {
  const given = numbers(vector);
  return bytes(
    Int8Array.from(given, (each) => {
      if (Number.isInteger(each) && each >= -128 && each <= 127) return each;
      throw new RangeError(`an int8 is a whole number from -128 to 127, got ${each}`);
    }),
  );
}

function serializeBits(vector) {
  const given = numbers(vector);
  if (given.length % 8) throw new RangeError(`bits come in eights, got ${given.length}`);
  const blob = new Uint8Array(given.length / 8);
  for (let i = 0; i < given.length; i++) {
    if (given[i] !== 0 && given[i] !== 1) throw new RangeError(`a bit is 0 or 1, got ${given[i]}`);
    blob[i >> 3] |= given[i] << (i & 7);
  }
  return blob;
}

/** A copy of a blob, of whole elements, that starts where its buffer does. */
function copied(blob, width) {
  const view = blob instanceof ArrayBuffer ? new Uint8Array(blob) : blob;
  if (!ArrayBuffer.isView(view)) {
    throw new TypeError(`a blob is a Buffer, a Uint8Array or an ArrayBuffer, got ${view === null ? "null" : typeof view}`);
  }
  if (view.byteLength % width) throw new RangeError(`${view.byteLength} bytes are not whole numbers of ${width} bytes`);
  return ordered(Uint8Array.from(bytes(view)), width).buffer;
}

function deserializeFloat32(blob) {
  return new Float32Array(copied(blob, 4));
}

function deserializeFloat16(blob) {
  return Float32Array.from(new Uint16Array(copied(blob, 2)), fromHalf);
}

function deserializeBFloat16(blob) {
  const halves = new Uint16Array(copied(blob, 2));
  return new Float32Array(Uint32Array.from(halves, (half) => half << 16).buffer);
}

function deserializeInt8(blob) {
  return new Int8Array(copied(blob, 1));
}

function deserializeBits(blob) {
  const given = new Uint8Array(copied(blob, 1));
  return Uint8Array.from({ length: given.length * 8 }, (_, i) => (given[i >> 3] >> (i & 7)) & 1);
}

const SERIALIZE = {
  float32: serializeFloat32,
  float16: serializeFloat16,
  bfloat16: serializeBFloat16,
  int8: serializeInt8,
  bit: serializeBits,
};

/** Vectors of one length as the blob that `batch MATCH ?` takes. */
function pack(vectors, element = "float32") {
  if (!Object.hasOwn(SERIALIZE, element)) {
    throw new RangeError(`element is one of ${Object.keys(SERIALIZE).join(", ")}, got ${describe(element)}`);
  }
  if (typeof vectors?.[Symbol.iterator] !== "function" || typeof vectors === "string" || ArrayBuffer.isView(vectors)) {
    throw new TypeError("pack() takes an array of vectors; one array of all their numbers is a batch by serializeFloat32() alone");
  }
  const blobs = Array.from(vectors, SERIALIZE[element]);
  const size = blobs.length ? blobs[0].length : 0;
  const all = new Uint8Array(size * blobs.length);
  blobs.forEach((blob, i) => {
    if (blob.length !== size) throw new RangeError(`the vectors are of different lengths: vector ${i} is not as long as the first`);
    all.set(blob, i * size);
  });
  return all;
}

/** The rows of a search with `packed = 1`: for each query its rowids and distances, nearest first. */
function unpack(rows, { bigint = false } = {}) {
  return Array.from(rows, (row) => {
    const [rowids, distances] = Array.isArray(row) ? row.slice(-2) : [row?.rowids, row?.distances];
    if (!ArrayBuffer.isView(rowids) || !ArrayBuffer.isView(distances)) {
      throw new TypeError("unpack() takes the rows of SELECT rowids, distances FROM ... AND packed = 1");
    }
    const ids = new BigInt64Array(copied(rowids, 8));
    return { rowids: bigint ? ids : Array.from(ids, safe), distances: new Float64Array(copied(distances, 8)) };
  });
}

function safe(rowid) {
  const number = Number(rowid);
  if (Number.isSafeInteger(number)) return number;
  throw new RangeError(`rowid ${rowid} does not fit a number: unpack(rows, { bigint: true }) gives BigInts`);
}

module.exports = {
  deserializeBFloat16,
  deserializeBits,
  deserializeFloat16,
  deserializeFloat32,
  deserializeInt8,
  pack,
  serializeBFloat16,
  serializeBits,
  serializeFloat16,
  serializeFloat32,
  serializeInt8,
  unpack,
};
