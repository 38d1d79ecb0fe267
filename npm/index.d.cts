/** A database that can load extensions: of better-sqlite3, node:sqlite, bun:sqlite, and others. */
export interface Database {
  loadExtension(file: string, entryPoint?: string): unknown;
}

/**
 * Loads the extension into a database.
 *
 * A database of node:sqlite must have been opened with `new DatabaseSync(file, { allowExtension: true })`. On macOS,
 * `Database.setCustomSQLite(path)` of bun:sqlite must come first.
 *
 * @throws TypeError if `db` has no `loadExtension`.
 * @throws Error that says what to do if there is no library for this machine, or the database may not load extensions.
 */
export function load(db: Database): void;

/**
 * The path of the library, for hosts that want the path. The environment variable `SQLITE_IVF_LIBRARY` names another one.
 *
 * @throws Error that says what to do if there is no library for this machine.
 */
export function getLoadablePath(): string;

/** Numbers: an array, or any typed array but one of bytes, which is taken for a blob. */
export type Vector =
  | readonly number[]
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8ClampedArray
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array;

/** What the hosts give for a blob. */
export type Blob = Uint8Array | ArrayBuffer;

/** What a column's elements may be. */
export type Element = "float32" | "float16" | "bfloat16" | "int8" | "bit";

/** A vector as the blob of a `float[N]` column. */
export function serializeFloat32(vector: Vector): Uint8Array;
/** A vector as the blob of a `float16[N]` column; numbers are rounded to nearest. */
export function serializeFloat16(vector: Vector): Uint8Array;
/** A vector as the blob of a `bfloat16[N]` column; numbers are rounded to nearest. */
export function serializeBFloat16(vector: Vector): Uint8Array;
/** Whole numbers from -128 to 127 as the blob of an `int8[N]` column. */
export function serializeInt8(vector: Vector): Uint8Array;
/** Zeros and ones as the blob of a `bit[N]` column, the lowest bit of a byte first. */
export function serializeBits(vector: Vector): Uint8Array;

/** The numbers of a `float[N]` column's blob. */
export function deserializeFloat32(blob: Blob): Float32Array;
/** The numbers of a `float16[N]` column's blob. */
export function deserializeFloat16(blob: Blob): Float32Array;
/** The numbers of a `bfloat16[N]` column's blob. */
export function deserializeBFloat16(blob: Blob): Float32Array;
/** The numbers of an `int8[N]` column's blob. */
export function deserializeInt8(blob: Blob): Int8Array;
/** The bits of a `bit[N]` column's blob: a 0 or a 1 each. */
export function deserializeBits(blob: Blob): Uint8Array;

/**
 * Vectors of one length as the blob that `batch MATCH ?` takes, in the width of the column's elements.
 *
 * @throws RangeError if they are of different lengths.
 */
export function pack(vectors: Iterable<Vector>, element?: Element): Uint8Array;

/** The answers of one query, nearest first. */
export interface Answers<Rowids = number[]> {
  rowids: Rowids;
  distances: Float64Array;
}

/**
 * The rows of `SELECT rowids, distances FROM ... WHERE batch MATCH ? AND k = ? AND packed = 1`, as objects or as arrays that
 * end with these two: the answers of each query.
 *
 * @throws RangeError if a rowid is beyond what a number holds; `{ bigint: true }` gives BigInts.
 */
export function unpack(rows: Iterable<unknown>, options: { bigint: true }): Answers<BigInt64Array>[];
export function unpack(rows: Iterable<unknown>, options?: { bigint?: false }): Answers[];
