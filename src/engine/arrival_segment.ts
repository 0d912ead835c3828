// A stretch of a channel's messages in the order in which they arrived here, without a gap.

import type { PooledBuffer } from "../core/buffer_pool.ts";
import { LF } from "../proto/bytes.ts";
import { lineTimestamp } from "../proto/encoder.ts";
import { nextMoment } from "./moment.ts";
import { Vector } from "./vector.ts";

/** Messages of one node that were handed to the subscribers together. */
export interface Arrival {
  /** Owner of the lines, sealed. */
  readonly buffer: PooledBuffer;
  readonly node: string;
  readonly count: number;
  readonly firstTs: number;
  readonly lastTs: number;
  /** The publishers' names, one place a line; null where none is known. */
  readonly froms: readonly (string | undefined)[] | null;
  /** What had arrived of each node, see `Router.watermarks`. */
  readonly marks: ReadonlyMap<string, number>;
}

/** An arrival that is kept; what is taken back goes from its end. */
interface Entry extends Arrival {
  /** Bytes that it occupies, about. */
  readonly cost: number;
  count: number;
  /** Timestamp of its last line; 0 without any. */
  lastTs: number;
  /** Bytes of its lines. */
  length: number;
}

/** Where a segment begins, by node. */
export interface SegmentStart {
  /** What had arrived here before it, microseconds. */
  readonly arrived: ReadonlyMap<string, number>;
  /**
   * From here on nothing of the node is missing in the segment; up to here some may be, because the
   * node did not know yet that it was wanted. Later than `arrived`, or the same. A node that is not
   * among these must not be appended.
   */
  readonly complete: ReadonlyMap<string, number>;
  /** The segment that it goes on from: nothing was given to the subscribers between the two. */
  readonly former?: ArrivalSegment | null;
}

/** What a segment knows of a node. */
export interface Known {
  /** As in {@link SegmentStart}. */
  readonly complete: number;
  /** Everything of the node up to here came before the end of the segment. */
  readonly reached: number;
}

/** A place between two lines of a segment. */
export interface LogCursor {
  readonly segment: ArrivalSegment;
  /** Number of the entry, counted over the life of the segment, and the place in it. */
  seq: number;
  offset: number;
  line: number;
}

/** Whole lines of one entry. */
export interface LogPiece {
  readonly node: string;
  /** Good as long as the entry is kept. */
  readonly lines: Uint8Array;
  readonly count: number;
  /** Timestamp of the last line. */
  readonly lastTs: number;
  /** The names of the entry's publishers, and the number of the piece's first line among them. */
  readonly froms: readonly (string | undefined)[] | null;
  readonly line: number;
  /** The owner, where the piece is all of its bytes. */
  readonly whole: PooledBuffer | null;
}

/** What an entry takes beside its bytes, and beside that for each mark and name, estimates. */
const ENTRY_OVERHEAD_BYTES = 350;
const MARK_BYTES = 40;
const NAME_OVERHEAD_BYTES = 24;
/** What a segment takes beside its entries, an estimate. */
const SEGMENT_OVERHEAD_BYTES = 1000;
/** Messages that have been kept for us for longer than that are not looked for, microseconds. */
const MAX_LATE_MICROS = 10 * 60 * 1_000_000;

/**
 * What arrived while the channel was wanted without a break. Each message of a node stands in it once
 * and behind the earlier ones of the node; who has read it up to a line has got everything that had
 * arrived by then.
 */
export class ArrivalSegment {
  /** When it began. */
  readonly bornAt: number = nextMoment();
  /** Bytes that it occupies, bookkeeping included. */
  bytes = SEGMENT_OVERHEAD_BYTES;
  /** Messages. */
  count = 0;
  /** Whether it is kept no more. */
  isDropped = false;

  #prefixLength: number;
  /** Everything of a node up to here came before the oldest entry that is kept. */
  #before: Map<string, number>;
  #complete: ReadonlyMap<string, number>;
  #entries: Entry[] = [];
  /** Number of the first entry. */
  #firstSeq = 0;
  /** When the segment was born that it goes on from; 0 for none. */
  #followsAt: number;
  /** By node, the last message that somebody has read elsewhere, on the way to here. */
  #readElsewhere: Map<string, number>;

  constructor({ arrived, complete, former = null }: SegmentStart, prefixLength: number) {
    this.#before = new Map(arrived);
    this.#complete = complete;
    this.#prefixLength = prefixLength;
    this.#readElsewhere = new Map(former === null ? [] : former.#readElsewhere);
    if (former === null) this.#followsAt = 0;
    // One without messages is not kept: what came before that is what it goes on from.
    else this.#followsAt = former.count > 0 ? former.bornAt : former.#goesOnFrom;
  }

  /** `#followsAt`, as long as nothing has been dropped that stood between the two; 0 then, too. */
  get #goesOnFrom(): number {
    return this.#firstSeq === 0 ? this.#followsAt : 0;
  }

  /** What arrived together counts as one. */
  get arrivals(): number {
    return this.#entries.length;
  }

  /** Whether messages of the node belong into it. */
  takes(node: string): boolean {
    return this.#complete.has(node);
  }

  /** What it knows of the nodes whose messages it takes, as it is now. */
  known(): Map<string, Known> {
    const reached = new Map(this.#before);
    for (const { node, lastTs } of this.#entries) {
      reached.set(node, Math.max(reached.get(node) ?? 0, lastTs));
    }
    const known = new Map<string, Known>();
    for (const [node, complete] of this.#complete) {
      known.set(node, { complete, reached: reached.get(node) ?? 0 });
    }
    return known;
  }

  /** Somebody on the way to it has read the node's message at `ts` elsewhere. */
  noteRead(node: string, ts: number): void {
    this.#readElsewhere.set(node, Math.max(this.#readElsewhere.get(node) ?? 0, ts));
  }

  /** Adds what has arrived, and an ownership of its buffer. */
  append(arrival: Arrival): void {
    const { buffer } = arrival;
    buffer.retain();
    const entry: Entry = { ...arrival, length: buffer.view.length, cost: costOf(arrival) };
    this.#entries.push(entry);
    this.bytes += entry.cost;
    this.count += entry.count;
  }

  /** Drops its oldest entry; false when there is none. */
  dropOldest(): boolean {
    const entry = this.#entries.shift();
    if (entry === undefined) return false;
    this.#firstSeq++;
    this.bytes -= entry.cost;
    this.count -= entry.count;
    const { node, lastTs } = entry;
    this.#before.set(node, Math.max(this.#before.get(node) ?? 0, lastTs));
    entry.buffer.release();
    return true;
  }

  /** Drops the oldest entries as far as all their messages are at `ts` or before. */
  prune(ts: number): void {
    while (this.#entries.length > 0 && this.#entries[0].lastTs <= ts) this.dropOldest();
  }

  /** Drops everything. */
  drop(): void {
    if (this.isDropped) return;
    this.isDropped = true;
    while (this.dropOldest());
    this.bytes -= SEGMENT_OVERHEAD_BYTES;
  }

  /** Takes out the node's messages from `ts` on. */
  takeBack(node: string, ts: number): void {
    for (const entry of this.#entries) {
      if (entry.node !== node || entry.lastTs < ts) continue;
      let { offset, line } = { offset: 0, line: 0 };
      let lastTs = 0;
      while (line < entry.count) {
        const lineTs = this.#tsAt(entry, offset);
        if (lineTs >= ts) break;
        lastTs = lineTs;
        offset = entry.buffer.view.indexOf(LF, offset) + 1;
        line++;
      }
      this.count -= entry.count - line;
      entry.count = line;
      entry.length = offset;
      entry.lastTs = lastTs;
    }
  }

  #tsAt(entry: Entry, offset: number): number {
    return lineTimestamp(entry.buffer.view, offset, this.#prefixLength);
  }

  /**
   * Messages of the node up to here have to be looked for elsewhere; undefined where it is all of them,
   * because the node is none of those that it takes.
   */
  limit(node: string): number | undefined {
    const complete = this.#complete.get(node);
    return complete === undefined
      ? undefined
      : Math.max(complete, this.#before.get(node) ?? complete);
  }

  /** {@link limit} of each node that it takes, as it is now. */
  limits(): Map<string, number> {
    const limits = new Map<string, number>();
    for (const node of this.#complete.keys()) limits.set(node, this.limit(node) ?? 0);
    return limits;
  }

  /** By node, everything up to here had arrived before its oldest entry, as it is now. */
  before(): ReadonlyMap<string, number> {
    return new Map(this.#before);
  }

  /** Whether it has still got whatever has arrived behind `vector`. */
  hasAllBehind(vector: Vector): boolean {
    for (const [node, ts] of this.#before) if (vector.get(node) < ts) return false;
    return true;
  }

  /**
   * Whether everything behind `vector` stands in it, as far as it takes the node. Of the nodes in
   * `ended` everything is known up to a moment after its begin.
   */
  covers(vector: Vector, ended: ReadonlySet<string> | null = null): boolean {
    if (!this.hasAllBehind(vector)) return false;
    for (const [node, ts] of this.#complete) {
      if (vector.get(node) < ts && !ended?.has(node)) return false;
    }
    return true;
  }

  /**
   * The place behind the message with the timestamp `ts`, and what had arrived by then; `floor` stands
   * for nodes that were not known. Messages that may have been read elsewhere than here, in another
   * order, are not found, and none where another node may have had one at this very timestamp that was
   * given to somebody before. `others` are the nodes of which that is known from the segments before
   * this one, the last of which is `previous`; those of this one are added.
   */
  find(
    ts: number,
    floor: number,
    others: Set<string> = new Set(),
    previous: ArrivalSegment | null = null,
  ): { cursor: LogCursor; vector: Vector } | null {
    this.#addOthers(ts, others, previous);
    for (const [i, entry] of this.#entries.entries()) {
      if (ts < entry.firstTs || ts > entry.lastTs) continue;
      const place = this.#placeOf(entry, ts);
      if (place === null) continue;
      const { node } = entry;
      const isInOrder = ts > (this.#complete.get(node) ?? Infinity);
      others.add(node);
      if (!isInOrder || others.size > 1) continue;
      const cursor = { segment: this, seq: this.#firstSeq + i, ...place };
      return { cursor, vector: this.#vectorAt(i, ts, floor) };
    }
    return null;
  }

  #addOthers(ts: number, others: Set<string>, previous: ArrivalSegment | null): void {
    // What came before it stands in the previous one, where that is the one that it goes on from, and
    // who had something else of that time has read it.
    const goesOn = previous !== null && this.#goesOnFrom === previous.bornAt;
    const limits = goesOn ? [] : [this.#before, this.#complete];
    for (const byNode of [this.#readElsewhere, ...limits]) {
      for (const [node, limit] of byNode) if (limit >= ts) others.add(node);
    }
  }

  #placeOf(entry: Entry, ts: number): { offset: number; line: number } | null {
    let offset = 0;
    for (let line = 0; line < entry.count; line++) {
      const lineTs = this.#tsAt(entry, offset);
      if (lineTs > ts) return null;
      offset = entry.buffer.view.indexOf(LF, offset) + 1;
      if (lineTs === ts) return { offset, line: line + 1 };
    }
    return null;
  }

  /** What had arrived when the entry `index` had, as far as its message at `ts`. */
  #vectorAt(index: number, ts: number, floor: number): Vector {
    const { node, marks } = this.#entries[index];
    // A link may have been down for longer than clocks differ: what comes late has not been had.
    const from = (limit: number) => Math.min(floor, Math.max(limit, ts - MAX_LATE_MICROS));
    const beginTs = Math.max(...this.#complete.values());
    const byNode = new Map<string, number>();
    for (const other of marks.keys()) byNode.set(other, from(this.#before.get(other) ?? beginTs));
    for (const [other, complete] of this.#complete) byNode.set(other, from(complete));
    const vector = new Vector(floor, byNode);
    for (const [other, before] of this.#before) vector.raise(other, before);
    for (let i = 0; i < index; i++) vector.raise(this.#entries[i].node, this.#entries[i].lastTs);
    for (const [other, mark] of marks) {
      // What a node has accepted that the segment does not take is read behind it.
      if (other !== node && this.#complete.has(other)) vector.raise(other, mark);
    }
    vector.raise(node, ts);
    return vector;
  }

  /** The place before its oldest line. */
  start(): LogCursor {
    return { segment: this, seq: this.#firstSeq, offset: 0, line: 0 };
  }

  /** Whether lines behind the cursor have been dropped since it was there. */
  isLost(cursor: LogCursor): boolean {
    return this.isDropped || cursor.seq < this.#firstSeq;
  }

  /**
   * The next whole lines behind `vector`, at most `maxBytes` of them but at least one; moves the cursor
   * behind them. Undefined at the end. The cursor must not be lost.
   */
  next(cursor: LogCursor, vector: Vector, maxBytes: number): LogPiece | undefined {
    while (true) {
      const entry = this.#entries[cursor.seq - this.#firstSeq];
      if (entry === undefined) return undefined;
      this.#pass(entry, cursor, vector);
      if (cursor.line < entry.count) return this.#take(entry, cursor, maxBytes);
      cursor.seq++;
      cursor.offset = 0;
      cursor.line = 0;
    }
  }

  /** Moves the cursor over the entry's lines that lie before `vector`. */
  #pass(entry: Entry, cursor: LogCursor, vector: Vector): void {
    const ts = vector.get(entry.node);
    if (entry.lastTs <= ts) {
      cursor.line = entry.count;
      return;
    }
    while (cursor.line < entry.count && this.#tsAt(entry, cursor.offset) <= ts) {
      cursor.offset = entry.buffer.view.indexOf(LF, cursor.offset) + 1;
      cursor.line++;
    }
  }

  #take(entry: Entry, cursor: LogCursor, maxBytes: number): LogPiece {
    const { view } = entry.buffer;
    const { offset, line } = cursor;
    let end = entry.length;
    let count = entry.count - line;
    if (end - offset > maxBytes) {
      end = view.indexOf(LF, offset) + 1;
      count = 1;
      while (line + count < entry.count) {
        const next = view.indexOf(LF, end) + 1;
        if (next - offset > maxBytes) break;
        end = next;
        count++;
      }
    }
    cursor.offset = end;
    cursor.line += count;
    const lines = view.subarray(offset, end);
    const { node, froms } = entry;
    const lastTs = this.#tsAt(entry, offset + lines.lastIndexOf(LF, lines.length - 2) + 1);
    const whole = lines.length === view.length ? entry.buffer : null;
    return { node, lines, count, lastTs, froms, line, whole };
  }

  /** Number of messages from the cursor on that lie behind `vector`, which moves behind them. */
  countFrom(cursor: LogCursor, vector: Vector): number {
    let count = 0;
    const at = { ...cursor };
    for (let i = Math.max(0, at.seq - this.#firstSeq); i < this.#entries.length; i++) {
      const entry = this.#entries[i];
      this.#pass(entry, at, vector);
      count += Math.max(0, entry.count - at.line);
      vector.raise(entry.node, entry.lastTs);
      at.offset = 0;
      at.line = 0;
    }
    return count;
  }
}

function costOf({ buffer, froms, marks }: Arrival): number {
  let bytes = buffer.bytes.length + ENTRY_OVERHEAD_BYTES + marks.size * MARK_BYTES;
  for (const from of froms ?? []) bytes += NAME_OVERHEAD_BYTES + (from?.length ?? 0);
  return bytes;
}
