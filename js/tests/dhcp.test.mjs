// Taps that find their own addresses: a small DHCP server of the test's own, and a router's advertisements.

import assert from "node:assert/strict";
import test from "node:test";
import { createStack, connect, ethernet, ip, VirtualClock } from "./kit.mjs";

const option = (message, wanted) => {
  for (let at = 240; message[at] !== 255; at += 2 + message[at + 1]) {
    if (message[at] === wanted) return [...message.subarray(at + 2, at + 2 + message[at + 1])];
  }
};

/** Grants 10.0.0.50 to everybody (RFC 2131). */
async function serve(stack, { seconds = 3600 } = {}) {
  const socket = await stack.openUdp({ port: 67 });
  const seen = [];
  (async () => {
    for await (const { data } of socket) {
      const [type] = option(data, 53);
      seen.push(type);
      if (type !== 1 && type !== 3) continue;
      const reply = new Uint8Array(240);
      reply.set([2, 1, 6, 0]);
      reply.set(data.subarray(4, 8), 4);
      reply.set(ip("10.0.0.50"), 16);
      reply.set(data.subarray(28, 44), 28);
      reply.set([99, 130, 83, 99], 236);
      const options = [
        53,
        1,
        type === 1 ? 2 : 5,
        54,
        4,
        ...ip("10.0.0.1"),
        51,
        4,
        0,
        0,
        seconds >> 8,
        seconds & 255,
        1,
        4,
        ...ip("255.255.255.0"),
        0,
        3,
        4,
        ...ip("10.0.0.1"),
        6,
        8,
        ...ip("10.0.0.1"),
        ...ip("10.0.0.9"),
        15,
        8,
        ...Buffer.from("lab.test"),
        255,
      ];
      await socket.send({ host: "255.255.255.255", port: 68, data: Uint8Array.from([...reply, ...options]) });
    }
  })().catch(() => undefined);
  return seen;
}

test("a lease, its name servers, and its release", async () => {
  const clock = new VirtualClock();
  const [client, server] = [await createStack({ clock }), await createStack({ clock })];
  const tap = await client.createTapInterface();
  connect(tap, await server.createTapInterface({ ip: "10.0.0.1/24" }));
  const seen = await serve(server);
  assert.equal(tap.ip, undefined);
  assert.deepEqual(await tap.configure(), ["10.0.0.50/24"]);
  assert.deepEqual(tap.lease, {
    address: "10.0.0.50/24",
    router: "10.0.0.1",
    server: "10.0.0.1",
    seconds: 3600,
    nameServers: ["10.0.0.1", "10.0.0.9"],
    domain: "lab.test",
  });
  assert.deepEqual([tap.ip, tap.netmask], ["10.0.0.50", "255.255.255.0"]);
  const session = await client.createPingSession({ host: "10.0.0.1" });
  await session.ping();
  await clock.sleep(2000); // renewed after half of its time
  assert(seen.filter((type) => type === 3).length >= 2);
  await tap.release();
  assert.equal(tap.ip, undefined);
  assert.equal(tap.lease, undefined);
  await clock.sleep(1);
  assert.equal(seen.at(-1), 7);
  assert.deepEqual(await tap.configure({ dhcp: true }), ["10.0.0.50/24"]);
});

test("no server, an abort, a removed tap, a lease that ends", async () => {
  const clock = new VirtualClock();
  const [client, server] = [await createStack({ clock }), await createStack({ clock })];
  const tap = await client.createTapInterface();
  const link = connect(tap, await server.createTapInterface({ ip: "10.0.0.1/24" }));
  const began = clock.now();
  await assert.rejects(tap.configure({ timeout: 5000 }), { code: "ETIMEDOUT" });
  assert(Math.abs(clock.now() - began - 5) < 0.1);
  await tap.release();
  const end = new AbortController();
  const pending = tap.configure({ signal: end.signal });
  end.abort(new Error("enough"));
  await assert.rejects(pending, { message: "enough" });
  await serve(server, { seconds: 60 });
  await tap.release();
  await tap.configure();
  assert.equal(tap.ip, "10.0.0.50");
  link.close();
  await clock.sleep(100);
  assert.equal(tap.ip, undefined);
  const waiting = tap.configure({ timeout: 1e6 });
  await client.removeInterface(tap);
  await assert.rejects(waiting, { code: "ENODEV" });
});

test("SLAAC: a router's advertisement gives an address and a route", async () => {
  const clock = new VirtualClock();
  const stack = await createStack({ clock });
  const tap = await stack.createTapInterface({ mac: "02:00:00:00:00:01", ipv6: true });
  const frames = tap.listen();
  const writer = tap.writable.getWriter();
  const router = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 2];
  const nodes = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
  const prefix = [0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
  (async () => {
    for await (const frame of frames) {
      if (frame[12] !== 0x86 || frame[20] !== 58 || frame[54] !== 133) continue; // a router solicitation
      const body = [
        134,
        0,
        0,
        0,
        64,
        0,
        7,
        8,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        3,
        4,
        64,
        0xc0,
        0,
        0,
        14,
        16,
        0,
        0,
        14,
        16,
        0,
        0,
        0,
        0,
        ...prefix,
      ];
      const pseudo = [...router, ...nodes, 0, 0, 0, body.length, 0, 0, 0, 58, ...body];
      let sum = 0;
      for (let i = 0; i < pseudo.length; i += 2) sum += (pseudo[i] << 8) | pseudo[i + 1];
      while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
      body.splice(2, 2, (~sum >> 8) & 255, ~sum & 255);
      await writer.write(
        ethernet("33:33:00:00:00:01", "02:00:00:00:00:02", 0x86dd, [
          0x60,
          0,
          0,
          0,
          0,
          body.length,
          58,
          255,
          ...router,
          ...nodes,
          ...body,
        ]),
      );
    }
  })().catch(() => undefined);
  assert.deepEqual(await tap.configure({ dhcp: false, slaac: true }), ["fd01::ff:fe00:1/64"]);
  const other = await stack.createTapInterface();
  await assert.rejects(other.configure({ dhcp: false, slaac: true }), /SLAAC on tap1 needs ipv6/);
});
