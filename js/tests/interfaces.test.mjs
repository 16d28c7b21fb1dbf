// Interfaces, cables, bridges, and the bounds between them.

import assert from "node:assert/strict";
import test from "node:test";
import {
  arpRequest,
  connect,
  connected,
  connectStreams,
  createStack,
  echoRequest,
  etherType,
  ethernet,
  ipv4,
  macrotask,
  pair,
  pattern,
  readAll,
  send,
  VirtualClock,
} from "./kit.mjs";

const TYPE_IPV6 = 0x86dd;

test("a tap that is given only IPv4 addresses sends nothing in IPv6", async () => {
  for (const options of [{ ip: "10.0.0.1/24" }, {}]) {
    const clock = new VirtualClock();
    const stack = await createStack({ clock, seed: 3 });
    const tap = await stack.createTapInterface({ ...options, mac: "02:00:00:00:00:01" });
    const seen = [];
    (async () => {
      for await (const frame of tap) seen.push(etherType(frame));
    })();
    const writer = tap.writable.getWriter();
    // A router advertisement, an echo request to all nodes, a datagram to all nodes: from a neighbour with IPv6.
    const source = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 2];
    const all = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    for (const [next, body] of [
      [58, [128, 0, 0, 0, 0, 1, 0, 1]],
      [58, [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]],
      [17, [0, 9, 0, 9, 0, 8, 0, 0]],
    ]) {
      const pseudo = [...source, ...all, 0, 0, 0, body.length, 0, 0, 0, next, ...body];
      let sum = 0;
      for (let i = 0; i < pseudo.length; i += 2) sum += (pseudo[i] << 8) | pseudo[i + 1];
      while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
      sum = ~sum & 0xffff;
      body.splice(next === 17 ? 6 : 2, 2, sum >> 8, sum & 255);
      const packet = [0x60, 0, 0, 0, 0, body.length, next, 255, ...source, ...all, ...body];
      await writer.write(ethernet("33:33:00:00:00:01", "02:00:00:00:00:02", TYPE_IPV6, packet));
    }
    await clock.sleep(60);
    assert.equal(seen.filter((type) => type === TYPE_IPV6).length, 0);
    assert.equal(tap.stats().malformed, 0);
    assert(tap.stats().framesIn >= 3);
  }
});

test("with ipv6 a tap reports its groups, and an IPv6 address implies it", async () => {
  for (const options of [{ ip: "10.0.0.1/24", ipv6: true }, { ip: ["10.0.0.1/24", "fd00::1/64"] }]) {
    const clock = new VirtualClock();
    const stack = await createStack({ clock });
    const tap = await stack.createTapInterface(options);
    const seen = [];
    (async () => {
      for await (const frame of tap) seen.push(etherType(frame));
    })();
    await clock.sleep(30);
    assert(seen.includes(TYPE_IPV6));
  }
  const stack = await createStack();
  await assert.rejects(stack.createTapInterface({ ip: "fd00::1/64", ipv6: false }), /^RangeError: ipv6:/);
});

test("malformed options", async () => {
  const stack = await createStack();
  for (const ip of [
    "10.0.0.1/33",
    "10.0.0",
    "fd00::1/129",
    "224.0.0.1/24",
    "0.0.0.0/0",
    "255.255.255.255/8",
    "::/0",
    "fe80::1%tap0/64",
    "x",
    "10.0.0.1/24/2",
    "10.0.0.1/-1",
    "10.0.0.1/",
  ]) {
    await assert.rejects(stack.createTapInterface({ ip }), RangeError, ip);
  }
  await assert.rejects(stack.createTapInterface({ ip: 5 }), TypeError);
  await assert.rejects(stack.createTapInterface({ ip: ["10.0.0.1/24", "10.0.0.2/24"] }), RangeError);
  for (const mac of ["", "02:00", "02:00:00:00:00:0g", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", 5]) {
    await assert.rejects(stack.createTapInterface({ mac }), RangeError, `${mac}`);
  }
  for (const mtu of [67, 65536, 1500.5]) await assert.rejects(stack.createTapInterface({ mtu }), RangeError);
  await assert.rejects(stack.createTapInterface({ ip: "fd00::1/64", mtu: 1279 }), RangeError);
  assert.equal([...stack.interfaces].length, 1);
  await assert.rejects(stack.createLoopbackInterface(), { code: "ENOSPC" });
});

test("the MTU is kept to", async () => {
  const net = await pair({ a: { mtu: 600 }, b: { mtu: 600 }, cable: false });
  const longest = { value: 0 };
  const look = (frame) => ((longest.value = Math.max(longest.value, frame.length)), frame);
  connectStreams(net.ia, net.ib, { transformAtoB: look, transformBtoA: look });
  const { client, server } = await connected(net);
  const data = pattern(100_000);
  const [, got] = await Promise.all([send(client, data), readAll(server)]);
  assert(got.equals(data));
  assert.equal(longest.value, 614);
  assert.equal(net.ia.mtu, 600);
});

test("memory grows during transfers, and nothing keeps an old view", async () => {
  const net = await pair();
  const before = net.b.stats().memory;
  const listener = await net.b.listenTcp({ port: 80, backlog: 60 });
  const clients = await Promise.all(Array.from({ length: 60 }, () => net.a.connectTcp({ host: "10.0.0.2", port: 80 })));
  const data = pattern(600_000, 21);
  const sending = clients.map((client) => send(client, data));
  for (let i = 0; i < 30; i++) await macrotask(); // windows and send buffers fill
  const servers = [];
  for (let i = 0; i < 60; i++) servers.push(await listener.accept());
  const got = await Promise.all(servers.map((server) => readAll(server)));
  await Promise.all(sending);
  for (const each of got) assert(each.equals(data));
  assert(net.a.stats().memory + net.b.stats().memory > 2 * before);
});

test("memory is released after transfers", async () => {
  // How much is under way at once depends on the round trips: the clock decides nothing here.
  const net = await pair({ clock: new VirtualClock() });
  const listener = await net.b.listenTcp({ port: 80 });
  const transfer = async () => {
    const [client, server] = await Promise.all([net.a.connectTcp({ host: "10.0.0.2", port: 80 }), listener.accept()]);
    const data = pattern(4_000_000, 51);
    const [, got] = await Promise.all([send(client, data), readAll(server)]);
    assert(got.equals(data));
    await Promise.all([client.close(), server.close()]);
    for (let i = 0; i < 5; i++) await macrotask();
  };
  await transfer();
  const before = [net.a.stats(), net.b.stats()];
  for (let i = 0; i < 10; i++) await transfer();
  [net.a.stats(), net.b.stats()].forEach((after, i) => {
    assert.equal(after.memory, before[i].memory);
    assert(after.heapUsed <= before[i].heapUsed + 10_000, `${before[i].heapUsed} ${after.heapUsed}`); // TIME-WAIT
    assert.equal(after.handles, before[i].handles);
  });
});

test("a cable is taken off, and joins again", async () => {
  const net = await pair({ cable: false });
  const first = connect(net.ia, net.ib);
  assert.throws(() => connect(net.ia, net.ib), { code: "EBUSY" });
  const session = await net.a.createPingSession({ host: "10.0.0.2" });
  await session.ping();
  first.close();
  first.close();
  await assert.rejects(session.ping({ timeout: 5 }), { code: "ETIMEDOUT" });
  assert(net.ia.stats().unheard >= 1);
  connect(net.ia, net.ib);
  await session.ping();
  // Beside a cable, a stream has no frames, and ends.
  assert.equal((await net.ia.readable.getReader().read()).done, true);
  await net.a.removeInterface(net.ia);
  const other = await net.a.createTapInterface({ ip: "10.0.0.1/24" });
  connect(other, net.ib);
  await (await net.a.createPingSession({ host: "10.0.0.2" })).ping();
});

test("what cannot be joined", async () => {
  const net = await pair({ cable: false });
  const tun = await net.a.createTunInterface();
  assert.throws(() => connect(net.ia, net.ia), TypeError);
  assert.throws(() => connect(net.ia, tun), TypeError);
  assert.throws(() => connect(net.ia, {}), TypeError);
  const other = await (await createStack({ clock: new VirtualClock() })).createTapInterface();
  assert.throws(() => connect(net.ia, other), TypeError);
  net.ia.readable.getReader();
  assert.throws(() => connect(net.ia, net.ib), { code: "EBUSY" });
  await net.b.removeInterface(net.ib);
  const third = await net.b.createTapInterface();
  assert.throws(() => connect(third, net.ib), { code: "ENODEV" });
  connect(third, await net.a.createTapInterface());
});

test("frames are lost by nobody on a cable between stacks at full speed", async () => {
  // With a clock that stands still meanwhile, no probe of a tail (RFC 8985, section 7) is due.
  const net = await pair({ kind: "Tun", clock: new VirtualClock() });
  const { client, server } = await connected(net);
  const data = pattern(8_000_000, 31);
  const [, got] = await Promise.all([send(client, data), readAll(server)]);
  assert(got.equals(data));
  assert.equal(net.ia.stats().framesOut, net.ib.stats().framesIn);
  assert.equal(net.a.stats().tcpRetransmissions, 0);
});

test("checksums can be left out on both sides", async () => {
  const net = await pair({ a: { checksums: false }, b: { checksums: false } });
  const { client, server } = await connected(net);
  const data = pattern(500_000, 41);
  const [, got] = await Promise.all([send(client, data), readAll(server)]);
  assert(got.equals(data));
  const odd = await pair({ a: { checksums: false }, options: { clock: new VirtualClock() } });
  await assert.rejects(odd.a.connectTcp({ host: "10.0.0.2", port: 80 }), { code: "ETIMEDOUT" });
  assert(odd.b.stats().checksumErrors > 0);
});

test("a reader that does not read holds TCP back, and frames of others are bounded", async () => {
  const stack = await createStack();
  const tun = await stack.createTunInterface({ ip: "10.0.0.1/24" });
  const reader = tun.readable.getReader();
  const socket = await stack.openUdp();
  const writer = socket.writable.getWriter();
  const waiting = Array.from({ length: 1000 }, (_, i) =>
    writer.write({ host: "10.0.0.2", port: 1, data: pattern(1400, i + 1) }),
  );
  for (let i = 0; i < 50; i++) await macrotask();
  // The stream's queue and the module's buffer are full, and the sender waits.
  let count = 0;
  for (; count < 1000; count++) {
    const { value } = await reader.read();
    assert(Buffer.from(value.subarray(28)).equals(pattern(1400, count + 1)), `${count}`);
  }
  await Promise.all(waiting);
});

test("malformed frames are dropped and counted", async () => {
  const stack = await createStack();
  const tap = await stack.createTapInterface({ ip: "10.0.0.1/24", mac: "02:00:00:00:00:01" });
  const tun = await stack.createTunInterface({ ip: "10.0.1.1/24" });
  const writer = tap.writable.getWriter();
  const packets = tun.writable.getWriter();
  for (const frame of [[], [1], new Array(13).fill(0), new Array(20).fill(255)])
    await writer.write(Uint8Array.from(frame));
  await packets.write(new Uint8Array(70_000));
  await packets.write(new Uint8Array(400_000));
  await packets.write(ipv4("10.0.1.2", "10.0.1.1", 6, new Array(19).fill(0)).subarray(0, 25));
  await writer.write(arpRequest("02:00:00:00:00:02", "10.0.0.2", "10.0.0.1").buffer);
  await assert.rejects(writer.write("text"), TypeError);
  await macrotask();
  const { malformed, foreign } = tap.stats();
  assert.equal(malformed + foreign, 4);
  assert(tun.stats().malformed >= 1);
  assert.equal(tap.stats().framesOut >= 1, true);
});

test("another stack's interface is refused", async () => {
  const [a, b] = [await createStack(), await createStack()];
  const tap = await a.createTapInterface();
  await assert.rejects(b.removeInterface(tap), RangeError);
  await assert.rejects(b.createBridgeInterface({ ports: [tap] }), TypeError);
  assert.equal([...b.interfaces].length, 1);
  const bridge = await a.createBridgeInterface({ ports: [tap] });
  await assert.rejects(a.createBridgeInterface({ ports: [tap] }), { code: "EBUSY" });
  bridge.removePort(tap);
  assert.throws(() => bridge.removePort(tap), RangeError);
  bridge.addPort(tap);
  await a.removeInterface(tap);
  await a.removeInterface(bridge);
});

test("iterating over a tap is broken off and begun anew", async () => {
  const stack = await createStack();
  const tun = await stack.createTunInterface({ ip: "10.0.0.1/24" });
  const writer = tun.writable.getWriter();
  for (let round = 0; round < 3; round++) {
    const frames = tun.listen();
    await writer.write(echoRequest("10.0.0.2", "10.0.0.1", round, 1, [round]));
    for await (const packet of frames) {
      assert.equal(packet[28], round);
      break;
    }
  }
});
