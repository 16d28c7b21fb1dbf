// The page that shares a network with a Python program, in Chromium.

import assert from "node:assert/strict";
import test from "node:test";
import { openPage } from "./chromium.mjs";
import { missing, startTunnel } from "./tunnel.mjs";

test("a page on the network of a Python program", { skip: missing }, async (t) => {
  const { url, interrupt } = await startTunnel(t);
  const { page, errors } = await openPage(t);
  await page.goto(url);
  await page.waitForFunction(
    () => !document.getElementById("start").disabled || document.getElementById("outcome").textContent,
  );
  const text = (id) => page.$eval(`#${id}`, ({ textContent }) => textContent);
  if (!(await text("outcome"))) await page.click("#start");
  await page.waitForFunction(() => document.getElementById("outcome").textContent);
  const [address, outcome] = [await text("address"), await text("outcome")];
  const steps = await page.$$eval("#steps li", (items) => items.map(({ textContent }) => textContent));
  assert.deepEqual([outcome, errors], ["done", []]);
  assert.match(address, /^10\.0\.0\.1\d\d/);
  const size = 4 * 1024 * 1024;
  assert.deepEqual(
    steps.map((step) => step.replace(/[0-9a-f]{64}/, "…")),
    [
      `received ${size} bytes, each verified`,
      `sent ${size} bytes, SHA-256 …`,
      "python.lab was told: good day from the page",
    ],
  );
  assert.deepEqual(await interrupt(), [0, null]);
});
