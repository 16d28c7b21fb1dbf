// What the tests share: packets as bytes, a clock that jumps, links with faults, and small helpers for streams.

import { after } from "node:test";
import { createStack as create, connect, connectStreams } from "../dist/index.js";

const stacks = [];
// A connection that is open keeps Node from ending, as one of the machine does.
after(() => Promise.all(stacks.map((stack) => stack.close())));

export async function createStack(options) {
  const stack = await create(options);
  stacks.push(stack);
  return stack;
}

export const text = (bytes) => new TextDecoder().decode(bytes);
export const bytes = (data) => new TextEncoder().encode(data);
export const hex = (data) => Buffer.from(data).toString("hex");

/** Bytes that no shift or loss leaves as they are. */
export function pattern(length, seed = 1) {
  const data = new Uint8Array(length);
  let state = seed >>> 0 || 1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    data[i] = state >>> 24;
  }
  return data;
}

export async function readAll(readable) {
  const chunks = [];
  for await (const chunk of readable) chunks.push(chunk);
  return Buffer.concat(chunks);
}

export async function send(connection, data, chunk = 65536) {
  const writer = connection.writable.getWriter();
  for (let at = 0; at < data.length; at += chunk) await writer.write(data.subarray(at, at + chunk));
  await writer.close();
}

export async function waitFor(iterator, predicate) {
  for (;;) {
    const { value, done } = await iterator.next();
    if (done) throw new Error("the iteration ended");
    if (predicate(value)) return value;
  }
}

export const macrotask = () => new Promise((resolve) => setImmediate(resolve));

/**
 * A clock that jumps to the next timer whenever nothing else is to be done. Nothing waits for real time.
 */
export class VirtualClock {
  time = 1000;
  #timers = new Set();
  #running = false;

  now() {
    return this.time;
  }

  at(time, callback) {
    const timer = { time, callback, order: this.#order++ };
    this.#timers.add(timer);
    this.#begin();
    return () => this.#timers.delete(timer);
  }

  #order = 0;

  macrotask(callback) {
    setImmediate(callback);
    this.#begin();
  }

  #begin() {
    if (this.#running) return;
    this.#running = true;
    this.#run();
  }

  async #run() {
    // Rounds of the event loop in which programs react before time passes.
    for (;;) {
      for (let i = 0; i < 3; i++) await macrotask();
      let next;
      for (const timer of this.#timers) {
        if (
          timer.time < Infinity &&
          (!next || timer.time < next.time || (timer.time === next.time && timer.order < next.order))
        )
          next = timer;
      }
      if (!next) break;
      this.#timers.delete(next);
      this.time = Math.max(this.time, next.time);
      next.callback();
    }
    this.#running = false;
  }

  sleep(seconds) {
    return new Promise((resolve) => this.at(this.time + seconds, resolve));
  }
}

/** Two stacks whose taps or tuns are joined. `faults`: see `faulty`. */
export async function pair({ kind = "Tap", options = {}, a: forA = {}, b: forB = {}, cable = true, clock } = {}) {
  const a = await createStack({ seed: 1, clock, ...options });
  const b = await createStack({ seed: 2, clock, ...options });
  const ia = await a[`create${kind}Interface`]({ ip: "10.0.0.1/24", ...forA });
  const ib = await b[`create${kind}Interface`]({ ip: "10.0.0.2/24", ...forB });
  if (cable) connect(ia, ib);
  return { a, b, ia, ib, close: () => Promise.all([a.close(), b.close()]) };
}

/** A connection from `a` to `b`, both ends of it. */
export async function connected({ a, b }, port = 80, host = "10.0.0.2") {
  const listener = await b.listenTcp({ port });
  const [client, server] = await Promise.all([a.connectTcp({ host, port }), listener.accept()]);
  return { listener, client, server };
}

/**
 * Joins two interfaces by a link that treats frames as `fate` says: it returns "lose", "double", "swap" or nothing, for the
 * direction (0 or 1) and the number of the frame.
 */
export function faulty(ia, ib, fate) {
  const pump = async (from, to, direction) => {
    const writer = to.writable.getWriter();
    let held;
    let number = 0;
    try {
      for await (const frame of from) {
        const what = fate(direction, number++);
        if (what === "lose") continue;
        if (what === "swap" && !held) {
          held = frame;
          continue;
        }
        await writer.write(frame);
        if (what === "double") await writer.write(frame);
        if (held) {
          await writer.write(held);
          held = undefined;
        }
      }
    } catch (error) {
      if (error.code !== "ECONNABORTED") throw error;
    }
  };
  return Promise.all([pump(ia, ib, 0), pump(ib, ia, 1)]);
}

// --- Packets ------------------------------------------------------------------------------------------------------

export const mac = (text) => text.split(":").map((byte) => parseInt(byte, 16));
export const ip = (text) => text.split(".").map(Number);
const u16 = (number) => [number >> 8, number & 255];

export function checksum(data) {
  let sum = 0;
  for (let i = 0; i < data.length; i += 2) sum += (data[i] << 8) | (data[i + 1] ?? 0);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return u16(~sum & 0xffff);
}

export function ipv4(source, destination, protocol, payload) {
  const header = [
    0x45,
    0,
    ...u16(20 + payload.length),
    0,
    1,
    0,
    0,
    64,
    protocol,
    0,
    0,
    ...ip(source),
    ...ip(destination),
  ];
  header.splice(10, 2, ...checksum(header));
  return Uint8Array.from([...header, ...payload]);
}

export function udp(source, destination, sourcePort, port, data) {
  const segment = [...u16(sourcePort), ...u16(port), ...u16(8 + data.length), 0, 0, ...data];
  return ipv4(source, destination, 17, segment);
}

export function echoRequest(source, destination, identifier, sequence, data) {
  const message = [8, 0, 0, 0, ...u16(identifier), ...u16(sequence), ...data];
  message.splice(2, 2, ...checksum(message));
  return ipv4(source, destination, 1, message);
}

export const ethernet = (destination, source, type, payload) =>
  Uint8Array.from([...mac(destination), ...mac(source), ...u16(type), ...payload]);

export function arpRequest(sourceMac, source, target) {
  const body = [0, 1, 8, 0, 6, 4, 0, 1, ...mac(sourceMac), ...ip(source), 0, 0, 0, 0, 0, 0, ...ip(target)];
  return ethernet("ff:ff:ff:ff:ff:ff", sourceMac, 0x0806, body);
}

export const etherType = (frame) => (frame[12] << 8) | frame[13];

export { connect, connectStreams };
