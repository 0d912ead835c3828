// The table of blocks in the worker: how blocks get in, among those that are there, and out.

import type { StatementSync } from "node:sqlite";
import type { Block, ChannelBlock, MessageRange } from "../engine/ports/history_store.ts";
import { cutBlock, joinBlocks, JOINED_MAX_BYTES, mergeBlocks, prefixLengthOf } from "./blocks.ts";
import type { SqliteDatabase } from "./sqlite_database.ts";
import { prepareRows, type Rows } from "./sqlite_rows.ts";

/** Channels that are remembered, so that a message does not need two searches more. */
const MAX_REMEMBERED = 50_000;

/** What is remembered of a channel. */
export interface Channel {
  readonly id: number;
  /** No block of it ends later; undefined where that has not been looked up. */
  lastTs: number | undefined;
}

/** Blocks in their rows. Methods throw what SQLite throws; those that write belong into a transaction. */
export class BlockTable {
  readonly #channels = new Map<string, Channel>();
  readonly #findChannel: StatementSync;
  readonly #addChannel: StatementSync;
  readonly #insert: StatementSync;
  readonly #delete: StatementSync;
  readonly #newestRow: StatementSync;
  readonly #rowsFrom: Rows;
  readonly #rowsBack: Rows;
  readonly #lastTs: StatementSync;
  readonly #saveLastTs: StatementSync;
  readonly #prunedTs: StatementSync;
  /** Counts the changes other than new blocks at a channel's end. */
  reshaped = 0;

  constructor(db: SqliteDatabase) {
    const columns = "first_ts, node, last_ts, count, froms, lines";
    this.#findChannel = db.prepare("SELECT id FROM channels WHERE app = ? AND name = ?");
    this.#addChannel = db.prepare("INSERT INTO channels (app, name) VALUES (?, ?)");
    this.#insert = db.prepare(
      `INSERT INTO blocks (channel, ${columns}) VALUES (?, ?, ?, ?, ?, ?, ?)`,
    );
    this.#delete = db.prepare(
      "DELETE FROM blocks WHERE channel = ? AND first_ts = ? AND node = ?",
    );
    this.#newestRow = db.prepare(
      "SELECT last_ts FROM blocks WHERE channel = ? ORDER BY first_ts DESC, node DESC LIMIT 1",
    );
    this.#rowsFrom = prepareRows(
      db,
      `SELECT ${columns} FROM blocks WHERE channel = ? AND first_ts > ? ORDER BY first_ts, node`,
    );
    this.#rowsBack = prepareRows(
      db,
      `SELECT ${columns} FROM blocks WHERE channel = ? AND first_ts <= ?
       ORDER BY first_ts DESC, node DESC`,
    );
    this.#prunedTs = db.prepare("SELECT pruned_ts FROM channels WHERE id = ?");
    this.#lastTs = db.prepare("SELECT value FROM meta WHERE key = 'last_ts'");
    this.#saveLastTs = db.prepare("INSERT OR REPLACE INTO meta (key, value) VALUES ('last_ts', ?)");
  }

  /** The newest timestamp ever kept; 0 for none. */
  lastTs(): number {
    return Number(this.#lastTs.get()?.value ?? 0);
  }

  /** Messages of a channel up to this timestamp have been deleted by retention; 0 for none. */
  prunedTs(app: string, name: string): number {
    const channel = this.channel(app, name);
    return channel === undefined ? 0 : Number(this.#prunedTs.get(channel.id)?.pruned_ts ?? 0);
  }

  /** To be called when a transaction has failed: what it did is not there. */
  forgetRemembered(): void {
    this.#channels.clear();
  }

  /** The channel, where it has ever had messages. */
  channel(app: string, name: string): Channel | undefined {
    const key = channelKey(app, name);
    const known = this.#channels.get(key);
    if (known !== undefined) {
      // Used last, forgotten last.
      this.#channels.delete(key);
      this.#channels.set(key, known);
      return known;
    }
    const row = this.#findChannel.get(app, name);
    if (row === undefined) return undefined;
    return this.#remember(key, { id: Number(row.id), lastTs: undefined });
  }

  /** Adds blocks; those of a channel and node become one row, up to {@link JOINED_MAX_BYTES}. */
  append(blocks: readonly ChannelBlock[]): void {
    const channels = new Map<string, ChannelBlock[]>();
    for (const block of blocks) {
      const key = channelKey(block.app, block.channel);
      const known = channels.get(key);
      if (known === undefined) channels.set(key, [block]);
      else known.push(block);
    }
    this.appendChannels(channels.values());
  }

  /** As {@link append}, for blocks that are put together by channel. */
  appendChannels(channels: Iterable<readonly ChannelBlock[]>): void {
    const before = this.lastTs();
    let newest = before;
    for (const blocks of channels) newest = Math.max(newest, this.#appendTo(blocks));
    if (newest > before) this.#saveLastTs.run(newest);
  }

  /** Adds blocks to their channel and returns the newest timestamp among them. */
  #appendTo(blocks: readonly ChannelBlock[]): number {
    const [{ app, channel: name }] = blocks;
    const channel = this.channel(app, name) ?? this.#create(app, name);
    channel.lastTs ??= Number(this.#newestRow.get(channel.id)?.last_ts ?? 0);
    const rows = blocks.length === 1
      ? blocks
      : joinBlocks(blocks, { views: true, maxBytes: JOINED_MAX_BYTES });
    let newest = 0;
    for (const row of rows) {
      if (row.firstTs > channel.lastTs) this.#add(channel.id, row);
      else this.#mergeIn(channel.id, prefixLengthOf(name), row);
      channel.lastTs = Math.max(channel.lastTs, row.lastTs);
      newest = Math.max(newest, row.lastTs);
    }
    return newest;
  }

  forget(ranges: readonly MessageRange[]): void {
    this.reshaped++;
    for (const { app, channel: name, node, firstTs, lastTs } of ranges) {
      const channel = this.channel(app, name);
      if (channel === undefined) continue;
      const prefixLength = prefixLengthOf(name);
      for (const row of this.#touched(channel.id, firstTs, lastTs)) {
        if (row.node !== node) continue;
        this.remove(channel.id, row);
        for (
          const part of [
            cutBlock(row, prefixLength, 0, firstTs - 1),
            cutBlock(row, prefixLength, lastTs, Infinity),
          ]
        ) if (part !== undefined) this.#add(channel.id, part);
      }
    }
  }

  /**
   * The rows in order, from the first with messages after `afterTs` on. Lazily: to be finished, or
   * left, before anything else is done.
   */
  *rows(channel: number, afterTs: number): Generator<Block> {
    const first = this.lastRow(channel, afterTs);
    if (first !== undefined && first.lastTs > afterTs) yield first;
    for (const row of this.#rowsFrom.iterate(channel, afterTs)) yield toBlock(row);
  }

  /** The last row that begins at or before `ts`. */
  lastRow(channel: number, ts: number): Block | undefined {
    for (const row of this.rowsBack(channel, ts)) return row;
    return undefined;
  }

  /** The rows that begin at or before `ts`, newest first. Lazily, as {@link rows}. */
  *rowsBack(channel: number, ts: number): Generator<Block> {
    for (const row of this.#rowsBack.iterate(channel, ts)) yield toBlock(row);
  }

  remove(channel: number, { firstTs, node }: { firstTs: number; node: string }): void {
    this.#delete.run(channel, firstTs, node);
  }

  /** Takes a row's place by what is left of it. */
  replace(channel: number, row: Block, left: Block): void {
    this.remove(channel, row);
    this.#add(channel, left);
  }

  /**
   * Merges a block in where there are messages of its time or later. Piece by piece, so that a block
   * which reaches over a long time does not load all that is kept of it.
   */
  #mergeIn(channel: number, prefixLength: number, block: Block): void {
    this.reshaped++;
    let rest: Block | undefined = block;
    while (rest !== undefined) {
      const first = rest.firstTs;
      const around = this.#touched(channel, first, first);
      let endTs: number;
      if (around.length === 0) {
        const next = this.#firstFrom(channel, first);
        endTs = next === undefined ? Infinity : next - 1;
      } else {
        endTs = Math.max(...around.map(({ lastTs }) => lastTs));
      }
      const piece: Block | undefined = cutBlock(rest, prefixLength, 0, endTs);
      rest = cutBlock(rest, prefixLength, endTs, Infinity);
      if (piece === undefined) continue;
      if (around.length === 0) this.#add(channel, piece);
      else this.#mergeWith(channel, prefixLength, piece);
    }
  }

  #mergeWith(channel: number, prefixLength: number, piece: Block): void {
    const rows = this.#touched(channel, piece.firstTs, piece.lastTs);
    const merged = mergeBlocks([...rows, piece], prefixLength);
    const count = (blocks: Block[]) => blocks.reduce((sum, block) => sum + block.count, 0);
    // All of it was there: a batch that was kept, and is appended again.
    if (count(merged) === count(rows)) return;
    for (const row of rows) this.remove(channel, row);
    for (const block of merged) this.#add(channel, block);
  }

  /** The rows with anything from `firstTs` through `lastTs` between their ends, in order. */
  #touched(channel: number, firstTs: number, lastTs: number): Block[] {
    const rows: Block[] = [];
    for (const row of this.rowsBack(channel, firstTs)) {
      if (row.lastTs < firstTs) break;
      rows.unshift(row);
    }
    for (const row of this.#rowsFrom.iterate(channel, firstTs)) {
      if (Number(row.first_ts) > lastTs) break;
      rows.push(toBlock(row));
    }
    return rows;
  }

  #firstFrom(channel: number, afterTs: number): number | undefined {
    for (const row of this.#rowsFrom.iterate(channel, afterTs)) return Number(row.first_ts);
    return undefined;
  }

  #create(app: string, name: string): Channel {
    const { lastInsertRowid } = this.#addChannel.run(app, name);
    return this.#remember(channelKey(app, name), {
      id: Number(lastInsertRowid),
      lastTs: 0,
    });
  }

  #remember(key: string, channel: Channel): Channel {
    if (this.#channels.size >= MAX_REMEMBERED) {
      for (const oldest of this.#channels.keys()) {
        this.#channels.delete(oldest);
        break;
      }
    }
    this.#channels.set(key, channel);
    return channel;
  }

  #add(channel: number, { firstTs, node, lastTs, count, froms, lines }: Block): void {
    const names = froms === null ? null : JSON.stringify(froms);
    this.#insert.run(channel, firstTs, node, lastTs, count, names, lines);
  }
}

/** One string for both; a length in front keeps "a" and "b:c" from meeting "a:b" and "c". */
export function channelKey(app: string, channel: string): string {
  return `${app.length}:${app}${channel}`;
}

function toBlock(row: Record<string, unknown>): Block {
  const { first_ts, node, last_ts, count, froms, lines } = row;
  return {
    node: String(node),
    firstTs: Number(first_ts),
    lastTs: Number(last_ts),
    count: Number(count),
    froms: typeof froms === "string" ? parseFroms(froms) : null,
    lines: lines instanceof Uint8Array ? lines : new Uint8Array(),
  };
}

/** JSON has null where a list has undefined; text that is none comes from a damaged page. */
function parseFroms(text: string): (string | undefined)[] | null {
  try {
    const names: unknown = JSON.parse(text);
    if (!Array.isArray(names)) return null;
    return names.map((name) => typeof name === "string" ? name : undefined);
  } catch {
    return null;
  }
}
