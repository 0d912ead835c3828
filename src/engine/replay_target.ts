// What a replay reads before it goes on in a segment of the arrival log.

import type { ArrivalSegment } from "./arrival_segment.ts";
import type { LimitOf } from "./merged_history.ts";

/** A segment, and what lies before it. */
export interface Target {
  readonly segment: ArrivalSegment;
  /** By node, the messages up to here are read elsewhere; as it was when that began. */
  readonly limits: ReadonlyMap<string, number>;
  /** See {@link ArrivalSegment.before}; as it was then. */
  readonly before: ReadonlyMap<string, number>;
  readonly isCurrent: boolean;
}

/** Up to where the messages of a node are read before a segment. */
export function limitOf({ limits, before, isCurrent }: Target): LimitOf {
  // Of nodes that the segment does not take nothing was delivered here, or not yet. What they had before
  // it must not be left for later: who leaves in the segment is taken to have it.
  const beginTs = Math.max(0, ...limits.values());
  return (node) => limits.get(node) ?? (isCurrent ? Infinity : before.get(node) ?? beginTs);
}

/** What a segment has dropped cannot be had from it: the sources have to know of it. */
export function sureOf({ before }: Target): LimitOf {
  return (node) => before.get(node) ?? 0;
}
