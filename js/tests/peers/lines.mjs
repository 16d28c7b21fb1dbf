// Programs that a test drives: a line of JSON on standard input is a call, and a line on standard output its result.

import { createInterface } from "node:readline";

/** Writes a result. */
export function report(result) {
  process.stdout.write(`${JSON.stringify(result ?? null)}\n`);
}

/** Serves calls, `{call, ...arguments}`, one after the other, until the input ends; then the process ends. */
export async function serveCalls(calls) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { call, ...given } = JSON.parse(line);
    report(await calls[call](given));
  }
  process.exit();
}
