// Chromium for tests and benchmarks.

import { existsSync } from "node:fs";
import puppeteer from "puppeteer-core";

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
/** Why a test skips, or false. */
export const missing = !existsSync(executablePath) && `${executablePath} is not installed`;
if (missing && process.env.TCPIP_WASM_REQUIRE_PEERS) throw new Error(missing);

export const launchChromium = () => puppeteer.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });

/** Opens a page in a browser that ends with the test; `errors` are those that no script of the page has caught. */
export async function openPage(t) {
  const browser = await launchChromium();
  t.after(() => browser.close());
  const page = await browser.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  return { page, errors };
}
