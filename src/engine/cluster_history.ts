// The history of a cluster, as one of its nodes sees it: `his`, `sub … <timestamp>`, and its own part for peers.

import type { SmallSet } from "../core/small_set.ts";
import { LogRate } from "../core/log_rate.ts";
import { getLogger } from "../core/logger.ts";
import { nextTurn } from "../core/turn.ts";
import { prefixLengthOf } from "../proto/encoder.ts";
import type { ArrivalLog } from "./arrival_log.ts";
import type { LogHost, LogLimits } from "./arrival_logs.ts";
import { ArrivalLogs } from "./arrival_logs.ts";
import type { LogCursor } from "./arrival_segment.ts";
import type { Subscription } from "./channel.ts";
import { ClusterReplay, type ClusterReplayHost, type ReplayParts } from "./cluster_replay.ts";
import { ClusterSources, type PageLimits } from "./cluster_sources.ts";
import { HistoryJson, type HistoryPage, type HistoryRequest, type ReplayStart } from "./history.ts";
import { KeptHistory, type KeptHost, type KeptParts } from "./kept.ts";
import { type Feed, Merge } from "./merged_history.ts";
import { nextMoment } from "./moment.ts";
import type { KeptPage, KeptRequest, Router } from "./ports/router.ts";
import type { CatchUp } from "./replay.ts";
import { Vector } from "./vector.ts";

/** A peer's part of the history is missed in the log so often at most, ms. */
const LOG_PERIOD_MS = 10_000;
/** Bytes of lines of a merged page that are looked at together. */
const PIECE_BYTES = 64 * 1024;

const log = getLogger("engine");

/** What is asked of the router. */
export type HistoryRouter = Pick<
  Router,
  "watermarks" | "historyPeers" | "missingPeers" | "maxSkewMicros"
>;

/** What the history of a cluster asks of the engine. */
export interface ClusterHost extends LogHost, KeptHost, ClusterReplayHost {}

/** Settings of a {@link ClusterHistory}. */
export interface ClusterHistoryOptions {
  readonly host: ClusterHost;
  readonly router: HistoryRouter;
  /** What this node keeps in memory and in its store. */
  readonly parts: KeptParts;
  /** Bounds of the arrival logs. */
  readonly limits: LogLimits;
  /** Bounds of the pages that are read; see {@link ClusterSources}. */
  readonly pages?: PageLimits;
}

/** Reads what all nodes keep, and remembers in which order messages arrived here. */
export class ClusterHistory {
  /** To be told of whatever the channels' followers are given. */
  readonly logs: ArrivalLogs;

  #router: HistoryRouter;
  #kept: KeptHistory;
  #sources: ClusterSources;
  #replays: ReplayParts;
  #logRate = new LogRate(LOG_PERIOD_MS);

  constructor({ host, router, parts, limits, pages }: ClusterHistoryOptions) {
    this.#router = router;
    this.logs = new ArrivalLogs(limits, host, router);
    this.#kept = new KeptHistory(host, parts);
    this.#sources = new ClusterSources({
      node: host.node,
      kept: this.#kept,
      shared: parts.isShared ? parts.stored : null,
      router,
      pages,
    });
    const isOnlyCopy = parts.stored === null;
    this.#replays = { host, logs: this.logs, sources: this.#sources, isOnlyCopy, router };
  }

  /** Answers a peer: see `RouterHost.kept`. */
  kept(request: KeptRequest): Promise<KeptPage> {
    return this.#kept.read(request);
  }

  /** Messages were deleted, or have failed: pages that were read before are no longer true. */
  forgetRead(): void {
    this.#kept.forget();
    this.#sources.forget();
  }

  /** `his`, from all nodes. Rejects with `storage-unavailable` where this node's store does not answer. */
  async read(request: HistoryRequest): Promise<HistoryPage> {
    const { app, name, bytes, fromTs } = request;
    const prefixLength = prefixLengthOf(bytes);
    const afterTs = Math.max(0, fromTs - 1);
    const vector = new Vector(afterTs);
    // A link that returns before the others have answered was down when it would have been asked.
    const away = this.#missing(afterTs);
    const { feeds, failed, ...opened } = await this.#sources.open({
      app: app.id,
      channel: name,
      prefixLength,
      vector,
      // Whatever was accepted before the request has to be in the answer.
      notBefore: nextMoment(),
      sureOf: () => 0,
      needs: () => true,
    });
    const missing = new Set([...failed, ...away]);
    let { isPartial } = opened;
    const merge = new Merge(feeds, vector);
    const page = new HistoryJson(request);
    const noLimit = () => Infinity;
    while (true) {
      const piece = merge.next(noLimit, PIECE_BYTES);
      if (piece === "end") break;
      if (piece !== "more") {
        const { lines, line, block: { node, froms } } = piece;
        if (!page.add({ lines, line, node, froms })) break;
        continue;
      }
      for (const node of await merge.fill(noLimit)) {
        missing.add(node);
        merge.drop(node);
      }
      isPartial ||= merge.isPartial;
      // A large answer is made of many pages; others have their turn between them.
      await nextTurn();
    }
    this.#logMissing(missing);
    return page.finish(isPartial || missing.size > 0);
  }

  /** Peers whose part cannot be had; with the store of all it can. */
  #missing(afterTs: number): readonly string[] {
    return this.#sources.isShared ? [] : this.#router.missingPeers(afterTs);
  }

  #logMissing(nodes: Iterable<string>): void {
    const peers = [...nodes].join(", ");
    if (peers === "") return;
    const more = this.#logRate.next();
    if (more !== null) {
      log.warn("a history was read without the part of some peers", {
        peers,
        ...more,
      });
    }
  }

  /**
   * Begins to catch up from `afterTs` on, for a subscription whose channel has no open batch and is
   * known to the peers as wanted; at once where the arrival log has all that is missed. Rejects with
   * `storage-unavailable`, and the replay is over.
   */
  begin(
    subscription: Subscription,
    siblings: SmallSet<CatchUp>,
    afterTs: number,
  ): ReplayStart | Promise<ReplayStart> {
    const { channel } = subscription;
    const replay = new ClusterReplay(this.#replays, subscription, siblings);
    const { log: arrivals, current } = this.logs.open(channel);
    const floor = Math.max(0, afterTs - this.#router.maxSkewMicros);
    const found = afterTs === 0 ? null : arrivals.find(afterTs, floor);
    const vector = found?.vector ?? new Vector(floor);
    const missing = this.#router.missingPeers(Math.max(floor, vector.min));
    // What a peer that is away had put into the store of all may not have arrived here.
    const isComplete = !this.#sources.isShared || missing.length === 0;
    const cursor = found?.cursor ?? current.start();
    const isOfAll = this.#router.historyPeers.every(({ node }) => current.takes(node));
    const isThere = isOfAll &&
      (found === null ? current.covers(vector) : found.cursor.segment === current);
    if (isComplete && isThere) {
      this.#kept.countHit();
      replay.beginAt(vector, cursor);
      replay.relyOn(this.#router.historyPeers.map(({ node }) => [node, 0]), [], missing);
      this.#logMissing(missing);
      return {
        count: current.countFrom(cursor, vector.copy()),
        partial: missing.length > 0,
        start: () => replay.start(),
      };
    }
    // Where others have to be asked first, the present segment is not read from that place on.
    const old = found?.cursor.segment === current ? null : found?.cursor ?? null;
    return this.#beginInSources(replay, arrivals, { vector, afterTs, cursor: old }).catch(
      (error) => {
        replay.stop();
        throw error;
      },
    );
  }

  async #beginInSources(
    replay: ClusterReplay,
    arrivals: ArrivalLog,
    { vector, afterTs, cursor }: { vector: Vector; afterTs: number; cursor: LogCursor | null },
  ): Promise<ReplayStart> {
    const { channel } = replay.subscription;
    const asOf = nextMoment();
    const since = arrivals.current?.bornAt ?? asOf;
    const before = arrivals.current?.before() ?? new Map<string, number>();
    const away = this.#router.missingPeers(Math.max(vector.floor, vector.min));
    // Where the client will be when it has read the old segment.
    const passed = vector.copy();
    const inOld = cursor?.segment.countFrom(cursor, passed) ?? 0;
    const { feeds, failed } = await this.#sources.open({
      app: channel.app.id,
      channel: channel.name,
      prefixLength: channel.prefix.length,
      vector: passed,
      notBefore: since,
      sureOf: (node) => before.get(node) ?? 0,
      needs: () => true,
    });
    this.#replays.host.closeBatch(channel);
    const unheard = new Set([...failed, ...(this.#sources.isShared ? [] : away)]);
    this.#logMissing(unheard);
    if (cursor === null) passOwner(feeds, afterTs, passed);
    const merge = new Merge(feeds, passed);
    const look = merge.look();
    const { current } = arrivals;
    const goesOn = look.isWhole && current?.bornAt === since && current.hasAllBehind(look.vector);
    const count = goesOn
      ? look.count + arrivals.countBehind(look.vector)
      : await this.#sources.count(merge, look, asOf);
    if (cursor === null) replay.beginWith(merge, since);
    else replay.beginAt(vector, cursor);
    const asked = new Map<string, number>();
    for (const { node, askedTs } of feeds) if (node !== null) asked.set(node, askedTs);
    replay.relyOn(asked, failed, away);
    return {
      count: inOld + count,
      partial: merge.isPartial || unheard.size > 0,
      start: () => replay.start(),
    };
  }
}

/**
 * Whoever has got the message at `ts` has got what its node had accepted before: where it is known
 * which node that is, nothing of it is given again, however far the vector reaches back.
 */
function passOwner(feeds: readonly Feed[], ts: number, vector: Vector): void {
  const owners = new Set<string>();
  for (const feed of feeds) {
    const nodes = feed.nodesAt(ts);
    if (nodes === null) return;
    for (const node of nodes) owners.add(node);
  }
  if (owners.size !== 1) return;
  const [owner] = owners;
  vector.raise(owner, ts);
  for (const feed of feeds) if (feed.node === owner) feed.passThrough(ts);
}
