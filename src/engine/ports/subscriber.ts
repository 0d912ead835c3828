// A client as the engine sees it: the seam between the engine and every door.

import type { PooledBuffer } from "../../core/buffer_pool.ts";
import type { Form } from "../../proto/encoder.ts";

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
  /**
   * How much of its bound waits for it, from 0 to 1; -1 when it has stopped taking bytes. `nowMs` is
   * the monotonic clock.
   */
  backlog(nowMs: number): number;
  /**
   * Measures a delivery that began at `fromMs` (monotonic clock): it ends when the client's socket has
   * taken everything delivered so far. Where another one is being measured this does nothing.
   */
  measureDelivery(fromMs: number): void;
  /** One of its replays has come to its end. */
  caughtUp(): void;
  /** Cuts the subscriber off, because it fell behind what is kept for it. */
  cutOff(): void;
}

/** Who follows a channel: where its messages go, and in which form. */
export interface Follower {
  readonly subscriber: Subscriber;
  readonly form: Form;
}
