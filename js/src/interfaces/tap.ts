/** The Ethernet interface: `Tap`. */

import * as abi from "../abi.js";
import { type Cidr, formatMac } from "../addresses.js";
import { checkTimeout } from "../arguments.js";
import type { TcpipError } from "../errors.js";
import type { ConfigureOptions, Lease } from "../types.js";
import { type Configuration, createConfiguration } from "./configuration.js";
import { FrameInterface } from "./frames.js";
import type { Interface, Setup } from "./interface.js";

export class Tap extends FrameInterface {
  readonly type = "tap";
  readonly mac: string;
  /** The bridge that it is a port of. */
  bridge: (Interface & { forget(port: Tap): void }) | undefined;
  #configuration: Configuration | undefined;

  constructor(setup: Setup, cidrs: Cidr[], mtu: number, mac: Uint8Array, ipv6: boolean) {
    super(setup, abi.KIND_TAP, mtu, cidrs, { mac, ipv6 });
    this.mac = formatMac(mac);
  }

  clearAddresses(): void {
    const { core } = this.driver;
    for (const { address } of this.cidrs) {
      const four = address.family === abi.FAMILY_IPV4;
      core.putScratch(four ? undefined : address.bytes);
      if (four) core.call("interface_address", this.name, this.handle, abi.FAMILY_IPV4, 0);
      else core.call("interface_check_address", this.name, this.handle, 0);
    }
    this.cidrs = [];
  }

  get lease(): Lease | undefined {
    return this.#configuration?.lease;
  }

  async configure(options: ConfigureOptions = {}): Promise<readonly string[]> {
    this.check();
    checkTimeout(options.timeout ?? 0);
    this.#configuration ??= createConfiguration(this);
    await this.#configuration.configure(options);
    return this.addresses;
  }

  async release(): Promise<void> {
    this.check();
    this.#configuration?.release();
  }

  protected override onConfigurationEvent(kind: number, value: number, at: number): void {
    this.#configuration?.onEvent(kind, value, at);
  }

  protected override end(error: TcpipError | undefined): void {
    this.bridge?.forget(this);
    this.bridge = undefined;
    super.end(error);
    this.#configuration?.look();
  }
}
