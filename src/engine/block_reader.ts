// Walks over the lines of a page's blocks, one message at a time.

import { LF } from "../proto/bytes.ts";
import { lineTimestamp } from "../proto/encoder.ts";
import type { Block } from "./ports/history_store.ts";

/** A place in blocks that are in order. */
export class BlockReader {
  /** The block with the next line; undefined at the end. */
  block: Block | undefined;
  /** Timestamp of the next line, number of it in its block, and where it begins. */
  ts = 0;
  line = 0;
  offset = 0;

  #blocks: readonly Block[];
  #prefixLength: number;
  #index = -1;

  constructor(blocks: readonly Block[], prefixLength: number) {
    this.#blocks = blocks;
    this.#prefixLength = prefixLength;
    this.skipBlock();
  }

  /** Another one at the same place. */
  copy(): BlockReader {
    const copy = new BlockReader(this.#blocks, this.#prefixLength);
    copy.#index = this.#index;
    copy.block = this.block;
    copy.ts = this.ts;
    copy.line = this.line;
    copy.offset = this.offset;
    return copy;
  }

  /** Moves to the next block. */
  skipBlock(): void {
    this.block = this.#blocks[++this.#index];
    this.line = 0;
    this.offset = 0;
    this.ts = this.block?.firstTs ?? 0;
  }

  /** Moves to the next line. */
  skipLine(): void {
    const { block } = this;
    if (block === undefined) return;
    if (++this.line >= block.count) return this.skipBlock();
    this.offset = block.lines.indexOf(LF, this.offset) + 1;
    this.ts = lineTimestamp(block.lines, this.offset, this.#prefixLength);
  }
}
