// Accepts from listeners, and neither gives up nor spins when there are no files left.

import { closeQuietly } from "./close_quietly.ts";
import { LogRate } from "./log_rate.ts";
import type { Logger } from "./logger.ts";
import { nextTurn } from "./turn.ts";

const MIN_DELAY_MS = 10;
const MAX_DELAY_MS = 1000;
/** How often the log says that nothing can be accepted, ms. */
const TELL_MS = 10_000;

/** A crowd that waits is accepted so many at a time, in some 2 ms: others have their turn between. */
const AT_ONCE = 100;

/** What accepts: a listener of Deno. */
export interface Listener<C> {
  accept(): Promise<C>;
  close(): void;
}

/** Hands the connections of one listener on until it is closed. */
export class Acceptor<C> {
  readonly #listener: Listener<C>;
  readonly #logger: Logger;
  #isClosed = false;
  #failures = new LogRate(TELL_MS);
  #tryNow: (() => void) | null = null;

  constructor(listener: Listener<C>, logger: Logger) {
    this.#listener = listener;
    this.#logger = logger;
  }

  /** Resolves when the listener is closed. `onAccepted` must not throw. */
  async run(onAccepted: (conn: C) => void): Promise<void> {
    let delayMs = 0;
    for (let count = 1; !this.#isClosed; count++) {
      try {
        onAccepted(await this.#listener.accept());
        delayMs = 0;
        if (count % AT_ONCE === 0) await nextTurn();
      } catch (error) {
        if (this.#isClosed || error instanceof Deno.errors.BadResource) return;
        // Mostly "too many open files": the connection stays in the backlog, and trying again at
        // once would spin. ECONNABORTED and its kind pass by themselves.
        const further = this.#failures.next();
        if (further !== null) {
          this.#logger.warn("cannot accept a connection; trying again", { error, ...further });
        }
        delayMs = Math.min(Math.max(delayMs * 2, MIN_DELAY_MS), MAX_DELAY_MS);
        await this.#pause(delayMs);
      }
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#tryNow = () => {
        clearTimeout(timer);
        resolve();
      };
    }).then(() => {
      this.#tryNow = null;
    });
  }

  /** A connection has ended, so that a file is free again. */
  roomAgain(): void {
    this.#tryNow?.();
  }

  close(): void {
    this.#isClosed = true;
    closeQuietly(this.#listener);
    this.#tryNow?.();
  }
}
