// The event loop's rounds, for tests.

import { setImmediate } from "node:timers";

/** Lets everything run that is ready. */
export function goRound(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Lets the timer that waiting for a turn may have set fire: it is set for 1 ms, and before this one. */
export function pastTurnTimer(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 2));
}
