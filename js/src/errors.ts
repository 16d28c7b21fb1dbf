/**
 * The package's errors: one tree, whose leaves carry the code that Node's own sockets would have.
 *
 *     TcpipError                    everything that a stack throws for reasons of the network
 *     ├── NetworkError              a call failed; `code` says why
 *     │   └── IcmpError             a router or host reports it by ICMP
 *     ├── NameResolutionError       a name was not resolved
 *     ├── StackClosedError          the stack was closed
 *     ├── StackTrappedError         the stack's module trapped; other stacks go on
 *     └── ModuleMismatchError       the module does not fit this package
 *
 * Wrong arguments throw TypeError and RangeError.
 */

import * as abi from "./abi.js";

/** Base class of everything that a stack throws for reasons of the network. */
export class TcpipError extends Error {
  /** Why, by the name that Node's sockets use, such as `ECONNREFUSED`. */
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.name = new.target.title;
  }

  /** The class's name, which survives minification. */
  protected static readonly title: string = "TcpipError";
}

/** A call failed. */
export class NetworkError extends TcpipError {
  protected static override readonly title: string = "NetworkError";
}

/** An ICMP or ICMPv6 message reports why a packet did not arrive. */
export class IcmpError extends NetworkError {
  protected static override readonly title: string = "IcmpError";
  /** Address of the router or host that sent the message. */
  readonly reporter: string;
  /** The message's type (RFC 792, RFC 4443). */
  readonly icmpType: number;
  /** The message's code. */
  readonly icmpCode: number;

  constructor(code: string, message: string, reporter: string, icmpType: number, icmpCode: number) {
    super(code, message);
    this.reporter = reporter;
    this.icmpType = icmpType;
    this.icmpCode = icmpCode;
  }
}

/** A name has no address: `ENOTFOUND`; no name server answered: `EAI_AGAIN`; it is malformed: `EINVAL`. */
export class NameResolutionError extends TcpipError {
  protected static override readonly title: string = "NameResolutionError";
}

/** The stack was closed. */
export class StackClosedError extends TcpipError {
  protected static override readonly title: string = "StackClosedError";
  constructor() {
    super("ECONNABORTED", "the stack was closed");
  }
}

/** The stack's module trapped. Other stacks go on. */
export class StackTrappedError extends TcpipError {
  protected static override readonly title: string = "StackTrappedError";
  constructor(cause: unknown) {
    super("EIO", `the stack's module trapped: ${cause}`, { cause });
  }
}

/** The module is not the one that this package was made for. */
export class ModuleMismatchError extends TcpipError {
  protected static override readonly title: string = "ModuleMismatchError";
}

const TEXTS: Record<number, [code: string, text: string]> = {
  [abi.ERROR_BAD_HANDLE]: ["EBADF", "it has ended"],
  [abi.ERROR_NO_MEMORY]: ["ENOBUFS", "no memory left"],
  [abi.ERROR_NO_ROUTE]: ["ENETUNREACH", "network is unreachable"],
  [abi.ERROR_ADDRESS_IN_USE]: ["EADDRINUSE", "address in use"],
  [abi.ERROR_ADDRESS_NOT_AVAILABLE]: ["EADDRNOTAVAIL", "address not available"],
  [abi.ERROR_REFUSED]: ["ECONNREFUSED", "connection refused"],
  [abi.ERROR_RESET]: ["ECONNRESET", "connection reset by peer"],
  [abi.ERROR_TIMED_OUT]: ["ETIMEDOUT", "timed out"],
  [abi.ERROR_NOT_CONNECTED]: ["ENOTCONN", "not connected"],
  [abi.ERROR_INVALID]: ["EINVAL", "invalid argument"],
  [abi.ERROR_LIMIT]: ["ENOSPC", "too many"],
  [abi.ERROR_HOST_UNREACHABLE]: ["EHOSTUNREACH", "host is unreachable"],
  [abi.ERROR_NO_ROOM]: ["EAGAIN", "no room now"],
  [abi.ERROR_NOT_PERMITTED]: ["EACCES", "not permitted"],
  [abi.ERROR_TOO_LONG]: ["EMSGSIZE", "message too long"],
  [abi.ERROR_EXISTS]: ["EEXIST", "it exists"],
  [abi.ERROR_NOT_FOUND]: ["ESRCH", "not found"],
};

/** Returns the error for an error code of the ABI. */
export function errorFor(number: number, detail: string): NetworkError {
  const [code, text] = TEXTS[number] ?? ["EIO", `error ${number}`];
  return new NetworkError(code, `${text}: ${detail}`);
}
