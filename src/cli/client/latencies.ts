// Percentiles of very many durations, to within one in 64, in little memory.

/** Buckets for each doubling: a value is known to within so much of itself. */
const PER_DOUBLING = 64;
const DOUBLINGS = 40;

/** Durations from 1 µs to some days. */
export class Latencies {
  /** How many were added. */
  count = 0;
  /** The largest, microseconds. */
  max = 0;

  #sum = 0;
  #buckets = new Float64Array(PER_DOUBLING * DOUBLINGS);

  /** Adds `times` equal durations, microseconds. */
  add(micros: number, times = 1): void {
    const bucket = Math.floor(Math.log2(Math.max(1, micros)) * PER_DOUBLING);
    this.#buckets[Math.min(bucket, this.#buckets.length - 1)] += times;
    this.count += times;
    this.#sum += micros * times;
    if (micros > this.max) this.max = micros;
  }

  /** The mean, microseconds; 0 of none. */
  get mean(): number {
    return this.count === 0 ? 0 : this.#sum / this.count;
  }

  /** The duration that the share `q` (0…1) of all does not exceed, microseconds; 0 of none. */
  quantile(q: number): number {
    let left = Math.max(1, Math.ceil(this.count * q));
    for (const [bucket, times] of this.#buckets.entries()) {
      left -= times;
      if (left <= 0 && times > 0) return Math.min(this.max, 2 ** ((bucket + 1) / PER_DOUBLING));
    }
    return this.max;
  }
}
