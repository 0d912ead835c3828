// A channel's messages of all nodes, in the order in which they arrived here.

import {
  type Arrival,
  ArrivalSegment,
  type LogCursor,
  type SegmentStart,
} from "./arrival_segment.ts";
import type { Vector } from "./vector.ts";

/** Somebody who waits at the end of a log for what comes next. */
export interface LogReader {
  /** Something has arrived. */
  pump(): void;
}

/** A place that was found by a timestamp. */
export interface Found {
  readonly cursor: LogCursor;
  /** What had arrived by then. */
  readonly vector: Vector;
}

/** Segments of a log, the present one not counted. */
const MAX_OLD_SEGMENTS = 8;

/**
 * The newest arrivals of one channel: those since it is wanted, and those of the times before. What
 * came between did not come here, or may not have.
 */
export class ArrivalLog {
  /** Those since the channel is wanted; null while it is not, or nothing has arrived. */
  current: ArrivalSegment | null = null;
  /** The last one that has ended, as long as nothing was given to the followers since. */
  former: ArrivalSegment | null = null;
  /** The largest timestamp that has arrived, microseconds. */
  lastTs = 0;
  /** Those who wait at its end. */
  readonly waiting: Set<LogReader> = new Set();

  #prefixLength: number;
  /** The oldest first, the present one last. */
  #segments: ArrivalSegment[] = [];

  constructor(prefixLength: number) {
    this.#prefixLength = prefixLength;
  }

  /** Bytes that it occupies, bookkeeping included. */
  get bytes(): number {
    let bytes = 0;
    for (const segment of this.#segments) bytes += segment.bytes;
    return bytes;
  }

  /** Messages. */
  get count(): number {
    let count = 0;
    for (const segment of this.#segments) count += segment.count;
    return count;
  }

  /** What arrived together counts as one. */
  get arrivals(): number {
    let arrivals = 0;
    for (const segment of this.#segments) arrivals += segment.arrivals;
    return arrivals;
  }

  /** Begins a segment, right behind {@link former}; there is no present one. */
  begin(start: Omit<SegmentStart, "former">): ArrivalSegment {
    const current = new ArrivalSegment({ ...start, former: this.former }, this.#prefixLength);
    this.former = null;
    this.#segments.push(current);
    return this.current = current;
  }

  /** Ends the present segment; something may be missing from now on. */
  end(): void {
    const { current } = this;
    if (current === null) return;
    this.current = null;
    this.former = current;
    // One in which nothing has arrived has nothing to be found; what came before it may still be asked for.
    if (current.count === 0) this.#segments.pop()?.drop();
    else if (this.#segments.length > MAX_OLD_SEGMENTS) this.#segments.shift()?.drop();
  }

  /** What the followers are given from now on is not added, or there are none. */
  lapse(): void {
    this.end();
    this.former = null;
  }

  /** Adds to the present segment, and drops the oldest arrivals beyond `maxMessages`, see {@link trim}. */
  append(arrival: Arrival, maxMessages: number): void {
    this.current?.append(arrival);
    this.lastTs = Math.max(this.lastTs, arrival.lastTs);
    this.trim(maxMessages);
  }

  /** Drops the oldest arrivals beyond `maxMessages`; the newest one stays, however large, but for 0. */
  trim(maxMessages: number): void {
    const least = maxMessages > 0 ? 1 : 0;
    while (this.count > maxMessages && this.arrivals > least) this.dropOldest();
  }

  /** Drops the oldest arrival; false when there is none. */
  dropOldest(): boolean {
    while (true) {
      const oldest = this.#segments.at(0);
      if (oldest?.dropOldest()) return true;
      if (oldest === undefined || oldest === this.current) return false;
      oldest.drop();
      this.#segments.shift();
    }
  }

  /** The oldest segment that was born behind the moment. */
  firstAfter(moment: number): ArrivalSegment | undefined {
    return this.#segments.find(({ bornAt }) => bornAt > moment);
  }

  /** The place behind the message with the timestamp `ts`; see {@link ArrivalSegment.find}. */
  find(ts: number, floor: number): Found | null {
    const others = new Set<string>();
    let previous: ArrivalSegment | null = null;
    for (const segment of this.#segments) {
      const found = segment.find(ts, floor, others, previous);
      if (found !== null) return found;
      previous = segment;
    }
    return null;
  }

  /** Number of messages that lie behind `vector`. */
  countBehind(vector: Vector): number {
    let count = 0;
    const passed = vector.copy();
    for (const segment of this.#segments) count += segment.countFrom(segment.start(), passed);
    return count;
  }

  /** Takes out the node's messages from `ts` on. */
  takeBack(node: string, ts: number): void {
    for (const segment of this.#segments) segment.takeBack(node, ts);
  }

  /** Drops the oldest messages up to `ts`. */
  prune(ts: number): void {
    this.#segments = this.#segments.filter((segment) => {
      segment.prune(ts);
      const isKept = segment.arrivals > 0 || segment === this.current;
      if (!isKept) segment.drop();
      return isKept;
    });
  }

  /** Drops everything. */
  clear(): void {
    for (const segment of this.#segments) segment.drop();
    this.#segments = [];
    this.current = this.former = null;
  }
}
