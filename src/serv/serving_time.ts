// Time for requests, which all connections share: so that a hundred that send at once do not add up.

import { watch } from "../core/spawn.ts";
import { nextTurn, type Turn } from "../core/turn.ts";

/** How long requests are served before the loop goes round, ms. */
const SLICE_MS = 4;

/** The task under whose name the line is served. */
const TASK = "serv.line";

/** First in, first out. */
class Line {
  #waiting: (() => void)[] = [];
  #at = 0;

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  add(work: () => void): void {
    this.#waiting.push(work);
  }

  /** Takes the first one out; there is one. */
  next(): () => void {
    const work = this.#waiting[this.#at++];
    if (this.#at === this.#waiting.length) {
      this.#waiting = [];
      this.#at = 0;
    }
    return work;
  }
}

/**
 * Who finds the slice of the present turn over waits in line. Short work goes before long work, of which
 * there is some in each slice all the same: a ping need not wait until each of a hundred connections
 * that send without end has had a slice.
 */
export class ServingTime {
  #turn: Turn;
  #turnCount = -1;
  #endMs = 0;
  #short = new Line();
  #long = new Line();
  #isServing = false;

  constructor(turn: Turn) {
    this.#turn = turn;
  }

  /** Whether the present slice is over. The first who asks in a turn begins one. */
  get isOver(): boolean {
    const nowMs = performance.now();
    if (this.#turn.count !== this.#turnCount && !this.#isServing) this.#begin(nowMs);
    return nowMs >= this.#endMs;
  }

  #begin(nowMs: number): void {
    this.#turnCount = this.#turn.count;
    this.#endMs = nowMs + SLICE_MS;
  }

  /** Does `work`, which must not throw, in a later turn when it is its turn. */
  line(work: () => void, isLong: boolean): void {
    (isLong ? this.#long : this.#short).add(work);
    if (this.#isServing) return;
    this.#isServing = true;
    watch(TASK, this.#serve());
  }

  /** Resolves in a later turn when it is the caller's turn, whose work is long. */
  wait(): Promise<void> {
    return new Promise((resolve) => this.line(resolve, true));
  }

  async #serve(): Promise<void> {
    while (!this.#short.isEmpty || !this.#long.isEmpty) {
      await nextTurn();
      this.#begin(performance.now());
      await this.#serveFrom(this.#short);
      await this.#serveFrom(this.#long);
    }
    this.#isServing = false;
  }

  /** At least one, so that it goes on. */
  async #serveFrom(line: Line): Promise<void> {
    while (!line.isEmpty) {
      line.next()();
      // Whoever was woken goes on now.
      await null;
      if (performance.now() >= this.#endMs) return;
    }
  }
}
