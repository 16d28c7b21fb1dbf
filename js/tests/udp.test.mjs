// UDP sockets and ping sessions.

import assert from "node:assert/strict";
import test from "node:test";
import { bytes, createStack, macrotask, pair, pattern, text, VirtualClock } from "./kit.mjs";

test("datagrams of all sizes, in fragments too", async () => {
  const net = await pair({ a: { ip: ["10.0.0.1/24", "fd00::1/64"] }, b: { ip: ["10.0.0.2/24", "fd00::2/64"] } });
  const socket = await net.b.openUdp({ port: 53 });
  const client = await net.a.openUdp();
  const datagrams = socket[Symbol.asyncIterator]();
  for (const [host, most] of [
    ["10.0.0.2", 65507],
    ["fd00::2", 65487],
  ]) {
    for (const size of [0, 1, 1472, 1473, 9000, most]) {
      const data = pattern(size, size + 1);
      await client.send({ host, port: 53, data });
      const { value } = await datagrams.next();
      assert(Buffer.from(value.data).equals(data), `${host} ${size}`);
      assert.equal(value.port, client.localAddress.port);
    }
    await assert.rejects(client.send({ host, port: 53, data: new Uint8Array(most + 1) }), { code: "EMSGSIZE" });
  }
  assert(net.a.stats().fragmentsOut > 0);
  assert.deepEqual(socket.localAddress, { host: "::", port: 53 });
});

test("a send that fails leaves the socket as it was", async () => {
  const net = await pair();
  const socket = await net.a.openUdp({ port: 9 });
  await assert.rejects(socket.send({ host: "192.168.9.9", port: 1, data: bytes("x") }), { code: "ENETUNREACH" });
  for (const port of [0, 65536])
    await assert.rejects(socket.send({ host: "10.0.0.2", port, data: bytes("x") }), RangeError);
  await assert.rejects(socket.send({ host: "10.0.0.2", port: 1, data: "x" }), TypeError);
  await assert.rejects(socket.send({ host: "1.2.3", port: 1, data: bytes("x") }), { code: "EINVAL" });
  const peer = await net.b.openUdp({ port: 9 });
  const got = peer.readable.getReader().read();
  await socket.send({ host: "10.0.0.2", port: 9, data: bytes("still") });
  assert.equal(text((await got).value.data), "still");
  await assert.rejects(net.a.openUdp({ port: 9 }), { code: "EADDRINUSE" });
  await assert.rejects(net.a.openUdp({ host: "10.0.0.9" }), { code: "EADDRNOTAVAIL" });
});

test("what nothing reads is bounded, and counted", async () => {
  const net = await pair();
  const socket = await net.b.openUdp({ port: 9 });
  const client = await net.a.openUdp();
  for (let i = 0; i < 1000; i++) await client.send({ host: "10.0.0.2", port: 9, data: new Uint8Array(1000) });
  for (let i = 0; i < 20; i++) await macrotask();
  const reader = socket.readable.getReader();
  assert(socket.dropped > 700 && socket.dropped < 800, `${socket.dropped}`);
  for (let i = 0; i < 1000 - socket.dropped; i++) await reader.read();
});

test("groups of both families are joined and left", async () => {
  const clock = new VirtualClock();
  const net = await pair({ clock, a: { ip: ["10.0.0.1/24", "fd00::1/64"] }, b: { ip: ["10.0.0.2/24", "fd00::2/64"] } });
  const member = await net.b.openUdp({ port: 5353 });
  const sender = await net.a.openUdp();
  sender.setMulticastHops(1);
  sender.setMulticastLoop(false);
  const datagrams = member[Symbol.asyncIterator]();
  for (const [group, host] of [
    ["239.1.2.3", "239.1.2.3"],
    ["ff02::fb", "ff02::fb%tap0"],
  ]) {
    member.join(group, net.ib);
    assert.throws(() => member.join(group, net.ib), { code: "EADDRINUSE" });
    await clock.sleep(1);
    await sender.send({ host, port: 5353, data: bytes(group) });
    assert.equal(text((await datagrams.next()).value.data), group);
    member.leave(group, net.ib);
    assert.throws(() => member.leave(group, net.ib), { code: "EADDRNOTAVAIL" });
    await sender.send({ host, port: 5353, data: bytes("gone") });
  }
  await sender.send({ host: "10.0.0.2", port: 5353, data: bytes("unicast") });
  assert.equal(text((await datagrams.next()).value.data), "unicast");
  assert.throws(() => member.join("10.0.0.9"), { code: "EINVAL" });
  assert.throws(() => member.join("name"), RangeError);
  assert.throws(() => sender.setMulticastHops(256), RangeError);
});

test("broadcasts leave by the interface that is chosen", async () => {
  const stack = await createStack();
  const taps = [
    await stack.createTunInterface({ ip: "10.0.0.1/24" }),
    await stack.createTapInterface({ ip: "10.0.1.1/24" }),
  ];
  const frames = taps.map((tap) => tap.listen());
  const socket = await stack.openUdp();
  for (const [i, tap] of taps.entries()) {
    socket.setMulticastInterface(tap);
    await socket.send({ host: "255.255.255.255", port: 9, data: Uint8Array.of(77, i) });
    const { value } = await frames[i].next();
    assert.deepEqual([...value.subarray(-2)], [77, i]);
  }
  socket.setMulticastInterface();
  const gone = taps[1];
  await stack.removeInterface(gone);
  assert.throws(() => socket.setMulticastInterface(gone), { code: "EINVAL" });
});

test("sockets share a port if all of them allow it", async () => {
  const net = await pair();
  const two = [
    await net.b.openUdp({ port: 5353, reuseAddress: true }),
    await net.b.openUdp({ port: 5353, reuseAddress: true }),
  ];
  for (const socket of two) socket.join("224.0.0.251", net.ib);
  const sender = await net.a.openUdp();
  await sender.send({ host: "224.0.0.251", port: 5353, data: bytes("both") });
  for (const socket of two) assert.equal(text((await socket.readable.getReader().read()).value.data), "both");
  await assert.rejects(net.b.openUdp({ port: 5353 }), { code: "EADDRINUSE" });
});

test("pings of IPv6, of large payloads, and many at once", async () => {
  const net = await pair({ a: { ip: "fd00::1/64" }, b: { ip: "fd00::2/64" } });
  const session = await net.a.createPingSession({ host: "fd00::2" });
  const large = pattern(30_000);
  const replies = await Promise.all([
    session.ping({ payload: large, timeout: 60_000 }),
    ...Array.from({ length: 200 }, (_, i) => session.ping({ payload: Uint8Array.of(i), timeout: 60_000 })),
  ]);
  assert(Buffer.from(replies[0].payload).equals(large));
  replies.slice(1).forEach((reply, i) => assert.deepEqual([...reply.payload], [i]));
  assert.equal(new Set(replies.map((reply) => reply.sequenceNumber)).size, 201);
  await assert.rejects(session.ping({ payload: new Uint8Array(65488) }), { code: "EMSGSIZE" });
  await assert.rejects(session.ping({ hops: 0 }), RangeError);
  await assert.rejects(session.ping({ timeout: "1" }), TypeError);
});

test("a host that is no text is refused", async () => {
  const stack = await createStack();
  for (const host of [undefined, null, 7]) {
    const error = { name: "TypeError", message: `host must be text, not ${typeof host}` };
    await assert.rejects(stack.createPingSession({ host }), error);
    await assert.rejects(stack.connectTcp({ host, port: 80 }), error);
  }
});

test("ICMP reports a destination that cannot be reached, and hops that end", async () => {
  const net = await pair();
  const router = net.b;
  const far = await createStack();
  router.forwarding = true;
  const { connect } = await import("./kit.mjs");
  connect(await router.createTapInterface({ ip: "10.0.1.1/24" }), await far.createTapInterface({ ip: "10.0.1.2/24" }));
  far.addRoute({ network: "0.0.0.0/0", via: "10.0.1.1" });
  net.a.addRoute({ network: "0.0.0.0/0", via: "10.0.0.2" });
  const session = await net.a.createPingSession({ host: "10.0.1.2" });
  assert.equal((await session.ping()).host, "10.0.1.2");
  await assert.rejects(session.ping({ hops: 1 }), (error) => {
    assert.equal(error.name, "IcmpError");
    assert.equal(error.reporter, "10.0.0.2");
    assert.deepEqual([error.icmpType, error.icmpCode], [11, 0]);
    assert.match(error.message, /^ping 10\.0\.1\.2: time exceeded, says 10\.0\.0\.2$/);
    return true;
  });
  const nowhere = await net.a.createPingSession({ host: "172.16.0.1" });
  await assert.rejects(nowhere.ping(), { name: "IcmpError", reporter: "10.0.0.2", icmpType: 3 });
});
