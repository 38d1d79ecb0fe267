// Runs a file of statements by the installed Node package: `host.mjs HOST FILE`, HOST as better-sqlite3, node:sqlite or bun:sqlite.

import { readFileSync } from "node:fs";
import * as sqliteIvf from "sqlite-ivf";

const [host, file] = process.argv.slice(2);
const module = await import(host);
let db;
if (host === "node:sqlite") db = new module.DatabaseSync(":memory:", { allowExtension: true });
else db = new (module.default ?? module.Database)(":memory:");
sqliteIvf.load(db);

for (const statement of readFileSync(file, "utf8").split(";\n")) {
  if (!statement.trim()) continue;
  try {
    const prepared = db.prepare(statement);
    const rows = prepared.reader === false ? (prepared.run(), []) : prepared.all();
    for (const row of rows) console.log(Object.values(row).join("|"));
  } catch (error) {
    console.log(`error: ${error.message}`);
  }
}
const { version } = db.prepare("SELECT sqlite_version() AS version").get();
const runtime = process.versions.bun ? `Bun ${process.versions.bun}` : `Node ${process.versions.node}`;
console.error(`${runtime} on ${process.arch}, ${host} with SQLite ${version}`);
