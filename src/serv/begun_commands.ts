// Commands of one connection that have begun and wait to be replied to, in order.

import type { Begun } from "./commands/command.ts";

/** So many wait at most; what follows waits until all of them are done. */
const MAX_WAITING = 10_000;

interface Waiting {
  readonly begun: Begun;
  isReady: boolean;
}

/** What {@link BegunCommands} tells its owner. */
export interface BegunOwner {
  /** `finish` has thrown this. */
  onRefused(error: unknown): void;
  /** None waits any more. */
  onAllFinished(): void;
}

/** Finishes each command once it is ready and those before it are finished. */
export class BegunCommands {
  #owner: BegunOwner;
  #waiting: Waiting[] = [];
  /** Number of those in front that are finished and not taken out yet. */
  #finished = 0;

  constructor(owner: BegunOwner) {
    this.#owner = owner;
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  get isFull(): boolean {
    return this.#waiting.length >= MAX_WAITING;
  }

  /** Finishes it at once where it is ready, and none waits. */
  add(begun: Begun): void {
    const { ready } = begun;
    if (ready === null && this.isEmpty) return this.#finish(begun);
    const waiting = { begun, isReady: ready === null };
    this.#waiting.push(waiting);
    ready?.then(() => {
      waiting.isReady = true;
      this.#finishReady();
    });
  }

  #finishReady(): void {
    const waiting = this.#waiting;
    while (this.#finished < waiting.length && waiting[this.#finished].isReady) {
      this.#finish(waiting[this.#finished++].begun);
    }
    if (waiting.length === 0 || this.#finished < waiting.length) return;
    this.clear();
    this.#owner.onAllFinished();
  }

  #finish(begun: Begun): void {
    try {
      begun.finish();
    } catch (error) {
      this.#owner.onRefused(error);
    }
  }

  /** Drops everything; the connection has ended. */
  clear(): void {
    this.#waiting = [];
    this.#finished = 0;
  }
}
