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

/** From so many channels on, eviction takes more than it must. */
const MANY_CHANNELS = 1000;
/** What a channel takes with its name and its places in the tables, measured in the same way. */
const CHANNEL_OVERHEAD_BYTES = 1400;

/**
 * The history in memory. Over its bound in bytes the channel that was used longest ago pays: without
 * subscribers it is forgotten, with some it loses its oldest messages. What is forgotten is
 * remembered as a timestamp, so that an answer which may lack it can say `PARTIAL`.
 */
export class HistoryCache {
  /** Bytes in use, bookkeeping included. */
  bytes = 0;

  #limits: HistoryLimits;
  #remove: (channel: Channel) => void;
  #forgottenTs: number;
  // Sets keep the order of insertion: taken out and put in again is "last used".
  #used = new Set<Channel>();
  /** Those of them without subscribers. */
  #idle = new Set<Channel>();

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
    channel.history ??= new ChannelHistory(channel.prefix.length, this.#forgottenTs);
    const { history } = channel;
    const before = cost(history);
    history.append(lines, info, this.#limits.maxMessagesPerChannel);
    this.bytes += cost(history) - before;
    this.touch(channel);
    if (this.bytes > this.#limits.maxBytes || this.#idle.size > this.#limits.maxIdleChannels) {
      this.#evict();
    }
  }

  /** Marks the channel as just used, and as idle or not as its subscribers are now. */
  touch(channel: Channel): void {
    if (channel.history === null) return;
    this.#used.delete(channel);
    this.#used.add(channel);
    this.#idle.delete(channel);
    if (channel.isIdle) this.#idle.add(channel);
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
    // With many channels a little more than needed goes at once: a set is walked from its begin each
    // time, over the places of all that was taken out since it was last built anew.
    const share = this.#used.size >= MANY_CHANNELS ? 1 - 1 / 50 : 1;
    const { maxBytes, maxIdleChannels } = this.#limits;
    const idleTarget = this.#idle.size > maxIdleChannels ? maxIdleChannels * share : Infinity;
    for (const channel of this.#idle) {
      if (this.#idle.size <= idleTarget) break;
      // Its newest messages are on their way here; with them comes the next look at the bounds.
      if (channel.isOpen) break;
      this.#forget(channel);
    }
    if (this.bytes <= maxBytes) return;
    const target = maxBytes * share;
    for (const channel of this.#used) {
      if (this.bytes <= target) return;
      if (channel.isIdle && !channel.isOpen) this.#forget(channel);
      else this.#shrink(channel, this.bytes - target);
    }
  }

  /** Drops the channel's oldest messages until `bytes` are freed or none is left. */
  #shrink(channel: Channel, bytes: number): void {
    const { history } = channel;
    if (history === null) return;
    const before = cost(history);
    while (cost(history) > before - bytes && history.dropOldestBlock() > 0);
    this.bytes += cost(history) - before;
    // Nothing left to take: not to be looked at again before it gets something.
    if (cost(history) === 0) this.#used.delete(channel);
  }

  #forget(channel: Channel): void {
    const history = channel.history;
    if (history === null) return;
    this.#used.delete(channel);
    this.#idle.delete(channel);
    this.bytes -= cost(history);
    history.clear();
    channel.history = null;
    this.#forgottenTs = Math.max(this.#forgottenTs, channel.lastTs);
    this.#remove(channel);
  }
}

/** What a channel's kept messages take; one that keeps none is there for its subscribers. */
function cost(history: ChannelHistory): number {
  return history.bytes === 0 ? 0 : history.bytes + CHANNEL_OVERHEAD_BYTES;
}
