/** Echo requests to one host (RFC 792, RFC 4443). */

import * as abi from "../abi.js";
import { checkInteger, checkTimeout, toBytes } from "../arguments.js";
import { type Handler } from "../driver.js";
import { errorFor, IcmpError, NetworkError, type TcpipError } from "../errors.js";
import { closedError } from "../streams.js";
import { type PingProbeOptions, type PingReply, type PingSession, type PingSessionOptions } from "../types.js";
import { type Hosts, type Target } from "./hosts.js";

const DEFAULT_TIMEOUT = 1000;
const DEFAULT_HOPS = 64;
const DEFAULT_PAYLOAD = Uint8Array.from({ length: 56 }, (_, i) => i);
/** Types of "time exceeded" in ICMP and ICMPv6. */
const TIME_EXCEEDED: Record<number, number> = { [abi.FAMILY_IPV4]: 11, [abi.FAMILY_IPV6]: 3 };

interface Pending {
  readonly payload: Uint8Array;
  sent: number;
  resolve(reply: PingReply): void;
  reject(error: Error): void;
}

class Session implements PingSession, Handler {
  readonly host: string;
  readonly identifier: number;
  readonly timeout: number;
  readonly #hosts: Hosts;
  readonly #handle: number;
  readonly #family: number;
  readonly #pending = new Map<number, Pending>();
  #sequence = 0xffff;
  #noRoom: (() => void)[] = [];
  #end: TcpipError | undefined;

  constructor(hosts: Hosts, { address, scope }: Target, timeout: number) {
    const { driver } = hosts;
    const { core } = driver;
    this.#hosts = hosts;
    this.timeout = timeout;
    this.host = hosts.text({ ...address, port: 0, scope });
    this.#family = address.family;
    core.putScratch(address.bytes);
    this.#handle = core.call("ping_open", `ping ${this.host}`, address.family, scope);
    this.identifier = core.call("ping_identifier", `ping ${this.host}`, this.#handle);
    driver.handlers.set(this.#handle, this);
  }

  async ping({ timeout = this.timeout, payload = DEFAULT_PAYLOAD, hops = DEFAULT_HOPS }: PingProbeOptions = {}): Promise<PingReply> {
    const data = toBytes(payload);
    checkTimeout(timeout);
    checkInteger("hops", hops, 1, 255);
    if (this.#end) throw this.#end;
    if (data.length > abi.MAX_DATAGRAM) throw errorFor(abi.ERROR_TOO_LONG, `ping ${this.host}`);
    if (this.#pending.size > 0xffff) throw new NetworkError("ENOBUFS", `65,536 pings to ${this.host} are in flight`);
    do this.#sequence = (this.#sequence + 1) & 0xffff;
    while (this.#pending.has(this.#sequence));
    const sequence = this.#sequence;
    const { clock } = this.#hosts.driver;
    let cancel: (() => void) | undefined;
    try {
      return await new Promise<PingReply>((resolve, reject) => {
        const pending = { payload: data, sent: clock.now(), resolve, reject };
        this.#pending.set(sequence, pending);
        cancel = clock.at(clock.now() + timeout / 1000, () =>
          reject(new NetworkError("ETIMEDOUT", `icmp ping timed out: ${this.host}`)),
        );
        this.#send(sequence, pending, hops);
      });
    } finally {
      cancel?.();
      this.#pending.delete(sequence);
    }
  }

  #send(sequence: number, pending: Pending, hops: number): void {
    if (this.#pending.get(sequence) !== pending) return; // it has ended while it waited for room
    const { driver } = this.#hosts;
    pending.sent = driver.now();
    try {
      driver.core.putStaging(pending.payload);
      const result = driver.core.raw("ping_send", this.#handle, sequence, pending.payload.length, hops);
      driver.wake();
      if (result === abi.ERROR_NO_ROOM) this.#noRoom.push(() => this.#send(sequence, pending, hops));
      else if (result < 0) pending.reject(errorFor(result, `ping ${this.host}`));
    } catch (error) {
      pending.reject(error as Error);
    }
  }

  onEvent(kind: number, value: number, at: number): void {
    if (kind === abi.EVENT_WRITABLE) {
      for (const send of this.#noRoom.splice(0)) send();
      return;
    }
    const { core } = this.#hosts.driver;
    const source = core.endpoint(at);
    const sequenceNumber = source.port;
    const pending = this.#pending.get(sequenceNumber);
    if (!pending) return;
    const host = this.#hosts.text(source);
    if (kind === abi.EVENT_ECHO_REPLY) {
      const payload = core.u8.slice(at + abi.ECHO_SIZE, at + abi.ECHO_SIZE + value);
      if (payload.length !== pending.payload.length || payload.some((byte, i) => byte !== pending.payload[i])) return;
      const roundTripTime = (this.#hosts.driver.now() - pending.sent) * 1000;
      pending.resolve({ host, identifier: this.identifier, sequenceNumber, payload, roundTripTime });
    } else {
      const [type, code] = [value >> 8, value & 255];
      const what = type === TIME_EXCEEDED[this.#family] ? "time exceeded" : "unreachable";
      pending.reject(new IcmpError("EHOSTUNREACH", `ping ${this.host}: ${what}, says ${host}`, host, type, code));
    }
  }

  onStackGone(error: TcpipError): void {
    this.#stop(error);
  }

  close(): Promise<void> {
    const { driver } = this.#hosts;
    if (!this.#end && !driver.error) {
      driver.handlers.delete(this.#handle);
      driver.core.raw("ping_close", this.#handle);
    }
    this.#stop(closedError("icmp ping session"));
    return Promise.resolve();
  }

  #stop(error: TcpipError): void {
    if (this.#end) return;
    this.#end = error;
    for (const { reject } of this.#pending.values()) reject(error);
    this.#noRoom = [];
  }
}

export async function createPingSession(hosts: Hosts, { host, timeout = DEFAULT_TIMEOUT }: PingSessionOptions): Promise<PingSession> {
  checkTimeout(timeout);
  const [target] = await hosts.find(host);
  hosts.driver.check();
  return new Session(hosts, target!, timeout);
}
