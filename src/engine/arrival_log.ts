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

/**
 * The newest arrivals of one channel: those since it is wanted, and those of the time before, when it
 * was wanted last. What came between did not come here.
 */
export class ArrivalLog {
  /** Those of the time before. */
  old: ArrivalSegment | null = null;
  /** Those since the channel is wanted; null while it is not, or nothing has arrived. */
  current: ArrivalSegment | null = null;
  /** The largest timestamp that has arrived, microseconds. */
  lastTs = 0;
  /** Those who wait at its end. */
  readonly waiting: Set<LogReader> = new Set();

  #prefixLength: number;

  constructor(prefixLength: number) {
    this.#prefixLength = prefixLength;
  }

  /** Bytes that it occupies, bookkeeping included. */
  get bytes(): number {
    return (this.old?.bytes ?? 0) + (this.current?.bytes ?? 0);
  }

  /** Messages. */
  get count(): number {
    return (this.old?.count ?? 0) + (this.current?.count ?? 0);
  }

  /** What arrived together counts as one. */
  get arrivals(): number {
    return (this.old?.arrivals ?? 0) + (this.current?.arrivals ?? 0);
  }

  /** Begins a segment; the one before ends. */
  begin(start: SegmentStart): ArrivalSegment {
    this.lapse();
    return this.current = new ArrivalSegment(start, this.#prefixLength);
  }

  /** The channel is wanted no more, or something is missing from now on. */
  lapse(): void {
    const { current } = this;
    this.current = null;
    // One in which nothing has arrived has nothing to be found; what came before it may still be asked for.
    if (current === null || current.count === 0) return current?.drop();
    this.old?.drop();
    this.old = current;
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
    if (this.old !== null) {
      if (this.old.dropOldest()) return true;
      this.old.drop();
      this.old = null;
    }
    return this.current?.dropOldest() ?? false;
  }

  /** The place behind the message with the timestamp `ts`; see {@link ArrivalSegment.find}. */
  find(ts: number, floor: number): Found | null {
    return this.old?.find(ts, floor) ?? this.current?.find(ts, floor) ?? null;
  }

  /** Number of messages that lie behind `vector`. */
  countBehind(vector: Vector): number {
    let count = 0;
    const passed = vector.copy();
    for (const segment of [this.old, this.current]) {
      if (segment !== null) count += segment.countFrom(segment.start(), passed);
    }
    return count;
  }

  /** Takes out the node's messages from `ts` on. */
  takeBack(node: string, ts: number): void {
    this.old?.takeBack(node, ts);
    this.current?.takeBack(node, ts);
  }

  /** Drops the oldest messages up to `ts`. */
  prune(ts: number): void {
    this.old?.prune(ts);
    this.current?.prune(ts);
  }

  /** Drops everything. */
  clear(): void {
    this.old?.drop();
    this.current?.drop();
    this.old = this.current = null;
  }
}
