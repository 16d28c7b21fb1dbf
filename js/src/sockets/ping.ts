/** Echo requests to one host (RFC 792, RFC 4443). */

import * as abi from "../abi.js";
import { isIPv4 } from "../addresses.js";
import { checkInteger, checkTimeout, toBytes } from "../arguments.js";
import { errorFor, IcmpError, NetworkError, type TcpipError } from "../errors.js";
import { type Limits, withLimits } from "../limits.js";
import type { PingProbeOptions, PingReply, PingSession, PingSessionOptions } from "../types.js";
import { CoreHandle } from "./handle.js";
import type { Hosts, Target } from "./hosts.js";

const DEFAULT_TIMEOUT = 1000;
const DEFAULT_HOPS = 64;
const DEFAULT_PAYLOAD = Uint8Array.from({ length: 56 }, (_, i) => i);

interface Pending {
  readonly payload: Uint8Array;
  sent: number;
  resolve(reply: PingReply): void;
  reject(error: Error): void;
}

class Session extends CoreHandle implements PingSession {
  readonly host: string;
  readonly identifier: number;
  readonly timeout: number;
  readonly #pending = new Map<number, Pending>();
  #sequence = 0xffff;

  constructor(hosts: Hosts, target: Target, timeout: number) {
    const { address, scope } = target;
    const { core } = hosts.driver;
    const host = hosts.text(target);
    core.putScratch(address.bytes);
    super(hosts, core.call("ping_open", `ping ${host}`, address.family, scope));
    this.timeout = timeout;
    this.host = host;
    this.identifier = this.call("ping_identifier", `ping ${host}`);
  }

  async ping({
    timeout = this.timeout,
    payload = DEFAULT_PAYLOAD,
    hops = DEFAULT_HOPS,
  }: PingProbeOptions = {}): Promise<PingReply> {
    const data = toBytes(payload);
    checkTimeout(timeout);
    checkInteger("hops", hops, 1, 255);
    this.check();
    if (data.length > abi.MAX_DATAGRAM) throw errorFor(abi.ERROR_TOO_LONG, `ping ${this.host}`);
    if (this.#pending.size > 0xffff) throw new NetworkError("ENOBUFS", `65,536 pings to ${this.host} are in flight`);
    do this.#sequence = (this.#sequence + 1) & 0xffff;
    while (this.#pending.has(this.#sequence));
    const sequence = this.#sequence;
    const { driver } = this;
    const limits: Limits = {
      timeout,
      late: () => new NetworkError("ETIMEDOUT", `icmp ping timed out: ${this.host}`),
      finish: () => this.#pending.delete(sequence),
    };
    return withLimits<PingReply>(driver, limits, (resolve, reject) => {
      const pending = { payload: data, sent: driver.now(), resolve, reject };
      this.#pending.set(sequence, pending);
      this.#send(sequence, pending, hops);
    });
  }

  #send(sequence: number, pending: Pending, hops: number): void {
    if (this.#pending.get(sequence) !== pending) return; // it has ended while it waited for room
    const { driver } = this.hosts;
    pending.sent = driver.now();
    try {
      driver.core.putStaging(pending.payload);
      const result = driver.core.raw("ping_send", this.handle, sequence, pending.payload.length, hops);
      driver.wake();
      if (result === abi.ERROR_NO_ROOM) this.whenWritable(() => this.#send(sequence, pending, hops));
      else if (result < 0) pending.reject(errorFor(result, `ping ${this.host}`));
    } catch (error) {
      pending.reject(error as Error);
    }
  }

  protected received(kind: number, value: number, at: number): void {
    const { core } = this.driver;
    const source = core.endpoint(at);
    const { port: sequenceNumber } = source;
    const pending = this.#pending.get(sequenceNumber);
    if (!pending) return;
    const host = this.hosts.text(source);
    if (kind === abi.EVENT_ECHO_REPLY) {
      const payload = core.u8.slice(at + abi.ECHO_SIZE, at + abi.ECHO_SIZE + value);
      if (payload.length !== pending.payload.length || payload.some((byte, i) => byte !== pending.payload[i])) return;
      const roundTripTime = (this.driver.now() - pending.sent) * 1000;
      pending.resolve({ host, identifier: this.identifier, sequenceNumber, payload, roundTripTime });
    } else {
      const [type, code] = [value >> 8, value & 255];
      // Types of ICMP and of ICMPv6.
      const what = type === (isIPv4(source) ? 11 : 3) ? "time exceeded" : "unreachable";
      pending.reject(new IcmpError("EHOSTUNREACH", `ping ${this.host}: ${what}, says ${host}`, host, type, code));
    }
  }

  close(): Promise<void> {
    return this.end("ping_close", "icmp ping session");
  }

  protected ended(error: TcpipError): void {
    for (const { reject } of this.#pending.values()) reject(error);
  }
}

export async function createPingSession(
  hosts: Hosts,
  { host, timeout = DEFAULT_TIMEOUT }: PingSessionOptions,
): Promise<PingSession> {
  checkTimeout(timeout);
  const [target] = await hosts.findHost(host);
  hosts.driver.check();
  return new Session(hosts, target!, timeout);
}
