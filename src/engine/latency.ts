// How long messages take, measured on a few of them: the clock is not read for each.

import { Histogram } from "../core/histogram.ts";
import type { CommitGroup, CommitWaiter } from "./ports/history_queue.ts";

/** At least so much lies between two messages that are measured, ms. */
const INTERVAL_MS = 5;

/**
 * Which messages are measured, and what came of it. Times are those of the monotonic clock, ms.
 *
 * A publish lasts from the read that brought it to the moment when its `PUBLISHED` is queued, which
 * is after the commit where replies wait for one; it is the first good message of a read. One that is
 * refused, or not stored, is not counted. A delivery lasts from the beginning of the turn in which the
 * message was accepted, or came from another node, until the system has taken the last byte of its
 * batch for one subscriber, another one each time; one whose connection ends before is not counted.
 */
export class Latency {
  readonly publish: Histogram = new Histogram();
  readonly delivery: Histogram = new Histogram();
  /** From when on the next one is measured. */
  publishDueMs = 0;
  deliveryDueMs = 0;

  #deliveries = 0;

  /** A message of a read at `readMs` will be measured: no other one for a while. */
  beginPublish(readMs: number): void {
    this.publishDueMs = readMs + INTERVAL_MS;
  }

  /** There was none in that read. */
  abandonPublish(): void {
    this.publishDueMs = 0;
  }

  /** The message was accepted, and `PUBLISHED` is queued, or will be once `group` is settled. */
  published(readMs: number, group: CommitGroup | null): void {
    if (group !== null) group.waiters.push(new StoredPublish(this.publish, readMs));
    else this.publish.observeMs(performance.now() - readMs);
  }

  /** One of `count` subscribers, whose delivery is measured, at `nowMs`: no other one for a while. */
  beginDelivery(count: number, nowMs: number): number {
    this.deliveryDueMs = nowMs + INTERVAL_MS;
    return this.#deliveries++ % count;
  }
}

/** A message that is published once it is stored; called behind the connection that replies. */
class StoredPublish implements CommitWaiter {
  #histogram: Histogram;
  #readMs: number;

  constructor(histogram: Histogram, readMs: number) {
    this.#histogram = histogram;
    this.#readMs = readMs;
  }

  onSettled({ state }: CommitGroup): void {
    if (state === "stored") this.#histogram.observeMs(performance.now() - this.#readMs);
  }
}
