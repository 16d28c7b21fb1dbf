// The page with a guest of v86 that boots iPXE and fetches a file, in Chromium.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import test from "node:test";
import { IMAGES, servePages } from "../../examples/serve.mjs";
import { missing as noChromium, openPage } from "./chromium.mjs";

const absent = Object.values(IMAGES).find((path) => !existsSync(path));
const missing = noChromium || (absent && `${absent} is not installed`);
if (missing && process.env.TCPIP_WASM_REQUIRE_PEERS) throw new Error(missing);

test("a guest of v86 boots iPXE, and fetches a mebibyte from the page's host", { skip: missing }, async (t) => {
  const { server, origin } = await servePages();
  t.after(() => server.close());
  const { page, errors } = await openPage(t);
  await page.goto(`${origin}/examples/v86.html`);
  await page.waitForSelector("#start:enabled");
  await page.click("#start");
  const text = (selector) => page.$eval(selector, ({ innerText }) => innerText);
  try {
    await page.waitForFunction(() => document.getElementById("outcome").textContent, { timeout: 150_000 });
  } catch (error) {
    throw new Error(`${await text("#screen")}\n${await text("#figures")}`, { cause: error });
  }
  assert.match(await text("#outcome"), /^the guest has the file: 1048576 bytes, SHA-256 [0-9a-f]{64}$/);
  assert.match(await text("#figures"), /requests of the guest\s+\/file .*\/done/);
  assert.deepEqual(errors, []);
});
