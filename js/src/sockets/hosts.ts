/**
 * What sockets need of their stack: its driver, its interfaces with the scopes of link-local addresses, and its names.
 *
 * Owns the text of addresses with scopes (RFC 4007): "fe80::1%tap0" is an address and the handle of an interface.
 */

import * as abi from "../abi.js";
import { type Address, formatAddress, parseAddress } from "../addresses.js";
import type { Driver } from "../driver.js";
import type { Endpoint, Target } from "../engine/core.js";
import { NameResolutionError } from "../errors.js";
import type { Interface } from "../interfaces/interface.js";
import type { SocketAddress } from "../types.js";

export type { Target };

/** The text of an own address, for errors. */
export const where = (address: Address | undefined): string => (address ? formatAddress(address) : "*");

export class Hosts {
  /** Returns the addresses of a name; the stack assigns it. */
  resolve: (name: string) => Promise<Address[]> = () => Promise.resolve([]);

  constructor(
    readonly driver: Driver,
    readonly interfaces: readonly Interface[],
  ) {}

  /** Returns an address with its scope. @throws NameResolutionError where the scope is no interface of this stack. */
  #scoped(address: Address, host: string): Target {
    if (!address.scope) return { address, scope: 0 };
    const found = this.interfaces.find(
      ({ name, handle }) => address.scope === name || address.scope === String(handle),
    );
    if (!found) throw new NameResolutionError("EINVAL", `host: ${host} names no interface of this stack`);
    return { address, scope: found.handle };
  }

  /**
   * Returns the addresses that a host argument means, at least one.
   *
   * @throws TypeError for anything but text, NameResolutionError for a name without addresses.
   */
  async find(host: string): Promise<Target[]> {
    return this.literal(host) ?? (await this.resolve(host)).map((address) => ({ address, scope: 0 }));
  }

  /** Returns the address that a text means, or undefined for a name. */
  literal(host: string): [Target] | undefined {
    if (typeof host !== "string") throw new TypeError(`host must be text, not ${typeof host}`);
    const address = parseAddress(host);
    return address && [this.#scoped(address, host)];
  }

  text({ address, scope }: Target): string {
    const text = formatAddress(address);
    if (!scope || address.family === abi.FAMILY_IPV4) return text;
    return `${text}%${this.interfaces.find(({ handle }) => handle === scope)?.name ?? scope}`;
  }

  socketAddress(endpoint: Endpoint): SocketAddress {
    return { host: this.text(endpoint), port: endpoint.port };
  }
}
