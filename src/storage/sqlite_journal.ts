// The journal in the worker: a commit writes it at one place, and channels get their messages later.

import type { StatementSync } from "node:sqlite";
import type { ChannelBlock } from "../engine/ports/history_store.ts";
import { cutBlock, prefixLengthOf } from "./blocks.ts";
import { type BlockTable, channelKey } from "./sqlite_blocks.ts";
import type { SqliteDatabase } from "./sqlite_database.ts";
import { type PackedBlocks, unpackBlocks } from "./sqlite_messages.ts";
import type { Sliced } from "./sqlite_reads.ts";

/** What may wait in the journal before it is folded into the channels' rows; it is held in memory, too. */
const MAX_MESSAGES = 50_000;
const MAX_BYTES = 8 * 1024 * 1024;
/** How long a message waits for that at most, ms. */
const MAX_AGE_MS = 1000;
/** Rows of about this size are not worth the detour: each fills a page of its own anyway. */
const DENSE_ROW_BYTES = 16 * 1024;
/** Channels and bytes that are folded in one slice, about: a few ms. */
const SLICE_CHANNELS = 100;
const SLICE_BYTES = 256 * 1024;

/** Appends that are folded together. */
interface Generation {
  readonly channels: Map<string, ChannelBlock[]>;
  /** Rows of the journal up to this one hold them. */
  lastId: number;
  messages: number;
  bytes: number;
  sinceMs: number;
}

/**
 * A commit of a thousand channels would write a thousand pages, one for each. So it writes the
 * messages as they come, a row of the journal for each append, and every second or so they are folded
 * into the rows of their channels, those of many appends together. A channel that is read is folded
 * first. The fold needs no sync of its own: what it has done and lost is in the journal still.
 */
export class Journal {
  readonly #db: SqliteDatabase;
  readonly #blocks: BlockTable;
  readonly #insert: StatementSync;
  readonly #delete: StatementSync;
  readonly #all: StatementSync;
  /** What is being folded, and what came behind it. */
  #folding: Generation | null = null;
  #waiting: Generation = newGeneration();

  constructor(db: SqliteDatabase, blocks: BlockTable) {
    this.#db = db;
    this.#blocks = blocks;
    this.#insert = db.prepare(
      "INSERT INTO journal (names, numbers, froms, lines) VALUES (?, ?, ?, ?)",
    );
    this.#delete = db.prepare("DELETE FROM journal WHERE id <= ?");
    this.#all = db.prepare("SELECT id, names, numbers, froms, lines FROM journal ORDER BY id");
  }

  /** Folds what was left when the file was last closed, or the process ended. Throws a StoreError. */
  recover(): void {
    this.#db.transaction(() => {
      let lastId = 0;
      for (const row of this.#all.all()) {
        const blocks: ChannelBlock[] = [];
        for (const block of unpackBlocks(toPacked(row))) {
          // Retention may have been at messages that had been folded, and were here still.
          const prunedTs = this.#blocks.prunedTs(block.app, block.channel);
          const left = cutBlock(block, prefixLengthOf(block.channel), prunedTs, Infinity);
          if (left !== undefined) blocks.push(left);
        }
        this.#blocks.append(blocks);
        lastId = Number(row.id);
      }
      if (lastId > 0) this.#delete.run(lastId);
    });
  }

  /** Keeps the blocks, durably. Throws a StoreError. */
  append(packed: PackedBlocks): void {
    const blocks = unpackBlocks(packed);
    if (packed.bytes.byteLength >= blocks.length * DENSE_ROW_BYTES) {
      this.#db.transaction(() => {
        this.#fold(blocks.map(({ app, channel }) => channelKey(app, channel)));
        this.#blocks.append(blocks);
      });
      return;
    }
    const { lastInsertRowid } = this.#db.transaction(() =>
      this.#insert.run(
        JSON.stringify(packed.names),
        new Uint8Array(packed.numbers.buffer),
        packed.froms === null ? null : JSON.stringify(packed.froms),
        new Uint8Array(packed.bytes),
      )
    );
    const waiting = this.#waiting;
    if (waiting.messages === 0) waiting.sinceMs = performance.now();
    waiting.lastId = Number(lastInsertRowid);
    waiting.bytes += packed.bytes.byteLength;
    for (const block of blocks) {
      waiting.messages += block.count;
      const key = channelKey(block.app, block.channel);
      const known = waiting.channels.get(key);
      if (known === undefined) waiting.channels.set(key, [block]);
      else known.push(block);
    }
  }

  /** Whether there is something to fold now. */
  isDue(nowMs: number): boolean {
    return this.#folding !== null || isFull(this.#waiting) ||
      (this.#waiting.messages > 0 && nowMs - this.#waiting.sinceMs >= MAX_AGE_MS);
  }

  /** Whether anything waits to be folded. */
  get isEmpty(): boolean {
    return this.#folding === null && this.#waiting.messages === 0;
  }

  /**
   * Folds some channels of what is due; a burst that came meanwhile and is due as well has it go on to
   * the end, which bounds what is held. Throws a StoreError.
   */
  foldSlice(): void {
    if (this.#folding === null) {
      this.#folding = this.#waiting;
      this.#waiting = newGeneration();
    }
    do this.#foldSome(this.#folding); while (this.#folding !== null && isFull(this.#waiting));
  }

  /** Folds one channel, before it is read. Throws a StoreError. */
  foldChannel(app: string, channel: string): void {
    const key = channelKey(app, channel);
    if (!this.#waiting.channels.has(key) && this.#folding?.channels.has(key) !== true) return;
    this.#db.unsyncedTransaction(() => this.#fold([key]));
  }

  /** Folds all that is there by now. Throws a StoreError. */
  *foldAll(): Sliced<void> {
    for (const generation of [this.#folding, this.#waiting]) {
      while (generation !== null && generation.messages > 0 && this.#isHeld(generation)) {
        this.foldSlice();
        yield;
      }
    }
  }

  #isHeld(generation: Generation): boolean {
    return generation === this.#folding || generation === this.#waiting;
  }

  #foldSome(generation: Generation): void {
    const keys: string[] = [];
    let bytes = 0;
    for (const [key, blocks] of generation.channels) {
      keys.push(key);
      for (const { lines } of blocks) bytes += lines.length;
      if (keys.length >= SLICE_CHANNELS || bytes >= SLICE_BYTES) break;
    }
    const isLast = keys.length === generation.channels.size;
    this.#db.unsyncedTransaction(() => {
      this.#fold(keys, generation);
      if (isLast) this.#delete.run(generation.lastId);
    });
    if (isLast) this.#folding = null;
  }

  /**
   * Moves channels' messages into their rows, within a transaction: of both generations, or of one. When
   * the transaction fails the file is opened anew, and everything is in the journal still.
   */
  #fold(keys: readonly string[], only?: Generation): void {
    for (const generation of only === undefined ? [this.#folding, this.#waiting] : [only]) {
      if (generation === null) continue;
      const channels: ChannelBlock[][] = [];
      for (const key of keys) {
        const blocks = generation.channels.get(key);
        if (blocks !== undefined) channels.push(blocks);
        generation.channels.delete(key);
      }
      if (channels.length > 0) this.#blocks.appendChannels(channels);
    }
  }
}

function newGeneration(): Generation {
  return { channels: new Map(), lastId: 0, messages: 0, bytes: 0, sinceMs: 0 };
}

function isFull({ messages, bytes }: Generation): boolean {
  return messages >= MAX_MESSAGES || bytes >= MAX_BYTES;
}

function toPacked(row: Record<string, unknown>): PackedBlocks {
  const { names, numbers, froms, lines } = row;
  if (!(numbers instanceof Uint8Array) || !(lines instanceof Uint8Array)) {
    throw new TypeError("a row of the journal is damaged");
  }
  return {
    names: JSON.parse(String(names)),
    numbers: new Float64Array(numbers.slice().buffer),
    froms: typeof froms === "string" ? parseFroms(froms) : null,
    bytes: lines.slice().buffer,
  };
}

/** JSON has null where a list has undefined. */
function parseFroms(text: string): PackedBlocks["froms"] {
  const rows: ((string | null)[] | null)[] = JSON.parse(text);
  return rows.map((row) => row?.map((name) => name ?? undefined) ?? null);
}
