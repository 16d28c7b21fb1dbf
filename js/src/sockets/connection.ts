/**
 * One TCP connection as a pair of streams.
 *
 * Owns what has arrived and was not read; the receive window opens only as it is read, so the window is its bound. States
 * of the two directions:
 *
 *     receiving   eof         the peer's FIN is here; the stream ends when what came before it is read
 *                 failure     the connection failed; the stream does so when what came before it is read
 *                 forgotten   the reader gave up: what arrives is read and dropped
 *     sending     pending     a write waits for room
 *                 shut        FIN follows what was written
 *
 * `over`: the handle is released, and nothing comes any more.
 */

import * as abi from "../abi.js";
import { checkInteger, toBytes } from "../arguments.js";
import type { Handler } from "../driver.js";
import type { Endpoint } from "../engine/core.js";
import { errorFor, type NetworkError, type TcpipError } from "../errors.js";
import { closedError, fromReadable } from "../streams.js";
import type { SocketAddress, TcpConnection } from "../types.js";
import type { Hosts } from "./hosts.js";

/** Bytes of a chunk that a reader gets. */
const CHUNK = 65536;
/** Bytes read after which the peer may send as many more: calls cost more than a window that opens late. */
const CREDIT = 60_000;

const closed = (): NetworkError => closedError("tcp connection");

export class Connection implements TcpConnection, Handler {
  readonly handle: number;
  readonly #hosts: Hosts;
  #local: Endpoint | undefined;
  #remote: Endpoint | undefined;

  #readable: ReadableStream<Uint8Array> | undefined;
  #source!: ReadableByteStreamController;
  #wanted = false;
  #chunks: Uint8Array<ArrayBuffer>[] = [];
  /** Where the last chunk can be continued. */
  #room = 0;
  #uncredited = 0;
  #eof = false;
  #failure: Error | undefined;
  #forgotten = false;

  #writable: WritableStream<Uint8Array> | undefined;
  #sink!: WritableStreamDefaultController;
  #pending: { data: Uint8Array; resolve(): void; reject(error: unknown): void } | undefined;
  #full = false;
  #shut = false;
  /** Writes that the stream has accepted, and those of them that have begun. */
  #accepted = 0;
  #begun = 0;
  /** Of a connection that was closed: the writes that are delivered. */
  #last = Infinity;

  #closed = false;
  #over = false;

  /** For a connection that is being made: called with undefined once it is open, or with why it failed. */
  onOpen: ((error: Error | undefined) => void) | undefined;
  /** Returns what its errors are about. */
  detail = (): string => `connection with ${this.#hosts.text(this.#remote!)} port ${this.#remote!.port}`;

  constructor(hosts: Hosts, handle: number) {
    this.#hosts = hosts;
    this.handle = handle;
    hosts.driver.handlers.set(handle, this);
  }

  get localAddress(): SocketAddress {
    return this.#hosts.socketAddress(this.#local!);
  }

  get remoteAddress(): SocketAddress {
    return this.#hosts.socketAddress(this.#remote!);
  }

  /** The handshake is complete; its endpoints are in memory. */
  opened(at: number): void {
    const { core } = this.#hosts.driver;
    this.#local = core.endpoint(at + abi.CONNECTION_ENDPOINTS_LOCAL_OFFSET);
    this.#remote = core.endpoint(at + abi.CONNECTION_ENDPOINTS_REMOTE_OFFSET);
    this.onOpen?.(undefined);
    this.onOpen = undefined;
  }

  // --- Events ---------------------------------------------------------------------------------------------------

  onEvent(kind: number, value: number, at: number): void {
    if (kind === abi.EVENT_DATA) {
      this.#onData(value, at);
    } else if (kind === abi.EVENT_WRITABLE) {
      this.#full = false;
      this.#flush();
    } else if (kind === abi.EVENT_EOF) {
      this.#eof = true;
      if (this.#wanted) this.#pull();
    } else if (kind === abi.EVENT_CLOSED) {
      this.#onClosed(value ? errorFor(-value, this.detail()) : undefined);
    } else if (kind === abi.EVENT_CONNECTED) {
      this.opened(at);
    }
  }

  onStackGone(error: TcpipError): void {
    this.#over = true; // its handle ended with the stack
    this.#onClosed(error);
  }

  #onClosed(error: Error | undefined): void {
    this.#release("tcp_close");
    this.onOpen?.(error ?? closed());
    this.onOpen = undefined;
    if (error) this.#fail(error);
    else this.#eof = true;
    if (this.#wanted) this.#pull();
  }

  /** Ends both directions; what has arrived can still be read. */
  #fail(error: Error): void {
    this.#failure ??= error;
    this.#shut = true;
    const pending = this.#pending;
    this.#pending = undefined;
    if (this.#writable) this.#sink.error(error);
    pending?.reject(error);
  }

  #release(call: "tcp_close" | "tcp_abort"): void {
    if (this.#over) return;
    this.#over = true;
    const { driver } = this.#hosts;
    driver.handlers.delete(this.handle);
    if (driver.error) return;
    // Data that nothing has read makes the close a reset (RFC 1122, section 4.2.2.13): what was read is reported first.
    if (call === "tcp_close" && this.#uncredited) driver.received(this.handle, this.#uncredited);
    this.#uncredited = 0;
    driver.core.raw(call, this.handle);
    driver.wake();
  }

  // --- Receiving ------------------------------------------------------------------------------------------------

  get readable(): ReadableStream<Uint8Array> {
    return (this.#readable ??= new ReadableStream({
      type: "bytes",
      start: (controller) => {
        this.#source = controller;
        if (this.#closed) controller.error(this.#failure);
      },
      pull: () => this.#pull(),
      cancel: () => {
        this.#forgotten = true;
        let waiting = 0;
        for (const chunk of this.#chunks) waiting += chunk.length;
        this.#chunks = [];
        this.#credit(waiting);
        if (this.#shut && !this.#pending) this.#release("tcp_close");
      },
    }));
  }

  /** Hands out data that lies in the core's memory, and keeps what nothing has asked for. */
  #onData(length: number, at: number): void {
    if (this.#forgotten) {
      this.#credit(length);
      return;
    }
    const { u8 } = this.#hosts.driver.core;
    const end = at + length;
    if (this.#wanted) {
      this.#wanted = false;
      const view = this.#source.byobRequest?.view;
      const most = view ? view.byteLength : CHUNK;
      const size = Math.min(length, most);
      if (view) {
        new Uint8Array(view.buffer, view.byteOffset).set(u8.subarray(at, at + size));
        this.#source.byobRequest!.respond(size);
      } else {
        this.#source.enqueue(u8.slice(at, at + size));
      }
      at += size;
      this.#credit(size); // after the copy: it can hand on frames
    }
    // A peer that sends byte by byte must not cost an object for each.
    if (at < end && this.#room && this.#chunks.length) {
      const last = this.#chunks.pop()!;
      const size = Math.min(this.#room, end - at);
      const longer = new Uint8Array(last.buffer, 0, last.length + size);
      longer.set(this.#hosts.driver.core.u8.subarray(at, at + size), last.length);
      this.#chunks.push(longer);
      this.#room -= size;
      at += size;
    }
    while (at < end) {
      const size = Math.min(CHUNK, end - at);
      const bytes = this.#hosts.driver.core.u8.subarray(at, at + size);
      if (size > CHUNK / 4 || !this.#chunks.length) {
        this.#chunks.push(bytes.slice());
        this.#room = 0;
      } else {
        const chunk = new Uint8Array(CHUNK);
        chunk.set(bytes);
        this.#chunks.push(chunk.subarray(0, size));
        this.#room = CHUNK - size;
      }
      at += size;
    }
    if (this.#wanted) this.#pull(); // the stream asked for more within `enqueue`
  }

  #pull(): void {
    const source = this.#source;
    const chunks = this.#chunks;
    this.#wanted = false;
    if (!chunks.length) {
      if (this.#failure) source.error(this.#failure);
      else if (this.#eof) {
        source.close();
        source.byobRequest?.respond(0);
      } else this.#wanted = true;
      return;
    }
    const request = source.byobRequest;
    let size = 0;
    if (request) {
      const view = request.view!;
      const target = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
      while (size < target.length && chunks.length) {
        const chunk = chunks[0]!;
        const part = chunk.subarray(0, target.length - size);
        target.set(part, size);
        size += part.length;
        if (part.length === chunk.length) chunks.shift();
        else chunks[0] = chunk.subarray(part.length);
      }
      // A chunk that was cut begins elsewhere in its buffer: it is not continued.
      this.#room = 0;
      request.respond(size);
    } else {
      const chunk = chunks.shift()!;
      size = chunk.length;
      source.enqueue(chunk);
    }
    this.#credit(size);
  }

  #credit(count: number): void {
    this.#uncredited += count;
    if (this.#uncredited < CREDIT || this.#over) return;
    const read = this.#uncredited;
    this.#uncredited = 0;
    this.#hosts.driver.received(this.handle, read);
  }

  // --- Sending --------------------------------------------------------------------------------------------------

  get writable(): WritableStream<Uint8Array> {
    return (this.#writable ??= new WritableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#sink = controller;
          if (this.#failure) controller.error(this.#failure);
        },
        write: (chunk) => {
          if (++this.#begun > this.#last) throw this.#failure!;
          const wait = this.#write(toBytes(chunk));
          if (!wait) this.#finishClose();
          return wait;
        },
        close: () => this.#shutdown(),
        abort: () => this.#reset(closed()),
      },
      { highWaterMark: 1, size: () => (this.#accepted++, 1) },
    ));
  }

  /** Hands data to the core; where it does not take all, returns a promise. */
  #write(data: Uint8Array): Promise<void> | undefined {
    if (this.#over || (this.#failure && !this.#closed)) throw this.#failure ?? closed();
    const rest = this.#send(data);
    if (!rest) return undefined;
    return new Promise((resolve, reject) => {
      this.#pending = { data: rest, resolve, reject };
    });
  }

  /** Hands over what the core takes, and returns the rest, or undefined. */
  #send(data: Uint8Array): Uint8Array | undefined {
    const { driver } = this.#hosts;
    while (data.length && !this.#full && !this.#over) {
      const part = data.subarray(0, abi.STAGING_CAPACITY);
      const taken = driver.send(this.handle, part);
      if (taken < 0) break;
      this.#full = driver.core.sendFull;
      data = data.subarray(taken);
    }
    return data.length ? data : undefined;
  }

  #flush(): void {
    const pending = this.#pending;
    if (!pending) return;
    const rest = this.#send(pending.data);
    if (rest) {
      pending.data = rest;
      return;
    }
    this.#pending = undefined;
    pending.resolve();
    this.#finishClose();
  }

  #shutdown(): void {
    this.#shut = true;
    if (this.#over) return;
    if (this.#forgotten) this.#release("tcp_close");
    else this.#hosts.driver.core.raw("tcp_shutdown", this.handle); // where it fails, CLOSED reports why
    this.#hosts.driver.wake();
  }

  // --- The end --------------------------------------------------------------------------------------------------

  /** The program reads no more: also what has come is forgotten. */
  #drop(error: Error): void {
    this.#closed = true;
    this.#chunks = [];
    this.#failure = error;
    if (this.#readable && !this.#forgotten) this.#source.error(error);
    this.#forgotten = true;
  }

  close(): Promise<void> {
    if (!this.#closed) {
      this.#drop(closed());
      this.#last = this.#accepted;
      this.#finishClose();
    }
    return Promise.resolve();
  }

  /** Releases a connection that was closed, once all that was written is handed to the core. */
  #finishClose(): void {
    if (!this.#closed || this.#pending || this.#begun < this.#last) return;
    if (this.#writable) this.#sink.error(this.#failure);
    this.#release("tcp_close");
  }

  abort(): void {
    this.#reset(closed());
  }

  #reset(error: Error): void {
    this.onOpen = undefined;
    if (!this.#closed) this.#drop(error);
    if (this.#writable) this.#sink.error(error);
    this.#pending?.reject(error);
    this.#pending = undefined;
    this.#release("tcp_abort");
  }

  /** Whether it was closed and has something to deliver. */
  get finishing(): boolean {
    return this.#closed ? !this.#over : this.#shut && this.#pending !== undefined;
  }

  // --- Options --------------------------------------------------------------------------------------------------

  #option(option: number, value: number): void {
    if (this.#over) throw closed();
    this.#hosts.driver.core.call("tcp_option", this.detail, this.handle, option, value);
  }

  setNoDelay(enabled: boolean): void {
    this.#option(abi.OPTION_NODELAY, Number(enabled));
  }

  setKeepAlive(enabled: boolean, idle?: number): void {
    if (idle !== undefined) this.#option(abi.OPTION_KEEPALIVE_IDLE, checkInteger("idle", idle, 1, 2 ** 31 - 1));
    this.#option(abi.OPTION_KEEPALIVE, Number(enabled));
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return fromReadable(this.readable);
  }
}
