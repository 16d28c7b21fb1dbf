/**
 * Node's `net` over a stack: what a bundler resolves `net` to, so that libraries for servers run in a page.
 *
 * `createNet(stack)` returns the module for one stack. The module's own exports are for programs that import `net` by name:
 * they use the stack that `useStack` has set. It needs `stream` and `events`: Node's, or readable-stream and events from npm.
 */

import { type NetworkStack } from "../types.js";
import { isIP, isIPv4, isIPv6, normalize } from "./arguments.js";
import { Server, type ServerOptions } from "./server.js";
import { type ConnectOptions, Socket, type SocketOptions } from "./socket.js";

export { useStack } from "./socket.js";
export { isIP, isIPv4, isIPv6, Server, Socket, Socket as Stream };
export type { DropArgument, ListenOptions, ServerOptions } from "./server.js";
export type { AddressInfo, ConnectOptions, LookupAnswer, LookupFunction, ReadyState, SocketOptions } from "./socket.js";

export type NetConnectOptions = ConnectOptions & SocketOptions;

export interface Connect {
  (options: NetConnectOptions, listener?: () => void): Socket;
  (port: number | string, host: string, listener?: () => void): Socket;
  (port: number | string, listener?: () => void): Socket;
}

export interface CreateServer {
  (options: ServerOptions, listener?: (socket: Socket) => void): Server;
  (listener?: (socket: Socket) => void): Server;
}

/** What `net` exports. */
export interface Net {
  readonly Socket: typeof Socket;
  readonly Stream: typeof Socket;
  readonly Server: typeof Server;
  readonly connect: Connect;
  readonly createConnection: Connect;
  readonly createServer: CreateServer;
  readonly isIP: typeof isIP;
  readonly isIPv4: typeof isIPv4;
  readonly isIPv6: typeof isIPv6;
  readonly getDefaultAutoSelectFamily: () => boolean;
  readonly setDefaultAutoSelectFamily: (enabled: boolean) => void;
  readonly getDefaultAutoSelectFamilyAttemptTimeout: () => number;
  readonly setDefaultAutoSelectFamilyAttemptTimeout: (milliseconds: number) => void;
}

function moduleOf(SocketOf: typeof Socket, ServerOf: typeof Server): Net {
  const connect = (...args: unknown[]): Socket => {
    const [options] = normalize<NetConnectOptions>(args);
    return new SocketOf(options).connect(...(args as Parameters<Connect>));
  };
  const createServer = (...args: unknown[]): Server =>
    new ServerOf(...(args as [ServerOptions, (socket: Socket) => void]));
  return {
    Socket: SocketOf,
    Stream: SocketOf,
    Server: ServerOf,
    connect: connect as Connect,
    createConnection: connect as Connect,
    createServer: createServer as CreateServer,
    isIP,
    isIPv4,
    isIPv6,
    // The addresses of a name are always tried one after the other, 250 ms apart (RFC 8305, section 5).
    getDefaultAutoSelectFamily: () => true,
    setDefaultAutoSelectFamily: () => undefined,
    getDefaultAutoSelectFamilyAttemptTimeout: () => 250,
    setDefaultAutoSelectFamilyAttemptTimeout: () => undefined,
  };
}

/** Returns Node's `net` over a stack. */
export function createNet(stack: NetworkStack): Net {
  class StackSocket extends Socket {
    protected override get stack(): NetworkStack {
      return stack;
    }
  }
  class StackServer extends Server {
    protected override get stack(): NetworkStack {
      return stack;
    }
    protected override createSocket(options: ServerOptions): Socket {
      return new StackSocket(options);
    }
  }
  Object.defineProperty(StackSocket, "name", { value: "Socket" });
  Object.defineProperty(StackServer, "name", { value: "Server" });
  return moduleOf(StackSocket, StackServer);
}

const net = moduleOf(Socket, Server);
export default net;
export const {
  connect,
  createConnection,
  createServer,
  getDefaultAutoSelectFamily,
  setDefaultAutoSelectFamily,
  getDefaultAutoSelectFamilyAttemptTimeout,
  setDefaultAutoSelectFamilyAttemptTimeout,
} = net;
