// What is said where there is no library. Each case runs in a copy of the package, as another machine would have it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const machine = `${process.platform}-${process.arch}`;
const scratch = mkdtempSync(join(tmpdir(), "sqlite-ivf-test-"));
after(() => rmSync(scratch, { recursive: true }));

/** node_modules with the main package, and with those platform packages that are named, each with an empty library. */
function installed({ lists = [`sqlite-ivf-${machine}`], has = [], under = "app" }) {
  const modules = join(scratch, under, "node_modules");
  rmSync(modules, { recursive: true, force: true });
  const main = join(modules, "sqlite-ivf");
  mkdirSync(main, { recursive: true });
  for (const file of ["index.cjs", "index.mjs", "vectors.cjs"]) cpSync(join(here, file), join(main, file));
  const manifest = JSON.parse(readFileSync(join(here, "package.json"), "utf8"));
  manifest.version = "1.2.3";
  manifest.optionalDependencies = Object.fromEntries(lists.map((name) => [name, "1.2.3"]));
  writeFileSync(join(main, "package.json"), JSON.stringify(manifest));
  for (const name of has) {
    mkdirSync(join(modules, name));
    writeFileSync(join(modules, name, "package.json"), JSON.stringify({ name, version: "1.2.3", main: "./libsqlite_ivf.so" }));
    writeFileSync(join(modules, name, "libsqlite_ivf.so"), "");
  }
  return main;
}

/** What the code prints, or the error it ends with; `ivf` is the package, `process` may be changed first. */
function run(main, code, env = {}) {
  const program = `try { ${code} } catch (error) { console.log(error.name + ": " + error.message) }`;
  const { SQLITE_IVF_LIBRARY: _, ...rest } = process.env;
  return execFileSync(process.execPath, ["--no-warnings", "-e", program], { cwd: dirname(main), env: { ...rest, ...env }, encoding: "utf8" }).trim();
}

const PATH = 'console.log(require("sqlite-ivf").getLoadablePath())';
const as = (platform, arch) => `Object.defineProperty(process, "platform", { value: "${platform}" }); Object.defineProperty(process, "arch", { value: "${arch}" });`;
const MUSL = 'process.report.getReport = () => ({ header: {} });';

test("the package for this machine is found", () => {
  const main = installed({ has: [`sqlite-ivf-${machine}`] });
  assert.equal(run(main, PATH), join(dirname(main), `sqlite-ivf-${machine}`, "libsqlite_ivf.so"));
});

test("a package that is not installed is named, with the ways to it", () => {
  const said = run(installed({}), PATH);
  assert.match(said, new RegExp(`Error: sqlite-ivf needs the package sqlite-ivf-${machine}, which is not installed`));
  assert.match(said, new RegExp(`npm install sqlite-ivf-${machine}@1\\.2\\.3`));
  assert.match(said, /--omit=optional/);
  assert.match(said, /lock file came from another system/);
});

test("a machine that no package is for", () => {
  const said = run(installed({ lists: ["sqlite-ivf-linux-x64", "sqlite-ivf-linux-arm64"] }), as("darwin", "arm64") + PATH);
  assert.match(said, /brings no library for darwin-arm64\. It has packages for linux-x64, linux-arm64\./);
  assert.match(said, /cargo build --release --lib --features loadable,vec0.*SQLITE_IVF_LIBRARY/);
});

test("musl without a package, and with one", () => {
  const glibc = ["sqlite-ivf-linux-x64"];
  const both = ["sqlite-ivf-linux-x64", "sqlite-ivf-linux-x64-musl"];
  const alpine = as("linux", "x64") + MUSL + PATH;
  assert.match(run(installed({ lists: glibc }), alpine), /brings no library for linux-x64 \(musl\)/);
  assert.match(run(installed({ lists: both, has: both }), alpine), /sqlite-ivf-linux-x64-musl/);
  assert.match(run(installed({ lists: both, has: both }), as("linux", "x64") + PATH), /sqlite-ivf-linux-x64[\\/]/);
});

test("SQLITE_IVF_LIBRARY goes first, and must be there", () => {
  const main = installed({ has: [`sqlite-ivf-${machine}`] });
  const library = join(main, "index.cjs");
  assert.equal(run(main, PATH, { SQLITE_IVF_LIBRARY: library }), library);
  assert.match(run(main, PATH, { SQLITE_IVF_LIBRARY: "/nowhere/lib.so" }), /SQLITE_IVF_LIBRARY names \/nowhere\/lib\.so, and there is no such file/);
});

test("beside Electron's archive", () => {
  const names = { lists: [`sqlite-ivf-${machine}`], has: [`sqlite-ivf-${machine}`] };
  const beside = installed({ ...names, under: "app.asar.unpacked" });
  const main = installed({ ...names, under: "app.asar" });
  assert.equal(run(main, PATH), join(dirname(beside), `sqlite-ivf-${machine}`, "libsqlite_ivf.so"));
});

test("what is no database", () => {
  const load = (what) => run(installed({}), `require("sqlite-ivf").load(${what})`);
  assert.match(load("undefined"), /TypeError: load\(\) takes a database of better-sqlite3, node:sqlite or bun:sqlite, got undefined/);
  assert.match(load("new Map()"), /got a Map, which has no loadExtension\(\)/);
});

test("bun on macOS, whose SQLite loads nothing", () => {
  const main = installed({ has: [`sqlite-ivf-${machine}`] });
  const db = '{ loadExtension() { throw new Error("This build of sqlite3 does not support dynamic extension loading") } }';
  assert.match(run(main, `require("sqlite-ivf").load(${db})`), /Database\.setCustomSQLite\(path\)/);
});

test("another error of the host is passed on as it is", () => {
  const main = installed({ has: [`sqlite-ivf-${machine}`] });
  assert.equal(run(main, 'require("sqlite-ivf").load({ loadExtension() { throw new RangeError("no") } })'), "RangeError: no");
});

test("under the name of sqlite-vec its entry point is asked for, where the host takes one", () => {
  const main = installed({ has: [`sqlite-ivf-${machine}`] });
  const alias = join(dirname(main), "sqlite-vec");
  cpSync(main, alias, { recursive: true });
  const load = (host) => run(alias, `const loadExtension = ${host}; require("sqlite-vec").load({ loadExtension })`);
  assert.equal(load("(path, entry) => console.log(entry)"), "sqlite3_vec_init");
  assert.equal(load('(path, entry) => { if (entry) throw new TypeError("a callback is expected"); console.log("plain") }'), "plain");
  assert.equal(run(main, 'require("sqlite-ivf").load({ loadExtension: (path, entry) => console.log(entry) })'), "undefined");
});
