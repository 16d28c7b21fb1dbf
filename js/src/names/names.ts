/**
 * Names as addresses: hosts of one's own, and questions to name servers.
 *
 * Owns what a name is, which families are asked for, and that equal questions are asked once. How servers are asked is in
 * `questions.ts`, which is loaded when the first name has to be.
 */

import { FAMILY_IPV4, FAMILY_IPV6 } from "../abi.js";
import { type Address, parseAddress } from "../addresses.js";
import type { Random } from "../random.js";
import { NameResolutionError, type TcpipError } from "../errors.js";
import type { Hosts } from "../sockets/hosts.js";
import { connectTcp } from "../sockets/tcp.js";
import { Socket } from "../sockets/udp.js";
import type { Questions, Server } from "./questions.js";

/** Returns a name in lower case, without a dot at its end, or undefined for text that is none. */
function normalName(text: string): string | undefined {
  const name = text.toLowerCase().replace(/\.$/, "");
  const label = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/;
  // Digits and dots alone are a malformed address, which no server is asked for.
  return name.length <= 253 && /[^\d.]/.test(name) && name.split(".").every((part) => label.test(part))
    ? name
    : undefined;
}

export class Names {
  readonly hosts = new Map<string, string[]>([["localhost", ["127.0.0.1", "::1"]]]);
  readonly #hosts: Hosts;
  readonly #random: Random;
  readonly #servers: () => Server[];
  #questions: Promise<Questions> | undefined;
  readonly #asking = new Map<string, Promise<Address[]>>();

  constructor(hosts: Hosts, random: Random, servers: () => Server[]) {
    this.#hosts = hosts;
    this.#random = random;
    this.#servers = servers;
  }

  /**
   * Returns the addresses of a name, of families that the stack has, at least one.
   *
   * @throws NameResolutionError.
   */
  async resolve(host: string): Promise<Address[]> {
    const name = normalName(host);
    if (!name) throw new NameResolutionError("EINVAL", `host: '${host}' is neither an address nor a name`);
    const families = this.#families();
    const known = this.hosts.get(name)?.map((text) => parseAddress(text)!);
    if (known) {
      const usable = known.filter(({ family }) => families.has(family));
      return usable.length ? usable : known;
    }
    let asking = this.#asking.get(name);
    if (!asking) {
      asking = this.#ask(name, families).finally(() => this.#asking.delete(name));
      this.#asking.set(name, asking);
    }
    return asking;
  }

  #families(): Set<number> {
    const { interfaces } = this.#hosts;
    const outside = interfaces.filter(({ type }) => type !== "loopback");
    const found = new Set<number>(
      (outside.length ? outside : interfaces).flatMap(({ cidrs }) => cidrs.map(({ address }) => address.family)),
    );
    return found.size ? found : found.add(FAMILY_IPV4);
  }

  async #ask(name: string, families: Set<number>): Promise<Address[]> {
    const { driver } = this.#hosts;
    this.#questions ??= import("./questions.js").then(
      ({ Questions }) =>
        new Questions({
          driver,
          random: this.#random,
          servers: this.#servers,
          open: () => new Socket(this.#hosts, {}, 0, 0),
          connect: (options) => connectTcp(this.#hosts, options),
          text: (target) => this.#hosts.text(target),
        }),
    );
    const questions = await this.#questions;
    // IPv6 first (RFC 6724, with its default table).
    const wanted = ([FAMILY_IPV6, FAMILY_IPV4] as const).filter((family) => families.has(family));
    const results = await Promise.allSettled(wanted.map((family) => questions.addresses(name, family)));
    driver.check();
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
  }
}
