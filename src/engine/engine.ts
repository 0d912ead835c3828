// The engine: applications with their channels, who follows what, and the way of a message.

import type { Clock } from "../core/clock.ts";
import { watch } from "../core/spawn.ts";
import { nextTurn, type Turn, type TurnTask } from "../core/turn.ts";
import { encodeUtf8 } from "../proto/bytes.ts";
import { MESSAGE_LINE_EXTRA } from "../proto/encoder.ts";
import { WireError } from "../proto/errors.ts";
import { checkName, nameBytes } from "../proto/names.ts";
import { Announced } from "./announced.ts";
import type { LogLimits } from "./arrival_logs.ts";
import type { Batch, Channel, Subscription } from "./channel.ts";
import { App, DEFAULT_APP } from "./channel_table.ts";
import { Clustered, type ClusteredHost } from "./clustered.ts";
import { History, type HistoryPage, type ReplayStart, type Storage } from "./history.ts";
import type { CacheReads, HistoryLimits } from "./history_cache.ts";
import { Latency } from "./latency.ts";
import { LongFanOut, PIECES, type Pieces } from "./long_fan_out.ts";
import type { HistoryQueue } from "./ports/history_queue.ts";
import type { MessageRange, PruneRequest, PruneStep } from "./ports/history_store.ts";
import type { Router, RouterHost } from "./ports/router.ts";
import type { Subscriber } from "./ports/subscriber.ts";
import type { ReplayHost } from "./replay.ts";
import { Session } from "./session.ts";
import type { StoredPage } from "./store_pages.ts";

export type { HistoryPage, ReplayStart } from "./history.ts";

/** Channels that are looked at before others have their turn. */
const CHANNELS_PER_TURN = 1000;
/** Subscriptions of a connection that leaves, ended before others have their turn. */
const LEFT_AT_ONCE = 1000;
/** For a subscription that has ended before its replay could begin. */
const NO_REPLAY: ReplayStart = { count: 0, partial: false, start: () => {} };

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
  /** The other nodes, where there may be some. */
  cluster?: ClusterOptions;
  maxChannelsPerConnection: number;
  /** When a batch is handed out in pieces, and in which; {@link PIECES} where it is not given. */
  pieces?: Pieces;
}

/** What makes an engine a part of a cluster. */
export interface ClusterOptions {
  router: Router;
  /** Whether the store is every node's. */
  isStoreShared: boolean;
  /** Bounds of what is remembered of the order in which messages arrived. */
  arrivals: LogLimits;
}

/** The bounds that may change. */
export interface EngineLimits {
  history: HistoryLimits;
  /** See {@link ClusterOptions}. */
  arrivals: LogLimits;
  maxChannelsPerConnection: number;
}

/** A new subscription that is not among the channel's yet. */
export interface Joining {
  /** Until the other nodes know of it; null when there is nothing to wait for. */
  readonly ready: Promise<void> | null;
  /** Makes it live: what is published from now on is delivered. */
  join(): void;
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
export class Engine implements TurnTask, ReplayHost, ClusteredHost {
  readonly node: string;
  readonly counters: EngineCounters = { published: 0, delivered: 0, subscriptions: 0 };
  readonly latency: Latency = new Latency();
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
  #clustered: Clustered | null;
  #maxChannelsPerConnection: number;
  #pieces: Pieces;
  #open: Channel[] = [];
  #inTurn = false;

  constructor(options: EngineOptions) {
    this.node = options.node;
    this.#clock = options.clock;
    this.#turn = options.turn;
    this.#maxChannelsPerConnection = options.maxChannelsPerConnection;
    this.#pieces = options.pieces ?? PIECES;
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
    this.#clustered = this.#joinCluster(options.cluster);
  }

  #joinCluster(options: ClusterOptions | undefined): Clustered | null {
    if (options === undefined) return null;
    const { router, isStoreShared: isShared, arrivals: limits } = options;
    const history = this.#history;
    const parts = history && { cache: history.cache, stored: history.stored, isShared };
    return new Clustered({ host: this, router, parts, limits });
  }

  /** What the router asks of this engine; null without a router. */
  get routerHost(): RouterHost | null {
    return this.#clustered;
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
  setLimits(limits: EngineLimits): void {
    this.#maxChannelsPerConnection = limits.maxChannelsPerConnection;
    this.#history?.cache.setLimits(limits.history);
    this.#clustered?.history?.logs.setLimits(limits.arrivals);
  }

  /** Number of channels known, over all applications. */
  get channelCount(): number {
    let count = 0;
    for (const app of this.#apps.values()) count += app.size;
    return count;
  }

  /** Bytes of messages in memory. */
  get historyBytes(): number {
    return (this.#history?.cache.bytes ?? 0) + (this.#clustered?.history?.logs.bytes ?? 0);
  }

  /** Reads of history that memory could answer, and those that it could not. */
  get historyReads(): Readonly<CacheReads> {
    return this.#history?.cache.reads ?? { hits: 0, misses: 0 };
  }

  /** The last timestamp given, or seen at a peer, microseconds. */
  get lastTs(): number {
    return this.#clock.last;
  }

  /** A timestamp of now, microseconds: every message accepted later has a later one. */
  presentTs(): number {
    this.#clock.refresh();
    return this.#clock.last;
  }

  sawTimestamp(ts: number): void {
    this.#clock.moveFrom(ts);
  }

  /** A new connection's session, in the application `default`. */
  openSession(subscriber: Subscriber, address: string): Session {
    return new Session(this.app(DEFAULT_APP), subscriber, address);
  }

  /** Ends everything that the session follows. Idempotent. */
  closeSession(session: Session): void {
    if (session.closed) return;
    session.closed = true;
    for (const replay of session.replays) replay.stop();
    const ended = [...session.subscriptions];
    session.subscriptions.clear();
    this.#leaveAll(ended, 0);
    if (ended.length > LEFT_AT_ONCE) watch("engine.leave", this.#leaveRest(ended));
  }

  /** Ends so many of a session's subscriptions, as others have their turn behind them. */
  #leaveAll(ended: readonly Subscription[], from: number): void {
    const to = Math.min(ended.length, from + LEFT_AT_ONCE);
    for (let i = from; i < to; i++) {
      this.#leave(ended[i]);
      this.#afterLeave(ended[i].channel);
    }
  }

  async #leaveRest(ended: readonly Subscription[]): Promise<void> {
    for (let from = LEFT_AT_ONCE; from < ended.length; from += LEFT_AT_ONCE) {
      await nextTurn();
      this.#leaveAll(ended, from);
    }
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
      this.forgetIfUnused(channel);
    }
  }

  /** Closes the channel's open batch: keeps its messages and hands them to the subscribers. */
  closeBatch(channel: Channel): void {
    const batch = channel.takeBatch();
    if (batch === null) return;
    this.#history?.append(channel, batch);
    this.fanOut(channel, batch, this.node);
    this.#clustered?.hand(channel, batch);
    batch.lines.release();
  }

  /** Hands a batch to the channel's subscribers; where those are thousands, over some turns. */
  fanOut(channel: Channel, batch: Batch, node: string): void {
    const { subscribers } = channel;
    if (channel.longFanOut?.isEmpty) channel.longFanOut = null;
    if (subscribers.length === 0) return;
    this.counters.delivered += batch.count * subscribers.length;
    if (channel.longFanOut !== null || subscribers.length >= this.#pieces.from) {
      return this.#fanOutInPieces(channel, batch, node);
    }
    channel.fanOut(batch, node);
    // Behind it the turn has a task, and its time is known without a look at the clock.
    const { nowMs } = this.#turn;
    if (nowMs >= this.latency.deliveryDueMs) this.#measureDelivery(channel, nowMs);
  }

  #fanOutInPieces(channel: Channel, batch: Batch, node: string): void {
    const { nowMs } = this.#turn;
    const measured = nowMs < this.latency.deliveryDueMs
      ? -1
      : this.latency.beginDelivery(channel.subscribers.length, nowMs);
    const long = channel.longFanOut ??= new LongFanOut(channel, this.#pieces.size);
    for (let left = long.add(batch, node, measured, nowMs); left > 0; left--) {
      this.#turn.addSink(long);
    }
  }

  #measureDelivery({ subscribers }: Channel, nowMs: number): void {
    const index = this.latency.beginDelivery(subscribers.length, nowMs);
    subscribers[index].follower.subscriber.measureDelivery(nowMs);
  }

  countDelivered(messages: number): void {
    this.counters.delivered += messages;
  }

  /** `sub <channel>`. Undefined when the session follows it already. */
  subscribe(session: Session, name: string): Joining | undefined {
    const subscription = this.#subscription(session, nameBytes(name, "channel"));
    if (subscription === undefined) return undefined;
    const announced = this.#announce(session, subscription);
    return {
      ready: announced.ready,
      join: () => {
        const { channel } = subscription;
        // Before it has no follower for a moment, in which closing might have it forgotten.
        this.closeBatch(channel);
        if (!announced.end()) return;
        channel.join(subscription);
        this.#history?.cache.touch(channel);
      },
    };
  }

  /** The subscription is a follower from now on, and the other nodes are told where they have to be. */
  #announce(session: Session, subscription: Subscription): Announced {
    const { channel } = subscription;
    const announced = new Announced(subscription, session.replays);
    this.#clustered?.follow(channel);
    announced.ready = this.#clustered?.router.whenWanted(channel) ?? null;
    return announced;
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
    const announced = this.#announce(session, subscription);
    const begin = () => {
      this.closeBatch(subscription.channel);
      if (!announced.end()) return NO_REPLAY;
      return this.#clustered?.history?.begin(subscription, session.replays, afterTs) ??
        history.begin(this, subscription, session.app, session.replays, afterTs);
    };
    const start = announced.ready?.then(begin) ?? begin();
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
    session.subscriptions.add(subscription);
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
    channel.longFanOut?.settle(subscription);
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
    this.#clustered?.unfollow(channel);
    this.forgetIfUnused(channel);
    if (!channel.forgotten) this.#history?.cache.touch(channel);
  }

  /** Gives the session's replays the room that its subscriber has gained. */
  pumpReplays(session: Session): void {
    for (const replay of session.replays) replay.pump();
  }

  /** Hands out what the session's channels have collected; before its form of delivery changes. */
  closeBatches(session: Session): void {
    for (const subscription of session.subscriptions) {
      this.closeBatch(subscription.channel);
      subscription.channel.longFanOut?.settle(subscription);
    }
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
    const request = { app, name, bytes, fromTs, limit, maxBytes };
    const cluster = this.#clustered?.history;
    if (cluster) return cluster.read(request);
    // Closing may have had it forgotten.
    const known = channel?.forgotten ? undefined : channel;
    return history.read(request, known);
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
    const cluster = this.#clustered?.history;
    if (!cluster) return;
    for (const { app, channel, firstTs } of ranges) {
      const found = this.#find(app, channel);
      if (found !== undefined) cluster.logs.takeBack(found, firstTs);
    }
    cluster.forgetRead();
  }

  /** Messages up to `ts` are kept nowhere any more. */
  pruned(app: string, channel: string, ts: number): void {
    const found = this.#find(app, channel);
    this.#history?.pruned(found, ts);
    const cluster = this.#clustered?.history;
    if (!cluster) return;
    if (found !== undefined) cluster.logs.prune(found, ts);
    cluster.forgetRead();
  }

  /** Messages before `beforeTs` are to be kept nowhere: forgets what is remembered of peers' messages. */
  async forgetArrivals(beforeTs: number): Promise<void> {
    await this.#clustered?.expire(beforeTs);
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
    return this.findChannel(app, encodeUtf8(channel));
  }

  findChannel(app: string, name: Uint8Array): Channel | undefined {
    return this.#apps.get(app)?.find(name, 0, name.length);
  }

  *channels(): Generator<Channel> {
    for (const app of this.#apps.values()) yield* app.channels();
  }

  /** See {@link App.channelChunks}. */
  *channelChunks(): Generator<readonly Channel[]> {
    for (const app of this.#apps.values()) yield* app.channelChunks();
  }

  /** Whether somebody may get the channel's messages now, here or on another node. */
  mayHaveReaders(channel: Channel): boolean {
    return channel.subscribers.length > 0 || this.#clustered !== null;
  }

  /**
   * How far who gets the channel's messages is behind, here and on other nodes: see
   * {@link Channel.backlogs}.
   */
  backlogs(channel: Channel, nowMs: number): { least: number; most: number } {
    const here = channel.backlogs(nowMs);
    const away = this.#clustered?.router.backlog(channel, nowMs) ?? -1;
    if (away < 0) return here;
    const least = channel.subscribers.length === 0 ? away : Math.min(here.least, away);
    return { least, most: Math.max(here.most, away) };
  }

  forgetIfUnused(channel: Channel): void {
    if (!channel.isIdle || channel.isOpen || channel.history !== null || channel.forgotten) return;
    if (this.#clustered?.remembers(channel)) return;
    this.#forget(channel);
  }

  /** Takes the channel out of its application; who still holds it must look it up again. */
  #forget(channel: Channel): void {
    channel.forgotten = true;
    this.#clustered?.forget(channel);
    channel.app.remove(channel);
  }
}
