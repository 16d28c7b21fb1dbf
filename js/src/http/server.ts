/**
 * An HTTP/1.1 server: one loop for each connection, which reads a request, answers it, and reads the next.
 *
 * Owns its connections, at most `maxConnections`. Requests of one connection are answered one after another.
 */

import { checkInteger, checkTimeout } from "../arguments.js";
import type { TcpConnection, TcpListener, TcpListenerOptions } from "../types.js";
import { type Head, HttpError, Sink, Source, framingOf, listOf, streamOf, valuesOf, within } from "./wire.js";

/** Bytes that are read and dropped: of a body that no handler read, and of a connection that ends with an error. */
const MOST_DROPPED = 262_144;
/** Milliseconds that this takes at most. */
const DROP_TIME = 2000;

/** Answers a request. What it throws is answered by 500. */
export type HttpHandler = (request: Request) => Response | Promise<Response>;

export interface HttpServerOptions {
  /** Own address; if not given, all addresses. */
  host?: string | undefined;
  /** 80 if not given; 0 for a free one: see the server's `port`. */
  port?: number | undefined;
  /** Connections at the same time; 1,024 if not given. What is more is reset. */
  maxConnections?: number | undefined;
  /** Bytes of a request's body; 16 MiB if not given. More is answered by 413. */
  maxBody?: number | undefined;
  /** Milliseconds in which a request's head has to arrive whole; 10,000 if not given. */
  headTimeout?: number | undefined;
  /** Milliseconds that a connection may be without progress; 30,000 if not given. */
  idleTimeout?: number | undefined;
}

export interface HttpServer {
  readonly port: number;
  /** Stops listening, and resets the connections. */
  close(): Promise<void>;
}

const failure = (status: number, text = ""): Response =>
  new Response(text && `${text}\n`, {
    status,
    headers: text ? { "content-type": "text/plain;charset=utf-8", "content-length": `${text.length + 1}` } : {},
  });

/** Reads the request line and what the head says of the target (RFC 9112, section 3). */
function requestOf(head: Head): { method: string; url: string; minor: number } {
  const [, method, target, major, minor] = /^([^ ]+) ([\x21-\x7e]+) HTTP\/(\d)\.(\d)$/.exec(head.start) ?? [];
  if (!method || !target || !/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(method)) {
    throw new HttpError(400, "malformed request line");
  }
  if (major !== "1") throw new HttpError(505, "only HTTP/1.1 is spoken here");
  const hosts = valuesOf(head, "host");
  if (hosts.length > 1 || (!hosts.length && minor !== "0")) throw new HttpError(400, "one host field is needed");
  const host = hosts[0] || "localhost";
  if (!/^(?:[\w.-]+|\[[\da-fA-F:.]+\])(?::\d{1,5})?$/.test(host)) throw new HttpError(400, "malformed host field");
  if (/^(?:CONNECT|TRACE|TRACK)$/i.test(method)) throw new HttpError(501, "this method is not implemented");
  const url = target.startsWith("/") ? `http://${host}${target}` : target;
  if (!/^http:\/\/[^/@]+(?:[/?]|$)/i.test(url) || !URL.canParse(url)) throw new HttpError(400, "malformed target");
  return { method, url, minor: Number(minor) };
}

class Server implements HttpServer {
  readonly port: number;
  readonly #listener: TcpListener;
  readonly #handler: HttpHandler;
  readonly #connections = new Set<TcpConnection>();
  readonly #limits;

  constructor(listener: TcpListener, handler: HttpHandler, options: HttpServerOptions) {
    const { maxConnections = 1024, maxBody = 16 * 1024 * 1024, headTimeout = 10_000, idleTimeout = 30_000 } = options;
    this.#limits = { maxConnections, maxBody, headTimeout, idleTimeout };
    this.#listener = listener;
    this.#handler = handler;
    this.port = listener.port;
    void this.#run().catch(() => undefined); // the stack ended
  }

  async #run(): Promise<void> {
    for await (const connection of this.#listener) {
      if (this.#connections.size >= this.#limits.maxConnections) {
        connection.abort();
        continue;
      }
      this.#connections.add(connection);
      this.#serve(connection)
        .catch(() => connection.abort()) // the peer is gone, or too slow
        .finally(() => this.#connections.delete(connection));
    }
  }

  async #serve(connection: TcpConnection): Promise<void> {
    const { idleTimeout, headTimeout } = this.#limits;
    const source = new Source(connection.readable, idleTimeout);
    const sink = new Sink(connection.writable, idleTimeout);
    try {
      for (;;) {
        if (!source.buffer.length) {
          // Between requests: a peer that is silent is owed no answer.
          const more = await within(source.more(), idleTimeout).catch(() => false);
          if (!more) break;
        }
        if (!(await this.#exchange(source, sink, await source.head(headTimeout)))) break;
      }
    } catch (error) {
      if (!(error instanceof HttpError)) throw error;
      await this.#answer(sink, failure(error.status, error.message), "GET", 1, true);
    }
    await sink.end();
    // A close with unread data would reset the connection, and the answer could be lost (RFC 9112, section 9.6).
    await source.drop(MOST_DROPPED, DROP_TIME).catch(() => undefined);
    await connection.close();
  }

  /** Answers one request, and returns whether the connection is of use for another. Throws only where no answer began. */
  async #exchange(source: Source, sink: Sink, head: Head): Promise<boolean> {
    const { method, url, minor } = requestOf(head);
    const framing = framingOf(head, minor, 0);
    const { maxBody } = this.#limits;
    if (typeof framing === "number" && framing > maxBody) {
      throw new HttpError(413, `the body has more than ${maxBody} bytes`);
    }
    const expected = listOf(head, "expect");
    if (expected.some((member) => member !== "100-continue")) throw new HttpError(417, "unknown expectation");
    const headers = new Headers();
    for (const [name, value] of head.fields) headers.append(name, value);

    const body = source.body(framing, maxBody);
    let problem: unknown;
    let read = framing === 0;
    const gone = new AbortController();
    const begin = async (): Promise<void> => {
      if (expected.length && minor) await sink.head("HTTP/1.1 100 Continue", []);
    };
    const ended = (error?: unknown): void => {
      problem ??= error;
      read = true;
    };
    const bare = framing === 0 || /^(?:GET|HEAD)$/i.test(method);
    const stream = bare ? undefined : streamOf(body, ended, begin);
    const init: RequestInit & { duplex: "half" } = { method, headers, signal: gone.signal, duplex: "half" };
    if (stream) init.body = stream;
    let response: Response;
    try {
      response = await this.#handler(new Request(url, init));
      if (!(response instanceof Response)) throw new TypeError("a handler must return a Response");
      if (response.bodyUsed) throw new TypeError("the response's body has been used");
    } catch (error) {
      if (problem instanceof HttpError) throw problem;
      console.error(`the handler failed for ${method} ${url}:`, error);
      response = failure(500, "internal error");
    }
    let last =
      !minor ||
      listOf(head, "connection").includes("close") ||
      /\bclose\b/i.test(response.headers.get("connection") ?? "");
    // A client that waits for 100 sends no body now, or does: what follows is ambiguous.
    if (!read && expected.length) last = true;
    try {
      await this.#answer(sink, response, method, minor, last || problem !== undefined);
    } catch (error) {
      gone.abort(error);
      if (error instanceof HttpError) throw new Error("no progress", { cause: error });
      throw error;
    }
    if (last || problem !== undefined) return false;
    if (!read) {
      // No handler reads it any more.
      let dropped = 0;
      if (stream?.locked) return false;
      for await (const bytes of body) if ((dropped += bytes.length) > MOST_DROPPED) return false;
    }
    return true;
  }

  async #answer(sink: Sink, response: Response, method: string, minor: number, last: boolean): Promise<void> {
    const { status, statusText, body } = response;
    const headers = new Headers(response.headers);
    const given = headers.get("content-length");
    for (const name of ["transfer-encoding", "connection", "keep-alive", "upgrade"]) headers.delete(name);
    if (given !== null && !/^\d{1,15}$/.test(given)) headers.delete("content-length");
    if (!headers.has("date")) headers.set("date", new Date().toUTCString());
    const bodiless = status === 204 || status === 304;
    const length = headers.get("content-length");
    const framing = length !== null ? Number(length) : !body ? 0 : minor ? "chunked" : "close";
    if (bodiless) headers.delete("content-length");
    else if (framing === "chunked") headers.set("transfer-encoding", "chunked");
    else if (typeof framing === "number") headers.set("content-length", `${body || method === "HEAD" ? framing : 0}`);
    if (last) headers.set("connection", "close");
    await sink.head(`HTTP/1.1 ${status} ${statusText}`, headers);
    if (bodiless || method === "HEAD") void body?.cancel().catch(() => undefined);
    else if (body) await sink.body(body, framing);
  }

  async close(): Promise<void> {
    await this.#listener.close();
    for (const connection of this.#connections) connection.abort();
  }
}

/** Serves HTTP by a stack. */
export async function serveHttp(
  listen: (options: TcpListenerOptions) => Promise<TcpListener>,
  handler: HttpHandler,
  options: HttpServerOptions,
): Promise<HttpServer> {
  if (typeof handler !== "function") throw new TypeError("handler must be a function");
  const { host, port = 80, maxConnections = 1024, maxBody = 0, headTimeout = 0, idleTimeout = 0 } = options;
  checkInteger("maxConnections", maxConnections, 1, 65_536);
  checkInteger("maxBody", maxBody, 0, Number.MAX_SAFE_INTEGER);
  checkTimeout(headTimeout);
  checkTimeout(idleTimeout);
  return new Server(await listen({ port, ...(host !== undefined && { host }) }), handler, options);
}
