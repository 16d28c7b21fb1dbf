/** Connecting and listening. */

import * as abi from "../abi.js";
import { type Address, formatAddress } from "../addresses.js";
import { checkInteger, checkPort, checkTimeout } from "../arguments.js";
import { NetworkError, type TcpipError } from "../errors.js";
import { type Limits, withLimits } from "../limits.js";
import type { TcpConnection, TcpConnectionOptions, TcpListener, TcpListenerOptions } from "../types.js";
import { Connection } from "./connection.js";
import { CoreHandle } from "./handle.js";
import { type Hosts, type Target, where } from "./hosts.js";

/** Milliseconds between attempts at the addresses of a name (RFC 8305, section 5). */
const ATTEMPT_DELAY = 250;
/** Addresses of one name that are tried: a name must not make a stack connect to hundreds of hosts. */
const MOST_ATTEMPTS = 32;

/** What begins to look for the addresses and to connect; and what ends all attempts but the one that has won. */
type Attempts = [
  begin: (resolve: (connection: Connection) => void, reject: (error: unknown) => void) => void,
  finish: () => void,
];

/** Connects to several addresses, each some time after the one before or when that has failed; the first to answer wins. */
function createAttempts(hosts: Hosts, { host, port, localHost, localPort = 0 }: TcpConnectionOptions): Attempts {
  const { driver } = hosts;
  /** The connections that are being made. */
  let underWay: Connection[] = [];
  let ended = false;
  let cancelNext: (() => void) | undefined;

  return [
    (resolve, reject) => {
      let local: Address | undefined;
      let left: Target[];
      let failure: unknown;

      const onFailure = (error: unknown): void => {
        failure ??= error;
        if (driver.error) reject(driver.error);
        else if (left.length) tryNext();
        else if (!underWay.length) reject(failure);
      };

      const tryNext = (): void => {
        if (ended) return;
        cancelNext?.();
        const { address, scope } = left.shift()!;
        if (left.length) cancelNext = driver.after(ATTEMPT_DELAY / 1000, tryNext);
        const detail = (): string => `connect to ${formatAddress(address)} port ${port}`;
        let connection: Connection;
        try {
          const handle = driver.core.tcpConnect(address, port, scope, local, localPort, detail);
          connection = new Connection(hosts, handle);
        } catch (error) {
          onFailure(error);
          return;
        }
        const { detail: ofOpen } = connection;
        connection.detail = detail;
        underWay.push(connection);
        connection.onOpen = (error) => {
          underWay = underWay.filter((other) => other !== connection);
          connection.detail = ofOpen;
          if (error) onFailure(error);
          else resolve(connection);
        };
        driver.wake();
      };

      const find = async (): Promise<void> => {
        if (localHost !== undefined) local = (await hosts.findHost(localHost))[0]!.address;
        left = (hosts.literal(host) ?? (await hosts.findHost(host))).slice(0, MOST_ATTEMPTS);
        tryNext();
      };
      find().catch(reject);
    },

    () => {
      ended = true;
      cancelNext?.();
      for (const other of underWay) other.abort();
      underWay = [];
    },
  ];
}

/** Connects to the first of several addresses that answers, and leaves no other connection behind. */
export async function connectTcp(hosts: Hosts, options: TcpConnectionOptions): Promise<TcpConnection> {
  const { host, port, localPort, timeout, signal } = options;
  checkPort("port", port, 1);
  checkPort("localPort", localPort ?? 0);
  if (timeout !== undefined) checkTimeout(timeout);
  signal?.throwIfAborted();
  hosts.driver.check();
  const [begin, finish] = createAttempts(hosts, options);
  const limits: Limits = {
    timeout,
    late: () => new NetworkError("ETIMEDOUT", `timed out: connect to ${host} port ${port}`),
    signal,
    finish,
  };
  return withLimits(hosts.driver, limits, begin);
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
  protected received(_kind: number, value: number, at: number): void {
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
  return new Listener(hosts, await hosts.findOwnHost(host), port, backlog);
}
