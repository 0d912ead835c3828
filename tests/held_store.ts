// A store in memory that commits, answers and fails when the test says so.

import {
  type ChannelBlock,
  type MessageRange,
  type NewestRequest,
  type Page,
  type ReadRequest,
  StoreError,
} from "../src/engine/ports/history_store.ts";
import { MemoryStore } from "../src/storage/memory.ts";

/** How a held append ends: `half`, it is rejected although its first blocks are kept. */
export type Outcome = "kept" | "failed" | "half";

/** A real store whose answers wait for the test where it wants that, and are counted. */
export class HeldStore extends MemoryStore {
  /** Calls so far. */
  readonly calls = { append: 0, read: 0, readNewest: 0, count: 0 };
  readonly forgotten: MessageRange[] = [];
  /** Whether every call is rejected. */
  isDown = false;
  /** Whether answers to reads wait for {@link releaseReads}; they say what was there when they were asked for. */
  holdsReads = false;
  /** Whether appends wait for {@link endAppend}. */
  holdsAppends = false;
  #reads: (() => void)[] = [];
  #endAppend: ((outcome: Outcome) => void) | null = null;

  get isAppending(): boolean {
    return this.#endAppend !== null;
  }

  get heldReads(): number {
    return this.#reads.length;
  }

  /** Ends the append under way. */
  endAppend(outcome: Outcome = "kept"): void {
    const end = this.#endAppend;
    this.#endAppend = null;
    end?.(outcome);
  }

  /** Lets the oldest held answers go. */
  releaseReads(count = Infinity): void {
    for (const release of this.#reads.splice(0, count)) release();
  }

  override async open() {
    this.#throwIfDown();
    return await super.open();
  }

  override async append(blocks: readonly ChannelBlock[]): Promise<void> {
    this.calls.append++;
    const outcome = this.holdsAppends
      ? await new Promise<Outcome>((resolve) => this.#endAppend = resolve)
      : "kept";
    this.#throwIfDown();
    if (outcome === "half") await super.append(blocks.slice(0, Math.ceil(blocks.length / 2)));
    if (outcome !== "kept") throw new StoreError("unavailable", "this append is told to fail");
    await super.append(blocks);
  }

  override async forget(ranges: readonly MessageRange[]): Promise<void> {
    this.#throwIfDown();
    this.forgotten.push(...ranges);
    await super.forget(ranges);
  }

  override read(request: ReadRequest): Promise<Page> {
    this.calls.read++;
    return this.#answer(super.read(request));
  }

  override readNewest(request: NewestRequest): Promise<Page> {
    this.calls.readNewest++;
    return this.#answer(super.readNewest(request));
  }

  override count(...args: Parameters<MemoryStore["count"]>): Promise<number> {
    this.calls.count++;
    return this.#answer(super.count(...args));
  }

  /** The messages outlive the process. */
  override close(): Promise<void> {
    return Promise.resolve();
  }

  async #answer<T>(answer: Promise<T>): Promise<T> {
    this.#throwIfDown();
    if (this.holdsReads) await new Promise<void>((resolve) => this.#reads.push(resolve));
    this.#throwIfDown();
    return await answer;
  }

  #throwIfDown(): void {
    if (this.isDown) throw new StoreError("unavailable", "the store is down for a test");
  }
}
