// The programs of README.md, run as they stand but for the name of the file.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, mkdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { hosts } from "./hosts.mjs";

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const [better, node, batch] = readFileSync(join(here, "README.md"), "utf8").match(/(?<=```js\n)[^]*?(?=```)/g);
const scratch = mkdtempSync(join(tmpdir(), "sqlite-ivf-readme-"));
after(() => rmSync(scratch, { recursive: true }));

/** What a program prints, by a node_modules that has the package and better-sqlite3. */
function printed(program) {
  const modules = join(scratch, "node_modules");
  mkdirSync(modules, { recursive: true });
  const require = createRequire(join(here, "index.cjs"));
  const links = { "sqlite-ivf": here };
  if (!hosts[0].skip) links["better-sqlite3"] = resolve(require.resolve("better-sqlite3"), "../..");
  for (const [name, target] of Object.entries(links)) {
    rmSync(join(modules, name), { force: true });
    symlinkSync(target, join(modules, name));
  }
  writeFileSync(join(scratch, "program.mjs"), program.replaceAll('"items.db"', '":memory:"'));
  return execFileSync(process.execPath, ["--no-warnings", "program.mjs"], { cwd: scratch, encoding: "utf8" });
}

function seems(text) {
  assert.match(text, /between[^]*north/);
  assert.match(text, /\[ 1, 3 \] Float64Array\(2\) \[ 0, 0\.2\d* \]/);
}

test("better-sqlite3", { skip: hosts[0].skip }, () => seems(printed(better + batch)));

test("node:sqlite", { skip: hosts[1].skip }, () => {
  // The lines that differ, in the place of those of better-sqlite3; db.transaction() is not there.
  const rest = better.split("\n").filter((line) => !/better-sqlite3|new Database\(/.test(line)).join("\n");
  seems(printed(node + rest.replace("db.transaction(() => {", "(() => {") + batch));
});
