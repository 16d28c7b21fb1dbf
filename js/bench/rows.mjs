// What is measured: each function makes its own stacks, checks what arrives, and returns a figure.

import { connect, createStack } from "../dist/index.js";

const WRITE = 65536;
const BLOCK = Uint8Array.from({ length: WRITE }, (_, i) => (i * 7 + (i >> 8)) & 255);
const TWICE = Uint8Array.from({ length: 2 * WRITE }, (_, i) => BLOCK[i % WRITE]);

/** Whether so many bytes are those of `TWICE` from `at` on. Pages have no function that compares bytes. */
function isSame(chunk, from, length, at) {
  if (globalThis.Buffer) return !Buffer.compare(chunk.subarray(from, from + length), TWICE.subarray(at, at + length));
  for (let i = 0; i < length; i++) if (chunk[from + i] !== TWICE[at + i]) return false;
  return true;
}

/** Compares what arrives with what was sent. */
function checker(size) {
  let got = 0;
  return {
    take(chunk) {
      for (let from = 0; from < chunk.length; from += WRITE) {
        const at = got % WRITE;
        const length = Math.min(WRITE, chunk.length - from);
        if (!isSame(chunk, from, length, at)) throw new Error("the data differs");
        got += length;
      }
    },
    finish() {
      if (got !== size) throw new Error(`${got} bytes of ${size} arrived`);
    },
  };
}

/** Two stacks on a cable, on piped streams, or one stack. */
async function network(kind) {
  const a = await createStack();
  if (kind === "loopback") return { a, b: a, host: "127.0.0.1", end: () => a.close() };
  const b = await createStack();
  const one = await a.createTapInterface({ ip: "10.0.0.1/24" });
  const two = await b.createTapInterface({ ip: "10.0.0.2/24" });
  if (kind === "pipe") {
    one.readable.pipeTo(two.writable);
    two.readable.pipeTo(one.writable);
  } else {
    connect(one, two);
  }
  return { a, b, host: "10.0.0.2", end: () => Promise.all([a.close(), b.close()]) };
}

/** Bit/s by the public streams. `reader`: "default" or "byob". */
export async function bulk(size, kind = "cable", reader = "default") {
  const { a, b, host, end } = await network(kind);
  const listener = await b.listenTcp({ port: 80 });
  const [client, server] = await Promise.all([a.connectTcp({ host, port: 80 }), listener.accept()]);
  const started = performance.now();
  const sending = (async () => {
    const writer = client.writable.getWriter();
    for (let at = 0; at < size; at += WRITE) await writer.write(BLOCK);
    await writer.close();
  })();
  const check = checker(size);
  if (reader === "byob") {
    const source = server.readable.getReader({ mode: "byob" });
    let buffer = new ArrayBuffer(4 * WRITE);
    for (;;) {
      const { done, value } = await source.read(new Uint8Array(buffer));
      if (done) break;
      check.take(value);
      buffer = value.buffer;
    }
  } else {
    const source = server.readable.getReader();
    for (;;) {
      const { done, value } = await source.read();
      if (done) break;
      check.take(value);
    }
  }
  await sending;
  const seconds = (performance.now() - started) / 1000;
  check.finish();
  await end();
  return (size * 8) / seconds;
}

/** The median round trip of a byte, in seconds. */
export async function echo(count, kind = "cable") {
  const { a, b, host, end } = await network(kind);
  const listener = await b.listenTcp({ port: 80 });
  const serve = async () => {
    const connection = await listener.accept();
    const writer = connection.writable.getWriter();
    for await (const chunk of connection) await writer.write(chunk);
    await writer.close();
  };
  const serving = serve();
  const client = await a.connectTcp({ host, port: 80 });
  const writer = client.writable.getWriter();
  const reader = client.readable.getReader();
  const times = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const byte = Uint8Array.of(i);
    const started = performance.now();
    writer.write(byte);
    const { value } = await reader.read();
    times[i] = performance.now() - started;
    if (value.length !== 1 || value[0] !== (i & 255)) throw new Error("the data differs");
  }
  await writer.close();
  await serving;
  await end();
  return times.sort()[count >> 1] / 1000;
}

/** Connections a second, one after the other: each gets a byte when it has ended its direction. */
export async function connects(count, kind = "cable") {
  const { a, b, host, end } = await network(kind);
  const listener = await b.listenTcp({ port: 80 });
  (async () => {
    for await (const connection of listener) {
      (async () => {
        const reader = connection.readable.getReader();
        while (!(await reader.read()).done);
        const writer = connection.writable.getWriter();
        await writer.write(Uint8Array.of(120));
        await writer.close();
      })();
    }
  })();
  const started = performance.now();
  for (let i = 0; i < count; i++) {
    const connection = await a.connectTcp({ host, port: 80 });
    await connection.writable.getWriter().close();
    const reader = connection.readable.getReader();
    const { value } = await reader.read();
    if (value[0] !== 120 || !(await reader.read()).done) throw new Error("the data differs");
    await connection.close();
  }
  const seconds = (performance.now() - started) / 1000;
  await end();
  return count / seconds;
}

/** How late a timer of 10 ms is during a transfer: the 99th percentile, in milliseconds. */
export async function lateness(seconds, kind = "cable") {
  const { a, b, host, end } = await network(kind);
  const listener = await b.listenTcp({ port: 80 });
  const [client, server] = await Promise.all([a.connectTcp({ host, port: 80 }), listener.accept()]);
  let running = true;
  const sending = (async () => {
    const writer = client.writable.getWriter();
    while (running) await writer.write(BLOCK);
    await writer.close();
  })();
  const receiving = (async () => {
    const reader = server.readable.getReader();
    while (!(await reader.read()).done);
  })();
  const late = [];
  const until = performance.now() + seconds * 1000;
  while (performance.now() < until) {
    const due = performance.now() + 10;
    await new Promise((resolve) => setTimeout(resolve, 10));
    late.push(performance.now() - due);
  }
  running = false;
  await Promise.all([sending, receiving]);
  await end();
  return late.sort((x, y) => x - y)[Math.floor(late.length * 0.99)];
}
