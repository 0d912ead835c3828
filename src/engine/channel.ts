// One channel: its subscribers, the open batch of the present turn, and its kept messages.

import { buffers, type PooledBuffer } from "../core/buffer_pool.ts";
import type { TurnTask } from "../core/turn.ts";
import {
  isPrefixOf,
  MESSAGE_LINE_EXTRA,
  messagePrefix,
  PREFIX_NAME_START,
  prefixName,
  writeMessageLine,
} from "../proto/encoder.ts";
import { eventLines } from "../proto/event_lines.ts";
import type { ChannelHistory } from "./channel_history.ts";
import type { RoutedChannel } from "./ports/router.ts";
import type { Follower } from "./ports/subscriber.ts";

/** A batch grows no larger (a message that is larger goes alone); a full one is handed out at once. */
const MAX_BATCH_BYTES = 256 * 1024;

/** What a channel belongs to: an application. */
export interface ChannelOwner {
  readonly id: string;
  /** Takes the channel out. */
  remove(channel: Channel): void;
}

/** Shared by all channels without subscribers, and never changed. */
const NOBODY: Subscription[] = [];

/** One follower's place among a channel's subscribers. */
export interface Subscription {
  readonly follower: Follower;
  readonly channel: Channel;
  /** Position in {@link Channel.subscribers}; -1 while the follower is catching up. */
  index: number;
}

/** What a closed batch is made of. */
export interface Batch {
  lines: PooledBuffer;
  count: number;
  firstTs: number;
  lastTs: number;
  froms: readonly (string | undefined)[] | null;
}

/** Batches that are handed out in pieces, over some turns; a task of the turn for each piece. */
export interface FanOutInPieces extends TurnTask {
  /** Whether everything has been handed out. */
  readonly isEmpty: boolean;
  /** Takes an ownership of the batch, for the channel's present subscribers. Returns its number of pieces. */
  add(batch: Batch, node: string, measured: number, fromMs: number): number;
  /** Hands one subscriber at once what it still has to get, before it leaves or wants another form. */
  settle(subscription: Subscription): void;
}

/**
 * Messages published within one turn of the event loop are encoded once, one behind the other, into
 * one batch; each subscriber gets a reference to its bytes. The owner closes the batch at the end
 * of the turn, and before the set of subscribers changes: a batch belongs to the subscribers of the
 * moment of each of its messages.
 */
export class Channel implements RoutedChannel {
  /** Not to be changed by others. Another array whenever the first one comes. */
  subscribers: Subscription[] = NOBODY;
  /** How many those are: kept here, too, since a walk over a million channels waits for memory. */
  subscriberCount = 0;
  /** Sessions subscribed but still reading history. */
  catchingUp = 0;
  /** Kept messages; null until the first one, and where history is off. */
  history: ChannelHistory | null = null;
  /** Messages accepted here. */
  published = 0;
  /** Timestamp of the newest message, microseconds; 0 before the first. */
  lastTs = 0;
  /** Whether the channel has been forgotten: whoever holds it must look it up again. */
  forgotten = false;
  /** See {@link RoutedChannel}. */
  interestVersion = 0;
  route: unknown = null;
  /** Batches that are handed out in pieces; null where there are none. */
  longFanOut: FanOutInPieces | null = null;
  /** The bytes in front of each message's timestamp. */
  readonly prefix: Uint8Array<ArrayBuffer>;

  #open: PooledBuffer | null = null;
  #count = 0;
  #firstTs = 0;
  #froms: (string | undefined)[] | null = null;
  #lastBatchBytes = 0;

  constructor(
    readonly app: ChannelOwner,
    name: Uint8Array,
    readonly hash: number,
  ) {
    this.prefix = messagePrefix(name);
  }

  /** Its name, decoded anew each time: a channel of bytes alone takes less memory. */
  get name(): string {
    return prefixName(this.prefix);
  }

  /** A copy of its name's bytes. */
  get nameBytes(): Uint8Array {
    return this.prefix.slice(PREFIX_NAME_START, -1);
  }

  /** Where its name's bytes lie. */
  nameInPrefix(): { bytes: Uint8Array; start: number; end: number } {
    return { bytes: this.prefix, start: PREFIX_NAME_START, end: this.prefix.length - 1 };
  }

  /** Whether `bytes[start, end)` is its name. */
  isNamed(bytes: Uint8Array, start: number, end: number): boolean {
    return isPrefixOf(this.prefix, bytes, start, end);
  }

  /** Whether its name begins with these bytes. */
  isNameBegunBy(wanted: Uint8Array): boolean {
    const { prefix } = this;
    // The last byte of it is a space.
    if (prefix.length - 1 - PREFIX_NAME_START < wanted.length) return false;
    for (let i = 0; i < wanted.length; i++) {
      if (prefix[PREFIX_NAME_START + i] !== wanted[i]) return false;
    }
    return true;
  }

  /** Whether messages wait in the open batch. */
  get isOpen(): boolean {
    return this.#open !== null;
  }

  /** Whether nobody is subscribed. */
  get isIdle(): boolean {
    return this.subscribers.length === 0 && this.catchingUp === 0;
  }

  /** Whether the open batch has room for a message of `bytes`; where it has none, close it first. */
  hasRoom(bytes: number): boolean {
    return this.#open === null ||
      this.#open.length + this.prefix.length + bytes + MESSAGE_LINE_EXTRA <= MAX_BATCH_BYTES;
  }

  /**
   * Adds the message `src[start, end)` with the timestamp `ts`, whose digits are `digits`, to the
   * open batch.
   */
  append(
    src: Uint8Array,
    start: number,
    end: number,
    ts: number,
    digits: Uint8Array,
    from: string | undefined,
  ): void {
    const need = this.prefix.length + (end - start) + MESSAGE_LINE_EXTRA;
    let open = this.#open;
    if (open === null) {
      open = this.#open = buffers.acquire(Math.max(need, this.#lastBatchBytes));
      this.#firstTs = ts;
    } else if (open.length + need > open.bytes.length) {
      open = this.#open = buffers.grow(open, open.length + need);
    }
    open.length = writeMessageLine(open, open.length, this.prefix, digits, src, start, end);
    if (from !== undefined || this.#froms !== null) {
      this.#froms ??= new Array(this.#count).fill(undefined);
      this.#froms.push(from);
    }
    this.#count++;
    this.lastTs = ts;
  }

  /** Takes the open batch out, sealed, with one ownership for the caller; null when there is none. */
  takeBatch(): Batch | null {
    const lines = this.#open;
    if (lines === null) return null;
    const batch = {
      lines: lines.seal(),
      count: this.#count,
      firstTs: this.#firstTs,
      lastTs: this.lastTs,
      froms: this.#froms,
    };
    this.published += batch.count;
    // The next batch is likely to need as much; half, so that a single burst is soon forgotten.
    this.#lastBatchBytes = lines.length >> 1;
    this.#open = null;
    this.#count = 0;
    this.#froms = null;
    return batch;
  }

  /** Hands a batch to every subscriber; the caller keeps its ownership. */
  fanOut(batch: Batch, node: string): void {
    const { lines } = batch;
    let events: PooledBuffer | null = null;
    for (const { follower } of this.subscribers) {
      if (follower.form === "text") {
        lines.retain();
        follower.subscriber.deliver(lines);
      } else {
        events ??= this.encodeEvents(lines.view, batch.froms, 0, node);
        events.retain();
        follower.subscriber.deliver(events);
      }
    }
    events?.release();
  }

  /**
   * The EVENT lines for a stretch of MESSAGE lines, with one ownership for the caller; the
   * publisher of its first line is `froms[firstLine]`.
   */
  encodeEvents(
    lines: Uint8Array,
    froms: readonly (string | undefined)[] | null,
    firstLine: number,
    node: string,
  ): PooledBuffer {
    return eventLines(this.name, this.prefix.length, { lines, node, froms, line: firstLine });
  }

  /**
   * How far its subscribers are behind: the smallest and the largest {@link Subscriber.backlog}
   * among those that still take bytes; 0 where there are none.
   */
  backlogs(nowMs: number): { least: number; most: number } {
    let least = Infinity;
    let most = 0;
    for (const { follower } of this.subscribers) {
      const backlog = follower.subscriber.backlog(nowMs);
      if (backlog < 0) continue;
      if (backlog < least) least = backlog;
      if (backlog > most) most = backlog;
    }
    return { least: least === Infinity ? 0 : least, most };
  }

  /** Adds a subscription to the live ones. The open batch must be closed. */
  join(subscription: Subscription): void {
    subscription.index = this.subscribers.length;
    // Made with room for this one; a push to an empty array makes room for 17.
    if (subscription.index === 0) this.subscribers = [subscription];
    else this.subscribers.push(subscription);
    this.subscriberCount = this.subscribers.length;
  }

  /** Takes a subscription out of the live ones, in constant time. */
  leave(subscription: Subscription): void {
    const last = this.subscribers.pop();
    this.subscriberCount = this.subscribers.length;
    if (last !== undefined && last !== subscription) {
      last.index = subscription.index;
      this.subscribers[last.index] = last;
    }
    subscription.index = -1;
  }
}
