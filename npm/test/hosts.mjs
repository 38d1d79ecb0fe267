// The hosts that are here: how each opens a database that may load extensions.

import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

function attempt(name) {
  try {
    return require(name);
  } catch {
    return undefined;
  }
}

const BetterSqlite = attempt("better-sqlite3");
const nodeSqlite = attempt("node:sqlite");

/** Both have exec(), and prepare() with all(), get() and run(). */
export const hosts = [
  { name: "better-sqlite3", open: BetterSqlite && (() => new BetterSqlite(":memory:")) },
  { name: "node:sqlite", open: nodeSqlite && (() => new nodeSqlite.DatabaseSync(":memory:", { allowExtension: true })) },
].map((host) => ({ ...host, skip: host.open ? false : `${host.name} is not here` }));

export const DatabaseSync = nodeSqlite?.DatabaseSync;
