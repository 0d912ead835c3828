// When answers are begun: for a slice of each turn of the event loop, over all connections of a door.

import { Slices } from "../core/slices.ts";

/** Begins answers in the order in which they come up; those that are too many for a turn come in the next. */
export class AnswerTurns {
  #waiting: (() => void)[] = [];
  #isRunning = false;

  /** Calls `begin`, now or in a later turn. It must not throw. */
  add(begin: () => void): void {
    this.#waiting.push(begin);
    if (this.#isRunning) return;
    this.#isRunning = true;
    // Nothing in it throws.
    void this.#run();
  }

  async #run(): Promise<void> {
    const slices = new Slices();
    do {
      for (let begin = this.#waiting.shift(); begin !== undefined; begin = this.#waiting.shift()) {
        begin();
        // The rest of an answer is made in microtasks; its time counts, too.
        await null;
        if (slices.isOver) await slices.turn();
      }
      // What comes up in this turn is of this slice.
      await slices.turn();
    } while (this.#waiting.length > 0);
    this.#isRunning = false;
  }
}
