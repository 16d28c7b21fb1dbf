/** The forms in which Node's net takes its arguments, and text that is an address. */

import { parseAddress } from "../addresses.js";
import { coded } from "./errors.js";

/** 4 or 6 for the text of an address, else 0. */
export function isIP(input: string): 0 | 4 | 6 {
  const text = String(input);
  return parseAddress(text) ? (text.includes(":") ? 6 : 4) : 0;
}

export const isIPv4 = (input: string): boolean => isIP(input) === 4;
export const isIPv6 = (input: string): boolean => isIP(input) === 6;

export const familyOf = (address: string): "IPv4" | "IPv6" => (address.includes(":") ? "IPv6" : "IPv4");

/** @throws RangeError with the code ERR_SOCKET_BAD_PORT, TypeError for anything but a number or its text. */
export function toPort(port: unknown, name = "options.port"): number {
  if (typeof port !== "number" && typeof port !== "string") {
    throw coded(new TypeError(`${name} must be a number or text, not ${typeof port}`), "ERR_INVALID_ARG_TYPE");
  }
  const number = typeof port === "string" && !port.trim() ? NaN : Number(port);
  if (!Number.isInteger(number) || number < 0 || number > 65535) {
    throw coded(new RangeError(`${name} must be 0 to 65535, not ${port}`), "ERR_SOCKET_BAD_PORT");
  }
  return number;
}

const isPort = (value: unknown): value is number | string =>
  typeof value === "number" || (typeof value === "string" && value.trim() !== "" && Number(value) >= 0);

export type Listener = (...args: never[]) => void;

/** Returns the options of `(options, …)`, `(port, host, …)` or `(path, …)`, and the callback at their end. */
export function normalize<T extends object>(
  args: readonly unknown[],
): [options: T & { path?: unknown }, rest: unknown[], listener: (() => void) | undefined] {
  const given = [...args];
  const last = given.at(-1);
  const listener = typeof last === "function" ? (given.pop() as () => void) : undefined;
  const [first, ...rest] = given;
  if (typeof first === "object" && first !== null) return [{ ...(first as T & { path?: unknown }) }, rest, listener];
  if (first === undefined || first === null || isPort(first)) {
    const host = typeof rest[0] === "string" ? rest.shift() : undefined;
    return [{ port: first ?? undefined, host } as unknown as T & { path?: unknown }, rest, listener];
  }
  return [{ path: first } as T & { path?: unknown }, rest, listener];
}

/** @throws Error for a path: a stack has no Unix sockets. */
export function refusePath(path: unknown): void {
  if (path !== undefined && path !== null)
    throw coded(new Error(`a stack has no local sockets: ${String(path)}`), "ERR_FEATURE_UNAVAILABLE_ON_PLATFORM");
}
