// How fast clients are read: no faster than others can be written to.

import type { Turn } from "../core/turn.ts";
import type { Channel } from "../engine/channel.ts";
import type { Engine } from "../engine/engine.ts";

/** How fast a publisher is read where every subscriber of its channel is behind, bytes/ms. */
const ALL_BEHIND_BYTES_PER_MS = 4 * 1024;
/** The same where one subscriber is far behind: some 250 ms to catch up, then it is cut off. */
const ONE_BEHIND_BYTES_PER_MS = 16 * 1024;
/** What counts as behind, and as far behind, of `max_pending_bytes`. */
const BEHIND = 1 / 4;
const FAR_BEHIND = 1 / 2;
/** How often it is looked whether somebody has caught up, ms. */
const CATCH_UP_POLL_MS = 4;

/** Up to so many bytes are served in any turn: a request that is no message, mostly. */
const SMALL_READ_BYTES = 64;

/**
 * Bounds the bytes that are served in one turn over all connections: what many publishers send at
 * once is written to its readers between turns, and does not pile up on them within one. Where it takes
 * several turns to write to all of them, it is their bytes together.
 */
export class ReadBudget {
  #turnCount = -1;
  #bytes = 0;

  /** Takes `count` bytes of the turn's `2 * share`; false when they have to wait for the next turn. */
  take(count: number, turn: Pick<Turn, "count" | "isBehind">, share: number): boolean {
    if (turn.count !== this.#turnCount && !turn.isBehind) {
      this.#turnCount = turn.count;
      this.#bytes = 0;
    } else if (this.#bytes + count > 2 * share && count > SMALL_READ_BYTES) {
      // A turn in which nothing is left to do does not end by itself: the waiting counts as one.
      this.#turnCount = -1;
      return false;
    }
    this.#bytes += count;
    return true;
  }
}

/** Whether the channel's readers are so far behind that {@link holdBack} would wait. */
export function mustHoldBack(engine: Pick<Engine, "backlogs">, channel: Channel): boolean {
  const { least, most } = engine.backlogs(channel, performance.now());
  return most > FAR_BEHIND || least > BEHIND;
}

/**
 * A publisher can be read faster than anybody can read what it publishes, which would only have its
 * subscribers cut off. Before `bytes` of a publisher to `channel` are served: where all of the
 * channel's subscribers are behind, waits until one of them has caught up, or as long as
 * {@link ALL_BEHIND_BYTES_PER_MS} says, whichever is shorter; where one is far behind, in the same
 * way by {@link ONE_BEHIND_BYTES_PER_MS}, which is a short grace before the cut. A subscriber that
 * has stopped taking bytes holds nobody back.
 */
export async function holdBack(
  engine: Pick<Engine, "backlogs">,
  channel: Channel,
  bytes: number,
  isOpen: () => boolean,
): Promise<void> {
  const startMs = performance.now();
  let nowMs = startMs;
  while (isOpen()) {
    const { least, most } = engine.backlogs(channel, nowMs);
    if (most <= FAR_BEHIND && least <= BEHIND) return;
    const rate = least > BEHIND ? ALL_BEHIND_BYTES_PER_MS : ONE_BEHIND_BYTES_PER_MS;
    const leftMs = bytes / rate - (nowMs - startMs);
    if (leftMs <= 0) return;
    await new Promise((resolve) => setTimeout(resolve, Math.min(leftMs, CATCH_UP_POLL_MS)));
    nowMs = performance.now();
  }
}
