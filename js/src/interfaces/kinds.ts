/** The kinds of interfaces: loopback, tun and bridge; a tap, which can configure itself, has a file of its own. */

import * as abi from "../abi.js";
import { type Cidr, formatMac } from "../addresses.js";
import { NetworkError } from "../errors.js";
import type { TapInterface } from "../types.js";
import { FrameInterface } from "./frames.js";
import { Interface, type Setup } from "./interface.js";
import { Tap } from "./tap.js";

export class Loopback extends Interface {
  readonly type = "loopback";

  constructor(setup: Setup, cidrs: Cidr[]) {
    super(setup, abi.KIND_LOOPBACK, abi.MAX_FRAME, cidrs);
  }

  /** Packets wait: the module moves them itself. */
  override onEvent(): void {
    this.driver.wake();
  }
}

export class Tun extends FrameInterface {
  readonly type = "tun";

  constructor(setup: Setup, cidrs: Cidr[], mtu: number) {
    super(setup, abi.KIND_TUN, mtu, cidrs);
  }
}

export class Bridge extends Interface {
  readonly type = "bridge";
  readonly mac: string;
  readonly #ports = new Set<Tap>();

  constructor(setup: Setup, cidrs: Cidr[], mtu: number, mac: Uint8Array, ipv6: boolean) {
    super(setup, abi.KIND_BRIDGE, mtu, cidrs, { mac, ipv6 });
    this.mac = formatMac(mac);
  }

  override get attached(): boolean {
    return [...this.#ports].some((tap) => tap.attached);
  }

  addPort(port: TapInterface): void {
    if (!(port instanceof Tap) || port.driver !== this.driver)
      throw new TypeError("port must be a tap of the same stack");
    port.check();
    this.check();
    if (port.bridge) throw new NetworkError("EBUSY", `${port.name} is a port of ${port.bridge.name}`);
    const { core } = this.driver;
    core.call("bridge_add_port", port.name, this.handle, port.handle);
    port.clearAddresses(); // on a bridge they belong to the bridge
    this.#ports.add(port);
    port.bridge = this;
  }

  removePort(port: TapInterface): void {
    this.check();
    if (!(port instanceof Tap) || !this.#ports.delete(port))
      throw new RangeError(`port: ${port.name} is no port of ${this.name}`);
    this.driver.core.call("bridge_remove_port", port.name, this.handle, port.handle);
    port.bridge = undefined;
  }

  /** A tap that is a port is gone; the module has removed it already. */
  forget(port: Tap): void {
    this.#ports.delete(port);
  }

  protected override end(error: Parameters<Interface["onStackGone"]>[0] | undefined): void {
    for (const port of this.#ports) port.bridge = undefined;
    this.#ports.clear();
    super.end(error);
  }
}
