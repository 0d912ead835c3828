// The newest messages of one channel, kept in memory as the bytes of their MESSAGE lines.

import { buffers, type PooledBuffer } from "../core/buffer_pool.ts";
import { LF } from "../proto/bytes.ts";
import { lineTimestamp } from "../proto/encoder.ts";
import type { Block } from "./ports/history_store.ts";

/** A stretch of whole MESSAGE lines of one node, in the order in which they were published. */
interface CacheBlock {
  buffer: PooledBuffer;
  /** Timestamp of its last line, microseconds; 0 without any. */
  lastTs: number;
  count: number;
  /** Lines at its end that were taken back. */
  gone: number;
  /** Whether it takes no further batch. */
  isClosed: boolean;
  node: string;
  /** The publishers' names by line, where any is known. */
  froms: (string | undefined)[] | null;
}

/** What one turn's batch of a channel adds. */
export interface BatchInfo {
  count: number;
  lastTs: number;
  froms: readonly (string | undefined)[] | null;
}

/** What a {@link ChannelHistory} begins with. */
export interface HistoryStart {
  /** Length of the bytes in front of each line's timestamp. */
  prefixLength: number;
  /** Messages up to this timestamp may be missing, because they were there before. */
  lostTs: number;
  /** Whether what is dropped is gone; otherwise a store keeps it as well. */
  isOnlyCopy: boolean;
  /** The node that accepts the batches. */
  node: string;
}

/** A place between two kept messages. */
export interface Cursor {
  /** Number of the next message, counted over the life of the channel's history. */
  seq: number;
  /** Where that is: number of the block, offset in it, and lines of the block before it. */
  block: number;
  offset: number;
  line: number;
}

/** A stretch of whole lines of one node; the view is good until the next append. */
export interface Piece {
  lines: Uint8Array;
  count: number;
  node: string;
  /** The names of its block's publishers, and the number of the first line among them. */
  froms: readonly (string | undefined)[] | null;
  line: number;
}

/** Blocks up to this size take further batches; what is larger stands alone. */
const OPEN_BLOCK_BYTES = 32 * 1024;
/** What a block takes beside its bytes, measured (resident, 200,000 channels of one message). */
const BLOCK_OVERHEAD_BYTES = 450;

/** The kept messages of one channel, oldest first. */
export class ChannelHistory {
  /** Kept messages. */
  count = 0;
  /** Bytes that it occupies, bookkeeping included. */
  bytes = 0;

  #prefixLength: number;
  #isOnlyCopy: boolean;
  #node: string;
  #blocks: CacheBlock[] = [];
  /** Number of the first block, and of the first message in it. */
  #firstBlock = 0;
  #firstSeq = 0;
  /** Where the oldest kept line begins in the first block; the lines before it no longer count. */
  #headOffset = 0;
  #headLine = 0;
  /** Further lines of the first block that no longer count; walked over when somebody reads. */
  #toSkip = 0;
  /** Messages up to here are not kept here (any more), if there were any. */
  #lostTs: number;
  /** Messages up to here are kept nowhere any more, if there were any. */
  #prunedTs = 0;
  /** Whether nothing has been dropped here or put in front yet. */
  #isFresh = true;

  constructor(start: HistoryStart) {
    this.#prefixLength = start.prefixLength;
    this.#lostTs = start.lostTs;
    this.#isOnlyCopy = start.isOnlyCopy;
    this.#node = start.node;
  }

  /**
   * Adds a batch of lines and drops the oldest messages beyond `maxMessages`; none of those after
   * `settledTs`, which may be kept nowhere else yet.
   */
  append(lines: Uint8Array, info: BatchInfo, maxMessages: number, settledTs = Infinity): void {
    const open = this.#blocks.at(-1);
    if (
      open !== undefined && !open.isClosed &&
      open.buffer.length + lines.length <= OPEN_BLOCK_BYTES
    ) {
      this.#extend(open, lines, info);
    } else {
      this.#blocks.push(this.#newBlock(lines, info, this.#node));
    }
    this.count += info.count;
    this.trim(maxMessages, settledTs);
  }

  #newBlock(lines: Uint8Array, info: BatchInfo, node: string): CacheBlock {
    const buffer = buffers.acquire(lines.length);
    buffer.bytes.set(lines);
    buffer.length = lines.length;
    this.bytes += buffer.bytes.length + BLOCK_OVERHEAD_BYTES;
    const { count, lastTs } = info;
    // A copy: it grows with the block, and others may still read theirs.
    const froms = info.froms === null ? null : [...info.froms];
    return { buffer, count, lastTs, froms, node, gone: 0, isClosed: false };
  }

  /** Whether older messages can be put in front: see {@link prepend}. */
  get isFresh(): boolean {
    return this.#isFresh;
  }

  /** Messages up to this timestamp may be missing here. */
  get lostTs(): number {
    this.#settle();
    return this.#lostTs;
  }

  /**
   * Puts a store's blocks in front, older than everything that is kept here; what is older than
   * `lostTs` or at it may be missing still. Only while {@link isFresh}.
   */
  prepend(older: readonly Block[], lostTs: number): void {
    const blocks: CacheBlock[] = [];
    for (const block of older) {
      const { lines, node } = block;
      const last = blocks.at(-1);
      if (last?.node === node && last.buffer.length + lines.length <= OPEN_BLOCK_BYTES) {
        this.#extend(last, lines, block);
      } else {
        blocks.push(this.#newBlock(lines, block, node));
      }
      this.count += block.count;
      this.#firstSeq -= block.count;
    }
    // What comes next is of this node, and cursors know blocks by their number.
    for (const block of blocks) block.isClosed = true;
    this.#firstBlock -= blocks.length;
    this.#blocks = [...blocks, ...this.#blocks];
    this.#lostTs = lostTs;
    this.#isFresh = false;
  }

  #extend(block: CacheBlock, lines: Uint8Array, info: BatchInfo): void {
    const length = block.buffer.length + lines.length;
    if (length > block.buffer.bytes.length) {
      this.bytes -= block.buffer.bytes.length;
      block.buffer = buffers.grow(block.buffer, length);
      this.bytes += block.buffer.bytes.length;
    }
    block.buffer.bytes.set(lines, length - lines.length);
    block.buffer.length = length;
    if (info.froms !== null || block.froms !== null) {
      block.froms ??= new Array(block.count).fill(undefined);
      for (let i = 0; i < info.count; i++) block.froms.push(info.froms?.[i]);
    }
    block.count += info.count;
    block.lastTs = info.lastTs;
  }

  /** Drops the oldest messages beyond `maxMessages`, but none after `settledTs`. */
  trim(maxMessages: number, settledTs = Infinity): void {
    while (this.count > maxMessages) {
      const excess = this.count - maxMessages;
      const [first] = this.#blocks;
      if (first.lastTs > settledTs) return;
      this.#isFresh = false;
      const kept = first.count - this.#headLine - this.#toSkip;
      if (kept > excess) {
        this.#toSkip += excess;
        this.count -= excess;
        return;
      }
      this.dropOldestBlock();
    }
  }

  /**
   * Forgets the oldest block; returns the bytes that this freed, 0 when there is none whose messages
   * are all settled.
   */
  dropOldestBlock(settledTs = Infinity): number {
    const [block] = this.#blocks;
    if (block === undefined || block.lastTs > settledTs) return 0;
    this.#blocks.shift();
    this.#isFresh = false;
    this.count -= block.count - this.#headLine - this.#toSkip;
    this.#lostTs = Math.max(this.#lostTs, block.lastTs);
    this.#firstBlock++;
    this.#firstSeq += block.count + block.gone;
    this.#headOffset = 0;
    this.#headLine = 0;
    this.#toSkip = 0;
    const freed = block.buffer.bytes.length + BLOCK_OVERHEAD_BYTES;
    this.bytes -= freed;
    block.buffer.release();
    return freed;
  }

  /** Frees everything. */
  clear(): void {
    while (this.dropOldestBlock() > 0);
  }

  /** Takes back the newest messages, those from `ts` on. */
  takeBack(ts: number): void {
    this.#settle();
    for (let i = this.#blocks.length - 1; i >= 0; i--) {
      const block = this.#blocks[i];
      // Everything in it was taken back before.
      if (block.count === 0) continue;
      if (block.lastTs < ts) return;
      const { bytes } = block.buffer;
      let offset = i === 0 ? this.#headOffset : 0;
      let line = i === 0 ? this.#headLine : 0;
      let lastTs = 0;
      for (; line < block.count; line++) {
        const lineTs = lineTimestamp(bytes, offset, this.#prefixLength);
        if (lineTs >= ts) break;
        lastTs = lineTs;
        offset = bytes.indexOf(LF, offset) + 1;
      }
      const gone = block.count - line;
      this.count -= gone;
      block.gone += gone;
      block.count = line;
      block.lastTs = lastTs;
      block.buffer.length = offset;
      block.froms?.splice(line);
      // A cursor may stand behind what is left: what comes next goes into a block of its own.
      block.isClosed = true;
    }
  }

  /** Drops the messages up to `ts`, which are kept nowhere any more. */
  prune(ts: number): void {
    this.#settle();
    this.#prunedTs = Math.max(this.#prunedTs, ts);
    while (this.#blocks.length > 0 && this.#blocks[0].lastTs <= ts) this.dropOldestBlock();
    const [first] = this.#blocks;
    if (first !== undefined) {
      const { bytes } = first.buffer;
      while (true) {
        const lineTs = lineTimestamp(bytes, this.#headOffset, this.#prefixLength);
        if (lineTs > ts) break;
        this.#lostTs = Math.max(this.#lostTs, lineTs);
        this.#headOffset = bytes.indexOf(LF, this.#headOffset) + 1;
        this.#headLine++;
        this.count--;
        this.#isFresh = false;
      }
    }
    // A store says when it has deleted something; without one, `ts` is only where the past begins.
    if (!this.#isOnlyCopy) this.#lostTs = Math.max(this.#lostTs, ts);
  }

  /** Walks over the lines of the first block that no longer count. */
  #settle(): void {
    if (this.#toSkip === 0) return;
    const { bytes } = this.#blocks[0].buffer;
    let offset = this.#headOffset;
    let line = this.#headLine;
    for (; this.#toSkip > 0; this.#toSkip--) {
      this.#lostTs = lineTimestamp(bytes, offset, this.#prefixLength);
      offset = bytes.indexOf(LF, offset) + 1;
      line++;
    }
    this.#headOffset = offset;
    this.#headLine = line;
  }

  /** Whether every message after `afterTs` that is kept anywhere is kept here. */
  covers(afterTs: number): boolean {
    this.#settle();
    return this.#isOnlyCopy || this.#lostTs <= Math.max(afterTs, this.#prunedTs);
  }

  /**
   * Whether messages after `afterTs` may have been deleted, of a history that {@link covers} them. For
   * 0, which asks for whatever there is, never.
   */
  isPartial(afterTs: number): boolean {
    this.#settle();
    return afterTs > 0 && (this.#isOnlyCopy ? this.#lostTs : this.#prunedTs) > afterTs;
  }

  /** The place of the first kept message after `afterTs`, and the count from it. */
  seek(afterTs: number): { cursor: Cursor; count: number } {
    this.#settle();
    let count = this.count;
    let seq = this.#firstSeq;
    for (let i = 0; i < this.#blocks.length; i++) {
      const block = this.#blocks[i];
      let offset = i === 0 ? this.#headOffset : 0;
      let line = i === 0 ? this.#headLine : 0;
      if (block.lastTs > afterTs) {
        const { bytes } = block.buffer;
        while (lineTimestamp(bytes, offset, this.#prefixLength) <= afterTs) {
          offset = bytes.indexOf(LF, offset) + 1;
          line++;
          count--;
        }
        return { cursor: { seq: seq + line, block: this.#firstBlock + i, offset, line }, count };
      }
      seq += block.count + block.gone;
      count -= block.count - line;
    }
    // Behind the last line of the last block, which may still grow.
    const last = this.#blocks.at(-1);
    return {
      cursor: {
        seq: seq - (last?.gone ?? 0),
        block: this.#firstBlock + Math.max(0, this.#blocks.length - 1),
        offset: last?.buffer.length ?? 0,
        line: last?.count ?? 0,
      },
      count: 0,
    };
  }

  /** Whether messages behind the cursor have been dropped since it was there. */
  isLost(cursor: Cursor): boolean {
    return cursor.seq < this.#firstSeq;
  }

  /**
   * The next whole lines, at most `maxBytes` of them but at least one line; moves the cursor behind
   * them. Undefined at the end. The cursor must not be lost.
   */
  next(cursor: Cursor, maxBytes: number): Piece | undefined {
    const block = this.#blockAt(cursor);
    if (block === undefined) return undefined;
    const { bytes, length } = block.buffer;
    const start = cursor.offset;
    let end = length;
    let count = block.count - cursor.line;
    if (end - start > maxBytes) {
      const within = bytes.subarray(start, start + Math.max(1, maxBytes)).lastIndexOf(LF);
      end = within >= 0 ? start + within + 1 : bytes.indexOf(LF, start) + 1;
      count = countLines(bytes, start, end);
    }
    const { line } = cursor;
    cursor.offset = end;
    cursor.line += count;
    cursor.seq += count;
    const { node, froms } = block;
    return { lines: bytes.subarray(start, end), count, node, froms, line };
  }

  /** The block with the next line behind the cursor, which is put to the block's begin if need be. */
  #blockAt(cursor: Cursor): CacheBlock | undefined {
    // Below 0 for a block that was read to its end and dropped since.
    let index = Math.max(-1, cursor.block - this.#firstBlock);
    let block = this.#blocks[index];
    while (index < 0 || cursor.line >= (block?.count ?? 0)) {
      if (index + 1 >= this.#blocks.length) return undefined;
      // Lines that were taken back are passed over, whether the cursor had seen them or not.
      if (block === undefined) cursor.seq = Math.max(cursor.seq, this.#firstSeq);
      else cursor.seq += block.count + block.gone - cursor.line;
      block = this.#blocks[++index];
      cursor.block = this.#firstBlock + index;
      cursor.offset = 0;
      cursor.line = 0;
    }
    return block;
  }
}

function countLines(bytes: Uint8Array, start: number, end: number): number {
  let count = 0;
  for (let at = start; at < end; at = bytes.indexOf(LF, at) + 1) count++;
  return count;
}
