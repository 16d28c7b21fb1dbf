// A server for the files of js/, and Chromium.

import { once } from "node:events";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";
import puppeteer from "puppeteer-core";

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
/** Why a test skips, or false. */
export const missing = !existsSync(executablePath) && `${executablePath} is not installed`;
if (missing && process.env.TCPIP_WASM_REQUIRE_PEERS) throw new Error(missing);

const TYPES = {
  ".html": "text/html",
  ".mjs": "text/javascript",
  ".js": "text/javascript",
  ".wasm": "application/wasm",
};
const POLICY =
  "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'unsafe-inline'; connect-src 'self' blob:";

/** Serves the folder js/ at a port of the loopback, with a Content-Security-Policy. */
export async function servePages() {
  const server = createServer(async ({ url }, answer) => {
    const { pathname } = new URL(url, "http://page");
    const data = await readFile(new URL(`../..${pathname}`, import.meta.url)).catch(() => undefined);
    answer.writeHead(data ? 200 : 404, {
      "content-type": TYPES[extname(pathname)] ?? "text/plain",
      "content-security-policy": POLICY,
    });
    answer.end(data);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return { server, origin: `http://127.0.0.1:${server.address().port}` };
}

export const launchChromium = () => puppeteer.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
