"use strict";
// Finds the library, and loads it into a database. Vectors to blobs and back are in vectors.cjs.

const { existsSync } = require("node:fs");
const { basename } = require("node:path");
const vectors = require("./vectors.cjs");
const { version, optionalDependencies: packages = {} } = require("./package.json");

const BUILD = "cargo build --release --lib --features loadable,vec0";

/** Whether this is a Linux without glibc, such as Alpine. */
function isMusl() {
  if (process.platform !== "linux" || !process.report?.getReport) return false;
  const before = process.report.excludeNetwork;
  process.report.excludeNetwork = true;
  try {
    return !process.report.getReport().header.glibcVersionRuntime;
  } finally {
    process.report.excludeNetwork = before;
  }
}

/** The package that holds the library for this machine; undefined where none is published. */
function platformPackage() {
  const name = `sqlite-ivf-${process.platform}-${process.arch}`;
  const fits = [name, `${name}-musl`].filter((each) => each in packages);
  if (process.platform !== "linux") return fits[0];
  // Asking for the C library takes a while, so only where it makes a difference.
  return fits.length === 2 ? fits[isMusl() ? 1 : 0] : fits[0];
}

function noPackage() {
  const machine = `${process.platform}-${process.arch}${isMusl() ? " (musl)" : ""}`;
  const names = Object.keys(packages);
  const there = names.length ? `It has packages for ${names.map((each) => each.slice("sqlite-ivf-".length)).join(", ")}.` : "This is its source tree.";
  return new Error(
    `sqlite-ivf brings no library for ${machine}. ${there} ` +
      `\`${BUILD}\` in its source tree builds one: name that file by the environment variable SQLITE_IVF_LIBRARY.`,
  );
}

function notInstalled(name, cause) {
  if (isMusl() && !name.endsWith("-musl")) return noPackage();
  return new Error(
    `sqlite-ivf needs the package ${name}, which is not installed. One of these brings it:\n` +
      `- npm install ${name}@${version}\n` +
      "- where optional dependencies were left out (--omit=optional, --no-optional, optional=false in .npmrc): install again with them\n" +
      "- where node_modules or the lock file came from another system (a container, a CI cache): remove both, then npm install",
    { cause },
  );
}

/** The path of the library, for hosts that want the path. */
function getLoadablePath() {
  const given = process.env.SQLITE_IVF_LIBRARY;
  if (given) {
    if (existsSync(given)) return given;
    throw new Error(`SQLITE_IVF_LIBRARY names ${given}, and there is no such file. \`${BUILD}\` builds one`);
  }
  const name = platformPackage();
  if (name === undefined) throw noPackage();
  let path;
  try {
    path = require.resolve(name);
  } catch (cause) {
    throw notInstalled(name, cause);
  }
  // Electron: a library cannot be loaded out of an archive. Packagers lay it beside.
  const unpacked = path.replace(/([\\/][^\\/]+\.asar)(?=[\\/])/, "$1.unpacked");
  return unpacked !== path && existsSync(unpacked) ? unpacked : path;
}

/** Loads the extension into a database of better-sqlite3, node:sqlite, bun:sqlite, or another with `loadExtension`. */
function load(db) {
  if (typeof db?.loadExtension !== "function") {
    const got = db === null || typeof db !== "object" ? String(db) : `a ${db.constructor?.name ?? "null-prototype object"}`;
    throw new TypeError(
      `load() takes a database of better-sqlite3, node:sqlite or bun:sqlite, got ${got}, which has no loadExtension(): ` +
        "of a wrapper, give the database inside it (drizzle: db.$client)",
    );
  }
  const path = getLoadablePath();
  try {
    enter(db, path);
  } catch (error) {
    retry(db, path, error);
  }
}

/** Installed under the name of sqlite-vec, its entry point is taken: the few functions that print otherwise then print as there. */
function enter(db, path) {
  if (basename(__dirname) === "sqlite-vec") {
    try {
      db.loadExtension(path, "sqlite3_vec_init");
      return;
    } catch (error) {
      // A host that has no such argument.
      if (!(error instanceof TypeError)) throw error;
    }
  }
  db.loadExtension(path);
}

/** node:sqlite may have loading switched off; other failures get a word on what helps. */
function retry(db, path, error) {
  const text = String(error?.message);
  if (text.includes("loading is not allowed") && typeof db.enableLoadExtension === "function") {
    try {
      db.enableLoadExtension(true);
    } catch (cause) {
      throw new Error("this database was opened without extension loading: new DatabaseSync(file, { allowExtension: true }) permits it", { cause });
    }
    try {
      enter(db, path);
    } finally {
      db.enableLoadExtension(false);
    }
    return;
  }
  if (text.includes("does not support dynamic extension loading")) {
    throw new Error(
      `${text}. On macOS bun:sqlite takes Apple's SQLite, which loads nothing: Database.setCustomSQLite(path) of another one, ` +
        "such as Homebrew's libsqlite3.dylib, before the first database is opened",
      { cause: error },
    );
  }
  if (text.includes("ld-linux") && isMusl()) throw noPackage();
  throw error;
}

module.exports = {
  getLoadablePath,
  load,
  deserializeBFloat16: vectors.deserializeBFloat16,
  deserializeBits: vectors.deserializeBits,
  deserializeFloat16: vectors.deserializeFloat16,
  deserializeFloat32: vectors.deserializeFloat32,
  deserializeInt8: vectors.deserializeInt8,
  pack: vectors.pack,
  serializeBFloat16: vectors.serializeBFloat16,
  serializeBits: vectors.serializeBits,
  serializeFloat16: vectors.serializeFloat16,
  serializeFloat32: vectors.serializeFloat32,
  serializeInt8: vectors.serializeInt8,
  unpack: vectors.unpack,
};
