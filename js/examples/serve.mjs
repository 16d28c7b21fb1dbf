// Serves the pages of this folder at a port of the loopback: node examples/serve.mjs, in js/ after `node build.mjs`.
//
// Below /v86/ are the emulator (npm's v86) and the images of Debian's packages seabios and ipxe.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";

const TYPES = {
  ".html": "text/html",
  ".css": "text/css",
  ".mjs": "text/javascript",
  ".js": "text/javascript",
  ".wasm": "application/wasm",
};
const POLICY = [
  "default-src 'self'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "style-src 'self' 'unsafe-inline'", // v86 writes styles into its screen
  "connect-src 'self' blob:",
  "worker-src blob:", // of v86
].join("; ");

const ROOT = new URL("../", import.meta.url);
/** Files outside of js/, by their paths below /v86/. */
export const IMAGES = {
  "libv86.mjs": fileURLToPath(new URL("node_modules/v86/build/libv86.mjs", ROOT)),
  "v86.wasm": fileURLToPath(new URL("node_modules/v86/build/v86.wasm", ROOT)),
  "bios.bin": "/usr/share/seabios/bios.bin",
  "vgabios.bin": "/usr/share/seabios/vgabios-stdvga.bin",
  "ipxe.lkrn": "/usr/lib/ipxe/ipxe.lkrn",
};

function find(pathname) {
  const image = pathname.match(/^\/v86\/(.+)$/)?.[1];
  return image === undefined ? new URL(`.${pathname}`, ROOT) : Object.hasOwn(IMAGES, image) && IMAGES[image];
}

/** Starts the server, and returns it with its origin. Its pages may connect to itself alone. */
export async function servePages() {
  const server = createServer(async ({ url }, answer) => {
    const { pathname } = new URL(url, "http://page");
    const file = find(pathname);
    const data = file && (await readFile(file).catch(() => undefined));
    answer.writeHead(data ? 200 : 404, {
      "content-type": TYPES[extname(pathname)] ?? "application/octet-stream",
      "content-security-policy": POLICY,
    });
    answer.end(data);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return { server, origin: `http://127.0.0.1:${server.address().port}` };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { origin } = await servePages();
  for (const page of ["hosts", "v86"]) console.log(`${origin}/examples/${page}.html`);
}
