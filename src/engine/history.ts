// The history of all channels: the newest messages in memory, all of them in a store where there is one.

import type { SmallSet } from "../core/small_set.ts";
import type { PooledBuffer } from "../core/buffer_pool.ts";
import { nextTurn } from "../core/turn.ts";
import { lineTimestamp, prefixLengthOf } from "../proto/encoder.ts";
import { HistoryLine } from "../proto/history_json.ts";
import type { Batch, Channel, Subscription } from "./channel.ts";
import type { Piece } from "./channel_history.ts";
import type { App } from "./channel_table.ts";
import { HistoryCache, type HistoryLimits } from "./history_cache.ts";
import { PageReader } from "./page_reader.ts";
import type { HistoryQueue, QueuedBlock } from "./ports/history_queue.ts";
import type { HistoryStore, MessageRange } from "./ports/history_store.ts";
import { type CatchUp, Replay, type ReplayHost } from "./replay.ts";
import { StoredHistory } from "./stored_history.ts";

/** About how large a page of `his` may become, in bytes of JSON. */
const MAX_PAGE_BYTES = 4 * 1024 * 1024;
/** Bytes of lines that are looked at together. */
const PIECE_BYTES = 64 * 1024;

/** What keeps messages beside memory, and what stands before it. */
export interface Storage {
  store: HistoryStore;
  queue: HistoryQueue;
}

/** Settings of a {@link History}. */
export interface HistoryOptions {
  limits: HistoryLimits;
  /** Timestamp of the start, microseconds. */
  startTs: number;
  node: string;
  storage?: Storage;
  /** Takes a forgotten channel out of its application. */
  remove(channel: Channel): void;
}

/** What `his` asks for. */
export interface HistoryRequest {
  app: App;
  /** The channel's name, and its bytes. */
  name: string;
  bytes: Uint8Array;
  /** Microseconds; messages at it are included. */
  fromTs: number;
  limit: number;
  /** Bound of the JSON, beside that of the protocol. */
  maxBytes: number;
}

/** A page of `his`. */
export interface HistoryPage {
  /** The reply's line, with its line end, and one ownership of it. */
  line: PooledBuffer;
  /** Whether some messages may be missing; the line says so, too. */
  partial: boolean;
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

/** A batch on its way into the store; its channel's name is decoded only where somebody asks. */
class StoreBatch implements QueuedBlock {
  readonly buffer;
  readonly lines;
  readonly count;
  readonly firstTs;
  readonly lastTs;
  readonly froms;
  #channel: Channel;

  constructor(channel: Channel, batch: Batch, readonly node: string) {
    this.#channel = channel;
    this.buffer = batch.lines;
    this.lines = batch.lines.view;
    this.count = batch.count;
    this.firstTs = batch.firstTs;
    this.lastTs = batch.lastTs;
    this.froms = batch.froms;
  }

  get app(): string {
    return this.#channel.app.id;
  }

  get channel(): string {
    return this.#channel.name;
  }
}

/** Keeps batches, and reads them back for `his` and for who catches up. */
export class History {
  readonly cache: HistoryCache;
  readonly stored: StoredHistory | null;

  #node: string;
  #queue: HistoryQueue | null;

  constructor(options: HistoryOptions) {
    const { limits, startTs, node, storage, remove } = options;
    this.#node = node;
    this.#queue = storage?.queue ?? null;
    const isOnlyCopy = storage === undefined;
    this.cache = new HistoryCache(limits, { startTs, isOnlyCopy, node, remove });
    this.stored = storage === undefined
      ? null
      : new StoredHistory(storage.store, storage.queue, this.cache);
  }

  /** Keeps a batch of the channel; the caller keeps its ownership of the lines. */
  append(channel: Channel, batch: Batch): void {
    const queue = this.#queue;
    if (queue !== null) {
      this.cache.settledTs = queue.settledTs;
      batch.lines.retain();
      queue.append(new StoreBatch(channel, batch, this.#node));
    }
    this.cache.append(channel, batch.lines.view, batch);
  }

  /**
   * Kept messages from a timestamp on; at once where memory reaches back so far. `channel` has no open
   * batch. Throws or rejects with `storage-unavailable`.
   */
  read(request: HistoryRequest, channel: Channel | undefined): HistoryPage | Promise<HistoryPage> {
    const afterTs = Math.max(0, request.fromTs - 1);
    const page = new HistoryJson(request);
    const history = channel?.history ?? null;
    if (channel !== undefined && history !== null && history.covers(afterTs)) {
      this.cache.reads.hits++;
      this.cache.touch(channel);
      this.#addFromMemory(page, channel, afterTs);
      return page.finish(history.isPartial(afterTs));
    }
    if (this.stored === null) {
      this.cache.reads.hits++;
      return page.finish(this.cache.isPartial(afterTs));
    }
    this.cache.reads.misses++;
    return this.#readStored(this.stored, request, page, afterTs);
  }

  #addFromMemory(page: HistoryJson, channel: Channel, afterTs: number): void {
    const { history } = channel;
    if (history === null) return;
    const { cursor } = history.seek(afterTs);
    while (true) {
      const piece = history.next(cursor, PIECE_BYTES);
      if (piece === undefined || !page.add(piece)) return;
    }
  }

  async #readStored(
    stored: StoredHistory,
    request: HistoryRequest,
    page: HistoryJson,
    startTs: number,
  ): Promise<HistoryPage> {
    const { app, bytes, name } = request;
    await stored.refill(app, name, bytes);
    let afterTs = startTs;
    let isPartial = false;
    while (true) {
      const channel = app.find(bytes, 0, bytes.length);
      const history = channel?.history ?? null;
      if (channel !== undefined && history !== null && history.covers(afterTs)) {
        if (afterTs === startTs) isPartial = history.isPartial(startTs);
        this.#addFromMemory(page, channel, afterTs);
        return page.finish(isPartial);
      }
      const read = await stored.page(app.id, name, afterTs);
      isPartial ||= startTs > 0 && read.prunedTs > startTs;
      const reader = new PageReader(read, prefixLengthOf(bytes), afterTs);
      while (true) {
        const piece = reader.next(PIECE_BYTES);
        if (piece === undefined) break;
        const { lines, line, block: { node, froms } } = piece;
        if (!page.add({ lines, line, node, froms })) return page.finish(isPartial);
      }
      afterTs = reader.throughTs;
      if (read.isEnd && !this.#isAhead(app, bytes, afterTs)) return page.finish(isPartial);
      // A large answer is made of several pages; others have their turn between them.
      await nextTurn();
    }
  }

  /** Whether memory holds messages of the channel after `ts`. */
  #isAhead(app: App, bytes: Uint8Array, ts: number): boolean {
    const channel = app.find(bytes, 0, bytes.length);
    return channel !== undefined && channel.history !== null && channel.lastTs > ts;
  }

  /**
   * Begins to catch up from `afterTs` on, for a subscription whose channel has no open batch; at once
   * where memory reaches back so far. Throws or rejects with `storage-unavailable`, and the replay is
   * over.
   */
  begin(
    host: ReplayHost,
    subscription: Subscription,
    app: App,
    siblings: SmallSet<CatchUp>,
    afterTs: number,
  ): ReplayStart | Promise<ReplayStart> {
    const { channel } = subscription;
    if (this.stored === null && channel.history === null) {
      this.cache.reads.hits++;
      channel.join(subscription);
      return { count: 0, partial: this.cache.isPartial(afterTs), start: () => {} };
    }
    const replay = new Replay(host, subscription, afterTs, siblings);
    // It has a follower now, and is not to be forgotten, however long the store takes.
    this.cache.touch(channel);
    const start = this.#beginInMemory(replay, channel, afterTs);
    if (start !== null) {
      this.cache.reads.hits++;
      return start;
    }
    this.cache.reads.misses++;
    if (this.stored === null) throw new Error("memory is all there is, and does not reach back");
    return this.#beginInStore(this.stored, replay, app, afterTs).catch((error) => {
      replay.stop();
      throw error;
    });
  }

  #beginInMemory(replay: Replay, channel: Channel, afterTs: number): ReplayStart | null {
    const { history } = channel;
    if (history === null || !history.covers(afterTs)) return null;
    const { cursor, count } = history.seek(afterTs);
    replay.beginAt(cursor);
    return { count, partial: history.isPartial(afterTs), start: () => replay.start() };
  }

  async #beginInStore(
    stored: StoredHistory,
    replay: Replay,
    app: App,
    afterTs: number,
  ): Promise<ReplayStart> {
    const { channel } = replay.subscription;
    const { name } = channel;
    await stored.refill(app, name, channel.nameBytes);
    replay.host.closeBatch(channel);
    const start = this.#beginInMemory(replay, channel, afterTs);
    if (start !== null) return start;
    const page = await stored.page(app.id, name, afterTs);
    replay.host.closeBatch(channel);
    // Two parts that do not overlap: what memory holds, and what was kept by the store before that.
    const { history } = channel;
    const splitTs = history === null ? stored.queue.settledTs : history.lostTs;
    const inMemory = history?.seek(Math.max(splitTs, afterTs)).count ?? 0;
    const count = await stored.count(app.id, name, afterTs, splitTs) + inMemory;
    replay.beginWith(page);
    return {
      count,
      partial: afterTs > 0 && page.prunedTs > afterTs,
      start: () => replay.start(),
    };
  }

  /** The store has been opened, and knows messages up to `lastTs`. */
  opened(lastTs: number): void {
    this.cache.raiseStart(lastTs);
  }

  /** Messages up to `ts` of a channel are to be kept nowhere any more. */
  pruned(channel: Channel | undefined, ts: number): void {
    if (this.stored !== null) this.stored.pruned(channel, ts);
    else if (channel !== undefined) this.cache.prune(channel, ts);
  }

  /** Accepted messages have not been kept: they leave memory, too. */
  failed(
    ranges: readonly MessageRange[],
    find: (range: MessageRange) => Channel | undefined,
  ): void {
    this.stored?.failed(ranges, find);
  }
}

/** Collects messages for one answer, within its bounds and never cut between two of one timestamp. */
export class HistoryJson {
  #line: HistoryLine;
  #prefixLength: number;
  #maxBytes: number;
  #lastTs = 0;

  constructor(readonly request: HistoryRequest) {
    const { name, bytes, limit, maxBytes } = request;
    this.#prefixLength = prefixLengthOf(bytes);
    this.#line = new HistoryLine(name, this.#prefixLength, limit);
    this.#maxBytes = Math.min(maxBytes, MAX_PAGE_BYTES);
  }

  /** Adds lines; false when one of them does not belong to this answer any more. */
  add({ lines, node, froms, line: first }: Omit<Piece, "count">): boolean {
    const line = this.#line;
    line.from(lines, node);
    let number = first;
    let lastAt = -1;
    const lastTs = () => lastAt < 0 ? this.#lastTs : this.#ts(lines, lastAt);
    for (let at = 0; at < lines.length; number++) {
      const isFull = line.count >= this.request.limit || line.bytes >= this.#maxBytes;
      if (isFull && line.count > 0 && this.#ts(lines, at) !== lastTs()) return false;
      lastAt = at;
      at = line.add(at, froms?.[number]);
    }
    this.#lastTs = lastTs();
    return true;
  }

  #ts(lines: Uint8Array, at: number): number {
    return lineTimestamp(lines, at, this.#prefixLength);
  }

  finish(partial: boolean): HistoryPage {
    return { line: this.#line.finish(partial), partial };
  }
}
