/**
 * DNS messages (RFC 1035, section 4): queries as bytes, and answers read from bytes that any host may have sent.
 *
 * Reads of an answer the addresses and CNAMEs; everything else is skipped. A compression pointer leads only backwards, so
 * that no message makes a reader loop.
 */

import type { Address, makeAddress } from "../addresses.js";

export const A = 1;
export const CNAME = 5;
export const AAAA = 28;
const IN = 1;
const HEADER = 12;
const NXDOMAIN = 3;
const MOST_RECORDS = 512;

export interface Answer {
  /** Whether it was cut, so that TCP has the whole. */
  readonly truncated: boolean;
  /** Whether the server could not answer: another may. */
  readonly failed: boolean;
  readonly addresses: Address[];
  /** Seconds that the addresses may be kept. */
  readonly ttl: number;
}

/** Returns a query for a name in normal form. */
export function buildQuery(id: number, name: string, type: number): Uint8Array {
  const bytes = [id >> 8, id & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]; // recursion desired, one question
  for (const label of name.split(".")) bytes.push(label.length, ...new TextEncoder().encode(label));
  bytes.push(0, type >> 8, type & 255, 0, IN);
  return Uint8Array.from(bytes);
}

/** Returns what a message answers to a query, or undefined where it is no answer to it or malformed. */
export function readAnswer(
  bytes: Uint8Array,
  id: number,
  name: string,
  type: number,
  addressOf: typeof makeAddress,
): Answer | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = HEADER;
  const readU16 = (): number => view.getUint16((at += 2) - 2);
  const readName = (): string => {
    const labels: string[] = [];
    let next = at;
    let end = 0;
    let size = 0;
    for (;;) {
      const length = view.getUint8(next);
      if (length >= 192) {
        const target = view.getUint16(next) & 0x3fff;
        end ||= next + 2;
        if (target >= next) throw 0; // malformed
        next = target;
      } else {
        const label = bytes.subarray(next + 1, (next += 1 + length));
        if (length > 63 || (size += length + 1) > 255 || label.length < length) throw 0; // malformed
        if (!length) break;
        labels.push(String.fromCharCode(...label));
      }
    }
    at = end || next;
    return labels.join(".").toLowerCase();
  };
  try {
    const flags = view.getUint16(2);
    if (view.getUint16(0) !== id || !(flags & 0x8000) || view.getUint16(4) !== 1) return undefined;
    if (readName() !== name || readU16() !== type || readU16() !== IN) return undefined;
    const code = flags & 15;
    const addresses: Address[] = [];
    let ttl = Infinity;
    let wanted = name; // a chain of CNAMEs comes in order (RFC 1034, section 4.3.2)
    for (let left = Math.min(view.getUint16(6), MOST_RECORDS); left > 0; left--) {
      const owner = readName();
      const [kind, family] = [readU16(), readU16()];
      const seconds = readU16() * 65536 + readU16();
      const end = readU16() + at;
      if (end > bytes.length) throw 0; // malformed
      if (owner === wanted && family === IN && (kind === type || kind === CNAME)) {
        ttl = Math.min(ttl, seconds);
        if (kind === CNAME) wanted = readName();
        else if (end - at === (type === A ? 4 : 16)) addresses.push(addressOf(bytes.subarray(at, end)));
      }
      at = end;
    }
    return { truncated: (flags & 0x200) !== 0, failed: code !== 0 && code !== NXDOMAIN, addresses, ttl };
  } catch {
    return undefined; // beyond the end, or malformed
  }
}
