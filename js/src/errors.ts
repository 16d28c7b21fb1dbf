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

/** Base class of everything that a stack throws for reasons of the network. */
export class TcpipError extends Error {
  override name = "TcpipError";
  /** Why, by the name that Node's sockets use, such as `ECONNREFUSED`. */
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A call failed. */
export class NetworkError extends TcpipError {
  override name = "NetworkError";
}

/** An ICMP or ICMPv6 message reports why a packet did not arrive. */
export class IcmpError extends NetworkError {
  override name = "IcmpError";
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
  override name = "NameResolutionError";
}

/** The stack was closed. */
export class StackClosedError extends TcpipError {
  override name = "StackClosedError";
  constructor() {
    super("ECONNABORTED", "the stack was closed");
  }
}

/** The stack's module trapped. Other stacks go on. */
export class StackTrappedError extends TcpipError {
  override name = "StackTrappedError";
  constructor(cause: unknown) {
    super("EIO", `the stack's module trapped: ${cause}`, { cause });
  }
}

/** The module is not the one that this package was made for. */
export class ModuleMismatchError extends TcpipError {
  override name = "ModuleMismatchError";
}

// In the order of the ABI's errors, from -1 down.
const TEXTS =
  "EBADF it has ended,ENOBUFS no memory left,ENETUNREACH network is unreachable,EADDRINUSE address in use," +
  "EADDRNOTAVAIL address not available,ECONNREFUSED connection refused,ECONNRESET connection reset by peer," +
  "ETIMEDOUT timed out,ENOTCONN not connected,EINVAL invalid argument,ENOSPC too many,EHOSTUNREACH host is unreachable," +
  "EAGAIN no room now,EACCES not permitted,EMSGSIZE message too long,EEXIST it exists,ESRCH not found";

/** Returns the error for an error code of the ABI. */
export function errorFor(number: number, detail: string): NetworkError {
  const [code, ...text] = (TEXTS.split(",")[-1 - number] ?? `EIO error ${number}`).split(" ");
  return new NetworkError(code!, `${text.join(" ")}: ${detail}`);
}
