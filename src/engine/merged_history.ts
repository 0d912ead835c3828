// Several nodes' kept messages as one, by timestamp and node, each message once.

import { BlockReader } from "./block_reader.ts";
import type { Block } from "./ports/history_store.ts";
import { type KeptPage, PeerError } from "./ports/router.ts";
import { compareNodes, type Vector } from "./vector.ts";

/** A stretch of whole lines of one block. */
export interface MergedPiece {
  readonly block: Block;
  /** Number of its first line in the block. */
  readonly line: number;
  readonly lines: Uint8Array;
  readonly count: number;
  /** Timestamp of its last line. */
  readonly lastTs: number;
}

/** A timestamp for each node. */
export type LimitOf = (node: string) => number;

/** A page that was read, maybe for somebody else. */
export interface ReadPage extends KeptPage {
  /** When it was asked for: its end, and its count, are those of this moment or later. */
  readonly moment: number;
}

/**
 * Reads a page behind a timestamp. An end is one behind which there is nothing up to `throughTs`, if
 * that can be.
 */
export type LoadPage = (afterTs: number, throughTs: number) => Promise<ReadPage>;

/** Counts the messages behind a timestamp, as of a moment or later, and says whether some are gone. */
export type CountBehind = (
  afterTs: number,
  asOf: number,
) => Promise<Pick<KeptPage, "count" | "isPartial">>;

/** What the pages that are read hold. */
export interface Look {
  /** Messages behind the vector, each once; the timestamp of the last. */
  readonly count: number;
  readonly lastTs: number;
  /** Where who has read them is. */
  readonly vector: Vector;
  /** Whether that is everything. */
  readonly isWhole: boolean;
}

/** One place from which messages come, in order, page by page. */
export class Feed {
  /** Everything of its node up to here is in the pages that it has read; microseconds. */
  throughTs: number;
  /** Whether its last page was its end. */
  isEnd = false;
  /** Behind this timestamp it was asked for its last page, and whether messages may be missing there. */
  askedTs = 0;
  isPartial = false;
  /** As its first page says: messages behind the timestamp asked for. */
  count = 0;
  /** When it was asked for that page, and how many of those are in it. */
  countedAt = 0;
  inPage = 0;
  reader: BlockReader;

  #prefixLength: number;
  #load: LoadPage | null;
  #count: CountBehind | null;
  #isRead = false;
  /** Where the first page ends. */
  #firstEndTs = 0;
  /** The largest timestamp up to which its end was asked for. */
  #askedThroughTs = 0;

  /**
   * `node`: whose messages they are, null for anybody's. `load` is null for one that is given its only
   * page; so may be `count`, for one that will not be asked for it.
   */
  constructor(
    readonly node: string | null,
    prefixLength: number,
    afterTs: number,
    load: LoadPage | null,
    count: CountBehind | null = null,
  ) {
    this.#prefixLength = prefixLength;
    this.throughTs = afterTs;
    this.#load = load;
    this.#count = count;
    this.reader = new BlockReader([], prefixLength);
  }

  /** Goes on with a page, which may begin with messages that were read before. */
  turnTo(page: KeptPage): void {
    const askedTs = this.throughTs;
    this.reader = new BlockReader(page.blocks, this.#prefixLength);
    const passed = this.#pass(this.throughTs);
    if (!this.#isRead) {
      this.#isRead = true;
      this.count = Math.max(0, page.count - passed);
      this.inPage = page.blocks.reduce((sum, { count }) => sum + count, -passed);
      this.#firstEndTs = Math.max(this.throughTs, page.blocks.at(-1)?.lastTs ?? 0);
    }
    this.askedTs = askedTs;
    this.isPartial = page.isPartial;
    this.isEnd = page.isEnd;
    this.throughTs = Math.max(this.throughTs, page.throughTs);
  }

  /** Moves the reader behind `ts`; returns over how many messages. */
  #pass(ts: number): number {
    const { reader } = this;
    let passed = 0;
    while (reader.block !== undefined && reader.ts <= ts) {
      if (reader.block.lastTs <= ts) {
        passed += reader.block.count - reader.line;
        reader.skipBlock();
      } else {
        passed++;
        reader.skipLine();
      }
    }
    return passed;
  }

  /** Its messages up to `ts`, which is that of one in its first page, are not looked for any more. */
  passThrough(ts: number): void {
    const passed = this.#pass(ts);
    this.count -= passed;
    this.inPage -= passed;
    // Behind a message that is kept nothing is missing: the oldest goes first.
    this.isPartial = false;
  }

  /** The nodes that have a message at this very timestamp; null where the present page does not say. */
  nodesAt(ts: number): string[] | null {
    const nodes: string[] = [];
    const reader = this.reader.copy();
    for (let { block } = reader; block !== undefined; block = reader.block) {
      if (reader.ts > ts) return nodes;
      if (block.lastTs < ts) {
        reader.skipBlock();
        continue;
      }
      if (reader.ts === ts) nodes.push(block.node);
      reader.skipLine();
    }
    return this.isEnd ? nodes : null;
  }

  /** Reads on. Rejects as its source does. */
  async fill(throughTs: number): Promise<void> {
    if (this.#load === null) return;
    const page = await this.#load(this.throughTs, throughTs);
    if (!this.#isRead) this.countedAt = page.moment;
    this.turnTo(page);
    this.#askedThroughTs = Math.max(this.#askedThroughTs, throughTs);
  }

  /** Messages behind its first page, and behind `ts`, as of the moment `asOf` or later. */
  async countBehind(asOf: number, ts = 0): Promise<number> {
    if (this.#count === null) return 0;
    const afterTs = Math.max(ts, this.#firstEndTs);
    const { count, isPartial } = await this.#count(afterTs, asOf);
    // The page may be all that is left of what was there when it was read.
    if (isPartial) {
      this.isPartial = true;
      this.askedTs = afterTs;
    }
    return count;
  }

  /** Whether it can read on. */
  get canRead(): boolean {
    return this.#load !== null;
  }

  /** Whether it came to its end too early to know of everything up to `ts`, and might know now. */
  isShortOf(ts: number): boolean {
    return this.isEnd && this.throughTs < ts && (this.#load === null || this.#askedThroughTs < ts);
  }

  /** Another one at the same place, which cannot read on. */
  copy(): Feed {
    const copy = new Feed(this.node, this.#prefixLength, this.throughTs, null);
    copy.isEnd = this.isEnd;
    copy.reader = this.reader.copy();
    return copy;
  }
}

/** Messages of one timestamp are in the order of their nodes. */
function isBefore(a: BlockReader, b: BlockReader): boolean {
  if (a.ts !== b.ts) return a.ts < b.ts;
  return compareNodes(a.block?.node ?? "", b.block?.node ?? "") < 0;
}

/**
 * Merges feeds. What lies before the vector is passed over, and the vector moves with what is taken:
 * so a message that two feeds have comes once.
 */
export class Merge {
  readonly feeds: Feed[];
  readonly vector: Vector;
  /** What is there up to these timestamps has to be known before anything later is given. */
  sureOf: LimitOf;
  /** The largest of the limits: what several nodes have written is not read beyond. */
  endTs = Infinity;

  constructor(feeds: readonly Feed[], vector: Vector, sureOf: LimitOf = () => 0) {
    this.feeds = [...feeds];
    this.vector = vector;
    this.sureOf = sureOf;
  }

  /** Whether a feed that cannot read on came to its end too early. */
  get isShort(): boolean {
    return this.feeds.some((feed) =>
      feed.node !== null && !feed.canRead && feed.isShortOf(this.sureOf(feed.node))
    );
  }

  /** Whether messages may be missing before the present pages. */
  get isPartial(): boolean {
    return this.feeds.some(({ isPartial }) => isPartial);
  }

  /**
   * The next stretch of lines up to the limits, about `maxBytes` but at least one line. `more`: feeds
   * have to be filled before it is known. `end`: there is nothing up to the limits.
   */
  next(limitOf: LimitOf, maxBytes: number): MergedPiece | "more" | "end" {
    let first: BlockReader | null = null;
    let second: BlockReader | null = null;
    let isMissing = false;
    for (const feed of this.feeds) {
      this.#settle(feed, limitOf);
      const { reader } = feed;
      if (reader.block === undefined) {
        isMissing ||= this.#goesOn(feed, limitOf);
      } else if (this.#isBeyond(feed, limitOf)) {
        // The rest of it is later still.
      } else if (first === null || isBefore(reader, first)) {
        second = first;
        first = reader;
      } else if (second === null || isBefore(reader, second)) {
        second = reader;
      }
    }
    if (isMissing) return "more";
    return first === null ? "end" : this.#take(first, second, limitOf, maxBytes);
  }

  /** Whether the next line of a feed is behind the limits, and so are all that follow. */
  #isBeyond({ node, reader }: Feed, limitOf: LimitOf): boolean {
    if (node === null) return reader.ts > this.endTs;
    return reader.ts > limitOf(reader.block?.node ?? node);
  }

  /**
   * The limit of a node, and not beyond what is known of it: of what it had put into the store of all
   * behind that, later messages may be seen before earlier ones.
   */
  #limit(node: string, limitOf: LimitOf): number {
    const feed = this.feeds.find((feed) => feed.node === node);
    return Math.min(limitOf(node), feed?.throughTs ?? Infinity);
  }

  /** Passes over what is before the vector, and in what several nodes have written, behind the limits. */
  #settle(feed: Feed, limitOf: LimitOf): void {
    const { reader } = feed;
    for (let { block } = reader; block !== undefined; block = reader.block) {
      const ts = this.vector.get(block.node);
      if (feed.node === null && reader.ts > this.endTs) return;
      const isBehind = feed.node === null && reader.ts > this.#limit(block.node, limitOf);
      if (block.lastTs <= ts || isBehind) reader.skipBlock();
      else if (reader.ts <= ts) reader.skipLine();
      else return;
    }
  }

  /** Whether a feed whose page is used up has to read on. */
  #goesOn(feed: Feed, limitOf: LimitOf): boolean {
    if (feed.isEnd) {
      return feed.canRead && feed.node !== null && feed.isShortOf(this.sureOf(feed.node));
    }
    return feed.throughTs < (feed.node === null ? this.endTs : limitOf(feed.node));
  }

  #take(
    reader: BlockReader,
    next: BlockReader | null,
    limitOf: LimitOf,
    maxBytes: number,
  ): MergedPiece | "end" {
    const { block, line, offset } = reader;
    if (block === undefined) return "end";
    const limit = this.#limit(block.node, limitOf);
    let count = 0;
    let end = offset;
    let lastTs = 0;
    while (
      reader.block === block &&
      (count === 0 ||
        (reader.ts <= limit && end - offset < maxBytes &&
          (next === null || isBefore(reader, next))))
    ) {
      lastTs = reader.ts;
      count++;
      reader.skipLine();
      end = reader.block === block ? reader.offset : block.lines.length;
    }
    this.vector.raise(block.node, lastTs);
    return { block, line, lines: block.lines.subarray(offset, end), count, lastTs };
  }

  /**
   * Reads on where that has to be done before the merge goes on. Returns the nodes that did not answer;
   * rejects with a WireError where this node's store does not.
   */
  async fill(limitOf: LimitOf): Promise<string[]> {
    const failed: string[] = [];
    await Promise.all(this.feeds.map(async (feed) => {
      if (feed.reader.block !== undefined || !this.#goesOn(feed, limitOf)) return;
      try {
        await feed.fill(feed.node === null ? 0 : this.sureOf(feed.node));
      } catch (error) {
        if (!(error instanceof PeerError) || feed.node === null) throw error;
        failed.push(feed.node);
      }
    }));
    return failed;
  }

  /** Goes on without the node. */
  drop(node: string): void {
    const index = this.feeds.findIndex((feed) => feed.node === node);
    if (index >= 0) this.feeds.splice(index, 1);
  }

  /**
   * The feeds are read up to the limits: moves the vector as far as that is certain. Returns the nodes
   * that were read to their end.
   */
  finish(limitOf: LimitOf): Set<string> {
    const ended = new Set<string>();
    for (const { node, reader, isEnd, throughTs } of this.feeds) {
      if (node === null) continue;
      const isPassed = reader.block === undefined;
      this.vector.raise(node, Math.min(limitOf(node), isPassed ? throughTs : Infinity));
      if (isPassed && isEnd) ended.add(node);
    }
    return ended;
  }

  /** What it would give without limits from the pages that are read. */
  look(): Look {
    const merge = new Merge(this.feeds.map((feed) => feed.copy()), this.vector.copy());
    let count = 0;
    let lastTs = 0;
    while (true) {
      const piece = merge.next(() => Infinity, Infinity);
      if (typeof piece === "string") {
        merge.finish(() => Infinity);
        return { count, lastTs, vector: merge.vector, isWhole: piece === "end" };
      }
      count += piece.count;
      lastTs = piece.lastTs;
    }
  }
}
