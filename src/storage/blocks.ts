// Blocks of MESSAGE lines as stores handle them: cut, joined, merged, and gathered into pages.

import { Buffer } from "node:buffer";
import type { Block, Page } from "../engine/ports/history_store.ts";
import { encodeUtf8, indexOfByte, LF } from "../proto/bytes.ts";
import { lineTimestamp, prefixLengthOf as prefixLengthOfBytes } from "../proto/encoder.ts";

/** Small blocks are put together up to so many bytes of lines. */
export const JOINED_MAX_BYTES = 64 * 1024;

/** Limits of a page; see `ReadRequest`. */
export interface PageLimits {
  readonly maxMessages: number;
  readonly maxBytes: number;
}

/** A place in a block at which a message begins, or its end. */
interface Place {
  readonly line: number;
  readonly at: number;
}

/** Bytes in front of the timestamp in the lines of a channel. */
export function prefixLengthOf(channel: string): number {
  return prefixLengthOfBytes(encodeUtf8(channel));
}

/** The order of names, of nodes and of channels alike: by their UTF-8 bytes, as databases compare. */
export function compareNames(a: string, b: string): number {
  return a === b ? 0 : Buffer.compare(encodeUtf8(a), encodeUtf8(b));
}

/**
 * The messages of `block` with `afterTs < timestamp <= throughTs`, as a view of the same bytes;
 * undefined for none.
 */
export function cutBlock<B extends Block>(
  block: B,
  prefixLength: number,
  afterTs: number,
  throughTs: number,
): B | undefined {
  if (block.firstTs > afterTs && block.lastTs <= throughTs) return block;
  if (block.firstTs > throughTs || block.lastTs <= afterTs) return undefined;
  let start: Place = { line: 0, at: 0 };
  if (block.firstTs <= afterTs) {
    start = findLine(block, prefixLength, start, (ts) => ts > afterTs);
  }
  const end = block.lastTs <= throughTs
    ? { line: block.count, at: block.lines.length }
    : findLine(block, prefixLength, start, (ts) => ts > throughTs);
  return viewOf(block, prefixLength, start, end);
}

/**
 * Puts neighbours of one node together, as bytes that nobody else has. `own` says that the bytes of
 * `blocks` are nobody else's already, so that a block on its own need not be copied; `views`, that one
 * on its own may be passed on as it is.
 */
export function joinBlocks(
  blocks: readonly Block[],
  { own = false, views = false, maxBytes = Infinity }: {
    own?: boolean;
    views?: boolean;
    maxBytes?: number;
  } = {},
): Block[] {
  const joined: Block[] = [];
  for (let i = 0; i < blocks.length;) {
    let size = blocks[i].lines.length;
    let end = i + 1;
    while (
      end < blocks.length && blocks[end].node === blocks[i].node &&
      blocks[end].firstTs > blocks[end - 1].lastTs && size + blocks[end].lines.length <= maxBytes
    ) size += blocks[end++].lines.length;
    joined.push(views && end === i + 1 ? blocks[i] : joinRun(blocks.slice(i, end), size, own));
    i = end;
  }
  return joined;
}

/**
 * All messages of `blocks`, each (timestamp, node) once, as blocks in order that do not overlap, up to
 * {@link JOINED_MAX_BYTES} each where messages allow. Of two that are the same, the one in the earlier
 * block stays. The bytes are copies.
 */
export function mergeBlocks(blocks: readonly Block[], prefixLength: number): Block[] {
  const messages = blocks.flatMap((block) => messagesOf(block, prefixLength));
  messages.sort((a, b) => a.firstTs - b.firstTs || compareNames(a.node, b.node));
  const kept = messages.filter((one, i) =>
    i === 0 || one.firstTs !== messages[i - 1].firstTs || one.node !== messages[i - 1].node
  );
  return joinBlocks(kept, { maxBytes: JOINED_MAX_BYTES });
}

/**
 * The page of the messages after `afterTs` from `rows`, which are a channel's blocks in order from the
 * first that ends later than that. Takes no more of `rows` than it needs. For `own` see
 * {@link joinBlocks}.
 */
export function takePage(
  rows: Iterable<Block>,
  prefixLength: number,
  afterTs: number,
  limits: PageLimits,
  own = false,
): Omit<Page, "prunedTs"> {
  const taken: Block[] = [];
  let messages = 0;
  let bytes = 0;
  let lastTs = 0;
  let isEnd = true;
  for (const row of rows) {
    const block = cutBlock(row, prefixLength, afterTs, Infinity);
    if (block === undefined) continue;
    const fits = (count: number, size: number) =>
      messages + count <= limits.maxMessages && bytes + size <= limits.maxBytes;
    let part: Block | undefined = block;
    if (!fits(block.count, block.lines.length)) {
      // The first message of all is taken anyway, and so is what shares a timestamp with one taken.
      const end = findLine(block, prefixLength, { line: 0, at: 0 }, (ts, line, _, next) => {
        if (messages + line === 0 || (line === 0 && ts === lastTs)) return false;
        return !fits(line + 1, next);
      });
      part = viewOf(block, prefixLength, { line: 0, at: 0 }, end);
    }
    if (part !== undefined) {
      taken.push(part);
      messages += part.count;
      bytes += part.lines.length;
      lastTs = part.lastTs;
    }
    if (part !== block) {
      isEnd = false;
      break;
    }
  }
  return { blocks: joinBlocks(taken, { own }), isEnd };
}

/**
 * The newest messages from `rows`, which are a channel's blocks in order, newest first: whole blocks,
 * until there are as many as asked for, and all that share a timestamp with the oldest.
 */
export class NewestPage {
  readonly #taken: Block[] = [];
  #messages = 0;
  #bytes = 0;

  constructor(readonly limits: PageLimits) {}

  /** Takes the next older block, or returns false: the page is full, and this one is older. */
  add(row: Block): boolean {
    const oldest = this.#taken[this.#taken.length - 1];
    if (
      oldest !== undefined && oldest.firstTs !== row.lastTs &&
      (this.#messages >= this.limits.maxMessages ||
        this.#bytes + row.lines.length > this.limits.maxBytes)
    ) return false;
    this.#taken.push(row);
    this.#messages += row.count;
    this.#bytes += row.lines.length;
    return true;
  }

  /** Where the oldest block that has been taken begins; undefined before the first. */
  get firstTs(): number | undefined {
    return this.#taken[this.#taken.length - 1]?.firstTs;
  }

  /** For `own` see {@link joinBlocks}. */
  blocks(own = false): Block[] {
    return joinBlocks(this.#taken.toReversed(), { own });
  }
}

/** Timestamp of the `n`-th newest message of a block that has as many; 1 is the last. */
export function nthNewestTs(block: Block, prefixLength: number, n: number): number {
  const line = block.count - n;
  const { at } = findLine(block, prefixLength, { line: 0, at: 0 }, (_, i) => i === line);
  return lineTimestamp(block.lines, at, prefixLength);
}

/** Each message of a block as a block of its own, viewing the same bytes. */
function messagesOf(block: Block, prefixLength: number): Block[] {
  if (block.count === 1) return [block];
  const { node, lines, froms } = block;
  const messages: Block[] = [];
  for (let at = 0; at < lines.length;) {
    const next = nextLine(lines, at);
    const ts = lineTimestamp(lines, at, prefixLength);
    const from = froms?.[messages.length];
    messages.push({
      node,
      lines: lines.subarray(at, next),
      count: 1,
      firstTs: ts,
      lastTs: ts,
      froms: from === undefined ? null : [from],
    });
    at = next;
  }
  return messages;
}

function joinRun(run: readonly Block[], size: number, own: boolean): Block {
  const first = run[0];
  if (run.length === 1) {
    const { lines } = first;
    const whole = own && lines.length === lines.buffer.byteLength;
    return { ...pick(first), lines: whole ? lines : lines.slice() };
  }
  const lines = new Uint8Array(size);
  let at = 0;
  let count = 0;
  let anyFrom = false;
  for (const block of run) {
    lines.set(block.lines, at);
    at += block.lines.length;
    count += block.count;
    anyFrom ||= block.froms !== null;
  }
  const froms = anyFrom
    ? run.flatMap((block) => block.froms ?? new Array<undefined>(block.count).fill(undefined))
    : null;
  const { node, firstTs } = first;
  return { node, lines, count, firstTs, lastTs: run[run.length - 1].lastTs, froms };
}

/** Only what a block is, of something that is more. */
function pick({ node, lines, count, firstTs, lastTs, froms }: Block): Block {
  return { node, lines, count, firstTs, lastTs, froms };
}

/** The first line from `from` on for which `isIt` is true, or the block's end. */
function findLine(
  { lines, count }: Block,
  prefixLength: number,
  from: Place,
  isIt: (ts: number, line: number, at: number, next: number) => boolean,
): Place {
  let { line, at } = from;
  while (line < count && at < lines.length) {
    const next = nextLine(lines, at);
    if (isIt(lineTimestamp(lines, at, prefixLength), line, at, next)) break;
    at = next;
    line++;
  }
  return { line, at };
}

function viewOf<B extends Block>(
  block: B,
  prefixLength: number,
  start: Place,
  end: Place,
): B | undefined {
  const count = end.line - start.line;
  if (count <= 0) return undefined;
  if (count === block.count) return block;
  const lines = block.lines.subarray(start.at, end.at);
  const froms = block.froms?.slice(start.line, end.line) ?? null;
  // The last line begins behind the last LF but one.
  const lastAt = lines.lastIndexOf(LF, lines.length - 2) + 1;
  return {
    ...block,
    lines,
    count,
    firstTs: lineTimestamp(lines, 0, prefixLength),
    lastTs: lineTimestamp(lines, lastAt, prefixLength),
    froms: froms?.some((from) => from !== undefined) ? froms : null,
  };
}

function nextLine(lines: Uint8Array, at: number): number {
  const lf = indexOfByte(lines, LF, at, lines.length);
  return lf < 0 ? lines.length : lf + 1;
}
