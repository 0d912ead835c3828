// Where a cluster's node reads a channel's history: its own part and the peers', or the store of all.

import { KeptHistory } from "./kept.ts";
import { Feed, type LimitOf, type LoadPage } from "./merged_history.ts";
import { nextMoment } from "./moment.ts";
import { type HistoryPeer, type KeptPage, PeerError, type Router } from "./ports/router.ts";
import { SharedPages } from "./shared_pages.ts";
import type { StoredHistory } from "./stored_history.ts";
import type { Vector } from "./vector.ts";

/** A page of our own part, or of the store of all. */
const PAGE = { maxMessages: 10_000, maxBytes: 256 * 1024 };
/** A page of a peer: it goes over a link that messages use, too. */
const PEER_PAGE = { maxMessages: 5_000, maxBytes: 128 * 1024 };
/** So long a {@link Snapshot} is given to others, ms. */
const SNAPSHOT_MS = 1000;
/** Bytes of pages that are kept with one. */
const SNAPSHOT_BYTES = 1024 * 1024;

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

/** What is not in the store of all yet, by node, and pages of it that were read after that was asked for. */
interface Snapshot {
  readonly unsettled: readonly { node: string; page: KeptPage }[];
  readonly failed: readonly string[];
  readonly pages: SharedPages;
}

/** Settings of {@link ClusterSources}. */
export interface SourcesOptions {
  /** This node's name. */
  readonly node: string;
  readonly kept: KeptHistory;
  /** The store that all nodes share; null where each keeps its own part. */
  readonly shared: StoredHistory | null;
  readonly router: Pick<Router, "historyPeers">;
}

/** Opens the sources of a merged history; what many ask for is read once. */
export class ClusterSources {
  /** Whether all nodes keep their messages in one store. */
  readonly isShared: boolean;

  #options: SourcesOptions;
  #pages = new SharedPages();
  /** By channel, the oldest first. */
  #snapshots = new Map<string, { moment: number; madeMs: number; made: Promise<Snapshot> }>();

  constructor(options: SourcesOptions) {
    this.#options = options;
    this.isShared = options.shared !== null;
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
    const { app, channel } = request;
    const feeds: Feed[] = [];
    if (request.needs(own)) {
      feeds.push(
        this.#feed(
          request,
          own,
          (afterTs) => kept.read({ app, channel, afterTs, which: "all", ...PAGE }),
        ),
      );
    }
    for (const peer of router.historyPeers) {
      if (!request.needs(peer.node)) continue;
      feeds.push(
        this.#feed(
          request,
          peer.node,
          (afterTs) => ask(peer, { app, channel, afterTs, which: "all", ...PEER_PAGE }),
        ),
      );
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
    load: (afterTs: number) => Promise<KeptPage>,
  ): Feed {
    const key = `${node}\0${app}\0${channel}`;
    const read: LoadPage = (afterTs, throughTs) =>
      this.#pages.read(key, afterTs, { notBefore, throughTs }, load);
    return new Feed(node, prefixLength, vector.get(node), read);
  }

  async #openShared(shared: StoredHistory, request: SourcesRequest): Promise<OpenedSources> {
    const { app, channel, prefixLength, vector, notBefore } = request;
    const isShort = ({ unsettled }: Snapshot) =>
      unsettled.some(({ node, page }) => page.throughTs < request.sureOf(node));
    let snapshot = await this.#snapshot(app, channel, notBefore);
    if (isShort(snapshot)) snapshot = await this.#snapshot(app, channel, nextMoment());
    const { unsettled, failed, pages } = snapshot;
    const feeds: Feed[] = [];
    for (const { node, page } of unsettled) {
      if (!request.needs(node)) continue;
      const feed = new Feed(node, prefixLength, vector.get(node), null);
      feed.turnTo(page);
      feeds.push(feed);
    }
    const firstTs = vector.min;
    const load = (afterTs: number) =>
      readShared(shared, app, channel, afterTs, afterTs === firstTs);
    const read: LoadPage = (afterTs) =>
      pages.read("", afterTs, { notBefore: 0, throughTs: 0 }, load);
    const store = new Feed(null, prefixLength, firstTs, read);
    await store.fill(0);
    feeds.push(store);
    return {
      feeds,
      failed: failed.filter((node) => request.needs(node)),
      isPartial: store.isPartial,
    };
  }

  #snapshot(app: string, channel: string, notBefore: number): Promise<Snapshot> {
    const key = `${app}\0${channel}`;
    const nowMs = performance.now();
    for (const [key, { madeMs }] of this.#snapshots) {
      if (madeMs > nowMs - SNAPSHOT_MS) break;
      this.#snapshots.delete(key);
    }
    const known = this.#snapshots.get(key);
    if (known !== undefined && known.moment >= notBefore) return known.made;
    const moment = nextMoment();
    const made = this.#takeSnapshot(app, channel);
    this.#snapshots.delete(key);
    this.#snapshots.set(key, { moment, madeMs: nowMs, made });
    const isShown = () => this.#snapshots.get(key)?.made === made;
    // One that lacks a peer's part is for nobody else.
    made.then(
      ({ failed }) => failed.length > 0 && isShown() && this.#snapshots.delete(key),
      () => isShown() && this.#snapshots.delete(key),
    );
    return made;
  }

  async #takeSnapshot(app: string, channel: string): Promise<Snapshot> {
    const { node: own, kept, router } = this.#options;
    const request = { app, channel, afterTs: 0, which: "unsettled", ...PEER_PAGE } as const;
    const failed: string[] = [];
    const unsettled: { node: string; page: KeptPage }[] = [];
    await Promise.all(router.historyPeers.map(async (peer) => {
      try {
        unsettled.push({ node: peer.node, page: await ask(peer, request) });
      } catch (error) {
        if (!(error instanceof PeerError)) throw error;
        failed.push(peer.node);
      }
    }));
    unsettled.push({ node: own, page: await kept.read(request) });
    return { unsettled, failed, pages: new SharedPages(SNAPSHOT_BYTES) };
  }
}

async function ask(
  peer: HistoryPeer,
  request: Parameters<HistoryPeer["kept"]>[0],
): Promise<KeptPage> {
  const page = await peer.kept(request);
  if (!page.isEnd && page.blocks.length === 0) {
    throw new PeerError(`${peer.node} has answered with a page of nothing that is not the end`);
  }
  return page;
}

async function readShared(
  shared: StoredHistory,
  app: string,
  channel: string,
  afterTs: number,
  isCounted: boolean,
): Promise<KeptPage> {
  const { blocks, isEnd, prunedTs } = await shared.read({ app, channel, afterTs, ...PAGE });
  const inPage = blocks.reduce((sum, { count }) => sum + count, 0);
  const lastTs = blocks.at(-1)?.lastTs ?? afterTs;
  // What comes next is in the store later than the snapshot.
  const throughTs = isEnd ? Number.MAX_SAFE_INTEGER : lastTs;
  const behind = isEnd || !isCounted
    ? 0
    : await shared.count(app, channel, lastTs, Number.MAX_SAFE_INTEGER);
  return {
    blocks,
    isEnd,
    throughTs,
    isPartial: afterTs > 0 && prunedTs > afterTs,
    count: inPage + behind,
  };
}
