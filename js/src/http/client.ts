/**
 * `fetch` over a stack, by HTTP/1.1.
 *
 * Owns the connections that wait for another request, at most `MOST_IDLE`; one that says anything meanwhile is dropped.
 */

import { NetworkError } from "../errors.js";
import type { TcpConnection, TcpConnectionOptions } from "../types.js";
import { type Framing, type Head, HttpError, Sink, Source, framingOf, listOf, streamOf } from "./wire.js";

const MOST_IDLE = 32;
/** Milliseconds that a connection waits for another request: less than servers do. */
const IDLE_TIME = 4000;
const MOST_REDIRECTS = 20;
const MOST_INTERIM = 10;

interface Line {
  connection: TcpConnection;
  source: Source;
  sink: Sink;
}

interface Message {
  method: string;
  url: URL;
  headers: Headers;
  body: ReadableStream<Uint8Array> | null;
  framing: Framing;
  signal: AbortSignal;
}

/** Returns the length of a body that has one from the start. */
function lengthOf(body: unknown): number | undefined {
  if (typeof body === "string") return new TextEncoder().encode(body).length;
  if (body instanceof URLSearchParams) return new TextEncoder().encode(`${body}`).length;
  if (body instanceof Blob) return body.size;
  if (body instanceof ArrayBuffer || ArrayBuffer.isView(body)) return body.byteLength;
  return undefined;
}

export class Client {
  readonly #connect: (options: TcpConnectionOptions) => Promise<TcpConnection>;
  readonly #timeout: number;
  readonly #maxBody: number;
  readonly #idle = new Map<Line, { key: string; timer: ReturnType<typeof setTimeout> }>();

  constructor(connect: (options: TcpConnectionOptions) => Promise<TcpConnection>, timeout: number, maxBody: number) {
    this.#connect = connect;
    this.#timeout = timeout;
    this.#maxBody = maxBody;
  }

  async fetch(input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> {
    const { body: given, ...rest } = init;
    // The body stays outside of the Request: Firefox has no `Request.body`, and its length would be lost.
    const request = new Request(input, rest);
    if (given != null && /^(?:GET|HEAD)$/.test(request.method)) throw new TypeError(`${request.method} has no body`);
    const headers = new Headers(request.headers);
    for (const [name, value] of new Headers(init.headers)) headers.set(name, value); // also those that a Request drops
    const carrier = given == null ? undefined : new Response(given);
    const type = carrier?.headers.get("content-type");
    if (type && !headers.has("content-type")) headers.set("content-type", type);
    let body = carrier ? carrier.body : request.body;
    let length = given == null ? undefined : lengthOf(given);
    let url = new URL(request.url);
    let { method } = request;
    for (let redirects = 0; ; redirects++) {
      if (url.protocol !== "http:") throw new TypeError(`${url.protocol} is not http:`);
      const framing = body ? (length ?? "chunked") : 0;
      const response = await this.#send({ method, url, headers, body, framing, signal: request.signal });
      const location = response.headers.get("location");
      const { status } = response;
      if (![301, 302, 303, 307, 308].includes(status) || location === null || request.redirect === "manual") {
        Object.defineProperties(response, {
          url: { value: url.href.split("#")[0] },
          redirected: { value: redirects > 0 },
        });
        return response;
      }
      await response.body?.cancel();
      if (request.redirect === "error" || redirects >= MOST_REDIRECTS) throw new TypeError("redirected too often");
      const next = new URL(location, url);
      if (next.origin !== url.origin) for (const name of ["authorization", "cookie", "host"]) headers.delete(name);
      url = next;
      if ((status === 303 && method !== "HEAD") || (status < 303 && method === "POST")) {
        method = "GET";
        body = null;
        for (const name of [...headers.keys()]) if (name.startsWith("content-")) headers.delete(name);
      } else if (body) {
        // Only a body that can be made again is sent again.
        if (length === undefined) throw new TypeError("a streamed body cannot follow a redirect");
        body = new Response(given).body;
      }
    }
  }

  async #send(message: Message): Promise<Response> {
    const { url, signal, body, method } = message;
    signal.throwIfAborted();
    for (const [line, { key }] of this.#idle) {
      if (key !== url.host) continue;
      this.#take(line);
      try {
        return await this.#exchange(line, message);
      } catch (error) {
        // It was closed meanwhile. What has an effect is not sent twice (RFC 9110, section 9.2.2).
        if (signal.aborted || body || !/^(?:GET|HEAD|OPTIONS)$/.test(method)) throw error;
        if (error instanceof HttpError && error.status !== 400) throw error;
      }
      break;
    }
    const host = url.hostname.replace(/^\[|\]$/g, "");
    const options = { host, port: Number(url.port || 80), timeout: this.#timeout, signal };
    const connection = await this.#connect(options);
    const source = new Source(connection.readable, this.#timeout);
    return this.#exchange({ connection, source, sink: new Sink(connection.writable, this.#timeout) }, message);
  }

  async #exchange(line: Line, message: Message): Promise<Response> {
    const { method, url, headers, body, framing, signal } = message;
    const { connection, source, sink } = line;
    const abort = (): void => connection.abort();
    signal.addEventListener("abort", abort);
    let sent = false;
    let failed: unknown;
    const send = async (): Promise<void> => {
      const fields = new Headers(headers);
      for (const name of ["connection", "content-length", "transfer-encoding", "expect", "te", "upgrade"])
        fields.delete(name);
      if (!fields.has("host")) fields.set("host", url.host);
      if (framing === "chunked") fields.set("transfer-encoding", "chunked");
      else if (framing || /^(?:POST|PUT|PATCH)$/.test(method)) fields.set("content-length", `${framing}`);
      await sink.head(`${method} ${url.pathname}${url.search} HTTP/1.1`, fields);
      if (body) await sink.body(body, framing);
      sent = true;
    };
    const done = (error?: unknown): void => {
      signal.removeEventListener("abort", abort);
      if (error !== undefined || !sent) connection.abort();
      else this.#keep(line, url.host);
    };
    const fail = (error: unknown): unknown => {
      done(error);
      if (signal.aborted) return signal.reason as unknown;
      if (failed !== undefined && !(failed instanceof NetworkError)) return failed;
      return error instanceof HttpError && error.status === 408 ? new NetworkError("ETIMEDOUT", error.message) : error;
    };
    send().catch((error: unknown) => {
      failed = error;
      // The peer may have answered before it refused more: only faults of the body end the connection.
      if ((error as { code?: string }).code === undefined) connection.abort();
    });
    try {
      let head: Head;
      let status = 0;
      let minor = 0;
      let text = "";
      for (let interim = 0; ; interim++) {
        head = await source.head(this.#timeout);
        const match = /^HTTP\/1\.(\d) (\d{3})(?: (.*))?$/.exec(head.start);
        if (!match) throw new HttpError(400, "malformed status line");
        minor = Number(match[1]);
        status = Number(match[2]);
        text = match[3] ?? "";
        if (status >= 200) break;
        if (status < 100 || status === 101 || interim >= MOST_INTERIM)
          throw new HttpError(400, "unexpected interim answer");
      }
      if (status > 599) throw new HttpError(400, `status ${status} is unknown`);
      const none = method === "HEAD" || [204, 304].includes(status);
      const ends = framingOf(head, minor, "close");
      const replyHeaders = new Headers();
      for (const [name, value] of head.fields) replyHeaders.append(name, value);
      const last = !minor || ends === "close" || listOf(head, "connection").includes("close");
      const finish = (error?: unknown): void => done(error ?? (last && !none ? new Error("it closes") : undefined));
      const init = { status, statusText: text, headers: replyHeaders };
      if (none || status === 205 || ends === 0) {
        const keeps = !listOf(head, "connection").includes("close") && minor && status !== 205;
        done(keeps ? undefined : new Error("it closes"));
        return new Response(null, init);
      }
      const bytes = source.body(ends, this.#maxBody);
      const reply = (async function* () {
        try {
          yield* bytes;
        } catch (error) {
          throw fail(error);
        }
      })();
      return new Response(streamOf(reply, finish), init);
    } catch (error) {
      throw fail(error);
    }
  }

  #keep(line: Line, key: string): void {
    const { connection, source } = line;
    if (source.buffer.length || this.#idle.size >= MOST_IDLE) {
      connection.abort();
      return;
    }
    const drop = (): void => {
      if (this.#take(line)) connection.abort();
    };
    this.#idle.set(line, { key, timer: setTimeout(drop, IDLE_TIME) });
    source.more().then(drop, drop);
  }

  /** Takes a connection out of those that wait. */
  #take(line: Line): boolean {
    clearTimeout(this.#idle.get(line)?.timer);
    return this.#idle.delete(line);
  }

  close(): void {
    for (const line of this.#idle.keys()) {
      this.#take(line);
      line.connection.abort();
    }
  }
}
