// better-sqlite3: numbers are bound as floats, BigInts as integers.
import Database from "better-sqlite3";
import * as sqliteVec from "sqlite-vec";
import { blob, embed, show, walk } from "./made_up.mjs";

const db = new Database(":memory:");
sqliteVec.load(db);
walk(db, BigInt);
const add = db.prepare("INSERT INTO bare(rowid, embedding) VALUES (?, ?)");
const many = db.transaction((from) => {
  for (let i = from; i < from + 50; i++) add.run(BigInt(i), blob(embed(`row ${i}`)));
});
show("transaction", () => many(100));
show("failed transaction", () => many(120));
show("count", () => db.prepare("SELECT count(*) FROM bare").pluck().get());
show("iterate", () => [...db.prepare("SELECT rowid FROM bare WHERE rowid > 145 ORDER BY rowid").iterate()]);
db.close();
