// Node's net over stacks: events, ends, errors, and Node's own http and tls on top.

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { Duplex } from "node:stream";
import { pipeline } from "node:stream/promises";
import test from "node:test";
import * as own from "../dist/net.js";
import { createNet, useStack } from "../dist/net.js";
import { createStack, macrotask, pair, pattern, readAll } from "./kit.mjs";

async function nets(options) {
  const { a, b, close } = await pair(options);
  return { a: createNet(a), b: createNet(b), stacks: { a, b }, close };
}

async function serving(net, options, handler) {
  const server = net.createServer(options, handler);
  server.listen(0);
  await once(server, "listening");
  return { server, port: server.address().port };
}

test("bytes both ways, with the events and properties of a socket", async () => {
  const { a, b } = await nets();
  const { server, port } = await serving(b, {}, (socket) => {
    assert(socket instanceof b.Socket && socket instanceof Duplex);
    socket.pipe(socket);
  });
  const socket = a.connect({ host: "10.0.0.2", port });
  const events = [];
  for (const name of ["connect", "ready", "end", "finish", "close"])
    socket.on(name, (...args) => events.push([name, ...args]));
  assert.equal(socket.readyState, "opening");
  assert(socket.connecting && socket.pending);
  assert.equal(socket.remoteAddress, undefined);
  const data = pattern(1_000_000, 1);
  socket.end(data); // before it is connected
  await once(socket, "connect");
  assert.equal(socket.readyState, "readOnly");
  assert.deepEqual([socket.remoteAddress, socket.remotePort, socket.remoteFamily], ["10.0.0.2", port, "IPv4"]);
  assert.deepEqual([socket.localAddress, socket.localFamily], ["10.0.0.1", "IPv4"]);
  assert.deepEqual(socket.address(), { address: "10.0.0.1", family: "IPv4", port: socket.localPort });
  const back = await readAll(socket);
  assert(back.equals(data));
  assert(Buffer.isBuffer(back));
  assert.equal(socket.bytesRead, data.length);
  assert.equal(socket.bytesWritten, data.length);
  if (!socket.closed) await once(socket, "close");
  assert.deepEqual(events, [["connect"], ["ready"], ["finish"], ["end"], ["close", false]]);
  assert.equal(socket.readyState, "closed");
  const closed = once(server, "close");
  server.close();
  await closed;
});

test("many small writes arrive in order, and a slow reader makes the writer wait", async () => {
  const { a, b } = await nets();
  let peer;
  const { port } = await serving(b, { pauseOnConnect: true }, (socket) => (peer = socket));
  const socket = a.connect(port, "10.0.0.2");
  await once(socket, "connect");
  while (!peer) await macrotask();
  const data = pattern(200_000, 2);
  for (let at = 0; at < data.length; at += 7) socket.write(data.subarray(at, at + 7));
  let full = 0;
  for (; socket.writableLength < 20_000_000; full += 65536) socket.write(new Uint8Array(65536));
  for (let i = 0; i < 50; i++) await macrotask();
  assert(socket.writableLength > 1_000_000, "the peer took everything, though nothing reads");
  assert(peer.readableLength <= 200_000, `${peer.readableLength} bytes wait`);
  socket.end();
  const got = await readAll(peer);
  assert(got.subarray(0, data.length).equals(data));
  assert.equal(got.length, data.length + full);
});

test("connecting fails with the codes of Node", async () => {
  const { a } = await nets();
  const failure = async (...args) => {
    const socket = a.connect(...args);
    const closed = once(socket, "close").catch(() => undefined);
    const [error] = await once(socket, "error");
    assert(socket.destroyed);
    await closed;
    return error;
  };
  const refused = await failure(81, "10.0.0.2");
  assert.deepEqual(
    { ...refused },
    { code: "ECONNREFUSED", errno: -111, syscall: "connect", address: "10.0.0.2", port: 81 },
  );
  assert.equal(refused.message, "connect ECONNREFUSED 10.0.0.2:81");
  assert.equal((await failure(80, "192.0.2.1")).code, "ENETUNREACH");
  const name = await failure(80, "nowhere..invalid");
  assert.equal(name.syscall, "connect");
  const lookup = (host, options, callback) => callback(Object.assign(new Error("no"), { code: "ENOTFOUND" }));
  const unknown = await failure({ port: 80, host: "db.test", lookup });
  assert.deepEqual([unknown.code, unknown.syscall, unknown.hostname], ["ENOTFOUND", "getaddrinfo", "db.test"]);
  assert.throws(() => a.connect(70000, "10.0.0.2"), { code: "ERR_SOCKET_BAD_PORT" });
  assert.throws(() => a.connect("/run/socket"), /no local sockets/);
  assert.throws(() => a.connect({}), { code: "ERR_INVALID_ARG_TYPE" });
});

test("names, by the stack, by `family` and by `lookup`", async () => {
  const { a, b, stacks } = await nets({
    b: { ip: ["10.0.0.2/24", "fd00::2/64"] },
    a: { ip: ["10.0.0.1/24", "fd00::1/64"] },
  });
  const { port } = await serving(b, {}, (socket) => socket.end(socket.localAddress));
  stacks.a.hosts.set("db.test", ["fd00::2", "10.0.0.2"]);
  const reached = async (options) => String(await readAll(a.connect({ port, host: "db.test", ...options })));
  assert.equal(await reached({ family: 4 }), "10.0.0.2");
  assert.equal(await reached({ family: 6 }), "fd00::2");
  assert.equal(await reached({}), "fd00::2");
  assert.equal(await reached({ lookup: (host, options, callback) => callback(null, "10.0.0.2", 4) }), "10.0.0.2");
});

test("a reset by the peer", async () => {
  const { a, b } = await nets();
  const { port } = await serving(b, {}, (socket) => socket.once("data", () => socket.resetAndDestroy()));
  const socket = a.connect(port, "10.0.0.2", () => socket.write("x"));
  let hadError;
  socket.on("close", (had) => (hadError = had));
  const [error] = await once(socket, "error");
  assert.deepEqual([error.code, error.syscall, error.message], ["ECONNRESET", "read", "read ECONNRESET"]);
  await macrotask();
  assert.equal(hadError, true);
});

test("allowHalfOpen: writing goes on after the peer's end", async () => {
  const { a, b } = await nets();
  const { port } = await serving(b, { allowHalfOpen: true }, (socket) => {
    let text = "";
    socket.setEncoding("utf8").on("data", (chunk) => (text += chunk));
    socket.on("end", () => socket.end(`${text} and back`));
  });
  const socket = a.connect({ host: "10.0.0.2", port, allowHalfOpen: true });
  socket.end("there");
  assert.equal(String(await readAll(socket)), "there and back");
});

test("without allowHalfOpen a socket ends when its peer does, though nothing reads it", async () => {
  const { a, b } = await nets();
  const { server, port } = await serving(b, {}, (socket) => socket.resume());
  const socket = a.connect(port, "10.0.0.2");
  await once(socket, "connect");
  socket.end();
  await once(server.close(), "close");
});

test("destroying a socket that connects leaves nothing behind", async () => {
  const { a, stacks } = await nets({ cable: false });
  const socket = a.connect(80, "10.0.0.2");
  socket.write("never", (error) => assert.equal(error.code, "ERR_SOCKET_CLOSED_BEFORE_CONNECTION"));
  await macrotask();
  const before = stacks.a.stats().handles;
  const closed = once(socket, "close");
  socket.destroy();
  assert.deepEqual(await closed, [false]);
  await macrotask();
  assert(stacks.a.stats().handles < before);
  assert.equal(socket.readyState, "closed");
});

test("an AbortSignal destroys a socket and closes a server", async () => {
  const { a, b } = await nets();
  const end = new AbortController();
  const server = b.createServer().listen({ port: 80, signal: end.signal });
  await once(server, "listening");
  const socket = a.connect({ host: "10.0.0.2", port: 80, signal: end.signal });
  await once(socket, "connect");
  const closed = once(server, "close");
  end.abort();
  const [error] = await once(socket, "error");
  assert.equal(error.name, "AbortError");
  await closed;
});

test("setTimeout reports silence, and leaves the socket open", async () => {
  const { a, b } = await nets();
  const { port } = await serving(b, {}, (socket) => socket.pipe(socket));
  const socket = a.connect({ host: "10.0.0.2", port, timeout: 30 });
  await once(socket, "timeout");
  assert.equal(socket.timeout, 30);
  socket.setTimeout(0);
  socket.write("still open");
  assert.equal(String((await once(socket, "data"))[0]), "still open");
  socket.setNoDelay(false).setKeepAlive(true, 5000).ref().unref();
  socket.destroy();
});

test("a server: the address in use, its count of connections, drops, and what is not running", async () => {
  const { a, b } = await nets();
  const { server, port } = await serving(b, {}, (socket) => socket.resume());
  const other = b.createServer().listen(port);
  const [error] = await once(other, "error");
  assert.deepEqual([error.code, error.syscall, error.port], ["EADDRINUSE", "listen", port]);
  assert.equal(error.message, `listen EADDRINUSE: address already in use :::${port}`);
  assert.throws(() => server.listen(81), { code: "ERR_SERVER_ALREADY_LISTEN" });
  assert.deepEqual(server.address(), { address: "::", family: "IPv6", port });
  server.maxConnections = 1;
  const first = a.connect(port, "10.0.0.2");
  await once(first, "connect");
  const dropped = once(server, "drop");
  const second = a.connect(port, "10.0.0.2");
  second.resume();
  assert.equal((await dropped)[0].remoteAddress, "10.0.0.1");
  await once(second, "close");
  assert.equal(await new Promise((resolve) => server.getConnections((_, count) => resolve(count))), 1);
  const closed = new Promise((resolve) => server.close(resolve));
  assert(!server.listening && server.address() === null);
  first.end();
  assert.equal(await closed, undefined);
  assert.equal((await new Promise((resolve) => server.close(resolve))).code, "ERR_SERVER_NOT_RUNNING");
});

test("the stack that ends ends sockets and servers", async () => {
  const { a, b, stacks } = await nets();
  let peer;
  const { server, port } = await serving(b, {}, (socket) => (peer = socket));
  const socket = a.connect(port, "10.0.0.2");
  await once(socket, "connect");
  while (!peer) await macrotask();
  const closed = once(server, "close");
  const failed = once(peer, "error");
  socket.on("error", () => undefined);
  await stacks.b.close();
  const [error] = await failed;
  assert(error instanceof Error && error.syscall === "read", error);
  await closed;
  assert(!server.listening);
});

test("what a listener throws is not an error of the socket", async () => {
  const { a, b } = await nets();
  const { port } = await serving(b, {}, (socket) => socket.write("x"));
  const socket = a.connect(port, "10.0.0.2");
  await once(socket, "connect");
  const listeners = process.listeners("unhandledRejection");
  process.removeAllListeners("unhandledRejection");
  const thrown = once(process, "unhandledRejection");
  socket.on("data", () => {
    throw new RangeError("of the program");
  });
  const [error] = await thrown;
  for (const listener of listeners) process.on("unhandledRejection", listener);
  assert.equal(error.message, "of the program");
  assert(!socket.destroyed);
  socket.destroy();
});

test("a socket connects once more after it was destroyed", async () => {
  const { a, b } = await nets();
  const { port } = await serving(b, {}, (socket) => socket.end("hello"));
  const socket = new a.Socket();
  for (let i = 0; i < 3; i++) {
    socket.connect(port, "10.0.0.2");
    assert.equal(String((await once(socket, "data"))[0]), "hello");
    await once(socket, "close");
  }
});

test("the module's own exports use the stack that useStack sets", async () => {
  const stack = await createStack();
  assert.throws(() => own.connect(80), /useStack/);
  useStack(stack);
  const { port } = await serving(own.default, {}, (socket) => socket.end("own"));
  assert.equal(String(await readAll(own.createConnection({ port }))), "own");
  assert.equal(own.Stream, own.Socket);
});

test("isIP", () => {
  for (const text of [
    "10.0.0.1",
    "::1",
    "fe80::1%eth0",
    "::ffff:1.2.3.4",
    "1.2.3",
    "01.2.3.4",
    "",
    "a",
    ":::",
    "localhost",
  ]) {
    const expected = { "10.0.0.1": 4, "::1": 6, "fe80::1%eth0": 6, "::ffff:1.2.3.4": 6 }[text] ?? 0;
    assert.equal(own.isIP(text), expected, text);
    assert.equal(own.isIPv4(text), expected === 4);
    assert.equal(own.isIPv6(text), expected === 6);
  }
});

test("no write completes within a tick for whose rest the socket is corked", async () => {
  const { a, b } = await nets();
  const { port } = await serving(b, {}, (socket) => socket.pipe(socket));
  const socket = a.connect(port, "10.0.0.2");
  await once(socket, "connect");
  const data = pattern(20_000, 1);
  for (let at = 0; at < data.length; at += 2000) {
    let corked;
    socket.write(data.subarray(at, at + 1000), () => (corked = socket.writableCorked));
    await undefined;
    socket.cork();
    const written = new Promise((resolve) => socket.write(data.subarray(at + 1000, at + 2000), resolve));
    process.nextTick(() => socket.uncork());
    await written;
    assert.equal(corked, 0, `at ${at}`);
  }
  socket.end();
  assert((await readAll(socket)).equals(Buffer.from(data)));
});

test("a write that completes later does so before its answer and the peer's end are read", async () => {
  const { a, b } = await nets();
  const { port } = await serving(b, {}, (socket) => socket.once("data", (data) => socket.end(data)));
  const socket = a.connect(port, "10.0.0.2");
  await once(socket, "connect");
  const events = [];
  socket.on("data", (data) => events.push(String(data)));
  socket.on("end", () => events.push("end"));
  socket.write("over", () => events.push("written"));
  socket.cork();
  process.nextTick(() => socket.uncork());
  await once(socket, "close");
  assert.deepEqual(events, ["written", "over", "end"]);
});

// The response holds the second chunk until the next tick. If the first completed before that, the socket would never be
// full, and its 'drain', for which the response waits, would never come.
test("a response of Node's http drains that is written while an earlier write is under way", async () => {
  const { a, b } = await nets();
  const chunks = [pattern(60_000, 6), pattern(10_000, 7)];
  let full = 0;
  const app = http.createServer({ highWaterMark: 65536 }, async (request, response) => {
    for (let round = 0; round < 20; round++) {
      response.write(chunks[0]);
      await new Promise((resolve) => process.nextTick(resolve)); // the socket has it now
      if (response.write(chunks[1])) continue;
      full++;
      let drained = false;
      response.once("drain", () => (drained = true));
      for (let i = 0; i < 1000 && !drained; i++) await macrotask();
      if (!drained) return response.destroy(new Error(`no 'drain' in round ${round}`));
    }
    response.end();
  });
  const { port } = await serving(b, { highWaterMark: 65536 }, (socket) => app.emit("connection", socket));
  const request = http.get({ host: "10.0.0.2", createConnection: () => a.connect(port, "10.0.0.2") });
  const [response] = await once(request, "response");
  const expected = Buffer.concat(Array.from({ length: 20 }, () => chunks).flat());
  assert((await readAll(response)).equals(expected));
  assert.equal(full, 20, "writes that had to wait");
});

test("Node's http on both sides, with keep-alive and a megabyte of body", async () => {
  const { a, b } = await nets();
  const body = pattern(1_000_000, 5);
  const served = [];
  const app = http.createServer((request, response) => served.push(pipeline(request, response)));
  const { port } = await serving(b, {}, (socket) => app.emit("connection", socket));
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  let connections = 0;
  agent.createConnection = (options) => {
    connections++;
    return a.connect({ host: options.host, port: options.port });
  };
  for (let i = 0; i < 3; i++) {
    const request = http.request({ agent, host: "10.0.0.2", port, method: "POST" });
    request.end(body);
    const [response] = await once(request, "response");
    assert((await readAll(response)).equals(Buffer.from(body)));
  }
  assert.equal(connections, 1);
  assert.equal(served.length, 3);
  await Promise.all(served);
  agent.destroy();
});

test("Node's http: requests in chunks, and responses five times as large", async () => {
  const { a, b } = await nets();
  const part = Buffer.from(pattern(12_345, 8));
  const more = Buffer.from(pattern(4_000_000, 9));
  const served = [];
  const app = http.createServer((request, response) => {
    async function* answer() {
      yield* request;
      for (let at = 0; at < more.length; at += 7777) yield more.subarray(at, at + 7777);
    }
    served.push(pipeline(answer, response));
  });
  const { port } = await serving(b, {}, (socket) => app.emit("connection", socket));
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  agent.createConnection = () => a.connect(port, "10.0.0.2");
  const parts = Array(80).fill(part);
  for (let i = 0; i < 5; i++) {
    const request = http.request({ agent, host: "10.0.0.2", method: "POST" });
    const answer = once(request, "response").then(([response]) => readAll(response));
    await pipeline(parts, request);
    assert((await answer).equals(Buffer.concat([...parts, more])));
  }
  await Promise.all(served);
  agent.destroy();
});
