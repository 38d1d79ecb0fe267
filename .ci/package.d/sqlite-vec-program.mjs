// A program for the npm package sqlite-vec, as its users write them. It runs on that package and on ours under its name, and
// prints the same.

import Database from "better-sqlite3";
import { createRequire } from "node:module";
import * as sqliteVec from "sqlite-vec";

const db = new Database(":memory:");
sqliteVec.load(db);
console.log("version", /^v\d/.test(db.prepare("SELECT vec_version() AS v").get().v));
console.log("path", /\.(so|dylib|dll)$/.test(sqliteVec.getLoadablePath()));
console.log("require", typeof createRequire(import.meta.url)("sqlite-vec").load);

const items = [
  [1, [0.1, 0.1, 0.1, 0.1]],
  [2, [0.2, 0.2, 0.2, 0.2]],
  [3, [0.3, 0.3, 0.3, 0.3]],
  [4, [0.4, 0.4, 0.4, 0.4]],
  [5, [0.5, 0.5, 0.5, 0.5]],
];
db.exec("CREATE VIRTUAL TABLE vec_items USING vec0(embedding float[4])");
const insertStmt = db.prepare("INSERT INTO vec_items(rowid, embedding) VALUES (?, ?)");
const insertVectors = db.transaction((items) => {
  for (const [id, vector] of items) insertStmt.run(BigInt(id), new Float32Array(vector));
});
insertVectors(items);
console.log(
  db
    .prepare("SELECT rowid, distance FROM vec_items WHERE embedding MATCH ? ORDER BY distance LIMIT 3")
    .all(new Float32Array([0.3, 0.3, 0.3, 0.3]))
    .map(({ rowid, distance }) => `${rowid} ${distance.toFixed(4)}`),
);

db.exec(`CREATE VIRTUAL TABLE vec_docs USING vec0(doc_id INTEGER PRIMARY KEY, user_id INTEGER PARTITION KEY,
  embedding float[2] distance_metric=cosine, genre TEXT, +contents TEXT)`);
const doc = db.prepare("INSERT INTO vec_docs(doc_id, user_id, embedding, genre, contents) VALUES (?, ?, ?, ?, ?)");
for (let i = 1; i <= 40; i++) {
  const vector = new Float32Array([Math.cos(i), Math.sin(i)]);
  doc.run(BigInt(i), BigInt(i % 3), Buffer.from(vector.buffer), i % 2 ? "a" : "b", `doc ${i}`);
}
console.log(
  db
    .prepare("SELECT doc_id, contents FROM vec_docs WHERE embedding MATCH ? AND k = ? AND user_id = 1 AND genre = 'a'")
    .all(new Float32Array([1, 0]), 3n),
);
db.prepare("UPDATE vec_docs SET embedding = ? WHERE doc_id = 5").run(JSON.stringify([1, 0]));
db.prepare("DELETE FROM vec_docs WHERE doc_id = ?").run(7n);
console.log(db.prepare("SELECT count(*) AS n, vec_length(embedding) AS dim FROM vec_docs").get());
console.log(db.prepare("SELECT doc_id FROM vec_docs WHERE embedding MATCH '[1, 0]' AND k = 2").all());
console.log(db.prepare("SELECT vec_distance_l2('[0, 0]', '[3, 4]') AS l2, vec_length(vec_f32('[1, 2, 3]')) AS length, vec_to_json('[0.5, 1]') AS json").get());
try {
  insertStmt.run(9n, new Float32Array(3));
} catch (error) {
  console.log(error.code, /Dimension mismatch/.test(error.message));
}
db.close();
