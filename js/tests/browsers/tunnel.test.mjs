// The page that shares a network with a Python program, in Chromium.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { launchChromium, missing as noChromium } from "./pages.mjs";

const python = fileURLToPath(new URL("../../../.venv/bin/python", import.meta.url));
const missing = noChromium || (!existsSync(python) && `${python} is missing: make setup`);
if (missing && process.env.TCPIP_WASM_REQUIRE_PEERS) throw new Error(missing);

test("a page on the network of a Python program", { skip: missing }, async (t) => {
  const program = spawn(python, [fileURLToPath(new URL("../../examples/tunnel.py", import.meta.url))], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(program, "exit");
  t.after(() => program.kill("SIGKILL"));
  const [url] = await once(createInterface(program.stdout), "line");
  const browser = await launchChromium();
  t.after(() => browser.close());
  const page = await browser.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  await page.goto(url);
  await page.waitForFunction(
    () => !document.getElementById("start").disabled || document.getElementById("outcome").textContent,
  );
  const { address, outcome, steps } = await page.evaluate(async () => {
    const text = (id) => document.getElementById(id).textContent;
    if (!text("outcome")) {
      document.getElementById("start").click();
      while (!text("outcome")) await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const steps = [...document.querySelectorAll("#steps li")].map(({ textContent }) => textContent);
    return { address: text("address"), outcome: text("outcome"), steps };
  });
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
  program.kill("SIGINT");
  assert.deepEqual(await exited, [0, null]);
});
