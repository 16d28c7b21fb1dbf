// 120 faults: transfers over links that lose, double and swap frames, 40 of each, in virtual time.

import assert from "node:assert/strict";
import test from "node:test";
import { connected, faulty, pair, pattern, readAll, send, VirtualClock } from "./kit.mjs";

for (const kind of ["lose", "double", "swap"]) {
  for (const family of ["IPv4", "IPv6"]) {
    test(`20 transfers, each with a frame that the link should ${kind}, ${family}`, async () => {
      for (let fault = 0; fault < 20; fault++) {
        const clock = new VirtualClock();
        const six = family === "IPv6";
        const net = await pair({
          cable: false,
          clock,
          a: { ip: six ? "fd00::1/64" : "10.0.0.1/24" },
          b: { ip: six ? "fd00::2/64" : "10.0.0.2/24" },
        });
        let hit = 0;
        // Frames of the handshake, of the data and of the end, in both directions.
        const direction = fault % 2;
        const number = fault < 10 ? fault >> 1 : 5 + (fault - 10) * 11;
        faulty(net.ia, net.ib, (way, index) => (way === direction && index === number ? (hit++, kind) : undefined));
        const { client, server } = await connected(net, 80, six ? "fd00::2" : "10.0.0.2");
        const [up, down] = [pattern(180_000, fault + 1), pattern(180_000, fault + 100)];
        const [, , atServer, atClient] = await Promise.all([
          send(client, up),
          send(server, down),
          readAll(server),
          readAll(client),
        ]);
        assert(atServer.equals(up), `fault ${fault}`);
        assert(atClient.equals(down), `fault ${fault}`);
        assert.equal(hit, 1, `fault ${fault} did not happen`);
        await net.close();
      }
    });
  }
}

test("a link that loses one frame in twenty, both ways", async () => {
  const clock = new VirtualClock();
  const net = await pair({ cable: false, clock });
  let state = 7;
  faulty(net.ia, net.ib, () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 16) % 20 === 0 ? "lose" : undefined;
  });
  const { client, server } = await connected(net);
  const data = pattern(2_000_000, 11);
  const [, got] = await Promise.all([send(client, data), readAll(server)]);
  assert(got.equals(data));
  assert(net.a.stats().tcpRetransmissions > 0);
  assert.equal(net.a.stats().inconsistencies, 0);
});

test("a link that is cut ends the connection with a time-out", async () => {
  const clock = new VirtualClock();
  const net = await pair({ cable: false, clock });
  let cut = false;
  faulty(net.ia, net.ib, () => (cut ? "lose" : undefined));
  const { client } = await connected(net);
  cut = true;
  const writer = client.writable.getWriter();
  await writer.write(new Uint8Array(1000));
  await assert.rejects(client.readable.getReader().read(), { code: "ETIMEDOUT" });
});
