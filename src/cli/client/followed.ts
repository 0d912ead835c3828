// A channel that is followed over any number of connections: where to resume, and what has been had.

import type { Message } from "./printer.ts";

/**
 * How far before the newest message another node is asked to begin, microseconds: two nodes can accept
 * messages in the same instant (docs/protocol.md, "What a subscriber can rely on", 5).
 */
const MOVED_BACK_MICROS = 1_000_000;
/** What was had so much before the newest is forgotten, microseconds: no node reaches further back. */
const REMEMBERED_MICROS = 30_000_000;
/** Messages that are remembered at most, in each of two halves. */
const MAX_REMEMBERED = 200_000;

/** One channel. */
export class Followed {
  /** The node that the last message came from. */
  #node = "";
  /** Of the last message that came, as that node gave them. */
  #lastTs = 0;
  #newestTs = 0;
  #hasAny = false;
  /** Keys of messages that came, the older half and the newer. */
  #older = new Set<string>();
  #recent = new Set<string>();
  #recentSince = 0;

  /** `from`: as the caller gave it; undefined for what comes from now on. */
  constructor(readonly channel: string, readonly from: string | undefined) {}

  /** A node is followed for the first time, and its timestamp of now is this. */
  begin(node: string, ts: number | undefined): void {
    if (this.#hasAny || this.from !== undefined || ts === undefined || this.#lastTs > 0) return;
    this.#node = node;
    this.#lastTs = ts;
    this.#newestTs = ts;
  }

  /** The request that goes on where the last connection ended; `resumes` as long as history is kept. */
  request(node: string, resumes: boolean): string {
    const from = resumes ? this.#resumeFrom(node) : undefined;
    return from === undefined ? `sub ${this.channel}` : `sub ${this.channel} ${from}`;
  }

  #resumeFrom(node: string): string | undefined {
    if (!this.#hasAny && this.from !== undefined) return this.from;
    if (this.#lastTs === 0) return undefined;
    if (node === this.#node) return `${this.#lastTs}`;
    return `${Math.max(1, this.#newestTs - MOVED_BACK_MICROS)}`;
  }

  /** Whether it is the first time that this message comes; `node`: where from. */
  isNew({ ts, node: origin = "", msg }: Message, node: string): boolean {
    // Without a node's name the text tells two of one timestamp apart.
    const key = origin === "" ? `${ts} ${msg}` : `${ts} ${origin}`;
    if (this.#recent.has(key) || this.#older.has(key)) return false;
    this.#recent.add(key);
    this.#node = node;
    this.#lastTs = ts;
    this.#hasAny = true;
    if (ts > this.#newestTs) this.#newestTs = ts;
    if (this.#recentSince === 0) this.#recentSince = ts;
    if (
      this.#recent.size >= MAX_REMEMBERED || this.#newestTs - this.#recentSince > REMEMBERED_MICROS
    ) {
      this.#older = this.#recent;
      this.#recent = new Set();
      this.#recentSince = this.#newestTs;
    }
    return true;
  }
}
