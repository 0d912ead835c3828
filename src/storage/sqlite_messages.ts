// What the two sides of the SQLite store say to each other, and how blocks cross between them.

import type {
  Block,
  ChannelBlock,
  MessageRange,
  NewestRequest,
  Page,
  PruneRequest,
  PruneStep,
  ReadRequest,
  StoreFault,
  StoreInfo,
} from "../engine/ports/history_store.ts";
import type { FoundToken } from "../engine/ports/token_store.ts";
import { lineChannel } from "../proto/encoder.ts";

/** What the worker can be asked for: what goes in, and what comes out. */
export interface Operations {
  /** Opens the file by its absolute path, anew where it is open. */
  open: { in: string; out: StoreInfo };
  append: { in: PackedBlocks; out: void };
  forget: { in: readonly MessageRange[]; out: void };
  read: { in: ReadRequest; out: Page };
  readNewest: { in: NewestRequest; out: Page };
  count: { in: CountRequest; out: number };
  prune: { in: PruneRequest; out: PruneStep };
  scan: { in: ScanCursor; out: ScanPage };
  put: { in: NewToken; out: boolean };
  find: { in: string; out: FoundToken | undefined };
  take: { in: string; out: boolean };
  /** Finishes what has to be written and closes the file. */
  close: { in: undefined; out: void };
}

export type Operation = keyof Operations;

/** A request on its way to the worker. */
export type Request = {
  [K in Operation]: { readonly id: number; readonly op: K; readonly input: Operations[K]["in"] };
}[Operation];

/** What comes from the worker. */
export type Reply =
  | { readonly id: number; readonly output: Operations[Operation]["out"] }
  | { readonly id: number; readonly fault: StoreFault; readonly message: string }
  /** For the log: a reader keeps the write-ahead log from being emptied. */
  | { readonly pinnedWal: string; readonly bytes: number };

export interface CountRequest {
  readonly app: string;
  readonly channel: string;
  readonly afterTs: number;
  readonly throughTs: number;
}

export interface NewToken {
  readonly hash: string;
  readonly app: string;
  readonly user: string;
  readonly ttlMs: number;
  readonly maxUnused: number;
}

/** Where a scan goes on: behind this timestamp of this channel. */
export interface ScanCursor {
  readonly app: string;
  readonly channel: string;
  readonly afterTs: number;
}

export interface ScanPage {
  readonly blocks: readonly ChannelBlock[];
  /** Null at the end. */
  readonly cursor: ScanCursor | null;
}

/** Blocks as one piece of memory, which crosses to the worker without a copy. */
export interface PackedBlocks {
  /** The lines of all blocks, one behind the other. */
  readonly bytes: ArrayBuffer;
  /**
   * {@link NUMBERS} of each block: bytes, count, firstTs, lastTs, and the places of its app and node in
   * `names`. Its channel stands in its lines.
   */
  readonly numbers: Float64Array<ArrayBuffer>;
  readonly names: readonly string[];
  /** The publishers of each block; null where there are none at all. */
  readonly froms: readonly Block["froms"][] | null;
}

/** Numbers that describe a block in {@link PackedBlocks}. */
const NUMBERS = 6;

/** Copies blocks into one buffer. On the main thread, for each commit: it looks into no line. */
export function packBlocks(blocks: readonly ChannelBlock[]): PackedBlocks {
  let size = 0;
  let anyFrom = false;
  for (const { lines, froms } of blocks) {
    size += lines.length;
    anyFrom ||= froms !== null;
  }
  const bytes = new Uint8Array(size);
  const numbers = new Float64Array(blocks.length * NUMBERS);
  const names: string[] = [];
  let at = 0;
  let n = 0;
  for (const { app, node, lines, count, firstTs, lastTs } of blocks) {
    bytes.set(lines, at);
    at += lines.length;
    numbers[n++] = lines.length;
    numbers[n++] = count;
    numbers[n++] = firstTs;
    numbers[n++] = lastTs;
    numbers[n++] = placeOf(app, names);
    numbers[n++] = placeOf(node, names);
  }
  const froms = anyFrom ? blocks.map((block) => block.froms) : null;
  return { bytes: bytes.buffer, numbers, names, froms };
}

/** Of the few that there are at once. */
function placeOf(name: string, names: string[]): number {
  const place = names.indexOf(name);
  return place >= 0 ? place : names.push(name) - 1;
}

/** The blocks of {@link packBlocks}, as views of its bytes. */
export function unpackBlocks({ bytes, numbers, names, froms }: PackedBlocks): ChannelBlock[] {
  const blocks: ChannelBlock[] = [];
  let at = 0;
  for (let n = 0; n < numbers.length; n += NUMBERS) {
    const lines = new Uint8Array(bytes, at, numbers[n]);
    at += numbers[n];
    blocks.push({
      app: names[numbers[n + 4]],
      channel: lineChannel(lines),
      node: names[numbers[n + 5]],
      lines,
      count: numbers[n + 1],
      firstTs: numbers[n + 2],
      lastTs: numbers[n + 3],
      froms: froms?.[blocks.length] ?? null,
    });
  }
  return blocks;
}
