/** DHCP messages (RFC 2131, section 2; options: RFC 2132), of which any may be malformed. */

import { parseAddress } from "../addresses.js";

export const DISCOVER = 1;
export const OFFER = 2;
export const REQUEST = 3;
export const DECLINE = 4;
export const ACK = 5;
export const NAK = 6;
export const RELEASE = 7;
export const INFORM = 8;

const NETMASK = 1;
const ROUTER = 3;
const NAME_SERVERS = 6;
const HOST_NAME = 12;
const DOMAIN_NAME = 15;
const REQUESTED_ADDRESS = 50;
const LEASE_TIME = 51;
const MESSAGE_TYPE = 53;
const SERVER_IDENTIFIER = 54;
const DOMAIN_SEARCH = 119;
const PAD = 0;
const END = 255;

const HEADER = 236;
const COOKIE = 0x63825363;
/** Bytes of a message that every client takes (RFC 2131, section 2): some drop shorter ones. */
const LEAST = 300;

export interface Request {
  readonly type: number;
  /** The first 44 bytes, which an answer has too. */
  readonly head: Uint8Array;
  readonly mac: string;
  /** The client's own address, which it has configured; 0 for none. */
  readonly client: number;
  readonly relay: number;
  readonly broadcast: boolean;
  readonly requested: number | undefined;
  readonly server: number | undefined;
}

/** What answers say beside the address. */
export interface Configuration {
  netmask: string;
  router: string;
  dnsServers: readonly string[];
  hostname: string | undefined;
  domainName: string | undefined;
  searchDomains: readonly string[];
}

/** Returns an IPv4 address as a number. @throws RangeError for other text. */
export function toNumber(name: string, text: string): number {
  const address = typeof text === "string" && !text.includes(":") ? parseAddress(text) : undefined;
  if (!address) throw new RangeError(`${name}: '${text}' is no IPv4 address`);
  return new DataView(address.bytes.buffer).getUint32(0);
}

export const toText = (address: number): string => [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join(".");

/** Returns what a client says, or undefined for what is no request of an Ethernet station. */
export function readRequest(data: Uint8Array): Request | undefined {
  if (data.length < HEADER + 4) return undefined;
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  if (data[0] !== 1 || data[1] !== 1 || data[2] !== 6 || view.getUint32(HEADER) !== COOKIE) return undefined;
  const options = new Map<number, number>();
  let at = HEADER + 4;
  while (at < data.length && data[at] !== END) {
    const option = data[at++]!;
    if (option === PAD) continue;
    const length = data[at++];
    if (length === undefined || at + length > data.length) return undefined;
    if (option === MESSAGE_TYPE && length === 1) options.set(option, data[at]!);
    if ((option === REQUESTED_ADDRESS || option === SERVER_IDENTIFIER) && length === 4)
      options.set(option, view.getUint32(at));
    at += length;
  }
  const type = options.get(MESSAGE_TYPE);
  if (type === undefined) return undefined;
  return {
    type,
    head: data.slice(0, 44),
    mac: Array.from(data.subarray(28, 34), (byte) => byte.toString(16).padStart(2, "0")).join(":"),
    client: view.getUint32(12),
    relay: view.getUint32(24),
    broadcast: (data[10]! & 128) !== 0,
    requested: options.get(REQUESTED_ADDRESS),
    server: options.get(SERVER_IDENTIFIER),
  };
}

const u32 = (number: number): number[] => [number >>> 24, (number >>> 16) & 255, (number >>> 8) & 255, number & 255];

/** Returns names as labels with their lengths (RFC 1035, section 3.1). @throws RangeError for what is no name. */
function labels(names: readonly string[]): number[] {
  return names.flatMap((name) => {
    const parts = name
      .replace(/\.$/, "")
      .split(".")
      .map((label) => [...new TextEncoder().encode(label)]);
    if (parts.some(({ length }) => length < 1 || length > 63))
      throw new RangeError(`searchDomains: '${name}' is no name`);
    return [...parts.flatMap((label) => [label.length, ...label]), 0];
  });
}

/** Returns the options that every answer has. @throws RangeError for malformed ones. */
export function configurationOptions(given: Configuration): Uint8Array {
  const bytes: number[] = [];
  // An option longer than 255 bytes is several (RFC 3396).
  const put = (option: number, value: number[]): void => {
    for (let at = 0; at < value.length; at += 255) {
      const part = value.slice(at, at + 255);
      bytes.push(option, part.length, ...part);
    }
  };
  put(NETMASK, u32(toNumber("netmask", given.netmask)));
  put(ROUTER, u32(toNumber("router", given.router)));
  put(
    NAME_SERVERS,
    given.dnsServers.flatMap((text) => u32(toNumber("dnsServers", text))),
  );
  if (given.hostname) put(HOST_NAME, [...new TextEncoder().encode(given.hostname)]);
  if (given.domainName) put(DOMAIN_NAME, [...new TextEncoder().encode(given.domainName)]);
  put(DOMAIN_SEARCH, labels(given.searchDomains));
  if (bytes.length > 900) throw new RangeError(`the options have ${bytes.length} bytes, more than a message takes`);
  return Uint8Array.from(bytes);
}

/** Returns the answer to a request. `seconds`: of the lease, undefined where none is granted. */
export function buildAnswer(
  request: Request,
  type: number,
  address: number,
  server: number,
  seconds: number | undefined,
  options: Uint8Array,
): Uint8Array {
  const said = [
    MESSAGE_TYPE,
    1,
    type,
    SERVER_IDENTIFIER,
    4,
    ...u32(server),
    ...(seconds === undefined ? [] : [LEASE_TIME, 4, ...u32(seconds)]),
  ];
  const given = type === NAK ? new Uint8Array(0) : options;
  const message = new Uint8Array(Math.max(LEAST, HEADER + 4 + said.length + given.length + 1));
  const view = new DataView(message.buffer);
  message.set(request.head);
  message[0] = 2;
  message[3] = 0; // hops
  message.fill(0, 8, 10);
  if (type === NAK) message.fill(0, 12, 16);
  view.setUint32(16, address);
  view.setUint32(20, 0);
  view.setUint32(HEADER, COOKIE);
  message.set(said, HEADER + 4);
  message.set(given, HEADER + 4 + said.length);
  message[HEADER + 4 + said.length + given.length] = END;
  return message;
}
