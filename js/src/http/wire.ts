/**
 * HTTP/1.1 as bytes (RFC 9112): heads, framing of bodies, and chunked coding, in both directions.
 *
 * Owns what was read of one connection and not yet used. It is strict: what two parsers could take differently is refused.
 * It knows nothing of requests, responses and handlers.
 */

/** Bytes of a head or of trailers, and the lines of one. */
const MOST_HEAD = 16_384;
const MOST_FIELDS = 100;
/** Bytes of a line with the size of a chunk. */
const MOST_SIZE_LINE = 256;

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** A message that is refused; `status` is a server's answer to it. */
export class HttpError extends Error {
  override name = "HttpError";
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export interface Head {
  /** The request line or status line. */
  start: string;
  fields: [name: string, value: string][];
}

/** How a body ends: after so many bytes, by its last chunk, or with the connection. */
export type Framing = number | "chunked" | "close";

export const latin1 = (bytes: Uint8Array): string => {
  let text = "";
  for (let at = 0; at < bytes.length; at += 4096) text += String.fromCharCode(...bytes.subarray(at, at + 4096));
  return text;
};

export function toLatin1(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** Waits for so many milliseconds at most. @throws HttpError 408. */
export async function within<T>(promise: Promise<T>, milliseconds: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new HttpError(408, "the peer took too long")), milliseconds);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** What one connection receives. */
export class Source {
  /** Bytes that were read and not used. */
  buffer: Uint8Array = new Uint8Array();
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #timeout: number;
  #pending: Promise<boolean> | undefined;

  /** @param timeout milliseconds that each read waits. */
  constructor(readable: ReadableStream<Uint8Array>, timeout: number) {
    this.#reader = readable.getReader();
    this.#timeout = timeout;
  }

  /** Reads more, or returns false at the end. A call that waits already is joined. */
  more(): Promise<boolean> {
    return (this.#pending ??= this.#read().finally(() => (this.#pending = undefined)));
  }

  async #read(): Promise<boolean> {
    const { done, value } = await this.#reader.read();
    if (done) return false;
    if (this.buffer.length) {
      const both = new Uint8Array(this.buffer.length + value.length);
      both.set(this.buffer);
      both.set(value, this.buffer.length);
      this.buffer = both;
    } else {
      this.buffer = value;
    }
    return true;
  }

  #take(count: number): Uint8Array {
    const bytes = this.buffer.subarray(0, count);
    this.buffer = this.buffer.subarray(count);
    return bytes;
  }

  /** Reads a line without its CRLF. A line feed or a carriage return alone is no end of a line. */
  async #line(most: number, until: number, status: number): Promise<string> {
    for (let from = 0; ;) {
      const end = this.buffer.indexOf(10, from);
      if (end > most || (end < 0 && this.buffer.length > most)) throw new HttpError(status, "a line is too long");
      if (end >= 0) {
        const line = latin1(this.#take(end + 1));
        if (!line.endsWith("\r\n")) throw new HttpError(400, "a line does not end with CRLF");
        const text = line.slice(0, -2);
        if (/[\0-\x08\x0a-\x1f\x7f]/.test(text)) throw new HttpError(400, "a line has control characters");
        return text;
      }
      from = this.buffer.length;
      const left = Math.max(0, Math.min(this.#timeout, until - performance.now()));
      if (!(await within(this.more(), left))) throw new HttpError(400, "the connection ended within a message");
    }
  }

  /** Reads lines up to an empty one. */
  async #fields(most: number, until: number): Promise<[string, string][]> {
    const fields: [string, string][] = [];
    for (;;) {
      const line = await this.#line(most, until, 431);
      if (!line) return fields;
      most -= line.length + 2;
      if (fields.length >= MOST_FIELDS) throw new HttpError(431, "too many header fields");
      const colon = line.indexOf(":");
      // Neither folded lines nor white space before the colon (RFC 9112, sections 5.1 and 5.2).
      if (colon < 0 || !TOKEN.test(line.slice(0, colon))) throw new HttpError(400, "malformed header field");
      fields.push([line.slice(0, colon).toLowerCase(), line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, "")]);
    }
  }

  /** Reads a head; the whole of it takes so many milliseconds at most. */
  async head(timeout: number): Promise<Head> {
    const until = performance.now() + timeout;
    const start = await this.#line(MOST_HEAD, until, 431);
    return { start, fields: await this.#fields(MOST_HEAD - start.length, until) };
  }

  /** Yields a body. @throws HttpError where it is malformed, ends early or has more than `most` bytes. */
  async *body(framing: Framing, most: number): AsyncGenerator<Uint8Array> {
    let total = 0;
    const count = (size: number): void => {
      total += size;
      if (total > most) throw new HttpError(413, `the body has more than ${most} bytes`);
    };
    if (framing === "close") {
      while (this.buffer.length || (await within(this.more(), this.#timeout))) {
        count(this.buffer.length);
        yield this.#take(this.buffer.length);
      }
    } else if (framing === "chunked") {
      for (;;) {
        const line = await this.#line(MOST_SIZE_LINE, Infinity, 400);
        // Extensions are ignored (RFC 9112, section 7.1.1).
        const [, digits] = /^([0-9A-Fa-f]{1,8})(?:[ \t]*;.*)?$/.exec(line) ?? [];
        if (digits === undefined) throw new HttpError(400, "malformed size of a chunk");
        const size = parseInt(digits, 16);
        if (!size) break;
        count(size);
        yield* this.#exactly(size);
        if ((await this.#line(2, Infinity, 400)) !== "") throw new HttpError(400, "a chunk is longer than it says");
      }
      await this.#fields(MOST_HEAD, performance.now() + this.#timeout); // trailers, which are dropped
    } else {
      count(framing);
      yield* this.#exactly(framing);
    }
  }

  async *#exactly(size: number): AsyncGenerator<Uint8Array> {
    while (size) {
      if (!this.buffer.length && !(await within(this.more(), this.#timeout))) {
        throw new HttpError(400, "the connection ended within a body");
      }
      const bytes = this.#take(Math.min(size, this.buffer.length));
      size -= bytes.length;
      yield bytes;
    }
  }

  /** Reads and drops, until the peer ends or so many bytes were read. */
  async drop(most: number, milliseconds: number): Promise<void> {
    const until = performance.now() + milliseconds;
    for (let size = this.buffer.length; size <= most; size += this.buffer.length) {
      this.buffer = new Uint8Array();
      if (!(await within(this.more(), Math.max(0, until - performance.now())))) return;
    }
  }
}

/** Returns the values of a field. */
export const valuesOf = (head: Head, name: string): string[] =>
  head.fields.filter(([key]) => key === name).map(([, value]) => value);

/** Returns the members of a list, in lower case. */
export const listOf = (head: Head, name: string): string[] =>
  valuesOf(head, name).flatMap((value) => value.split(",").map((member) => member.trim().toLowerCase()));

/**
 * Returns how the body of a message ends (RFC 9112, section 6.3).
 *
 * @throws HttpError where there are two lengths, or a length and a coding: a peer could see another message in it.
 */
export function framingOf(head: Head, minor: number, otherwise: Framing): Framing {
  const lengths = valuesOf(head, "content-length");
  const codings = valuesOf(head, "transfer-encoding");
  if (codings.length) {
    if (lengths.length) throw new HttpError(400, "a length and a transfer coding");
    if (!minor) throw new HttpError(400, "a transfer coding in HTTP/1.0");
    if (codings.length > 1 || codings[0]!.toLowerCase() !== "chunked") {
      throw new HttpError(501, "a transfer coding other than chunked");
    }
    return "chunked";
  }
  if (!lengths.length) return otherwise;
  if (lengths.length > 1 || !/^\d{1,15}$/.test(lengths[0]!)) throw new HttpError(400, "malformed content-length");
  return Number(lengths[0]);
}

/** What one connection sends. */
export class Sink {
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #timeout: number;

  constructor(writable: WritableStream<Uint8Array>, timeout: number) {
    this.#writer = writable.getWriter();
    this.#writer.closed.catch(() => undefined); // each write reports it
    this.#timeout = timeout;
  }

  write(bytes: Uint8Array): Promise<void> {
    return within(this.#writer.write(bytes), this.#timeout);
  }

  head(start: string, fields: Iterable<[string, string]>): Promise<void> {
    let text = `${start}\r\n`;
    for (const [name, value] of fields) text += `${name}: ${value}\r\n`;
    return this.write(toLatin1(`${text}\r\n`));
  }

  /** Sends a body. @throws RangeError where it has another length than `framing` says. */
  async body(stream: ReadableStream<Uint8Array>, framing: Framing): Promise<void> {
    const reader = stream.getReader();
    let left = typeof framing === "number" ? framing : Infinity;
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        if (!(value instanceof Uint8Array)) throw new TypeError("a body has chunks that are no Uint8Array");
        left -= value.length;
        if (left < 0) throw new RangeError("a body is longer than its content-length");
        if (!value.length) continue;
        if (framing === "chunked") await this.write(toLatin1(`${value.length.toString(16)}\r\n`));
        await this.write(value);
        if (framing === "chunked") await this.write(toLatin1("\r\n"));
      }
      if (left > 0 && left < Infinity) throw new RangeError("a body is shorter than its content-length");
      if (framing === "chunked") await this.write(toLatin1("0\r\n\r\n"));
    } catch (error) {
      reader.cancel(error).catch(() => undefined);
      throw error;
    }
  }

  async end(): Promise<void> {
    await within(this.#writer.close(), this.#timeout);
  }
}

/** Makes a stream of a body. Nothing is read before it is asked for. `done` is called once, with an error or without. */
export function streamOf(
  body: AsyncGenerator<Uint8Array>,
  done: (error?: unknown) => void,
  begin?: () => Promise<void>,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  return new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      async pull(controller) {
        try {
          await begin?.();
          begin = undefined;
          const next = await body.next();
          if (next.done) {
            controller.close();
            done();
          } else {
            controller.enqueue(next.value as Uint8Array<ArrayBuffer>);
          }
        } catch (error) {
          controller.error(error);
          done(error);
        }
      },
      cancel: (reason) => done(reason ?? new Error("cancelled")),
    },
    { highWaterMark: 0 },
  );
}
