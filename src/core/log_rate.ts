// For what can happen very often and has one cause: a log line now and then, with a count.

/** Says which of many equal events are to be logged: one a period. */
export class LogRate {
  readonly #periodMs: number;
  #unlogged = 0;
  #loggedMs = -Infinity;

  constructor(periodMs = 1000) {
    this.#periodMs = periodMs;
  }

  /**
   * Counts an event. Returns null where it is not to be logged, and else what belongs into its line:
   * `further`, the number of events that were not logged since the last one, where there are any.
   */
  next(nowMs: number = performance.now()): { further?: number } | null {
    if (nowMs - this.#loggedMs < this.#periodMs) {
      this.#unlogged++;
      return null;
    }
    const further = this.#unlogged;
    this.#loggedMs = nowMs;
    this.#unlogged = 0;
    return further > 0 ? { further } : {};
  }
}
