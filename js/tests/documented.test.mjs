// Every example of tcpip.js's documentation, and the behaviour that its users rely on, with the import changed.

import assert from "node:assert/strict";
import test from "node:test";
import {
  arpRequest,
  bytes,
  connect,
  connectStreams,
  createStack,
  echoRequest,
  etherType,
  ethernet,
  hex,
  ip,
  mac,
  macrotask,
  readAll,
  send,
  text,
  udp,
  waitFor,
} from "./kit.mjs";

const nextValue = async (iterable) => {
  const iterator = iterable[Symbol.asyncIterator]?.() ?? iterable[Symbol.iterator]();
  const { value, done } = await iterator.next();
  assert(!done);
  return value;
};

test("a stack has a loopback interface from the start, unless told otherwise", async () => {
  const stack = await createStack();
  assert.deepEqual(
    [...stack.interfaces].map(({ type }) => type),
    ["loopback"],
  );
  const bare = await createStack({ initializeLoopback: false });
  assert.deepEqual([...bare.interfaces], []);
  const loopback = await bare.createLoopbackInterface({ ip: "127.0.0.1/8" });
  assert.equal(await nextValue(bare.interfaces), loopback);
  assert.equal(loopback.ip, "127.0.0.1");
  assert.equal(loopback.netmask, "255.0.0.0");
});

test("interfaces are added and removed", async () => {
  const stack = await createStack({ initializeLoopback: false });
  const loopback = await stack.createLoopbackInterface({ ip: "127.0.0.1/8" });
  const tun = await stack.createTunInterface({ ip: "192.168.1.1/24" });
  const tap = await stack.createTapInterface({ mac: "00:1a:2b:3c:4d:5e", ip: "192.168.2.1/24" });
  const all = [loopback, tun, tap];
  assert.deepEqual([...stack.interfaces], all);
  while (all.length) {
    await stack.removeInterface(all.shift());
    assert.deepEqual([...stack.interfaces], all);
  }
  assert.equal(tun.ip, "192.168.1.1");
  assert.equal(tun.netmask, "255.255.255.0");
  assert.equal(tap.mac, "00:1a:2b:3c:4d:5e");
  await assert.rejects(stack.removeInterface(tap), /unknown interface/);
});

test("the MAC address of the documentation is accepted, and a peer finds it", async () => {
  const [a, b] = [await createStack(), await createStack()];
  const tapInterface = await a.createTapInterface({ mac: "01:23:45:67:89:ab", ip: "192.168.1.1/24" });
  assert.equal(tapInterface.mac, "01:23:45:67:89:ab");
  const vmNic = await b.createTapInterface({ ip: "192.168.1.2/24" });
  // Forward frames between the tap interface and the VM's NIC.
  tapInterface.readable.pipeTo(vmNic.writable);
  vmNic.readable.pipeTo(tapInterface.writable);

  const listener = await b.listenTcp({ port: 80 });
  const served = (async () => {
    for await (const connection of listener) {
      const writer = connection.writable.getWriter();
      await writer.write(bytes("Hello, client!"));
      await writer.close();
      return text(await readAll(connection));
    }
  })();
  const connection = await a.connectTcp({ host: "192.168.1.2", port: 80 });
  const writer = connection.writable.getWriter();
  await writer.write(bytes("Hello, world!"));
  await writer.close();
  let answer = "";
  for await (const chunk of connection) answer += text(chunk);
  assert.equal(answer, "Hello, client!");
  assert.equal(await served, "Hello, world!");
});

test("a tun answers an echo request", async () => {
  const stack = await createStack();
  const tun = await stack.createTunInterface({ ip: "192.168.1.1/24" });
  const listener = tun.listen();
  const writer = tun.writable.getWriter();
  await writer.write(echoRequest("192.168.1.2", "192.168.1.1", 1, 0, [1, 2, 3, 4]));
  const reply = await waitFor(listener, (packet) => packet[9] === 1 && packet[20] === 0);
  assert.deepEqual([...reply.subarray(12, 20)], [...ip("192.168.1.1"), ...ip("192.168.1.2")]);
  assert.deepEqual([...reply.subarray(24)], [0, 1, 0, 0, 1, 2, 3, 4]);
});

test("a tap answers an ARP request", async () => {
  const stack = await createStack();
  const tap = await stack.createTapInterface({ mac: "00:1a:2b:3c:4d:5e", ip: "192.168.1.1/24" });
  const listener = tap.listen();
  await tap.writable.getWriter().write(arpRequest("00:1a:2b:3c:4d:5f", "192.168.1.2", "192.168.1.1"));
  const reply = await waitFor(listener, (frame) => etherType(frame) === 0x0806 && frame[21] === 2);
  assert.equal(hex(reply.subarray(0, 12)), hex([...mac("00:1a:2b:3c:4d:5f"), ...mac("00:1a:2b:3c:4d:5e")]));
  assert.deepEqual([...reply.subarray(28, 32)], ip("192.168.1.1"));
});

test("frames cross a bridge, and the bridge itself is a host", async () => {
  const [device1, device2, router] = [await createStack(), await createStack(), await createStack()];
  const tap1 = await device1.createTapInterface({ ip: "192.168.1.2/24" });
  const tap2 = await device2.createTapInterface({ ip: "192.168.1.3/24" });
  const [port1, port2] = [await router.createTapInterface(), await router.createTapInterface()];
  const bridge = await router.createBridgeInterface({
    ports: [port1, port2],
    mac: "00:1a:2b:3c:4d:5e",
    ip: "192.168.1.1/24",
  });
  assert.equal(bridge.type, "bridge");
  assert.equal(bridge.mac, "00:1a:2b:3c:4d:5e");
  assert.equal(bridge.ip, "192.168.1.1");
  assert.equal(bridge.netmask, "255.255.255.0");
  tap1.readable.pipeTo(port1.writable);
  port1.readable.pipeTo(tap1.writable);
  tap2.readable.pipeTo(port2.writable);
  port2.readable.pipeTo(tap2.writable);
  for (const [stack, host] of [
    [device2, "192.168.1.3"],
    [router, "192.168.1.1"],
  ]) {
    const listener = await stack.listenTcp({ port: 8080 });
    const connection = await device1.connectTcp({ host, port: 8080 });
    connection.writable.getWriter().write(Uint8Array.of(1, 2, 3, 4));
    for await (const inbound of listener) {
      const { value } = await inbound.readable.getReader().read();
      assert.deepEqual([...value], [1, 2, 3, 4]);
      break;
    }
  }
});

test("a bridge takes ports that have addresses", async () => {
  const stack = await createStack();
  const port1 = await stack.createTapInterface({ mac: "02:00:00:00:00:01", ip: "192.168.1.2/24" });
  const port2 = await stack.createTapInterface({ mac: "02:00:00:00:00:02", ip: "192.168.1.3/24" });
  const bridge = await stack.createBridgeInterface({ ports: [port1, port2], ip: "192.168.1.1/24" });
  assert.deepEqual([...stack.interfaces].slice(1), [port1, port2, bridge]);
});

async function overLoopback() {
  const stack = await createStack();
  const listener = await stack.listenTcp({ host: "127.0.0.1", port: 8080 });
  const [outbound, inbound] = await Promise.all([
    stack.connectTcp({ host: "127.0.0.1", port: 8080 }),
    nextValue(listener),
  ]);
  return { stack, listener, outbound, inbound };
}

test("a server and a client on one stack", async () => {
  const { outbound, inbound } = await overLoopback();
  await outbound.writable.getWriter().write(Uint8Array.of(1, 2, 3, 4));
  const { value } = await inbound.readable.getReader().read();
  assert.deepEqual([...value], [1, 2, 3, 4]);
});

test("a connection is closed with its streams unlocked, and by its streams", async () => {
  const first = await overLoopback();
  await first.inbound.close();
  await first.outbound.close();
  const second = await overLoopback();
  await second.outbound.writable.getWriter().close();
  await second.inbound.readable.getReader().cancel();
});

test("reads and writes after close() reject with 'tcp connection closed'", async () => {
  const { outbound, inbound } = await overLoopback();
  const writer = outbound.writable.getWriter();
  const reader = inbound.readable.getReader();
  await outbound.close();
  await inbound.close();
  await assert.rejects(writer.write(Uint8Array.of(1)), { message: "tcp connection closed" });
  await assert.rejects(reader.read(), { message: "tcp connection closed" });
});

test("a read after close() rejects, though the peer's end has come", async () => {
  const { outbound, inbound } = await overLoopback();
  const reader = inbound.readable.getReader();
  await outbound.close();
  await new Promise((resolve) => setImmediate(resolve));
  await inbound.close();
  await assert.rejects(reader.read(), { message: "tcp connection closed" });
});

test("iterating over a locked stream throws 'readable stream already locked'", async () => {
  const { inbound, stack } = await overLoopback();
  inbound.readable.getReader();
  await assert.rejects(readAll(inbound), { message: "readable stream already locked" });
  const tap = await stack.createTapInterface();
  tap.listen();
  assert.throws(() => tap.listen(), { message: "readable stream already locked" });
});

test("a slow reader holds the writer back", async () => {
  const { outbound, inbound } = await overLoopback();
  const writer = outbound.writable.getWriter();
  const most = 4 * 1024 * 1024; // a window, a send buffer, and what windows grow to
  let written = 0;
  let blocked = false;
  const writing = (async () => {
    while (written < 64 * 1024 * 1024) {
      blocked = true;
      await writer.write(new Uint8Array(65536));
      blocked = false;
      written += 65536;
    }
  })();
  writing.catch(() => undefined); // the stack is closed
  for (let last = -1; last !== written;) {
    last = written;
    for (let i = 0; i < 100; i++) await macrotask();
  }
  assert(blocked);
  assert(written > 0 && written <= most, `${written}`);
  const before = written;
  const reader = inbound.readable.getReader();
  for (let read = 0; read < 1024 * 1024;) read += (await reader.read()).value.length;
  for (let i = 0; i < 100_000 && written === before; i++) await macrotask();
  assert(written > before);
});

test("stacks talk over tuns and over taps that are piped", async () => {
  for (const kind of ["Tun", "Tap"]) {
    const [stack1, stack2] = [await createStack(), await createStack()];
    const one = await stack1[`create${kind}Interface`]({ ip: "192.168.1.1/24" });
    const two = await stack2[`create${kind}Interface`]({ ip: "192.168.1.2/24" });
    one.readable.pipeTo(two.writable);
    two.readable.pipeTo(one.writable);
    const listener = await stack2.listenTcp({ port: 8080 });
    const [outbound, inbound] = await Promise.all([
      stack1.connectTcp({ host: "192.168.1.2", port: 8080 }),
      nextValue(listener),
    ]);
    await outbound.writable.getWriter().write(Uint8Array.of(1, 2, 3, 4));
    const { value } = await inbound.readable.getReader().read();
    assert.deepEqual([...value], [1, 2, 3, 4]);
  }
});

test("a connection's streams go through transforms", async () => {
  const { outbound, inbound } = await overLoopback();
  const sent = new Blob(["x".repeat(100_000)])
    .stream()
    .pipeThrough(new CompressionStream("gzip"))
    .pipeTo(outbound.writable);
  const received = await readAll(inbound.readable.pipeThrough(new DecompressionStream("gzip")));
  await sent;
  assert.equal(received.length, 100_000);
});

test("an echo server pipes a connection to itself", async () => {
  const { outbound, inbound } = await overLoopback();
  inbound.readable.pipeTo(inbound.writable);
  await send(outbound, bytes("there and back"));
  assert.equal(text(await readAll(outbound)), "there and back");
});

test("datagrams over the loopback", async () => {
  const stack = await createStack();
  const socket1 = await stack.openUdp({ port: 8080 });
  const socket2 = await stack.openUdp({ port: 8081 });
  const reader = socket1.readable.getReader();
  await socket2.writable.getWriter().write({ host: "127.0.0.1", port: 8080, data: Uint8Array.of(1, 2, 3, 4) });
  const { value } = await reader.read();
  assert.deepEqual({ ...value, data: [...value.data] }, { host: "127.0.0.1", port: 8081, data: [1, 2, 3, 4] });
});

test("datagrams, broadcasts among them, by a tun and a tap", async () => {
  const stack = await createStack();
  const tun = await stack.createTunInterface({ ip: "10.0.0.1/24" });
  const socket = await stack.openUdp({ port: 8080 });
  const writer = tun.writable.getWriter();
  const datagrams = socket[Symbol.asyncIterator]();
  await writer.write(udp("10.0.0.2", "10.0.0.1", 8080, 8080, [1, 2, 3, 4]));
  assert.equal((await datagrams.next()).value.host, "10.0.0.2");
  await writer.write(udp("0.0.0.0", "255.255.255.255", 8080, 8080, [1, 2, 3, 4]));
  assert.equal((await datagrams.next()).value.host, "0.0.0.0");
  const reader = tun.readable.getReader();
  const out = socket.writable.getWriter();
  await out.write({ host: "10.0.0.2", port: 9, data: Uint8Array.of(5, 6) });
  const packet = (await reader.read()).value;
  assert.deepEqual([...packet.subarray(12, 20)], [...ip("10.0.0.1"), ...ip("10.0.0.2")]);
  assert.equal(hex(packet.subarray(28)), "0506");

  const other = await createStack();
  const tap = await other.createTapInterface({ ip: "10.0.0.1/24", mac: "00:1a:2b:3c:4d:5e" });
  const frames = tap.listen();
  const sender = await other.openUdp({ port: 8080 });
  await sender.writable.getWriter().write({ host: "255.255.255.255", port: 8080, data: Uint8Array.of(1, 2, 3, 4) });
  const frame = await waitFor(frames, (each) => etherType(each) === 0x0800);
  assert.equal(hex(frame.subarray(0, 6)), "ffffffffffff");
  assert.deepEqual([...frame.subarray(26, 34)], [...ip("10.0.0.1"), 255, 255, 255, 255]);
  assert.equal(hex(frame.subarray(42)), "01020304");
});

test("reads of a closed UDP socket reject with 'udp socket closed'", async () => {
  const stack = await createStack();
  const socket = await stack.openUdp();
  const reader = socket.readable.getReader();
  const writer = socket.writable.getWriter();
  const pending = reader.read();
  await socket.close();
  await assert.rejects(pending, { message: "udp socket closed" });
  await assert.rejects(writer.write({ host: "127.0.0.1", port: 1, data: new Uint8Array(1) }), {
    message: "udp socket closed",
  });
});

test("a ping session", async () => {
  const stack = await createStack();
  const session = await stack.createPingSession({ host: "127.0.0.1" });
  const reply = await session.ping();
  assert.equal(reply.host, "127.0.0.1");
  assert.equal(reply.identifier, session.identifier);
  assert.equal(reply.sequenceNumber, 0);
  assert.deepEqual(
    [...reply.payload],
    Array.from({ length: 56 }, (_, i) => i),
  );
  assert(reply.roundTripTime >= 0 && reply.roundTripTime < 1000);
  const second = await session.ping({ payload: Uint8Array.of(9) });
  assert.equal(second.sequenceNumber, 1);
  assert.deepEqual([...second.payload], [9]);
  await session.close();
  await session.close();
  await assert.rejects(session.ping(), { message: "icmp ping session closed" });
});

test("a ping without an answer, and one whose session is closed", async () => {
  const stack = await createStack();
  await stack.createTunInterface({ ip: "10.0.0.1/24" });
  const session = await stack.createPingSession({ host: "10.0.0.2", timeout: 5 });
  await assert.rejects(session.ping(), { message: "icmp ping timed out: 10.0.0.2" });
  const pending = session.ping({ timeout: 60_000 });
  await session.close();
  await assert.rejects(pending, { message: "icmp ping session closed" });
});

test("methods are own properties of the stack", async () => {
  const stack = { ...(await createStack()) };
  const listener = await stack.listenTcp({ port: 80 });
  const { connectTcp } = stack;
  const connection = await connectTcp({ host: "127.0.0.1", port: 80 });
  assert.equal((await listener.accept()).remoteAddress.port, connection.localAddress.port);
});

test("the later names of the same methods", async () => {
  const stack = await createStack();
  await stack.ready;
  const tap = await stack.interfaces.createTap({ ip: "10.0.0.1/24" });
  const other = await createStack();
  connect(tap, await other.interfaces.createTap({ ip: "10.0.0.2/24" }));
  const listener = await other.tcp.listen({ port: 80 });
  const [connection] = await Promise.all([stack.tcp.connect({ host: "10.0.0.2", port: 80 }), listener.accept()]);
  assert.equal(connection.remoteAddress.host, "10.0.0.2");
  const session = await stack.ping.createSession({ host: "10.0.0.2" });
  assert.equal((await session.ping()).host, "10.0.0.2");
  assert.equal((await stack.udp.open({ port: 5 })).localAddress.port, 5);
  await stack.interfaces.remove(tap);
});

test("connectStreams joins taps, also with transforms", async () => {
  for (const transformed of [false, true]) {
    const [a, b] = [await createStack(), await createStack()];
    const one = await a.createTapInterface({ ip: "10.0.0.1/24" });
    const two = await b.createTapInterface({ ip: "10.0.0.2/24" });
    const seen = [0, 0];
    const count = (direction) => (chunk) => (seen[direction]++, chunk);
    connectStreams(one, two, transformed ? { transformAtoB: count(0), transformBtoA: count(1) } : {});
    const session = await a.createPingSession({ host: "10.0.0.2" });
    assert.equal((await session.ping()).host, "10.0.0.2");
    assert(transformed ? seen[0] >= 2 && seen[1] >= 2 : one.stats().framesOut >= 2);
  }
});

test("connectStreams joins other streams", async () => {
  const stack = await createStack();
  const tun = await stack.createTunInterface({ ip: "10.0.0.1/24" });
  const [into, out] = [new TransformStream(), new TransformStream()];
  const link = connectStreams(tun, { readable: into.readable, writable: out.writable });
  const writer = into.writable.getWriter();
  writer.write(echoRequest("10.0.0.2", "10.0.0.1", 7, 1, [1]));
  const { value } = await out.readable.getReader().read();
  assert.equal(value[20], 0);
  link.close();
});

test("frames before anything listens are dropped and counted", async () => {
  const stack = await createStack();
  const tun = await stack.createTunInterface({ ip: "10.0.0.1/24" });
  const socket = await stack.openUdp();
  await socket.send({ host: "10.0.0.2", port: 1, data: Uint8Array.of(1) });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(tun.stats().unheard, 1);
  const reader = tun.readable.getReader();
  await socket.send({ host: "10.0.0.2", port: 1, data: Uint8Array.of(2) });
  assert.equal((await reader.read()).value[28], 2);
  assert.equal(ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", 0x0800, []).length, 14);
});
