// Names: a server of the test's own on a stack, honest or not.

import assert from "node:assert/strict";
import test from "node:test";
import { bytes, createStack, ip, pair, readAll, send, text, VirtualClock } from "./kit.mjs";

const [A, CNAME, AAAA] = [1, 5, 28];
const u16 = (number) => [number >> 8, number & 255];
const nameBytes = (name) => [...name.split(".").flatMap((label) => [label.length, ...bytes(label)]), 0];

/** Takes a query apart. */
function parse(query) {
  const labels = [];
  let at = 12;
  while (query[at]) {
    labels.push(text(query.subarray(at + 1, at + 1 + query[at])));
    at += 1 + query[at];
  }
  return {
    id: (query[0] << 8) | query[1],
    name: labels.join("."),
    type: (query[at + 1] << 8) | query[at + 2],
    question: query.subarray(12, at + 5),
  };
}

/** An answer; records are [owner bytes, type, data, ttl]. */
function answer({ id, question }, records, { code = 0, flags = 0x8180, ttl = 300 } = {}) {
  const list = records.flatMap(([owner, type, data, own]) => [
    ...owner,
    ...u16(type),
    0,
    1,
    ...u16((own ?? ttl) >>> 16),
    ...u16((own ?? ttl) & 0xffff),
    ...u16(data.length),
    ...data,
  ]);
  return Uint8Array.from([
    ...u16(id),
    ...u16(flags | code),
    0,
    1,
    ...u16(records.length),
    0,
    0,
    0,
    0,
    ...question,
    ...list,
  ]);
}

const POINTER = [0xc0, 12];

/** Serves names on a stack; the handler returns messages, and is counted. */
async function serve(stack, handler, port = 53) {
  const socket = await stack.openUdp({ port });
  const asked = [];
  (async () => {
    for await (const { host, port: from, data } of socket) {
      const query = parse(data);
      asked.push(`${query.name} ${query.type}`);
      for (const message of (await handler(query)) ?? []) await socket.send({ host, port: from, data: message });
    }
  })().catch(() => undefined);
  return asked;
}

const ipv6 = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

test("a connection, a datagram and a ping to a name", async () => {
  const net = await pair({ options: {} });
  const asked = await serve(net.a, (query) => [
    answer(query, query.name === "db.lab.test" ? [[POINTER, A, ip("10.0.0.2")]] : [], {
      code: query.name === "db.lab.test" ? 0 : 3,
    }),
  ]);
  const listener = await net.b.listenTcp({ port: 80 });
  const [client, server] = await Promise.all([net.a.connectTcp({ host: "DB.lab.test.", port: 80 }), listener.accept()]);
  await send(client, bytes("by name"));
  assert.equal(text(await readAll(server)), "by name");
  const socket = await net.b.openUdp({ port: 9 });
  await (await net.a.openUdp()).writable.getWriter().write({ host: "db.lab.test", port: 9, data: bytes("x") });
  assert.equal(text((await socket.readable.getReader().read()).value.data), "x");
  assert.equal((await (await net.a.createPingSession({ host: "db.lab.test" })).ping()).host, "10.0.0.2");
  assert.deepEqual(asked, ["db.lab.test 1"]); // the rest came from the cache
  await assert.rejects(net.a.connectTcp({ host: "other.lab.test", port: 80 }), {
    name: "NameResolutionError",
    code: "ENOTFOUND",
  });
});

test("both families, IPv6 first, and one address after the other", async () => {
  const net = await pair({ a: { ip: ["10.0.0.1/24", "fd00::1/64"] }, b: { ip: ["10.0.0.2/24"] } });
  await serve(net.a, (query) => {
    if (query.type === AAAA) return [answer(query, [[POINTER, AAAA, ipv6]])];
    return [answer(query, [[POINTER, A, ip("10.0.0.2")]])];
  });
  assert.deepEqual(await net.a.lookup("both.test"), ["fd00::2", "10.0.0.2"]);
  const listener = await net.b.listenTcp({ port: 80 });
  // No neighbour has fd00::2, so that the second attempt wins after a quarter of a second.
  const [client] = await Promise.all([net.a.connectTcp({ host: "both.test", port: 80 }), listener.accept()]);
  assert.equal(client.remoteAddress.host, "10.0.0.2");
});

test("a server that denies one family, one that fails, CNAMEs", async () => {
  const net = await pair({ a: { ip: ["10.0.0.1/24", "fd00::1/64"] }, options: { clock: new VirtualClock() } });
  await serve(net.a, (query) => {
    if (query.type === AAAA) return [answer(query, [], { code: 3 })];
    if (query.name === "broken.test") return [answer(query, [], { code: 2 })];
    const alias = nameBytes("real.test");
    return [
      answer(query, [
        [POINTER, CNAME, alias],
        [alias, A, ip("10.0.0.2")],
        [nameBytes("evil.test"), A, ip("6.6.6.6")],
      ]),
    ];
  });
  assert.deepEqual(await net.a.lookup("alias.test"), ["10.0.0.2"]);
  await assert.rejects(net.a.lookup("broken.test"), { code: "EAI_AGAIN" });
});

test("what is no answer to the question is not believed", async () => {
  const net = await pair();
  await serve(net.a, (query) => {
    const good = answer(query, [[POINTER, A, ip("10.0.0.2")]]);
    const forged = { ...query, id: query.id ^ 1 };
    const other = { ...query, question: Uint8Array.from([...nameBytes("xxxxxx.test"), 0, 1, 0, 1]) };
    const loop = answer(query, [[[0xc0, 12 + query.question.length], A, ip("6.6.6.6")]]);
    const long = good.slice();
    long[good.length - 5] = 255;
    return [
      answer(forged, [[POINTER, A, ip("6.6.6.6")]]),
      answer(other, [[POINTER, A, ip("6.6.6.6")]]),
      loop,
      long,
      good.subarray(0, 20),
      new Uint8Array(0),
      query.question,
      good,
    ];
  });
  assert.deepEqual(await net.a.lookup("target.test"), ["10.0.0.2"]);
});

test("an answer that is cut is asked for by TCP", async () => {
  const net = await pair();
  let query;
  await serve(net.a, (each) => [answer((query = each), [], { flags: 0x8380 })]);
  const listener = await net.a.listenTcp({ port: 53 });
  (async () => {
    const connection = await listener.accept();
    const message = answer(
      query,
      Array.from({ length: 100 }, (_, i) => [POINTER, A, [10, 0, 1, i]]),
    );
    const writer = connection.writable.getWriter();
    await writer.write(Uint8Array.from([...u16(message.length), ...message.subarray(0, 100)]));
    await writer.write(message.subarray(100));
    for await (const chunk of connection) assert(chunk.length > 0);
  })().catch(() => undefined);
  assert.equal((await net.a.lookup("many.test")).length, 100);
});

test("no server, a server that does not answer, a server of one's own choice", async () => {
  const clock = new VirtualClock();
  const stack = await createStack({ clock, nameServer: { ip: "10.0.0.2", port: 5300 } });
  await stack.createTunInterface({ ip: "10.0.0.1/24" });
  const began = clock.now();
  await assert.rejects(stack.lookup("name.test"), { code: "EAI_AGAIN" });
  assert(clock.now() - began >= 7 && clock.now() - began < 30);
  await assert.rejects(stack.connectTcp({ host: "name.test", port: 1, timeout: 100 }), { code: "ETIMEDOUT" });
  await assert.rejects(createStack({ nameServer: { ip: "name" } }), RangeError);
  const net = await pair({ options: { nameServer: { ip: "10.0.0.2", port: 5300 } } });
  await serve(net.b, (query) => [answer(query, [[POINTER, A, ip("10.0.0.2")]])], 5300);
  assert.deepEqual(await net.a.lookup("name.test"), ["10.0.0.2"]);
});

test("a time to live ends, and 0 is not kept", async () => {
  const clock = new VirtualClock();
  const net = await pair({ options: { clock } });
  const asked = await serve(net.a, (query) => [
    answer(query, [[POINTER, A, ip("10.0.0.2")]], { ttl: query.name === "zero.test" ? 0 : 60 }),
  ]);
  for (const name of ["minute.test", "minute.test", "zero.test", "zero.test"]) await net.a.lookup(name);
  assert.equal(asked.length, 3);
  await clock.sleep(61);
  await net.a.lookup("minute.test");
  assert.equal(asked.length, 4);
});

test("hosts of one's own, localhost, and addresses", async () => {
  const stack = await createStack();
  stack.hosts.set("db", ["10.0.0.7", "fd00::7"]);
  assert.deepEqual(await stack.lookup("localhost"), ["127.0.0.1", "::1"]);
  assert.deepEqual(await stack.lookup("db"), ["10.0.0.7", "fd00::7"]);
  assert.deepEqual(await stack.lookup("10.1.2.3"), ["10.1.2.3"]);
  assert.deepEqual(await stack.lookup("0:0::1"), ["::1"]);
  const listener = await stack.listenTcp({ host: "localhost", port: 80 });
  const [client] = await Promise.all([stack.connectTcp({ host: "localhost", port: 80 }), listener.accept()]);
  assert.equal(client.remoteAddress.host, "127.0.0.1");
});
