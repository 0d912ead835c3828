// The seam to what stands before a store: takes messages at once, and says when they are kept.

import type { PooledBuffer } from "../../core/buffer_pool.ts";
import type { Block } from "./history_store.ts";

/** A batch on its way into the store; its lines are shared, and held until they are kept. */
export interface QueuedBlock extends Block {
  readonly app: string;
  readonly channel: string;
  /** Owner of `lines`. */
  readonly buffer: PooledBuffer;
}

/** Somebody who waits for a group's end. */
export interface CommitWaiter {
  /** The group has been kept, or has failed; called once, in the order of groups. */
  onSettled(group: CommitGroup): void;
}

/** The messages that one commit holds. */
export interface CommitGroup {
  /**
   * `failed`: none of its messages is kept, and none will be. A group whose messages were promised
   * (policy 1) does not fail: it is tried again.
   */
  readonly state: "waiting" | "stored" | "failed";
  readonly waiters: CommitWaiter[];
}

/**
 * Whether a message may be accepted now: `open`; `full`, it has to wait for room; `down`, the store
 * is known not to work, and the message is refused.
 */
export type Admission = "open" | "full" | "down";

/**
 * Group commit and write-behind, as the engine and the doors see them. Between a publish and the end
 * of its turn its batch is appended, so that a group holds whole turns: every message of a group is
 * older than any of the next one.
 */
export interface HistoryQueue {
  /** Whether a reply waits for the commit (policy 0), or is sent at once (policy 1). */
  readonly repliesAfterCommit: boolean;
  readonly admission: Admission;
  /** Whether the store works, as far as is known. */
  readonly isUp: boolean;
  /** The group to which a message published now belongs. */
  readonly group: CommitGroup;
  /** Everything accepted here up to this timestamp has been kept, or has failed. */
  readonly settledTs: number;
  /** Counts a message that is accepted now, `bytes` long as a line. */
  accept(bytes: number): void;
  /** Takes a batch of accepted messages, and one ownership of its buffer. */
  append(block: QueuedBlock): void;
  /**
   * Calls `retry` once there may be room, or the store is known to be down: in the order of the calls.
   * `retry` looks at {@link admission} itself, and publishes or asks again.
   */
  whenAdmitted(retry: () => void): void;
  /** Has the store looked at soon, because something other than a commit has failed. */
  suspect(): void;
}
