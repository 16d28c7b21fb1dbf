/** Connecting and listening. */

import * as abi from "../abi.js";
import { type Address, formatAddress } from "../addresses.js";
import { checkInteger, checkPort, checkTimeout } from "../arguments.js";
import { NetworkError, type TcpipError } from "../errors.js";
import type { TcpConnection, TcpConnectionOptions, TcpListener, TcpListenerOptions } from "../types.js";
import { Connection } from "./connection.js";
import { CoreHandle } from "./handle.js";
import { type Hosts, type Target, where } from "./hosts.js";

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
  driver.check();
  const attempt = new Attempt(hosts, port, localPort);
  const abort = (): void => attempt.end(signal!.reason);
  signal?.addEventListener("abort", abort);
  if (timeout !== undefined) {
    attempt.endAt(
      driver.now() + timeout / 1000,
      () => new NetworkError("ETIMEDOUT", `timed out: connect to ${host} port ${port}`),
    );
  }
  const begin = async (): Promise<void> => {
    if (localHost !== undefined) attempt.local = (await hosts.find(localHost))[0]!.address;
    attempt.targets = hosts.literal(host) ?? (await hosts.find(host));
    attempt.begin();
  };
  begin().catch((error: unknown) => attempt.end(error));
  try {
    return await attempt.result;
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

/** One `connectTcp`: the connections that are being made, of which one wins. */
class Attempt {
  readonly result: Promise<Connection>;
  targets: Target[] = [];
  local: Address | undefined;

  readonly #hosts: Hosts;
  readonly #port: number;
  readonly #localPort: number;
  #resolve!: (connection: Connection) => void;
  #reject!: (error: unknown) => void;
  #underWay: Connection[] = [];
  #next = 0;
  #failure: unknown;
  #ended = false;
  #cancelNext: (() => void) | undefined;
  #cancelEnd: (() => void) | undefined;

  constructor(hosts: Hosts, port: number, localPort: number) {
    this.#hosts = hosts;
    this.#port = port;
    this.#localPort = localPort;
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** Makes it fail at a time. */
  endAt(time: number, error: () => Error): void {
    this.#cancelEnd = this.#hosts.driver.clock.at(time, () => this.end(error()));
  }

  /** Makes it fail, and aborts what is under way. */
  end(error: unknown): void {
    this.#finish();
    this.#reject(error);
  }

  #finish(): void {
    this.#ended = true;
    this.#cancelNext?.();
    this.#cancelEnd?.();
    for (const other of this.#underWay) other.abort();
    this.#underWay = [];
  }

  #failed(error: unknown): void {
    this.#failure ??= error;
    const { driver } = this.#hosts;
    if (driver.error) this.end(driver.error);
    else if (this.#next < Math.min(this.targets.length, MOST_ATTEMPTS)) this.begin();
    else if (!this.#underWay.length) this.end(this.#failure);
  }

  /** Begins to connect to the next address. */
  begin = (): void => {
    if (this.#ended) return;
    this.#cancelNext?.();
    const hosts = this.#hosts;
    const { driver } = hosts;
    const { address, scope } = this.targets[this.#next++]!;
    if (this.#next < Math.min(this.targets.length, MOST_ATTEMPTS)) {
      this.#cancelNext = driver.clock.at(driver.now() + ATTEMPT_DELAY / 1000, this.begin);
    }
    const detail = (): string => `connect to ${formatAddress(address)} port ${this.#port}`;
    let connection: Connection;
    try {
      connection = new Connection(
        hosts,
        driver.core.tcpConnect(address, this.#port, scope, this.local, this.#localPort, detail),
      );
    } catch (error) {
      this.#failed(error);
      return;
    }
    const { detail: ofOpen } = connection;
    connection.detail = detail;
    this.#underWay.push(connection);
    connection.onOpen = (error) => {
      this.#underWay = this.#underWay.filter((other) => other !== connection);
      connection.detail = ofOpen;
      if (error) {
        this.#failed(error);
      } else {
        this.#finish();
        this.#resolve(connection);
      }
    };
    driver.wake();
  };
}

class Listener extends CoreHandle implements TcpListener {
  readonly port: number;
  #queue: Connection[] = [];
  #waiting: { resolve(connection: Connection): void; reject(error: Error): void }[] = [];

  constructor(hosts: Hosts, { address, scope }: Partial<Target>, port: number, backlog: number) {
    const { core } = hosts.driver;
    core.putScratch(address?.bytes);
    const detail = `listen on ${where(address)} port ${port}`;
    super(hosts, core.call("tcp_listen", detail, address?.family ?? abi.FAMILY_ANY, port, backlog, scope ?? 0));
    this.port = this.call("tcp_local_port", detail);
  }

  /** A connection was accepted: `value` is its handle. */
  onEvent(_kind: number, value: number, at: number): void {
    const connection = new Connection(this.hosts, value);
    connection.opened(at);
    const waiting = this.#waiting.shift();
    if (waiting) waiting.resolve(this.#take(connection));
    else this.#queue.push(connection);
  }

  /** The application takes a connection: its place in the backlog is free. */
  #take(connection: Connection): Connection {
    // It may have ended meanwhile. Only a poll reports the connection that waits for that place.
    if (this.driver.core.raw("tcp_accepted", connection.handle) > 0) this.driver.wake();
    return connection;
  }

  async accept(): Promise<Connection> {
    this.check();
    const next = this.#queue.shift();
    return next ? this.#take(next) : new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  close(): Promise<void> {
    return this.end("tcp_close", "tcp listener");
  }

  protected ended(error: TcpipError): void {
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
        if ((error as TcpipError).code === "ECONNABORTED") return;
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
