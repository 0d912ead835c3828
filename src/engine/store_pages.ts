// Pages from the store, read once for everybody who asks for the same messages at about the same time.

import type { HistoryStore, Page, ReadRequest } from "./ports/history_store.ts";

/** What one read asks of the store: small, so that commits need not wait for it. */
const PAGE_BYTES = 256 * 1024;
const PAGE_MESSAGES = 10_000;
/** Bytes of pages that are kept for those who ask next. */
const MAX_KEPT_BYTES = 16 * 1024 * 1024;

/** A page, and how far it is complete. */
export interface StoredPage extends Page {
  /** No message that was accepted here is missing between the timestamp asked for and this one. */
  readonly throughTs: number;
}

interface KeptPage {
  app: string;
  channel: string;
  /** It holds every message after this timestamp, up to the one of its last. */
  afterTs: number;
  lastTs: number;
  bytes: number;
  page: StoredPage;
}

interface ReadUnderWay {
  app: string;
  channel: string;
  afterTs: number;
  page: Promise<StoredPage>;
}

/**
 * Reads pages of a store. Thousands of clients that come back at once ask for nearly the same
 * messages: a read under way that begins no later is awaited before another one begins, and the last
 * pages are kept.
 */
export class StorePages {
  #store: HistoryStore;
  #settledTs: () => number;
  /** The one used longest ago first. */
  #kept: KeptPage[] = [];
  #bytes = 0;
  #underWay: ReadUnderWay[] = [];
  /** Counts what made kept pages wrong. */
  #epoch = 0;

  /** `settledTs`: what was accepted here up to it is in the store (or will never be). */
  constructor(store: HistoryStore, settledTs: () => number) {
    this.#store = store;
    this.#settledTs = settledTs;
  }

  /**
   * A page with the channel's first messages after `afterTs`; it may begin with earlier ones. Where it
   * holds none after it there are none (`isEnd`). Rejects as the store does.
   */
  async read(app: string, channel: string, afterTs: number): Promise<StoredPage> {
    const settledTs = this.#settledTs();
    while (true) {
      const kept = this.#find(app, channel, afterTs);
      if (kept !== undefined) return kept;
      const under = this.#underWay.find((read) =>
        read.app === app && read.channel === channel && read.afterTs <= afterTs
      );
      if (under === undefined) return await this.#start(app, channel, afterTs);
      const page = await under.page;
      // It may have begun before the last messages came that whoever asks now has to see.
      const isStale = page.isEnd && page.throughTs < settledTs;
      const lastTs = page.blocks.at(-1)?.lastTs ?? 0;
      if (lastTs > afterTs) return isStale ? withoutEnd(page, lastTs) : page;
      if (page.isEnd && !isStale) return page;
    }
  }

  #find(app: string, channel: string, afterTs: number): StoredPage | undefined {
    const index = this.#kept.findIndex((kept) =>
      kept.channel === channel && kept.app === app && kept.afterTs <= afterTs &&
      afterTs < kept.lastTs
    );
    if (index < 0) return undefined;
    const [kept] = this.#kept.splice(index, 1);
    this.#kept.push(kept);
    return kept.page;
  }

  async #start(app: string, channel: string, afterTs: number): Promise<StoredPage> {
    const request = { app, channel, afterTs, maxMessages: PAGE_MESSAGES, maxBytes: PAGE_BYTES };
    const epoch = this.#epoch;
    const read: ReadUnderWay = { app, channel, afterTs, page: this.#read(request) };
    this.#underWay.push(read);
    try {
      const page = await read.page;
      if (epoch === this.#epoch) this.#keep(app, channel, afterTs, page);
      return page;
    } finally {
      this.#underWay = this.#underWay.filter((other) => other !== read);
    }
  }

  async #read(request: ReadRequest): Promise<StoredPage> {
    const settledTs = this.#settledTs();
    const page = await this.#store.read(request);
    const lastTs = page.blocks.at(-1)?.lastTs ?? 0;
    return { ...page, throughTs: page.isEnd ? Math.max(lastTs, settledTs) : lastTs };
  }

  #keep(app: string, channel: string, afterTs: number, page: StoredPage): void {
    const lastTs = page.blocks.at(-1)?.lastTs;
    if (lastTs === undefined) return;
    const bytes = page.blocks.reduce((sum, { lines }) => sum + lines.length, 0);
    // More may have come behind its end since it was read.
    this.#kept.push({
      app,
      channel,
      afterTs,
      lastTs,
      bytes,
      page: withoutEnd(page, lastTs),
    });
    this.#bytes += bytes;
    while (this.#bytes > MAX_KEPT_BYTES) this.#bytes -= this.#kept.shift()?.bytes ?? 0;
  }

  /** Messages have been deleted: what was read before is no longer true. */
  forget(): void {
    this.#epoch++;
    this.#underWay = [];
    this.#kept = [];
    this.#bytes = 0;
  }
}

/** The page for somebody behind whose end more may have come meanwhile. */
function withoutEnd(page: StoredPage, lastTs: number): StoredPage {
  return { ...page, isEnd: false, throughTs: lastTs };
}
