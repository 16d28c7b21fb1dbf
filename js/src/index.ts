/** A TCP/IP stack for Node and pages: lwIP as one WebAssembly module without imports. */

export { createStack } from "./stack.js";
export { connect, connectStreams } from "./interfaces/cable.js";
export {
  IcmpError,
  ModuleMismatchError,
  NameResolutionError,
  NetworkError,
  StackClosedError,
  StackTrappedError,
  TcpipError,
} from "./errors.js";
export type * from "./types.js";
