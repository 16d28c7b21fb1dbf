// The program of hosts.html: two stacks on a link that is captured, and a transfer that is verified byte by byte.

import { connectStreams, createStack } from "../dist/index.js";
import { createHttp } from "../dist/http.js";
import { element, MIB, showFigures } from "./page.mjs";

/** Bytes of frames that the capture keeps, from the first on. */
const MOST_CAPTURED = 8 * 1024 * 1024;

/** A capture in the pcap format with times in microseconds, link type Ethernet. */
class Capture {
  frames = 0;
  #size = 0;
  #parts = [new Uint8Array(Uint32Array.of(0xa1b2c3d4, 0x00040002, 0, 0, 65535, 1).buffer)];

  /** Keeps a copy of a frame while there is room. */
  add = (frame) => {
    this.frames++;
    if (this.#size + frame.length > MOST_CAPTURED) return frame;
    this.#size += frame.length;
    const now = performance.timeOrigin + performance.now();
    const head = Uint32Array.of(now / 1000, (now % 1000) * 1000, frame.length, frame.length);
    this.#parts.push(new Uint8Array(head.buffer), frame.slice());
    return frame;
  };

  blob = () => new Blob(this.#parts, { type: "application/vnd.tcpdump.pcap" });
}

/** Byte `i` of the transfer is the low byte of i × 167 + i / 251: no shift and no loss leaves it as it is. */
const byteAt = (i) => (Math.imul(i, 167) + Math.floor(i / 251)) & 255;

function body(length) {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= length) {
        controller.close();
        return;
      }
      const chunk = new Uint8Array(Math.min(65536, length - at));
      for (let i = 0; i < chunk.length; i++) chunk[i] = byteAt(at + i);
      at += chunk.length;
      controller.enqueue(chunk);
    },
  });
}

const client = await createStack();
const server = await createStack();
const capture = new Capture();
connectStreams(
  await client.createTapInterface({ ip: "10.0.0.1/24" }),
  await server.createTapInterface({ ip: "10.0.0.2/24" }),
  { transformAtoB: capture.add, transformBtoA: capture.add },
);
await (
  await createHttp(server)
).serve(({ url }) => {
  const length = Number(new URL(url).searchParams.get("bytes"));
  return new Response(body(length), { headers: { "content-length": `${length}` } });
});
const { fetch } = await createHttp(client);

let received = 0;
let rate = 0;

/** Fetches and verifies so many bytes. @throws Error at the first that is wrong. */
async function transfer(length) {
  received = 0;
  const begun = performance.now();
  const response = await fetch(`http://10.0.0.2/?bytes=${length}`);
  for (let reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    for (let i = 0; i < value.length; i++) {
      if (value[i] !== byteAt(received + i)) throw new Error(`byte ${received + i} is wrong`);
    }
    received += value.length;
    rate = received / MIB / ((performance.now() - begun) / 1000);
  }
  if (received !== length) throw new Error(`${received} of ${length} bytes`);
  return received;
}

function show() {
  const [a, b] = [client.stats(), server.stats()];
  showFigures({
    "MiB received": (received / MIB).toFixed(1),
    "MiB per second": rate.toFixed(1),
    "frames on the link": capture.frames,
    "TCP segments sent by 10.0.0.1": a.tcpSegmentsOut,
    "TCP segments sent by 10.0.0.2": b.tcpSegmentsOut,
    retransmissions: a.tcpRetransmissions + b.tcpRetransmissions,
  });
}

element("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  element("fetch").disabled = true;
  element("outcome").textContent = "";
  try {
    element("outcome").textContent = `${await transfer(element("size").valueAsNumber * MIB)} bytes verified`;
  } catch (error) {
    element("outcome").textContent = `failed: ${error.message}`;
  }
  show();
  element("fetch").disabled = false;
});
element("pcap").addEventListener("click", () => {
  const url = URL.createObjectURL(capture.blob());
  element("pcap").href = url;
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
});
show();
setInterval(show, 250);
element("fetch").disabled = false;
