// The channels with the most subscribers, out of any number of them, without keeping others waiting.

import { nextTurn } from "../core/turn.ts";
import { encodeUtf8 } from "../proto/bytes.ts";
import type { Channel } from "./channel.ts";

/** Channels between two looks at the clock. */
const STRIDE = 500;
/** So long they are looked through before others have their turn, ms. */
const SLICE_MS = 4;

/** A channel as operators see it. */
export interface ChannelView {
  readonly channel: string;
  readonly app: string;
  readonly subscribers: number;
  /** Messages accepted here. */
  readonly published: number;
  /** Timestamp of the newest one, microseconds; 0 before the first. */
  readonly last_ts: number;
}

/**
 * At most `limit` channels whose name begins with `prefix`, those with the most subscribers first, then
 * those with the most messages. `channels` is walked over many turns, and may change meanwhile.
 */
export async function topChannels(
  channels: Iterable<Channel>,
  limit: number,
  prefix: string,
): Promise<ChannelView[]> {
  const top = new Top(limit);
  const wanted = encodeUtf8(prefix);
  let sinceLook = 0;
  let sliceEndMs = performance.now() + SLICE_MS;
  for (const channel of channels) {
    if (wanted.length === 0 || beginsWith(channel, wanted)) top.add(channel);
    if (++sinceLook < STRIDE) continue;
    sinceLook = 0;
    if (performance.now() < sliceEndMs) continue;
    await nextTurn();
    sliceEndMs = performance.now() + SLICE_MS;
  }
  return top.sorted().map(viewOf);
}

function viewOf(channel: Channel): ChannelView {
  return {
    channel: channel.name,
    app: channel.app.id,
    subscribers: subscribersOf(channel),
    published: channel.published,
    last_ts: channel.lastTs,
  };
}

function subscribersOf({ subscribers, catchingUp }: Channel): number {
  return subscribers.length + catchingUp;
}

function beginsWith(channel: Channel, wanted: Uint8Array): boolean {
  const { bytes, start, end } = channel.nameInPrefix();
  if (end - start < wanted.length) return false;
  for (let i = 0; i < wanted.length; i++) if (bytes[start + i] !== wanted[i]) return false;
  return true;
}

/** Whether `a` comes before `b`. */
function isAbove(a: Channel, b: Channel): boolean {
  const difference = subscribersOf(a) - subscribersOf(b);
  return difference !== 0 ? difference > 0 : a.published > b.published;
}

/** Keeps the first of many: a heap with the last of those at its root. */
class Top {
  #heap: Channel[] = [];
  #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(channel: Channel): void {
    const heap = this.#heap;
    if (heap.length < this.#limit) {
      heap.push(channel);
      this.#up(heap.length - 1);
    } else if (isAbove(channel, heap[0])) {
      heap[0] = channel;
      this.#down();
    }
  }

  sorted(): Channel[] {
    // What has changed since it was added has changed its place, too.
    return this.#heap.sort((a, b) => isAbove(a, b) ? -1 : isAbove(b, a) ? 1 : 0);
  }

  #up(from: number): void {
    const heap = this.#heap;
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isAbove(heap[parent], heap[at])) return;
      [heap[parent], heap[at]] = [heap[at], heap[parent]];
      at = parent;
    }
  }

  #down(): void {
    const heap = this.#heap;
    let at = 0;
    while (true) {
      let last = at;
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (child < heap.length && isAbove(heap[last], heap[child])) last = child;
      }
      if (last === at) return;
      [heap[last], heap[at]] = [heap[at], heap[last]];
      at = last;
    }
  }
}
