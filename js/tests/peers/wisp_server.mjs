// The Wisp server of wisp-js on a port of the loopback, for a test. The first argument has its options as JSON; it writes
// its port, and ends with its standard input.

import { once } from "node:events";
import { createServer } from "node:http";
import { logging, server as wisp } from "@mercuryworkshop/wisp-js/server";
import { report, serveCalls } from "./lines.mjs";

logging.set_level(logging.NONE);
Object.assign(wisp.options, JSON.parse(process.argv[2] ?? "{}"));
const server = createServer().on("upgrade", (request, socket, head) => wisp.routeRequest(request, socket, head));
await once(server.listen(0, "127.0.0.1"), "listening");
report(server.address().port);
await serveCalls({});
