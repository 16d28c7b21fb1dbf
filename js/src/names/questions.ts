/**
 * Questions to name servers, with a cache: by UDP, by TCP where the answer is cut.
 *
 * Each question has a socket of its own, which accepts only the server's datagrams and has an unpredictable port
 * (RFC 5452). Every wait ends: each server is asked three times. What it needs of the stack is handed in, so that this
 * file can be loaded when it is needed.
 */

import { type FAMILY_IPV4, FAMILY_IPV6 } from "../abi.js";
import type { Address } from "../addresses.js";
import type { Driver } from "../driver.js";
import type { Target } from "../engine/core.js";
import type { Random } from "../random.js";
import type { Socket } from "../sockets/udp.js";
import type { TcpConnection, TcpConnectionOptions } from "../types.js";
import { A, AAAA, type Answer, buildQuery, readAnswer } from "./wire.js";

/** Seconds that each try waits for its answer. */
const ROUNDS = [1, 2, 4];
const TCP_TIMEOUT = 5000;
/** Forged or malformed datagrams of one question that are read. */
const MOST_BAD = 100;
const CACHE_SIZE = 1024;
const LONGEST_TTL = 86_400;

/** A server: an address, and its port. */
export interface Server {
  readonly target: Target;
  readonly port: number;
}

/** What questions need of their stack. */
export interface Means {
  readonly driver: Driver;
  readonly random: Random;
  servers(): Server[];
  open(): Socket;
  connect(options: TcpConnectionOptions): Promise<TcpConnection>;
  text(target: Target): string;
}

export class Questions {
  readonly #means: Means;
  readonly #cache = new Map<string, { addresses: Address[]; until: number }>();

  constructor(means: Means) {
    this.#means = means;
  }

  /** Returns the addresses of a name, perhaps none. It rejects with the latest error, if any, where no server answers. */
  async addresses(name: string, family: typeof FAMILY_IPV4 | typeof FAMILY_IPV6): Promise<Address[]> {
    const { driver, servers } = this.#means;
    const type = family === FAMILY_IPV6 ? AAAA : A;
    const key = `${type} ${name}`;
    const cached = this.#cache.get(key);
    if (cached && cached.until > driver.now()) return cached.addresses;
    this.#cache.delete(key);
    const asked = servers();
    let failure: unknown;
    for (const seconds of ROUNDS) {
      for (const server of asked) {
        const answer = await this.#query(server, name, type, seconds).catch((error: unknown) => void (failure = error));
        driver.check();
        if (!answer || answer.failed) continue;
        const { addresses, ttl } = answer;
        if (ttl > 0 && addresses.length) {
          if (this.#cache.size >= CACHE_SIZE) this.#cache.delete(this.#cache.keys().next().value!);
          this.#cache.set(key, { addresses, until: driver.now() + Math.min(ttl, LONGEST_TTL) });
        }
        return addresses;
      }
    }
    throw failure;
  }

  async #query({ target, port }: Server, name: string, type: number, seconds: number): Promise<Answer | undefined> {
    const { driver, random, open, text } = this.#means;
    const id = random.u16();
    const query = buildQuery(id, name, type);
    const host = text(target);
    const socket = open();
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
  async #queryByTcp(
    host: string,
    port: number,
    query: Uint8Array,
    id: number,
    name: string,
    type: number,
  ): Promise<Answer | undefined> {
    const { driver, connect } = this.#means;
    const connection = await connect({ host, port, timeout: TCP_TIMEOUT });
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
