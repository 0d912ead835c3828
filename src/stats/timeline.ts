// The last quarter of an hour, a moment a second: what the plots of the page are drawn from.

/** What is kept of each moment, in this order. Rates are per second, over the time since the last moment. */
export const SERIES = [
  "connections",
  /** Messages accepted from clients, and queued for subscribers. */
  "published",
  "delivered",
  "bytes_in",
  "bytes_out",
  /** Milliseconds: half of those of the last moment took less, and 99 of 100. */
  "publish_p50_ms",
  "publish_p99_ms",
  "delivery_p50_ms",
  "delivery_p99_ms",
  /** The largest since the last moment. */
  "lag_ms",
  "resident_bytes",
  "heap_bytes",
  /** Of one core. */
  "cpu_percent",
  "storage_pending",
  "s2s_forwarded",
  "s2s_received",
] as const;

/** The name of a series. */
export type SeriesName = typeof SERIES[number];

/** The values of one moment; NaN where there is none. */
export type Moment = Readonly<Record<SeriesName, number>>;

/** Time and values as they are sent: milliseconds since the epoch, then a number or null for each series. */
export type Row = readonly (number | null)[];

/** Keeps the newest `capacity` moments; a longer time between two of them is a gap. */
export class Timeline {
  #times: Float64Array;
  #columns: readonly Float64Array[];
  #length = 0;
  /** Where the next one goes. */
  #next = 0;

  /** `stepMs`: the time between two moments when nothing is wrong. */
  constructor(readonly capacity: number, readonly stepMs: number) {
    this.#times = new Float64Array(capacity);
    this.#columns = SERIES.map(() => new Float64Array(capacity));
  }

  get length(): number {
    return this.#length;
  }

  /**
   * Adds a moment. Where the one before is more than two and a half steps ago, an empty one comes in
   * between: the line is not drawn across. A clock that was put back makes the timeline begin anew.
   */
  add(timeMs: number, moment: Moment): void {
    if (this.#length > 0) {
      const lastMs = this.#times[(this.#next - 1 + this.capacity) % this.capacity];
      if (timeMs <= lastMs) this.#length = this.#next = 0;
      else if (timeMs - lastMs > 2.5 * this.stepMs) this.#put(lastMs + this.stepMs, () => NaN);
    }
    this.#put(timeMs, (name) => moment[name]);
  }

  #put(timeMs: number, valueOf: (name: SeriesName) => number): void {
    this.#times[this.#next] = timeMs;
    for (let i = 0; i < SERIES.length; i++) this.#columns[i][this.#next] = valueOf(SERIES[i]);
    this.#next = (this.#next + 1) % this.capacity;
    this.#length = Math.min(this.#length + 1, this.capacity);
  }

  /** All moments, the oldest first. */
  rows(): Row[] {
    const from = this.#next - this.#length + this.capacity;
    return Array.from({ length: this.#length }, (_, i) => this.#row((from + i) % this.capacity));
  }

  /** The newest one; null where there is none yet. */
  last(): Row | null {
    return this.#length === 0 ? null : this.#row((this.#next - 1 + this.capacity) % this.capacity);
  }

  #row(at: number): Row {
    return [Math.round(this.#times[at]), ...this.#columns.map((column) => shown(column[at]))];
  }
}

/** With as many digits as anybody looks at, as what is sent is text. */
function shown(value: number): number | null {
  if (!Number.isFinite(value)) return null;
  if (Math.abs(value) >= 100) return Math.round(value);
  return Math.round(value * 1000) / 1000;
}
