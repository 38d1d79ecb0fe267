// Needs the library: SQLITE_IVF_LIBRARY names one that cargo built, or the package for this machine is installed.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as ivf from "../index.mjs";
import { DatabaseSync, hosts } from "./hosts.mjs";

const ROWS = 500;
const DIM = 8;

/** Numbers that are the same in each run. */
function random(count, seed = 1) {
  let state = seed;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 - 0.5;
  });
}

const vectors = Array.from({ length: ROWS }, (_, i) => random(DIM, i + 1));

function nearest(query, k) {
  return vectors
    .map((vector, i) => ({ rowid: i + 1, distance: Math.hypot(...vector.map((each, j) => each - query[j])) }))
    .sort((a, b) => a.distance - b.distance)
    .slice(0, k);
}

for (const { name, open, skip } of hosts) {
  describe(name, { skip }, () => {
    const filled = () => {
      const db = open();
      ivf.load(db);
      db.exec(`CREATE VIRTUAL TABLE items USING ivf(vec float[${DIM}], year INTEGER, +title TEXT)`);
      const insert = db.prepare("INSERT INTO items(rowid, vec, year, title) VALUES (?, ?, ?, ?)");
      db.exec("BEGIN");
      vectors.forEach((vector, i) => insert.run(i + 1, ivf.serializeFloat32(vector), 2000 + (i % 10), `item ${i}`));
      db.exec("COMMIT");
      return db;
    };

    test("a search finds what comparing finds", () => {
      const db = filled();
      const query = random(DIM, 999);
      const rows = db.prepare("SELECT rowid, distance FROM items WHERE vec MATCH ? AND k = ? ORDER BY distance").all(ivf.serializeFloat32(query), 5);
      assert.deepEqual(rows.map((row) => row.rowid), nearest(query, 5).map((row) => row.rowid));
      nearest(query, 5).forEach(({ distance }, i) => assert.ok(Math.abs(rows[i].distance - distance) < 1e-5));
      db.close();
    });

    test("a typed array is bound as it is", () => {
      const db = filled();
      const row = db.prepare("SELECT rowid, vec, title FROM items WHERE vec MATCH ? AND k = 1 AND year = 2006").get(vectors[6]);
      assert.equal(row.rowid, 7);
      assert.equal(row.title, "item 6");
      assert.deepEqual(ivf.deserializeFloat32(row.vec), vectors[6]);
      db.close();
    });

    test("a batch, packed and not", () => {
      const db = filled();
      const queries = vectors.slice(10, 30);
      const rows = db
        .prepare("SELECT query, rowids, distances FROM items WHERE batch MATCH ? AND k = 3 AND packed = 1 ORDER BY query")
        .all(ivf.pack(queries));
      const answers = ivf.unpack(rows);
      assert.equal(answers.length, 20);
      answers.forEach((answer, i) => {
        assert.deepEqual(answer.rowids, nearest(queries[i], 3).map((row) => row.rowid));
        assert.equal(answer.distances.length, 3);
        assert.equal(answer.distances[0], 0);
      });
      assert.deepEqual(Array.from(ivf.unpack(rows, { bigint: true })[0].rowids, Number), answers[0].rowids);
      const plain = db.prepare("SELECT query, rowid FROM items WHERE batch MATCH ? AND k = 3 ORDER BY query, distance").all(ivf.pack(queries));
      assert.deepEqual(plain.map((row) => row.rowid), answers.flatMap((answer) => answer.rowids));
      db.close();
    });

    test("the other element types", () => {
      const db = open();
      ivf.load(db);
      db.exec("CREATE VIRTUAL TABLE h USING ivf(vec float16[3])");
      db.exec("CREATE VIRTUAL TABLE b USING ivf(vec bfloat16[3])");
      db.exec("CREATE VIRTUAL TABLE i USING ivf(vec int8[3])");
      db.exec("CREATE VIRTUAL TABLE s USING ivf(vec bit[8])");
      const first = (table) => db.prepare(`SELECT vec, vec_to_json(vec) AS json FROM ${table}`).get();
      db.prepare("INSERT INTO h(vec) VALUES (?)").run(ivf.serializeFloat16([0.1, -2, 3]));
      assert.equal(first("h").json, "[0.099975586,-2.0,3.0]");
      assert.deepEqual(Array.from(ivf.deserializeFloat16(first("h").vec)), [0.0999755859375, -2, 3]);
      db.prepare("INSERT INTO b(vec) VALUES (?)").run(ivf.serializeBFloat16([0.1, -2, 3]));
      assert.deepEqual(Array.from(ivf.deserializeBFloat16(first("b").vec)), [0.10009765625, -2, 3]);
      db.prepare("INSERT INTO i(vec) VALUES (?)").run(ivf.serializeInt8([1, -128, 127]));
      assert.equal(first("i").json, "[1,-128,127]");
      assert.deepEqual(Array.from(ivf.deserializeInt8(first("i").vec)), [1, -128, 127]);
      db.prepare("INSERT INTO s(vec) VALUES (?)").run(ivf.serializeBits([1, 0, 0, 0, 0, 0, 1, 1]));
      assert.equal(first("s").json, "[1,0,0,0,0,0,1,1]");
      assert.deepEqual(Array.from(ivf.deserializeBits(first("s").vec)), [1, 0, 0, 0, 0, 0, 1, 1]);
      const rows = db.prepare("SELECT rowids, distances FROM s WHERE batch MATCH ? AND k = 1 AND packed = 1").all(ivf.pack([[1, 1, 1, 0, 0, 0, 1, 1]], "bit"));
      assert.deepEqual(ivf.unpack(rows), [{ rowids: [1], distances: Float64Array.of(2) }]);
      db.close();
    });

    test("a rowid that no number holds", () => {
      const db = open();
      ivf.load(db);
      db.exec("CREATE VIRTUAL TABLE items USING ivf(vec float[1])");
      db.exec("INSERT INTO items(rowid, vec) VALUES (9007199254740993, '[1]')");
      const rows = db.prepare("SELECT rowids, distances FROM items WHERE batch MATCH '[[1]]' AND k = 1 AND packed = 1").all();
      assert.throws(() => ivf.unpack(rows), /9007199254740993 does not fit a number: unpack\(rows, \{ bigint: true \}\)/);
      assert.deepEqual(ivf.unpack(rows, { bigint: true })[0].rowids, BigInt64Array.of(9007199254740993n));
      db.close();
    });

    test("what sqlite-vec's package is used for", () => {
      const db = open();
      ivf.load(db);
      db.exec("CREATE VIRTUAL TABLE vec_items USING vec0(embedding float[4])");
      const insert = db.prepare("INSERT INTO vec_items(rowid, embedding) VALUES (?, ?)");
      [0.1, 0.2, 0.3].forEach((each, i) => insert.run(BigInt(i + 1), new Float32Array(4).fill(each)));
      const rows = db
        .prepare("SELECT rowid, distance FROM vec_items WHERE embedding MATCH ? ORDER BY distance LIMIT 2")
        .all(new Float32Array(4).fill(0.3));
      assert.deepEqual(rows.map((row) => row.rowid), [3, 2]);
      assert.match(db.prepare("SELECT vec_version() AS version").get().version, /^v/);
      db.close();
    });

    test("an error of the engine arrives whole", () => {
      const db = open();
      ivf.load(db);
      db.exec("CREATE VIRTUAL TABLE items USING ivf(vec float[4])");
      assert.throws(() => db.prepare("INSERT INTO items(vec) VALUES (?)").run(new Float32Array(3)), /Dimension mismatch: the vector has 3 dimensions, expected 4/);
      db.close();
    });

    test("loading twice, and into two databases", () => {
      const [one, two] = [open(), open()];
      ivf.load(one);
      ivf.load(one);
      ivf.load(two);
      for (const db of [one, two]) {
        db.exec("CREATE VIRTUAL TABLE items USING ivf(vec float[1])");
        db.close();
      }
    });
  });
}

describe("node:sqlite's switch", { skip: DatabaseSync ? false : "node:sqlite is not here" }, () => {
  test("a database that forbids extensions says how to open it", () => {
    const db = new DatabaseSync(":memory:");
    assert.throws(() => ivf.load(db), /new DatabaseSync\(file, \{ allowExtension: true \}\)/);
  });

  test("loading is switched on for the load alone", () => {
    const db = new DatabaseSync(":memory:", { allowExtension: true });
    db.enableLoadExtension(false);
    ivf.load(db);
    db.exec("CREATE VIRTUAL TABLE items USING ivf(vec float[1])");
    assert.throws(() => db.loadExtension(ivf.getLoadablePath()), /not allowed/);
  });
});
