// Checked by types.test.mjs, never run.
import { DatabaseSync } from "node:sqlite";
import BetterSqlite from "better-sqlite3";
import * as ivf from "sqlite-ivf";
import { load, pack, unpack, type Answers } from "sqlite-ivf";

const better = new BetterSqlite(":memory:");
load(better);
const node = new DatabaseSync(":memory:", { allowExtension: true });
ivf.load(node);
const path: string = ivf.getLoadablePath();
better.prepare("SELECT ?").all(ivf.serializeFloat32([1, 2]), path);
node.prepare("SELECT ?").all(ivf.serializeFloat32(new Float64Array(2)));
node.prepare("SELECT ?").all(pack([[1], new Float32Array(1)], "float16"));
const vector: Float32Array = ivf.deserializeFloat32(Buffer.alloc(4));
const answers: Answers[] = unpack(better.prepare("SELECT 1").all());
const ids: number[] = answers[0].rowids;
const big: BigInt64Array = unpack(node.prepare("SELECT 1").all(), { bigint: true })[0].rowids;
console.log(vector, ids, big);

// @ts-expect-error: no database
load({});
// @ts-expect-error: bytes are a blob
ivf.serializeFloat32(Buffer.alloc(4));
// @ts-expect-error: no such element
pack([[1]], "float64");
