// v86 with its own network clients, and a guest that boots iPXE and fetches a file, for a test. The argument is JSON:
// `relay`, the address of a Wisp server or of a relay of frames; `file` and `done`, addresses that the guest fetches, and
// `size` and `first`, of what the first of them is, its length and its first bytes in hexadecimal. The call `find` returns the SHA-256 of what is in the
// guest's memory where these bytes are.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { WebSocket } from "undici";
import { V86 } from "v86";
import { IMAGES } from "../../examples/serve.mjs";
import { serveCalls } from "./lines.mjs";

const MEMORY = 128 << 20;
const { relay, file, done, size, first } = JSON.parse(process.argv[2]);
const SCRIPT = `#!ipxe
:lease
dhcp || goto lease
:file
imgfetch ${file} || goto file
imgfetch ${done}
`;

/** v86 loads images by words. */
function padded(bytes) {
  const copy = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  copy.set(bytes);
  return { buffer: copy.buffer };
}

const load = (name) => padded(readFileSync(IMAGES[name]));

globalThis.WebSocket ??= WebSocket; // Node 20 has none
const emulator = new V86({
  wasm_path: IMAGES["v86.wasm"],
  memory_size: MEMORY,
  bios: load("bios.bin"),
  vga_bios: load("vgabios.bin"),
  bzimage: load("ipxe.lkrn"),
  initrd: padded(new TextEncoder().encode(SCRIPT)),
  net_device: { type: "ne2k", relay_url: relay },
  disable_speaker: true,
  autostart: true,
});

await serveCalls({
  find() {
    const memory = Buffer.from(emulator.read_memory(0, MEMORY));
    const found = new Set();
    const start = Buffer.from(first, "hex");
    for (let at = memory.indexOf(start); at >= 0; at = memory.indexOf(start, at + 1))
      found.add(
        createHash("sha256")
          .update(memory.subarray(at, at + size))
          .digest("hex"),
      );
    return [...found];
  },
});
