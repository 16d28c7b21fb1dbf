/** The Ethernet interface, and how it finds its own addresses: by DHCP (RFC 2131) and by SLAAC (RFC 4862). */

import * as abi from "../abi.js";
import { type Cidr, formatAddress, formatMac } from "../addresses.js";
import { checkTimeout } from "../arguments.js";
import { NetworkError, type TcpipError } from "../errors.js";
import { type ConfigureOptions, type Lease } from "../types.js";
import { FrameInterface } from "./frames.js";
import { type Interface, type Setup } from "./interface.js";
import { readDhcpOptions } from "./dhcp_options.js";

const DEFAULT_TIMEOUT = 30_000;

export class Tap extends FrameInterface {
  readonly type = "tap";
  readonly mac: string;
  /** The bridge that it is a port of. */
  bridge: (Interface & { forget(port: Tap): void }) | undefined;
  lease: Lease | undefined;
  #options: Pick<Lease, "nameServers" | "domain"> = { nameServers: [] };
  readonly #watchers = new Set<() => void>();
  #given: Cidr[];
  #slaac = false;

  constructor(setup: Setup, cidrs: Cidr[], mtu: number, mac: Uint8Array, ipv6: boolean) {
    super(setup, abi.KIND_TAP, mtu, cidrs, { mac, ipv6 });
    this.mac = formatMac(mac);
    this.#given = cidrs;
  }

  clearAddresses(): void {
    const { core } = this.driver;
    for (const { address } of this.cidrs) {
      const four = address.family === abi.FAMILY_IPV4;
      core.putScratch(four ? new Uint8Array(16) : address.bytes);
      if (four) core.call("interface_address", this.name, this.handle, abi.FAMILY_IPV4, 0);
      else core.call("interface_check_address", this.name, this.handle, 0);
    }
    this.cidrs = this.#given = [];
  }

  async configure({ dhcp = true, slaac = false, timeout = DEFAULT_TIMEOUT, signal }: ConfigureOptions = {}): Promise<readonly string[]> {
    this.check();
    checkTimeout(timeout);
    signal?.throwIfAborted();
    const { core, clock } = this.driver;
    const { handle, name } = this;
    if (slaac) core.call("interface_autoconfigure", `SLAAC on ${name} needs ipv6`, handle, 1);
    this.#slaac ||= slaac;
    if (dhcp && !this.lease) core.call("dhcp_start", `DHCP on ${name}`, handle);
    this.driver.wake();
    const found = (family: number): boolean =>
      this.cidrs.some(({ address }) => address.family === family && !this.#given.some((own) => own.address === address));
    const complete = (): boolean => (!dhcp || this.lease !== undefined) && (!slaac || found(abi.FAMILY_IPV6));
    const late = new NetworkError("ETIMEDOUT", `${name}: no ${dhcp ? "DHCP server" : "router"} answered in ${timeout} ms`);
    await new Promise<void>((resolve, reject) => {
      const look = (): void => {
        if (this.removed) finish(() => reject(this.driver.error ?? new NetworkError("ENODEV", `${name} was removed`)));
        else if (complete()) finish(resolve);
      };
      const abort = (): void => finish(() => reject(signal!.reason as Error));
      const cancel = clock.at(clock.now() + timeout / 1000, () => finish(() => reject(late)));
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
    return this.addresses;
  }

  async release(): Promise<void> {
    this.check();
    const { core } = this.driver;
    if (this.#slaac) core.call("interface_autoconfigure", this.name, this.handle, 0);
    this.#slaac = false;
    core.call("dhcp_stop", this.name, this.handle);
    this.#dropLease();
    this.driver.wake();
  }

  protected override onConfigurationEvent(kind: number, value: number, at: number): void {
    const { core } = this.driver;
    if (kind === abi.EVENT_LEASE_MESSAGE) {
      this.#options = readDhcpOptions(core.u8.subarray(at, at + value));
    } else if (kind === abi.EVENT_LEASE) {
      this.#onLease(at);
    } else if (kind === abi.EVENT_LEASE_LOST) {
      this.#dropLease();
    } else if (kind === abi.EVENT_ADDRESS) {
      this.#onAddress(value, at);
    }
    for (const watcher of [...this.#watchers]) watcher();
  }

  #onLease(at: number): void {
    const { u8, u32 } = this.driver.core;
    const bytes = (offset: number): Uint8Array => {
      const padded = new Uint8Array(16);
      padded.set(u8.subarray(at + offset, at + offset + 4));
      return padded;
    };
    const text = (offset: number): string => formatAddress(abi.FAMILY_IPV4, bytes(offset));
    const mask = u8.subarray(at + abi.LEASE_MASK_OFFSET, at + abi.LEASE_MASK_OFFSET + 4);
    let prefix = 0;
    for (const byte of mask) for (let bit = byte; bit; bit &= bit - 1) prefix++;
    this.#dropLease();
    this.cidrs = [{ address: { family: abi.FAMILY_IPV4, bytes: bytes(abi.LEASE_ADDRESS_OFFSET), scope: "" }, prefix }, ...this.cidrs];
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
    this.cidrs = this.cidrs.filter(({ address }) => address.family !== abi.FAMILY_IPV4);
  }

  #onAddress(state: number, at: number): void {
    const { bytes, port: given } = this.driver.core.endpoint(at);
    const text = formatAddress(abi.FAMILY_IPV6, bytes);
    if (given || text.startsWith("fe80:")) return;
    const others = this.cidrs.filter(({ address }) => formatAddress(address.family, address.bytes) !== text);
    const valid = state === abi.ADDRESS_PREFERRED || state === abi.ADDRESS_DEPRECATED;
    // The prefix of such an address is 64 bits long (RFC 4862, section 5.5.3).
    this.cidrs = valid ? [...others, { address: { family: abi.FAMILY_IPV6, bytes, scope: "" }, prefix: 64 }] : others;
  }

  protected override end(error: TcpipError | undefined): void {
    this.bridge?.forget(this);
    this.bridge = undefined;
    super.end(error);
    for (const watcher of [...this.#watchers]) watcher();
  }
}
