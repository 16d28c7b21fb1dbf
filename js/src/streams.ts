/**
 * What the streams of interfaces and sockets have in common: a bounded queue with a readable side, and iteration.
 *
 * Streams have a highWaterMark of 0 and a queue of their own: what is read is what the application has asked for, which
 * is what opens windows and makes room. The end of a stream is handed out as data is, when it is read.
 */

import { NetworkError } from "./errors.js";
import type { ConnectStreamsOptions, DuplexStream, Link } from "./types.js";

/** Returns the error of a stream whose owner was closed. Its stack would be ours, and costs more than all else. */
export function closedError(what: string): NetworkError {
  const traces = Error as { stackTraceLimit?: number };
  const limit = traces.stackTraceLimit;
  traces.stackTraceLimit = 0;
  const error = new NetworkError("ECONNABORTED", `${what} closed`);
  if (limit !== undefined) traces.stackTraceLimit = limit;
  return error;
}

/** A queue of objects with a readable side, bounded in bytes. */
export class Inbox<T> {
  readonly readable: ReadableStream<T>;
  /** Bytes that wait. */
  size = 0;
  /** Whether it was cancelled, closed or failed: what is pushed is forgotten. */
  ended = false;

  readonly #most: number;
  #items: [item: T, size: number][] = [];
  #controller!: ReadableStreamDefaultController<T>;
  #wanted = false;

  /**
   * @param most bytes that wait at most, unless it is one object.
   * @param taken called after one was read.
   * @param cancelled called when the reader gives up.
   */
  constructor(most: number, taken?: () => void, cancelled?: () => void) {
    this.#most = most;
    this.readable = new ReadableStream<T>(
      {
        start: (controller) => void (this.#controller = controller),
        pull: () => {
          const next = this.#items.shift();
          this.#wanted = !next;
          if (!next) {
            if (this.ended) this.#controller.close();
            return;
          }
          this.size -= next[1];
          this.#controller.enqueue(next[0]);
          taken?.();
        },
        cancel: () => {
          this.ended = true;
          this.#items = [];
          this.size = 0;
          cancelled?.();
        },
      },
      { highWaterMark: 0 },
    );
  }

  /** Takes an object of so many bytes, or returns false where there is no room. */
  push(item: T, size: number): boolean {
    if (this.ended) return true;
    if (this.#wanted) {
      this.#wanted = false;
      this.#controller.enqueue(item);
      return true;
    }
    if (this.size + size > this.#most && this.#items.length) return false;
    this.#items.push([item, size]);
    this.size += size;
    return true;
  }

  /** Ends the stream. With an error, what waits is forgotten; without, it can still be read. */
  end(error?: Error): void {
    if (this.ended) return;
    this.ended = true;
    if (error) {
      this.#items = [];
      this.#controller.error(error);
    } else if (this.#wanted || !this.#items.length) this.#controller.close();
  }
}

/**
 * Locks a stream and iterates over it. Breaking off cancels the stream.
 *
 * @throws Error 'readable stream already locked'.
 */
export function fromReadable<T>(readable: ReadableStream<T>): AsyncIterableIterator<T> {
  if (readable.locked) throw new TypeError("readable stream already locked");
  return readable.values();
}

function transformed(
  readable: ReadableStream<Uint8Array>,
  transform: ((chunk: Uint8Array) => Uint8Array) | undefined,
): ReadableStream<Uint8Array> {
  if (!transform) return readable;
  return readable.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        let changed: Uint8Array;
        try {
          changed = transform(chunk);
        } catch (error) {
          console.warn("transform failed:", error);
          return;
        }
        controller.enqueue(changed);
      },
    }),
  );
}

/** Pipes each stream's `readable` to the other's `writable`, until one ends or the link is closed. */
export function pipeStreams(
  a: DuplexStream<Uint8Array>,
  b: DuplexStream<Uint8Array>,
  { transformAtoB, transformBtoA }: ConnectStreamsOptions,
): Link {
  const end = new AbortController();
  const close = (): void => end.abort();
  const pipe = (from: ReadableStream<Uint8Array>, to: WritableStream<Uint8Array>): void =>
    void from.pipeTo(to, { signal: end.signal }).catch(close);
  pipe(transformed(a.readable, transformAtoB), b.writable);
  pipe(transformed(b.readable, transformBtoA), a.writable);
  return { close };
}
