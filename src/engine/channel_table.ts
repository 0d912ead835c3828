// An application's channels, found by the bytes of their names.

import { Channel } from "./channel.ts";

// A random start, so that nobody can choose names which all fall into one place of the table.
const SEED = crypto.getRandomValues(new Uint32Array(1))[0];

/** 32-bit hash of `bytes[start, end)` (FNV-1a with a random offset basis and a final mix). */
function hashBytes(bytes: Uint8Array, start: number, end: number): number {
  let hash = SEED;
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ bytes[i], 0x01000193);
  hash ^= hash >>> 15;
  return Math.imul(hash, 0x2c1b3c6d) | 0;
}

/** Channels that are handed out at a time. */
const CHUNK = 500;

/** The application of connections that never authenticated. */
export const DEFAULT_APP = "default";

/** One application: a world of channels, users and tokens of its own. */
export class App {
  /** Channels with the same hash stand in one array, which is rare. */
  #channels = new Map<number, Channel | Channel[]>();
  #size = 0;

  constructor(readonly id: string) {}

  /** Number of channels known. */
  get size(): number {
    return this.#size;
  }

  /** The channel named by `bytes[start, end)`, if it is known. */
  find(bytes: Uint8Array, start: number, end: number): Channel | undefined {
    return this.#find(hashBytes(bytes, start, end), bytes, start, end);
  }

  #find(hash: number, bytes: Uint8Array, start: number, end: number): Channel | undefined {
    const slot = this.#channels.get(hash);
    if (slot === undefined) return undefined;
    if (slot instanceof Channel) {
      return slot.isNamed(bytes, start, end) ? slot : undefined;
    }
    return slot.find((channel) => channel.isNamed(bytes, start, end));
  }

  /** The channel named by `bytes[start, end)`, a checked name; made when it is not known. */
  open(bytes: Uint8Array, start: number, end: number): Channel {
    const hash = hashBytes(bytes, start, end);
    const known = this.#find(hash, bytes, start, end);
    if (known !== undefined) return known;
    const channel = new Channel(this, bytes.subarray(start, end), hash);
    const slot = this.#channels.get(hash);
    if (slot === undefined) this.#channels.set(hash, channel);
    else if (slot instanceof Channel) this.#channels.set(hash, [slot, channel]);
    else slot.push(channel);
    this.#size++;
    return channel;
  }

  /** Removes a channel from the table. */
  remove(channel: Channel): void {
    const slot = this.#channels.get(channel.hash);
    if (slot === channel) {
      this.#channels.delete(channel.hash);
    } else if (Array.isArray(slot)) {
      const rest = slot.filter((other) => other !== channel);
      if (rest.length === slot.length) return;
      this.#channels.set(channel.hash, rest.length === 1 ? rest[0] : rest);
    } else {
      return;
    }
    this.#size--;
  }

  /** Every channel, in no order. */
  *channels(): Generator<Channel> {
    for (const chunk of this.channelChunks()) yield* chunk;
  }

  /**
   * The same, some hundred at a time: for a walk over a million of them a generator's
   * step for each took more than all else. What comes or goes during the walk is in it, or not.
   */
  *channelChunks(): Generator<readonly Channel[]> {
    let chunk: Channel[] = [];
    for (const slot of this.#channels.values()) {
      if (slot instanceof Channel) chunk.push(slot);
      else chunk.push(...slot);
      if (chunk.length < CHUNK) continue;
      yield chunk;
      chunk = [];
    }
    yield chunk;
  }
}
