// Where a cluster's node reads a channel's history: its own part and the peers', or the store of all.

import { KeptHistory } from "./kept.ts";
import { Feed, type LimitOf, type LoadPage, type Look, type Merge } from "./merged_history.ts";
import { nextMoment } from "./moment.ts";
import type { ReadRequest } from "./ports/history_store.ts";
import {
  type HistoryPeer,
  type KeptPage,
  type KeptRequest,
  PeerError,
  type Router,
} from "./ports/router.ts";
import { SharedPages } from "./shared_pages.ts";
import type { StoredHistory } from "./stored_history.ts";
import type { Vector } from "./vector.ts";

/** Bounds of a page. */
interface Limits {
  readonly maxMessages: number;
  readonly maxBytes: number;
}

/** Bounds of the pages that are read. */
export interface PageLimits {
  /** Of our own part, or of the store of all. */
  readonly own: Limits;
  /** Of a peer's part, which goes over a link that messages use, too. */
  readonly peer: Limits;
  /** Of what a store does not have yet: so much is not accepted while a peer answers. */
  readonly unsettled: Limits;
}

const PAGES: PageLimits = {
  own: { maxMessages: 10_000, maxBytes: 256 * 1024 },
  peer: { maxMessages: 5_000, maxBytes: 128 * 1024 },
  unsettled: { maxMessages: 100_000, maxBytes: 4 * 1024 * 1024 },
};
/** So long a {@link Snapshot} is given to others, ms. */
const SNAPSHOT_MS = 1000;
/** So many at most; what is in them waits for the store at its nodes, too, which is bounded. */
const MAX_SNAPSHOTS = 1000;

/** Which history is to be read. */
export interface SourcesRequest {
  readonly app: string;
  readonly channel: string;
  readonly prefixLength: number;
  /** What has been read. */
  readonly vector: Vector;
  /** Ends are to be those of this moment, or later. */
  readonly notBefore: number;
  /** Of each node, everything up to this timestamp has to be known. */
  readonly sureOf: LimitOf;
  /** Whether the node's messages are looked for. */
  needs(node: string): boolean;
}

/** Sources with their first pages. */
export interface OpenedSources {
  readonly feeds: Feed[];
  /** Peers that did not answer. */
  readonly failed: readonly string[];
  /** Whether something that was asked for may have been deleted. */
  readonly isPartial: boolean;
}

/** What is not in the store of all yet, by node. */
interface Snapshot {
  /** When it was asked for. */
  readonly moment: number;
  readonly unsettled: readonly { node: string; page: KeptPage }[];
  readonly failed: readonly string[];
}

/** A snapshot that is given to others, too. */
interface SnapshotEntry {
  readonly moment: number;
  readonly atMs: number;
  /** The peers that it is of. */
  readonly asked: ReadonlySet<string>;
  readonly made: Promise<Snapshot>;
}

/** Settings of {@link ClusterSources}. */
export interface SourcesOptions {
  /** This node's name. */
  readonly node: string;
  readonly kept: KeptHistory;
  /** The store that all nodes share; null where each keeps its own part. */
  readonly shared: StoredHistory | null;
  readonly router: Pick<Router, "historyPeers">;
  /** Default: 256 KiB of our own, 128 KiB of a peer, 4 MiB of what is not stored yet. */
  readonly pages?: PageLimits;
}

type Load = (request: KeptRequest) => Promise<KeptPage>;

/** Opens the sources of a merged history; what many ask for is read once. */
export class ClusterSources {
  /** Whether all nodes keep their messages in one store. */
  readonly isShared: boolean;

  #options: SourcesOptions;
  #limits: PageLimits;
  #pages = new SharedPages();
  #counts = new Rounds<Pick<KeptPage, "count" | "isPartial">>();
  /** By channel, the oldest first. */
  #snapshots = new Map<string, SnapshotEntry>();

  constructor(options: SourcesOptions) {
    this.#options = options;
    this.#limits = options.pages ?? PAGES;
    this.isShared = options.shared !== null;
  }

  /**
   * Messages behind the merge's vector as of the moment `asOf`, or later, where its first pages hold
   * what was seen of them. Rejects as {@link open}.
   */
  async count({ feeds, vector }: Merge, seen: Look, asOf: number): Promise<number> {
    if (this.isShared) {
      const store = feeds.find(({ node }) => node === null);
      const endTs = Math.max(seen.lastTs, vector.max);
      return seen.count + (await store?.countBehind(asOf, endTs) ?? 0);
    }
    const counts = await Promise.all(feeds.map(async (feed) => {
      try {
        return feed.countedAt >= asOf ? feed.count : feed.inPage + await feed.countBehind(asOf);
      } catch (error) {
        if (!(error instanceof PeerError)) throw error;
        return feed.count;
      }
    }));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  /** Rejects with a WireError where this node's store does not answer. */
  open(request: SourcesRequest): Promise<OpenedSources> {
    const { shared } = this.#options;
    return shared === null ? this.#openParts(request) : this.#openShared(shared, request);
  }

  /** What was read before is no longer true. */
  forget(): void {
    this.#pages.forget();
    this.#snapshots.clear();
  }

  async #openParts(request: SourcesRequest): Promise<OpenedSources> {
    const { node: own, kept, router } = this.#options;
    const feeds: Feed[] = [];
    const add = (node: string, limits: Limits, load: Load) => {
      if (request.needs(node)) feeds.push(this.#feed(request, node, limits, load));
    };
    add(own, this.#limits.own, (what) => kept.read(what));
    for (const peer of router.historyPeers) {
      add(peer.node, this.#limits.peer, (what) => ask(peer, what));
    }
    const failed: string[] = [];
    await Promise.all(feeds.map(async (feed) => {
      try {
        if (feed.node !== null) await feed.fill(request.sureOf(feed.node));
      } catch (error) {
        if (!(error instanceof PeerError) || feed.node === null) throw error;
        failed.push(feed.node);
      }
    }));
    const answered = feeds.filter(({ node }) => node === null || !failed.includes(node));
    return { feeds: answered, failed, isPartial: answered.some(({ isPartial }) => isPartial) };
  }

  #feed(
    { app, channel, prefixLength, vector, notBefore }: SourcesRequest,
    node: string,
    limits: Limits,
    load: Load,
  ): Feed {
    const key = `${node}\0${app}\0${channel}`;
    const read: LoadPage = (afterTs, throughTs) =>
      this.#pages.read(
        key,
        afterTs,
        { notBefore, throughTs },
        (afterTs) => load({ app, channel, afterTs, which: "all", ...limits }),
      );
    const count = (afterTs: number, asOf: number) =>
      this.#counts.get(
        `${key}\0${afterTs}`,
        asOf,
        () => load({ app, channel, afterTs, which: "all", maxMessages: 1, maxBytes: 1 }),
      );
    return new Feed(node, prefixLength, vector.get(node), read, count);
  }

  async #openShared(shared: StoredHistory, request: SourcesRequest): Promise<OpenedSources> {
    const { app, channel, prefixLength, vector, notBefore } = request;
    const isShort = ({ unsettled }: Snapshot) =>
      unsettled.some(({ node, page }) => page.throughTs < request.sureOf(node));
    let snapshot = await this.#snapshot(app, channel, notBefore);
    if (isShort(snapshot)) snapshot = await this.#snapshot(app, channel, nextMoment());
    const { moment, unsettled, failed } = snapshot;
    const feeds: Feed[] = [];
    for (const { node, page } of unsettled) {
      if (!request.needs(node)) continue;
      const feed = new Feed(node, prefixLength, vector.get(node), null);
      feed.turnTo(page);
      feeds.push(feed);
    }
    const load = (afterTs: number) =>
      readShared(shared, { app, channel, afterTs, ...this.#limits.own });
    const read: LoadPage = (afterTs) =>
      this.#pages.read(
        `${app}\0${channel}\0${moment}`,
        afterTs,
        { notBefore: 0, throughTs: 0 },
        load,
      );
    const count = (afterTs: number, asOf: number) =>
      this.#counts.get(
        `${app}\0${channel}\0${afterTs}`,
        asOf,
        async () => ({
          count: await this.#countShared(shared, request, afterTs),
          isPartial: false,
        }),
      );
    const store = new Feed(null, prefixLength, vector.min, read, count);
    await store.fill(0);
    feeds.push(store);
    return {
      feeds,
      failed: failed.filter((node) => request.needs(node)),
      isPartial: store.isPartial,
    };
  }

  /**
   * Messages behind `afterTs`, those that are not in the store yet included. There may be more, where
   * several nodes publish at this moment: what is stored meanwhile is not counted twice.
   */
  async #countShared(
    shared: StoredHistory,
    { app, channel, prefixLength }: SourcesRequest,
    afterTs: number,
  ): Promise<number> {
    const { unsettled } = await this.#snapshot(app, channel, nextMoment());
    let count = 0;
    let firstTs = Infinity;
    for (const { node, page } of unsettled) {
      const feed = new Feed(node, prefixLength, afterTs, null);
      feed.turnTo(page);
      count += feed.count;
      if (feed.count > 0) firstTs = Math.min(firstTs, feed.reader.ts);
    }
    if (count === 0) return await shared.count(app, channel, afterTs, Number.MAX_SAFE_INTEGER);
    const before = await shared.count(app, channel, afterTs, firstTs - 1);
    const stored = await shared.count(app, channel, firstTs - 1, Number.MAX_SAFE_INTEGER);
    return before + Math.max(count, stored);
  }

  #snapshot(app: string, channel: string, notBefore: number): Promise<Snapshot> {
    const key = `${app}\0${channel}`;
    const nowMs = performance.now();
    for (const [key, { atMs }] of this.#snapshots) {
      if (atMs > nowMs - SNAPSHOT_MS && this.#snapshots.size < MAX_SNAPSHOTS) break;
      this.#snapshots.delete(key);
    }
    const peers = this.#options.router.historyPeers;
    const known = this.#snapshots.get(key);
    // A peer may have returned since.
    const isOfAll = peers.every(({ node }) => known?.asked.has(node));
    if (known !== undefined && isOfAll && known.moment >= notBefore) return known.made;
    const moment = nextMoment();
    const asked = new Set(peers.map(({ node }) => node));
    const made = this.#takeSnapshot(app, channel, moment);
    this.#snapshots.delete(key);
    this.#snapshots.set(key, { moment, atMs: nowMs, asked, made });
    const isShown = () => this.#snapshots.get(key)?.made === made;
    // One that lacks a peer's part is for nobody else.
    made.then(
      ({ failed }) => failed.length > 0 && isShown() && this.#snapshots.delete(key),
      () => isShown() && this.#snapshots.delete(key),
    );
    return made;
  }

  async #takeSnapshot(app: string, channel: string, moment: number): Promise<Snapshot> {
    const { node: own, kept, router } = this.#options;
    const { unsettled: limits } = this.#limits;
    const request = { app, channel, afterTs: 0, which: "unsettled", ...limits } as const;
    const failed: string[] = [];
    const unsettled: { node: string; page: KeptPage }[] = [];
    await Promise.all(router.historyPeers.map(async (peer) => {
      try {
        const page = await readAll((what) => ask(peer, what), request);
        unsettled.push({ node: peer.node, page });
      } catch (error) {
        if (!(error instanceof PeerError)) throw error;
        failed.push(peer.node);
      }
    }));
    const page = await readAll((what) => kept.read(what), request);
    unsettled.push({ node: own, page });
    return { moment, unsettled, failed };
  }
}

/** All pages as one. What is settled between two of them is in the store by then. */
async function readAll(load: Load, request: KeptRequest): Promise<KeptPage> {
  let page = await load(request);
  const blocks = [...page.blocks];
  while (!page.isEnd) {
    page = await load({ ...request, afterTs: page.throughTs });
    blocks.push(...page.blocks);
  }
  return { ...page, blocks, count: blocks.reduce((sum, { count }) => sum + count, 0) };
}

async function ask(peer: HistoryPeer, request: KeptRequest): Promise<KeptPage> {
  const page = await peer.kept(request);
  if (!page.isEnd && page.blocks.length === 0) {
    throw new PeerError(`${peer.node} has answered with a page of nothing that is not the end`);
  }
  return page;
}

async function readShared(shared: StoredHistory, request: ReadRequest): Promise<KeptPage> {
  const { afterTs } = request;
  const { blocks, isEnd, prunedTs } = await shared.read(request);
  const lastTs = blocks.at(-1)?.lastTs ?? afterTs;
  return {
    blocks,
    isEnd,
    // What comes next is in the store later than the snapshot.
    throughTs: isEnd ? Number.MAX_SAFE_INTEGER : lastTs,
    isPartial: afterTs > 0 && prunedTs > afterTs,
    count: blocks.reduce((sum, { count }) => sum + count, 0),
  };
}

/** Asks for everybody who has come since it began to ask last: one at a time, by key. */
class Rounds<T> {
  #underWay = new Map<string, { moment: number; made: Promise<T> }>();

  /** What `ask` says at the moment `asOf`, or later. */
  async get(key: string, asOf: number, ask: () => Promise<T>): Promise<T> {
    while (true) {
      const under = this.#underWay.get(key);
      if (under === undefined) break;
      if (under.moment >= asOf) return await under.made;
      await under.made.catch(() => {});
    }
    const moment = nextMoment();
    const made = ask();
    this.#underWay.set(key, { moment, made });
    try {
      return await made;
    } finally {
      this.#underWay.delete(key);
    }
  }
}
