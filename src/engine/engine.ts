// The engine: applications with their channels, who follows what, and the way of a message.

import type { Clock } from "../core/clock.ts";
import { nextTurn, type Turn, type TurnTask } from "../core/turn.ts";
import { encodeUtf8 } from "../proto/bytes.ts";
import { MESSAGE_LINE_EXTRA } from "../proto/encoder.ts";
import { WireError } from "../proto/errors.ts";
import { checkName, nameBytes } from "../proto/names.ts";
import type { Channel, Subscription } from "./channel.ts";
import { App, DEFAULT_APP } from "./channel_table.ts";
import { History, type HistoryPage, type ReplayStart, type Storage } from "./history.ts";
import type { HistoryLimits } from "./history_cache.ts";
import type { HistoryQueue } from "./ports/history_queue.ts";
import type { MessageRange, PruneRequest, PruneStep } from "./ports/history_store.ts";
import type { Subscriber } from "./ports/subscriber.ts";
import type { ReplayHost } from "./replay.ts";
import { Session } from "./session.ts";
import type { StoredPage } from "./store_pages.ts";

export type { HistoryPage, ReplayStart } from "./history.ts";

/** Channels that are looked at before others have their turn. */
const CHANNELS_PER_TURN = 1000;

/** Settings of an {@link Engine}. */
export interface EngineOptions {
  clock: Clock;
  turn: Turn;
  /** This node's name, the `node` of every message. */
  node: string;
  /** Whether messages are kept for `his` and `sub … <timestamp>`. */
  keepHistory: boolean;
  history: HistoryLimits;
  /** What keeps them beside memory, and what stands before it. */
  storage?: Storage;
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

/** Everything behind the doors, on one node. */
export class Engine implements TurnTask, ReplayHost {
  readonly node: string;
  readonly counters: EngineCounters = { published: 0, delivered: 0, subscriptions: 0 };
  /** What messages wait in for the store; null where there is none. */
  readonly queue: HistoryQueue | null;
  /** See {@link ReplayHost}. */
  readonly readPage:
    | ((app: string, channel: string, afterTs: number) => Promise<StoredPage>)
    | null;

  #clock: Clock;
  #clockIsFresh = false;
  #turn: Turn;
  #apps = new Map<string, App>();
  #history: History | null;
  #maxChannelsPerConnection: number;
  #open: Channel[] = [];
  #inTurn = false;

  constructor(options: EngineOptions) {
    this.node = options.node;
    this.#clock = options.clock;
    this.#turn = options.turn;
    this.#maxChannelsPerConnection = options.maxChannelsPerConnection;
    this.queue = options.storage?.queue ?? null;
    this.#history = !options.keepHistory ? null : new History({
      limits: options.history,
      startTs: options.clock.last,
      node: options.node,
      storage: options.storage,
      remove: (channel) => this.#forget(channel),
    });
    const stored = this.#history?.stored ?? null;
    this.readPage = stored === null
      ? null
      : (app, channel, afterTs) => stored.page(app, channel, afterTs);
  }

  /** The application `id`, made when it is new. */
  app(id: string): App {
    let app = this.#apps.get(id);
    if (app === undefined) this.#apps.set(id, app = new App(id));
    return app;
  }

  /** Whether messages are kept for `his` and `sub … <timestamp>`. */
  get keepsHistory(): boolean {
    return this.#history !== null;
  }

  /** Takes other bounds, for sessions that are open, too. */
  setLimits(limits: { history: HistoryLimits; maxChannelsPerConnection: number }): void {
    this.#maxChannelsPerConnection = limits.maxChannelsPerConnection;
    this.#history?.cache.setLimits(limits.history);
  }

  /** Number of channels known, over all applications. */
  get channelCount(): number {
    let count = 0;
    for (const app of this.#apps.values()) count += app.size;
    return count;
  }

  /** Bytes of kept messages. */
  get historyBytes(): number {
    return this.#history?.cache.bytes ?? 0;
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
      if (channel.isIdle) this.#history?.cache.touch(channel);
    }
    channel.append(bytes, start, end, ts, this.#clock.digits, session.user);
    this.queue?.accept(channel.prefix.length + (end - start) + MESSAGE_LINE_EXTRA);
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
    this.#history?.append(channel, batch);
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
    this.#history?.cache.touch(subscription.channel);
    return true;
  }

  /**
   * `sub <channel> <timestamp>`; `afterTs` in microseconds. Undefined when the session follows the
   * channel already. A promise where the store is asked. Throws `history-off`; rejects with
   * `storage-unavailable`, and then nothing is subscribed.
   */
  subscribeFrom(
    session: Session,
    name: string,
    afterTs: number,
  ): ReplayStart | undefined | Promise<ReplayStart> {
    const bytes = nameBytes(name, "channel");
    const history = this.#requireHistory();
    const subscription = this.#subscription(session, bytes);
    if (subscription === undefined) return undefined;
    const start = history.begin(this, subscription, session.app, session.replays, afterTs);
    if (!(start instanceof Promise)) return start;
    return start.catch((error) => {
      this.#end(session, subscription);
      throw error;
    });
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
    this.#end(session, subscription);
    return true;
  }

  #end(session: Session, subscription: Subscription): void {
    // Ended already where the session has closed or unsubscribed meanwhile.
    if (session.subscriptions.get(subscription.channel) !== subscription) return;
    session.subscriptions.delete(subscription.channel);
    this.#leave(subscription);
    this.#afterLeave(subscription.channel);
  }

  #leave(subscription: Subscription): void {
    this.counters.subscriptions--;
    if (subscription.index >= 0) subscription.channel.leave(subscription);
  }

  #afterLeave(channel: Channel): void {
    if (!channel.isIdle) return;
    if (channel.history === null && !channel.isOpen) this.#forget(channel);
    else this.#history?.cache.touch(channel);
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
   * `his`: at most `limit` messages and about `maxBytes` of JSON (and what the protocol allows) from
   * `fromTs` (microseconds, included) on, oldest first. A promise where the store is asked. Throws
   * `history-off`, rejects with `storage-unavailable`.
   */
  history(
    session: Session,
    name: string,
    fromTs: number,
    limit: number,
    maxBytes = Infinity,
  ): HistoryPage | Promise<HistoryPage> {
    const { app } = session;
    const bytes = nameBytes(name, "channel");
    const history = this.#requireHistory();
    const channel = app.find(bytes, 0, bytes.length);
    if (channel !== undefined) this.closeBatch(channel);
    // Closing may have had it forgotten.
    const known = channel?.forgotten ? undefined : channel;
    return history.read({ app, name, bytes, fromTs, limit, maxBytes }, known);
  }

  #requireHistory(): History {
    if (this.#history !== null) return this.#history;
    throw new WireError("history-off", 'no history is kept here (msg_storage: "")');
  }

  /** The store has been opened, and knows timestamps up to `lastTs`: ours go on above it. */
  storeOpened(lastTs: number): void {
    this.#clock.moveFrom(lastTs);
    this.#history?.opened(lastTs);
  }

  /** Accepted messages have not been kept: they leave memory, too. */
  storeFailed(ranges: readonly MessageRange[]): void {
    this.#history?.failed(ranges, ({ app, channel }) => this.#find(app, channel));
  }

  /** Messages up to `ts` are kept nowhere any more. */
  pruned(app: string, channel: string, ts: number): void {
    this.#history?.pruned(this.#find(app, channel), ts);
  }

  /** `HistoryStore.prune` for the messages in memory, where nothing else keeps them: a whole round. */
  async pruneMemory({ beforeTs }: PruneRequest): Promise<PruneStep> {
    const cache = this.#requireHistory().cache;
    let sinceTurn = 0;
    for (const channel of beforeTs > 0 ? cache.channels() : []) {
      if (!channel.forgotten) cache.expire(channel, beforeTs);
      if (++sinceTurn % CHANNELS_PER_TURN === 0) await nextTurn();
    }
    return { pruned: [], cursor: undefined };
  }

  #find(app: string, channel: string): Channel | undefined {
    const bytes = encodeUtf8(channel);
    return this.#apps.get(app)?.find(bytes, 0, bytes.length);
  }

  /** Takes the channel out of its application; who still holds it must look it up again. */
  #forget(channel: Channel): void {
    channel.forgotten = true;
    channel.app.remove(channel);
  }
}
