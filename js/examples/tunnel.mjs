// The program of tunnel.html: a stack whose network card is a WebSocket, one Ethernet frame a message.

import { createStack } from "../dist/index.js";
import { createHttp } from "../dist/http.js";
import { element, MIB, sha256 } from "./page.mjs";

const NAME = "python.lab";
/** Bytes that the WebSocket may hold. The stack keeps what is more, and TCP waits. */
const MOST_BUFFERED = 1024 * 1024;
/** Milliseconds between two looks at what the WebSocket holds: it has no event for that. */
const LOOK = 5;

/** Joins a tap to a relay. Resolves when the WebSocket is open, and then the tap is on the relay's network. */
async function joinRelay(tap, url) {
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error(`no relay at ${url}`));
  });
  const incoming = tap.writable.getWriter();
  socket.onmessage = ({ data }) => incoming.write(new Uint8Array(data));
  socket.onclose = () => show("failed: the relay has closed the link");
  const outgoing = new WritableStream({
    async write(frame) {
      while (socket.bufferedAmount > MOST_BUFFERED) await new Promise((resolve) => setTimeout(resolve, LOOK));
      if (socket.readyState === WebSocket.OPEN) socket.send(frame);
    },
  });
  tap.readable.pipeTo(outgoing).catch((error) => show(`failed: ${error.message}`));
}

function show(outcome) {
  element("outcome").textContent = outcome;
}

function step(text) {
  element("steps").append(Object.assign(document.createElement("li"), { textContent: text }));
}

/** Byte `i` of a file is the low byte of i × 167 + i / 251, as the Python program computes it. */
function fileOf(length) {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (Math.imul(i, 167) + Math.floor(i / 251)) & 255;
  return bytes;
}

async function exchange(length) {
  element("steps").replaceChildren();
  const file = fileOf(length);

  const response = await fetch(`http://${NAME}/file?bytes=${length}`);
  const received = new Uint8Array(await response.arrayBuffer());
  if (received.length !== length) throw new Error(`${received.length} of ${length} bytes`);
  const wrong = received.findIndex((byte, i) => byte !== file[i]);
  if (wrong >= 0) throw new Error(`byte ${wrong} is wrong`);
  step(`received ${received.length} bytes, each verified`);

  const digest = await (await fetch(`http://${NAME}/digest`, { method: "POST", body: file })).text();
  if (digest !== (await sha256(file))) throw new Error(`SHA-256: ${digest}`);
  step(`sent ${file.length} bytes, SHA-256 ${digest}`);

  step(`python.lab was told: ${await (await fetch(`http://${NAME}/visit`)).text()}`);
}

const stack = await createStack();
const tap = await stack.createTapInterface();
const { fetch, serve } = await createHttp(stack);
await serve(() => new Response("good day from the page"));
element("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  element("start").disabled = true;
  show("");
  try {
    await exchange(element("size").valueAsNumber * MIB);
    show("done");
  } catch (error) {
    show(`failed: ${error.message}`);
  }
  element("start").disabled = false;
});
try {
  await joinRelay(tap, new URLSearchParams(location.search).get("relay"));
  [element("address").textContent] = await tap.configure();
  globalThis.stack = stack; // for the console
  element("start").disabled = false;
} catch (error) {
  show(`failed: ${error.message}`);
}
