// The clock that gives messages their timestamps: whole microseconds, strictly increasing.

const DIGITS = 16;
const ZERO = 0x30;
const NINE = 0x39;
/** How far the fine-grained estimate may run ahead of the wall clock before it is anchored anew, ms. */
const MAX_DRIFT_MS = 2;

/** The two clocks of the machine; injected so that a test can set them back. */
export interface TimeSource {
  /** Wall clock, milliseconds since the epoch; may jump. */
  wallMs(): number;
  /** Monotonic milliseconds with a fraction. */
  monoMs(): number;
}

export const systemTime: TimeSource = {
  wallMs: () => Date.now(),
  monoMs: () => performance.now(),
};

/**
 * Gives strictly increasing timestamps, never behind the wall clock; where the wall clock steps
 * back, they go on counting from the last one.
 *
 * {@link next} costs an increment. The machine's clocks are read only by {@link refresh}, once per
 * turn of the event loop, and the 16 decimal digits are kept as bytes and counted up in place.
 */
export class Clock {
  /** The last timestamp given, microseconds since the Unix epoch. */
  last: number;
  /** The decimal digits of {@link last}, ASCII. */
  readonly digits: Uint8Array<ArrayBuffer> = new Uint8Array(DIGITS);

  #time: TimeSource;
  #anchorWallMs: number;
  #anchorMonoMs: number;

  constructor(time: TimeSource = systemTime) {
    this.#time = time;
    this.#anchorWallMs = time.wallMs();
    this.#anchorMonoMs = time.monoMs();
    this.last = this.#anchorWallMs * 1000;
    this.#writeDigits();
  }

  /** Reads the machine's clocks; the next timestamps begin there unless they are already past it. */
  refresh(): void {
    const now = this.#nowMicros();
    if (now > this.last) {
      // One less, because `next` counts up before it gives.
      this.last = now - 1;
      this.#writeDigits();
    }
  }

  /** The next timestamp; {@link digits} hold it too. */
  next(): number {
    const digits = this.digits;
    let i = DIGITS - 1;
    while (digits[i] === NINE) digits[i--] = ZERO;
    digits[i]++;
    return ++this.last;
  }

  /** Moves past a timestamp seen elsewhere (kept by a store, or sent by a peer). */
  moveFrom(ts: number): void {
    if (ts <= this.last) return;
    this.last = ts;
    this.#writeDigits();
  }

  /** Wall clock in microseconds, with the monotonic clock's resolution between its milliseconds. */
  #nowMicros(): number {
    const wallMs = this.#time.wallMs();
    const monoMs = this.#time.monoMs();
    const estimateMs = this.#anchorWallMs + (monoMs - this.#anchorMonoMs);
    // The wall clock is whole milliseconds: behind it, the estimate was anchored late in one.
    if (estimateMs < wallMs || estimateMs > wallMs + MAX_DRIFT_MS) {
      this.#anchorWallMs = wallMs;
      this.#anchorMonoMs = monoMs;
      return wallMs * 1000;
    }
    return Math.floor(estimateMs * 1000);
  }

  #writeDigits(): void {
    let rest = this.last;
    for (let i = DIGITS - 1; i >= 0; i--) {
      const tenth = Math.floor(rest / 10);
      this.digits[i] = ZERO + (rest - tenth * 10);
      rest = tenth;
    }
  }
}
