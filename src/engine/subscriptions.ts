// What one connection follows.

import type { Channel, Subscription } from "./channel.ts";

/**
 * A connection's subscriptions, by channel. Most connections follow one channel: a `Map` for it would
 * take 240 bytes of each.
 */
export class Subscriptions {
  #one: Subscription | null = null;
  #many: Map<Channel, Subscription> | null = null;

  get size(): number {
    if (this.#many !== null) return this.#many.size;
    return this.#one === null ? 0 : 1;
  }

  get(channel: Channel): Subscription | undefined {
    if (this.#many !== null) return this.#many.get(channel);
    return this.#one !== null && this.#one.channel === channel ? this.#one : undefined;
  }

  has(channel: Channel): boolean {
    return this.get(channel) !== undefined;
  }

  /** Adds it; there is none to its channel. */
  add(subscription: Subscription): void {
    if (this.#many === null) {
      if (this.#one === null) {
        this.#one = subscription;
        return;
      }
      this.#many = new Map([[this.#one.channel, this.#one]]);
      this.#one = null;
    }
    this.#many.set(subscription.channel, subscription);
  }

  delete(channel: Channel): void {
    if (this.#many === null) {
      if (this.#one?.channel === channel) this.#one = null;
    } else if (this.#many.delete(channel) && this.#many.size === 0) {
      this.#many = null;
    }
  }

  clear(): void {
    this.#one = null;
    this.#many = null;
  }

  /** All of them, in the order of subscribing. */
  *[Symbol.iterator](): Generator<Subscription> {
    if (this.#many !== null) yield* this.#many.values();
    else if (this.#one !== null) yield this.#one;
  }
}
