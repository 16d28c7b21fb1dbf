/**
 * What sockets need of their stack: its driver, its interfaces with the scopes of link-local addresses, and its names.
 *
 * Owns the text of addresses with scopes (RFC 4007): "fe80::1%tap0" is an address and the handle of an interface.
 */

import * as abi from "../abi.js";
import { type Address, formatAddress, parseAddress } from "../addresses.js";
import { wrongType } from "../arguments.js";
import type { Driver } from "../driver.js";
import type { Endpoint, Target } from "../engine/core.js";
import { NameResolutionError } from "../errors.js";
import type { Interface } from "../interfaces/interface.js";
import type { SocketAddress } from "../types.js";

export type { Target };

/** The text of an own address, for errors. */
export const where = (address: Address | undefined): string => (address ? formatAddress(address) : "*");

export interface Hosts {
  readonly driver: Driver;
  readonly interfaces: readonly Interface[];
  /** Returns the addresses of a name; the stack assigns it. */
  resolve(name: string): Promise<Address[]>;
  /**
   * Returns the addresses that a host argument means, at least one.
   *
   * @throws TypeError for anything but text, NameResolutionError for a name without addresses.
   */
  findHost(host: string): Promise<Target[]>;
  /**
   * Returns the address that sockets are bound to: any, where no host is given.
   *
   * @throws what `findHost` does, and the stack's error.
   */
  findOwnHost(host: string | undefined): Promise<Partial<Target>>;
  /** Returns the address that a text means, or undefined for a name. */
  literal(host: string): [Target] | undefined;
  text(target: Target): string;
  socketAddress(endpoint: Endpoint): SocketAddress;
}

export function createHosts(driver: Driver, interfaces: readonly Interface[]): Hosts {
  const hosts: Hosts = {
    driver,
    interfaces,
    resolve: async () => [],

    findHost: async (host) =>
      hosts.literal(host) ?? (await hosts.resolve(host)).map((address) => ({ address, scope: 0 })),

    async findOwnHost(host) {
      const [target] = host === undefined ? [{}] : await hosts.findHost(host);
      driver.check();
      return target!;
    },

    literal(host) {
      if (typeof host !== "string") throw wrongType("host", "text", host);
      const address = parseAddress(host);
      if (!address?.scope) return address && [{ address, scope: 0 }];
      const { scope } = address;
      const found = interfaces.find(({ name, handle }) => scope === name || scope === String(handle));
      if (!found) throw new NameResolutionError("EINVAL", `host: ${host} names no interface of this stack`);
      return [{ address, scope: found.handle }];
    },

    text({ address, scope }) {
      const text = formatAddress(address);
      if (!scope || address.family === abi.FAMILY_IPV4) return text;
      return `${text}%${interfaces.find(({ handle }) => handle === scope)?.name ?? scope}`;
    },

    socketAddress: (endpoint) => ({ host: hosts.text(endpoint), port: endpoint.port }),
  };
  return hosts;
}
