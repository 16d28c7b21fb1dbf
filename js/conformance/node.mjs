/** The conformance suite in Node: `node node.mjs MODULE <SUITE.json >SEEN.json`. */
import { readFileSync } from "node:fs";
import { runSuite } from "./runner.mjs";

const seen = await runSuite(JSON.parse(readFileSync(0, "utf8")), readFileSync(process.argv[2]));
process.stdout.write(JSON.stringify(seen));
