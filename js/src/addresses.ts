/** IP and MAC addresses: their bytes and their text. Nothing here knows an interface; a scope stays text. */

import { FAMILY_IPV4, FAMILY_IPV6 } from "./abi.js";
import { wrongType } from "./arguments.js";

/** An IP address: 16 bytes in network order, an IPv4 address in the first four. */
export interface Address {
  readonly family: typeof FAMILY_IPV4 | typeof FAMILY_IPV6;
  readonly bytes: Uint8Array;
  /** What follows the percent sign of a link-local address (RFC 4007), or "". */
  readonly scope: string;
}

/** An address with the length of its network's prefix in bits. */
export interface Cidr {
  readonly address: Address;
  readonly prefix: number;
}

/** Makes an address of its bytes, 4 or 16. */
export function makeAddress(bytes: ArrayLike<number>, scope = ""): Address {
  const padded = new Uint8Array(16);
  padded.set(bytes);
  return { family: bytes.length === 4 ? FAMILY_IPV4 : FAMILY_IPV6, bytes: padded, scope };
}

export const isIPv4 = ({ address }: { readonly address: Address }): boolean => address.family === FAMILY_IPV4;

const DECIMAL = /^(0|[1-9]\d{0,2})$/;

function readIPv4(text: string): number[] | undefined {
  const parts = text.split(".");
  return parts.length === 4 && parts.every((part) => DECIMAL.test(part) && +part < 256) ? parts.map(Number) : undefined;
}

/** Returns the text of an IPv6 address as RFC 5952 has it, which is what the platform's URLs do, too. */
function canonical(text: string): string | undefined {
  try {
    return new URL(`http://[${text}]`).hostname.slice(1, -1);
  } catch {
    return undefined;
  }
}

function readIPv6(text: string): number[] | undefined {
  const [head, tail] = (/^[\da-f:.]+$/i.test(text) && canonical(text)?.split("::")) || [];
  if (head === undefined) return undefined;
  const groups = (half: string | undefined): string[] => (half ? half.split(":") : []);
  const [first, last] = [groups(head), groups(tail)];
  const all = [...first, ...Array<string>(8 - first.length - last.length).fill("0"), ...last];
  return all.flatMap((group) => [parseInt(group, 16) >> 8, parseInt(group, 16) & 255]);
}

/** Returns the address that a text means, or undefined for text that can only be a name. */
export function parseAddress(text: string): Address | undefined {
  const percent = text.indexOf("%");
  const plain = percent < 0 ? text : text.slice(0, percent);
  const four = percent < 0 ? readIPv4(plain) : undefined;
  const numbers = four ?? (plain.includes(":") ? readIPv6(plain) : undefined);
  if (!numbers) return undefined;
  // An IPv4-mapped address is the IPv4 address (RFC 4291, section 2.5.5.2).
  if (!four && numbers.every((byte, i) => i > 11 || byte === (i < 10 ? 0 : 255))) return makeAddress(numbers.slice(12));
  return makeAddress(numbers, percent < 0 ? "" : text.slice(percent + 1));
}

/** Returns the text of an address. */
export function formatAddress({ family, bytes }: Pick<Address, "family" | "bytes">): string {
  if (family === FAMILY_IPV4) return bytes.subarray(0, 4).join(".");
  return canonical(
    Array.from({ length: 8 }, (_, i) => ((bytes[2 * i]! << 8) | bytes[2 * i + 1]!).toString(16)).join(":"),
  )!;
}

const mask = (prefix: number): Uint8Array =>
  new Uint8Array(16).map((_, i) => (0xff00 >> Math.min(8, Math.max(0, prefix - 8 * i))) & 255);

/** Returns the text of a netmask. */
export const formatMask = ({ address: { family }, prefix }: Cidr): string =>
  formatAddress({ family, bytes: mask(prefix) });

export const isMulticast = ({ family, bytes }: Address): boolean =>
  family === FAMILY_IPV4 ? bytes[0]! >> 4 === 14 : bytes[0] === 255;

export const isUnspecified = ({ bytes }: Address): boolean => !bytes.some(Boolean);

/**
 * Returns the address and the prefix of text such as "192.168.1.1/24"; without a prefix, it is that of one host.
 *
 * @throws RangeError for malformed text, TypeError for anything but text.
 */
export function parseCidr(name: string, text: string): Cidr {
  if (typeof text !== "string") throw wrongType(name, "text", text);
  const [host, bits, more] = text.split("/");
  const address = parseAddress(host!);
  const most = address?.family === FAMILY_IPV4 ? 32 : 128;
  const prefix = bits === undefined ? most : DECIMAL.test(bits) ? +bits : -1;
  if (!address || address.scope || more !== undefined || prefix < 0 || prefix > most) {
    throw new RangeError(`${name}: '${text}' is no address with a prefix such as '192.168.1.1/24'`);
  }
  return { address, prefix };
}

/** Returns what `parseCidr` does, for a network. @throws RangeError where the address has bits behind the prefix. */
export function parseNetwork(name: string, text: string): Cidr {
  const network = parseCidr(name, text);
  const ones = mask(network.prefix);
  if (network.address.bytes.some((byte, i) => byte & ~ones[i]!))
    throw new RangeError(`${name}: '${text}' has host bits`);
  return network;
}

/** Returns the six bytes of a MAC address such as "02:00:00:00:00:01". */
export function parseMac(text: string): Uint8Array {
  // Neither all zeros nor the broadcast address.
  if (!/^(?!(00[:-]?){6}|(ff[:-]?){6})[\da-f]{2}([:-][\da-f]{2}){5}$/i.test(text)) {
    throw new RangeError(`mac: '${text}' is no address of a station such as '02:00:00:00:00:01'`);
  }
  return Uint8Array.from(text.split(/[:-]/), (byte) => parseInt(byte, 16));
}

/** Returns a MAC without the bit of groups, which no station's address has (IEEE 802-2014, section 8.2). */
export const stationMac = (bytes: Uint8Array): Uint8Array => bytes.map((byte, i) => (i ? byte : byte & 0xfe));

export const formatMac = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");
