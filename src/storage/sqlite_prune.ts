// Retention in the worker: deletes old messages in small steps, each of which is one transaction.

import type { StatementSync } from "node:sqlite";
import type { PruneRequest, PruneStep } from "../engine/ports/history_store.ts";
import { cutBlock, nthNewestTs, prefixLengthOf } from "./blocks.ts";
import type { BlockTable } from "./sqlite_blocks.ts";
import type { SqliteDatabase } from "./sqlite_database.ts";
import { prepareRows, type Rows } from "./sqlite_rows.ts";
import { SLICE_MS, type Sliced } from "./sqlite_reads.ts";

/** Channels that are looked at together. */
const LOOK_CHANNELS = 200;
/** Rows that one step looks at for what it deletes. */
const DELETE_ROWS = 500;
const KEEP_SLICE_ROWS = 2000;

/** A channel that may have something to delete. */
interface Candidate {
  readonly id: number;
  readonly app: string;
  readonly name: string;
  /** Messages older than this go. */
  readonly cutTs: number;
}

/** Deletes in an open database. Methods throw StoreErrors. */
export class Pruning {
  readonly #db: SqliteDatabase;
  readonly #blocks: BlockTable;
  readonly #channels: StatementSync;
  readonly #sizesBack: Rows;
  readonly #oldRows: StatementSync;
  readonly #savePrunedTs: StatementSync;

  constructor(db: SqliteDatabase, blocks: BlockTable) {
    this.#db = db;
    this.#blocks = blocks;
    this.#channels = db.prepare(
      `SELECT id, app, name,
         (SELECT first_ts FROM blocks WHERE channel = channels.id ORDER BY first_ts LIMIT 1) AS first_ts
       FROM channels WHERE id >= ? ORDER BY id LIMIT ${LOOK_CHANNELS}`,
    );
    this.#sizesBack = prepareRows(
      db,
      `SELECT first_ts, last_ts, count FROM blocks WHERE channel = ? AND first_ts <= ?
       ORDER BY first_ts DESC, node DESC`,
    );
    this.#oldRows = db.prepare(
      `SELECT first_ts, node, last_ts FROM blocks WHERE channel = ? AND first_ts < ?
       ORDER BY first_ts, node LIMIT ${DELETE_ROWS}`,
    );
    this.#savePrunedTs = db.prepare(
      "UPDATE channels SET pruned_ts = max(pruned_ts, ?) WHERE id = ?",
    );
  }

  /** One step. The cursor is the id of the channel that is next. */
  *prune({ beforeTs, keepPerChannel, cursor }: PruneRequest): Sliced<PruneStep> {
    const start = performance.now();
    const from = typeof cursor === "number" ? cursor : 0;
    const rows = this.#db.reading(() => this.#channels.all(from));
    const candidates: Candidate[] = [];
    let next = rows.length < LOOK_CHANNELS ? undefined : Number(rows[rows.length - 1].id) + 1;
    for (const row of rows) {
      const id = Number(row.id);
      if (row.first_ts === null) continue;
      const keepTs = keepPerChannel === 0
        ? 0
        : yield* this.#keepTs(id, prefixLengthOf(String(row.name)), keepPerChannel);
      const cutTs = Math.max(beforeTs, keepTs);
      if (Number(row.first_ts) >= cutTs) continue;
      candidates.push({ id, app: String(row.app), name: String(row.name), cutTs });
      if (performance.now() - start > 2 * SLICE_MS) {
        next = id + 1;
        break;
      }
    }
    if (candidates.length === 0) return { pruned: [], cursor: next };
    return this.#db.transaction(() => this.#delete(candidates, next));
  }

  #delete(candidates: readonly Candidate[], next: number | undefined): PruneStep {
    this.#blocks.reshaped++;
    const end = performance.now() + SLICE_MS;
    const pruned: { app: string; channel: string; prunedTs: number }[] = [];
    for (const candidate of candidates) {
      if (pruned.length > 0 && performance.now() > end) {
        return { pruned, cursor: candidate.id };
      }
      const { prunedTs, isDone } = this.#deleteOld(candidate, end);
      if (prunedTs > 0) {
        this.#savePrunedTs.run(prunedTs, candidate.id);
        pruned.push({ app: candidate.app, channel: candidate.name, prunedTs });
      }
      if (!isDone) return { pruned, cursor: candidate.id };
    }
    return { pruned, cursor: next };
  }

  /** Deletes a channel's old messages, or the oldest of them when there are too many for one step. */
  #deleteOld({ id, name, cutTs }: Candidate, end: number): { prunedTs: number; isDone: boolean } {
    let prunedTs = 0;
    const rows = this.#oldRows.all(id, cutTs);
    const through = rows.length < DELETE_ROWS ? rows.length : lastGap(rows);
    for (const [i, row] of rows.slice(0, through).entries()) {
      const firstTs = Number(row.first_ts);
      const lastTs = Number(row.last_ts);
      // Not between two messages of one timestamp: all through prunedTs are gone.
      if (i > 0 && firstTs > prunedTs && performance.now() > end) {
        return { prunedTs, isDone: false };
      }
      if (lastTs < cutTs) {
        this.#blocks.remove(id, { firstTs, node: String(row.node) });
        prunedTs = lastTs;
        continue;
      }
      const block = this.#blocks.lastRow(id, firstTs);
      const gone = block && cutBlock(block, prefixLengthOf(name), 0, cutTs - 1);
      const left = block && cutBlock(block, prefixLengthOf(name), cutTs - 1, Infinity);
      if (block !== undefined && gone !== undefined && left !== undefined) {
        this.#blocks.replace(id, block, left);
        prunedTs = gone.lastTs;
      }
    }
    return { prunedTs, isDone: rows.length < DELETE_ROWS };
  }

  /** Timestamp of the `keep`-th newest message; 0 where there are fewer. */
  *#keepTs(channel: number, prefixLength: number, keep: number): Sliced<number> {
    let newer = 0;
    let fromTs = Number.MAX_SAFE_INTEGER;
    for (;;) {
      const found = this.#db.reading(() =>
        this.#keepSlice(channel, prefixLength, keep, newer, fromTs)
      );
      if (found.isDone) return found.ts;
      newer = found.newer;
      fromTs = found.ts - 1;
      yield;
    }
  }

  #keepSlice(
    channel: number,
    prefixLength: number,
    keep: number,
    newer: number,
    fromTs: number,
  ): { isDone: boolean; ts: number; newer: number } {
    let rows = 0;
    let firstTs = fromTs + 1;
    for (const row of this.#sizesBack.iterate(channel, fromTs)) {
      const begins = Number(row.first_ts);
      if (rows >= KEEP_SLICE_ROWS && begins < firstTs) return { isDone: false, ts: firstTs, newer };
      const count = Number(row.count);
      if (newer + count >= keep) {
        // Of rows that begin together only the last has more than one message.
        const block = count === 1 ? undefined : this.#blocks.lastRow(channel, begins);
        const ts = block ? nthNewestTs(block, prefixLength, keep - newer) : begins;
        return { isDone: true, ts, newer };
      }
      newer += count;
      firstTs = begins;
      rows++;
    }
    return { isDone: true, ts: 0, newer };
  }
}

/** Index of the last row that begins later than the one before it ends; all of them where none does. */
function lastGap(rows: readonly Record<string, unknown>[]): number {
  for (let i = rows.length - 1; i > 0; i--) {
    if (Number(rows[i].first_ts) > Number(rows[i - 1].last_ts)) return i;
  }
  return rows.length;
}
