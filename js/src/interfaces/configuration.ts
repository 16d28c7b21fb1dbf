/**
 * How a tap finds its own addresses: by DHCP (RFC 2131) and by SLAAC (RFC 4862).
 *
 * Owns the lease and what waits for it. It is loaded when a tap is configured for the first time; the functions that it
 * shares with the rest are handed in, so that they are not loaded twice.
 */

import * as abi from "../abi.js";
import type { Address, Cidr, formatAddress } from "../addresses.js";
import type { NetworkError } from "../errors.js";
import type { ConfigureOptions, Lease } from "../types.js";
import type { Interface } from "./interface.js";
import { readDhcpOptions } from "./dhcp_options.js";

const DEFAULT_TIMEOUT = 30_000;

/** What it shares with the rest. */
export interface Means {
  formatAddress: typeof formatAddress;
  NetworkError: typeof NetworkError;
}

export class Configuration {
  lease: Lease | undefined;
  readonly #tap: Interface;
  readonly #means: Means;
  readonly #given: readonly Cidr[];
  readonly #watchers = new Set<() => void>();
  #options: Pick<Lease, "nameServers" | "domain"> = { nameServers: [] };
  #slaac = false;

  constructor(tap: Interface, means: Means) {
    this.#tap = tap;
    this.#means = means;
    this.#given = tap.cidrs;
  }

  async configure({ dhcp = true, slaac = false, timeout = DEFAULT_TIMEOUT, signal }: ConfigureOptions): Promise<void> {
    const { driver, handle, name } = this.#tap;
    const { core, clock } = driver;
    signal?.throwIfAborted();
    if (slaac) core.call("interface_autoconfigure", `SLAAC on ${name} needs ipv6`, handle, 1);
    this.#slaac ||= slaac;
    if (dhcp && !this.lease) core.call("dhcp_start", `DHCP on ${name}`, handle);
    driver.wake();
    const { NetworkError } = this.#means;
    const late = (): Error =>
      new NetworkError("ETIMEDOUT", `${name}: no ${dhcp ? "DHCP server" : "router"} answered in ${timeout} ms`);
    const found = (): boolean =>
      this.#tap.cidrs.some((cidr) => cidr.address.family === abi.FAMILY_IPV6 && !this.#given.includes(cidr));
    await new Promise<void>((resolve, reject) => {
      const look = (): void => {
        if (this.#tap.removed) finish(() => reject(driver.error ?? new NetworkError("ENODEV", `${name} was removed`)));
        else if ((!dhcp || this.lease) && (!slaac || found())) finish(resolve);
      };
      const abort = (): void => finish(() => reject(signal!.reason as Error));
      const cancel = clock.at(clock.now() + timeout / 1000, () => finish(() => reject(late())));
      const finish = (settle: () => void): void => {
        this.#watchers.delete(look);
        cancel();
        signal?.removeEventListener("abort", abort);
        settle();
      };
      signal?.addEventListener("abort", abort);
      this.#watchers.add(look);
      look();
    });
  }

  release(): void {
    const { driver, handle, name } = this.#tap;
    if (this.#slaac) driver.core.call("interface_autoconfigure", name, handle, 0);
    this.#slaac = false;
    driver.core.call("dhcp_stop", name, handle);
    this.#dropLease();
    driver.wake();
  }

  onEvent(kind: number, value: number, at: number): void {
    const { core } = this.#tap.driver;
    if (kind === abi.EVENT_LEASE_MESSAGE) {
      this.#options = readDhcpOptions(core.u8.subarray(at, at + value), this.#means.formatAddress);
    } else if (kind === abi.EVENT_LEASE) {
      this.#onLease(at);
    } else if (kind === abi.EVENT_LEASE_LOST) {
      this.#dropLease();
    } else if (kind === abi.EVENT_ADDRESS) {
      this.#onAddress(value, at);
    }
    this.look();
  }

  /** Ends what no longer has to wait. */
  look(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }

  #onLease(at: number): void {
    const { u8, u32 } = this.#tap.driver.core;
    const address = (offset: number): Address => {
      const bytes = new Uint8Array(16);
      bytes.set(u8.subarray(at + offset, at + offset + 4));
      return { family: abi.FAMILY_IPV4, bytes, scope: "" };
    };
    const text = (offset: number): string => this.#means.formatAddress(address(offset));
    let prefix = 0;
    for (const byte of address(abi.LEASE_MASK_OFFSET).bytes) for (let bits = byte; bits; bits &= bits - 1) prefix++;
    this.#dropLease();
    this.#tap.cidrs = [{ address: address(abi.LEASE_ADDRESS_OFFSET), prefix }, ...this.#tap.cidrs];
    const router = text(abi.LEASE_ROUTER_OFFSET);
    this.lease = {
      address: `${text(abi.LEASE_ADDRESS_OFFSET)}/${prefix}`,
      ...(router !== "0.0.0.0" && { router }),
      server: text(abi.LEASE_SERVER_OFFSET),
      seconds: u32[(at + abi.LEASE_SECONDS_OFFSET) >> 2]!,
      ...this.#options,
    };
  }

  #dropLease(): void {
    if (!this.lease) return;
    this.lease = undefined;
    this.#tap.cidrs = this.#tap.cidrs.filter(({ address }) => address.family !== abi.FAMILY_IPV4);
  }

  #onAddress(state: number, at: number): void {
    const { address, port: given } = this.#tap.driver.core.endpoint(at);
    const { formatAddress } = this.#means;
    const text = formatAddress(address);
    if (given || text.startsWith("fe80:")) return;
    const others = this.#tap.cidrs.filter(({ address: other }) => formatAddress(other) !== text);
    const valid = state === abi.ADDRESS_PREFERRED || state === abi.ADDRESS_DEPRECATED;
    // The prefix of such an address is 64 bits long (RFC 4862, section 5.5.3).
    this.#tap.cidrs = valid ? [...others, { address, prefix: 64 }] : others;
  }
}
