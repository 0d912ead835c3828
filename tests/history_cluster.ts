// Several nodes in one process, for tests: real histories, and links that carry what the test says.

import assert from "node:assert/strict";
import { buffers } from "../src/core/buffer_pool.ts";
import { SmallSet } from "../src/core/small_set.ts";
import { Turn, type TurnTask } from "../src/core/turn.ts";
import type { Batch, Channel, Subscription } from "../src/engine/channel.ts";
import { App } from "../src/engine/channel_table.ts";
import {
  ClusterHistory,
  type ClusterHost,
  type HistoryRouter,
} from "../src/engine/cluster_history.ts";
import { History, type ReplayStart } from "../src/engine/history.ts";
import type { HistoryLimits } from "../src/engine/history_cache.ts";
import {
  type Block,
  type ChannelBlock,
  type HistoryStore,
  type MessageRange,
  type NewestRequest,
  type PruneRequest,
  type ReadRequest,
  StoreError,
} from "../src/engine/ports/history_store.ts";
import {
  type HistoryPeer,
  type KeptPage,
  type KeptRequest,
  PeerError,
} from "../src/engine/ports/router.ts";
import type { CatchUp } from "../src/engine/replay.ts";
import { encodeUtf8 } from "../src/proto/bytes.ts";
import { CommitQueue } from "../src/storage/commit_queue.ts";
import { MemoryStore } from "../src/storage/memory.ts";
import { arrayOf, Client } from "./engine_bench.ts";
import { goRound } from "./go_round.ts";

/** Where the messages of a cluster are kept. */
export type Keeping = "memory" | "own stores" | "one store";

/** 16 digits, as timestamps have. */
export const START_TS = 1_700_000_000_000_000;

/** A store whose appends wait for the test, in front of another. */
class HeldAppends implements HistoryStore {
  readonly description = "a store for tests";
  readonly appendsAtOnce = 1;
  holds = false;
  isDown = false;
  reads = 0;
  #end: (() => void) | null = null;

  constructor(readonly inner: HistoryStore) {}

  release(): void {
    this.#end?.();
    this.#end = null;
  }

  open() {
    this.#check();
    return this.inner.open();
  }
  async append(blocks: readonly ChannelBlock[]) {
    if (this.holds) await new Promise<void>((resolve) => this.#end = resolve);
    this.#check();
    await this.inner.append(blocks);
  }
  forget(ranges: readonly MessageRange[]) {
    return this.inner.forget(ranges);
  }
  async read(request: ReadRequest) {
    this.reads++;
    this.#check();
    return await this.inner.read(request);
  }
  async readNewest(request: NewestRequest) {
    this.#check();
    return await this.inner.readNewest(request);
  }
  async count(app: string, channel: string, afterTs: number, throughTs: number) {
    this.#check();
    return await this.inner.count(app, channel, afterTs, throughTs);
  }
  prune(request: PruneRequest) {
    return this.inner.prune(request);
  }
  scan() {
    return this.inner.scan();
  }
  close() {
    return Promise.resolve();
  }
  #check(): void {
    if (this.isDown) throw new StoreError("unavailable", "the store is down for a test");
  }
}

/** What is on its way to a node: messages in order with the sender's clock, and frames that overtake them. */
interface Way {
  messages: { madeAt: number; arrive(): void }[];
  frames: { madeAt: number; arrive(): void }[];
  /** When the link has failed; null while it is up. */
  downSince: number | null;
}

/** A client of a node: a connection as far as history is concerned. */
export class Visitor {
  readonly replays = new SmallSet<CatchUp>();
  readonly client: Client;
  subscription: Subscription | null = null;
  form: "text" | "json" = "json";
  /**
   * How its timestamp was found: `exactly` in the arrival log, `at a begin` of a segment, where what
   * was on its way may come again, or `by time`.
   */
  found: "exactly" | "at a begin" | "by time" = "by time";

  constructor(readonly node: TestNode, room = Infinity) {
    this.client = new Client(room);
    this.client.node = null;
  }

  /** `sub <channel> <timestamp>`: waits for the interest, and lets the messages flow. */
  async sub(channel: string, afterTs: number): Promise<ReplayStart> {
    const start = await this.node.subscribeFrom(this, channel, afterTs);
    start.start();
    return start;
  }

  /** Texts of all that it got so far. */
  read(): string[] {
    this.client.read();
    for (const replay of this.replays) replay.pump();
    this.client.read();
    return this.client.got.map(({ msg }) => msg);
  }

  /** Reads until it is live. */
  async catchUp(): Promise<string[]> {
    while (this.replays.size > 0 && !this.client.isCut) {
      this.read();
      await goRound();
    }
    return this.read();
  }

  leave(): void {
    this.node.leave(this);
  }
}

export interface ClusterOptions {
  nodes: number;
  keeping: Keeping;
  history?: Partial<HistoryLimits>;
  logs?: { maxMessagesPerChannel?: number; maxBytes?: number };
  maxSkewMicros?: number;
  /** Messages in a page of a source; default: as many as a page takes. */
  pageMessages?: number;
  /** Whether the arrival logs are told of acknowledgements; so by default. */
  tellsOfAcknowledgements?: boolean;
}

/** One node. */
export class TestNode implements ClusterHost, TurnTask {
  readonly app = (id: string): App => {
    assert.equal(id, "default");
    return this.world;
  };
  readonly world = new App("default");
  readonly turn = new Turn();
  readonly history: History;
  readonly cluster: ClusterHistory;
  readonly store: HeldAppends | null;
  readonly queue: CommitQueue | null;
  readonly router: TestRouter;
  lastTs: number;
  delivered = 0;
  /** How far its clock is off, microseconds. */
  skew = 0;
  #open = new Set<Channel>();

  constructor(
    readonly all: TestCluster,
    readonly node: string,
    store: HistoryStore | null,
  ) {
    const { keeping, history, logs, pageMessages } = all.options;
    const page = { maxMessages: pageMessages ?? 1, maxBytes: 1 << 20 };
    this.lastTs = all.now;
    this.store = store === null ? null : new HeldAppends(store);
    this.queue = this.store === null ? null : new CommitQueue({
      store: this.store,
      turn: this.turn,
      limits: { flushPolicy: 0, maxMessages: 1e5, maxBytes: 1 << 30, maxBufferedMessages: 1e5 },
      onOpened: () => {},
      onFailed: (ranges) => {
        this.history.failed(ranges, () => this.find(ranges[0].channel));
        for (const { channel, firstTs } of ranges) {
          const found = this.find(channel);
          if (found !== undefined) this.cluster.logs.takeBack(found, firstTs);
        }
        this.cluster.forgetRead();
      },
    });
    this.history = new History({
      limits: {
        maxMessagesPerChannel: 100_000,
        maxBytes: 1 << 30,
        maxIdleChannels: 1000,
        ...history,
      },
      startTs: this.lastTs,
      node,
      storage: this.store === null || this.queue === null
        ? undefined
        : { store: this.store, queue: this.queue },
      remove: (channel) => this.#forget(channel),
    });
    this.router = new TestRouter(this);
    this.cluster = new ClusterHistory({
      host: this,
      router: this.router,
      parts: {
        cache: this.history.cache,
        stored: this.history.stored,
        isShared: keeping === "one store",
      },
      limits: { maxMessagesPerChannel: 100_000, maxBytes: 1 << 30, ...logs },
      pages: pageMessages === undefined ? undefined : { own: page, peer: page, unsettled: page },
    });
  }

  async start(): Promise<void> {
    await this.queue?.open();
    this.queue?.startAt(this.lastTs);
    this.queue?.supervise();
  }

  find(channel: string): Channel | undefined {
    const bytes = encodeUtf8(channel);
    return this.world.find(bytes, 0, bytes.length);
  }

  channel(name: string): Channel {
    const bytes = encodeUtf8(name);
    return this.world.open(bytes, 0, bytes.length);
  }

  #forget(channel: Channel): void {
    assert.ok(channel.isIdle && !channel.isOpen);
    channel.forgotten = true;
    this.cluster.logs.forget(channel);
    channel.app.remove(channel);
  }

  sawTimestamp(ts: number): void {
    this.lastTs = Math.max(this.lastTs, ts);
  }

  /** Publishes; the batch is closed at the end of the turn. */
  pub(name: string, msg: string): number {
    const channel = this.channel(name);
    const ts = this.lastTs = Math.max(this.lastTs + 1, this.all.now + this.skew);
    const text = encodeUtf8(msg);
    if (!channel.isOpen) {
      this.#open.add(channel);
      this.turn.addSource(this);
    }
    channel.append(text, 0, text.length, ts, encodeUtf8(String(ts)), undefined);
    this.queue?.accept(text.length);
    this.all.published.push({ channel: name, ts, node: this.node, msg });
    return ts;
  }

  endTurn(): void {
    for (const channel of this.#open) this.closeBatch(channel);
    this.#open.clear();
    this.router.sayClock();
  }

  closeBatch(channel: Channel): void {
    const batch = channel.takeBatch();
    if (batch === null) return;
    this.history.append(channel, batch);
    this.#hand(channel, batch, this.node);
    this.router.forwardBatch(channel, batch);
    batch.lines.release();
  }

  #hand(channel: Channel, batch: Batch, node: string): void {
    channel.fanOut(batch, node);
    this.cluster.logs.append(channel, batch, node);
  }

  deliverRemote(name: string, block: Block): void {
    const channel = this.find(name);
    if (channel === undefined || channel.isIdle) return;
    this.closeBatch(channel);
    const lines = buffers.copyOf(block.lines);
    this.#hand(channel, { ...block, lines, froms: null }, block.node);
    lines.release();
  }

  countDelivered(messages: number): void {
    this.delivered += messages;
  }

  unaware(channel: Channel): string[] {
    return this.router.unaware(channel);
  }

  onLogDropped(channel: Channel): void {
    if (channel.isIdle && !channel.isOpen && channel.history === null) this.#forget(channel);
  }

  subscribe(visitor: Visitor, name: string): void {
    const channel = this.channel(name);
    this.closeBatch(channel);
    visitor.subscription = {
      follower: { subscriber: visitor.client, form: visitor.form },
      channel,
      index: -1,
    };
    channel.join(visitor.subscription);
    this.router.want(channel);
  }

  async subscribeFrom(visitor: Visitor, name: string, afterTs: number): Promise<ReplayStart> {
    const channel = this.channel(name);
    this.closeBatch(channel);
    const subscription = {
      follower: { subscriber: visitor.client, form: visitor.form },
      channel,
      index: -1,
    };
    visitor.subscription = subscription;
    channel.catchingUp++;
    this.router.want(channel);
    await this.router.whenKnown(channel);
    this.closeBatch(channel);
    channel.catchingUp--;
    if (visitor.subscription !== subscription) {
      this.#left(channel);
      return { count: 0, partial: false, start: () => {} };
    }
    const found = this.cluster.logs.open(channel).log.find(afterTs, 0);
    if (found !== null) {
      const { cursor: { segment }, vector } = found;
      // What a peer said that was linked after the begin may have been read from it, too.
      const isOfAll = this.router.historyPeers.every(({ node }) => segment.takes(node));
      visitor.found = isOfAll && segment.covers(vector) ? "exactly" : "at a begin";
    }
    return await this.cluster.begin(subscription, visitor.replays, afterTs);
  }

  leave(visitor: Visitor): void {
    const { subscription } = visitor;
    if (subscription === null) return;
    const { channel } = subscription;
    this.closeBatch(channel);
    visitor.subscription = null;
    for (const replay of visitor.replays) replay.stop();
    if (subscription.index >= 0) channel.leave(subscription);
    this.#left(channel);
  }

  #left(channel: Channel): void {
    if (!channel.isIdle) return;
    this.router.unwant(channel);
    this.cluster.logs.lapse(channel);
    if (channel.history === null && !channel.isOpen && !this.cluster.logs.has(channel)) {
      this.#forget(channel);
    } else this.history.cache.touch(channel);
  }

  /** `his`, as an array. */
  async his(name: string, fromTs: number, limit = 1000) {
    const bytes = encodeUtf8(name);
    const request = { app: this.world, name, bytes, fromTs, limit, maxBytes: Infinity };
    const page = await this.cluster.read(request);
    const { partial } = page;
    const kept: { ts: number; msg: string; node: string }[] = JSON.parse(arrayOf(page));
    return { kept, texts: kept.map(({ msg }) => msg), partial };
  }
}

/** The router of one node: what the others know of its interest, and what has arrived. */
export class TestRouter implements HistoryRouter {
  watermarks: ReadonlyMap<string, number> = new Map();
  maxSkewMicros: number;
  /** Peers that cannot be asked, because their link is down. */
  readonly down = new Set<string>();
  /** Peers that do not answer. */
  readonly silent = new Set<string>();
  /** Requests that were made, by peer. */
  readonly asked = new Map<string, KeptRequest[]>();
  /** Whether answers wait for {@link release}; they say what was there when they were asked for. */
  holds = false;
  #held: (() => void)[] = [];
  /** The channels that each peer wants, as far as is known here. */
  readonly wantedBy = new Map<string, Set<string>>();
  #wanted = new Map<Channel, Set<string>>();
  /** By peer, channels that are wanted and of which it may not have heard before its link failed. */
  #unheard = new Map<string, Set<Channel>>();
  /** Peers that have been linked and not yet said that they have heard everything. */
  #relinked = new Set<string>();

  constructor(readonly self: TestNode) {
    this.maxSkewMicros = self.all.options.maxSkewMicros ?? 500_000;
  }

  get #peers(): TestNode[] {
    return this.self.all.nodes.filter((node) => node !== this.self);
  }

  get historyPeers(): HistoryPeer[] {
    return this.#peers.filter(({ node }) => !this.down.has(node)).map((peer) => ({
      node: peer.node,
      kept: (request) => this.#ask(peer, request),
    }));
  }

  async #ask(peer: TestNode, request: KeptRequest): Promise<KeptPage> {
    const asked = this.asked.get(peer.node) ?? [];
    asked.push(request);
    this.asked.set(peer.node, asked);
    if (this.silent.has(peer.node)) throw new PeerError(`${peer.node} is silent`);
    await goRound();
    if (this.silent.has(peer.node)) throw new PeerError(`${peer.node} is silent`);
    const page = await peer.cluster.kept(request);
    if (this.holds) await new Promise<void>((resolve) => this.#held.push(resolve));
    return page;
  }

  /** Lets held answers go. */
  release(): void {
    for (const release of this.#held.splice(0)) release();
  }

  missingPeers(): readonly string[] {
    return [...this.down];
  }

  want(channel: Channel): void {
    if (this.#wanted.has(channel)) return;
    const waitsFor = new Set<string>();
    this.#wanted.set(channel, waitsFor);
    const { name } = channel;
    for (const peer of this.#peers) {
      if (this.down.has(peer.node)) {
        this.#unheardBy(peer.node).add(channel);
        continue;
      }
      waitsFor.add(peer.node);
      this.#tell(peer, () => {
        peer.router.hear(this.self.node, name, true);
        this.#acknowledge(peer, () => waitsFor.delete(peer.node));
      });
    }
  }

  #tell(peer: TestNode, arrive: () => void): void {
    this.self.all.way(this.self, peer).frames.push({ madeAt: this.self.all.now, arrive });
  }

  hear(peer: string, name: string, isWanted: boolean): void {
    const wanted = this.wantedBy.get(peer) ?? new Set();
    if (isWanted) wanted.add(name);
    else wanted.delete(name);
    this.wantedBy.set(peer, wanted);
  }

  unwant(channel: Channel): void {
    if (!this.#wanted.delete(channel)) return;
    for (const channels of this.#unheard.values()) channels.delete(channel);
    const { name } = channel;
    for (const peer of this.#peers) {
      if (!this.down.has(peer.node)) {
        this.#tell(peer, () => peer.router.hear(this.self.node, name, false));
      }
    }
  }

  unaware(channel: Channel): string[] {
    return [...new Set([...this.#wanted.get(channel) ?? [], ...this.#relinked])];
  }

  async whenKnown(channel: Channel): Promise<void> {
    while (this.unaware(channel).length > 0) await goRound();
  }

  forwardBatch(channel: Channel, { lines, count, firstTs, lastTs }: Batch): void {
    const { name } = channel;
    const { node } = this.self;
    for (const peer of this.#peers) {
      if (!this.wantedBy.get(peer.node)?.has(name)) continue;
      const block = { node, lines: lines.view.slice(), count, firstTs, lastTs, froms: null };
      this.self.all.way(this.self, peer).messages.push({
        madeAt: this.self.all.now,
        arrive: () => {
          peer.sawTimestamp(lastTs);
          peer.deliverRemote(name, block);
        },
      });
    }
  }

  /** Tells every peer how far our clock is, behind what was forwarded. */
  sayClock(): void {
    const { lastTs, node, all } = this.self;
    for (const peer of this.#peers) {
      all.way(this.self, peer).messages.push({
        madeAt: all.now,
        arrive: () => {
          peer.sawTimestamp(lastTs);
          peer.router.watermarks = new Map(peer.router.watermarks).set(node, lastTs);
        },
      });
    }
  }

  /** The link to a peer fails: nobody waits for it any more. */
  linkDown(peer: TestNode): void {
    this.down.add(peer.node);
    this.#relinked.delete(peer.node);
    for (const [channel, waitsFor] of this.#wanted) {
      if (waitsFor.delete(peer.node)) this.#unheardBy(peer.node).add(channel);
    }
  }

  #unheardBy(peer: string): Set<Channel> {
    let channels = this.#unheard.get(peer);
    if (channels === undefined) this.#unheard.set(peer, channels = new Set());
    return channels;
  }

  /**
   * The link to a peer is up again, or for the first time: it is told everything. What it knew before was
   * kept for us meanwhile.
   */
  linkUp(peer: TestNode): void {
    this.down.delete(peer.node);
    const unheard = new Set(this.#unheardBy(peer.node));
    this.#unheardBy(peer.node).clear();
    const known = [...this.#wanted.keys()].filter((channel) => !unheard.has(channel));
    peer.router.wantedBy.set(this.self.node, new Set(known.map(({ name }) => name)));
    for (const channel of unheard) this.#wanted.get(channel)?.add(peer.node);
    this.#relinked.add(peer.node);
    const channels = [...this.#wanted.keys()];
    this.self.sawTimestamp(peer.lastTs);
    // As of one that has been started anew: its messages may come before it acknowledges.
    if (unheard.size > 0) this.self.cluster.logs.interrupt(peer.node, -1);
    this.#tell(peer, () => {
      for (const channel of channels) {
        if (this.#wanted.has(channel)) peer.router.hear(this.self.node, channel.name, true);
      }
      this.#acknowledge(peer, () => {
        this.#relinked.delete(peer.node);
        for (const channel of unheard) this.#wanted.get(channel)?.delete(peer.node);
        if (unheard.size > 0) this.self.cluster.logs.interrupt(peer.node, -1);
      });
    });
  }

  /** A peer acknowledges what it has heard. */
  #acknowledge(peer: TestNode, then: () => void): void {
    const { lastTs } = peer;
    this.self.all.way(peer, this.self).frames.push({
      madeAt: this.self.all.now,
      arrive: () => {
        this.self.sawTimestamp(lastTs);
        if (this.self.all.options.tellsOfAcknowledgements !== false) {
          this.self.cluster.logs.acknowledged();
        }
        then();
      },
    });
  }
}

/** Nodes and the ways between them. */
export class TestCluster implements AsyncDisposable {
  /** Microseconds. */
  now = START_TS;
  readonly nodes: TestNode[] = [];
  readonly published: { channel: string; ts: number; node: string; msg: string }[] = [];
  /** Whether everything arrives by itself, at the end of the event loop's round. */
  isPrompt = true;
  /** Links that have failed so far. */
  cuts = 0;
  #ways = new Map<string, Way>();

  private constructor(readonly options: ClusterOptions) {}

  static async open(options: ClusterOptions): Promise<TestCluster> {
    const cluster = new TestCluster(options);
    const shared = options.keeping === "one store" ? new MemoryStore() : null;
    for (let i = 0; i < options.nodes; i++) {
      const own = options.keeping === "own stores" ? new MemoryStore() : null;
      cluster.nodes.push(new TestNode(cluster, `n${i}`, shared ?? own));
    }
    for (const node of cluster.nodes) await node.start();
    return cluster;
  }

  way(from: TestNode, to: TestNode): Way {
    const key = `${from.node} ${to.node}`;
    let way = this.#ways.get(key);
    if (way === undefined) {
      this.#ways.set(key, way = { messages: [], frames: [], downSince: null });
    }
    return way;
  }

  /** Those on which something can arrive. */
  get ways(): Way[] {
    return [...this.#ways.values()].filter(({ downSince }) => downSince === null);
  }

  /** The link between two nodes fails: messages wait for it, frames are lost. */
  cut(a: TestNode, b: TestNode): void {
    this.cuts++;
    for (const [from, to] of [[a, b], [b, a]]) {
      if (from === to || from.router.down.has(to.node)) return;
      from.router.linkDown(to);
      const way = this.way(from, to);
      way.frames.length = 0;
      way.downSince = this.now;
    }
  }

  /** Brings back the links that failed before this moment. */
  mend(cutBefore = Infinity): void {
    for (const a of this.nodes) {
      for (const b of this.nodes) {
        const way = this.way(a, b);
        if (way.downSince === null || way.downSince >= cutBefore) continue;
        way.downSince = null;
        a.router.linkUp(b);
      }
    }
  }

  /** Lets everything arrive that was sent before this moment. */
  arriveAll(sentBefore = Infinity): void {
    for (let isMore = true; isMore;) {
      isMore = false;
      for (const way of this.ways) {
        for (const queue of [way.frames, way.messages]) {
          while (queue.length > 0 && queue[0].madeAt < sentBefore) {
            queue.shift()?.arrive();
            isMore = true;
          }
        }
      }
    }
  }

  /** A round of the event loop, with all that arrives in it. */
  async round(): Promise<void> {
    this.now += 1000;
    await goRound();
    if (this.isPrompt) this.arriveAll();
    await goRound();
  }

  async until(isDone: () => boolean): Promise<void> {
    while (!isDone()) await this.round();
  }

  /** Everybody says how far its clock is, and everything arrives and is kept. */
  async settle(): Promise<void> {
    for (const node of this.nodes) {
      if (node.store !== null) node.store.holds = false;
      node.store?.release();
      node.router.holds = false;
      node.router.release();
    }
    await this.round();
    for (const node of this.nodes) node.router.sayClock();
    this.arriveAll();
    await this.until(() => this.nodes.every(({ queue }) => (queue?.messages ?? 0) === 0));
    for (const node of this.nodes) node.router.sayClock();
    this.arriveAll();
    await this.round();
  }

  /** The texts of a channel in the order of `his`. */
  texts(channel: string): string[] {
    return this.published.filter((one) => one.channel === channel)
      .toSorted((a, b) => a.ts - b.ts || (a.node < b.node ? -1 : 1)).map(({ msg }) => msg);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { store, queue } of this.nodes) {
      if (store === null) continue;
      store.holds = store.isDown = false;
      store.release();
      await queue?.close(5000);
    }
  }
}
