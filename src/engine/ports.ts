// The engine's seams: what it asks of the parts around it.

import type { PooledBuffer } from "../core/buffer_pool.ts";

/** A client's outgoing side, as the engine sees it. Implemented by every door. */
export interface Subscriber {
  /**
   * Queues whole lines behind everything queued before. Takes one ownership of `lines` (the caller
   * retains it first where it keeps its own). Never blocks and never throws: beyond the
   * subscriber's bound the lines are dropped and it is cut off.
   */
  deliver(lines: PooledBuffer): void;
  /** Bytes that may be queued now for a subscriber who is catching up; 0 or less: wait. */
  replayRoom(): number;
  /** Cuts the subscriber off, because it fell behind what is kept for it. */
  cutOff(): void;
}
