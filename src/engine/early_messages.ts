// What was read elsewhere than in the arrival log, until it has arrived, too.

import type { Router } from "./ports/router.ts";

/** How soon it is looked whether it has arrived, and for how long at most, ms. */
const POLL_MS = 50;
const PATIENCE_MS = 30_000;
/** A peer may be gone for good: it is looked ever more rarely, after this part of the time waited. */
const POLL_PART = 0.1;

/** The messages of one replay that are ahead of those that arrive: live, they would come a second time. */
export class EarlyMessages {
  /** By node, the last of them. */
  #lastTs = new Map<string, number>();
  /** When waiting for them began, monotonic ms; 0 while it has not. */
  #sinceMs = 0;

  /** A message of the node has been read, the last one so far. */
  add(node: string, ts: number): void {
    this.#lastTs.set(node, ts);
  }

  /**
   * Whether they have all arrived, or have been waited for long enough. Where a link has failed they
   * may still come when that returns.
   */
  haveArrived(own: string, watermarks: Router["watermarks"]): boolean {
    for (const [node, ts] of this.#lastTs) {
      if (node === own || (watermarks.get(node) ?? 0) >= ts) this.#lastTs.delete(node);
    }
    if (this.#lastTs.size === 0) return true;
    if (this.#sinceMs === 0) this.#sinceMs = performance.now();
    return performance.now() - this.#sinceMs > PATIENCE_MS;
  }

  /** After so long it is to be looked again, ms. */
  get pollMs(): number {
    return Math.max(POLL_MS, (performance.now() - this.#sinceMs) * POLL_PART);
  }
}
