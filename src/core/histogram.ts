// A histogram of durations, for Prometheus and for percentiles: fixed buckets, nothing allocated by an observation.

/** Upper bounds of the buckets, seconds; one more holds what took longer. */
export const BOUNDS_S: readonly number[] = [
  0.00005,
  0.0001,
  0.0002,
  0.0005,
  0.001,
  0.002,
  0.005,
  0.01,
  0.02,
  0.05,
  0.1,
  0.2,
  0.5,
  1,
  2,
  5,
  10,
];

/** What a {@link Histogram} holds at one moment, or what came between two of them. */
export interface HistogramSnapshot {
  /** Upper bounds of the buckets but the last, seconds. */
  readonly bounds_s: readonly number[];
  /** Observations in each bucket alone; the last one's have no upper bound. */
  readonly counts: readonly number[];
  /** Sum of all observations, seconds. */
  readonly sum_s: number;
}

/** Counts durations by size. */
export class Histogram {
  #counts = new Float64Array(BOUNDS_S.length + 1);
  #sumMs = 0;

  /** Adds a duration, ms. One below 0, as a clock may give, counts as 0. */
  observeMs(ms: number): void {
    const durationMs = ms > 0 ? ms : 0;
    const seconds = durationMs / 1000;
    let bucket = 0;
    while (bucket < BOUNDS_S.length && seconds > BOUNDS_S[bucket]) bucket++;
    this.#counts[bucket]++;
    this.#sumMs += durationMs;
  }

  snapshot(): HistogramSnapshot {
    return { bounds_s: BOUNDS_S, counts: [...this.#counts], sum_s: this.#sumMs / 1000 };
  }
}

/** Number of observations. */
export function countOf({ counts }: HistogramSnapshot): number {
  return counts.reduce((sum, count) => sum + count, 0);
}

/** What came after `earlier`, up to `later`, both of one histogram. */
export function between(earlier: HistogramSnapshot, later: HistogramSnapshot): HistogramSnapshot {
  return {
    bounds_s: later.bounds_s,
    counts: later.counts.map((count, i) => count - earlier.counts[i]),
    sum_s: later.sum_s - earlier.sum_s,
  };
}

/**
 * An estimate of the quantile `q` (0 to 1), seconds, as Prometheus' `histogram_quantile` makes it:
 * between the bounds of its bucket the observations are taken to lie evenly. What is larger than every
 * bound is said to be the last bound. Null where there are no observations.
 */
export function quantile({ bounds_s, counts }: HistogramSnapshot, q: number): number | null {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0) return null;
  const rank = q * total;
  let below = 0;
  for (let i = 0; i < bounds_s.length; i++) {
    const count = counts[i];
    if (count > 0 && below + count >= rank) {
      const from = i === 0 ? 0 : bounds_s[i - 1];
      return from + (bounds_s[i] - from) * (rank - below) / count;
    }
    below += count;
  }
  return bounds_s[bounds_s.length - 1];
}
