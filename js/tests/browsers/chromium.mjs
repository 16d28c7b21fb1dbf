// Chromium for tests and benchmarks.

import { existsSync } from "node:fs";
import puppeteer from "puppeteer-core";

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
/** Why a test skips, or false. */
export const missing = !existsSync(executablePath) && `${executablePath} is not installed`;
if (missing && process.env.TCPIP_WASM_REQUIRE_PEERS) throw new Error(missing);

export const launchChromium = () => puppeteer.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
