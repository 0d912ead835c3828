// The newest messages of one channel, kept in memory as the bytes of their MESSAGE lines.

import { buffers, type PooledBuffer } from "../core/buffer_pool.ts";
import { LF } from "../proto/bytes.ts";
import { lineText, lineTimestamp, type Message } from "../proto/encoder.ts";

/** A stretch of whole MESSAGE lines, in the order in which they were published. */
interface Block {
  buffer: PooledBuffer;
  /** Timestamp of its last line, microseconds. */
  lastTs: number;
  count: number;
  /** The publishers' names by line, where any is known. */
  froms: (string | undefined)[] | null;
}

/** What one turn's batch of a channel adds. */
export interface BatchInfo {
  count: number;
  lastTs: number;
  froms: (string | undefined)[] | null;
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

/** A stretch of whole lines; the view is good until the next append. */
export interface Piece {
  lines: Uint8Array;
  count: number;
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
  #blocks: Block[] = [];
  /** Number of the first block, and of the first message in it. */
  #firstBlock = 0;
  #firstSeq = 0;
  /** Where the oldest kept line begins in the first block; the lines before it no longer count. */
  #headOffset = 0;
  #headLine = 0;
  /** Further lines of the first block that no longer count; walked over when somebody reads. */
  #toSkip = 0;
  #lostTs: number;

  /** `lostTs`: messages up to this timestamp may have been forgotten before this history began. */
  constructor(prefixLength: number, lostTs: number) {
    this.#prefixLength = prefixLength;
    this.#lostTs = lostTs;
  }

  /** Adds a batch of lines and drops the oldest messages beyond `maxMessages`. */
  append(lines: Uint8Array, info: BatchInfo, maxMessages: number): void {
    const open = this.#blocks.at(-1);
    if (open !== undefined && open.buffer.length + lines.length <= OPEN_BLOCK_BYTES) {
      this.#extend(open, lines, info);
    } else {
      const buffer = buffers.acquire(lines.length);
      buffer.bytes.set(lines);
      buffer.length = lines.length;
      this.#blocks.push({ buffer, count: info.count, lastTs: info.lastTs, froms: info.froms });
      this.bytes += buffer.bytes.length + BLOCK_OVERHEAD_BYTES;
    }
    this.count += info.count;
    this.trim(maxMessages);
  }

  #extend(block: Block, lines: Uint8Array, info: BatchInfo): void {
    const length = block.buffer.length + lines.length;
    if (length > block.buffer.bytes.length) {
      const grown = buffers.acquire(length);
      grown.bytes.set(block.buffer.bytes.subarray(0, block.buffer.length));
      this.bytes += grown.bytes.length - block.buffer.bytes.length;
      block.buffer.release();
      block.buffer = grown;
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

  /** Drops the oldest messages beyond `maxMessages`. */
  trim(maxMessages: number): void {
    while (this.count > maxMessages) {
      const excess = this.count - maxMessages;
      const kept = this.#blocks[0].count - this.#headLine - this.#toSkip;
      if (kept > excess) {
        this.#toSkip += excess;
        this.count -= excess;
        return;
      }
      this.dropOldestBlock();
    }
  }

  /** Forgets the oldest block; returns the bytes that this freed, 0 when there is none. */
  dropOldestBlock(): number {
    const block = this.#blocks.shift();
    if (block === undefined) return 0;
    this.count -= block.count - this.#headLine - this.#toSkip;
    this.#lostTs = block.lastTs;
    this.#firstBlock++;
    this.#firstSeq += block.count;
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

  /**
   * Whether messages after `ts` (`inclusive`: or at it) may be missing from what is kept. For 0,
   * which asks for whatever there is, never.
   */
  isPartial(ts: number, inclusive: boolean): boolean {
    this.#settle();
    return ts !== 0 && (inclusive ? this.#lostTs >= ts : this.#lostTs > ts);
  }

  /** The place of the first kept message after `ts` (`inclusive`: or at it), and the count from it. */
  seek(ts: number, inclusive: boolean): { cursor: Cursor; count: number } {
    this.#settle();
    let count = this.count;
    let seq = this.#firstSeq;
    for (let i = 0; i < this.#blocks.length; i++) {
      const block = this.#blocks[i];
      let offset = i === 0 ? this.#headOffset : 0;
      let line = i === 0 ? this.#headLine : 0;
      if (block.lastTs > ts || (inclusive && block.lastTs === ts)) {
        const { bytes } = block.buffer;
        while (true) {
          const lineTs = lineTimestamp(bytes, offset, this.#prefixLength);
          if (lineTs > ts || (inclusive && lineTs === ts)) break;
          offset = bytes.indexOf(LF, offset) + 1;
          line++;
          count--;
        }
        return { cursor: { seq: seq + line, block: this.#firstBlock + i, offset, line }, count };
      }
      seq += block.count;
      count -= block.count - line;
    }
    // Behind the last line of the last block, which may still grow.
    const last = this.#blocks.at(-1);
    return {
      cursor: {
        seq,
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
    cursor.offset = end;
    cursor.line += count;
    cursor.seq += count;
    return { lines: bytes.subarray(start, end), count };
  }

  /** The next message, decoded; moves the cursor behind it. Undefined at the end. */
  nextMessage(cursor: Cursor, channel: string): Message | undefined {
    const block = this.#blockAt(cursor);
    if (block === undefined) return undefined;
    const { bytes } = block.buffer;
    const start = cursor.offset;
    const lf = bytes.indexOf(LF, start);
    const message: Message = {
      channel,
      ts: lineTimestamp(bytes, start, this.#prefixLength),
      msg: lineText(bytes, start, lf, this.#prefixLength),
      from: block.froms?.[cursor.line],
    };
    cursor.offset = lf + 1;
    cursor.line++;
    cursor.seq++;
    return message;
  }

  /** The block with the next line behind the cursor, which is put to the block's begin if need be. */
  #blockAt(cursor: Cursor): Block | undefined {
    let index = cursor.block - this.#firstBlock;
    // A block that was read to its end and dropped since.
    if (index < 0) index = -1;
    if (index < 0 || cursor.line >= (this.#blocks[index]?.count ?? 0)) {
      if (index + 1 >= this.#blocks.length) return undefined;
      index++;
      cursor.block = this.#firstBlock + index;
      cursor.offset = 0;
      cursor.line = 0;
    }
    return this.#blocks[index];
  }
}

function countLines(bytes: Uint8Array, start: number, end: number): number {
  let count = 0;
  for (let at = start; at < end; at = bytes.indexOf(LF, at) + 1) count++;
  return count;
}
