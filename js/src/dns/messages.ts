/** DNS messages of four types of records (RFC 1035, section 4; RFC 3596), of which any may be malformed. */

import { formatAddress, parseAddress } from "../addresses.js";
import { FAMILY_IPV4, FAMILY_IPV6 } from "../abi.js";

export type DnsType = "A" | "AAAA" | "PTR" | "TXT";

export type DnsResponse =
  | { type: "A"; ip: string; ttl: number }
  | { type: "AAAA"; ip: string; ttl: number }
  | { type: "PTR"; ptr: string; ttl: number }
  | { type: "TXT"; value: string; ttl: number };

export interface Question {
  id: number;
  flags: number;
  name: string;
  /** The number of the type, of which `DnsType` may have no name. */
  type: number;
  /** The question as it came, which the answer has too. */
  bytes: Uint8Array;
}

const NUMBERS: Record<DnsType, number> = { A: 1, PTR: 12, TXT: 16, AAAA: 28 };
const NAMES = new Map(Object.entries(NUMBERS).map(([name, number]) => [number, name as DnsType]));
const IN = 1;
const HEADER = 12;
/** Bytes of an answer by UDP without EDNS (RFC 1035, section 4.2.1). */
const MOST = 512;
const MOST_RECORDS = 256;

export const NOERROR = 0;
export const FORMERR = 1;
export const SERVFAIL = 2;
export const NXDOMAIN = 3;
export const NOTIMP = 4;
const CODES = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];

export const typeOf = (number: number): DnsType | undefined => NAMES.get(number);
export const codeName = (code: number): string => CODES[code] ?? `RCODE${code}`;

/** Returns a name as labels. @throws RangeError for what is no name. */
function encodeName(name: string): number[] {
  const labels =
    name === "" || name === "."
      ? []
      : name
          .replace(/\.$/, "")
          .split(".")
          .map((label) => [...new TextEncoder().encode(label)]);
  const bytes = [...labels.flatMap((label) => [label.length, ...label]), 0];
  if (labels.some(({ length }) => length < 1 || length > 63) || bytes.length > 255)
    throw new RangeError(`'${name}' is no domain name`);
  return bytes;
}

/** Reads a name, and returns where it ends. A pointer leads only backwards, so that reading ends. @throws RangeError. */
function decodeName(data: Uint8Array, at: number): [name: string, end: number] {
  const labels: string[] = [];
  let end = 0;
  let size = 0;
  for (;;) {
    const length = data[at];
    if (length === undefined) throw new RangeError("a name ends behind the message");
    if (length >= 192) {
      const target = ((length & 63) << 8) | (data[at + 1] ?? 255);
      end ||= at + 2;
      if (target >= at) throw new RangeError("a pointer leads forwards");
      at = target;
    } else if (length === 0) {
      return [labels.join("."), end || at + 1];
    } else {
      size += length + 1;
      if (length > 63 || size > 254 || at + 1 + length > data.length) throw new RangeError("a label is too long");
      labels.push(String.fromCharCode(...data.subarray(at + 1, at + 1 + length)));
      at += 1 + length;
    }
  }
}

const viewOf = (data: Uint8Array): DataView => new DataView(data.buffer, data.byteOffset, data.length);

export function buildQuestion(id: number, name: string, type: DnsType): Uint8Array {
  return Uint8Array.from([
    id >> 8,
    id & 255,
    1,
    0,
    0,
    1,
    0,
    0,
    0,
    0,
    0,
    0,
    ...encodeName(name),
    0,
    NUMBERS[type],
    0,
    IN,
  ]);
}

/** Returns a query, the code of the error with which it is answered, or undefined for what gets no answer. */
export function readQuestion(data: Uint8Array): Question | number | undefined {
  if (data.length < HEADER) return undefined;
  const view = viewOf(data);
  const flags = view.getUint16(2);
  if (flags & 0x8000) return undefined; // an answer
  if (flags & 0x7800) return NOTIMP;
  if (view.getUint16(4) !== 1) return FORMERR;
  try {
    const [name, end] = decodeName(data, HEADER);
    if (end + 4 > data.length) return FORMERR;
    if (view.getUint16(end + 2) !== IN) return NOTIMP;
    const bytes = data.slice(HEADER, end + 4);
    return { id: view.getUint16(0), flags, name: name.toLowerCase(), type: view.getUint16(end), bytes };
  } catch {
    return FORMERR;
  }
}

/** Returns the answer to a query that could not be read. */
export const buildError = (data: Uint8Array, code: number): Uint8Array =>
  Uint8Array.from([data[0]!, data[1]!, 0x80 | (data[2]! & 0x79), code, 0, 0, 0, 0, 0, 0, 0, 0]);

function encodeRecord(record: DnsResponse): [type: number, data: number[]] {
  const { type } = record;
  if (type === "A" || type === "AAAA") {
    const address = typeof record.ip === "string" ? parseAddress(record.ip) : undefined;
    const family = type === "A" ? FAMILY_IPV4 : FAMILY_IPV6;
    if (address?.family !== family) throw new RangeError(`'${record.ip}' is no address for ${type}`);
    return [NUMBERS[type], [...address.bytes.subarray(0, type === "A" ? 4 : 16)]];
  }
  if (type === "PTR") return [NUMBERS.PTR, encodeName(record.ptr)];
  const text = [...new TextEncoder().encode(record.value)];
  const strings: number[] = [];
  for (let at = 0; at === 0 || at < text.length; at += 255) {
    const part = text.slice(at, at + 255);
    strings.push(part.length, ...part);
  }
  return [NUMBERS.TXT, strings];
}

/** Returns the answer to a query; records that do not fit are left out, and it is marked as cut. @throws RangeError. */
export function buildAnswer(question: Question, code: number, records: readonly DnsResponse[]): Uint8Array {
  const body: number[] = [...question.bytes];
  let count = 0;
  let cut = 0;
  for (const record of records) {
    const [type, data] = encodeRecord(record);
    const ttl = Math.min(Math.max(0, Math.trunc(record.ttl) || 0), 2 ** 31 - 1);
    const bytes = [
      0xc0,
      HEADER,
      0,
      type,
      0,
      IN,
      ttl >>> 24,
      (ttl >> 16) & 255,
      (ttl >> 8) & 255,
      ttl & 255,
      data.length >> 8,
      data.length & 255,
      ...data,
    ];
    if (HEADER + body.length + bytes.length > MOST) {
      cut = 2;
      break;
    }
    body.push(...bytes);
    count++;
  }
  const head = [
    question.id >> 8,
    question.id & 255,
    0x80 | cut | ((question.flags >> 8) & 1),
    code,
    0,
    1,
    0,
    count,
    0,
    0,
    0,
    0,
  ];
  return Uint8Array.from([...head, ...body]);
}

export interface Answer {
  code: number;
  truncated: boolean;
  records: DnsResponse[];
}

/** Returns what a message answers to a query, or undefined where it is no answer to it or malformed. */
export function readAnswer(data: Uint8Array, query: Uint8Array): Answer | undefined {
  try {
    const view = viewOf(data);
    const flags = view.getUint16(2);
    if (data[0] !== query[0] || data[1] !== query[1] || !(flags & 0x8000) || view.getUint16(4) !== 1) return undefined;
    const [asked, start] = decodeName(data, HEADER);
    const [name, end] = decodeName(query, HEADER);
    if (asked.toLowerCase() !== name.toLowerCase() || view.getUint32(start) !== viewOf(query).getUint32(end))
      return undefined;
    const records: DnsResponse[] = [];
    let at = start + 4;
    for (let left = Math.min(view.getUint16(6), MOST_RECORDS); left > 0; left--) {
      at = decodeName(data, at)[1];
      const type = NAMES.get(view.getUint16(at));
      const ttl = view.getUint32(at + 4);
      const begin = at + 10;
      const size = view.getUint16(at + 8);
      at = begin + size;
      if (at > data.length) return undefined;
      const bytes = new Uint8Array(16);
      if ((type === "A" && size === 4) || (type === "AAAA" && size === 16)) {
        bytes.set(data.subarray(begin, at));
        records.push({ type, ip: formatAddress({ family: type === "A" ? FAMILY_IPV4 : FAMILY_IPV6, bytes }), ttl });
      } else if (type === "PTR") {
        records.push({ type, ptr: decodeName(data, begin)[0], ttl });
      } else if (type === "TXT") {
        const text: number[] = [];
        for (let from = begin; from < at; from += data[from]! + 1)
          text.push(...data.subarray(from + 1, Math.min(at, from + 1 + data[from]!)));
        records.push({ type, value: new TextDecoder().decode(Uint8Array.from(text)), ttl });
      }
    }
    return { code: flags & 15, truncated: (flags & 0x200) !== 0, records };
  } catch {
    return undefined; // beyond the end, or malformed
  }
}

/** Returns the name under which an address has its PTR (RFC 1035, section 3.5; RFC 3596, section 2.5). @throws RangeError. */
export function ptrName(ip: string): string {
  const address = typeof ip === "string" ? parseAddress(ip) : undefined;
  if (!address || address.scope) throw new RangeError(`ip: '${ip}' is no address`);
  if (address.family === FAMILY_IPV4) return `${[...address.bytes.subarray(0, 4)].reverse().join(".")}.in-addr.arpa`;
  const digits = Array.from(address.bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${[...digits].reverse().join(".")}.ip6.arpa`;
}

/** Returns the address that a name of PTR queries means. @throws RangeError for other names. */
export function ptrNameToIP(name: string): { type: "ipv4" | "ipv6"; ip: string } {
  const lower = name.toLowerCase().replace(/\.$/, "");
  const four = /^((\d{1,3}\.){4})in-addr\.arpa$/.exec(lower);
  const six = /^(([\da-f]\.){32})ip6\.arpa$/.exec(lower);
  const text = four
    ? four[1]!.slice(0, -1).split(".").reverse().join(".")
    : (six?.[1]!.replaceAll(".", "").split("").reverse().join("").match(/.{4}/g)!.join(":") ?? "");
  const address = parseAddress(text);
  if (!address) throw new RangeError(`name: '${name}' is no name of an address`);
  return {
    type: four ? "ipv4" : "ipv6",
    ip: formatAddress(six ? { family: FAMILY_IPV6, bytes: address.bytes } : address),
  };
}
