/**
 * Names as addresses: hosts of one's own, and questions to name servers.
 *
 * Owns what a name is, which families are asked for, and that equal questions are asked once. How servers are asked is in
 * `questions.ts`, which is loaded when the first name has to be.
 */

import { FAMILY_IPV4, FAMILY_IPV6 } from "../abi.js";
import { type Address, makeAddress, parseAddress } from "../addresses.js";
import { NameResolutionError, type TcpipError } from "../errors.js";
import type { Random } from "../random.js";
import type { Hosts } from "../sockets/hosts.js";
import { connectTcp } from "../sockets/tcp.js";
import { Socket } from "../sockets/udp.js";
import type { Questions, Server } from "./questions.js";

export interface Names {
  /** The hosts of one's own; programs may change it. */
  readonly hosts: Map<string, string[]>;
  /**
   * Returns the addresses of a name, of families that the stack has, at least one.
   *
   * @throws NameResolutionError.
   */
  resolve(host: string): Promise<Address[]>;
}

/** Returns a name in lower case, without a dot at its end, or undefined for text that is none. */
function normalName(text: string): string | undefined {
  const name = text.toLowerCase().replace(/\.$/, "");
  const label = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/;
  // Digits and dots alone are a malformed address, which no server is asked for.
  return name.length <= 253 && /[^\d.]/.test(name) && name.split(".").every((part) => label.test(part))
    ? name
    : undefined;
}

export function createNames(stack: Hosts, random: Random, servers: () => Server[]): Names {
  const hosts = new Map<string, string[]>([["localhost", ["127.0.0.1", "::1"]]]);
  let questions: Promise<Questions> | undefined;
  const asking = new Map<string, Promise<Address[]>>();

  const familiesInUse = (): Set<number> => {
    const { interfaces } = stack;
    const outside = interfaces.filter(({ type }) => type !== "loopback");
    const found = new Set<number>(
      (outside.length ? outside : interfaces).flatMap(({ cidrs }) => cidrs.map(({ address }) => address.family)),
    );
    return found.size ? found : found.add(FAMILY_IPV4);
  };

  const ask = async (name: string, families: Set<number>): Promise<Address[]> => {
    questions ??= import("./questions.js").then(({ createQuestions }) =>
      createQuestions({ hosts: stack, random, servers, Socket, connectTcp, makeAddress }),
    );
    const addressesOf = await questions;
    // IPv6 first (RFC 6724, with its default table).
    const wanted = ([FAMILY_IPV6, FAMILY_IPV4] as const).filter((family) => families.has(family));
    const results = await Promise.allSettled(wanted.map((family) => addressesOf(name, family)));
    stack.driver.check();
    const found = results.flatMap((result) => (result.status === "fulfilled" ? result.value : []));
    if (found.length) return found;
    const failed = results.find((result) => result.status === "rejected");
    if (!failed) throw new NameResolutionError("ENOTFOUND", `${name} has no address`);
    const cause = failed.reason as TcpipError | undefined;
    throw new NameResolutionError(
      "EAI_AGAIN",
      `no name server answered for ${name}${cause ? `: ${cause.message}` : ""}`,
      { cause },
    );
  };

  return {
    hosts,
    async resolve(host) {
      const name = normalName(host);
      if (!name) throw new NameResolutionError("EINVAL", `host: '${host}' is neither an address nor a name`);
      const families = familiesInUse();
      const known = hosts.get(name)?.map((text) => parseAddress(text)!);
      if (known) {
        const usable = known.filter(({ family }) => families.has(family));
        return usable.length ? usable : known;
      }
      let answer = asking.get(name);
      if (!answer) {
        answer = ask(name, families).finally(() => asking.delete(name));
        asking.set(name, answer);
      }
      return answer;
    },
  };
}
