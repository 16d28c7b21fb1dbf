/**
 * `net.Socket`: a stream.Duplex over a stack's TCP connection.
 *
 * Owns the way from a web stream to Node's: at most one read of the connection is under way, and none while the stream's
 * buffer is full, so that the window of the connection bounds what waits. Knows of a stack only its public interface.
 */

import { Duplex } from "stream";
import { type NetworkStack, type TcpConnection } from "../types.js";
import { familyOf, isIP, normalize, refusePath, toPort } from "./arguments.js";
import { coded, systemError } from "./errors.js";

export interface AddressInfo {
  address: string;
  family: string;
  port: number;
}

export type LookupAnswer = string | { address: string; family: number }[];
export type LookupFunction = (
  hostname: string,
  options: { family?: number | undefined; hints?: number | undefined; all?: boolean | undefined },
  callback: (error: Error | null, address: LookupAnswer, family?: number) => void,
) => void;

export interface SocketOptions {
  /** Whether the writable side stays open when the peer has ended; false if not given. */
  allowHalfOpen?: boolean | undefined;
  /** Destroys the socket when it is aborted. */
  signal?: AbortSignal | undefined;
  /** Bytes of each direction's buffer above which a program should wait; the stream's own if not given. */
  highWaterMark?: number | undefined;
}

export interface ConnectOptions {
  port: number | string;
  /** An address or a name; "localhost" if not given. */
  host?: string | undefined;
  localAddress?: string | null | undefined;
  localPort?: number | null | undefined;
  /** 4 or 6: the only addresses of a name to try; 0, or not given, for all. */
  family?: number | undefined;
  /** Resolves names in place of the stack. */
  lookup?: LookupFunction | undefined;
  hints?: number | undefined;
  noDelay?: boolean | undefined;
  keepAlive?: boolean | undefined;
  /** Milliseconds. */
  keepAliveInitialDelay?: number | undefined;
  /** Milliseconds of inactivity after which 'timeout' is emitted. */
  timeout?: number | undefined;
}

export type ReadyState = "opening" | "open" | "readOnly" | "writeOnly" | "closed";

type Callback = (error?: Error | null) => void;
type Writer = WritableStreamDefaultWriter<Uint8Array>;

/** Calls back after the present tick. A page has no `setImmediate`, and nothing that depends on ticks. */
const afterTick: (callback: () => void) => void =
  (globalThis as { setImmediate?: (callback: () => void) => unknown }).setImmediate ?? queueMicrotask;

let used: NetworkStack | undefined;

/** Sets the stack of the sockets and servers that this module exports; those that exist keep theirs. */
export function useStack(stack: NetworkStack): void {
  used = stack;
}

/** @throws Error before the first `useStack`. */
export function usedStack(): NetworkStack {
  if (!used) throw new Error("there is no stack: call useStack(stack) first, or use createNet(stack)");
  return used;
}

/** Gives a socket an open connection: for servers. */
export let adopt: (socket: Socket, connection: TcpConnection, paused: boolean) => void;

export class Socket extends Duplex {
  /** Whether a connection is being made. */
  connecting = false;
  /** Bytes that have arrived. */
  bytesRead = 0;
  /** Milliseconds of `setTimeout`. */
  timeout: number | undefined;

  #connection: TcpConnection | undefined;
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  #writer: Writer | undefined;
  #attempt: AbortController | undefined;
  #wanted = false;
  #reading = false;
  #completing: Promise<void> | undefined;
  #sent = 0;
  #resets = false;
  #noDelay: boolean | undefined;
  #keepAlive: [enabled: boolean, delay: number] | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #active = 0;

  static {
    adopt = (socket, connection, paused) => socket.#adopt(connection, paused);
  }

  constructor(options: SocketOptions = {}) {
    const { allowHalfOpen = false, signal, highWaterMark } = options;
    super({
      allowHalfOpen: !!allowHalfOpen,
      autoDestroy: true,
      ...(signal && { signal }),
      ...(highWaterMark !== undefined && { highWaterMark }),
    });
  }

  /** The stack that connections are made over. */
  protected get stack(): NetworkStack {
    return usedStack();
  }

  // --- Opening --------------------------------------------------------------------------------------------------

  connect(options: ConnectOptions, listener?: () => void): this;
  connect(port: number | string, host: string, listener?: () => void): this;
  connect(port: number | string, listener?: () => void): this;
  connect(...args: unknown[]): this {
    const [options, , listener] = normalize<ConnectOptions>(args);
    refusePath(options.path);
    const port = toPort(options.port);
    const { stack } = this;
    if (this.connecting || this.#connection) throw coded(new Error("the socket has a connection already"), "EISCONN");
    if (this.destroyed) this.#revive();
    if (listener) this.once("connect", listener);
    const { noDelay, keepAlive, keepAliveInitialDelay, timeout } = options;
    if (noDelay !== undefined) this.setNoDelay(noDelay);
    if (keepAlive !== undefined) this.setKeepAlive(keepAlive, keepAliveInitialDelay);
    if (timeout) this.setTimeout(timeout);
    this.connecting = true;
    this.#attempt = new AbortController();
    this.#touch();
    void this.#open(stack, { ...options, port, host: options.host || "localhost" }, this.#attempt.signal);
    return this;
  }

  /** A socket that was destroyed connects once more. */
  #revive(): void {
    (this as { _undestroy?(): void })._undestroy?.(); // of Node's and of readable-stream's Duplex
    this.bytesRead = this.#sent = 0;
    this.#resets = false;
  }

  async #open(
    stack: NetworkStack,
    options: ConnectOptions & { port: number; host: string },
    signal: AbortSignal,
  ): Promise<void> {
    const { port, localAddress, localPort } = options;
    let { host } = options;
    let connection: TcpConnection;
    try {
      host = await this.#resolve(stack, options);
      signal.throwIfAborted();
      connection = await stack.connectTcp({
        host,
        port,
        signal,
        ...(localAddress && { localHost: localAddress }),
        ...(localPort && { localPort }),
      });
    } catch (error) {
      if (!signal.aborted) this.destroy(systemError(error, "connect", host, port));
      return;
    }
    if (signal.aborted) {
      connection.abort();
      return;
    }
    this.#attach(connection);
    this.connecting = false;
    this.emit("connect");
    this.emit("ready");
    this.read(0);
  }

  /** Returns what to connect to: an address where the options say how names are resolved, else the host itself. */
  async #resolve(
    stack: NetworkStack,
    { host, family, lookup, hints }: ConnectOptions & { host: string },
  ): Promise<string> {
    if (isIP(host) || (!lookup && !family)) return host;
    let found: string | undefined;
    if (lookup) {
      const answer = await new Promise<LookupAnswer>((resolve, reject) => {
        lookup(host, { family, hints, all: false }, (error, address) => (error ? reject(error) : resolve(address)));
      });
      found = typeof answer === "string" ? answer : answer[0]?.address;
    } else {
      found = (await stack.lookup(host)).find((address) => isIP(address) === family);
    }
    if (!found) throw coded(new Error(`${host} has no address of family ${family}`), "ENOTFOUND");
    this.emit("lookup", null, found, isIP(found), host);
    return found;
  }

  #attach(connection: TcpConnection): void {
    this.#connection = connection;
    this.#reader = connection.readable.getReader();
    this.#writer = connection.writable.getWriter();
    this.#applyOptions();
    if (this.#wanted) void this.#pull();
  }

  #adopt(connection: TcpConnection, paused: boolean): void {
    this.#attach(connection);
    if (paused) this.pause();
    else this.read(0);
  }

  // --- Reading --------------------------------------------------------------------------------------------------

  override _read(): void {
    this.#wanted = true;
    if (this.#reader && !this.#reading) void this.#pull();
  }

  /** Moves what arrives as long as the stream asks for it. What a listener throws is not an error of the socket. */
  async #pull(): Promise<void> {
    const reader = this.#reader!;
    this.#reading = true;
    try {
      do {
        const result = await reader.read().catch((error: unknown) => systemError(error, "read"));
        if (this.#completing) await this.#completing; // what arrives may answer that write
        if (this.#reader !== reader) return; // destroyed meanwhile
        if (result instanceof Error) {
          this.destroy(result);
          return;
        }
        this.#touch();
        if (result.done) {
          this.push(null);
          this.read(0); // 'end' is emitted also where nothing reads an empty stream
          return;
        }
        this.bytesRead += result.value.length;
        // One chunk for each `_read`, which a later tick asks for: programs may call `read` once for each 'readable'.
        this.#wanted = false;
        this.push(result.value);
      } while (this.#wanted);
    } finally {
      if (this.#reader === reader) this.#reading = false;
    }
  }

  // --- Writing --------------------------------------------------------------------------------------------------

  /** Calls back with the writer, or with why there is none; a socket that connects has one later. */
  #withWriter(then: (writer: Writer) => void, fail: Callback): void {
    if (this.#writer) {
      then(this.#writer);
    } else if (this.connecting) {
      const connected = (): void => {
        this.off("close", closed);
        this.#withWriter(then, fail);
      };
      const closed = (): void => {
        this.off("connect", connected);
        fail(coded(new Error("the socket was closed before it was connected"), "ERR_SOCKET_CLOSED_BEFORE_CONNECTION"));
      };
      this.once("connect", connected);
      this.once("close", closed);
    } else {
      fail(coded(new Error("the socket is closed"), "ERR_SOCKET_CLOSED"));
    }
  }

  #send(data: Uint8Array, callback: Callback): void {
    const send = (writer: Writer): void => {
      this.#touch();
      writer.write(data).then(
        () => {
          this.#touch();
          this.#complete(() => {
            this.#sent += data.length;
            callback();
          });
        },
        (error: unknown) => callback(systemError(error, "write")),
      );
    };
    this.#withWriter(send, callback);
  }

  /**
   * Reports that a write is done: at once, but not while the socket is corked for the rest of a tick. A chunked response of
   * Node's `http` is corked so, and returns from `write` that it is full by what the socket holds at that moment. If that
   * completed before the response's own data reached the socket, the socket would never be full, and the 'drain' for which
   * the response waits would never be emitted. Sockets of Node complete no write within a tick.
   */
  #complete(done: () => void): void {
    if (!this.writableCorked) {
      done();
      return;
    }
    this.#completing = new Promise((resolve) => {
      afterTick(() => {
        this.#completing = undefined;
        resolve();
        done();
      });
    });
  }

  override _write(chunk: Uint8Array, _encoding: string, callback: Callback): void {
    this.#send(chunk, callback);
  }

  /** Joins what was written meanwhile: a call for each small write costs more than the copy. */
  override _writev(chunks: { chunk: Uint8Array }[], callback: Callback): void {
    let size = 0;
    for (const { chunk } of chunks) size += chunk.length;
    const joined = new Uint8Array(size);
    let at = 0;
    for (const { chunk } of chunks) {
      joined.set(chunk, at);
      at += chunk.length;
    }
    this.#send(joined, callback);
  }

  override _final(callback: Callback): void {
    if (!this.#writer && !this.connecting) {
      callback(); // it was never connected
      return;
    }
    const close = (writer: Writer): void => {
      writer.close().then(
        () => callback(),
        (error: unknown) => callback(systemError(error, "shutdown")),
      );
    };
    this.#withWriter(close, callback);
  }

  // --- The end --------------------------------------------------------------------------------------------------

  override _destroy(error: Error | null, callback: Callback): void {
    const connection = this.#connection;
    this.connecting = false;
    this.#attempt?.abort();
    this.#attempt = this.#connection = this.#reader = this.#writer = undefined;
    this.#reading = this.#wanted = false;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#resets) connection?.abort();
    else void connection?.close();
    callback(error);
  }

  /** 'close' says whether the socket failed. */
  override emit(event: string | symbol, ...args: unknown[]): boolean {
    if (event === "close" && !args.length) args.push(!!this.errored);
    return super.emit(event as string, ...args);
  }

  /** Ends the writable side, and destroys the socket when all is written. */
  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once("finish", () => this.destroy());
  }

  /** Sends RST, and destroys the socket. */
  resetAndDestroy(): this {
    this.#resets = true;
    return this.destroy(
      this.#connection || this.connecting ? undefined : coded(new Error("the socket is closed"), "ERR_SOCKET_CLOSED"),
    );
  }

  // --- Options --------------------------------------------------------------------------------------------------

  #applyOptions(): void {
    try {
      if (this.#noDelay !== undefined) this.#connection?.setNoDelay(this.#noDelay);
      if (this.#keepAlive) this.#connection?.setKeepAlive(this.#keepAlive[0], this.#keepAlive[1] || undefined);
    } catch {
      // The connection has ended, which the streams report.
    }
  }

  setNoDelay(enabled = true): this {
    this.#noDelay = !!enabled;
    this.#applyOptions();
    return this;
  }

  /** @param initialDelay milliseconds of silence after which the peer is probed; 0 leaves the stack's. */
  setKeepAlive(enabled = false, initialDelay = 0): this {
    this.#keepAlive = [!!enabled, Math.max(0, Math.trunc(initialDelay) || 0)];
    this.#applyOptions();
    return this;
  }

  /** Emits 'timeout' after so many milliseconds without activity; 0 for never. The socket stays open. */
  setTimeout(timeout: number, callback?: () => void): this {
    if (typeof timeout !== "number" || !(timeout >= 0)) {
      throw coded(new RangeError(`timeout must be milliseconds, not ${String(timeout)}`), "ERR_OUT_OF_RANGE");
    }
    this.timeout = timeout;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (timeout) {
      if (callback) this.once("timeout", callback);
      this.#touch();
      this.#arm(timeout);
    } else if (callback) {
      this.off("timeout", callback);
    }
    return this;
  }

  /** Activity costs a reading of the clock; the timer finds out when it fires. */
  #touch(): void {
    if (this.timeout) this.#active = performance.now();
    if (this.timeout && !this.#timer && !this.destroyed) this.#arm(this.timeout);
  }

  #arm(delay: number): void {
    const timer = setTimeout(
      () => {
        this.#timer = undefined;
        const left = this.#active + this.timeout! - performance.now();
        if (left >= 1) this.#arm(left);
        else this.emit("timeout");
      },
      Math.min(delay, 2 ** 31 - 1),
    );
    (timer as { unref?(): void }).unref?.();
    this.#timer = timer;
  }

  /** Does nothing: an open connection of a stack holds no event loop by itself. */
  ref(): this {
    return this;
  }

  /** Does nothing, as `ref`. */
  unref(): this {
    return this;
  }

  // --- State ----------------------------------------------------------------------------------------------------

  /** Whether it is not connected yet, or no more. */
  get pending(): boolean {
    return !this.#connection || this.connecting;
  }

  get readyState(): ReadyState {
    if (this.connecting) return "opening";
    if (this.readable && this.writable) return this.#connection ? "open" : "closed";
    return this.readable ? "readOnly" : this.writable ? "writeOnly" : "closed";
  }

  /** Bytes written, those that wait in the stream included. */
  get bytesWritten(): number {
    return this.#sent + this.writableLength;
  }

  get bufferSize(): number {
    return this.writableLength;
  }

  get remoteAddress(): string | undefined {
    return this.#connection?.remoteAddress.host;
  }

  get remotePort(): number | undefined {
    return this.#connection?.remoteAddress.port;
  }

  get remoteFamily(): string | undefined {
    return this.remoteAddress && familyOf(this.remoteAddress);
  }

  get localAddress(): string | undefined {
    return this.#connection?.localAddress.host;
  }

  get localPort(): number | undefined {
    return this.#connection?.localAddress.port;
  }

  get localFamily(): string | undefined {
    return this.localAddress && familyOf(this.localAddress);
  }

  /** The own address, or an empty object where there is no connection. */
  address(): AddressInfo | Record<string, never> {
    if (!this.#connection) return {};
    const { host, port } = this.#connection.localAddress;
    return { address: host, family: familyOf(host), port };
  }
}
