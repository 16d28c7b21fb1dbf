/** Connecting and listening. */

import * as abi from "../abi.js";
import { type Address, formatAddress } from "../addresses.js";
import { checkInteger, checkPort, checkTimeout } from "../arguments.js";
import { type Handler } from "../driver.js";
import { NetworkError, type TcpipError } from "../errors.js";
import { closedError } from "../streams.js";
import { type TcpConnection, type TcpConnectionOptions, type TcpListener, type TcpListenerOptions } from "../types.js";
import { Connection } from "./connection.js";
import { type Hosts, type Target } from "./hosts.js";

/** Milliseconds between attempts at the addresses of a name (RFC 8305, section 5). */
const ATTEMPT_DELAY = 250;
/** Addresses of one name that are tried: a name must not make a stack connect to hundreds of hosts. */
const MOST_ATTEMPTS = 32;

/** Connects to the first of several addresses that answers, and leaves no other connection behind. */
export async function connectTcp(hosts: Hosts, options: TcpConnectionOptions): Promise<TcpConnection> {
  const { host, port, localHost, localPort = 0, timeout, signal } = options;
  const { driver } = hosts;
  checkPort("port", port, 1);
  checkPort("localPort", localPort);
  if (timeout !== undefined) checkTimeout(timeout);
  signal?.throwIfAborted();
  const end = new AbortController();
  const abort = (): void => end.abort(signal!.reason);
  signal?.addEventListener("abort", abort);
  const late = new NetworkError("ETIMEDOUT", `timed out: connect to ${host} port ${port}`);
  const cancel =
    timeout === undefined ? undefined : driver.clock.at(driver.now() + timeout / 1000, () => end.abort(late));
  try {
    const local = localHost === undefined ? undefined : (await hosts.find(localHost))[0]!.address;
    const targets = await hosts.find(host, end.signal);
    end.signal.throwIfAborted();
    driver.check();
    return await race(hosts, targets.slice(0, MOST_ATTEMPTS), port, local, localPort, end.signal);
  } finally {
    cancel?.();
    signal?.removeEventListener("abort", abort);
  }
}

function race(
  hosts: Hosts,
  targets: Target[],
  port: number,
  local: Address | undefined,
  localPort: number,
  signal: AbortSignal,
): Promise<Connection> {
  const { driver } = hosts;
  const underWay = new Set<Connection>();
  let next = 0;
  let cancelTimer: (() => void) | undefined;
  return new Promise((resolve, reject) => {
    let failure: unknown;
    const finish = (settle: () => void): void => {
      cancelTimer?.();
      signal.removeEventListener("abort", abort);
      next = targets.length;
      for (const other of underWay) other.abort();
      underWay.clear();
      settle();
    };
    const abort = (): void => finish(() => reject(signal.reason as Error));
    const failed = (error: unknown): void => {
      failure ??= error;
      if (driver.error || (next === targets.length && !underWay.size)) finish(() => reject(driver.error ?? failure));
      else if (next < targets.length) attempt();
    };
    const attempt = (): void => {
      cancelTimer?.();
      const { address, scope } = targets[next++]!;
      if (next < targets.length) cancelTimer = driver.clock.at(driver.now() + ATTEMPT_DELAY / 1000, attempt);
      let connection: Connection;
      const detail = `connect to ${formatAddress(address.family, address.bytes)} port ${port}`;
      try {
        connection = new Connection(hosts, driver.core.tcpConnect(address, port, scope, local, localPort, detail));
      } catch (error) {
        failed(error);
        return;
      }
      connection.detail = detail;
      underWay.add(connection);
      connection.onOpen = (error) => {
        underWay.delete(connection);
        if (error) failed(error);
        else finish(() => resolve(connection));
      };
      driver.wake();
    };
    signal.addEventListener("abort", abort);
    attempt();
  });
}

class Listener implements TcpListener, Handler {
  readonly port: number;
  readonly #hosts: Hosts;
  readonly #handle: number;
  #queue: Connection[] = [];
  #waiting: { resolve(connection: Connection): void; reject(error: Error): void }[] = [];
  #end: TcpipError | undefined;

  constructor(hosts: Hosts, { address, scope }: Partial<Target>, port: number, backlog: number) {
    const { driver } = hosts;
    const { core } = driver;
    this.#hosts = hosts;
    core.putScratch(address?.bytes);
    const where = address ? formatAddress(address.family, address.bytes) : "*";
    const detail = `listen on ${where} port ${port}`;
    this.#handle = core.call("tcp_listen", detail, address?.family ?? abi.FAMILY_ANY, port, backlog, scope ?? 0);
    this.port = core.call("tcp_local_port", detail, this.#handle);
    driver.handlers.set(this.#handle, this);
  }

  /** A connection was accepted: `value` is its handle. */
  onEvent(_kind: number, value: number, at: number): void {
    const connection = new Connection(this.#hosts, value);
    connection.opened(at);
    const waiting = this.#waiting.shift();
    if (waiting) waiting.resolve(this.#take(connection));
    else this.#queue.push(connection);
  }

  /** The application takes a connection: its place in the backlog is free. */
  #take(connection: Connection): Connection {
    const { driver } = this.#hosts;
    // It may have ended meanwhile. Only a poll reports the connection that waits for that place.
    if (!driver.error && driver.core.raw("tcp_accepted", connection.handle) > 0) driver.wake();
    return connection;
  }

  accept(): Promise<Connection> {
    const next = this.#queue.shift();
    if (next) return Promise.resolve(this.#take(next));
    if (this.#end) return Promise.reject(this.#end);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  onStackGone(error: TcpipError): void {
    this.#stop(error);
  }

  close(): Promise<void> {
    const { driver } = this.#hosts;
    if (!this.#end && !driver.error) {
      driver.handlers.delete(this.#handle);
      driver.core.raw("tcp_close", this.#handle);
      driver.wake();
    }
    this.#stop(closedError("tcp listener"));
    return Promise.resolve();
  }

  #stop(error: TcpipError): void {
    if (this.#end) return;
    this.#end = error;
    for (const { reject } of this.#waiting) reject(error);
    for (const connection of this.#queue) connection.abort();
    this.#waiting = [];
    this.#queue = [];
  }

  /** Ends with the listener. A loop that is broken off leaves it listening. */
  async *[Symbol.asyncIterator](): AsyncIterableIterator<Connection> {
    for (;;) {
      let connection: Connection;
      try {
        connection = await this.accept();
      } catch (error) {
        if (error === this.#end && this.#end!.code === "ECONNABORTED") return;
        throw error;
      }
      yield connection;
    }
  }
}

export async function listenTcp(hosts: Hosts, { host, port, backlog = 128 }: TcpListenerOptions): Promise<TcpListener> {
  checkPort("port", port);
  checkInteger("backlog", backlog, 1, abi.MAX_BACKLOG);
  const target = host === undefined ? {} : (await hosts.find(host))[0]!;
  hosts.driver.check();
  return new Listener(hosts, target, port, backlog);
}
