/** UDP sockets. */

import * as abi from "../abi.js";
import { checkInteger, checkPort, toBytes } from "../arguments.js";
import { errorFor, type TcpipError } from "../errors.js";
import type { Interface } from "../interfaces/interface.js";
import { fromReadable, Inbox } from "../streams.js";
import type { NetworkInterface, SocketAddress, UdpDatagram, UdpSocket, UdpSocketOptions } from "../types.js";
import { CoreHandle } from "./handle.js";
import { type Hosts, type Target, where } from "./hosts.js";

/** Bytes that wait for a reader at most, with something for each datagram's object. */
const MOST_WAITING = 262_144;
const OBJECT_SIZE = 64;

export class Socket extends CoreHandle implements UdpSocket {
  dropped = 0;
  readonly #detail: string;
  readonly #inbox: Inbox<UdpDatagram>;
  #writable: WritableStream<UdpDatagram> | undefined;
  #sink!: WritableStreamDefaultController;

  constructor(hosts: Hosts, { address, scope }: Partial<Target>, port: number, share: number) {
    const { core } = hosts.driver;
    const detail = `UDP on ${where(address)} port ${port}`;
    core.putScratch(address?.bytes);
    super(hosts, core.call("udp_open", detail, (address?.family ?? abi.FAMILY_ANY) | share, port, scope ?? 0));
    this.#detail = detail;
    this.#option(abi.OPTION_BROADCAST, 1);
    this.#inbox = new Inbox<UdpDatagram>(MOST_WAITING);
  }

  /** Fixes the remote end: only its datagrams arrive. */
  connect(target: Target, port: number): void {
    this.driver.core.putEndpoint(target, port);
    this.call("udp_connect", this.#detail);
  }

  #option(option: number, value: number): void {
    this.call("udp_option", this.#detail, option, value);
  }

  get readable(): ReadableStream<UdpDatagram> {
    return this.#inbox.readable;
  }

  get writable(): WritableStream<UdpDatagram> {
    return (this.#writable ??= new WritableStream<UdpDatagram>({
      start: (controller) => {
        this.#sink = controller;
        if (this.failure) controller.error(this.failure);
      },
      write: (datagram) => this.send(datagram),
    }));
  }

  get localAddress(): SocketAddress {
    this.call("udp_local", this.#detail);
    const { core } = this.driver;
    return this.hosts.socketAddress(core.endpoint(core.scratch));
  }

  protected received(kind: number, value: number, at: number): void {
    if (kind !== abi.EVENT_DATAGRAM) return;
    const { core } = this.driver;
    const start = at + abi.DATAGRAM_SIZE;
    const source = this.hosts.socketAddress(core.endpoint(at + abi.DATAGRAM_SOURCE_OFFSET));
    if (!this.#inbox.push({ ...source, data: core.u8.slice(start, start + value) }, value + OBJECT_SIZE))
      this.dropped++;
  }

  async send({ host, port, data }: UdpDatagram): Promise<void> {
    const bytes = toBytes(data);
    checkPort("port", port, 1);
    const { driver } = this;
    const [target] = (this.hosts.literal(host) ?? (await this.hosts.findHost(host))) as [Target];
    const detail = `send ${bytes.length} bytes to ${host} port ${port}`;
    if (bytes.length > abi.MAX_DATAGRAM) throw errorFor(abi.ERROR_TOO_LONG, detail);
    for (;;) {
      this.check();
      const { core } = driver;
      core.putEndpoint(target, port);
      core.putStaging(bytes);
      const result = core.raw("udp_send", this.handle, bytes.length, 1);
      driver.wake();
      if (result === 0) return;
      if (result !== abi.ERROR_NO_ROOM) throw errorFor(result, detail);
      await new Promise<void>((resolve) => this.whenWritable(resolve));
    }
  }

  #group(join: number, group: string, netInterface: NetworkInterface | undefined): void {
    this.check();
    const target = this.hosts.literal(group);
    if (!target) throw new RangeError(`group: ${group} is no address`);
    const [{ address, scope: given }] = target;
    const scope = (netInterface as unknown as Interface | undefined)?.handle ?? given;
    this.driver.core.putEndpoint({ address, scope: address.family === abi.FAMILY_IPV6 ? scope : 0 }, 0);
    this.call("udp_group", `group ${group}`, join, scope);
    this.driver.wake();
  }

  join(group: string, netInterface?: NetworkInterface): void {
    this.#group(1, group, netInterface);
  }

  leave(group: string, netInterface?: NetworkInterface): void {
    this.#group(0, group, netInterface);
  }

  setMulticastInterface(netInterface?: NetworkInterface): void {
    this.#option(abi.OPTION_MULTICAST_INTERFACE, (netInterface as unknown as Interface | undefined)?.handle ?? 0);
  }

  setMulticastHops(hops: number): void {
    this.#option(abi.OPTION_MULTICAST_HOP_LIMIT, checkInteger("hops", hops, 0, 255));
  }

  setMulticastLoop(enabled: boolean): void {
    this.#option(abi.OPTION_MULTICAST_LOOP, Number(enabled));
  }

  close(): Promise<void> {
    return this.end("udp_close", "udp socket");
  }

  protected ended(error: TcpipError): void {
    this.#inbox.end(error);
    if (this.#writable) this.#sink.error(error);
  }

  [Symbol.asyncIterator](): AsyncIterator<UdpDatagram> {
    return fromReadable(this.readable);
  }
}

export async function openUdp(
  hosts: Hosts,
  { host, port = 0, reuseAddress = false }: UdpSocketOptions = {},
): Promise<Socket> {
  checkPort("port", port);
  return new Socket(hosts, await hosts.findOwnHost(host), port, reuseAddress ? abi.SHARE_ADDRESS : 0);
}
