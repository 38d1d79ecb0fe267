// The types, as a program sees them that imports the package by its name, from ESM and from CommonJS.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);
let tsc;
try {
  tsc = join(dirname(require.resolve("typescript/package.json")), "bin/tsc");
} catch {
  // Skipped below.
}

for (const [module, resolution] of [["nodenext", "nodenext"], ["esnext", "bundler"]]) {
  test(`the types under ${resolution}`, { skip: tsc ? false : "typescript is not here" }, () => {
    const files = ["use.mts", "use.cts"].map((file) => join(here, "test", file));
    const flags = ["--noEmit", "--strict", "--skipLibCheck", "--target", "es2023", "--types", "node", "--module", module, "--moduleResolution", resolution];
    const checked = spawnSync(process.execPath, [tsc, ...flags, ...(module === "nodenext" ? files : files.slice(0, 1))], { cwd: here, encoding: "utf8" });
    assert.equal(checked.stdout, "");
    assert.equal(checked.status, 0);
  });
}
