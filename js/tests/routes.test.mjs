// Routes and forwarding between stacks.

import assert from "node:assert/strict";
import test from "node:test";
import { connect, connected, createStack, pattern, readAll, send } from "./kit.mjs";

async function routed() {
  const [near, router, far] = [await createStack(), await createStack(), await createStack()];
  connect(
    await near.createTapInterface({ ip: ["10.0.0.2/24", "fd00:0::2/64"] }),
    await router.createTapInterface({ ip: ["10.0.0.1/24", "fd00:0::1/64"] }),
  );
  connect(
    await router.createTunInterface({ ip: ["10.0.1.1/24", "fd00:1::1/64"] }),
    await far.createTunInterface({ ip: ["10.0.1.2/24", "fd00:1::2/64"] }),
  );
  for (const [stack, via4, via6] of [
    [near, "10.0.0.1", "fd00:0::1"],
    [far, "10.0.1.1", "fd00:1::1"],
  ]) {
    stack.addRoute({ network: "0.0.0.0/0", via: via4 });
    stack.addRoute({ network: "::/0", via: via6 });
  }
  return { near, router, far };
}

test("a router forwards both families, when it is told to", async () => {
  const { near, router, far } = await routed();
  assert.equal(router.forwarding, false);
  router.forwarding = true;
  assert.equal(router.forwarding, true);
  for (const host of ["10.0.1.2", "fd00:1::2"]) {
    const { client, server, listener } = await connected({ a: near, b: far }, 80, host);
    const data = pattern(500_000);
    const [, got] = await Promise.all([send(client, data), readAll(server)]);
    assert(got.equals(data));
    await listener.close();
  }
  assert(router.stats().forwarded > 600);
  router.forwarding = false;
  const session = await near.createPingSession({ host: "10.0.1.2", timeout: 5 });
  await assert.rejects(session.ping(), { code: "ETIMEDOUT" });
});

test("the table", async () => {
  const stack = await createStack();
  const tap = await stack.createTapInterface({ ip: "10.0.0.2/24" });
  const tun = await stack.createTunInterface({ ip: "10.0.1.2/24" });
  const route = stack.addRoute({ network: "172.16.0.0/12", via: "10.0.0.1", metric: 5 });
  assert.equal(route.interface, tap);
  assert.deepEqual([route.network, route.via, route.metric], ["172.16.0.0/12", "10.0.0.1", 5]);
  const direct = stack.addRoute({ network: "192.168.0.0/16", interface: tun });
  assert.deepEqual(stack.routes, [route, direct]);
  assert.throws(() => stack.addRoute({ network: "172.16.0.0/12", via: "10.0.0.1", metric: 5 }), { code: "EEXIST" });
  assert.throws(() => stack.addRoute({ network: "172.16.0.0/12", via: "10.9.0.1" }), { code: "ENETUNREACH" });
  assert.throws(() => stack.addRoute({ network: "172.16.0.0/12", via: "fd00::1" }), RangeError);
  assert.throws(() => stack.addRoute({ network: "172.16.0.0/12" }), TypeError);
  assert.throws(() => stack.addRoute({ network: "172.16.0.1/12", via: "10.0.0.1" }), RangeError);
  assert.throws(() => stack.addRoute({ network: "172.16.0.0/40", via: "10.0.0.1" }), RangeError);
  assert.throws(() => stack.addRoute({ network: "172.16.0.0/12", via: "10.0.0.1", metric: -1 }), RangeError);
  stack.removeRoute({ network: "172.16.0.0/12", metric: 5 });
  assert.throws(() => stack.removeRoute({ network: "172.16.0.0/12", metric: 5 }), { code: "ESRCH" });
  stack.removeRoute(direct);
  assert.deepEqual(stack.routes, []);
  stack.addRoute({ network: "192.168.0.0/16", interface: tun });
  await stack.removeInterface(tun);
  assert.deepEqual(stack.routes, []);
  const other = await (await createStack()).createTunInterface();
  assert.throws(() => stack.addRoute({ network: "192.168.0.0/16", interface: other }), RangeError);
});
