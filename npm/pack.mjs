// Lays out the packages and packs them: `node npm/pack.mjs --out DIR [--licenses FILE] NAME=LIBRARY ...`, NAME as in
// platforms.json. FILE has the licences of what the libraries are made of. The version is that of Cargo.toml. Prints the tarballs.

import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const json = (path) => JSON.parse(readFileSync(join(here, path), "utf8"));

const { values, positionals } = parseArgs({ allowPositionals: true, options: { out: { type: "string" }, licenses: { type: "string" } } });
if (!values.out || positionals.length === 0) {
  console.error("usage: node npm/pack.mjs --out DIR [--licenses FILE] NAME=LIBRARY ...");
  process.exit(2);
}
const version = /^version = "([^"]+)"/m.exec(readFileSync(join(root, "Cargo.toml"), "utf8"))[1];
const out = resolve(values.out);
mkdirSync(out, { recursive: true });

const source = json("package.json");
const common = { version, license: source.license, keywords: source.keywords, type: source.type };
const platforms = positionals.map((argument) => {
  const [, name, library] = /^([^=]+)=(.+)$/.exec(argument) ?? [];
  const platform = json("platforms.json").find((each) => each.name === name);
  if (!platform) throw new Error(`${argument}: NAME=LIBRARY is expected, with a name of platforms.json`);
  return { ...platform, package: `sqlite-ivf-${name}`, library };
});

const scratch = mkdtempSync(join(tmpdir(), "sqlite-ivf-"));
try {
  for (const { package: name, os, cpu, libc, file, library, for: what } of platforms) {
    const readme = `# ${name}\n\nThe library of sqlite-ivf for ${what}. Install \`sqlite-ivf\`, which takes this package where it fits.\n`;
    pack(
      {
        name,
        ...common,
        description: `The library of sqlite-ivf for ${what}`,
        os: [os],
        cpu: [cpu],
        ...(libc && { libc: [libc] }),
        main: `./${file}`,
        preferUnplugged: true,
      },
      { [file]: readFileSync(library), "README.md": readme, ...(values.licenses && { "LICENSE-THIRD-PARTY": readFileSync(values.licenses) }) },
    );
  }
  const { private: _, scripts, devDependencies, name, description, license, keywords, ...rest } = source;
  const files = [...source.files.filter((file) => !file.startsWith("LICENSE")), "README.md"];
  pack(
    {
      name,
      version,
      description,
      license,
      keywords,
      ...rest,
      optionalDependencies: Object.fromEntries(platforms.map((each) => [each.package, version])),
    },
    Object.fromEntries(files.map((file) => [file, readFileSync(join(here, file))])),
  );
} finally {
  rmSync(scratch, { recursive: true });
}

/** Writes a package's files with the licences beside them, and has npm make the tarball. */
function pack(manifest, files) {
  const folder = join(scratch, manifest.name);
  mkdirSync(folder);
  manifest.files = [...Object.keys(files), "LICENSE-APACHE", "LICENSE-MIT"].filter((file) => file !== "README.md");
  for (const [file, content] of Object.entries({ ...files, "package.json": JSON.stringify(manifest, null, 2) + "\n" })) {
    writeFileSync(join(folder, file), content);
    chmodSync(join(folder, file), 0o644);
  }
  for (const file of ["LICENSE-APACHE", "LICENSE-MIT"]) copyFileSync(join(root, file), join(folder, file));
  const packed = execFileSync("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", out], { cwd: folder, encoding: "utf8" });
  console.log(join(out, basename(packed.trim())));
}
