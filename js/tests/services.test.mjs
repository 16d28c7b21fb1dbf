// The DHCP and DNS servers, and the network card of v86.

import assert from "node:assert/strict";
import test from "node:test";
import { createDhcp } from "../dist/dhcp.js";
import { createDns, ptrNameToIP } from "../dist/dns.js";
import { createV86NetworkStream } from "../dist/v86.js";
import { connect, connectStreams, createStack, macrotask, pair, pattern, readAll, send } from "./kit.mjs";

const OPTIONS = {
  leaseRange: { start: "10.0.0.100", end: "10.0.0.101" },
  serverIdentifier: "10.0.0.1",
  netmask: "255.255.255.0",
  router: "10.0.0.1",
  dnsServers: ["10.0.0.1"],
  leaseDuration: 3600,
  domainName: "lab.test",
};

async function leasing(options) {
  const stack = await createStack();
  const tap = await stack.createTapInterface({ ip: "10.0.0.1/24" });
  const dhcp = await createDhcp(stack);
  return { stack, tap, server: await dhcp.serve({ ...OPTIONS, ...options }) };
}

test("DHCP: a lease for a stack, what it says, and its release", async () => {
  const { tap, server } = await leasing();
  const client = await createStack();
  const own = await client.createTapInterface({ mac: "02:00:00:00:00:05" });
  connect(tap, own);
  assert.deepEqual(await own.configure(), ["10.0.0.100/24"]);
  const { seconds, ...lease } = own.lease;
  assert.deepEqual(lease, {
    address: "10.0.0.100/24",
    router: "10.0.0.1",
    server: "10.0.0.1",
    nameServers: ["10.0.0.1"],
    domain: "lab.test",
  });
  assert.equal(seconds, 3600);
  const [[mac, kept]] = [...server.leases];
  assert.deepEqual([mac, kept.ip, kept.mac], ["02:00:00:00:00:05", "10.0.0.100", mac]);
  assert(kept.expiresAt > Date.now() + 3_590_000);
  const ping = await client.createPingSession({ host: "10.0.0.1" });
  assert.equal((await ping.ping()).host, "10.0.0.1");
  await own.release();
  for (let i = 0; i < 100 && server.leases.size; i++) await macrotask();
  assert.equal(server.leases.size, 0);
});

/** A client's message (RFC 2131, section 2). */
function message(type, mac, options = [], { client = [0, 0, 0, 0], xid = 7 } = {}) {
  const bytes = new Uint8Array(300);
  bytes.set([1, 1, 6, 0, 0, 0, 0, xid]);
  bytes.set(client, 12);
  bytes.set([2, 0, 0, 0, 0, mac], 28);
  bytes.set([0x63, 0x82, 0x53, 0x63, 53, 1, type, ...options, 255], 236);
  return bytes;
}

/** A stack whose socket has the port of clients: it sends messages of any, and reads what is broadcast. */
async function clients(options) {
  const { tap, server } = await leasing(options);
  const stack = await createStack();
  connect(tap, await stack.createTapInterface({ ip: "10.0.0.50/24" }));
  const socket = await stack.openUdp({ port: 68 });
  const incoming = socket[Symbol.asyncIterator]();
  const tell = (data) => socket.send({ host: "10.0.0.1", port: 67, data });
  const ask = async (data) => {
    await tell(data);
    const answer = (await incoming.next()).value.data;
    return { type: answer[242], address: [...answer.subarray(16, 20)].join("."), xid: answer[7], answer };
  };
  return { server, tell, ask };
}

const DISCOVER = 1,
  OFFER = 2,
  REQUEST = 3,
  DECLINE = 4,
  ACK = 5,
  NAK = 6,
  RELEASE = 7,
  INFORM = 8;
const wants = (last) => [50, 4, 10, 0, 0, last];

test("DHCP: offers are kept apart, an exhausted range offers nothing, others' addresses are refused", async () => {
  const { server, tell, ask } = await clients();
  const first = await ask(message(DISCOVER, 1));
  assert.deepEqual([first.type, first.address, first.xid], [OFFER, "10.0.0.100", 7]);
  assert.equal((await ask(message(DISCOVER, 2))).address, "10.0.0.101");
  assert.equal((await ask(message(DISCOVER, 1))).address, "10.0.0.100");
  await tell(message(DISCOVER, 3)); // there is none left
  assert.equal((await ask(message(REQUEST, 3, wants(100), { xid: 9 }))).type, NAK);
  const granted = await ask(message(REQUEST, 1, [...wants(100), 54, 4, 10, 0, 0, 1]));
  assert.deepEqual([granted.type, granted.address], [ACK, "10.0.0.100"]);
  assert.equal((await ask(message(REQUEST, 2, wants(200)))).type, NAK);
  assert.equal(server.leases.size, 1);
  await tell(message(RELEASE, 2, [], { client: [10, 0, 0, 100] })); // not its own
  await tell(message(RELEASE, 1, [], { client: [10, 0, 0, 100] }));
  assert.equal((await ask(message(REQUEST, 3, wants(100)))).type, ACK);
  await tell(message(DECLINE, 3, wants(100)));
  assert.equal((await ask(message(REQUEST, 1, wants(100)))).type, NAK);
});

test("DHCP: hostile messages are dropped, and the server goes on", async () => {
  const { tell, ask, server } = await clients();
  const valid = message(DISCOVER, 1);
  await tell(new Uint8Array(0));
  for (const length of [1, 43, 236, 240, 241]) await tell(valid.subarray(0, length));
  for (const at of [0, 1, 2, 236, 241]) await tell(valid.map((byte, i) => (i === at ? 0xee : byte)));
  await tell(message(DISCOVER, 1, [50, 255, 1]));
  for (let seed = 1; seed < 200; seed++) {
    const random = pattern(300, seed);
    random.set(valid.subarray(0, 3));
    random.set([0x63, 0x82, 0x53, 0x63], 236);
    await tell(random);
  }
  assert.equal((await ask(message(INFORM, 9, [], { client: [10, 0, 0, 50] }))).type, ACK);
  assert.equal(server.leases.size, 0);
});

test("DHCP: wrong options", async () => {
  const dhcp = await createDhcp((await createStack()).udp);
  const serve = (options) => dhcp.serve({ ...OPTIONS, ...options });
  await assert.rejects(serve({ leaseRange: { start: "10.0.0.9", end: "10.0.0.8" } }), /leaseRange/);
  await assert.rejects(serve({ leaseRange: { start: "10.0.0.9", end: "::1" } }), /leaseRange.end/);
  await assert.rejects(serve({ netmask: "24" }), /netmask/);
  await assert.rejects(serve({ leaseDuration: 0 }), /leaseDuration/);
  await assert.rejects(serve({ searchDomains: ["a..b"] }), /searchDomains/);
});

test("DNS: lookup, reverse, and the stack's own names", async () => {
  const { a, b } = await pair({ options: { nameServer: { ip: "10.0.0.2" } } });
  const asked = [];
  const server = await (
    await createDns(b)
  ).serve({
    request: async ({ name, type }) => {
      asked.push(`${type} ${name}`);
      if (type === "PTR") return { type, ptr: `host-${ptrNameToIP(name).ip}.test`, ttl: 60 };
      if (name === "db.test" && type === "A")
        return [
          { type, ip: "10.0.0.9", ttl: 60 },
          { type, ip: "10.0.0.10", ttl: 60 },
        ];
      if (name === "broken.test") throw new Error("of the program");
      return undefined;
    },
  });
  const dns = await createDns(a, { client: { server: "10.0.0.2" } });
  assert.equal(await dns.lookup("DB.test"), "10.0.0.9");
  assert.equal(await dns.reverse("10.0.0.9"), "host-10.0.0.9.test");
  assert.equal(await dns.reverse("2001:db8::1"), "host-2001:db8::1.test");
  assert.deepEqual(await a.lookup("db.test"), ["10.0.0.9", "10.0.0.10"]);
  await assert.rejects(dns.lookup("other.test"), { code: "ENOTFOUND" });
  const { error } = console;
  console.error = () => undefined;
  await assert.rejects(dns.lookup("broken.test"), {
    code: "EAI_AGAIN",
    message: "dns query failed with rcode: SERVFAIL",
  });
  console.error = error;
  assert.equal(asked[0], "A db.test");
  assert.throws(() => ptrNameToIP("1.2.3.in-addr.arpa"), RangeError);
  await assert.rejects(dns.lookup("a..b"), RangeError);
  await server.close();
  await (await createDns(b)).serve({ request: () => undefined }); // the port is free
});

test("DNS: on one stack, by its loopback, with text and an answer that is cut", async () => {
  const stack = await createStack();
  const dns = await createDns(stack.udp);
  await dns.serve({
    request: ({ type, name }) =>
      type === "TXT"
        ? { type, value: "v".repeat(300), ttl: 1 }
        : Array(100).fill({ type, ip: "10.0.0.1", ttl: 1, name }),
  });
  assert.equal(await dns.lookup("many.test"), "10.0.0.1");
});

test("DNS: hostile queries are answered with an error or not at all", async () => {
  const { a, b } = await pair();
  let asked = 0;
  await (await createDns(b)).serve({ request: ({ type }) => (asked++, { type, ip: "10.0.0.1", ttl: 1 }) });
  const socket = await a.openUdp();
  const incoming = socket[Symbol.asyncIterator]();
  const query = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 97, 0, 0, 1, 0, 1];
  const tell = (bytes) => socket.send({ host: "10.0.0.2", port: 53, data: Uint8Array.from(bytes) });
  const code = async (bytes) => {
    await tell(bytes);
    return (await incoming.next()).value.data[3] & 15;
  };
  await tell([]);
  await tell(query.slice(0, 11));
  await tell([0, 7, 0x80, ...query.slice(3)]); // an answer must not be answered
  assert.equal(await code(query.with(12, 0xc0).with(13, 12)), 1); // a pointer to itself
  assert.equal(await code(query.slice(0, 14)), 1);
  assert.equal(await code(query.with(5, 2)), 1);
  assert.equal(await code(query.with(2, 0x29)), 4);
  assert.equal(await code(query.with(18, 3)), 4);
  assert.equal(await code(query.with(16, 99)), 0);
  assert.equal(asked, 0);
  assert.equal(await code(query), 0);
  assert.equal(asked, 1);
});

/** What `createV86NetworkStream` uses of v86, as a wire that can be looked at; its memory is used again for each frame. */
class Emulator {
  listeners = new Set();
  received = [];
  bus = { send: (name, frame) => this.received.push([name, frame]) };
  memory = new Uint8Array(2000);
  add_listener(name, listener) {
    assert.equal(name, "net0-send");
    this.listeners.add(listener);
  }
  remove_listener(name, listener) {
    this.listeners.delete(listener);
  }
  emit(frame) {
    this.memory.set(frame);
    for (const listener of this.listeners) listener(this.memory.subarray(0, frame.length));
  }
}

test("v86: frames are copied, and wait in a bounded queue", async () => {
  const emulator = new Emulator();
  const nic = createV86NetworkStream(emulator);
  for (let i = 0; i < 2000; i++) emulator.emit(pattern(1514, i + 1));
  assert(nic.dropped > 1000 && nic.dropped < 1400, `${nic.dropped}`);
  const reader = nic.readable.getReader();
  for (let i = 0; i < 3; i++) assert.deepEqual((await reader.read()).value, pattern(1514, i + 1));
  const frame = pattern(60, 1);
  const writer = nic.writable.getWriter();
  await writer.write(frame);
  assert.equal(emulator.received[0][0], "net0-receive");
  frame.fill(0);
  assert.deepEqual(emulator.received[0][1], pattern(60, 1));
  nic.destroy();
  await writer.write(frame);
  assert.equal(emulator.received.length, 1);
  assert.equal(emulator.listeners.size, 0);
  while (!(await reader.read()).done);
});

test("v86: a guest, which here is a second stack, gets a lease and sends a megabyte", async () => {
  const { stack, tap } = await leasing();
  const guest = await createStack();
  const card = await guest.createTapInterface();
  const emulator = new Emulator();
  const into = card.writable.getWriter();
  emulator.bus.send = (name, frame) => void into.write(frame);
  (async () => {
    for await (const frame of card) emulator.emit(frame);
  })().catch(() => undefined);
  connectStreams(tap, createV86NetworkStream(emulator));
  assert.deepEqual(await card.configure(), ["10.0.0.100/24"]);
  const listener = await stack.listenTcp({ port: 80 });
  const [client, server] = await Promise.all([guest.connectTcp({ host: "10.0.0.1", port: 80 }), listener.accept()]);
  const data = pattern(1_000_000, 4);
  const [, got] = await Promise.all([send(client, data), readAll(server)]);
  assert(got.equals(data));
});
