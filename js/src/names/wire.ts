/**
 * DNS messages (RFC 1035, section 4): queries as bytes, and answers read from bytes that any host may have sent.
 *
 * Reads of an answer the addresses and CNAMEs; everything else is skipped. A compression pointer leads only backwards, so
 * that no message makes a reader loop.
 */

import { FAMILY_IPV4, FAMILY_IPV6 } from "../abi.js";
import type { Address } from "../addresses.js";

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

class Reader {
  readonly #view: DataView;
  at = HEADER;

  constructor(readonly bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  u16(at = (this.at += 2) - 2): number {
    return this.#view.getUint16(at);
  }

  u32(): number {
    return this.#view.getUint32((this.at += 4) - 4);
  }

  name(): string {
    const labels: string[] = [];
    let at = this.at;
    let end = 0;
    let size = 0;
    for (;;) {
      const length = this.#view.getUint8(at);
      if (length >= 192) {
        const target = this.u16(at) & 0x3fff;
        end ||= at + 2;
        if (target >= at) throw 0; // malformed
        at = target;
      } else {
        if (length > 63 || (size += length + 1) > 255 || at + 1 + length > this.bytes.length) throw 0; // malformed
        if (!length) break;
        labels.push(String.fromCharCode(...this.bytes.subarray(at + 1, at + 1 + length)));
        at += 1 + length;
      }
    }
    this.at = end || at + 1;
    return labels.join(".").toLowerCase();
  }
}

/** Returns what a message answers to a query, or undefined where it is no answer to it or malformed. */
export function readAnswer(bytes: Uint8Array, id: number, name: string, type: number): Answer | undefined {
  try {
    const reader = new Reader(bytes);
    const flags = reader.u16(2);
    if (reader.u16(0) !== id || !(flags & 0x8000) || reader.u16(4) !== 1) return undefined;
    if (reader.name() !== name || reader.u16() !== type || reader.u16() !== IN) return undefined;
    const code = flags & 15;
    const addresses: Address[] = [];
    let ttl = Infinity;
    let wanted = name; // a chain of CNAMEs comes in order (RFC 1034, section 4.3.2)
    for (let left = Math.min(reader.u16(6), MOST_RECORDS); left > 0; left--) {
      const owner = reader.name();
      const [kind, family] = [reader.u16(), reader.u16()];
      const seconds = reader.u32();
      const end = reader.u16() + reader.at;
      if (end > bytes.length) throw 0; // malformed
      if (owner === wanted && family === IN && (kind === type || kind === CNAME)) {
        ttl = Math.min(ttl, seconds);
        if (kind === CNAME) wanted = reader.name();
        else if (end - reader.at === (type === A ? 4 : 16)) {
          const address = new Uint8Array(16);
          address.set(bytes.subarray(reader.at, end));
          addresses.push({ family: type === A ? FAMILY_IPV4 : FAMILY_IPV6, bytes: address, scope: "" });
        }
      }
      reader.at = end;
    }
    return { truncated: (flags & 0x200) !== 0, failed: code !== 0 && code !== NXDOMAIN, addresses, ttl };
  } catch {
    return undefined; // beyond the end, or malformed
  }
}
