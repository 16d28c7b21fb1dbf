/**
 * What all interfaces have in common: addresses, counters, and one port that their frames go to.
 *
 * Moves frames between the module's buffers and a `Port`, or directly to another interface if a cable joins the two. Until
 * a port takes them, frames that leave are dropped and counted.
 */

import * as abi from "../abi.js";
import {
  type Cidr,
  formatAddress,
  formatMask,
  isIPv4,
  isMulticast,
  isUnspecified,
  parseCidr,
  stationMac,
} from "../addresses.js";
import { checkInteger } from "../arguments.js";
import type { Driver, Handler } from "../driver.js";
import { FrameBuffers, recordSize } from "../engine/records.js";
import { NetworkError, type TcpipError } from "../errors.js";
import type { InterfaceAddresses, InterfaceStatistics, NetworkInterface } from "../types.js";

/** IPv6 needs so many bytes (RFC 8200, section 5). */
const MIN_MTU6 = 1280;
const NEARLY_FULL = abi.TRANSMIT_CAPACITY - 2 * abi.MAX_FRAME;

/** What an interface's frames go to. */
export interface Port {
  /** Takes a frame, which is valid during the call, and returns true; false holds it back until `resumeTransmit`. */
  transmit(frame: Uint8Array<ArrayBuffer>): boolean;
  /** The interface was removed, or its stack is gone. */
  detached(error: TcpipError | undefined): void;
}

/** What is needed to create an interface. */
export interface Setup {
  readonly driver: Driver;
  readonly name: string;
}

/** Reads the `ip` of an interface's options. */
export function parseAddresses(ip: InterfaceAddresses | undefined): Cidr[] {
  const texts = ip === undefined ? [] : typeof ip === "string" ? [ip] : [...ip];
  const found = texts.map((text) => {
    const cidr = parseCidr("ip", text);
    const { address } = cidr;
    if (isMulticast(address) || isUnspecified(address) || formatAddress(address) === "255.255.255.255") {
      throw new RangeError(`ip: ${text} is no address that an interface can have`);
    }
    return cidr;
  });
  if (found.filter(isIPv4).length > 1) {
    throw new RangeError(`ip: an interface has at most one IPv4 address, got ${texts}`);
  }
  return found;
}

export const hasIPv6 = (addresses: readonly Cidr[]): boolean => !addresses.every(isIPv4);

export abstract class Interface implements Handler {
  readonly driver: Driver;
  readonly name: string;
  readonly mtu: number;
  readonly handle: number;
  readonly buffers: FrameBuffers;
  /** Their family is not unique: an interface may have one address of IPv4 and several of IPv6. */
  cidrs: Cidr[];
  removed = false;
  /** Frames dropped because nothing listened. */
  unheard = 0;
  abstract readonly type: NetworkInterface["type"];

  #port: Port | undefined;
  #far: Interface | undefined;

  constructor(
    { driver, name }: Setup,
    kind: number,
    mtu: number,
    cidrs: Cidr[],
    { mac, ipv6 = false }: { mac?: Uint8Array; ipv6?: boolean | undefined } = {},
  ) {
    checkInteger("mtu", mtu, 68, abi.MAX_FRAME); // RFC 791, section 3.2
    if (hasIPv6(cidrs)) {
      if (mtu < MIN_MTU6) throw new RangeError(`mtu: ${mtu} is less than the ${MIN_MTU6} that IPv6 needs`);
      if (mac && !ipv6) throw new RangeError("ipv6: it is false, and ip has an address of IPv6");
    }
    this.driver = driver;
    this.name = name;
    this.mtu = mtu;
    this.cidrs = cidrs;
    const { core } = driver;
    // tcpip.js documents a group address as that of a tap. Neighbours believe no such address, so frames get another.
    if (mac) core.putScratch(stationMac(mac));
    this.handle = core.call("interface_add", `interface (a stack has ${abi.MAX_INTERFACES})`, kind, mtu, Number(ipv6));
    this.buffers = new FrameBuffers(core, this.handle);
    driver.handlers.set(this.handle, this);
    try {
      for (const { address, prefix } of cidrs) {
        core.putScratch(address.bytes);
        core.call("interface_address", formatAddress(address), this.handle, address.family, prefix);
      }
    } catch (error) {
      this.remove();
      throw error;
    }
    driver.wake();
  }

  #first(): Cidr | undefined {
    return this.cidrs.find(isIPv4) ?? this.cidrs[0];
  }

  get ip(): string | undefined {
    const first = this.#first();
    return first && formatAddress(first.address);
  }

  get netmask(): string | undefined {
    const first = this.#first();
    return first && formatMask(first);
  }

  get addresses(): readonly string[] {
    return this.cidrs.map(({ address, prefix }) => `${formatAddress(address)}/${prefix}`);
  }

  stats(): InterfaceStatistics {
    const [framesIn, framesOut, malformed, transmitFull, foreign, tooLong] =
      this.buffers.counters() as unknown as number[];
    return {
      framesIn,
      framesOut,
      malformed,
      transmitFull,
      foreign,
      tooLong,
      unheard: this.unheard,
    } as InterfaceStatistics;
  }

  // --- Frames out -----------------------------------------------------------------------------------------------

  /** Whether something takes the frames. */
  get attached(): boolean {
    return this.#port !== undefined;
  }

  /**
   * Sends this interface's frames to a port from now on.
   *
   * @param far where the port would do nothing but hand the frames to another interface, that interface: they move there
   *   in one step, and the port is only notified of the end.
   * @throws NetworkError `EBUSY` where something is attached already, `ENODEV` where the interface was removed.
   */
  attach(port: Port, far?: Interface): void {
    this.check();
    if (this.#port) throw new NetworkError("EBUSY", `${this.name} has a listener already`);
    this.#port = port;
    this.#far = far;
  }

  detach(): void {
    this.#port = this.#far = undefined;
  }

  /** Sends the waiting frames: the port has room again. */
  resumeTransmit = (): void => {
    if (this.buffers.transmitLength) this.onEvent(abi.EVENT_TRANSMIT, 0, 0);
    this.driver.wake();
  };

  onEvent(kind: number, value: number, at: number): void {
    if (kind !== abi.EVENT_TRANSMIT) {
      this.onConfigurationEvent(kind, value, at);
      return;
    }
    const { buffers } = this;
    const far = this.#far;
    if (far) {
      if (buffers.moveTo(far.buffers)) far.driver.wake();
      else far.driver.whenRoom(far.buffers, this.resumeTransmit);
    } else {
      const port = this.#port;
      buffers.drain((frame) => {
        if (port) return port.transmit(frame);
        this.unheard++;
        return true;
      });
    }
    if (value > NEARLY_FULL && buffers.transmitLength < value) this.driver.wake(); // what was refused can leave now
  }

  protected onConfigurationEvent(_kind: number, _value: number, _at: number): void {}

  // --- Frames in ------------------------------------------------------------------------------------------------

  /** Takes in a frame and returns true, or returns false where there is no room now. One that is too long is dropped. */
  inject(frame: Uint8Array): boolean {
    if (recordSize(frame.length) > abi.RECEIVE_CAPACITY) return true;
    const taken = this.buffers.receive(frame);
    this.driver.wake();
    return taken;
  }

  // --- The end --------------------------------------------------------------------------------------------------

  /** @throws NetworkError `ENODEV` where the interface was removed; the stack's error where that is gone. */
  check(): void {
    this.driver.check();
    if (this.removed) throw new NetworkError("ENODEV", `${this.name} was removed`);
  }

  /** Takes the interface out of its stack. */
  remove(): void {
    if (this.removed) return;
    this.buffers.close();
    this.driver.handlers.delete(this.handle);
    this.driver.core.call("interface_remove", this.name, this.handle);
    this.end(undefined);
  }

  onStackGone(error: TcpipError): void {
    this.buffers.close();
    this.end(error);
  }

  protected end(error: TcpipError | undefined): void {
    this.removed = true;
    const port = this.#port;
    this.detach();
    port?.detached(error);
  }
}
