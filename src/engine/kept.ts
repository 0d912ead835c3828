// What this node keeps itself of a channel, as pages: for its own part of a merged history, and for peers.

import { nextTurn } from "../core/turn.ts";
import { LF } from "../proto/bytes.ts";
import { lineTimestamp, prefixLengthOf } from "../proto/encoder.ts";
import { nameBytes } from "../proto/names.ts";
import type { Channel } from "./channel.ts";
import type { ChannelHistory, Piece } from "./channel_history.ts";
import type { App } from "./channel_table.ts";
import type { HistoryCache } from "./history_cache.ts";
import { PageReader } from "./page_reader.ts";
import type { Block } from "./ports/history_store.ts";
import type { KeptPage, KeptRequest } from "./ports/router.ts";
import type { StoredHistory } from "./stored_history.ts";

/** Places of which is remembered how many messages lie behind them. */
const MAX_REMEMBERED_COUNTS = 1000;

/** What is asked of the engine. */
export interface KeptHost {
  /** The last timestamp given here, microseconds. */
  readonly lastTs: number;
  app(id: string): App;
  /** Closes the channel's open batch, so that its messages are among the kept ones. */
  closeBatch(channel: Channel): void;
}

/** The history in memory, and what keeps it beside memory. */
export interface KeptParts {
  readonly cache: HistoryCache;
  readonly stored: StoredHistory | null;
  /** Whether the store is every node's: then memory alone is this node's. */
  readonly isShared: boolean;
}

/** A channel by its name. */
interface Named {
  readonly app: App;
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly prefixLength: number;
}

/** Reads this node's part of the history. The bytes of its pages are nobody else's. */
export class KeptHistory {
  #host: KeptHost;
  #parts: KeptParts;
  /** By channel and timestamp: messages behind it, up to another. The oldest first. */
  #counts = new Map<string, { count: number; throughTs: number }>();

  constructor(host: KeptHost, parts: KeptParts) {
    this.#host = host;
    this.#parts = parts;
  }

  /** A page. Rejects with a WireError: `storage-unavailable`, `bad-argument` for a name that is none. */
  async read(request: KeptRequest): Promise<KeptPage> {
    const bytes = nameBytes(request.channel, "channel");
    const named = {
      app: this.#host.app(request.app),
      name: request.channel,
      bytes,
      prefixLength: prefixLengthOf(bytes),
    };
    if (request.which === "unsettled") return this.#unsettled(named, request);
    const { stored, cache, isShared } = this.#parts;
    const inMemory = this.#fromMemory(named, request);
    if (inMemory !== null || stored === null || isShared) {
      cache.reads.hits++;
      return inMemory ?? this.#end(cache.isPartial(request.afterTs));
    }
    cache.reads.misses++;
    return await this.#fromStore(stored, named, request);
  }

  /** Something was answered by memory alone that did not come here. */
  countHit(): void {
    this.#parts.cache.reads.hits++;
  }

  /** The channel without an open batch. */
  #find({ app, bytes }: Named): Channel | undefined {
    const channel = app.find(bytes, 0, bytes.length);
    if (channel === undefined) return undefined;
    this.#host.closeBatch(channel);
    // Closing may have had it forgotten.
    return channel.forgotten ? undefined : channel;
  }

  #end(isPartial: boolean): KeptPage {
    return { blocks: [], isEnd: true, throughTs: this.#host.lastTs, isPartial, count: 0 };
  }

  /** What was accepted here behind what the store has. */
  #unsettled(named: Named, request: KeptRequest): KeptPage {
    const history = this.#find(named)?.history ?? null;
    const settledTs = this.#parts.stored?.queue.settledTs ?? 0;
    if (history === null) return this.#end(false);
    const from = Math.max(request.afterTs, settledTs);
    return { ...this.#page(named, history, from, request), isPartial: false };
  }

  #fromMemory(named: Named, request: KeptRequest): KeptPage | null {
    const channel = this.#find(named);
    const history = channel?.history ?? null;
    if (channel === undefined || history === null || !history.covers(request.afterTs)) return null;
    this.#parts.cache.touch(channel);
    return this.#page(named, history, request.afterTs, request);
  }

  #page(
    { prefixLength }: Named,
    history: ChannelHistory,
    afterTs: number,
    limits: Pick<KeptRequest, "maxMessages" | "maxBytes">,
  ): KeptPage {
    const { cursor, count } = history.seek(afterTs);
    const page = new PageBuilder(prefixLength, limits);
    while (true) {
      const piece = history.next(cursor, page.room);
      if (piece === undefined || !page.add(piece)) break;
    }
    const isEnd = page.count === count;
    return {
      blocks: page.blocks,
      isEnd,
      throughTs: isEnd ? this.#host.lastTs : page.lastTs,
      isPartial: history.isPartial(afterTs),
      count,
    };
  }

  async #fromStore(
    stored: StoredHistory,
    named: Named,
    request: KeptRequest,
  ): Promise<KeptPage> {
    const { app, name, bytes, prefixLength } = named;
    const { afterTs } = request;
    await stored.refill(app, name, bytes);
    let fromTs = afterTs;
    let isPartial = false;
    while (true) {
      const inMemory = this.#fromMemory(named, { ...request, afterTs: fromTs });
      if (inMemory !== null) {
        return fromTs === afterTs ? inMemory : { ...inMemory, isPartial };
      }
      const read = await stored.page(app.id, name, fromTs);
      isPartial ||= afterTs > 0 && read.prunedTs > afterTs;
      const reader = new PageReader(read, prefixLength, fromTs);
      const page = new PageBuilder(prefixLength, request);
      let isWhole = false;
      while (true) {
        const piece = reader.next(page.room);
        if (piece === undefined) {
          isWhole = true;
          break;
        }
        const { node, froms } = piece.block;
        if (!page.add({ ...piece, node, froms })) break;
      }
      const throughTs = isWhole ? reader.throughTs : page.lastTs;
      const channel = this.#find(named);
      const isAhead = channel !== undefined && channel.history !== null &&
        channel.lastTs > throughTs;
      if (isWhole && read.isEnd && !isAhead) {
        const { count } = page;
        return { ...this.#end(isPartial), blocks: page.blocks, count };
      }
      if (page.count > 0) {
        const count = await this.#count(stored, named, fromTs, page);
        return { blocks: page.blocks, isEnd: false, throughTs, isPartial, count };
      }
      fromTs = throughTs;
      // A page that others have read is there at once.
      await nextTurn();
    }
  }

  /**
   * Messages behind `afterTs` with which the page begins. Who reads on is not counted for again, but
   * for what is new: what lies behind a long history is asked for often.
   */
  async #count(
    stored: StoredHistory,
    named: Named,
    afterTs: number,
    page: PageBuilder,
  ): Promise<number> {
    const { app: { id: app }, name } = named;
    const history = this.#find(named)?.history ?? null;
    const known = this.#counts.get(`${app}\0${name}\0${afterTs}`);
    const fromTs = known?.throughTs ?? afterTs;
    const splitTs = history === null ? stored.queue.settledTs : history.lostTs;
    const throughTs = Math.max(splitTs, this.#host.lastTs);
    const inMemory = history?.seek(Math.max(splitTs, fromTs)).count ?? 0;
    const before = (known?.count ?? 0) + inMemory;
    const counts = this.#counts;
    const count = Math.max(before + await stored.count(app, name, fromTs, splitTs), page.count);
    // Unless messages were deleted meanwhile.
    if (counts === this.#counts) {
      this.#remember(`${app}\0${name}\0${afterTs}`, count, throughTs);
      this.#remember(`${app}\0${name}\0${page.lastTs}`, count - page.count, throughTs);
    }
    return count;
  }

  #remember(key: string, count: number, throughTs: number): void {
    this.#counts.delete(key);
    this.#counts.set(key, { count, throughTs });
    if (this.#counts.size > MAX_REMEMBERED_COUNTS) {
      const [oldest] = this.#counts.keys();
      this.#counts.delete(oldest);
    }
  }

  /** Messages were deleted: what was counted before is no longer true. */
  forget(): void {
    this.#counts = new Map();
  }
}

/** Collects copies of lines up to the limits, never cut between two of one timestamp. */
class PageBuilder {
  readonly blocks: Block[] = [];
  count = 0;
  lastTs = 0;
  #bytes = 0;

  constructor(
    readonly prefixLength: number,
    readonly limits: Pick<KeptRequest, "maxMessages" | "maxBytes">,
  ) {}

  /** Bytes that the next piece may have. */
  get room(): number {
    return Math.max(1, this.limits.maxBytes - this.#bytes);
  }

  /** Adds lines, or only the first of them; false when the page is full. */
  add({ lines, count, node, froms, line }: Piece): boolean {
    const firstTs = lineTimestamp(lines, 0, this.prefixLength);
    const { maxMessages, maxBytes } = this.limits;
    const isFull = this.count > 0 && (this.count >= maxMessages || this.#bytes >= maxBytes);
    let take = isFull
      ? (firstTs === this.lastTs ? 1 : 0)
      : Math.min(count, maxMessages - this.count);
    take = Math.min(count, isFull ? take : Math.max(1, take));
    if (take === 0) return false;
    const taken = take === count ? lines : lines.subarray(0, endOf(lines, take));
    const lastAt = taken.lastIndexOf(LF, taken.length - 2) + 1;
    const names = froms?.slice(line, line + take) ?? null;
    this.lastTs = lineTimestamp(taken, lastAt, this.prefixLength);
    this.blocks.push({
      node,
      lines: taken.slice(),
      count: take,
      firstTs,
      lastTs: this.lastTs,
      froms: names?.some((from) => from !== undefined) ? names : null,
    });
    this.count += take;
    this.#bytes += taken.length;
    return take === count;
  }
}

/** Where the first `count` lines end. */
function endOf(lines: Uint8Array, count: number): number {
  let end = 0;
  for (let i = 0; i < count; i++) end = lines.indexOf(LF, end) + 1;
  return end;
}
