// What a store adds to the history in memory: what came before, and what no longer fits.

import { LF } from "../proto/bytes.ts";
import { lineTimestamp } from "../proto/encoder.ts";
import { WireError } from "../proto/errors.ts";
import type { Channel } from "./channel.ts";
import type { App } from "./channel_table.ts";
import type { HistoryCache } from "./history_cache.ts";
import type { HistoryQueue } from "./ports/history_queue.ts";
import {
  type Block,
  type HistoryStore,
  type MessageRange,
  type Page,
  type ReadRequest,
  StoreError,
} from "./ports/history_store.ts";
import { type StoredPage, StorePages } from "./store_pages.ts";

/** Bytes of a channel's newest messages that are taken into the cache when somebody asks for them. */
const MAX_REFILL_BYTES = 1024 * 1024;

/** Reads a store on behalf of the engine, and keeps the cache true to it. */
export class StoredHistory {
  readonly queue: HistoryQueue;

  #store: HistoryStore;
  #cache: HistoryCache;
  #pages: StorePages;
  /** By application and channel. */
  #refills = new Map<string, Promise<void>>();
  /** Counts what made messages untrue that were read before. */
  #epoch = 0;

  constructor(store: HistoryStore, queue: HistoryQueue, cache: HistoryCache) {
    this.#store = store;
    this.queue = queue;
    this.#cache = cache;
    this.#pages = new StorePages(store, () => queue.settledTs);
  }

  /**
   * A page with the channel's first messages after `afterTs`, maybe after some earlier ones. Rejects
   * with `storage-unavailable`.
   */
  page(app: string, channel: string, afterTs: number): Promise<StoredPage> {
    return this.#guard(() => this.#pages.read(app, channel, afterTs));
  }

  /**
   * A page as the store has it when it is asked, read for nobody else: for a store to which other
   * nodes append, too. Rejects with `storage-unavailable`.
   */
  read(request: ReadRequest): Promise<Page> {
    this.#cache.reads.misses++;
    return this.#guard(() => this.#store.read(request));
  }

  /** Number of stored messages with `afterTs < timestamp <= throughTs`. */
  count(app: string, channel: string, afterTs: number, throughTs: number): Promise<number> {
    if (throughTs <= afterTs) return Promise.resolve(0);
    return this.#guard(() => this.#store.count(app, channel, afterTs, throughTs));
  }

  /**
   * Takes the channel's newest messages into the cache where that has not been done since the start,
   * so that those who come next are served from memory. Rejects with `storage-unavailable`.
   */
  async refill(app: App, name: string, bytes: Uint8Array): Promise<void> {
    const channel = app.find(bytes, 0, bytes.length);
    if (channel?.history?.isFresh === false) return;
    const key = `${app.id}\0${name}`;
    let refill = this.#refills.get(key);
    if (refill === undefined) {
      refill = this.#guard(() => this.#refill(app, name, bytes));
      this.#refills.set(key, refill);
      const done = () => void this.#refills.delete(key);
      refill.then(done, done);
    }
    await refill;
  }

  async #refill(app: App, name: string, bytes: Uint8Array): Promise<void> {
    // Whatever is accepted up to here is in the store when it answers.
    const { settledTs } = this.queue;
    const epoch = this.#epoch;
    const page = await this.#store.readNewest({
      app: app.id,
      channel: name,
      maxMessages: this.#cache.maxMessagesPerChannel,
      maxBytes: MAX_REFILL_BYTES,
    });
    let channel = app.find(bytes, 0, bytes.length);
    // Nothing to keep, and nobody there: not worth a place in memory.
    if (channel === undefined && page.blocks.length === 0) return;
    channel ??= app.open(bytes, 0, bytes.length);
    const history = this.#cache.open(channel);
    this.#cache.touch(channel);
    if (page.prunedTs > 0) this.#cache.prune(channel, page.prunedTs);
    // Something has been deleted while the page was on its way: the next one who asks reads again.
    if (epoch !== this.#epoch) return;
    // Between the store's newest and the cache's oldest there must be nothing that neither has.
    if (!history.isFresh || history.lostTs > settledTs) return;
    const older = blocksThrough(page.blocks, channel.prefix.length, history.lostTs);
    const first = older[0];
    const lostTs = page.isEnd ? page.prunedTs : (first?.firstTs ?? history.lostTs + 1) - 1;
    this.#cache.prepend(channel, older, lostTs);
  }

  /** A channel's messages up to `ts` have been deleted from the store. */
  pruned(channel: Channel | undefined, ts: number): void {
    this.#forgetRead();
    if (channel !== undefined) this.#cache.prune(channel, ts);
  }

  /** Messages that were accepted have not been kept. */
  failed(
    ranges: readonly MessageRange[],
    find: (range: MessageRange) => Channel | undefined,
  ): void {
    this.#forgetRead();
    for (const range of ranges) {
      const channel = find(range);
      if (channel !== undefined) this.#cache.takeBack(channel, range.firstTs);
    }
  }

  #forgetRead(): void {
    this.#epoch++;
    this.#pages.forget();
  }

  async #guard<T>(work: () => Promise<T>): Promise<T> {
    if (!this.queue.isUp) throw unavailable();
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.queue.suspect();
      throw unavailable();
    }
  }
}

/** The messages of the blocks up to `throughTs`, as views of the same bytes. */
function blocksThrough(blocks: readonly Block[], prefixLength: number, throughTs: number): Block[] {
  const older: Block[] = [];
  for (const block of blocks) {
    if (block.firstTs > throughTs) break;
    older.push(block.lastTs <= throughTs ? block : headOf(block, prefixLength, throughTs));
  }
  return older;
}

/** The first lines of a block that begins at `throughTs` or before it, and goes on behind it. */
function headOf(block: Block, prefixLength: number, throughTs: number): Block {
  const { lines, froms } = block;
  let count = 0;
  let end = 0;
  let lastTs = 0;
  for (let ts = block.firstTs; ts <= throughTs;) {
    lastTs = ts;
    count++;
    end = lines.indexOf(LF, end) + 1;
    ts = lineTimestamp(lines, end, prefixLength);
  }
  const kept = froms?.slice(0, count) ?? null;
  return { ...block, lines: lines.subarray(0, end), count, lastTs, froms: kept };
}

function unavailable(): WireError {
  return new WireError(
    "storage-unavailable",
    "the store does not answer, and memory does not reach back so far; try again in a while",
  );
}
