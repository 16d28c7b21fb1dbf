/** Random numbers of a stack: the platform's, or, where a seed is given, a sequence that derives from it. */

export class Random {
  readonly #state: Uint32Array | undefined;

  /** @param seed 16 bytes; without, the platform's randomness. */
  constructor(seed?: Uint8Array) {
    this.#state = seed && new Uint32Array(seed.slice(0, 16).buffer);
  }

  #next(): number {
    const s = this.#state!;
    // xoshiro128** (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021).
    const rotated = Math.imul(s[1]!, 5);
    const result = Math.imul((rotated << 7) | (rotated >>> 25), 9);
    const shifted = s[1]! << 9;
    s[2]! ^= s[0]!;
    s[3]! ^= s[1]!;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= shifted;
    s[3] = (s[3]! << 11) | (s[3]! >>> 21);
    return result >>> 0;
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    return this.#state ? bytes.map(() => this.#next() >>> 24) : crypto.getRandomValues(bytes);
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
