// What a store adds to the history in memory: what came before, and what no longer fits.

import { WireError } from "../proto/errors.ts";
import type { Channel } from "./channel.ts";
import type { App } from "./channel_table.ts";
import type { HistoryCache } from "./history_cache.ts";
import type { HistoryQueue } from "./ports/history_queue.ts";
import { type HistoryStore, type MessageRange, StoreError } from "./ports/history_store.ts";
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
    if (page.prunedTs > 0) history.prune(page.prunedTs);
    // Between the store's newest and the cache's oldest there must be nothing that neither has.
    if (!history.isFresh || history.lostTs > settledTs) return;
    const { blocks } = page;
    const behind = blocks.findIndex(({ lastTs }) => lastTs > history.lostTs);
    const older = behind < 0 ? blocks : blocks.slice(0, behind);
    // One block with messages of both: left to the store, as is everything before it.
    if (behind >= 0 && blocks[behind].firstTs <= history.lostTs) return;
    const first = older[0];
    const lostTs = page.isEnd ? page.prunedTs : (first?.firstTs ?? history.lostTs + 1) - 1;
    this.#cache.prepend(channel, older, lostTs);
  }

  /** A channel's messages up to `ts` have been deleted from the store. */
  pruned(channel: Channel | undefined, ts: number): void {
    this.#pages.forget();
    if (channel !== undefined) this.#cache.prune(channel, ts);
  }

  /** Messages that were accepted have not been kept. */
  failed(
    ranges: readonly MessageRange[],
    find: (range: MessageRange) => Channel | undefined,
  ): void {
    this.#pages.forget();
    for (const range of ranges) {
      const channel = find(range);
      if (channel !== undefined) this.#cache.takeBack(channel, range.firstTs);
    }
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

function unavailable(): WireError {
  return new WireError(
    "storage-unavailable",
    "the store does not answer, and memory does not reach back so far; try again in a while",
  );
}
