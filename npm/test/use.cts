// Checked by types.test.mjs, never run.
import sqliteIvf = require("sqlite-ivf");

const db = { loadExtension(_file: string): void {} };
sqliteIvf.load(db);
const blob: Uint8Array = sqliteIvf.serializeInt8([1, 2]);
console.log(blob);
