/** Errors as Node's net has them: `code`, `errno`, `syscall`, and the peer that they are about. */

/** Linux's numbers, and libuv's for names; other codes have none. */
const NUMBERS: Record<string, number> = {
  EACCES: -13,
  EINVAL: -22,
  EPIPE: -32,
  EADDRINUSE: -98,
  EADDRNOTAVAIL: -99,
  ENETUNREACH: -101,
  ECONNABORTED: -103,
  ECONNRESET: -104,
  ENOBUFS: -105,
  ENOTCONN: -107,
  ETIMEDOUT: -110,
  ECONNREFUSED: -111,
  EHOSTUNREACH: -113,
  EAI_AGAIN: -3001,
  ENOTFOUND: -3008,
};

/** What follows the code in errors of `listen`. */
const TEXTS: Record<string, string> = {
  EADDRINUSE: ": address already in use",
  EADDRNOTAVAIL: ": address not available",
};

export interface SystemError extends Error {
  code: string;
  syscall: string;
  errno?: number;
  address?: string;
  port?: number;
  hostname?: string;
}

/** Returns an error with a code, such as ERR_SERVER_NOT_RUNNING. */
export function coded<T extends Error>(error: T, code: string): T & { code: string } {
  return Object.assign(error, { code });
}

/** Returns a stack's error as the one of a system call; anything that has no code is returned as it is. */
export function systemError(error: unknown, syscall: string, address?: string, port?: number): Error {
  if (!(error instanceof Error)) return new Error(String(error));
  const { code } = error as Partial<SystemError>;
  if (typeof code !== "string") return error;
  const ofName = (code === "ENOTFOUND" || code === "EAI_AGAIN") && address !== undefined;
  const call = ofName ? "getaddrinfo" : syscall;
  const where = address === undefined ? "" : ` ${address}${ofName || port === undefined ? "" : `:${port}`}`;
  const text = call === "listen" ? (TEXTS[code] ?? "") : "";
  const made: Partial<SystemError> = new Error(`${call} ${code}${text}${where}`, { cause: error });
  const errno = NUMBERS[code];
  if (errno !== undefined) made.errno = errno;
  if (ofName) made.hostname = address;
  else if (address !== undefined) Object.assign(made, { address, port });
  return Object.assign(made as Error, { code, syscall: call });
}
