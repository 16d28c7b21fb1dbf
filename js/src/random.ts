/** Random numbers of a stack: the platform's, or, where a seed is given, a sequence that derives from it. */

export class Random {
  #state: number | undefined;

  /** @param seed at least 4 bytes; without, the platform's randomness. */
  constructor(seed?: Uint8Array) {
    this.#state = seed && new DataView(seed.buffer, seed.byteOffset).getUint32(0);
  }

  /** Advances a Weyl sequence, and mixes it by the finalizer of MurmurHash3. */
  #next(): number {
    let mixed = (this.#state! = (this.#state! + 0x9e3779b9) | 0);
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
    return mixed ^ (mixed >>> 16);
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    return this.#state !== undefined ? bytes.map(() => this.#next() >>> 24) : crypto.getRandomValues(bytes);
  }

  u16(): number {
    const [high, low] = this.bytes(2) as unknown as [number, number];
    return (high << 8) | low;
  }

  /** A locally administered unicast MAC address. */
  mac(): Uint8Array {
    const bytes = this.bytes(6);
    bytes[0] = (bytes[0]! & 0xfc) | 2;
    return bytes;
  }
}

/** Returns 16 bytes of seed: the platform's if undefined, else a digest of what is given, as the Python package takes it. */
export async function seedBytes(seed: Uint8Array | number | bigint | undefined): Promise<Uint8Array> {
  if (seed === undefined) return crypto.getRandomValues(new Uint8Array(16));
  const given = seed instanceof Uint8Array ? new Uint8Array(seed) : new TextEncoder().encode(String(BigInt(seed)));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", given), 0, 16);
}
