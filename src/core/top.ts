// The first few of very many, without sorting all of them.

import type { Slices } from "./slices.ts";

/** Steps between two looks at the clock. */
const STRIDE = 500;

/**
 * Keeps the first of all that are added: a heap with the last of those at its root. `isBefore` compares
 * what does not change meanwhile.
 */
export class Top<T> {
  #heap: T[] = [];
  readonly #limit: number;
  readonly #isBefore: (a: T, b: T) => boolean;

  constructor(limit: number, isBefore: (a: T, b: T) => boolean) {
    this.#limit = limit;
    this.#isBefore = isBefore;
  }

  /** What has to come before this one to be kept; undefined while there is room. */
  get last(): T | undefined {
    return this.#heap.length < this.#limit ? undefined : this.#heap[0];
  }

  add(item: T): void {
    const heap = this.#heap;
    if (heap.length < this.#limit) {
      heap.push(item);
      this.#up(heap.length - 1);
    } else if (this.#isBefore(item, heap[0])) {
      heap[0] = item;
      this.#down();
    }
  }

  /** Takes out what was kept, the first one first. */
  async take(slices: Slices): Promise<T[]> {
    const heap = this.#heap;
    const sorted = new Array<T>(heap.length);
    for (let at = heap.length - 1; at >= 0; at--) {
      sorted[at] = heap[0];
      const end = heap.pop();
      if (end !== undefined && heap.length > 0) {
        heap[0] = end;
        this.#down();
      }
      if (at % STRIDE === 0 && slices.isOver) await slices.turn();
    }
    return sorted;
  }

  #up(from: number): void {
    const heap = this.#heap;
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#isBefore(heap[parent], heap[at])) return;
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
        if (child < heap.length && this.#isBefore(heap[last], heap[child])) last = child;
      }
      if (last === at) return;
      [heap[last], heap[at]] = [heap[at], heap[last]];
      at = last;
    }
  }
}
