// All channels' kept messages together, within their bounds, in the order of their last use.

import type { Channel } from "./channel.ts";
import { type BatchInfo, ChannelHistory } from "./channel_history.ts";

/** Bounds of the kept messages. */
export interface HistoryLimits {
  /** Newest messages kept per channel; 0 keeps none. */
  maxMessagesPerChannel: number;
  /** Bytes over all channels, an estimate of their bookkeeping included. */
  maxBytes: number;
  /** Channels without a subscriber that are remembered. */
  maxIdleChannels: number;
}

/** What a channel takes with its name and its places in the tables, measured in the same way. */
const CHANNEL_OVERHEAD_BYTES = 1400;

/**
 * The history in memory. Over its bounds the least recently used channel without subscribers is
 * forgotten; where there is none, the oldest messages of the least recently used one with
 * subscribers. What is forgotten is remembered as a timestamp, so that an answer which may lack it
 * can say `PARTIAL`.
 */
export class HistoryCache {
  /** Bytes in use, bookkeeping included. */
  bytes = 0;

  #limits: HistoryLimits;
  #remove: (channel: Channel) => void;
  #forgottenTs: number;
  // Sets keep the order of insertion: taken out and put in again is "last used".
  #idle = new Set<Channel>();
  #followed = new Set<Channel>();

  /**
   * `startTs`: what was published before it, microseconds, is not known here.
   * `remove` takes a forgotten channel out of its application.
   */
  constructor(limits: HistoryLimits, startTs: number, remove: (channel: Channel) => void) {
    this.#limits = limits;
    this.#forgottenTs = startTs;
    this.#remove = remove;
  }

  /** Keeps a batch of the channel's lines. */
  append(channel: Channel, lines: Uint8Array, info: BatchInfo): void {
    let history = channel.history;
    if (history === null) {
      history = channel.history = new ChannelHistory(channel.prefix.length, this.#forgottenTs);
      this.bytes += CHANNEL_OVERHEAD_BYTES;
    }
    const before = history.bytes;
    history.append(lines, info, this.#limits.maxMessagesPerChannel);
    this.bytes += history.bytes - before;
    this.touch(channel);
    if (this.bytes > this.#limits.maxBytes || this.#idle.size > this.#limits.maxIdleChannels) {
      this.#evict();
    }
  }

  /** Marks the channel as just used, and as idle or followed as its subscribers are now. */
  touch(channel: Channel): void {
    if (channel.history === null) return;
    this.#idle.delete(channel);
    this.#followed.delete(channel);
    (channel.isIdle ? this.#idle : this.#followed).add(channel);
  }

  /** Whether messages after `ts` (`inclusive`: or at it) may be missing, for a channel without any. */
  isPartial(ts: number, inclusive: boolean): boolean {
    return ts !== 0 && (inclusive ? this.#forgottenTs >= ts : this.#forgottenTs > ts);
  }

  /** Takes new bounds. */
  setLimits(limits: HistoryLimits): void {
    this.#limits = limits;
    this.#evict();
  }

  #evict(): void {
    for (const channel of this.#idle) {
      if (
        this.bytes <= this.#limits.maxBytes && this.#idle.size <= this.#limits.maxIdleChannels
      ) return;
      // Its newest messages are on their way here; with them comes the next look at the bounds.
      if (channel.isOpen) return;
      this.#forget(channel);
    }
    for (const channel of this.#followed) {
      while (this.bytes > this.#limits.maxBytes) {
        const freed = channel.history?.dropOldestBlock() ?? 0;
        if (freed === 0) {
          // Nothing left to take: not to be looked at again before it gets something.
          this.#followed.delete(channel);
          break;
        }
        this.bytes -= freed;
      }
      if (this.bytes <= this.#limits.maxBytes) return;
    }
  }

  #forget(channel: Channel): void {
    const history = channel.history;
    if (history === null) return;
    this.#idle.delete(channel);
    this.bytes -= history.bytes + CHANNEL_OVERHEAD_BYTES;
    history.clear();
    channel.history = null;
    this.#forgottenTs = Math.max(this.#forgottenTs, channel.lastTs);
    this.#remove(channel);
  }
}
