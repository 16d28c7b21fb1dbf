/**
 * The sans-I/O core: one TCP/IP stack as a state machine. Its driver supplies the time, the frames and the wake-ups.
 *
 * Owns the instance, the views over its memory and its end. It knows neither a clock nor the event loop, and keeps no
 * frame: they wait in the module's own buffers. A driver's loop is
 *
 *     core.tcpSend(handle, data, now)    // taken, and sent at once (core.sentAtOnce) or by the next poll
 *     core.poll(now)                     // written data leaves, received frames are taken in, timers run
 *     core.events((kind, handle, value, at) => …)
 *     core.more || core.soon             // poll again before waiting
 *     core.deadline                      // else at this time at the latest
 *
 * Times are seconds of any monotonic clock, above 0. Memory can grow in any call, which detaches every view: each call
 * takes new ones then, and nothing else may keep a view.
 */

import * as abi from "../abi.js";
import type { Address } from "../addresses.js";
import { errorFor, ModuleMismatchError, StackClosedError, StackTrappedError, type TcpipError } from "../errors.js";

/** The calls that return a number, by name. */
export type CallName = Exclude<keyof abi.Exports, "memory" | "_initialize" | "start">;

/** Takes an event: see the events of the ABI. Its payload begins at the byte offset `at`. */
export type EventHandler = (kind: number, handle: number, value: number, at: number) => void;

/** An address with the handle of the interface that it belongs to if it is link-local, or 0. */
export interface Target {
  readonly address: Address;
  readonly scope: number;
}

/** The same with a port. */
export interface Endpoint extends Target {
  readonly port: number;
}

const EMPTY = new Uint8Array(0);

export class Core {
  /** The module's calls. Use `call`, which checks results and memory. */
  exports: abi.Exports;
  /** Linear memory as bytes. */
  u8: Uint8Array<ArrayBuffer> = EMPTY as Uint8Array<ArrayBuffer>;
  /** Linear memory as 32-bit words. */
  u32: Uint32Array = new Uint32Array(0);
  /** After `poll`: there is more to do at once. */
  more = false;
  /** After `poll`: acknowledgements are to be sent; a poll a little later sends them with what the application writes. */
  soon = false;
  /** After `poll`: the time at which it is due again, in seconds. */
  deadline = Infinity;
  /** After `tcpSend` and `tcpReceived`: handle of the interface by which something left at once, or 0. */
  sentAtOnce = 0;
  /** After `tcpSend`: no more would be taken now, and a WRITABLE event follows. */
  sendFull = false;
  /** Why the core can no longer be called. */
  death: TcpipError | undefined;
  /** What time it is, for calls that look at what timers change. The driver assigns it. */
  clock: () => number = () => -Infinity;

  #stale = 0;
  #control: number;
  #length = 0;
  #events: number;
  #scratch: number;
  #statistics: number;

  /**
   * @param module the compiled module.
   * @param now the time in seconds, above 0.
   * @param seed 16 bytes from which every random choice derives.
   * @throws ModuleMismatchError the module does not fit this package.
   */
  constructor(module: WebAssembly.Module, now: number, seed: Uint8Array) {
    const exports = (this.exports = new WebAssembly.Instance(module).exports as unknown as abi.Exports);
    // A checksum over the names, numbers and layouts of all that it exports.
    if (!exports.abi_version || exports.abi_version() >>> 0 !== abi.VERSION) {
      throw new ModuleMismatchError("EINVAL", `lwip.wasm is of another version than this package, ${abi.VERSION}`);
    }
    exports._initialize();
    const view = new DataView(seed.buffer, seed.byteOffset, abi.SEED_SIZE);
    this.#control = exports.start(now, view.getBigInt64(0, true), view.getBigInt64(8, true)) >> 2;
    this.#refresh();
    this.#events = this.#word(abi.CONTROL_EVENT_BUFFER);
    this.#scratch = this.#word(abi.CONTROL_SCRATCH);
    this.#statistics = this.#word(abi.CONTROL_STATISTICS) >> 2;
  }

  #word(index: number): number {
    return this.u32[this.#control + index]!;
  }

  #refresh(): void {
    const { buffer } = this.exports.memory;
    this.u8 = new Uint8Array(buffer);
    this.u32 = new Uint32Array(buffer);
  }

  /** Records that a call did not return, and returns the error that every later call throws. */
  #die(cause: unknown): TcpipError {
    this.#end(new StackTrappedError(cause));
    return this.death!;
  }

  #end(reason: TcpipError): void {
    this.death ??= reason;
    this.exports = {} as abi.Exports;
    this.u8 = EMPTY as Uint8Array<ArrayBuffer>;
    this.u32 = new Uint32Array(0);
  }

  /** Releases the instance. Later calls throw StackClosedError. */
  close(): void {
    this.#end(new StackClosedError());
  }

  #check(): void {
    if (this.death) throw this.death;
  }

  /** Makes a call of the ABI, without looking at timers or at what it returns. */
  raw(name: CallName, ...parameters: number[]): number {
    this.#check();
    let result: number;
    try {
      result = (this.exports[name] as (...parameters: number[]) => number)(...parameters);
    } catch (error) {
      throw this.#die(error);
    }
    if (this.u8.length === 0) this.#refresh();
    return result;
  }

  /**
   * Makes a call of the ABI. Timers that are due run before, so that it sees the state of now: a stack that waits for
   * nothing is not polled, and its tables age without it.
   *
   * @param name the export's name.
   * @param detail what it is about, for its error; a function where its text costs something.
   * @throws NetworkError what the error code means.
   */
  call(name: CallName, detail: string | (() => string), ...parameters: number[]): number {
    const now = this.clock();
    if (now >= this.#stale) this.#stale = this.raw("advance", now);
    const result = this.raw(name, ...parameters);
    if (result < 0) throw errorFor(result, typeof detail === "string" ? detail : detail());
    return result;
  }

  /**
   * Does what is due: sends what was written, takes in what arrived, runs timers.
   *
   * @throws StackClosedError, StackTrappedError the stack is closed, or its module trapped now or before.
   */
  poll(now: number): void {
    this.#check();
    try {
      this.deadline = this.exports.poll(now);
    } catch (error) {
      throw this.#die(error);
    }
    if (this.u8.length === 0) this.#refresh();
    this.#length = this.#word(abi.CONTROL_EVENT_LENGTH);
    const more = this.#word(abi.CONTROL_MORE);
    this.more = (more & abi.MORE_NOW) !== 0;
    this.soon = (more & abi.MORE_SOON) !== 0;
  }

  /** Hands out the events of the latest `poll`, in order. They stay where they are until the next one. */
  events(handler: EventHandler): void {
    let at = this.#events;
    const end = at + this.#length;
    while (at < end && !this.death) {
      const word = at >> 2;
      const words = this.u32;
      const size = words[word]!;
      handler(words[word + 1]!, words[word + 2]!, words[word + 3]!, at + abi.EVENT_HEADER_SIZE);
      at += size;
    }
  }

  /** Returns the kind of the first event of the latest `poll`, or 0. TRANSMIT comes last. */
  get firstEvent(): number {
    return this.#length ? this.u32[(this.#events >> 2) + 1]! : 0;
  }

  // --- Areas in memory ------------------------------------------------------------------------------------------

  /** Writes what a call reads from the scratch area. */
  putScratch(...parts: (Uint8Array | undefined)[]): void {
    this.#check();
    let at = this.#scratch;
    for (const part of parts) {
      if (part) this.u8.set(part, at);
      else this.u8.fill(0, at, at + 16);
      at += part ? part.length : 16;
    }
  }

  /** Writes an endpoint to the scratch area. */
  putEndpoint({ address, scope }: Target, port: number): void {
    this.#check();
    this.u32.set([address.family, port, scope], this.#scratch >> 2);
    this.u8.set(address.bytes, this.#scratch + abi.ENDPOINT_ADDRESS_OFFSET);
  }

  /** Byte offset of the scratch area, where calls leave what is longer than a number. */
  get scratch(): number {
    return this.#scratch;
  }

  /** Reads an endpoint from memory. */
  endpoint(at: number): Endpoint {
    const [family, port, scope] = this.u32.subarray(at >> 2, (at >> 2) + 3) as unknown as [
      Address["family"],
      number,
      number,
    ];
    const start = at + abi.ENDPOINT_ADDRESS_OFFSET;
    return { address: { family, bytes: this.u8.slice(start, start + 16), scope: "" }, port, scope };
  }

  /** Writes the payload that a call sends. */
  putStaging(data: Uint8Array): void {
    this.#check();
    this.u8.set(data, this.#word(abi.CONTROL_STAGING)); // the area moves when it grows
  }

  // --- TCP ------------------------------------------------------------------------------------------------------

  /**
   * Hands over data of at most STAGING_CAPACITY bytes, and returns how many were taken.
   *
   * @param now the time, if data may leave at once, see `sentAtOnce`; 0 leaves all to `poll`.
   * @throws NetworkError `ENOTCONN` where the connection is not open for writing.
   */
  tcpSend(handle: number, data: Uint8Array, now: number): number {
    this.putStaging(data);
    const taken = this.raw("tcp_send", now, handle, data.length);
    if (taken < 0) throw errorFor(taken, "send");
    this.#readSent();
    this.sendFull = this.#word(abi.CONTROL_SEND_FULL) !== 0;
    return taken;
  }

  /** Reports that the application has read so many bytes, which opens the receive window again; `now` as above. */
  tcpReceived(handle: number, length: number, now: number): void {
    const result = this.raw("tcp_received", now, handle, length);
    if (result < 0) throw errorFor(result, "received");
    this.#readSent();
  }

  #readSent(): void {
    this.sentAtOnce = this.#word(abi.CONTROL_SENT_AT_ONCE);
    if (this.sentAtOnce) this.soon = false;
  }

  /** Begins to connect, and returns the connection's handle. CONNECTED or CLOSED follows as an event. */
  tcpConnect(
    remote: Address,
    port: number,
    scope: number,
    local: Address | undefined,
    localPort: number,
    detail: () => string,
  ): number {
    this.putScratch(remote.bytes, local?.bytes);
    return this.call("tcp_connect", detail, remote.family, port, localPort, scope);
  }

  /** Returns what the stack has counted so far, in the ABI's order. */
  statistics(): Uint32Array {
    this.call("statistics", "statistics");
    return this.u32.slice(this.#statistics, this.#statistics + abi.STATISTIC_WORDS);
  }
}
