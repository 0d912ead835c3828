// Watches, during a fault run, which nodes say that they are linked to which.

import { pause } from "../src/core/pause.ts";
import type { ClusterNode } from "./cluster_nodes.ts";
import { within } from "./harness_within.ts";

/** Between two looks at a node, ms. */
const LOOK_MS = 50;

/** From when on a node said so. */
interface Change {
  readonly atMs: number;
  readonly isUp: boolean;
}

/** What every node says of every other one, over the time of a run. */
export class LinkWatch implements AsyncDisposable {
  readonly #nodes: readonly ClusterNode[];
  readonly #now: () => number;
  /** By the node that says it, and the one it speaks of. */
  readonly #changes: Change[][][];
  readonly #looking: Promise<unknown>;
  readonly #over = new AbortController();
  #wakes = new Set<() => void>();

  /** `now` is the clock of the run, ms. */
  constructor(nodes: readonly ClusterNode[], now: () => number) {
    this.#nodes = nodes;
    this.#now = now;
    this.#changes = nodes.map(() => nodes.map(() => [{ atMs: -Infinity, isUp: false }]));
    this.#looking = Promise.all(nodes.map((_, at) => this.#look(at)));
  }

  async #look(at: number): Promise<void> {
    do {
      const askedMs = this.#now();
      const peers = await this.#nodes[at].peers();
      const answeredMs = this.#now();
      this.#nodes.forEach(({ id }, of) => {
        const isUp = peers?.find((peer) => peer.id === id)?.state === "up";
        const changes = this.#changes[at][of];
        if (changes[changes.length - 1].isUp === isUp) return;
        // It may be so for a while already: down since it was asked, and up not before it said so.
        changes.push({ atMs: isUp ? answeredMs : askedMs, isUp });
      });
      for (const wake of this.#wakes) wake();
    } while (await pause(LOOK_MS, this.#over.signal));
  }

  /** Since when both have said without a break that they are linked; Infinity where they do not. */
  upSince(a: number, b: number): number {
    return Math.max(...[this.#changes[a][b], this.#changes[b][a]].map((changes) => {
      const { atMs, isUp } = changes[changes.length - 1];
      return isUp ? atMs : Infinity;
    }));
  }

  /**
   * From when on, at `ms` or later, the two were linked and stayed so for `stableMs`; Infinity where they
   * never were. A link that has just been cut may be called up until its silence is noticed.
   */
  linkedFrom(a: number, b: number, ms: number, stableMs: number): number {
    const both = [...this.#changes[a][b], ...this.#changes[b][a]].map(({ atMs }) => atMs)
      .filter((atMs) => atMs > ms).sort((x, y) => x - y);
    const isUp = (changes: readonly Change[], atMs: number) =>
      changes.findLast((change) => change.atMs <= atMs)?.isUp ?? false;
    const times = [ms, ...both];
    for (const [i, fromMs] of times.entries()) {
      const areUp = isUp(this.#changes[a][b], fromMs) && isUp(this.#changes[b][a], fromMs);
      const untilMs = times.slice(i + 1).find((atMs) =>
        !isUp(this.#changes[a][b], atMs) || !isUp(this.#changes[b][a], atMs)
      ) ?? this.#now();
      if (areUp && untilMs - fromMs >= stableMs) {
        return fromMs;
      }
    }
    return Infinity;
  }

  /** Waits until all are linked, and have been for `stableMs`. */
  async untilAllLinked(stableMs: number, ms: number): Promise<void> {
    let wake = () => {};
    let isLate = false;
    const areLinked = () =>
      this.#pairs().every(([a, b]) => this.#now() - this.upSince(a, b) >= stableMs);
    const waiting = (async () => {
      while (!isLate && !areLinked()) {
        await new Promise<void>((resolve) => this.#wakes.add(wake = resolve));
        this.#wakes.delete(wake);
      }
    })();
    await within(() => `all nodes to be linked; ${this.#missing()}`, waiting, {
      ms,
      onLate: () => {
        isLate = true;
        wake();
      },
    });
  }

  #pairs(): [number, number][] {
    return this.#nodes.flatMap((_, a) =>
      this.#nodes.slice(a + 1).map((_, i): [number, number] => [a, a + 1 + i])
    );
  }

  #missing(): string {
    const missing: string[] = [];
    for (const [at, { id }] of this.#nodes.entries()) {
      for (const [of, other] of this.#nodes.entries()) {
        const [last] = this.#changes[at][of].slice(-1);
        if (at !== of && !last.isUp) missing.push(`${id} does not say that ${other.id} is up`);
      }
    }
    return missing.join(", ");
  }

  /** How often a link was seen to go down. */
  get breaks(): number {
    return this.#changes.flat(2).filter(({ atMs, isUp }) => !isUp && atMs > 0).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort();
    await this.#looking;
  }
}
