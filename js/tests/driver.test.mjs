// The driver: timers, fairness, many stacks, traps.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import test from "node:test";
import { bytes, connected, createStack, macrotask, pair, pattern, readAll, send, text, VirtualClock } from "./kit.mjs";

test("a timer runs during a transfer that never ends", async () => {
  const { client, server } = await connected(await pair());
  let running = true;
  let received = 0;
  const sending = (async () => {
    const writer = client.writable.getWriter();
    while (running) await writer.write(new Uint8Array(65536));
    await writer.close();
  })();
  const receiving = (async () => {
    for await (const chunk of server) received += chunk.length;
  })();
  // Without macrotasks in between, none of these would ever come.
  let immediates = 0;
  for (let i = 0; i < 20; i++) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    await macrotask();
    immediates++;
  }
  running = false;
  await Promise.all([sending, receiving]);
  assert.equal(immediates, 20);
  assert(received > 65536);
});

/** A clock on which each reading takes time, whatever the machine's speed: work is measured in readings. */
class WorkClock extends VirtualClock {
  /** Seconds of a reading: the driver's 2 ms are forty. */
  static STEP = 50e-6;
  work = 0;
  /** Readings between each two macrotasks. */
  slices = [];

  now() {
    this.work++;
    return (this.time += WorkClock.STEP);
  }

  macrotask(callback) {
    super.macrotask(() => {
      this.slices.push(this.work);
      this.work = 0;
      callback();
    });
  }
}

for (const count of [1, 8]) {
  test(`between two macrotasks a bounded amount of work is done: ${count} transfers`, async () => {
    const clock = new WorkClock();
    const data = pattern(4_000_000);
    const received = []; // bytes that arrived in each slice
    const transfers = Array.from({ length: count }, async () => {
      const { client, server } = await connected(await pair({ clock }));
      const sending = send(client, data);
      const digest = createHash("sha256");
      for await (const chunk of server) {
        digest.update(chunk);
        received[clock.slices.length] = (received[clock.slices.length] ?? 0) + chunk.length;
      }
      await sending;
      return digest.digest("hex");
    });
    const wanted = createHash("sha256").update(data).digest("hex");
    assert.deepEqual(await Promise.all(transfers), Array(count).fill(wanted));
    // Once its time is spent, a transfer goes on only until its buffers are full.
    const [most, size] = [Math.max(...clock.slices, clock.work), Math.max(...received.filter(Boolean))];
    assert(most <= 40 + 16 * count, `${most} readings of the clock`);
    assert(size <= 2_000_000 + 100_000 * count, `${size} bytes`);
  });
}

test("timers beyond what the platform takes, and endless ones", async () => {
  const stack = await createStack();
  const session = await stack.createPingSession({ host: "127.0.0.1", timeout: Infinity });
  await session.ping();
  await session.ping({ timeout: 2 ** 40 });
  const pending = session.ping({ timeout: 1e300 });
  await pending;
  await stack.createTunInterface({ ip: "10.0.0.1/24" });
  const other = await stack.createPingSession({ host: "10.0.0.2" });
  for (const timeout of [Infinity, 2 ** 31 + 1, 2 ** 53]) {
    let settled = false;
    const waiting = other.ping({ timeout }).catch(() => (settled = true));
    for (let i = 0; i < 5; i++) await new Promise((resolve) => setTimeout(resolve, 1));
    assert.equal(settled, false, `${timeout}`);
    void waiting;
  }
  await other.close();
});

test("a hundred stacks in a ring of cables", async () => {
  const { connect } = await import("./kit.mjs");
  const stacks = await Promise.all(Array.from({ length: 100 }, (_, i) => createStack({ seed: i })));
  const replies = stacks.map(async (stack, i) => {
    const next = stacks[(i + 1) % 100];
    connect(
      await stack.createTunInterface({ ip: `10.${i}.0.1/24` }),
      await next.createTunInterface({ ip: `10.${i}.0.2/24` }),
    );
    const listener = await next.listenTcp({ host: `10.${i}.0.2`, port: 80 });
    const [client, server] = await Promise.all([
      stack.connectTcp({ host: `10.${i}.0.2`, port: 80 }),
      listener.accept(),
    ]);
    const data = pattern(20_000, i + 1);
    const [, got] = await Promise.all([send(client, data), readAll(server)]);
    return got.equals(data);
  });
  assert((await Promise.all(replies)).every(Boolean));
});

test("equal seeds give equal frames", async () => {
  const record = async () => {
    const clock = new VirtualClock();
    const net = await pair({ clock, cable: false });
    const frames = [];
    const { connectStreams } = await import("./kit.mjs");
    const look = (frame) => (frames.push(Buffer.from(frame).toString("hex")), frame);
    connectStreams(net.ia, net.ib, { transformAtoB: look, transformBtoA: look });
    const { client, server } = await connected(net);
    await send(client, bytes("the same"));
    assert.equal(text(await readAll(server)), "the same");
    return frames;
  };
  const [one, two] = [await record(), await record()];
  assert(one.length > 6);
  assert.deepEqual(one, two);
});

test("a module that traps ends its stack alone, and every pending call on it", async () => {
  const memories = [];
  const { Instance } = WebAssembly;
  WebAssembly.Instance = function (module, imports) {
    const instance = new Instance(module, imports);
    memories.push(instance.exports.memory);
    return instance;
  };
  const net = await pair();
  const other = await pair();
  WebAssembly.Instance = Instance;
  const { client, server, listener } = await connected(net);
  const pending = [
    server.readable.getReader().read(),
    listener.accept(),
    net.b.connectTcp({ host: "10.0.0.77", port: 1 }),
  ];
  await macrotask();
  new Uint8Array(memories[1].buffer).fill(255); // as a fault of the module would leave it
  await client.writable.getWriter().write(bytes("x"));
  for (const call of pending) await assert.rejects(call, { name: "StackTrappedError" });
  await assert.rejects(net.b.openUdp(), { name: "StackTrappedError" });
  await assert.rejects(net.ib.writable.getWriter().write(new Uint8Array(60)), { name: "StackTrappedError" });
  await net.b.close();
  assert.equal(net.b.closed, true);
  const { client: well, server: end } = await connected(other);
  await send(well, bytes("unharmed"));
  assert.equal(text(await readAll(end)), "unharmed");
});
