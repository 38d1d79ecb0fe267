// Finds Debian packages like a given one. `npm install sqlite-ivf`, then `node search.mjs gnuchess` (Node 22.13 or newer).

import { readFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { load, unpack } from "sqlite-ivf";

const name = process.argv[2] ?? "gnuchess";
const file = (each) => readFileSync(new URL(`../data/debian-packages.${each}`, import.meta.url));
const texts = file("txt").toString().trimEnd().split("\n");
const embeddings = file("f16");
const embedding = (i) => embeddings.subarray(768 * i, 768 * (i + 1)); // 384 numbers of 2 bytes

const db = new DatabaseSync(":memory:", { allowExtension: true });
load(db);
db.exec("CREATE VIRTUAL TABLE packages USING ivf(vec float16[384] distance_metric=cosine, +text TEXT)");
const insert = db.prepare("INSERT INTO packages(rowid, vec, text) VALUES (?, ?, ?)");
db.exec("BEGIN");
texts.forEach((text, i) => insert.run(i + 1, embedding(i), text));
db.exec("COMMIT");

const asked = texts.findIndex((text) => text.startsWith(`${name}: `));
if (asked < 0) throw new Error(`${name} is not among the ${texts.length} packages`);
const search = db.prepare("SELECT text, distance FROM packages WHERE vec MATCH ? AND k = 6 AND rowid != ? ORDER BY distance");
for (const { text, distance } of search.all(embedding(asked), asked + 1)) console.log(distance.toFixed(3), text);

// Many queries in one statement: each package's nearest other one.
const start = performance.now();
const all = db.prepare("SELECT rowids, distances FROM packages WHERE batch MATCH ? AND k = 2 AND packed = 1").all(embeddings);
const answers = unpack(all);
const near = answers.filter(({ distances }) => distances[1] < 0.2).length;
const seconds = (performance.now() - start) / 1000;
console.log(`${near} of ${texts.length} have another within 0.2: ${answers.length} searches in ${seconds.toFixed(2)} s`);
