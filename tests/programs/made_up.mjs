// Embeddings that are made up of a text, and one way to print a result (see made_up.py).
import { createHash } from "node:crypto";
import { appendFileSync, existsSync, readFileSync } from "node:fs";

export function embed(text, dim = 8) {
  let raw = createHash("sha256").update(text).digest();
  while (raw.length < 2 * dim) raw = Buffer.concat([raw, createHash("sha256").update(raw).digest()]);
  const values = Array.from({ length: dim }, (_, i) => raw[2 * i] + raw[2 * i + 1] / 256 - 128);
  const norm = Math.hypot(...values);
  return Float32Array.from(values, (v) => v / norm);
}

export const blob = (vector) => Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength);

function plain(value) {
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "number") return Math.round(value * 1e5) / 1e5;
  if (value instanceof Uint8Array) return "x" + Buffer.from(value).toString("hex");
  if (Array.isArray(value)) return value.map(plain);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
  return value ?? null;
}

function tellLoaded() {
  const report = process.env.PROGRAMS_LOADED;
  if (!report || !existsSync("/proc/self/maps")) return;
  const found = readFileSync("/proc/self/maps", "utf8").match(/\/\S*vec0\.so/g) ?? [];
  appendFileSync(report, [...new Set(found)].map((path) => path + "\n").join(""));
}

export function show(what, call) {
  let result;
  try {
    result = plain(call());
  } catch (error) {
    result = { error: error.code ?? error.name };
  }
  console.log(JSON.stringify({ [what]: result }));
  tellLoaded();
}

// The same steps for every driver; `bare` wraps an integer as the driver wants it.
export function walk(db, bare) {
  const vec = (text) => blob(embed(text));
  db.exec("CREATE VIRTUAL TABLE bare USING vec0(embedding float[8])");
  const add = db.prepare("INSERT INTO bare(rowid, embedding) VALUES (?, ?)");
  ["ant", "bee", "cat"].forEach((t, i) => add.run(bare(i + 1), vec(t)));
  show("typed array", () => add.run(bare(5), embed("eel")).changes);
  show("no rowid", () => db.prepare("INSERT INTO bare(embedding) VALUES (?)").run(vec("fox")).lastInsertRowid);
  show("json", () => db.prepare("INSERT INTO bare(rowid, embedding) VALUES (?, ?)").run(bare(7), JSON.stringify([...embed("gnu")])).changes);
  show("rows", () => db.prepare("SELECT * FROM bare").all());
  const near = "SELECT rowid, distance FROM bare WHERE embedding MATCH ? AND k = ? ORDER BY distance";
  show("knn", () => db.prepare(near).all(vec("cat"), bare(3)));
  show("knn, number as k", () => db.prepare(near).all(vec("cat"), 3));
  show("knn by limit", () => db.prepare("SELECT rowid FROM bare WHERE embedding MATCH ? ORDER BY distance LIMIT 2").all(vec("bee")));
  db.exec("CREATE VIRTUAL TABLE typed USING vec0(id INTEGER PRIMARY KEY, embedding float[8], n INTEGER, f FLOAT, ok BOOLEAN, t TEXT, +note TEXT)");
  const put = db.prepare("INSERT INTO typed(id, embedding, n, f, ok, t, note) VALUES (?, ?, ?, ?, ?, ?, ?)");
  show("integers", () => put.run(bare(1), vec("ant"), bare(7), 1.5, bare(1), "x", "one").changes);
  put.run(bare(2), vec("bee"), bare(8), 2.5, bare(0), "y", "two");
  show("typed rows", () => db.prepare("SELECT id, n, f, ok, t, note FROM typed").all());
  show("filtered", () => db.prepare("SELECT id FROM typed WHERE embedding MATCH ? AND k = 5 AND n = ? AND f > ?").all(vec("ant"), bare(7), 1));
  show("wrong length", () => add.run(bare(20), Buffer.alloc(4)).changes);
  show("same rowid", () => add.run(bare(1), vec("x")).changes);
  show("null", () => add.run(bare(21), null).changes);
  show("update", () => db.prepare("UPDATE bare SET embedding = ? WHERE rowid = ?").run(vec("new"), bare(1)).changes);
  show("delete", () => db.prepare("DELETE FROM bare WHERE rowid = ?").run(2).changes);
  show("returning", () => db.prepare("INSERT INTO bare(rowid, embedding) VALUES (?, ?) RETURNING rowid").all(bare(30), vec("r")));
  show("functions", () => db.prepare("SELECT vec_length(?) AS n, vec_type('[1]') AS t").get(vec("ant")));
  show("as json", () => db.prepare("SELECT vec_to_json('[1, 2.5]') AS j").get());
  show("left", () => db.prepare("SELECT rowid FROM bare ORDER BY rowid").all());
  // These drivers bind a number as a float, which sqlite-vec takes for no integer.
  db.exec("CREATE VIRTUAL TABLE loose USING vec0(id INTEGER PRIMARY KEY, embedding float[8], n INTEGER, ok BOOLEAN)");
  const drop = db.prepare("INSERT INTO loose(id, embedding, n, ok) VALUES (?, ?, ?, ?)");
  show("number as a key", () => drop.run(1, vec("ant"), bare(7), bare(1)).changes);
  show("number as an integer", () => drop.run(bare(2), vec("bee"), 7, bare(1)).changes);
  show("number as a boolean", () => drop.run(bare(3), vec("cat"), bare(7), 1).changes);
}
