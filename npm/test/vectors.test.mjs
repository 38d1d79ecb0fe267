// Blobs from vectors and back: no library is needed.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";
import * as esm from "../index.mjs";

const ivf = createRequire(import.meta.url)("../index.cjs");
const hex = (blob) => Buffer.from(blob).toString("hex");

test("an import and a require give the same functions", () => {
  assert.deepEqual(Object.keys(esm).sort(), Object.keys(ivf).sort());
  for (const name of Object.keys(ivf)) assert.equal(esm[name], ivf[name]);
});

test("float32", () => {
  assert.equal(hex(ivf.serializeFloat32([1, 0.5])), "0000803f0000003f");
  assert.equal(hex(ivf.serializeFloat32(new Float64Array([1, 0.5]))), "0000803f0000003f");
  assert.equal(hex(ivf.serializeFloat32(new Float32Array([9, 1, 0.5]).subarray(1))), "0000803f0000003f");
  assert.equal(ivf.serializeFloat32([]).length, 0);
  assert.deepEqual(ivf.deserializeFloat32(ivf.serializeFloat32([0.1, -2])), new Float32Array([0.1, -2]));
});

test("a blob is a copy", () => {
  const vector = new Float32Array([1, 2]);
  const blob = ivf.serializeFloat32(vector);
  vector[0] = 5;
  assert.equal(ivf.deserializeFloat32(blob)[0], 1);
  const back = ivf.deserializeFloat32(blob);
  back[1] = 7;
  assert.equal(ivf.deserializeFloat32(blob)[1], 2);
});

test("a blob that starts anywhere in its buffer", () => {
  const buffer = Buffer.from("ff0000803f0000003f", "hex").subarray(1);
  assert.deepEqual(ivf.deserializeFloat32(buffer), new Float32Array([1, 0.5]));
  assert.deepEqual(ivf.deserializeFloat32(Uint8Array.from(buffer).buffer), new Float32Array([1, 0.5]));
});

test("every float16 goes there and back", () => {
  const halves = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const floats = ivf.deserializeFloat16(new Uint8Array(halves.buffer));
  const again = new Uint16Array(ivf.serializeFloat16(floats).buffer);
  for (let i = 0; i < 65536; i++) {
    if (Number.isNaN(floats[i])) assert.equal(again[i] & 0x7e00, 0x7e00);
    else assert.equal(again[i], i);
  }
  assert.deepEqual(Array.from(floats.subarray(0, 2)), [0, 2 ** -24]);
  assert.equal(floats[0x7bff], 65504);
  assert.equal(floats[0xfc00], -Infinity);
});

test("float16 is rounded to nearest, ties to even", () => {
  const half = (number) => new Uint16Array(ivf.serializeFloat16([number]).buffer)[0];
  assert.equal(half(0.1), 0x2e66);
  assert.equal(half(1 + 2 ** -11), 0x3c00);
  assert.equal(half(1 + 3 * 2 ** -11), 0x3c02);
  assert.equal(half(1 + 2 ** -11 + 2 ** -40), 0x3c01);
  assert.equal(half(65519), 0x7bff);
  assert.equal(half(2 ** -25), 0);
  assert.equal(half(-1.5 * 2 ** -24), 0x8002);
  assert.equal(half(2 ** -14 - 2 ** -26), 0x0400);
  assert.throws(() => ivf.serializeFloat16([0, 65520]), new RangeError("65520 is too large for a float16"));
});

test("bfloat16", () => {
  assert.equal(hex(ivf.serializeBFloat16([1, 0.5])), "803f003f");
  assert.equal(hex(ivf.serializeBFloat16([1 + 2 ** -8, 1 + 3 * 2 ** -8])), "803f823f");
  assert.deepEqual(ivf.deserializeBFloat16(ivf.serializeBFloat16([1, -0.5, 0])), new Float32Array([1, -0.5, 0]));
});

test("int8 and bits", () => {
  assert.equal(hex(ivf.serializeInt8([1, -1])), "01ff");
  assert.deepEqual(ivf.deserializeInt8(Buffer.from("01ff", "hex")), new Int8Array([1, -1]));
  assert.throws(() => ivf.serializeInt8([0.5]), /an int8 is a whole number from -128 to 127, got 0.5/);
  assert.throws(() => ivf.serializeInt8([128]), RangeError);
  assert.equal(hex(ivf.serializeBits([1, 0, 0, 0, 0, 0, 0, 1])), "81");
  assert.deepEqual(Array.from(ivf.deserializeBits(Uint8Array.of(0x81))), [1, 0, 0, 0, 0, 0, 0, 1]);
  assert.throws(() => ivf.serializeBits([1, 0]), /bits come in eights, got 2/);
  assert.throws(() => ivf.serializeBits([2, 0, 0, 0, 0, 0, 0, 0]), /a bit is 0 or 1, got 2/);
});

test("pack", () => {
  assert.deepEqual(ivf.pack([[1, 2], [3, 4]]), ivf.serializeFloat32([1, 2, 3, 4]));
  assert.deepEqual(ivf.pack(new Set([[1, 2]]), "int8"), Uint8Array.of(1, 2));
  assert.equal(ivf.pack([]).length, 0);
  assert.throws(() => ivf.pack([[1, 2], [3]]), /different lengths: vector 1/);
  assert.throws(() => ivf.pack([[1]], "f64"), /element is one of float32, float16, bfloat16, int8, bit, got "f64"/);
  assert.throws(() => ivf.pack(new Float32Array(4)), /a batch by serializeFloat32\(\) alone/);
  assert.throws(() => ivf.pack([1, 2]), /a vector is an array of numbers, got number/);
});

test("unpack", () => {
  const rowids = new Uint8Array(BigInt64Array.of(7n, -1n).buffer);
  const distances = new Uint8Array(Float64Array.of(0.5, 1).buffer);
  const answer = [{ rowids: [7, -1], distances: Float64Array.of(0.5, 1) }];
  assert.deepEqual(ivf.unpack([{ rowids, distances }]), answer);
  assert.deepEqual(ivf.unpack([[0, rowids, distances]]), answer);
  assert.deepEqual(ivf.unpack([]), []);
  assert.throws(() => ivf.unpack([{ rowid: 1, distance: 2 }]), /packed = 1/);
});

test("what is no vector, and what is no blob", () => {
  for (const wrong of [null, undefined, 5, "[1, 2]", {}, new Map()]) assert.throws(() => ivf.serializeFloat32(wrong), TypeError);
  assert.throws(() => ivf.serializeFloat32(Buffer.alloc(8)), /got bytes: a blob is already what SQL takes/);
  assert.throws(() => ivf.serializeFloat32([1, "2"]), /element 1 of a vector is a number, got "2"/);
  assert.throws(() => ivf.serializeFloat32([1, , 2]), /element 1 of a vector is a number, got undefined/);
  assert.throws(() => ivf.serializeFloat32([1n]), /got 1n/);
  assert.throws(() => ivf.serializeFloat32(BigInt64Array.of(1n)), /got 1n/);
  assert.throws(() => ivf.serializeFloat32([1e39]), new RangeError("1e+39 is too large for a float32"));
  assert.throws(() => ivf.deserializeFloat32(Buffer.alloc(7)), /7 bytes are not whole numbers of 4 bytes/);
  assert.throws(() => ivf.deserializeFloat32("abcd"), /got string/);
  assert.throws(() => ivf.deserializeFloat32(null), /got null/);
});
