// Packages of npm, unmodified, in a page: a bundler resolves their `net` to ours, and the page's host reaches real servers
// through the tunnel.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { Aedes } from "aedes";
import { build } from "esbuild";
import { pattern } from "../kit.mjs";
import { findPostgresql, findRedis, PASSWORD, runPostgresql, runRedis } from "../servers.mjs";
import { openPage } from "./chromium.mjs";
import { missing, startTunnel } from "./tunnel.mjs";

const SIZE = 1_000_000;
const HOST = "10.0.0.1";
const sha256 = (data) => createHash("sha256").update(data).digest("hex");

/** Bundles the packages for a page, with npm's implementations of Node's modules. Those that they only name are empty. */
async function bundle() {
  const file = (path) => fileURLToPath(new URL(path, import.meta.url));
  const net = file("../../dist/net.js");
  const empty = /^(?:dns|fs|tls|tty|crypto|http|https|os|url|child_process|worker_threads|pg-native)$/;
  const { outputFiles } = await build({
    stdin: {
      contents: `
        export { Buffer } from "./globals.mjs";
        export { default as pg } from "pg";
        export { Redis } from "ioredis";
        export { default as mqtt } from "mqtt";
        export { connect, useStack } from "net";
        export { once } from "events";`,
      resolveDir: file("."),
    },
    bundle: true,
    write: false,
    format: "esm",
    platform: "browser",
    mainFields: ["main"],
    conditions: ["node"],
    define: { global: "globalThis" },
    alias: {
      net,
      "node:net": net,
      stream: "readable-stream",
      "util/types": "util/support/types.js",
      path: "path-browserify",
    },
    plugins: [
      {
        name: "modules of Node",
        setup({ onResolve, onLoad }) {
          onResolve({ filter: empty }, ({ path }) => ({ path, namespace: "empty" }));
          onLoad({ filter: /.*/, namespace: "empty" }, () => ({ contents: "module.exports = {}" }));
        },
      },
    ],
    logLevel: "error",
  });
  return outputFiles[0].text;
}

const [postgresql, redis] = [findPostgresql(), findRedis()];
const skip = missing || (!postgresql && "no PostgreSQL, or not root") || (!redis && "no redis-server");

test("pg, ioredis and mqtt in a page", { skip }, async (t) => {
  const broker = await Aedes.createBroker();
  const server = createServer(broker.handle).listen(0, "127.0.0.1");
  t.after(() => (server.close(), broker.close()));
  await once(server, "listening");
  const { url } = await startTunnel(t, {
    1883: server.address().port,
    5432: await runPostgresql(postgresql),
    6379: await runRedis(redis),
  });
  const { page, errors } = await openPage(t);
  await page.setRequestInterception(true);
  const script = await bundle();
  page.on("request", (request) => {
    if (!request.url().endsWith("/libraries.mjs")) return request.continue();
    return request.respond({ contentType: "text/javascript", body: script });
  });
  await page.goto(url);
  await page.waitForFunction(() => globalThis.stack);
  await page.evaluate(async () => {
    globalThis.libraries = await import("/libraries.mjs");
    libraries.useStack(stack);
  });
  const data = [...Buffer.from(pattern(SIZE, 1))];
  const digest = sha256(Buffer.from(data));
  await page.evaluate((data) => (globalThis.data = libraries.Buffer.from(data)), data);

  const queried = await page.evaluate(
    async (host, password) => {
      const client = new libraries.pg.Client({ host, user: "us", password, database: "postgres" });
      await client.connect();
      await client.query("create table files (name text primary key, data bytea)");
      await client.query("insert into files values ($1, $2)", ["one", data]);
      const { rows } = await client.query("select data, encode(sha256(data), 'hex') as digest from files");
      const failed = await client.query("select 1 / 0").catch(({ code }) => code);
      await client.end();
      return { digest: rows[0].digest, same: data.equals(rows[0].data), failed };
    },
    HOST,
    PASSWORD,
  );
  assert.deepEqual(queried, { digest, same: true, failed: "22012" });

  const stored = await page.evaluate(async (host) => {
    const client = new libraries.Redis({ host });
    await client.set("data", data);
    const same = data.equals(await client.getBuffer("data"));
    const sums = await Promise.all(Array.from({ length: 1000 }, (_, i) => client.incrby("sum", i)));
    await client.quit();
    return { same, sum: sums.at(-1) };
  }, HOST);
  assert.deepEqual(stored, { same: true, sum: 499_500 });

  const published = await page.evaluate(async (host) => {
    // In pages `mqtt.connect` knows WebSockets alone, but a client takes any stream.
    const client = new libraries.mqtt.MqttClient(() => libraries.connect(1883, host), { reconnectPeriod: 0 });
    await libraries.once(client, "connect");
    await client.subscribeAsync("room/+", { qos: 1 });
    const message = libraries.once(client, "message");
    await client.publishAsync("room/1", data, { qos: 1 });
    const [topic, received] = await message;
    await client.endAsync();
    return { topic, same: data.equals(received) };
  }, HOST);
  assert.deepEqual(published, { topic: "room/1", same: true });
  assert.deepEqual(errors, []);
});
