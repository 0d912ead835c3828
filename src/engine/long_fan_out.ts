// A batch for thousands of subscribers, handed out to some of them at a time.

import type { PooledBuffer } from "../core/buffer_pool.ts";
import type { Batch, Channel, FanOutInPieces, Subscription } from "./channel.ts";

/** When a batch is handed out in pieces, and in which. */
export interface Pieces {
  /** Subscribers from which on it is. */
  readonly from: number;
  /** Subscribers that get it in one go. */
  readonly size: number;
}

/** Fewer take a millisecond or two; a piece takes some 0.1 ms, as the turn looks at the clock now and then. */
export const PIECES: Pieces = { from: 2000, size: 64 };

/** One batch on its way to those who were subscribed when it was closed. */
interface OnItsWay {
  readonly batch: Batch;
  readonly node: string;
  /** Those who have had it out of turn are null. */
  readonly subscriptions: (Subscription | null)[];
  /** The first one that it has not been handed to. */
  next: number;
  /** For those who want events, once there is one. */
  events: PooledBuffer | null;
  /** Whose delivery is measured, and since when, ms; -1 when nobody's is. */
  readonly measured: number;
  readonly fromMs: number;
}

/**
 * What one channel hands out in pieces, batch after batch. It is a task of the turn that can wait, added once
 * for each piece: whichever is run, it is the oldest batch's next piece that is handed out, so everybody gets
 * the batches in their order.
 */
export class LongFanOut implements FanOutInPieces {
  readonly canWait = true;
  readonly #channel: Channel;
  readonly #pieceSize: number;
  #batches: OnItsWay[] = [];

  constructor(channel: Channel, pieceSize: number) {
    this.#channel = channel;
    this.#pieceSize = pieceSize;
  }

  get isEmpty(): boolean {
    return this.#batches.length === 0;
  }

  add(batch: Batch, node: string, measured: number, fromMs: number): number {
    batch.lines.retain();
    const subscriptions = this.#channel.subscribers.slice();
    this.#batches.push({ batch, node, subscriptions, next: 0, events: null, measured, fromMs });
    return Math.ceil(subscriptions.length / this.#pieceSize);
  }

  /** Hands out a piece. */
  endTurn(): void {
    const oldest = this.#batches.at(0);
    if (oldest === undefined) return;
    const to = Math.min(oldest.next + this.#pieceSize, oldest.subscriptions.length);
    while (oldest.next < to) this.#handOut(oldest, oldest.next++);
    if (to < oldest.subscriptions.length) return;
    this.#batches.shift();
    oldest.batch.lines.release();
    oldest.events?.release();
  }

  settle(subscription: Subscription): void {
    for (const batch of this.#batches) {
      const index = batch.subscriptions.indexOf(subscription, batch.next);
      if (index < 0) continue;
      this.#handOut(batch, index);
      batch.subscriptions[index] = null;
    }
  }

  #handOut(on: OnItsWay, index: number): void {
    const subscription = on.subscriptions[index];
    // It has had this one, or it has left since.
    if (subscription === null || subscription.index < 0) return;
    const { follower } = subscription;
    const { batch } = on;
    let { lines } = batch;
    if (follower.form !== "text") {
      lines = on.events ??= this.#channel.encodeEvents(lines.view, batch.froms, 0, on.node);
    }
    lines.retain();
    follower.subscriber.deliver(lines);
    if (index === on.measured) follower.subscriber.measureDelivery(on.fromMs);
  }
}
