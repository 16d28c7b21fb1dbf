// The package: its size, its entries, its types, and that it works where there is no setImmediate.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = join(root, "dist");
const read = (name) => readFileSync(join(dist, name));
const run = (...command) => execFileSync(process.execPath, command, { cwd: root, encoding: "utf8" });

const AT_FIRST = /(?:from|import) ?"\.\/([^"]+\.js)"/g;
const EVER = /(?:from|import\(?) ?"\.\/([^"]+\.js)"/g;

/** The files of code that an entry loads. */
function needed(entry, imports = AT_FIRST, found = new Set()) {
  if (found.has(entry)) return found;
  found.add(entry);
  for (const [, name] of read(entry).toString().matchAll(imports)) needed(name, imports, found);
  return found;
}

test("the code of the stack is small", { skip: !!process.env.READABLE }, () => {
  const size = (names) => gzipSync(Buffer.concat([...names].map(read)), { level: 9 }).length;
  const [first, all] = [needed("index.js"), needed("index.js", EVER)];
  assert(all.size > first.size, "questions to name servers are loaded when they are needed");
  const sizes = [size(first), size(all)];
  assert(sizes[0] <= 13_700 && sizes[1] <= 14_600, `${sizes} bytes`);
});

test("the module is the same file as Python's, and is an entry", () => {
  assert(read("lwip.wasm").equals(readFileSync(join(root, "../tcpip_wasm/lwip.wasm"))));
  const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  assert.equal(exports["./lwip.wasm"], "./dist/lwip.wasm");
  assert.equal(exports["."].default, "./dist/index.js");
  assert(read("index.js").toString().includes('"./lwip.wasm",import.meta.url') || process.env.READABLE);
});

test("importing does nothing, and names no file of Node", () => {
  const code = [...needed("index.js")].map((name) => read(name).toString()).join("");
  assert(!/["'`]node:|require\(/.test(code));
  run(
    "--input-type=module",
    "-e",
    'WebAssembly.compile = globalThis.fetch = () => { throw new Error("called") }; await import("./dist/index.js")',
  );
});

test("publint finds nothing", () => {
  const script = `
    import { publint } from "publint";
    const { messages } = await publint({ pkgDir: ".", strict: true });
    if (messages.length) throw new Error(JSON.stringify(messages));`;
  run("--input-type=module", "-e", script);
});

test("attw finds that each entry's types are those of its code", () => {
  const folder = mkdtempSync(join(tmpdir(), "packed-"));
  try {
    const packing = ["pack", "--pack-destination", folder, "--ignore-scripts", "--silent"];
    const name = execFileSync("npm", packing, { cwd: root, encoding: "utf8" }).trim();
    // The package has ES modules alone, and the module itself has no types.
    const options = ["--profile", "esm-only", "--exclude-entrypoints", "./lwip.wasm"];
    run(join(root, "node_modules/@arethetypeswrong/cli/dist/index.js"), join(folder, name), ...options);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("public types have no any, and a strict program compiles against them", () => {
  for (const name of readdirSync(dist, { recursive: true })) {
    if (name.endsWith(".d.ts"))
      assert(
        !/\bany\b(?![ ,.;*'’)-])/.test(
          read(name)
            .toString()
            .replace(/\/\*[^]*?\*\/|\/\/.*/g, ""),
        ),
        name,
      );
  }
  const folder = mkdtempSync(join(tmpdir(), "types-"));
  try {
    writeFileSync(join(folder, "use.ts"), readFileSync(join(root, "tests/types.ts")));
    const config = {
      compilerOptions: {
        strict: true,
        noEmit: true,
        target: "ES2022",
        lib: ["ES2022", "DOM", "DOM.Iterable", "DOM.AsyncIterable"],
        module: "NodeNext",
        types: [],
        exactOptionalPropertyTypes: true,
        noUncheckedIndexedAccess: true,
        paths: { "tcpip-wasm": [join(dist, "index.d.ts")] },
      },
      files: ["use.ts"],
    };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config));
    writeFileSync(join(folder, "package.json"), '{"type":"module"}');
    run(join(root, "node_modules/typescript/bin/tsc"), "-p", folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("no public member is renamed by the build", () => {
  const [, listed] = readFileSync(join(root, "build.mjs"), "utf8").match(/const INTERNAL =([^;]*);/);
  const internal = new Set(listed.match(/\w+/g));
  const types = readFileSync(join(root, "src/types.ts"), "utf8");
  const members = [...types.matchAll(/^ +(?:readonly )?(\w+)\??[:(<]/gm)].map(([, name]) => name);
  assert(internal.size > 50 && members.length > 100);
  assert.deepEqual(
    members.filter((name) => internal.has(name)),
    [],
  );
});

test("a bundler for pages takes it", async () => {
  const { build } = await import("esbuild");
  const options = { bundle: true, format: "esm", platform: "browser", write: false, logLevel: "silent" };
  const { errors, warnings } = await build({ ...options, entryPoints: [join(dist, "index.js")], outdir: "out" });
  assert.deepEqual([...errors, ...warnings], []);
});

/** The beginning of a program: a connection of two stacks. */
const CONNECTION = `
    const { createStack, connect } = await import("./dist/index.js");
    const [a, b] = [await createStack(), await createStack()];
    connect(await a.createTapInterface({ ip: "10.0.0.1/24" }), await b.createTapInterface({ ip: "10.0.0.2/24" }));
    const listener = await b.listenTcp({ port: 80 });
    const [client, server] = await Promise.all([a.connectTcp({ host: "10.0.0.2", port: 80 }), listener.accept()]);`;

test("a program ends when nothing is open any more, though its stacks are not closed", () => {
  const script = `
    ${CONNECTION}
    await Promise.all([client.writable.close(), server.writable.close()]);
    console.log("done");`;
  assert.equal(
    execFileSync(process.execPath, ["--input-type=module", "-e", script], { cwd: root, timeout: 30_000 }).toString(),
    "done\n",
  );
});

test("the program of the README prints what it says", () => {
  const [, program] = readFileSync(join(root, "README.md"), "utf8").match(/```js\n([^]*?)```/);
  assert.equal(run("--input-type=module", "-e", program.replace('"tcpip-wasm"', '"./dist/index.js"')), "Alice\n");
});

test("the code is formatted", () => {
  run(join(root, "node_modules/prettier/bin/prettier.cjs"), "--check", "--log-level", "warn", ".");
});

test("it runs where there is no setImmediate, as in pages", () => {
  const script = `
    delete globalThis.setImmediate;
    ${CONNECTION}
    const writer = client.writable.getWriter();
    let sent = 0;
    (async () => { while (sent < 5e6) { await writer.write(new Uint8Array(65536)); sent += 65536; } await writer.close(); })();
    let got = 0;
    for await (const chunk of server) got += chunk.length;
    console.log(got === sent && got >= 5e6);
    process.exit();`;
  assert.equal(run("--input-type=module", "-e", script).trim(), "true");
});
