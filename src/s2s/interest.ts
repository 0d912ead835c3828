// What a peer is interested in: a list of channels, a filter that stands for it, or everything.

import { BloomFilter, type ChannelHash, hashChannel, MAX_FILTER_BITS } from "./bloom_filter.ts";
import { FrameError } from "./frame.ts";

/** A channel's name together with its application's. */
export interface ChannelName {
  readonly app: string;
  readonly channel: string;
}

/** A set of channels that a peer has told of. */
export interface Interest {
  /** Channels that are remembered by name. */
  readonly size: number;
  has(name: ChannelName): boolean;
  add(name: ChannelName): void;
  remove(name: ChannelName): void;
  /** Adds a channel of which only the hashes are known; for a filter. */
  addHash(hash: ChannelHash): void;
}

/** A list. */
export class ListedInterest implements Interest {
  // By application, so that a channel's name is kept as it is, without a key around it.
  #apps = new Map<string, Set<string>>();
  size = 0;

  has({ app, channel }: ChannelName): boolean {
    return this.#apps.get(app)?.has(channel) ?? false;
  }

  add({ app, channel }: ChannelName): void {
    let channels = this.#apps.get(app);
    if (channels === undefined) this.#apps.set(app, channels = new Set());
    if (channels.has(channel)) return;
    channels.add(channel);
    this.size++;
  }

  remove({ app, channel }: ChannelName): void {
    const channels = this.#apps.get(app);
    if (channels === undefined || !channels.delete(channel)) return;
    this.size--;
    if (channels.size === 0) this.#apps.delete(app);
  }

  addHash(): void {
    throw new FrameError("a hash for an interest that is a list");
  }
}

/** A filter: what is taken out stays in until the peer sends another one. */
export class FilteredInterest implements Interest {
  readonly size = 0;
  #filter: BloomFilter;

  /** Throws a {@link FrameError} for a filter that cannot be. */
  constructor(bits: number, seed: number) {
    if (bits < 8 || bits > MAX_FILTER_BITS || !Number.isInteger(Math.log2(bits))) {
      throw new FrameError(`a bloom filter of ${bits} bits`);
    }
    this.#filter = new BloomFilter(bits, seed);
  }

  has({ app, channel }: ChannelName): boolean {
    return this.#filter.has(hashChannel(app, channel, this.#filter.seed));
  }

  add({ app, channel }: ChannelName): void {
    this.#filter.add(hashChannel(app, channel, this.#filter.seed));
  }

  remove(): void {}

  addHash(hash: ChannelHash): void {
    this.#filter.add(hash);
  }

  /** Sets the filter's bytes from `at` on. Throws a {@link FrameError} where they do not fit. */
  setBytes(at: number, bytes: Uint8Array): void {
    if (at + bytes.length > this.#filter.bytes.length) {
      throw new FrameError("a part of a bloom filter lies outside of it");
    }
    this.#filter.bytes.set(bytes, at);
  }
}

/** Everything: for a peer whose list is longer than what is remembered. */
export class FullInterest implements Interest {
  readonly size = 0;

  has(): boolean {
    return true;
  }

  add(): void {}
  remove(): void {}
  addHash(): void {}
}
