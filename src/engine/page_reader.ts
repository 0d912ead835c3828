// Walks through a store's page, some whole lines at a time.

import { LF } from "../proto/bytes.ts";
import { lineTimestamp } from "../proto/encoder.ts";
import type { Block } from "./ports/history_store.ts";
import type { StoredPage } from "./store_pages.ts";

/** A stretch of whole lines of one block. */
export interface PagePiece {
  readonly block: Block;
  /** Number of its first line in the block. */
  readonly line: number;
  readonly lines: Uint8Array;
  readonly count: number;
}

/** A place in a page; begins at the first message after a timestamp. */
export class PageReader {
  /** Timestamp of the last message that was passed, or the one asked for. */
  lastTs: number;

  #page: StoredPage;
  #prefixLength: number;
  #index = 0;
  #offset = 0;
  #line = 0;

  constructor(page: StoredPage, prefixLength: number, afterTs: number) {
    this.#page = page;
    this.#prefixLength = prefixLength;
    this.lastTs = afterTs;
    const { blocks } = page;
    while (this.#index < blocks.length && blocks[this.#index].lastTs <= afterTs) this.#index++;
    const block = blocks[this.#index];
    if (block === undefined) return;
    while (lineTimestamp(block.lines, this.#offset, prefixLength) <= afterTs) {
      this.#offset = block.lines.indexOf(LF, this.#offset) + 1;
      this.#line++;
    }
  }

  /** Once all of it is read: there is no message up to this timestamp that has not been passed. */
  get throughTs(): number {
    return Math.max(this.lastTs, this.#page.throughTs);
  }

  /** The block that holds the next message; undefined at the page's end. */
  #block(): Block | undefined {
    const block = this.#page.blocks[this.#index];
    if (block === undefined || this.#line < block.count) return block;
    this.#index++;
    this.#offset = 0;
    this.#line = 0;
    return this.#page.blocks[this.#index];
  }

  /** The next whole lines of one block, about `maxBytes` but at least one; undefined at the end. */
  next(maxBytes: number): PagePiece | undefined {
    const block = this.#block();
    if (block === undefined) return undefined;
    const { lines } = block;
    const start = this.#offset;
    const line = this.#line;
    let end = lines.length;
    let count = block.count - line;
    if (end - start > maxBytes) {
      end = start;
      count = 0;
      do {
        end = lines.indexOf(LF, end) + 1;
        count++;
      } while (end - start < maxBytes && line + count < block.count);
    }
    const lastLine = lines.lastIndexOf(LF, end - 2) + 1;
    this.lastTs = lineTimestamp(lines, lastLine, this.#prefixLength);
    this.#offset = end;
    this.#line += count;
    return { block, line, lines: lines.subarray(start, end), count };
  }
}
