// What the worker reads: pages, counts and scans, in slices that keep no write waiting.

import type { StatementSync } from "node:sqlite";
import type {
  ChannelBlock,
  NewestRequest,
  Page,
  ReadRequest,
} from "../engine/ports/history_store.ts";
import { cutBlock, NewestPage, prefixLengthOf, takePage } from "./blocks.ts";
import type { BlockTable } from "./sqlite_blocks.ts";
import type { SqliteDatabase } from "./sqlite_database.ts";
import { prepareRows, type Rows } from "./sqlite_rows.ts";
import type { CountRequest, ScanCursor, ScanPage } from "./sqlite_messages.ts";

/** Work in slices: between them, at each `yield`, writes are done, and nothing is left open in SQLite. */
export type Sliced<R> = Generator<void, R>;

/** About how long a slice may be. */
export const SLICE_MS = 4;

/** How often the newest messages are read again when something changed among them meanwhile. */
const MAX_RESTARTS = 3;
/** Later than any message. */
const FAR_TS = Number.MAX_SAFE_INTEGER;
const COUNT_SLICE_ROWS = 2000;
const NEWEST_SLICE_ROWS = 200;
const SCAN_PAGE_BYTES = 256 * 1024;
const SCAN_PAGE_BLOCKS = 500;

/** Reads from an open database. Methods throw StoreErrors. */
export class BlockReads {
  readonly #db: SqliteDatabase;
  readonly #blocks: BlockTable;
  readonly #prunedTs: StatementSync;
  readonly #sizesFrom: Rows;
  readonly #nextChannel: StatementSync;

  constructor(db: SqliteDatabase, blocks: BlockTable) {
    this.#db = db;
    this.#blocks = blocks;
    this.#prunedTs = db.prepare("SELECT pruned_ts FROM channels WHERE id = ?");
    this.#sizesFrom = prepareRows(
      db,
      `SELECT first_ts, last_ts, count FROM blocks WHERE channel = ? AND first_ts > ?
       ORDER BY first_ts, node`,
    );
    this.#nextChannel = db.prepare(
      `SELECT app, name FROM channels WHERE (app, name) > (?, ?) ORDER BY app, name LIMIT 1`,
    );
  }

  /** One page is one slice: the caller asks for little. */
  read({ app, channel: name, afterTs, ...limits }: ReadRequest): Page {
    return this.#db.reading(() => {
      const channel = this.#blocks.channel(app, name);
      if (channel === undefined) return { blocks: [], isEnd: true, prunedTs: 0 };
      const rows = this.#blocks.rows(channel.id, afterTs);
      const page = takePage(rows, prefixLengthOf(name), afterTs, limits, true);
      return { ...page, prunedTs: this.#prunedTsOf(channel.id) };
    });
  }

  *readNewest({ app, channel: name, ...limits }: NewestRequest): Sliced<Page> {
    const find = () => this.#db.reading(() => this.#blocks.channel(app, name)?.id);
    let id = find();
    for (let restarts = 0;; restarts++) {
      if (id === undefined) return { blocks: [], isEnd: true, prunedTs: 0 };
      const page = new NewestPage(limits);
      const { reshaped } = this.#blocks;
      const deadline = restarts < MAX_RESTARTS ? SLICE_MS : Infinity;
      let slice = this.#addNewest(page, id, deadline);
      while (slice === "more" && reshaped === this.#blocks.reshaped) {
        yield;
        if (reshaped === this.#blocks.reshaped) slice = this.#addNewest(page, id, deadline);
      }
      if (slice !== "more") {
        const prunedTs = this.#prunedTsOf(id);
        return { blocks: page.blocks(true), isEnd: slice === "end", prunedTs };
      }
      id = find();
    }
  }

  *count({ app, channel: name, afterTs, throughTs }: CountRequest): Sliced<number> {
    const channel = this.#db.reading(() => this.#blocks.channel(app, name));
    if (channel === undefined) return 0;
    let count = 0;
    let from = afterTs;
    while (from < throughTs) {
      const slice = this.#db.reading(() =>
        this.#countSlice(channel.id, prefixLengthOf(name), from, throughTs)
      );
      count += slice.count;
      if (slice.throughTs >= throughTs) break;
      from = slice.throughTs;
      yield;
    }
    return count;
  }

  scan(cursor: ScanCursor): ScanPage {
    return this.#db.reading(() => {
      const end = performance.now() + SLICE_MS;
      const blocks: ChannelBlock[] = [];
      let bytes = 0;
      let { app, channel, afterTs } = cursor;
      while (
        bytes < SCAN_PAGE_BYTES && blocks.length < SCAN_PAGE_BLOCKS && performance.now() < end
      ) {
        const limits = { maxMessages: Infinity, maxBytes: SCAN_PAGE_BYTES - bytes };
        const page = this.read({ app, channel, afterTs, ...limits });
        for (const block of page.blocks) {
          blocks.push({ ...block, app, channel });
          bytes += block.lines.length;
          afterTs = block.lastTs;
        }
        if (!page.isEnd) continue;
        const next = this.#nextChannel.get(app, channel);
        if (next === undefined) return { blocks, cursor: null };
        app = String(next.app);
        channel = String(next.name);
        afterTs = 0;
      }
      return { blocks, cursor: { app, channel, afterTs } };
    });
  }

  /** Adds older rows for a slice's time: whether there is more to add, nothing older, or enough. */
  #addNewest(page: NewestPage, channel: number, sliceMs: number): "more" | "end" | "full" {
    return this.#db.reading(() => {
      const end = performance.now() + sliceMs;
      let rows = 0;
      for (const row of this.#blocks.rowsBack(channel, (page.firstTs ?? FAR_TS) - 1)) {
        // Not between two rows that begin together, since the next slice takes those that are older.
        const isOlder = page.firstTs !== undefined && row.firstTs < page.firstTs;
        if (rows >= NEWEST_SLICE_ROWS && isOlder && performance.now() > end) return "more";
        if (!page.add(row)) return "full";
        rows++;
      }
      return "end";
    });
  }

  /** Counts through some timestamp between `afterTs` and `throughTs`, and says which. */
  #countSlice(
    channel: number,
    prefixLength: number,
    afterTs: number,
    throughTs: number,
  ): { count: number; throughTs: number } {
    let count = 0;
    let rows = 0;
    let endTs = afterTs;
    // The row in which afterTs lies is not counted by its number.
    const first = this.#blocks.lastRow(channel, afterTs);
    if (first !== undefined) {
      count += cutBlock(first, prefixLength, afterTs, throughTs)?.count ?? 0;
      endTs = Math.max(endTs, first.lastTs);
    }
    let isCut = false;
    for (const row of this.#sizesFrom.iterate(channel, afterTs)) {
      const firstTs = Number(row.first_ts);
      if (firstTs > throughTs) break;
      if (Number(row.last_ts) > throughTs) {
        isCut = true;
        break;
      }
      // Not between two messages of one timestamp, since that is where the next slice begins.
      if (rows >= COUNT_SLICE_ROWS && firstTs > endTs) return { count, throughTs: endTs };
      count += Number(row.count);
      endTs = Number(row.last_ts);
      rows++;
    }
    // The row in which throughTs lies, when it is another one.
    const last = isCut ? this.#blocks.lastRow(channel, throughTs) : undefined;
    if (last !== undefined) count += cutBlock(last, prefixLength, 0, throughTs)?.count ?? 0;
    return { count, throughTs };
  }

  #prunedTsOf(channel: number): number {
    return this.#db.reading(() => Number(this.#prunedTs.get(channel)?.pruned_ts ?? 0));
  }
}
