// Work that is too long for one go, done in slices, so that others have their turn between.

import { nextTurn } from "./turn.ts";

/** So long is a slice, ms: what everybody else waits at most. */
const SLICE_MS = 5;

/** Counts the time of one such piece of work. */
export class Slices {
  #endMs = performance.now() + SLICE_MS;

  /** To be called every some hundred steps: whether others should have their turn, by {@link turn}. */
  get isOver(): boolean {
    return performance.now() >= this.#endMs;
  }

  /** Lets the others have theirs, and begins the next slice. */
  async turn(): Promise<void> {
    await nextTurn();
    this.#endMs = performance.now() + SLICE_MS;
  }
}
