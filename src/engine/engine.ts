// The engine: applications with their channels, who follows what, and the way of a message.

import { Buffer } from "node:buffer";
import type { Clock } from "../core/clock.ts";
import type { Turn, TurnTask } from "../core/turn.ts";
import { WireError } from "../proto/errors.ts";
import { historyJson } from "../proto/encoder.ts";
import { checkName, nameBytes } from "../proto/names.ts";
import type { Channel, Subscription } from "./channel.ts";
import { App } from "./channel_table.ts";
import { HistoryCache, type HistoryLimits } from "./history_cache.ts";
import type { Subscriber } from "./ports/subscriber.ts";
import { Replay, type ReplayHost } from "./replay.ts";
import { Session } from "./session.ts";

/** The application of connections that never authenticated. */
export const DEFAULT_APP = "default";

/** About how large a page of `his` may become, in bytes of JSON. */
const MAX_PAGE_BYTES = 4 * 1024 * 1024;

/** Settings of an {@link Engine}. */
export interface EngineOptions {
  clock: Clock;
  turn: Turn;
  /** This node's name, the `node` of every message. */
  node: string;
  /** Whether messages are kept (in memory) for `his` and `sub … <timestamp>`. */
  keepHistory: boolean;
  history: HistoryLimits;
  maxChannelsPerConnection: number;
}

/** Plain counters, read by the stats door. */
export interface EngineCounters {
  /** Messages accepted here. */
  published: number;
  /** Messages queued for subscribers, once each. */
  delivered: number;
  subscriptions: number;
}

/** What `sub <channel> <timestamp>` found. */
export interface ReplayStart {
  /** Kept messages after the timestamp. */
  count: number;
  /** Whether some may be missing. */
  partial: boolean;
  /** Lets the messages flow; to be called once the reply is queued. */
  start(): void;
}

/** A page of `his`. */
export interface HistoryPage {
  /** A JSON array. */
  json: string;
  partial: boolean;
}

/** Everything behind the doors, on one node. */
export class Engine implements TurnTask, ReplayHost {
  readonly node: string;
  readonly counters: EngineCounters = { published: 0, delivered: 0, subscriptions: 0 };

  #clock: Clock;
  #clockIsFresh = false;
  #turn: Turn;
  #apps = new Map<string, App>();
  #cache: HistoryCache | null;
  #maxChannelsPerConnection: number;
  #open: Channel[] = [];
  #inTurn = false;

  constructor(options: EngineOptions) {
    this.node = options.node;
    this.#clock = options.clock;
    this.#turn = options.turn;
    this.#maxChannelsPerConnection = options.maxChannelsPerConnection;
    this.#cache = options.keepHistory
      ? new HistoryCache(options.history, options.clock.last, (channel) => this.#forget(channel))
      : null;
  }

  /** The application `id`, made when it is new. */
  app(id: string): App {
    let app = this.#apps.get(id);
    if (app === undefined) this.#apps.set(id, app = new App(id));
    return app;
  }

  /** Whether messages are kept for `his` and `sub … <timestamp>`. */
  get keepsHistory(): boolean {
    return this.#cache !== null;
  }

  /** Number of channels known, over all applications. */
  get channelCount(): number {
    let count = 0;
    for (const app of this.#apps.values()) count += app.size;
    return count;
  }

  /** Bytes of kept messages. */
  get historyBytes(): number {
    return this.#cache?.bytes ?? 0;
  }

  /** A new connection's session, in the application `default`. */
  openSession(subscriber: Subscriber, address: string): Session {
    return new Session(this.app(DEFAULT_APP), subscriber, address);
  }

  /** Ends everything that the session follows. Idempotent. */
  closeSession(session: Session): void {
    if (session.closed) return;
    session.closed = true;
    for (const subscription of session.subscriptions.values()) this.#leave(subscription);
    for (const replay of session.replays) replay.stop();
    for (const channel of session.subscriptions.keys()) this.#afterLeave(channel);
    session.subscriptions.clear();
  }

  /** The channel for a `pub`: its name, `bytes[start, end)`, is checked (see {@link checkName}). */
  channelFor(session: Session, bytes: Uint8Array, start: number, end: number): Channel {
    const known = session.app.find(bytes, start, end);
    if (known !== undefined) return known;
    checkName(bytes, start, end, "channel");
    return session.app.open(bytes, start, end);
  }

  /**
   * Accepts the message `bytes[start, end)`, which is checked, and returns its timestamp (its digits
   * are in the clock until the next one). It goes out at the end of the turn.
   */
  publish(
    session: Session,
    channel: Channel,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): number {
    if (!this.#clockIsFresh) {
      this.#clock.refresh();
      this.#clockIsFresh = true;
      this.#joinTurn();
    }
    const ts = this.#clock.next();
    this.counters.published++;
    if (!channel.hasRoom(end - start)) channel = this.#closeFull(session, channel);
    if (!channel.isOpen) {
      this.#open.push(channel);
      this.#joinTurn();
      if (channel.isIdle) this.#cache?.touch(channel);
    }
    channel.append(bytes, start, end, ts, this.#clock.digits, session.user);
    return ts;
  }

  /** Closes a full batch; the channel may have been forgotten by that, so this is the one to go on with. */
  #closeFull(session: Session, channel: Channel): Channel {
    this.closeBatch(channel);
    if (!channel.forgotten) return channel;
    const { bytes, start, end } = channel.nameInPrefix();
    return session.app.open(bytes, start, end);
  }

  /** The 16 digits of the last timestamp given; good until the next one. */
  get timestampDigits(): Uint8Array {
    return this.#clock.digits;
  }

  #joinTurn(): void {
    if (this.#inTurn) return;
    this.#inTurn = true;
    this.#turn.addSource(this);
  }

  /** Hands out what was published in this turn. */
  endTurn(): void {
    this.#inTurn = false;
    this.#clockIsFresh = false;
    const open = this.#open;
    this.#open = [];
    for (const channel of open) {
      this.closeBatch(channel);
      if (channel.isIdle && channel.history === null) this.#forget(channel);
    }
  }

  /** Closes the channel's open batch: keeps its messages and hands them to the subscribers. */
  closeBatch(channel: Channel): void {
    const batch = channel.takeBatch();
    if (batch === null) return;
    this.#cache?.append(channel, batch.lines.view, batch);
    this.counters.delivered += batch.count * channel.subscribers.length;
    channel.fanOut(batch, this.node);
    batch.lines.release();
  }

  countDelivered(messages: number): void {
    this.counters.delivered += messages;
  }

  /** `sub <channel>`. Returns false when the session follows it already. */
  subscribe(session: Session, name: string): boolean {
    const subscription = this.#subscription(session, nameBytes(name, "channel"));
    if (subscription === undefined) return false;
    subscription.channel.join(subscription);
    this.#cache?.touch(subscription.channel);
    return true;
  }

  /**
   * `sub <channel> <timestamp>`; `afterTs` in microseconds. Undefined when the session follows the
   * channel already. Throws `history-off`.
   */
  subscribeFrom(session: Session, name: string, afterTs: number): ReplayStart | undefined {
    const bytes = nameBytes(name, "channel");
    const cache = this.#requireHistory();
    const subscription = this.#subscription(session, bytes);
    if (subscription === undefined) return undefined;
    const { channel } = subscription;
    if (channel.history === null) {
      channel.join(subscription);
      return { count: 0, partial: cache.isPartial(afterTs, false), start: () => {} };
    }
    const { cursor, count } = channel.history.seek(afterTs, false);
    const partial = channel.history.isPartial(afterTs, false);
    const replay = new Replay(this, subscription, cursor, session.replays);
    cache.touch(channel);
    return { count, partial, start: () => replay.pump() };
  }

  /**
   * A new subscription of the session to a channel without an open batch, not yet among the
   * channel's; undefined when it has one.
   */
  #subscription(session: Session, name: Uint8Array): Subscription | undefined {
    // The open batch belongs to those who were there before. Closing it may have a channel without
    // subscribers forgotten, so the channel is looked up behind that.
    const known = session.app.find(name, 0, name.length);
    if (known !== undefined) this.closeBatch(known);
    const channel = session.app.open(name, 0, name.length);
    if (session.subscriptions.has(channel)) return undefined;
    if (session.subscriptions.size >= this.#maxChannelsPerConnection) {
      this.#afterLeave(channel);
      throw new WireError(
        "too-many-channels",
        `this connection follows ${session.subscriptions.size} channels ` +
          `(max_channels_per_connection); unsub from one first`,
      );
    }
    const subscription: Subscription = { follower: session, channel, index: -1 };
    session.subscriptions.set(channel, subscription);
    this.counters.subscriptions++;
    return subscription;
  }

  /** `unsub <channel>`. Returns false when the session does not follow it. */
  unsubscribe(session: Session, name: string): boolean {
    const bytes = nameBytes(name, "channel");
    const channel = session.app.find(bytes, 0, bytes.length);
    const subscription = channel && session.subscriptions.get(channel);
    if (channel === undefined || subscription === undefined) return false;
    // What was published before is still its own.
    this.closeBatch(channel);
    for (const replay of session.replays) {
      if (replay.subscription === subscription) replay.stop();
    }
    session.subscriptions.delete(channel);
    this.#leave(subscription);
    this.#afterLeave(channel);
    return true;
  }

  #leave(subscription: Subscription): void {
    this.counters.subscriptions--;
    if (subscription.index >= 0) subscription.channel.leave(subscription);
  }

  #afterLeave(channel: Channel): void {
    if (!channel.isIdle) return;
    if (channel.history === null && !channel.isOpen) this.#forget(channel);
    else this.#cache?.touch(channel);
  }

  /** Gives the session's replays the room that its subscriber has gained. */
  pumpReplays(session: Session): void {
    for (const replay of session.replays) replay.pump();
  }

  /** Hands out what the session's channels have collected; before its form of delivery changes. */
  closeBatches(session: Session): void {
    for (const channel of session.subscriptions.keys()) this.closeBatch(channel);
  }

  /**
   * `his`: at most `limit` messages and about `maxBytes` of JSON from `fromTs` (microseconds,
   * included) on, oldest first. Throws `history-off`.
   */
  history(
    session: Session,
    name: string,
    fromTs: number,
    limit: number,
    maxBytes = MAX_PAGE_BYTES,
  ): HistoryPage {
    const bytes = nameBytes(name, "channel");
    const cache = this.#requireHistory();
    const channel = session.app.find(bytes, 0, bytes.length);
    if (channel !== undefined) this.closeBatch(channel);
    const history = channel?.history ?? null;
    if (history === null) return { json: "[]", partial: cache.isPartial(fromTs, true) };
    if (channel !== undefined) cache.touch(channel);
    const { cursor, count } = history.seek(fromTs, true);
    const parts: string[] = [];
    let size = 0;
    const most = Math.min(count, limit);
    while (parts.length < most && size < Math.min(maxBytes, MAX_PAGE_BYTES)) {
      const message = history.nextMessage(cursor, name);
      if (message === undefined) break;
      const json = historyJson(message, this.node);
      size += Buffer.byteLength(json) + 1;
      parts.push(json);
    }
    return { json: `[${parts.join(",")}]`, partial: history.isPartial(fromTs, true) };
  }

  #requireHistory(): HistoryCache {
    if (this.#cache !== null) return this.#cache;
    throw new WireError("history-off", 'no history is kept here (msg_storage: "")');
  }

  /** Takes the channel out of its application; who still holds it must look it up again. */
  #forget(channel: Channel): void {
    channel.forgotten = true;
    channel.app.remove(channel);
  }
}
