// All channels' kept messages together, within their bounds, in the order of their last use.

import { watch } from "../core/spawn.ts";
import { nextTurn } from "../core/turn.ts";
import type { Channel } from "./channel.ts";
import { type BatchInfo, ChannelHistory } from "./channel_history.ts";
import type { Block } from "./ports/history_store.ts";

/** Bounds of the kept messages. */
export interface HistoryLimits {
  /** Newest messages kept per channel; 0 keeps none. */
  maxMessagesPerChannel: number;
  /** Bytes over all channels, an estimate of their bookkeeping included. */
  maxBytes: number;
  /** Channels without a subscriber that are remembered. */
  maxIdleChannels: number;
}

/** Settings of a {@link HistoryCache}. */
export interface CacheOptions {
  /** What was published before it, microseconds, is not known here. */
  startTs: number;
  /** Whether nothing else keeps the messages, so that what is dropped is gone. */
  isOnlyCopy: boolean;
  /** This node's name. */
  node: string;
  /** Takes a forgotten channel out of its application. */
  remove(channel: Channel): void;
}

/**
 * Reads of history: a `his`, or a `sub` with a timestamp; in a cluster each page of what a node is asked
 * for, by its clients or by other nodes.
 */
export interface CacheReads {
  /** Answered by memory alone. */
  hits: number;
  /** For which the store had to be asked. */
  misses: number;
}

/** So many channels go in one piece of work; where more have to, others have their turn between. */
const EVICTED_AT_ONCE = 1000;
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
  /** Messages after this timestamp may be kept nowhere else yet, and are not dropped. */
  settledTs = Infinity;
  /** Counted by those who read. */
  readonly reads: CacheReads = { hits: 0, misses: 0 };

  #limits: HistoryLimits;
  #options: CacheOptions;
  #forgottenTs: number;
  // Sets keep the order of insertion: taken out and put in again is "last used".
  #used = new Set<Channel>();
  /** Those of them without subscribers. */
  #idle = new Set<Channel>();
  #isEvicting = false;

  constructor(limits: HistoryLimits, options: CacheOptions) {
    this.#limits = limits;
    this.#forgottenTs = options.startTs;
    this.#options = options;
  }

  /** Newest messages kept per channel. */
  get maxMessagesPerChannel(): number {
    return this.#limits.maxMessagesPerChannel;
  }

  /** Of a channel without any kept messages: those up to here may have been forgotten. */
  get forgottenTs(): number {
    return this.#forgottenTs;
  }

  /** There may be older messages elsewhere up to `ts`, which is later than was known. */
  raiseStart(ts: number): void {
    this.#forgottenTs = Math.max(this.#forgottenTs, ts);
  }

  /** Keeps a batch of the channel's lines. */
  append(channel: Channel, lines: Uint8Array, info: BatchInfo): void {
    const history = this.open(channel);
    const before = cost(history);
    history.append(lines, info, this.#limits.maxMessagesPerChannel, this.settledTs);
    this.#changed(channel, cost(history) - before);
  }

  /** The channel's kept messages; made where there are none. */
  open(channel: Channel): ChannelHistory {
    const { isOnlyCopy, node } = this.#options;
    return channel.history ??= new ChannelHistory({
      prefixLength: channel.prefix.length,
      lostTs: this.#forgottenTs,
      isOnlyCopy,
      node,
    });
  }

  /** Puts a store's messages in front of those that are kept; see {@link ChannelHistory.prepend}. */
  prepend(channel: Channel, older: readonly Block[], lostTs: number): void {
    const history = this.open(channel);
    const before = cost(history);
    history.prepend(older, lostTs);
    channel.lastTs = Math.max(channel.lastTs, older.at(-1)?.lastTs ?? 0);
    history.trim(this.#limits.maxMessagesPerChannel, this.settledTs);
    this.#changed(channel, cost(history) - before);
  }

  /** Takes back the channel's messages from `ts` on. */
  takeBack(channel: Channel, ts: number): void {
    channel.history?.takeBack(ts);
  }

  /** Drops the channel's messages up to `ts`, which are kept nowhere any more. */
  prune(channel: Channel, ts: number): void {
    const { history } = channel;
    if (history === null) return;
    const before = cost(history);
    history.prune(ts);
    this.bytes += cost(history) - before;
  }

  /** The channels with kept messages, those used longest ago first. */
  channels(): Channel[] {
    return [...this.#used];
  }

  /**
   * Drops a channel's messages before `beforeTs` where nothing else keeps them; one that has none left
   * and no subscriber is forgotten.
   */
  expire(channel: Channel, beforeTs: number): void {
    this.prune(channel, beforeTs - 1);
    if (channel.history?.count === 0 && channel.isIdle && !channel.isOpen) this.#forget(channel);
  }

  #changed(channel: Channel, bytes: number): void {
    this.bytes += bytes;
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

  /** Whether messages after `afterTs` may have been forgotten, of a channel without any. */
  isPartial(afterTs: number): boolean {
    return this.#options.isOnlyCopy && afterTs > 0 && this.#forgottenTs > afterTs;
  }

  /** Takes new bounds; where they are much smaller, what is beyond them goes little by little. */
  setLimits(limits: HistoryLimits): void {
    this.#limits = limits;
    if (!this.#evict() && !this.#isEvicting) {
      this.#isEvicting = true;
      watch("engine.evict", this.#evictRest());
    }
  }

  async #evictRest(): Promise<void> {
    do await nextTurn(); while (!this.#evict());
    this.#isEvicting = false;
  }

  /** Returns false where it has done as much as it may in one go, and more is to be done. */
  #evict(): boolean {
    let left = EVICTED_AT_ONCE;
    // With many channels a little more than needed goes at once: a set is walked from its begin each
    // time, over the places of all that was taken out since it was last built anew.
    const share = this.#used.size >= MANY_CHANNELS ? 1 - 1 / 50 : 1;
    const { maxBytes, maxIdleChannels } = this.#limits;
    const idleTarget = this.#idle.size > maxIdleChannels ? maxIdleChannels * share : Infinity;
    for (const channel of this.#idle) {
      if (this.#idle.size <= idleTarget) break;
      // Its newest messages are on their way, here or into the store; with what comes behind them
      // comes the next look at the bounds.
      if (!this.#isSettled(channel)) break;
      if (left-- === 0) return false;
      this.#forget(channel);
    }
    if (this.bytes <= maxBytes) return true;
    const target = maxBytes * share;
    for (const channel of this.#used) {
      // Those behind it were used later still.
      if (this.bytes <= target || channel.lastTs > this.settledTs) return true;
      if (left-- === 0) return false;
      if (channel.isIdle && this.#isSettled(channel)) this.#forget(channel);
      else this.#shrink(channel, this.bytes - target);
    }
    return true;
  }

  #isSettled(channel: Channel): boolean {
    return !channel.isOpen && channel.lastTs <= this.settledTs;
  }

  /** Drops the channel's oldest messages until `bytes` are freed or none is left. */
  #shrink(channel: Channel, bytes: number): void {
    const { history } = channel;
    if (history === null) return;
    const before = cost(history);
    while (cost(history) > before - bytes && history.dropOldestBlock(this.settledTs) > 0);
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
    this.#options.remove(channel);
  }
}

/** What a channel's kept messages take; one that keeps none is there for its subscribers. */
function cost(history: ChannelHistory): number {
  return history.bytes === 0 ? 0 : history.bytes + CHANNEL_OVERHEAD_BYTES;
}
