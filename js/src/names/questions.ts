/**
 * Questions to name servers, with a cache: by UDP, by TCP where the answer is cut.
 *
 * Each question has a socket of its own, which accepts only the server's datagrams and has an unpredictable port
 * (RFC 5452). Every wait ends: each server is asked three times. What it shares with the rest of the stack is handed in, so
 * that this file can be loaded when it is needed.
 */

import { type FAMILY_IPV4, FAMILY_IPV6 } from "../abi.js";
import type { Address, makeAddress } from "../addresses.js";
import type { Target } from "../engine/core.js";
import type { Random } from "../random.js";
import type { Hosts } from "../sockets/hosts.js";
import type { connectTcp } from "../sockets/tcp.js";
import type { Socket } from "../sockets/udp.js";
import { A, AAAA, type Answer, buildQuery, readAnswer } from "./wire.js";

/** Seconds that each try waits for its answer. */
const ROUNDS = [1, 2, 4];
const TCP_TIMEOUT = 5000;
/** Bytes of a message: its length has 16 bits. */
const LONGEST_MESSAGE = 65_535;
/** Forged or malformed datagrams of one question that are read. */
const MOST_BAD = 100;
const CACHE_SIZE = 1024;
const LONGEST_TTL = 86_400;

/** A server: an address, and its port. */
export interface Server {
  readonly target: Target;
  readonly port: number;
}

/** Returns the addresses of a name, perhaps none. It rejects with the latest error, if any, where no server answers. */
export type Questions = (name: string, family: typeof FAMILY_IPV4 | typeof FAMILY_IPV6) => Promise<Address[]>;

/** What questions need of their stack. */
export interface Means {
  readonly hosts: Hosts;
  readonly random: Random;
  /** Returns the servers to be asked, in order. */
  servers(): Server[];
  Socket: typeof Socket;
  connectTcp: typeof connectTcp;
  makeAddress: typeof makeAddress;
}

export function createQuestions({ hosts, random, servers, Socket, connectTcp, makeAddress }: Means): Questions {
  const { driver } = hosts;
  const cache = new Map<string, { addresses: Address[]; until: number }>();

  const askByUdp = async (
    { target, port }: Server,
    name: string,
    type: number,
    seconds: number,
  ): Promise<Answer | undefined> => {
    const id = random.u16();
    const data = buildQuery(id, name, type);
    const read = (message: Uint8Array): Answer | undefined => readAnswer(message, id, name, type, makeAddress);
    const host = hosts.text(target);
    const socket = new Socket(hosts, {}, 0, 0);
    const cancel = driver.after(seconds, () => void socket.close());
    try {
      socket.connect(target, port);
      const reader = socket.readable.getReader();
      await socket.send({ host, port, data });
      for (let bad = 0; bad < MOST_BAD; bad++) {
        const { value } = await reader.read();
        const answer = value && read(value.data);
        if (answer) return answer.truncated ? await askByTcp(host, port, data, read) : answer;
      }
      return undefined;
    } finally {
      cancel();
      await socket.close();
    }
  };

  /** Asks by TCP (RFC 7766): each message follows its length. */
  const askByTcp = async (
    host: string,
    port: number,
    query: Uint8Array,
    read: (message: Uint8Array) => Answer | undefined,
  ): Promise<Answer | undefined> => {
    const connection = await connectTcp(hosts, { host, port, timeout: TCP_TIMEOUT });
    const cancel = driver.after(TCP_TIMEOUT / 1000, () => connection.abort());
    try {
      await connection.writable.getWriter().write(Uint8Array.of(query.length >> 8, query.length & 255, ...query));
      const received = new Uint8Array(2 + LONGEST_MESSAGE);
      let length = 0;
      for await (const chunk of connection) {
        const part = chunk.subarray(0, received.length - length);
        received.set(part, length);
        length += part.length;
        const end = 2 + ((received[0]! << 8) | received[1]!);
        if (length >= end) return read(received.subarray(2, end));
      }
      return undefined;
    } finally {
      cancel();
      connection.abort();
    }
  };

  return async (name, family) => {
    const type = family === FAMILY_IPV6 ? AAAA : A;
    const key = `${type} ${name}`;
    const cached = cache.get(key);
    if (cached && cached.until > driver.now()) return cached.addresses;
    cache.delete(key);
    const asked = servers();
    let failure: unknown;
    for (const seconds of ROUNDS) {
      for (const server of asked) {
        const answer = await askByUdp(server, name, type, seconds).catch((error: unknown) => void (failure = error));
        driver.check();
        if (!answer || answer.failed) continue;
        const { addresses, ttl } = answer;
        if (ttl > 0 && addresses.length) {
          if (cache.size >= CACHE_SIZE) cache.delete(cache.keys().next().value!);
          cache.set(key, { addresses, until: driver.now() + Math.min(ttl, LONGEST_TTL) });
        }
        return addresses;
      }
    }
    throw failure;
  };
}
