// Our figures beside asyncio over the kernel's loopback, each measured alternately in the same run.
//
//     node bench/index.mjs [--rounds 5] [--only bulk] [--python python3] [--chromium]
//
// With --chromium the rows are measured in a page.

import { execFileSync, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { bulk, connects, echo, lateness } from "./rows.mjs";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    only: { type: "string" },
    python: { type: "string", default: "python3" },
    chromium: { type: "boolean", default: false },
  },
});
const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const reference = spawn(values.python, [here("kernel.py")], { stdio: ["pipe", "pipe", "inherit"] });
const answers = createInterface({ input: reference.stdout })[Symbol.asyncIterator]();
const kernel = async (request) => {
  reference.stdin.write(`${request}\n`);
  return JSON.parse((await answers.next()).value);
};

const MIB = 1024 * 1024;
const giga = (figure) => `${(figure / 1e9).toFixed(2)} Gbit/s`;
const micro = (figure) => `${(figure * 1e6).toFixed(1)} µs`;
const perSecond = (figure) => `${figure.toFixed(0)}/s`;
const milli = (figure) => `${figure.toFixed(1)} ms`;

/** Starts Chromium, and returns what measures a row in a page of its own. */
async function openChromium() {
  const { launchChromium } = await import("../tests/browsers/chromium.mjs");
  const { servePages } = await import("../examples/serve.mjs");
  const [{ server, origin }, browser] = [await servePages(), await launchChromium()];
  return {
    version: await browser.version(),
    async measure(name, ...options) {
      const page = await browser.newPage();
      await page.goto(`${origin}/examples/hosts.html`);
      const measured = page.evaluate(
        async (name, options) => (await import("/bench/rows.mjs"))[name](...options),
        name,
        options,
      );
      return measured.finally(() => page.close());
    },
    async close() {
      await browser.close();
      server.close();
    },
  };
}

// name, ours, the reference's request, text of a figure, goal; a goal is a bound of the ratio, or of the figure.
const ROWS = [
  ["bulk, default reader", () => bulk(256 * MIB), `bulk ${256 * MIB}`, giga, 0.35],
  ["bulk, BYOB", () => bulk(256 * MIB, "cable", "byob"), `bulk ${256 * MIB}`, giga, 0.6],
  ["bulk, frame by frame through pipeTo", () => bulk(32 * MIB, "pipe"), `bulk ${256 * MIB}`, giga, 0.04],
  ["bulk, own loopback", () => bulk(128 * MIB, "loopback"), `bulk ${256 * MIB}`, giga, 0.15],
  ["echo p50", () => echo(10_000), "echo 10000", micro, -0.8],
  ["connects and closes", () => connects(2000), "connects 2000", perSecond, 1.5],
  ["import to first tap", () => Number(execFileSync(process.execPath, [here("first_tap.mjs")])), undefined, milli, -30],
  ["a 10 ms timer during a transfer, p99 late", () => lateness(1), undefined, milli, -15],
];

const chromium = values.chromium ? await openChromium() : undefined;
const PAGE_ROWS = [
  ["bulk, default reader", () => chromium.measure("bulk", 64 * MIB), `bulk ${256 * MIB}`, giga, 0.15],
  ["bulk, BYOB", () => chromium.measure("bulk", 64 * MIB, "cable", "byob"), `bulk ${256 * MIB}`, giga, 0.15],
  ["a 10 ms timer during a transfer, p99 late", () => chromium.measure("lateness", 1), undefined, milli, -15],
];

const median = (figures) => figures.sort((x, y) => x - y)[figures.length >> 1];

console.log(`${chromium?.version ?? `Node ${process.version}`}, medians of ${values.rounds} rounds`);
for (const [name, ours, request, text, goal] of chromium ? PAGE_ROWS : ROWS) {
  if (values.only && !name.includes(values.only)) continue;
  const [mine, theirs, ratios] = [[], [], []];
  for (let round = 0; round < Number(values.rounds); round++) {
    const other = request ? await kernel(request) : undefined;
    const own = await ours();
    mine.push(own);
    if (request) (theirs.push(other), ratios.push(own / other));
  }
  const judged = request ? median(ratios) : median(mine);
  const met = goal < 0 ? judged <= -goal : judged >= goal;
  const compared = request ? `, asyncio ${text(median(theirs))}, ratio ${judged.toFixed(2)}` : "";
  const wanted = `${goal < 0 ? "at most" : "at least"} ${Math.abs(goal)}`;
  console.log(`${met ? "    " : "MISS"} ${name}: ${text(median(mine))}${compared} (${wanted})`);
}
reference.stdin.end();
await chromium?.close();
