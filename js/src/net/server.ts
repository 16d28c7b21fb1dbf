/**
 * `net.Server`: an EventEmitter over a stack's listener.
 *
 * Owns the connections that it has accepted: 'close' is emitted when the listener and all of them have ended.
 */

import { EventEmitter } from "events";
import { type NetworkStack, type TcpConnection, type TcpListener } from "../types.js";
import { familyOf, normalize, refusePath, toPort } from "./arguments.js";
import { coded, systemError } from "./errors.js";
import { type AddressInfo, adopt, Socket, usedStack } from "./socket.js";

/** Connections that may wait to be accepted, as Node has it. */
const BACKLOG = 511;

export interface ServerOptions {
  /** Of the sockets: whether their writable side stays open when the peer has ended. */
  allowHalfOpen?: boolean | undefined;
  /** Whether sockets read nothing until they are resumed. */
  pauseOnConnect?: boolean | undefined;
  noDelay?: boolean | undefined;
  keepAlive?: boolean | undefined;
  /** Milliseconds. */
  keepAliveInitialDelay?: number | undefined;
  highWaterMark?: number | undefined;
}

export interface ListenOptions {
  /** 0, or not given, for a free one. */
  port?: number | string | undefined;
  /** Own address or its name; if not given, all addresses of both families. */
  host?: string | undefined;
  backlog?: number | undefined;
  ipv6Only?: boolean | undefined;
  /** Closes the server when it is aborted. */
  signal?: AbortSignal | undefined;
}

export interface DropArgument {
  localAddress: string;
  localPort: number;
  localFamily: string;
  remoteAddress: string;
  remotePort: number;
  remoteFamily: string;
}

export class Server extends EventEmitter {
  /** Connections above which further ones are closed at once, which 'drop' reports; not limited if undefined. */
  maxConnections: number | undefined;

  readonly #options: ServerOptions;
  readonly #sockets = new Set<Socket>();
  #listener: TcpListener | undefined;
  #host = "::";
  #starting: object | undefined;

  constructor(options?: ServerOptions | ((socket: Socket) => void), listener?: (socket: Socket) => void) {
    super();
    if (typeof options === "function") [options, listener] = [{}, options];
    this.#options = options ?? {};
    if (listener) this.on("connection", listener);
  }

  /** The stack that it listens on. */
  protected get stack(): NetworkStack {
    return usedStack();
  }

  /** Returns a socket for a connection. */
  protected createSocket(options: ServerOptions): Socket {
    return new Socket(options);
  }

  get listening(): boolean {
    return this.#listener !== undefined;
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#sockets.size;
  }

  listen(options: ListenOptions, listener?: () => void): this;
  listen(port?: number | string, host?: string, backlog?: number, listener?: () => void): this;
  listen(port: number | string, host: string, listener?: () => void): this;
  listen(port: number | string, backlog: number, listener?: () => void): this;
  listen(port: number | string, listener?: () => void): this;
  listen(listener: () => void): this;
  listen(...args: unknown[]): this {
    const [options, rest, listener] = normalize<ListenOptions>(args);
    refusePath(options.path);
    const port = toPort(options.port ?? 0);
    const backlog =
      options.backlog || rest.find((value): value is number => typeof value === "number" && value > 0) || BACKLOG;
    const { stack } = this;
    if (this.#listener || this.#starting)
      throw coded(new Error("the server listens already"), "ERR_SERVER_ALREADY_LISTEN");
    if (listener) this.once("listening", listener);
    const { signal, ipv6Only } = options;
    this.#host = options.host || "::";
    const host = this.#host === "::" && !ipv6Only ? undefined : this.#host;
    const starting = (this.#starting = {});
    if (signal) {
      const close = (): void => void this.close();
      if (signal.aborted) queueMicrotask(close);
      else signal.addEventListener("abort", close, { once: true });
    }
    stack.listenTcp({ port, backlog: Math.min(backlog, 4096), ...(host !== undefined && { host }) }).then(
      (made) => {
        if (this.#starting !== starting) {
          void made.close();
          return;
        }
        this.#starting = undefined;
        this.#listener = made;
        this.emit("listening");
        void this.#serve(made);
      },
      (error: unknown) => {
        if (this.#starting !== starting) return;
        this.#starting = undefined;
        this.emit("error", systemError(error, "listen", this.#host, port));
      },
    );
    return this;
  }

  async #serve(listener: TcpListener): Promise<void> {
    for (;;) {
      let connection: TcpConnection;
      try {
        connection = await listener.accept();
      } catch (error) {
        if (this.#listener !== listener) return; // closed by the program
        this.#listener = undefined;
        this.#finish();
        if (!(error instanceof Error && error.name === "StackClosedError"))
          this.emit("error", systemError(error, "accept"));
        return;
      }
      this.#accept(connection);
    }
  }

  #accept(connection: TcpConnection): void {
    if (this.maxConnections !== undefined && this.#sockets.size >= this.maxConnections) {
      const { localAddress: local, remoteAddress: remote } = connection;
      void connection.close();
      const dropped: DropArgument = {
        localAddress: local.host,
        localPort: local.port,
        localFamily: familyOf(local.host),
        remoteAddress: remote.host,
        remotePort: remote.port,
        remoteFamily: familyOf(remote.host),
      };
      this.emit("drop", dropped);
      return;
    }
    const { noDelay, keepAlive, keepAliveInitialDelay, pauseOnConnect } = this.#options;
    const socket = this.createSocket(this.#options);
    if (noDelay !== undefined) socket.setNoDelay(noDelay);
    if (keepAlive !== undefined) socket.setKeepAlive(keepAlive, keepAliveInitialDelay);
    this.#sockets.add(socket);
    socket.once("close", () => {
      this.#sockets.delete(socket);
      this.#finish();
    });
    adopt(socket, connection, !!pauseOnConnect);
    this.emit("connection", socket);
  }

  /** Emits 'close' once nothing is left. */
  #finish(): void {
    if (this.#listener || this.#starting || this.#sockets.size) return;
    queueMicrotask(() => this.emit("close"));
  }

  /** Stops listening. Open connections go on; 'close' is emitted, and the callback called, when they have ended. */
  close(callback?: (error?: Error) => void): this {
    const listener = this.#listener;
    if (!listener && !this.#starting) {
      const error = coded(new Error("the server is not running"), "ERR_SERVER_NOT_RUNNING");
      queueMicrotask(() => callback?.(error));
      return this;
    }
    if (callback) this.once("close", () => callback());
    this.#listener = this.#starting = undefined;
    void listener?.close();
    this.#finish();
    return this;
  }

  /** The own address, or null where it does not listen. */
  address(): AddressInfo | null {
    return this.#listener ? { address: this.#host, family: familyOf(this.#host), port: this.#listener.port } : null;
  }

  getConnections(callback: (error: Error | null, count: number) => void): this {
    queueMicrotask(() => callback(null, this.#sockets.size));
    return this;
  }

  /** Does nothing: a listener of a stack holds no event loop by itself. */
  ref(): this {
    return this;
  }

  /** Does nothing, as `ref`. */
  unref(): this {
    return this;
  }
}
