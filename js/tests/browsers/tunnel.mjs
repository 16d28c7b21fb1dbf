// The Python program of the tunnel's page, as a process of a test.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { missing as noChromium } from "./chromium.mjs";

const python = fileURLToPath(new URL("../../../.venv/bin/python", import.meta.url));
/** Why a test skips, or false. */
export const missing = noChromium || (!existsSync(python) && `${python} is missing: make setup`);
if (missing && process.env.TCPIP_WASM_REQUIRE_PEERS) throw new Error(missing);

/**
 * Starts the program, which ends with the test.
 *
 * @param forwards ports of its host, and those of the machine that it passes connections on to.
 * @returns the page's address, and a function that interrupts the program and returns its exit code and signal.
 */
export async function startTunnel(t, forwards = {}) {
  const options = Object.entries(forwards).flatMap(([port, target]) => ["--forward", `${port}=127.0.0.1:${target}`]);
  const program = spawn(python, [fileURLToPath(new URL("../../examples/tunnel.py", import.meta.url)), ...options], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(program, "exit");
  t.after(() => program.kill("SIGKILL"));
  const [url] = await Promise.race([
    once(createInterface(program.stdout), "line"),
    exited.then((status) => Promise.reject(new Error(`the program ended: ${status}`))),
  ]);
  const interrupt = () => {
    program.kill("SIGINT");
    return exited;
  };
  return { url, interrupt };
}
