// Builds dist/: the code minified, with what is loaded later in chunks; declarations; and the module beside them.

import { execFileSync } from "node:child_process";
import { cpSync, existsSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { minify } from "terser";

const root = dirname(fileURLToPath(import.meta.url));
const dist = join(root, "dist");
const entries = {};
for (const { types, default: file } of Object.values(
  JSON.parse(readFileSync(join(root, "package.json"), "utf8")).exports,
)) {
  if (!types) continue; // the module itself
  const name = file.slice("./dist/".length, -".js".length);
  const source = [`src/${name}.ts`, `src/${name}/index.ts`].find((path) => existsSync(join(root, path)));
  entries[name] = join(root, source);
}

rmSync(dist, { recursive: true, force: true });
execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", root, "--emitDeclarationOnly"], {
  stdio: "inherit",
});
// Members of classes that programs never see. Nothing of the platform or of types.ts may be among them.
const INTERNAL =
  "addLater after attach attached awake begin buffers bytes call check cidrs clearAddresses core counters death detach " +
  "detached detail driver ended endpoint events failed failure family findHost findOwnHost finishing firstEvent forget " +
  "giveWay handle handlers inbox inject isBehind isLate later literal look moveTo notified notify onConfigurationEvent " +
  "onEvent onOpen onStackGone opened prefix putEndpoint putScratch putStaging raw received receiveLength " +
  "removed report resumeTransmit scope scratch sendFull sentAtOnce socketAddress soon target targets tcpConnect " +
  "tcpReceived tcpSend transmit transmitLength truncated turn u16 u32 u8 until wake wakeSoon watchers whenRoom " +
  "whenWritable";
const internal = new RegExp(`^(${INTERNAL.replaceAll(" ", "|")})$`);

/** Minifies a file further than esbuild does. */
async function shrink(name) {
  const path = join(dist, name);
  const { code } = await minify(readFileSync(path, "utf8"), {
    module: true,
    ecma: 2022,
    compress: { passes: 3, unsafe_arrows: true, unsafe_methods: true, keep_fargs: false },
    format: { comments: false },
  });
  writeFileSync(path, code);
}

const options = {
  outdir: dist,
  bundle: true,
  format: "esm",
  platform: "neutral",
  target: "es2022",
  external: ["node:*", "stream", "events"],
  logLevel: "warning",
  minifySyntax: true, // constants of the ABI become numbers
};
const small = !process.env.READABLE;
const { index, ...others } = entries;
// What the stack loads when it is needed is a chunk. esbuild gives the private members of each class the same names, and
// terser, which minifies further, keeps that.
await build({
  ...options,
  entryPoints: { index },
  splitting: true,
  ...(small && { mangleProps: internal, minifyIdentifiers: true }),
});
// The other entries are apart, and use a stack by its public members. The core's namespace of constants would keep them out
// of the code that uses them, and what a sub-path shares with the stack would be one more file of every page.
await build({ ...options, entryPoints: others, minifyIdentifiers: small });
if (small) for (const name of readdirSync(dist)) if (name.endsWith(".js")) await shrink(name);

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
    const more = /^export default/m.test(readFileSync(source, "utf8"))
      ? `export { default } from "./${name}/index.js";\n`
      : "";
    writeFileSync(beside, `export * from "./${name}/index.js";\n${more}`);
  }
  follow(beside);
}
for (const entry of readdirSync(dist, { recursive: true })) {
  const path = join(dist, entry);
  if (path.endsWith(".d.ts") && !reached.has(path)) rmSync(path);
}
for (const entry of readdirSync(dist, { withFileTypes: true })) {
  const path = join(dist, entry.name);
  if (entry.isDirectory() && !readdirSync(path).length) rmdirSync(path);
}
cpSync(join(root, "../tcpip_wasm/lwip.wasm"), join(dist, "lwip.wasm"));
