// Packages of npm, unmodified, whose `net` a bundler resolves to ours: PostgreSQL, Redis, MQTT and HTTP.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import test, { after } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { pair, pattern } from "./kit.mjs";
import { findPostgresql, findRedis, PASSWORD, relay, runPostgresql, runRedis } from "./servers.mjs";

const net = fileURLToPath(new URL("../dist/net.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "libraries-"));
after(() => rmSync(folder, { recursive: true }));

const outfile = join(folder, "libraries.cjs");
await build({
  stdin: {
    contents: `
      export { default as pg } from "pg";
      export { Redis } from "ioredis";
      export { connect as connectMqtt } from "mqtt";
      export { Aedes } from "aedes";
      export { Agent, request } from "undici";
      export { useStack, createNet } from "net";`,
    resolveDir: fileURLToPath(new URL(".", import.meta.url)),
  },
  outfile,
  bundle: true,
  platform: "node",
  format: "cjs",
  alias: { net, "node:net": net },
  external: ["pg-native"],
  logLevel: "error",
});
const { Aedes, Agent, connectMqtt, createNet, pg, Redis, request, useStack } = createRequire(import.meta.url)(outfile);

/** The stack of the programs here, and the `net` of the virtual host 10.0.0.2. */
const { a, b } = await pair();
useStack(a);
const host = createNet(b);

const sha256 = (data) => createHash("sha256").update(data).digest("hex");

const postgresql = findPostgresql();
test(
  "pg with PostgreSQL: queries, a megabyte, notifications, a pool, a server that is not there",
  { skip: !postgresql && "no PostgreSQL, or not root" },
  async () => {
    await relay(host, 5432, await runPostgresql(postgresql));
    const options = { host: "10.0.0.2", user: "us", password: PASSWORD, database: "postgres" };
    const client = new pg.Client(options);
    await client.connect();
    const data = Buffer.from(pattern(1_000_000, 1));
    await client.query("create table files (name text primary key, data bytea)");
    await client.query("insert into files values ($1, $2)", ["one", data]);
    const { rows } = await client.query("select data, encode(sha256(data), 'hex') as digest from files");
    assert(rows[0].data.equals(data));
    assert.equal(rows[0].digest, sha256(data));
    await client.query("listen news");
    const notified = once(client, "notification");
    const pool = new pg.Pool({ ...options, max: 5 });
    const sums = await Promise.all(
      Array.from({ length: 40 }, (_, i) =>
        pool.query("select $1::int + pg_backend_pid() * 0 as sum", [i]).then((result) => result.rows[0].sum),
      ),
    );
    assert.deepEqual(
      sums,
      Array.from({ length: 40 }, (_, i) => i),
    );
    await pool.query("notify news, 'from the pool'");
    assert.equal((await notified)[0].payload, "from the pool");
    await assert.rejects(client.query("select 1 / 0"), { code: "22012" });
    await pool.end();
    await client.end();
    await assert.rejects(new pg.Client({ ...options, port: 5433 }).connect(), { code: "ECONNREFUSED" });
  },
);

const redis = findRedis();
test(
  "ioredis with Redis: commands, a pipeline, a megabyte, subscriptions",
  { skip: !redis && "no redis-server" },
  async () => {
    await relay(host, 6379, await runRedis(redis));
    const client = new Redis({ host: "10.0.0.2" });
    const data = Buffer.from(pattern(1_000_000, 2));
    assert.equal(await client.set("data", data), "OK");
    assert((await client.getBuffer("data")).equals(data));
    const pipeline = client.pipeline();
    for (let i = 0; i < 1000; i++) pipeline.incrby("sum", i);
    assert.equal((await pipeline.exec()).at(-1)[1], 499_500);
    const subscriber = client.duplicate();
    await subscriber.subscribe("news");
    const message = once(subscriber, "message");
    assert.equal(await client.publish("news", "hello"), 1);
    assert.deepEqual(await message, ["news", "hello"]);
    await subscriber.quit();
    await client.quit();
  },
);

test("mqtt with the broker aedes on the virtual host", async () => {
  const broker = await Aedes.createBroker();
  const server = host.createServer(broker.handle);
  server.listen(1883);
  await once(server, "listening");
  const client = connectMqtt("mqtt://10.0.0.2", { reconnectPeriod: 0 });
  await once(client, "connect");
  await client.subscribeAsync("room/+", { qos: 1 });
  const payload = Buffer.from(pattern(300_000, 3));
  const message = once(client, "message");
  await client.publishAsync("room/1", payload, { qos: 1 });
  const [topic, received] = await message;
  assert.equal(topic, "room/1");
  assert(received.equals(payload));
  await client.endAsync();
  await new Promise((resolve) => broker.close(resolve));
  server.close();
});

test("undici with Node's http on the virtual host", async () => {
  const app = http.createServer((incoming, response) => pipeline(incoming, response));
  const server = host.createServer((socket) => app.emit("connection", socket));
  server.listen(80);
  await once(server, "listening");
  const agent = new Agent();
  const bodies = Array.from({ length: 20 }, (_, i) => Buffer.from(pattern(50_000 + i, i)));
  const answers = await Promise.all(
    bodies.map(async (body) => {
      const response = await request("http://10.0.0.2/", { method: "POST", body, dispatcher: agent });
      assert.equal(response.statusCode, 200);
      return Buffer.from(await response.body.arrayBuffer());
    }),
  );
  answers.forEach((answer, i) => assert(answer.equals(bodies[i])));
  const single = new Agent({ connections: 1 });
  for (let i = 0; i < 5; i++) {
    const body = Buffer.from(pattern(1_000_000, i));
    const response = await request("http://10.0.0.2/", { method: "POST", body, dispatcher: single });
    assert(Buffer.from(await response.body.arrayBuffer()).equals(body));
  }
  await single.close();
  await assert.rejects(request("http://10.0.0.2:81/", { dispatcher: agent }), { code: "ECONNREFUSED" });
  await agent.close();
});
