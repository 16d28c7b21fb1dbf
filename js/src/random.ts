/** Random numbers of a stack: the platform's, or, where a seed is given, a sequence that derives from it. */

export interface Random {
  u16(): number;
  /** A locally administered unicast MAC address. */
  mac(): Uint8Array;
}

/** @param seed at least 4 bytes; without, the platform's randomness. */
export function createRandom(seed?: Uint8Array): Random {
  let state = seed && new DataView(seed.buffer, seed.byteOffset).getUint32(0);

  /** Advances a Weyl sequence, and mixes it by the finalizer of MurmurHash3. */
  const next = (): number => {
    let mixed = (state = (state! + 0x9e3779b9) | 0);
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
    return mixed ^ (mixed >>> 16);
  };

  const take = (length: number): Uint8Array => {
    const taken = new Uint8Array(length);
    return state === undefined ? crypto.getRandomValues(taken) : taken.map(() => next() >>> 24);
  };

  return {
    u16() {
      const [high, low] = take(2) as unknown as [number, number];
      return (high << 8) | low;
    },
    mac() {
      const mac = take(6);
      mac[0] = (mac[0]! & 0xfc) | 2;
      return mac;
    },
  };
}

/** Returns 16 bytes of seed: the platform's if undefined, else a digest of what is given, as the Python package takes it. */
export async function seedBytes(seed: Uint8Array | number | bigint | undefined): Promise<Uint8Array> {
  if (seed === undefined) return crypto.getRandomValues(new Uint8Array(16));
  const given = seed instanceof Uint8Array ? new Uint8Array(seed) : new TextEncoder().encode(String(BigInt(seed)));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", given), 0, 16);
}
