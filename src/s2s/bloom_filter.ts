// A bloom filter over channels: what a node with very many channels tells its peers instead of a list.

import { encodeUtf8 } from "../proto/bytes.ts";

/** Bits for each channel that is expected: with 7 probes, at most 1 % of other channels pass. */
const BITS_PER_CHANNEL = 10;
const PROBES = 7;
const MIN_BITS = 2 ** 13;
/** Largest filter, 32 MiB: good for 26 million channels, and merely less sharp beyond. */
export const MAX_FILTER_BITS = 2 ** 28;

/** A channel as a filter sees it: two hashes from which all probes are made. */
export interface ChannelHash {
  readonly a: number;
  readonly b: number;
}

/**
 * Hashes the names with a seed that is chosen anew for each filter, so that nobody can prepare
 * channels which all pass (MurmurHash3's 32-bit mixing, twice with different seeds).
 */
export function hashChannel(app: string, channel: string, seed: number): ChannelHash {
  const bytes = encodeUtf8(`${app}\0${channel}`);
  let a = seed | 0;
  let b = ~seed;
  for (let i = 0; i < bytes.length; i++) {
    a = Math.imul(a ^ bytes[i], 0x5bd1e995);
    a ^= a >>> 15;
    b = Math.imul(b ^ bytes[i], 0x27d4eb2f);
    b ^= b >>> 13;
  }
  // The step between probes is odd: in a table of a power of two it reaches every place.
  return { a: mix(a), b: mix(b) | 1 };
}

function mix(hash: number): number {
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85ebca6b);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

/** A set of channels that may take one for a member that is not, and never the other way round. */
export class BloomFilter {
  readonly bytes: Uint8Array<ArrayBuffer>;

  /** `bits`: a power of two, at least 8; `bytes`: the bits as another filter had them. */
  constructor(readonly bits: number, readonly seed: number, bytes?: Uint8Array<ArrayBuffer>) {
    this.bytes = bytes ?? new Uint8Array(bits / 8);
  }

  /** An empty one for so many channels. */
  static for(channels: number): BloomFilter {
    let bits = MIN_BITS;
    while (bits < channels * BITS_PER_CHANNEL && bits < MAX_FILTER_BITS) bits *= 2;
    return new BloomFilter(bits, crypto.getRandomValues(new Uint32Array(1))[0]);
  }

  add({ a, b }: ChannelHash): void {
    const mask = this.bits - 1;
    for (let i = 0, at = a; i < PROBES; i++, at = (at + b) | 0) {
      const bit = at & mask;
      this.bytes[bit >>> 3] |= 1 << (bit & 7);
    }
  }

  has({ a, b }: ChannelHash): boolean {
    const mask = this.bits - 1;
    for (let i = 0, at = a; i < PROBES; i++, at = (at + b) | 0) {
      const bit = at & mask;
      if ((this.bytes[bit >>> 3] & (1 << (bit & 7))) === 0) return false;
    }
    return true;
  }
}
