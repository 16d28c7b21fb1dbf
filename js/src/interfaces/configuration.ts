/**
 * How a tap finds its own addresses: by DHCP (RFC 2131) and by SLAAC (RFC 4862).
 *
 * Owns the lease and what waits for it.
 */

import * as abi from "../abi.js";
import { type Address, type Cidr, formatAddress, isIPv4, makeAddress } from "../addresses.js";
import { NetworkError } from "../errors.js";
import { type Limits, withLimits } from "../limits.js";
import type { ConfigureOptions, Lease } from "../types.js";
import { readDhcpOptions } from "./dhcp_options.js";
import type { Interface } from "./interface.js";

const DEFAULT_TIMEOUT = 30_000;

export interface Configuration {
  readonly lease: Lease | undefined;
  /** Resolves when the addresses are there. @throws NetworkError `ETIMEDOUT`, `ENODEV`; the signal's reason. */
  configure(options: ConfigureOptions): Promise<void>;
  release(): void;
  onEvent(kind: number, value: number, at: number): void;
  /** Ends what no longer has to wait. */
  look(): void;
}

export function createConfiguration(tap: Interface): Configuration {
  const { driver, handle, name, cidrs: given } = tap;
  const { core } = driver;
  const watchers = new Set<() => void>();
  let lease: Lease | undefined;
  let options: Pick<Lease, "nameServers" | "domain"> = { nameServers: [] };
  let followsRouters = false;

  const dropLease = (): void => {
    if (!lease) return;
    lease = undefined;
    tap.cidrs = tap.cidrs.filter((cidr) => !isIPv4(cidr));
  };

  const onLease = (at: number): void => {
    const address = (offset: number): Address => makeAddress(core.u8.subarray(at + offset, at + offset + 4));
    const text = (offset: number): string => formatAddress(address(offset));
    let prefix = 0;
    for (const byte of address(abi.LEASE_MASK_OFFSET).bytes) for (let bits = byte; bits; bits &= bits - 1) prefix++;
    dropLease();
    tap.cidrs = [{ address: address(abi.LEASE_ADDRESS_OFFSET), prefix }, ...tap.cidrs];
    const router = text(abi.LEASE_ROUTER_OFFSET);
    lease = {
      address: `${text(abi.LEASE_ADDRESS_OFFSET)}/${prefix}`,
      ...(router !== "0.0.0.0" && { router }),
      server: text(abi.LEASE_SERVER_OFFSET),
      seconds: core.u32[(at + abi.LEASE_SECONDS_OFFSET) >> 2]!,
      ...options,
    };
  };

  const onAddress = (state: number, at: number): void => {
    const { address, port: isGiven } = core.endpoint(at);
    const text = formatAddress(address);
    if (isGiven || text.startsWith("fe80:")) return;
    const others = tap.cidrs.filter(({ address: other }) => formatAddress(other) !== text);
    const valid = state === abi.ADDRESS_PREFERRED || state === abi.ADDRESS_DEPRECATED;
    // The prefix of such an address is 64 bits long (RFC 4862, section 5.5.3).
    tap.cidrs = valid ? [...others, { address, prefix: 64 }] : others;
  };

  const look = (): void => {
    for (const watcher of watchers) watcher();
  };

  return {
    get lease() {
      return lease;
    },

    async configure({ dhcp = true, slaac = false, timeout = DEFAULT_TIMEOUT, signal }) {
      signal?.throwIfAborted();
      if (slaac) core.call("interface_autoconfigure", `SLAAC on ${name} needs ipv6`, handle, 1);
      followsRouters ||= slaac;
      if (dhcp && !lease) core.call("dhcp_start", `DHCP on ${name}`, handle);
      driver.wake();
      const found = (cidr: Cidr): boolean => !isIPv4(cidr) && !given.includes(cidr);
      let watcher: () => void;
      const limits: Limits = {
        timeout,
        late: () => {
          const what = dhcp ? "DHCP server" : "router";
          return new NetworkError("ETIMEDOUT", `${name}: no ${what} answered in ${timeout} ms`);
        },
        signal,
        finish: () => watchers.delete(watcher),
      };
      await withLimits<void>(driver, limits, (resolve, reject) => {
        watcher = () => {
          if (tap.removed) reject(driver.error ?? new NetworkError("ENODEV", `${name} was removed`));
          else if ((!dhcp || lease) && (!slaac || tap.cidrs.some(found))) resolve();
        };
        watchers.add(watcher);
        watcher();
      });
    },

    release() {
      if (followsRouters) core.call("interface_autoconfigure", name, handle, 0);
      followsRouters = false;
      core.call("dhcp_stop", name, handle);
      dropLease();
      driver.wake();
    },

    onEvent(kind, value, at) {
      if (kind === abi.EVENT_LEASE_MESSAGE) options = readDhcpOptions(core.u8.subarray(at, at + value));
      else if (kind === abi.EVENT_LEASE) onLease(at);
      else if (kind === abi.EVENT_LEASE_LOST) dropLease();
      else if (kind === abi.EVENT_ADDRESS) onAddress(value, at);
      look();
    },

    look,
  };
}
