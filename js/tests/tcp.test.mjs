// TCP: errors, ends of directions, byte streams, listeners, IPv6.

import assert from "node:assert/strict";
import test from "node:test";
import { bytes, connected, createStack, macrotask, pair, pattern, readAll, send, text, VirtualClock } from "./kit.mjs";

const code = (expected) => (error) => {
  assert.equal(error.code, expected, `${error}`);
  assert(error instanceof Error);
  return true;
};

test("a megabyte each way at once, by default readers", async () => {
  const net = await pair();
  const { client, server } = await connected(net);
  const [up, down] = [pattern(3_000_000, 1), pattern(2_000_000, 2)];
  const [, , atServer, atClient] = await Promise.all([
    send(client, up),
    send(server, down, 1000),
    readAll(server),
    readAll(client),
  ]);
  assert(atServer.equals(up));
  assert(atClient.equals(down));
  assert.equal(net.a.stats().inconsistencies, 0);
});

for (const size of [1, 1000, 65536, 300_000]) {
  test(`BYOB readers with views of ${size} bytes`, async () => {
    const { client, server } = await connected(await pair());
    const data = pattern(size === 1 ? 2000 : 1_500_000, 3);
    const sending = send(client, data);
    const reader = server.readable.getReader({ mode: "byob" });
    const got = [];
    let buffer = new ArrayBuffer(size + 8);
    for (;;) {
      // Not at the front of its buffer.
      const { done, value } = await reader.read(new Uint8Array(buffer, 8, size));
      if (done) break;
      assert(value.length > 0 && value.byteOffset === 8);
      got.push(value.slice());
      buffer = value.buffer;
    }
    await sending;
    assert(Buffer.concat(got).equals(data));
  });
}

test("readers take turns: default, then BYOB, and unread data is kept", async () => {
  const { client, server } = await connected(await pair());
  const data = pattern(200_000, 4);
  await send(client, data);
  await macrotask();
  const first = server.readable.getReader();
  const one = (await first.read()).value;
  first.releaseLock();
  const second = server.readable.getReader({ mode: "byob" });
  const two = (await second.read(new Uint8Array(1234))).value;
  second.releaseLock();
  const rest = await readAll(server);
  assert(Buffer.concat([one, two, rest]).equals(data));
});

test("a peer that sends byte by byte costs no object for each", async () => {
  const { client, server } = await connected(await pair());
  const writer = client.writable.getWriter();
  const data = pattern(3000, 5);
  for (const byte of data) {
    await writer.write(Uint8Array.of(byte));
  }
  await macrotask();
  await writer.close();
  const reader = server.readable.getReader();
  const chunks = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
  }
  assert(Buffer.concat(chunks).equals(data));
  assert(chunks.length < 50, `${chunks.length} chunks`);
});

test("a half-closed connection goes on in the other direction", async () => {
  const { client, server } = await connected(await pair());
  await send(client, bytes("question"));
  assert.equal(text(await readAll(server)), "question");
  await send(server, bytes("answer"));
  assert.equal(text(await readAll(client)), "answer");
});

test("what was written before close() is delivered", async () => {
  const { client, server } = await connected(await pair());
  const data = pattern(4_000_000, 6);
  const writer = client.writable.getWriter();
  const pending = [writer.write(data.subarray(0, 3_000_000)), writer.write(data.subarray(3_000_000))];
  await client.close();
  const late = assert.rejects(writer.write(Uint8Array.of(1)), { message: "tcp connection closed" });
  assert((await readAll(server)).equals(data));
  await Promise.all([...pending, late]);
});

test("closing one's reader opens the window, and the peer's writes go on", async () => {
  const { client, server } = await connected(await pair());
  await server.readable.cancel();
  await send(client, pattern(5_000_000));
  await send(server, bytes("still here"));
  assert.equal(text(await readAll(client)), "still here");
});

test("refused, and the peer's reset of an open connection", async () => {
  const net = await pair();
  await assert.rejects(net.a.connectTcp({ host: "10.0.0.2", port: 81 }), code("ECONNREFUSED"));
  const { client, server } = await connected(net);
  const reading = client.readable.getReader().read();
  const writer = client.writable.getWriter();
  const filling = (async () => {
    for (;;) await writer.write(new Uint8Array(65536));
  })();
  await macrotask();
  server.abort();
  await assert.rejects(reading, code("ECONNRESET"));
  await assert.rejects(filling, code("ECONNRESET"));
  await assert.rejects(writer.write(new Uint8Array(1)), code("ECONNRESET"));
});

test("data that came before a reset can be read", async () => {
  const { client, server } = await connected(await pair());
  await server.writable.getWriter().write(bytes("before"));
  await macrotask();
  server.abort();
  await macrotask();
  const reader = client.readable.getReader();
  assert.equal(text((await reader.read()).value), "before");
  await assert.rejects(reader.read(), code("ECONNRESET"));
});

test("no route, no answer, a timeout, an abort", async () => {
  const clock = new VirtualClock();
  const stack = await createStack({ clock });
  await assert.rejects(stack.connectTcp({ host: "10.0.0.2", port: 80 }), code("ENETUNREACH"));
  await stack.createTapInterface({ ip: "10.0.0.1/24" });
  const began = clock.now();
  await assert.rejects(stack.connectTcp({ host: "10.0.0.2", port: 80 }), code("ETIMEDOUT"));
  assert(clock.now() - began > 1);
  const again = clock.now();
  await assert.rejects(stack.connectTcp({ host: "10.0.0.2", port: 80, timeout: 250 }), code("ETIMEDOUT"));
  assert(Math.abs(clock.now() - again - 0.25) < 1e-6);
  const end = new AbortController();
  const pending = stack.connectTcp({ host: "10.0.0.2", port: 80, signal: end.signal });
  end.abort(new Error("no longer wanted"));
  await assert.rejects(pending, { message: "no longer wanted" });
  await assert.rejects(stack.connectTcp({ host: "10.0.0.2", port: 80, signal: end.signal }), {
    message: "no longer wanted",
  });
  assert.equal(stack.stats().connections, 0);
});

test("arguments", async () => {
  const stack = await createStack();
  for (const port of [0, 65536, 1.5, -1, NaN]) {
    await assert.rejects(stack.connectTcp({ host: "127.0.0.1", port }), RangeError);
  }
  await assert.rejects(stack.connectTcp({ host: "127.0.0.1", port: "80" }), TypeError);
  await assert.rejects(stack.connectTcp({ host: 1, port: 80 }), TypeError);
  await assert.rejects(stack.connectTcp({ host: "127.0.0.1", port: 80, timeout: -1 }), RangeError);
  for (const host of ["1.2.3", "1.2.3.4.5", "256.1.1.1", "fe80::1%tap9", "a..b", "", "a b"]) {
    await assert.rejects(stack.connectTcp({ host, port: 80 }), code("EINVAL"), host);
  }
  await assert.rejects(stack.listenTcp({ port: 80, backlog: 0 }), RangeError);
  await assert.rejects(stack.listenTcp({ port: -1 }), RangeError);
  const { client } = await connected({ a: stack, b: stack }, 80, "127.0.0.1");
  await assert.rejects(client.writable.getWriter().write("text"), TypeError);
});

test("a listener keeps to its host, and its port is its own", async () => {
  const net = await pair();
  await net.b.createTunInterface({ ip: "10.0.1.1/24" });
  const listener = await net.b.listenTcp({ host: "10.0.1.1", port: 80 });
  await assert.rejects(net.a.connectTcp({ host: "10.0.0.2", port: 80 }), code("ECONNREFUSED"));
  await assert.rejects(net.b.listenTcp({ host: "10.0.1.1", port: 80 }), code("EADDRINUSE"));
  await assert.rejects(net.b.listenTcp({ host: "10.0.2.1", port: 80 }), code("EADDRNOTAVAIL"));
  const free = await net.b.listenTcp({ port: 0 });
  assert(free.port > 0 && free.port < 65536);
  await listener.close();
  await (await net.b.listenTcp({ host: "10.0.1.1", port: 80 })).close();
});

test("connections before an iteration begins are yielded, with their data", async () => {
  const net = await pair();
  const listener = await net.b.listenTcp({ port: 80 });
  const clients = [];
  for (let i = 0; i < 5; i++) {
    const client = await net.a.connectTcp({ host: "10.0.0.2", port: 80 });
    await send(client, bytes(`client ${i}`));
    clients.push(client);
  }
  await macrotask();
  const seen = [];
  for await (const connection of listener) {
    seen.push(text(await readAll(connection)));
    if (seen.length === 3) break;
  }
  for await (const connection of listener) {
    seen.push(text(await readAll(connection)));
    if (seen.length === 5) break;
  }
  assert.deepEqual(
    seen,
    [0, 1, 2, 3, 4].map((i) => `client ${i}`),
  );
  assert.equal(clients[0].localAddress.host, "10.0.0.1");
});

test("closing a listener ends what waits for it", async () => {
  const net = await pair();
  const listener = await net.b.listenTcp({ port: 80 });
  const accepting = listener.accept();
  const iterating = (async () => {
    let count = 0;
    for await (const _ of listener) count++;
    return count;
  })();
  await macrotask();
  await listener.close();
  await listener.close();
  await assert.rejects(accepting, code("ECONNABORTED"));
  assert.equal(await iterating, 0);
  await assert.rejects(listener.accept(), code("ECONNABORTED"));
  await assert.rejects(net.a.connectTcp({ host: "10.0.0.2", port: 80 }), code("ECONNREFUSED"));
});

test("connections that nothing accepted are reset by close()", async () => {
  const net = await pair();
  const listener = await net.b.listenTcp({ port: 80 });
  const client = await net.a.connectTcp({ host: "10.0.0.2", port: 80 });
  await macrotask();
  await listener.close();
  await assert.rejects(client.readable.getReader().read(), code("ECONNRESET"));
});

test("a full backlog holds connections back, and accepting lets them in", async () => {
  const clock = new VirtualClock();
  const net = await pair({ clock });
  const listener = await net.b.listenTcp({ port: 80, backlog: 2 });
  const connecting = Array.from({ length: 6 }, () => net.a.connectTcp({ host: "10.0.0.2", port: 80 }));
  const accepted = [];
  for (let i = 0; i < 6; i++) accepted.push(await listener.accept());
  const clients = await Promise.all(connecting);
  const ports = (list, key) => list.map((one) => one[key].port).sort();
  assert.deepEqual(ports(accepted, "remoteAddress"), ports(clients, "localAddress"));
});

test("IPv6, link-local addresses with their scope, and mapped ones", async () => {
  const net = await pair({
    a: { ip: ["10.0.0.1/24", "fd00::1/64"], mac: "02:00:00:00:00:01" },
    b: { ip: ["10.0.0.2/24", "fd00::2/64"], mac: "02:00:00:00:00:02" },
  });
  assert.equal(net.ia.ip, "10.0.0.1");
  assert.deepEqual([...net.ia.addresses], ["10.0.0.1/24", "fd00::1/64"]);
  const listener = await net.b.listenTcp({ port: 80 });
  for (const [host, local] of [
    ["fd00::2", "fd00::1"],
    ["fe80::ff:fe00:2%tap0", "fe80::ff:fe00:1%tap0"],
    ["::ffff:10.0.0.2", "10.0.0.1"],
    ["FD00:0:0::0.0.0.2", "fd00::1"],
  ]) {
    const [client, server] = await Promise.all([net.a.connectTcp({ host, port: 80 }), listener.accept()]);
    assert.equal(client.localAddress.host, local);
    assert.equal(server.remoteAddress.host, local);
    await send(client, bytes(host));
    assert.equal(text(await readAll(server)), host);
    await server.close();
  }
  const own = await net.a.connectTcp({ host: "fd00::2", port: 80, localHost: "fd00::1", localPort: 4321 });
  assert.deepEqual(own.localAddress, { host: "fd00::1", port: 4321 });
  await assert.rejects(net.a.connectTcp({ host: "fd00::2", port: 80, localHost: "fd00::9" }), code("EADDRNOTAVAIL"));
});

test("500 writers at once", async () => {
  const net = await pair();
  const listener = await net.b.listenTcp({ port: 80, backlog: 500 });
  const serve = async () => {
    const got = [];
    for (let i = 0; i < 500; i++) {
      const connection = await listener.accept();
      got.push(readAll(connection).then((data) => [data.readUInt32LE(0), data]));
    }
    return Promise.all(got);
  };
  const serving = serve();
  const expected = (i) => {
    const data = pattern(20_000, i + 1);
    new DataView(data.buffer).setUint32(0, i, true);
    return data;
  };
  await Promise.all(
    Array.from({ length: 500 }, async (_, i) =>
      send(await net.a.connectTcp({ host: "10.0.0.2", port: 80 }), expected(i), 3000),
    ),
  );
  const all = await serving;
  assert.equal(new Set(all.map(([i]) => i)).size, 500);
  for (const [i, data] of all) assert(data.equals(expected(i)), `writer ${i}`);
});

test("options of connections", async () => {
  const { client } = await connected(await pair());
  client.setNoDelay(false);
  client.setKeepAlive(true, 1000);
  assert.throws(() => client.setKeepAlive(true, 0), RangeError);
  await client.close();
  assert.throws(() => client.setNoDelay(true), { message: "tcp connection closed" });
});

test("an idle peer that is gone is noticed by keep-alive", async () => {
  const clock = new VirtualClock();
  const net = await pair({ clock });
  const { client } = await connected(net);
  client.setKeepAlive(true, 1000);
  const reading = client.readable.getReader().read();
  await net.b.removeInterface(net.ib);
  await assert.rejects(reading, code("ETIMEDOUT"));
});

test("closing a stack ends every pending call, and peers are notified", async () => {
  const net = await pair();
  const { client, server, listener } = await connected(net);
  const socket = await net.b.openUdp();
  const session = await net.b.createPingSession({ host: "10.0.0.77" });
  const full = (async () => {
    const writer = server.writable.getWriter();
    for (;;) await writer.write(new Uint8Array(100_000));
  })();
  const idle = await net.a.listenTcp({ port: 90 });
  const other = await net.b.connectTcp({ host: "10.0.0.1", port: 90 });
  const accepted = await idle.accept();
  const pending = [
    server.readable.getReader().read(),
    full,
    listener.accept(),
    socket.readable.getReader().read(),
    session.ping({ timeout: 1e9 }),
    net.b.connectTcp({ host: "10.0.0.99", port: 1 }),
    net.b.lookup("nowhere.test"),
    other.readable.getReader().read(),
  ].map((call) => assert.rejects(call, { name: "StackClosedError", code: "ECONNABORTED" }));
  const tap = net.ib.readable.getReader().read();
  await macrotask();
  await net.b.close();
  await net.b.close();
  await Promise.all(pending);
  assert.equal((await tap).done, true);
  for (const call of [
    () => net.b.connectTcp({ host: "10.0.0.1", port: 1 }),
    () => net.b.listenTcp({ port: 1 }),
    () => net.b.openUdp(),
    () => net.b.createTapInterface(),
    () => net.b.createPingSession({ host: "10.0.0.1" }),
  ]) {
    await assert.rejects(call(), { name: "StackClosedError" });
  }
  assert(net.b.closed && !net.a.closed);
  assert.throws(() => net.b.stats(), { name: "StackClosedError" });
  // The connection with data on its way is reset, the idle one ends in order.
  await assert.rejects(readAll(client), code("ECONNRESET"));
  assert.equal((await readAll(accepted)).length, 0);
});

test("close() with a drain waits for what was written", async () => {
  const clock = new VirtualClock();
  const net = await pair({ clock });
  const { client, server } = await connected(net);
  const data = pattern(2_000_000, 9);
  const reading = readAll(server);
  const writing = send(client, data);
  await writing;
  await client.close();
  await net.a.close({ drain: 5000 });
  assert((await reading).equals(data));
});
