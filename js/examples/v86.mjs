// The program of v86.html: DHCP and HTTP on a stack, and a guest that boots iPXE with a script.

import { connectStreams, createStack } from "../dist/index.js";
import { createDhcp } from "../dist/dhcp.js";
import { createHttp } from "../dist/http.js";
import { createV86NetworkStream } from "../dist/v86.js";
import { V86 } from "/v86/libv86.mjs";
import { element, MIB, sha256, showFigures } from "./page.mjs";

const HOST = "10.0.0.1";
/** The guest's clock is the page's, so that on a busy machine a step of it may time out. */
const SCRIPT = `#!ipxe
:lease
dhcp || goto lease
:file
imgfetch http://${HOST}/file || goto file
imgfetch http://${HOST}/done
`;

/** Copies to a length that is a multiple of four: v86 loads images by words. */
function padded(bytes) {
  const copy = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  copy.set(bytes);
  return { buffer: copy.buffer };
}

async function load(name) {
  const response = await fetch(`/v86/${name}`);
  if (!response.ok) throw new Error(`/v86/${name}: ${response.status}`);
  return padded(new Uint8Array(await response.arrayBuffer()));
}

/**
 * Finds the file in the guest's memory by its first bytes, which packets have as well, and returns the SHA-256 of what is
 * there: the file's, or that of the last place.
 */
async function findFile(memory, file) {
  const wanted = await sha256(file);
  let found;
  for (let at = memory.indexOf(file[0]); at >= 0 && found !== wanted; at = memory.indexOf(file[0], at + 1)) {
    let same = 1;
    while (same < 64 && memory[at + same] === file[same]) same++;
    if (same === 64) found = await sha256(memory.slice(at, at + file.length));
  }
  return found;
}

const stack = await createStack();
const tap = await stack.createTapInterface({ ip: `${HOST}/24` });
await (
  await createDhcp(stack)
).serve({
  leaseRange: { start: "10.0.0.100", end: "10.0.0.199" },
  serverIdentifier: HOST,
  netmask: "255.255.255.0",
  router: HOST,
});
const file = new Uint8Array(MIB);
for (let at = 0; at < MIB; at += 65536) crypto.getRandomValues(file.subarray(at, at + 65536));
const served = [];
let fetched;
const whenFetched = new Promise((resolve) => (fetched = resolve));
await (
  await createHttp(stack)
).serve(({ url }) => {
  const { pathname } = new URL(url);
  served.push(pathname);
  if (pathname === "/file") return new Response(file);
  if (pathname !== "/done") return new Response(pathname, { status: 404 });
  fetched();
  return new Response("well done");
});

function show() {
  const { tcpSegmentsIn, tcpSegmentsOut, tcpRetransmissions } = stack.stats();
  showFigures({
    "requests of the guest": served.join(" "),
    "TCP segments received": tcpSegmentsIn,
    "TCP segments sent": tcpSegmentsOut,
    retransmissions: tcpRetransmissions,
  });
}

/** Boots the guest, and resolves to the SHA-256 of the file in its memory. */
async function boot() {
  const emulator = new V86({
    wasm_path: "/v86/v86.wasm",
    memory_size: 128 * MIB,
    bios: await load("bios.bin"),
    vga_bios: await load("vgabios.bin"),
    bzimage: await load("ipxe.lkrn"),
    initrd: padded(new TextEncoder().encode(SCRIPT)),
    net_device: { type: "ne2k" },
    disable_speaker: true,
    screen_container: element("screen"),
    autostart: true,
  });
  connectStreams(tap, createV86NetworkStream(emulator));
  await whenFetched;
  const digest = await findFile(emulator.read_memory(0, 128 * MIB), file);
  await emulator.destroy();
  return digest;
}

element("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  element("start").disabled = true;
  try {
    const [got, sent] = [await boot(), await sha256(file)];
    element("outcome").textContent =
      got === sent
        ? `the guest has the file: ${file.length} bytes, SHA-256 ${got}`
        : `the guest has ${got}, not ${sent}`;
  } catch (error) {
    element("outcome").textContent = `failed: ${error.message}`;
  }
});
show();
setInterval(show, 250);
element("start").disabled = false;
