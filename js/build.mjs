// Builds dist/: the code minified, with what entries share in chunks; declarations; and the module beside them.

import { execFileSync } from "node:child_process";
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = dirname(fileURLToPath(import.meta.url));
const dist = join(root, "dist");
const entries = {};
for (const { types, default: file } of Object.values(JSON.parse(readFileSync(join(root, "package.json"), "utf8")).exports)) {
  if (!types) continue; // the module itself
  const name = file.slice("./dist/".length, -".js".length);
  const source = [`src/${name}.ts`, `src/${name}/index.ts`].find((path) => existsSync(join(root, path)));
  entries[name] = join(root, source);
}

rmSync(dist, { recursive: true, force: true });
execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", root, "--emitDeclarationOnly"], { stdio: "inherit" });
// The core is apart: its namespace of constants would keep them out of the code that uses them.
const { engine, ...others } = entries;
const options = {
  outdir: dist,
  bundle: true,
  format: "esm",
  platform: "neutral",
  target: "es2022",
  minify: !process.env.READABLE,
  external: ["node:*"],
  logLevel: "warning",
};
await build({ ...options, entryPoints: others, splitting: true });
await build({ ...options, entryPoints: { engine } });

// Declarations that no entry leads to are not of the package.
const reached = new Set();
const follow = (path) => {
  if (reached.has(path)) return;
  reached.add(path);
  for (const [, name] of readFileSync(path, "utf8").matchAll(/(?:from|import\() ?["'](\.[^"']*)\.js["']/g)) {
    follow(resolve(dirname(path), `${name}.d.ts`));
  }
};
for (const [name, source] of Object.entries(entries)) {
  const beside = join(dist, `${name}.d.ts`);
  if (source.endsWith("/index.ts") && name !== "index") {
    writeFileSync(beside, `export * from "./${name}/index.js";\n`);
  }
  follow(beside);
}
for (const entry of readdirSync(dist, { recursive: true })) {
  const path = join(dist, entry);
  if (path.endsWith(".d.ts") && !reached.has(path)) rmSync(path);
}
cpSync(join(root, "../tcpip_wasm/lwip.wasm"), join(dist, "lwip.wasm"));
