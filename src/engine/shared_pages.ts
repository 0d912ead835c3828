// Pages of kept messages, read once for everybody who asks for nearly the same at about the same time.

import type { ReadPage } from "./merged_history.ts";
import { nextMoment } from "./moment.ts";
import type { KeptPage } from "./ports/router.ts";

/** So long a page is kept for those who ask next, ms. */
const KEEP_MS = 1000;
/** Bytes of pages that are kept. */
const MAX_KEPT_BYTES = 16 * 1024 * 1024;
/** What a page takes beside its lines, an estimate. */
const PAGE_OVERHEAD_BYTES = 500;

/** A page, and what it was asked for. */
export interface SharedPage extends ReadPage {
  /** Messages behind this timestamp. */
  readonly askedTs: number;
}

/** Which end of a source will do. */
export interface WantedEnd {
  /** One that was asked for at this moment, or later. */
  readonly notBefore: number;
  /** One behind which there is nothing up to this timestamp. */
  readonly throughTs: number;
}

interface Kept {
  readonly key: string;
  readonly page: SharedPage;
  readonly lastTs: number;
  readonly bytes: number;
  readonly keptMs: number;
}

interface UnderWay {
  readonly askedTs: number;
  readonly moment: number;
  readonly page: Promise<SharedPage>;
}

/**
 * Thousands of clients that come back at once ask a source for nearly the same messages. What it has
 * said about a stretch of its messages stays true (but see {@link forget}); where it ended is true
 * for who can get by another way what came since.
 */
export class SharedPages {
  #maxBytes: number;
  #now: () => number;
  /** By source; in each, and of all, the oldest first. */
  #kept = new Map<string, Set<Kept>>();
  #oldest = new Set<Kept>();
  #bytes = 0;
  #underWay = new Map<string, UnderWay[]>();
  /** Counts what made kept pages wrong. */
  #epoch = 0;

  /** `now`: the monotonic clock, ms. */
  constructor(maxBytes: number = MAX_KEPT_BYTES, now: () => number = () => performance.now()) {
    this.#maxBytes = maxBytes;
    this.#now = now;
  }

  /**
   * A page of the source `key` with its first messages behind `afterTs`; it may begin with earlier
   * ones. Rejects as `load` does.
   */
  async read(
    key: string,
    afterTs: number,
    end: WantedEnd,
    load: (afterTs: number) => Promise<KeptPage>,
  ): Promise<SharedPage> {
    for (let nearestTs = -1;;) {
      const kept = this.#find(key, afterTs, end);
      if (kept !== undefined) return kept;
      const under = this.#underWay.get(key)?.find(({ moment, askedTs }) =>
        moment >= end.notBefore && askedTs <= afterTs && askedTs > nearestTs
      );
      if (under === undefined) return await this.#start(key, afterTs, load);
      const page = await under.page;
      const fitting = fit(page, lastTsOf(page), afterTs, end);
      if (fitting !== undefined) return fitting;
      // Where others read further back, their pages do not reach here, one after the other.
      nearestTs = under.askedTs;
    }
  }

  #find(key: string, afterTs: number, end: WantedEnd): SharedPage | undefined {
    const kept = this.#kept.get(key);
    if (kept === undefined) return undefined;
    const oldestMs = this.#now() - KEEP_MS;
    for (const { page, lastTs, keptMs } of kept) {
      if (keptMs < oldestMs) continue;
      const fitting = fit(page, lastTs, afterTs, end);
      if (fitting !== undefined) return fitting;
    }
    return undefined;
  }

  async #start(
    key: string,
    askedTs: number,
    load: (afterTs: number) => Promise<KeptPage>,
  ): Promise<SharedPage> {
    const moment = nextMoment();
    const epoch = this.#epoch;
    const page = load(askedTs).then((page): SharedPage => ({ ...page, askedTs, moment }));
    const read: UnderWay = { askedTs, moment, page };
    const reads = this.#underWay.get(key);
    if (reads === undefined) this.#underWay.set(key, [read]);
    else reads.push(read);
    try {
      const loaded = await page;
      if (epoch === this.#epoch) this.#keep(key, loaded);
      return loaded;
    } finally {
      const left = this.#underWay.get(key)?.filter((other) => other !== read) ?? [];
      if (left.length > 0) this.#underWay.set(key, left);
      else this.#underWay.delete(key);
    }
  }

  #keep(key: string, page: SharedPage): void {
    const nowMs = this.#now();
    const lines = page.blocks.reduce((sum, { lines }) => sum + lines.length, 0);
    const bytes = lines + PAGE_OVERHEAD_BYTES;
    const kept: Kept = { key, page, lastTs: lastTsOf(page), bytes, keptMs: nowMs };
    let sameKey = this.#kept.get(key);
    if (sameKey === undefined) this.#kept.set(key, sameKey = new Set());
    sameKey.add(kept);
    this.#oldest.add(kept);
    this.#bytes += bytes;
    for (const one of this.#oldest) {
      if (one.keptMs >= nowMs - KEEP_MS && this.#bytes <= this.#maxBytes) break;
      this.#drop(one);
    }
  }

  #drop(kept: Kept): void {
    this.#oldest.delete(kept);
    this.#bytes -= kept.bytes;
    const sameKey = this.#kept.get(kept.key);
    sameKey?.delete(kept);
    if (sameKey?.size === 0) this.#kept.delete(kept.key);
  }

  /** Messages have been deleted: what was read before is no longer true. */
  forget(): void {
    this.#epoch++;
    this.#kept.clear();
    this.#oldest.clear();
    this.#underWay.clear();
    this.#bytes = 0;
  }
}

function lastTsOf({ blocks }: KeptPage): number {
  return blocks.at(-1)?.lastTs ?? 0;
}

/** The page for somebody who asks for what lies behind `afterTs`; undefined where it does not say. */
function fit(
  page: SharedPage,
  lastTs: number,
  afterTs: number,
  end: WantedEnd,
): SharedPage | undefined {
  if (page.askedTs > afterTs) return undefined;
  // Of somebody who asked for everything it is never said that something was deleted.
  if (page.askedTs === 0 && afterTs > 0) return undefined;
  const isEnd = page.isEnd && page.moment >= end.notBefore &&
    page.throughTs >= end.throughTs;
  if (!(isEnd && afterTs <= page.throughTs) && afterTs >= lastTs) return undefined;
  // The oldest is deleted first: behind a message that is kept nothing is missing.
  const isPartial = page.isPartial &&
    (afterTs === page.askedTs || afterTs < (page.blocks[0]?.firstTs ?? Infinity));
  if (isPartial === page.isPartial && isEnd === page.isEnd) return page;
  return { ...page, isPartial, isEnd, throughTs: isEnd || !page.isEnd ? page.throughTs : lastTs };
}
