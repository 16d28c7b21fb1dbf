/** HTTP/1.1 over a stack: `fetch`, and servers whose handlers take a Request and return a Response. */

import { checkInteger, checkTimeout } from "../arguments.js";
import type { TcpConnection, TcpConnectionOptions, TcpListener, TcpListenerOptions } from "../types.js";
import { Client } from "./client.js";
import { type HttpHandler, type HttpServer, type HttpServerOptions, serveHttp } from "./server.js";

export type { HttpHandler, HttpServer, HttpServerOptions } from "./server.js";
export { HttpError } from "./wire.js";

/** A stack's `tcp`, or anything else that makes such connections. */
export interface HttpTransport {
  connect(options: TcpConnectionOptions): Promise<TcpConnection>;
  listen(options: TcpListenerOptions): Promise<TcpListener>;
}

export interface CreateHttpOptions {
  /** Milliseconds that `fetch` waits for progress; 30,000 if not given. */
  timeout?: number | undefined;
  /** Bytes of a response's body; 1 GiB if not given. They are read only as the program reads them. */
  maxBody?: number | undefined;
}

export interface Http {
  /**
   * As the platform's `fetch`, for http: alone.
   *
   * @throws TypeError for wrong arguments, NetworkError where the network fails, HttpError for a malformed response.
   */
  fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response>;
  serve(handler: HttpHandler): Promise<HttpServer>;
  serve(options: HttpServerOptions, handler: HttpHandler): Promise<HttpServer>;
  serve(options: HttpServerOptions & { handler: HttpHandler }): Promise<HttpServer>;
  /** Closes the connections that wait for another request of `fetch`. */
  close(): void;
}

/** Makes HTTP of a stack, or of its `tcp`. */
export async function createHttp(
  stack: HttpTransport | { readonly tcp: HttpTransport },
  { timeout = 30_000, maxBody = 2 ** 30 }: CreateHttpOptions = {},
): Promise<Http> {
  checkTimeout(timeout);
  checkInteger("maxBody", maxBody, 0, Number.MAX_SAFE_INTEGER);
  const transport = "tcp" in stack ? stack.tcp : stack;
  const client = new Client((options) => transport.connect(options), timeout, maxBody);
  return {
    fetch: (input, init) => client.fetch(input, init),
    serve(first: HttpHandler | (HttpServerOptions & { handler?: HttpHandler }), second?: HttpHandler) {
      const options = typeof first === "function" ? {} : first;
      const handler = typeof first === "function" ? first : (second ?? first.handler!);
      return serveHttp((listening) => transport.listen(listening), handler, options);
    },
    close: () => client.close(),
  };
}
