/** UDP sockets. */

import * as abi from "../abi.js";
import { formatAddress } from "../addresses.js";
import { checkInteger, checkPort, toBytes } from "../arguments.js";
import { type Handler } from "../driver.js";
import { errorFor, type TcpipError } from "../errors.js";
import { type Interface } from "../interfaces/interface.js";
import { closedError, fromReadable, Inbox } from "../streams.js";
import { type NetworkInterface, type SocketAddress, type UdpDatagram, type UdpSocket, type UdpSocketOptions } from "../types.js";
import { type Hosts, type Target } from "./hosts.js";

/** Bytes that wait for a reader at most, with something for each datagram's object. */
const MOST_WAITING = 262_144;
const OBJECT_SIZE = 64;

export class Socket implements UdpSocket, Handler {
  dropped = 0;
  readonly #hosts: Hosts;
  readonly #handle: number;
  readonly #detail: string;
  readonly #inbox: Inbox<UdpDatagram>;
  #writable: WritableStream<UdpDatagram> | undefined;
  #sink!: WritableStreamDefaultController;
  #noRoom: (() => void)[] = [];
  #end: TcpipError | undefined;

  constructor(hosts: Hosts, { address, scope }: Partial<Target>, port: number, share: number) {
    const { driver } = hosts;
    const { core } = driver;
    this.#hosts = hosts;
    this.#detail = `UDP on ${address ? formatAddress(address.family, address.bytes) : "*"} port ${port}`;
    core.putScratch(address?.bytes);
    this.#handle = core.call("udp_open", this.#detail, (address?.family ?? abi.FAMILY_ANY) | share, port, scope ?? 0);
    driver.handlers.set(this.#handle, this);
    this.#option(abi.OPTION_BROADCAST, 1);
    this.#inbox = new Inbox<UdpDatagram>(
      MOST_WAITING,
      () => undefined,
      () => undefined,
    );
  }

  /** Fixes the remote end: only its datagrams arrive. */
  connect({ address, scope }: Target, port: number): void {
    const { core } = this.#hosts.driver;
    core.putEndpoint({ family: address.family, bytes: address.bytes, port, scope });
    core.call("udp_connect", this.#detail, this.#handle);
  }

  #option(option: number, value: number): void {
    this.#check();
    this.#hosts.driver.core.call("udp_option", this.#detail, this.#handle, option, value);
  }

  #check(): void {
    if (this.#end) throw this.#end;
  }

  get readable(): ReadableStream<UdpDatagram> {
    return this.#inbox.readable;
  }

  get writable(): WritableStream<UdpDatagram> {
    return (this.#writable ??= new WritableStream<UdpDatagram>({
      start: (controller) => {
        this.#sink = controller;
        if (this.#end) controller.error(this.#end);
      },
      write: (datagram) => this.send(datagram),
    }));
  }

  get localAddress(): SocketAddress {
    const { core } = this.#hosts.driver;
    this.#check();
    core.call("udp_local", this.#detail, this.#handle);
    return this.#hosts.socketAddress(core.endpoint(core.scratch));
  }

  onEvent(kind: number, value: number, at: number): void {
    if (kind === abi.EVENT_WRITABLE) {
      for (const resolve of this.#noRoom.splice(0)) resolve();
    } else if (kind === abi.EVENT_DATAGRAM) {
      const { core } = this.#hosts.driver;
      const start = at + abi.DATAGRAM_SIZE;
      const source = this.#hosts.socketAddress(core.endpoint(at + abi.DATAGRAM_SOURCE_OFFSET));
      const datagram = { ...source, data: core.u8.slice(start, start + value) };
      if (!this.#inbox.push(datagram, value + OBJECT_SIZE)) this.dropped++;
    }
  }

  async send({ host, port, data }: UdpDatagram): Promise<void> {
    const bytes = toBytes(data);
    checkPort("port", port, 1);
    const { driver } = this.#hosts;
    const [{ address, scope }] = (this.#hosts.literal(host) ?? (await this.#hosts.find(host))) as [Target];
    const detail = `send ${bytes.length} bytes to ${host} port ${port}`;
    if (bytes.length > abi.MAX_DATAGRAM) throw errorFor(abi.ERROR_TOO_LONG, detail);
    for (;;) {
      this.#check();
      const { core } = driver;
      core.putEndpoint({ family: address.family, bytes: address.bytes, port, scope });
      core.putStaging(bytes);
      const result = core.raw("udp_send", this.#handle, bytes.length, 1);
      driver.wake();
      if (result === 0) return;
      if (result !== abi.ERROR_NO_ROOM) throw errorFor(result, detail);
      await new Promise<void>((resolve) => this.#noRoom.push(resolve));
    }
  }

  #group(join: number, group: string, netInterface: NetworkInterface | undefined): void {
    this.#check();
    const target = this.#hosts.literal(group);
    if (!target) throw new RangeError(`group: ${group} is no address`);
    const [{ address, scope }] = target;
    const handle = (netInterface as unknown as Interface | undefined)?.handle ?? scope;
    const { core } = this.#hosts.driver;
    core.putEndpoint({ family: address.family, bytes: address.bytes, port: 0, scope: address.family === abi.FAMILY_IPV6 ? handle : 0 });
    core.call("udp_group", `group ${group}`, this.#handle, join, handle);
    this.#hosts.driver.wake();
  }

  join(group: string, netInterface?: NetworkInterface): void {
    this.#group(1, group, netInterface);
  }

  leave(group: string, netInterface?: NetworkInterface): void {
    this.#group(0, group, netInterface);
  }

  setMulticastHops(hops: number): void {
    this.#option(abi.OPTION_MULTICAST_HOP_LIMIT, checkInteger("hops", hops, 0, 255));
  }

  setMulticastLoop(enabled: boolean): void {
    this.#option(abi.OPTION_MULTICAST_LOOP, Number(enabled));
  }

  onStackGone(error: TcpipError): void {
    this.#stop(error);
  }

  close(): Promise<void> {
    const { driver } = this.#hosts;
    if (!this.#end && !driver.error) {
      driver.handlers.delete(this.#handle);
      driver.core.raw("udp_close", this.#handle);
      driver.wake();
    }
    this.#stop(closedError("udp socket"));
    return Promise.resolve();
  }

  #stop(error: TcpipError): void {
    if (this.#end) return;
    this.#end = error;
    this.#inbox.end(error);
    if (this.#writable) this.#sink.error(error);
    for (const resolve of this.#noRoom.splice(0)) resolve();
  }

  [Symbol.asyncIterator](): AsyncIterator<UdpDatagram> {
    return fromReadable(this.readable);
  }
}

export async function openUdp(hosts: Hosts, { host, port = 0, reuseAddress = false }: UdpSocketOptions = {}): Promise<Socket> {
  checkPort("port", port);
  const target: Partial<Target> = host === undefined ? {} : (await hosts.find(host))[0]!;
  hosts.driver.check();
  return new Socket(hosts, target, port, reuseAddress ? abi.SHARE_ADDRESS : 0);
}
