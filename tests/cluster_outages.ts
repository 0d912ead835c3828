// When two nodes of a fault run could not talk to each other, and when a node lost what it had not passed on.

import type { Bounds, ClusterLog, Fault, PublisherLog } from "./cluster_log.ts";

/** A time from, to; milliseconds. */
export interface Interval {
  readonly fromMs: number;
  readonly toMs: number;
}

/** Joins intervals that touch or overlap. */
export function merged(intervals: readonly Interval[]): Interval[] {
  const joined: { fromMs: number; toMs: number }[] = [];
  for (const { fromMs, toMs } of intervals.toSorted((a, b) => a.fromMs - b.fromMs)) {
    const last = joined.at(-1);
    if (last !== undefined && fromMs <= last.toMs) last.toMs = Math.max(last.toMs, toMs);
    else joined.push({ fromMs, toMs });
  }
  return joined;
}

/** Whether the fault stands between these two nodes; of one node and itself, whether it is down or frozen. */
function concerns(fault: Fault, a: number, b: number): boolean {
  const { what, nodes } = fault;
  switch (what) {
    case "kill":
    case "restart":
    case "freeze":
      return nodes[0] === a || nodes[0] === b;
    case "cut node":
      return a !== b && (nodes[0] === a || nodes[0] === b);
    case "slow":
      if (a === b) return false;
      if (nodes.length === 1) return nodes[0] === a || nodes[0] === b;
      return nodes.includes(a) && nodes.includes(b);
    // One way is as good as none: what is received cannot be acknowledged.
    case "cut one way":
    case "cut":
      return a !== b && nodes.includes(a) && nodes.includes(b);
    // Links stay as they are when the directory is gone: nothing is excused by it.
    case "etc member":
    case "etc all":
      return false;
  }
}

/**
 * The order of the test by which a node had ended, or was ending, when a connection to it ended that had
 * begun at `beganMs`; undefined where there was none.
 */
export function stopOf(
  { faults, bounds: { forwardMs } }: Pick<ClusterLog, "faults" | "bounds">,
  node: number,
  beganMs: number,
  endedMs: number,
): Fault | undefined {
  return faults.find(({ what, nodes, fromMs, untilMs }) =>
    (what === "kill" || what === "restart") && nodes[0] === node &&
    beganMs <= fromMs + forwardMs && fromMs <= endedMs && endedMs <= untilMs + forwardMs
  );
}

/** The faults of a run, as the checker asks about them. */
export class Outages {
  #faults: readonly Fault[];
  #bounds: Bounds;
  #publishers: readonly PublisherLog[];
  #merged = new Map<string, Interval[]>();

  constructor(
    faults: readonly Fault[],
    publishers: readonly PublisherLog[],
    bounds: Bounds,
  ) {
    this.#faults = faults;
    this.#publishers = publishers;
    this.#bounds = bounds;
  }

  /** When the two could not talk, from the first break until both were seen linked again. */
  between(a: number, b: number): Interval[] {
    const key = `${a} ${b}`;
    let found = this.#merged.get(key);
    if (found === undefined) {
      found = merged(
        this.#faults.filter((fault) => concerns(fault, a, b))
          .map(({ fromMs, backMs }) => ({ fromMs, toMs: backMs })),
      );
      this.#merged.set(key, found);
    }
    return found;
  }

  /** Whether they could not talk at some moment of that time, or had not caught up since. */
  isBroken(a: number, b: number, { fromMs, toMs }: Interval): boolean {
    const { drainMs } = this.#bounds;
    return this.between(a, b).some((outage) =>
      outage.fromMs <= toMs && outage.toMs + drainMs >= fromMs
    );
  }

  /** The first time from then on at which they could talk. */
  linkedFrom(a: number, b: number, ms: number): number {
    const outage = this.between(a, b).find(({ fromMs, toMs }) => fromMs <= ms && ms < toMs);
    return outage?.toMs ?? ms;
  }

  /** When the one has certainly heard what the other had told it then; that moment itself without a break. */
  heardFrom(a: number, b: number, ms: number): number {
    let at = ms;
    for (const { fromMs, toMs } of this.between(a, b)) {
      const end = toMs + this.#bounds.drainMs;
      if (fromMs <= at && at < end) at = end;
    }
    return at;
  }

  /**
   * When what `a` has accepted then has arrived at `b` for certain: after `forwardMs` without a break, and
   * after a break not before what had gathered could flow.
   */
  arrivedBy(a: number, b: number, ms: number): number {
    const { forwardMs, drainMs } = this.#bounds;
    let at = ms;
    for (const { fromMs, toMs } of this.between(a, b)) {
      const end = toMs + drainMs;
      if (end > at && fromMs < at + forwardMs) at = end;
    }
    return at + forwardMs;
  }

  /**
   * When one who was told then, at `node`, what it has missed has certainly been given it. That is of all
   * nodes: what one of them still has to give comes before everything that is published later, here, too.
   */
  caughtUpBy(node: number, toldMs: number, nodes: number): number {
    const from = toldMs + this.#bounds.drainMs;
    return Math.max(...Array.from({ length: nodes }, (_, i) => this.arrivedBy(i, node, from)));
  }

  /** Whether the node ran from then on until then, without an end in between. */
  isSameLife(node: number, fromMs: number, toMs: number): boolean {
    return !this.#faults.some(({ what, nodes: [stopped], fromMs: stoppedMs, untilMs }) =>
      (what === "kill" || what === "restart") && stopped === node && stoppedMs <= toMs &&
      untilMs >= fromMs
    );
  }

  /** Whether the node had just been started, and had not yet been seen linked to the other. */
  isFresh(node: number, ms: number): boolean {
    return this.#faults.some(({ what, nodes: [killed], fromMs, backMs }) =>
      (what === "kill" || what === "restart") && killed === node && fromMs <= ms && ms < backMs
    );
  }

  /**
   * Whether `a` was gone before it could pass on to `b` what it had accepted in the meantime from, to. A
   * kill takes what is on its way; an orderly end does so only where the other could not be reached.
   */
  isLostWith(a: number, b: number, { fromMs, toMs }: Interval): boolean {
    return this.#faults.some((fault) => {
      const { what, nodes: [node] } = fault;
      if (node !== a || fault.fromMs > toMs || fault.untilMs < fromMs) return false;
      if (what === "kill") return true;
      return what === "restart" &&
        this.#faults.some((other) =>
          other !== fault && concerns(other, a, b) &&
          other.fromMs <= fault.untilMs && other.backMs + this.#bounds.drainMs >= fromMs
        );
    });
  }

  /**
   * Whether a break that had something to do with a message of that time was beyond what the replay buffer
   * of `a` has to hold for `b`.
   */
  isBeyondBounds(a: number, b: number, { fromMs, toMs }: Interval): boolean {
    return this.between(a, b).some((outage) => {
      if (outage.fromMs > toMs || outage.toMs < fromMs) return false;
      if (outage.toMs - outage.fromMs > this.#bounds.replayMs) return true;
      const bytes = this.#sentAt(a, outage) * this.#bounds.messageBytes;
      return bytes > this.#bounds.replayBytes;
    });
  }

  /** How many messages were given to a node in that time. */
  #sentAt(node: number, { fromMs, toMs }: Interval): number {
    let count = 0;
    for (const { node: at, sentMs, length } of this.#publishers) {
      if (at === node) count += firstFrom(sentMs, length, toMs) - firstFrom(sentMs, length, fromMs);
    }
    return count;
  }
}

/** Index of the first of these rising times that is not before `ms`. */
export function firstFrom(times: Float64Array, length: number, ms: number): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < ms) low = middle + 1;
    else high = middle;
  }
  return low;
}
