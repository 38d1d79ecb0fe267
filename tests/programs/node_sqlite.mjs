// node:sqlite, the driver that Node brings along.
import { DatabaseSync } from "node:sqlite";
import * as sqliteVec from "sqlite-vec";
import { blob, embed, show, walk } from "./made_up.mjs";

const db = new DatabaseSync(":memory:", { allowExtension: true });
sqliteVec.load(db);
walk(db, BigInt);
const add = db.prepare("INSERT INTO bare(rowid, embedding) VALUES (?, ?)");
db.exec("BEGIN");
for (let i = 100; i < 150; i++) add.run(BigInt(i), blob(embed(`row ${i}`)));
db.exec("ROLLBACK");
show("count", () => db.prepare("SELECT count(*) AS n FROM bare").get());
show("iterate", () => [...db.prepare("SELECT rowid FROM bare WHERE rowid > 5 ORDER BY rowid").iterate()]);
db.close();
