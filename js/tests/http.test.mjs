// HTTP/1.1 over two stacks on a cable: payloads, streams, limits, and bytes that no client should send.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createHttp } from "../dist/http.js";
import { bytes, pair, pattern, readAll, send, text, VirtualClock } from "./kit.mjs";

const open = [];
after(() => open.forEach((http) => http.close()));

async function web(handler, options = {}, clientOptions = {}, stackOptions = {}) {
  const stacks = await pair(stackOptions);
  const http = await createHttp(stacks.a, clientOptions);
  open.push(http);
  const server = await (await createHttp(stacks.b.tcp)).serve({ port: 80, ...options }, handler);
  return { ...stacks, http, server, fetch: http.fetch };
}

/** Sends bytes as they are, and returns all that comes until the server ends; `ends`: no more than these will come. */
async function raw({ a }, request, ends = false) {
  const connection = await a.connectTcp({ host: "10.0.0.2", port: 80 });
  const writer = connection.writable.getWriter();
  await writer.write(typeof request === "string" ? bytes(request) : request);
  if (ends) await writer.close();
  const answer = text(await readAll(connection.readable));
  await connection.close();
  return answer;
}

const statuses = (answer) => [...answer.matchAll(/^HTTP\/1\.1 (\d+)/gm)].map(([, status]) => Number(status));

test("methods, headers, queries and bodies of known length arrive as they are", async () => {
  const { fetch } = await web(async (request) =>
    Response.json({
      method: request.method,
      url: request.url,
      type: request.headers.get("content-type"),
      length: request.headers.get("content-length"),
      own: request.headers.get("x-own"),
      body: await request.text(),
    }),
  );
  const response = await fetch("http://10.0.0.2/a%20b?c=d#e", {
    method: "POST",
    headers: { "X-Own": "1" },
    body: new URLSearchParams({ name: "ä" }),
  });
  assert.deepEqual(await response.json(), {
    method: "POST",
    url: "http://10.0.0.2/a%20b?c=d",
    type: "application/x-www-form-urlencoded;charset=UTF-8",
    length: "11",
    own: "1",
    body: "name=%C3%A4",
  });
  assert.equal(response.url, "http://10.0.0.2/a%20b?c=d");
  const got = await (await fetch("http://10.0.0.2/")).json();
  assert.deepEqual([got.method, got.length, got.body], ["GET", null, ""]);
});

test("streams of megabytes pass both ways at once, and one connection serves all", async () => {
  const { fetch, b } = await web((request) => new Response(request.body), { maxBody: 1e8 });
  const data = pattern(3_000_000);
  for (let round = 0; round < 3; round++) {
    let at = 0;
    const body = new ReadableStream({
      pull(controller) {
        if (at >= data.length) controller.close();
        else controller.enqueue(data.subarray(at, (at += 50_000)));
      },
    });
    const response = await fetch("http://10.0.0.2/", { method: "PUT", body, duplex: "half" });
    assert.equal(response.headers.get("transfer-encoding"), "chunked");
    assert((await readAll(response.body)).equals(Buffer.from(data)));
  }
  assert.equal(b.stats().connections, 1);
});

test("a body that the program does not read stops the server", async () => {
  const clock = new VirtualClock();
  let sent = 0;
  const { fetch } = await web(
    () =>
      new Response(
        new ReadableStream({
          pull(controller) {
            sent += 65536;
            controller.enqueue(new Uint8Array(65536));
          },
        }),
      ),
    {},
    {},
    { clock },
  );
  const response = await fetch("http://10.0.0.2/");
  const reader = response.body.getReader();
  await reader.read();
  for (let before = -1; before !== sent;) {
    before = sent;
    await clock.sleep(10);
  }
  assert(sent < 2_000_000, `${sent} bytes`);
  await reader.cancel();
});

test("HEAD, 204, errors of handlers, redirects, abort", async () => {
  let arrive;
  const arrived = new Promise((resolve) => (arrive = resolve));
  const { fetch } = await web(({ url, signal }) => {
    const { pathname } = new URL(url);
    if (pathname === "/none") return new Response(null, { status: 204 });
    if (pathname === "/from") return new Response(null, { status: 302, headers: { location: "/to" } });
    if (pathname === "/loop") return new Response(null, { status: 302, headers: { location: "/loop" } });
    if (pathname === "/never") {
      arrive();
      return new Promise((_, reject) => signal.addEventListener("abort", reject));
    }
    if (pathname === "/fails") return "no Response";
    return new Response("found", { headers: { "content-length": "5" } });
  });
  const head = await fetch("http://10.0.0.2/", { method: "HEAD" });
  assert.deepEqual([head.headers.get("content-length"), await head.text()], ["5", ""]);
  assert.equal((await fetch("http://10.0.0.2/none")).status, 204);
  const { error } = console;
  console.error = () => {};
  assert.equal((await fetch("http://10.0.0.2/fails")).status, 500);
  console.error = error;
  const followed = await fetch("http://10.0.0.2/from", { method: "POST", body: "x" });
  assert.deepEqual([followed.url, followed.redirected, await followed.text()], ["http://10.0.0.2/to", true, "found"]);
  await assert.rejects(fetch("http://10.0.0.2/loop"), TypeError);
  assert.equal((await fetch("http://10.0.0.2/from", { redirect: "manual" })).status, 302);
  const abort = new AbortController();
  const never = fetch("http://10.0.0.2/never", { signal: abort.signal });
  await arrived;
  abort.abort(new Error("enough"));
  await assert.rejects(never, /enough/);
  await assert.rejects(fetch("https://10.0.0.2/"), TypeError);
  await assert.rejects(fetch("http://10.0.0.2:81/"), { code: "ECONNREFUSED" });
});

test("pipelined requests are answered in order", async () => {
  const host = await web(async (request) => new Response(`${new URL(request.url).pathname}:${await request.text()}`));
  const answer = await raw(
    host,
    "POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\none" +
      "POST /2 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\ntw\r\n1\r\no\r\n0\r\nT: t\r\n\r\n" +
      "GET /3 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
  );
  assert.deepEqual(statuses(answer), [200, 200, 200]);
  assert.deepEqual(answer.match(/\/\d:\w*/g), ["/1:one", "/2:two", "/3:"]);
});

const hostile = {
  "no request": [400, "\x16\x03\x01\x02\n"],
  "a bare line feed": [400, "GET / HTTP/1.1\nHost: h\n\n"],
  "two lengths": [400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"],
  "a list of lengths": [400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\nx"],
  "a signed length": [400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\nx"],
  "a length and chunks": [
    400,
    "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
  ],
  "another coding": [501, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"],
  "space before a colon": [400, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length : 1\r\n\r\nx"],
  "a folded line": [400, "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n"],
  "two hosts": [400, "GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n"],
  "no host": [400, "GET / HTTP/1.1\r\n\r\n"],
  "a host with a path": [400, "GET / HTTP/1.1\r\nHost: h/x\r\n\r\n"],
  "another version": [505, "GET / HTTP/2.0\r\nHost: h\r\n\r\n"],
  CONNECT: [501, "CONNECT http://h/ HTTP/1.1\r\nHost: h\r\n\r\n"],
  "a long target": [431, `GET /${"x".repeat(20_000)} HTTP/1.1\r\nHost: h\r\n\r\n`],
  "many fields": [431, `GET / HTTP/1.1\r\nHost: h\r\n${"A: b\r\n".repeat(200)}\r\n`],
  "a malformed chunk": [400, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nxx\r\n0\r\n\r\n"],
  "a chunk that is longer": [
    400,
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n",
  ],
  "a large body": [413, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n"],
  "large chunks": [413, `POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n`],
  "an unknown expectation": [417, "POST / HTTP/1.1\r\nHost: h\r\nExpect: more\r\nContent-Length: 1\r\n\r\nx"],
};

test("hostile requests are refused, and their connections closed", async () => {
  const host = await web(async (request) => new Response(await request.text()), { maxBody: 1000 });
  for (const [what, [status, request]] of Object.entries(hostile)) {
    assert.deepEqual(statuses(await raw(host, request)), [status], what);
  }
  assert.equal(await (await host.fetch("http://10.0.0.2/", { method: "POST", body: "well" })).text(), "well");
});

test("mutated requests end, and the server goes on", async () => {
  const host = await web(async (request) => new Response(await request.text()));
  const valid = bytes("POST /1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n");
  const random = pattern(600, 7);
  for (let i = 0; i < 150; i++) {
    const mutated = valid.slice();
    for (let j = 0; j < 2; j++) mutated[(random[4 * i + j] * 7) % mutated.length] = random[4 * i + j + 2];
    for (const status of statuses(await raw(host, mutated, true)))
      assert(status === 200 || (status >= 400 && status < 506));
  }
  assert.equal(await (await host.fetch("http://10.0.0.2/", { method: "POST", body: "well" })).text(), "well");
});

test("slow heads are answered by 408, idle connections are ended, and an Expect is answered by 100", async () => {
  const echo = async (request) => new Response(await request.text());
  assert.deepEqual(statuses(await raw(await web(echo, { headTimeout: 1 }), "GET / HT")), [408]);
  const idle = await web(echo, { idleTimeout: 1 });
  assert.deepEqual(statuses(await raw(idle, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")), [200]);
  const host = await web(echo);
  const expecting = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx";
  assert.deepEqual(statuses(await raw(host, expecting, true)), [100, 200]);
});

test("malformed responses fail, and none is taken for another request's", async () => {
  const { a, b } = await pair();
  const http = await createHttp(a);
  open.push(http);
  const listener = await b.listenTcp({ port: 80 });
  const answers = [
    "no HTTP\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
    "HTTP/1.1 101 Switching\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    "HTTP/1.0 200 OK\r\n\r\nok",
  ];
  void (async () => {
    for (const answer of answers) {
      const connection = await listener.accept();
      await send(connection, bytes(answer));
    }
  })();
  const get = async () => (await http.fetch("http://10.0.0.2/")).text();
  for (let i = 0; i < 5; i++) await assert.rejects(get(), { name: "HttpError" }, answers[i]);
  assert.equal(await get(), "ok");
  assert.equal(await get(), "ok");
});

test("HTTP/1.0 gets a body that ends with the connection", async () => {
  const host = await web(() => new Response(new Blob(["old"]).stream()));
  const answer = await raw(host, "GET / HTTP/1.0\r\n\r\n");
  assert(answer.endsWith("\r\n\r\nold") && !/transfer-encoding/i.test(answer), answer);
});

test("connections above the limit are reset, and a kept one that ended is replaced", async () => {
  const { a, b, fetch, server } = await web(() => new Response("ok"), { maxConnections: 1 });
  assert.equal(await (await fetch("http://10.0.0.2/")).text(), "ok");
  const other = await a.connectTcp({ host: "10.0.0.2", port: 80 });
  await assert.rejects(readAll(other.readable), { code: "ECONNRESET" });
  await server.close(); // which ends the first
  await (await createHttp(b)).serve({ port: 80 }, () => new Response("another"));
  assert.equal(await (await fetch("http://10.0.0.2/")).text(), "another");
});
