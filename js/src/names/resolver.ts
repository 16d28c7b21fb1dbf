/**
 * A stub resolver over a stack's own sockets: hosts, a cache, and questions by UDP, by TCP where the answer is cut.
 *
 * Each question has a socket of its own, which accepts only the server's datagrams and has an unpredictable port
 * (RFC 5452). Every wait ends: each server is asked three times.
 */

import { FAMILY_IPV4, FAMILY_IPV6 } from "../abi.js";
import { type Address, parseAddress } from "../addresses.js";
import { type Random } from "../random.js";
import { NameResolutionError, type TcpipError } from "../errors.js";
import { type Hosts, type Target } from "../sockets/hosts.js";
import { connectTcp } from "../sockets/tcp.js";
import { Socket } from "../sockets/udp.js";
import { A, AAAA, type Answer, buildQuery, normalName, readAnswer } from "./wire.js";

/** Seconds that each try waits for its answer. */
const ROUNDS = [1, 2, 4];
const TCP_TIMEOUT = 5000;
/** Forged or malformed datagrams of one question that are read. */
const MOST_BAD = 100;
const CACHE_SIZE = 1024;
const LONGEST_TTL = 86_400;
const SHORTEST_TTL = 1;

/** A server: an address, and its port. */
export interface Server {
  readonly target: Target;
  readonly port: number;
}

export class Resolver {
  readonly hosts = new Map<string, string[]>([["localhost", ["127.0.0.1", "::1"]]]);
  readonly #hosts: Hosts;
  readonly #random: Random;
  readonly #servers: () => Server[];
  readonly #cache = new Map<string, { addresses: Address[]; until: number }>();
  readonly #asking = new Map<string, Promise<Address[]>>();

  constructor(hosts: Hosts, random: Random, servers: () => Server[]) {
    this.#hosts = hosts;
    this.#random = random;
    this.#servers = servers;
  }

  /** Returns the addresses of a name, of families that the stack has; at least one. */
  async resolve(host: string, signal?: AbortSignal): Promise<Address[]> {
    const name = normalName(host);
    // Digits and dots alone are a malformed address, which no server is asked for.
    if (!name || /^[\d.]+$/.test(name)) throw new NameResolutionError("EINVAL", `host: '${host}' is neither an address nor a name`);
    const own = this.hosts.get(name) ?? this.hosts.get(host);
    const families = this.#families();
    if (own) {
      const known = own.map((text) => parseAddress(text)).filter((address) => address !== undefined);
      const usable = known.filter(({ family }) => families.has(family));
      return usable.length ? usable : known;
    }
    let asking = this.#asking.get(name);
    if (!asking) {
      asking = this.#ask(name, families).finally(() => this.#asking.delete(name));
      this.#asking.set(name, asking);
      asking.catch(() => undefined); // a caller that gave up does not take it
    }
    if (!signal) return asking;
    let abort: (() => void) | undefined;
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener("abort", (abort = () => reject(signal.reason as Error)));
    });
    try {
      return await Promise.race([asking, aborted]);
    } finally {
      signal.removeEventListener("abort", abort!);
    }
  }

  #families(): Set<number> {
    const found = new Set<number>();
    const { interfaces } = this.#hosts;
    for (const one of interfaces) {
      if (one.type === "loopback" && interfaces.length > 1) continue;
      for (const { address } of one.cidrs) found.add(address.family);
    }
    if (!found.size) found.add(FAMILY_IPV4);
    return found;
  }

  async #ask(name: string, families: Set<number>): Promise<Address[]> {
    // IPv6 first (RFC 6724, with its default table).
    const types = [...(families.has(FAMILY_IPV6) ? [AAAA] : []), ...(families.has(FAMILY_IPV4) ? [A] : [])];
    const results = await Promise.allSettled(types.map((type) => this.#lookup(name, type)));
    const found = results.flatMap((result) => (result.status === "fulfilled" ? result.value : []));
    if (found.length) return found;
    const failure = results.find((result) => result.status === "rejected");
    if (failure) throw failure.reason;
    throw new NameResolutionError("ENOTFOUND", `${name} has no address`);
  }

  async #lookup(name: string, type: number): Promise<Address[]> {
    const { driver } = this.#hosts;
    const key = `${type} ${name}`;
    const cached = this.#cache.get(key);
    if (cached && cached.until > driver.now()) return cached.addresses;
    this.#cache.delete(key);
    const servers = this.#servers();
    let failure: unknown;
    for (const seconds of ROUNDS) {
      for (const server of servers) {
        const answer = await this.#query(server, name, type, seconds).catch((error: unknown) => void (failure = error));
        driver.check();
        if (!answer || answer.failed) continue;
        if (answer.ttl >= SHORTEST_TTL && answer.addresses.length) {
          if (this.#cache.size >= CACHE_SIZE) this.#cache.delete(this.#cache.keys().next().value!);
          this.#cache.set(key, { addresses: answer.addresses, until: driver.now() + Math.min(answer.ttl, LONGEST_TTL) });
        }
        return answer.addresses;
      }
    }
    const cause = failure as TcpipError | undefined;
    throw new NameResolutionError("EAI_AGAIN", `no name server answered for ${name}${cause ? `: ${cause.message}` : ""}`, { cause });
  }

  async #query({ target, port }: Server, name: string, type: number, seconds: number): Promise<Answer | undefined> {
    const id = this.#random.u16();
    const query = buildQuery(id, name, type);
    const hosts = this.#hosts;
    const host = hosts.text({ ...target.address, port: 0, scope: target.scope });
    const socket = new Socket(hosts, {}, 0, 0);
    const { driver } = hosts;
    const cancel = driver.clock.at(driver.now() + seconds, () => void socket.close());
    try {
      socket.connect(target, port);
      const reader = socket.readable.getReader();
      await socket.send({ host, port, data: query });
      for (let bad = 0; bad < MOST_BAD; bad++) {
        const { value } = await reader.read();
        const answer = value && readAnswer(value.data, id, name, type);
        if (answer) return answer.truncated ? await this.#queryByTcp(host, port, query, id, name, type) : answer;
      }
      return undefined;
    } finally {
      cancel();
      await socket.close();
    }
  }

  /** Asks by TCP (RFC 7766): each message follows its length. */
  async #queryByTcp(host: string, port: number, query: Uint8Array, id: number, name: string, type: number): Promise<Answer | undefined> {
    const { driver } = this.#hosts;
    const connection = await connectTcp(this.#hosts, { host, port, timeout: TCP_TIMEOUT });
    const cancel = driver.clock.at(driver.now() + TCP_TIMEOUT / 1000, () => connection.abort());
    try {
      const message = new Uint8Array(2 + query.length);
      message.set([query.length >> 8, query.length & 255]);
      message.set(query, 2);
      await connection.writable.getWriter().write(message);
      let received = new Uint8Array(0);
      for await (const chunk of connection) {
        const longer = new Uint8Array(received.length + chunk.length);
        longer.set(received);
        longer.set(chunk, received.length);
        received = longer;
        const size = received.length < 2 ? Infinity : ((received[0]! << 8) | received[1]!) + 2;
        if (received.length >= size) return readAnswer(received.subarray(2, size), id, name, type);
      }
      return undefined;
    } finally {
      cancel();
      connection.abort();
    }
  }
}
