// The catching-up reader in a cluster: all nodes' messages for one subscription, until it turns live.

import { spawn } from "../core/spawn.ts";
import { nextTurn } from "../core/turn.ts";
import { WireError } from "../proto/errors.ts";
import type { LogReader } from "./arrival_log.ts";
import type { ArrivalLogs } from "./arrival_logs.ts";
import type { ArrivalSegment, LogCursor } from "./arrival_segment.ts";
import type { Channel, Subscription } from "./channel.ts";
import type { ClusterSources } from "./cluster_sources.ts";
import { Gathered } from "./gathered.ts";
import { type LimitOf, Merge } from "./merged_history.ts";
import { PeerError, type Router } from "./ports/router.ts";
import type { CatchUp } from "./replay.ts";
import { Vector } from "./vector.ts";

/** Messages go out in pieces of about this size. */
const PIECE_BYTES = 64 * 1024;
/** A batch of this size is not copied. */
const MIN_SHARED_BYTES = 16 * 1024;
/** Who did not answer is asked again after so long, ms. */
const RETRY_MS = 1000;
/** So long a peer that has answered before may be away, ms. */
const PEER_PATIENCE_MS = 30_000;
/** How often it is looked whether what was read elsewhere has arrived, and how long at most, ms. */
const ARRIVAL_POLL_MS = 50;
const ARRIVAL_PATIENCE_MS = 30_000;

/** What a replay asks of the engine. */
export interface ClusterReplayHost {
  /** This node's name. */
  readonly node: string;
  closeBatch(channel: Channel): void;
  /** Counts deliveries. */
  countDelivered(messages: number): void;
}

/** What all replays of a node work with. */
export interface ReplayParts {
  readonly host: ClusterReplayHost;
  readonly logs: ArrivalLogs;
  readonly sources: ClusterSources;
  readonly router: Pick<Router, "watermarks" | "historyPeers">;
}

/** What was found out for a replay that does not begin in the present segment. */
export interface Opening {
  /** The sources behind what the client has had. */
  readonly merge: Merge;
  /** Their ends are those of this moment, or later. */
  readonly since: number;
  readonly cursor: LogCursor | null;
  /** Peers that did not answer, and those that cannot be asked. */
  readonly silent: readonly string[];
  readonly away: readonly string[];
}

/** A segment, and what lies before it. */
interface Target {
  readonly segment: ArrivalSegment;
  /** By node, the messages up to here are read elsewhere; as it was when that began. */
  readonly limits: ReadonlyMap<string, number>;
  /** See {@link ArrivalSegment.before}; as it was then. */
  readonly before: ReadonlyMap<string, number>;
  readonly isCurrent: boolean;
}

/** What a segment has dropped cannot be had from it: the sources have to know of it. */
function sureOf({ before }: Target): LimitOf {
  return (node) => before.get(node) ?? 0;
}

/**
 * Brings a subscription from a {@link Vector} to the present: what is in a segment of the channel's
 * arrival log is read there, in the order of its arrival, and what lies before a segment from the
 * nodes that keep it, by timestamp. So every subscriber gets the messages of a segment behind
 * everything before it and in the same order, and a message found there says what its reader has had.
 */
export class ClusterReplay implements CatchUp, LogReader {
  /** What the client has had. */
  #vector = new Vector(0);
  /** The place in a segment; null while something before it has to be read. */
  #cursor: LogCursor | null = null;
  /** A segment that began at this moment or before has been read to its end. */
  #passedAt = 0;
  /** Pages that were read for the count, before it was known what they are needed for. */
  #opening: Pick<Opening, "merge" | "since"> | null = null;
  #merge: Merge | null = null;
  #target: Target | null = null;
  /** The nodes that were read to their end while this segment was there. */
  #ended: { segment: ArrivalSegment; nodes: ReadonlySet<string> } | null = null;
  /** By node, the last message that came from elsewhere than the log, until it has arrived, too. */
  #early = new Map<string, number>();
  /** When waiting for those began, monotonic ms; 0 while it has not. */
  #waitingSinceMs = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Peers that did not answer at the begin, and those that could not be asked; nor are they later. */
  #silent: ReadonlySet<string> = new Set();
  #away: ReadonlySet<string> = new Set();
  /** Whether the store of all has still to be asked for what those had accepted that are away. */
  #looksForAway = false;
  /** Peers that have answered, and whose answers must not be missing from then on. */
  #answered = new Set<string>();
  #failingSinceMs = 0;
  #isReading = false;
  /** Whether the client has been told what it will get; before that nothing may reach it. */
  #isStarted = false;

  constructor(
    readonly parts: ReplayParts,
    readonly subscription: Subscription,
    /** The replays of the same connection; this one is among them while it lasts. */
    readonly siblings: Set<CatchUp>,
  ) {
    subscription.channel.catchingUp++;
    siblings.add(this);
  }

  /** Begins at a place in a segment, behind which it has everything; the vector is changed. */
  beginAt(vector: Vector, cursor: LogCursor): void {
    this.#vector = vector;
    this.#cursor = cursor;
    this.#passedAt = cursor.segment.bornAt - 1;
  }

  /**
   * Begins with pages that have been read already, and, where there is one, at a place in a segment
   * that does not have everything.
   */
  beginWith({ merge, since, cursor, silent, away }: Opening): void {
    this.#vector = merge.vector;
    this.#opening = { merge, since };
    if (cursor !== null) this.beginAt(merge.vector, cursor);
    this.#silent = new Set(silent);
    this.#away = new Set(away);
    this.#looksForAway = this.parts.sources.isShared && away.length > 0;
    for (const { node } of merge.feeds) if (node !== null) this.#answered.add(node);
  }

  /** Lets the messages flow; the reply is queued. */
  start(): void {
    this.#isStarted = true;
    this.pump();
  }

  /** Delivers as much as the subscriber has room for. Called when it has drained. */
  pump(): void {
    // The subscriber may drain while the reply still waits for the sources.
    if (!this.#isStarted) return;
    const { channel, follower: { subscriber } } = this.subscription;
    this.#stopWaiting();
    while (this.siblings.has(this) && !this.#isReading) {
      if (this.#cursor === null && this.#merge === null) {
        this.#choose(channel);
        continue;
      }
      const room = subscriber.replayRoom();
      if (room <= 0) return;
      const maxBytes = Math.min(room, PIECE_BYTES);
      if (this.#merge !== null) this.#pumpMerge(this.#merge, maxBytes);
      else if (this.#cursor !== null && !this.#pumpLog(channel, this.#cursor, maxBytes)) return;
    }
  }

  /** Goes to the next segment, or to what has to be read before that. */
  #choose(channel: Channel): void {
    const { log, current } = this.parts.logs.open(channel);
    const { old } = log;
    const segment = old !== null && old.bornAt > this.#passedAt ? old : current;
    if (this.#covers(segment) && !(segment === current && this.#looksForAway)) {
      this.#cursor = segment.start();
      return;
    }
    const target = {
      segment,
      limits: segment.limits(),
      before: segment.before(),
      isCurrent: segment === current,
    };
    this.#target = target;
    const opening = this.#opening;
    this.#opening = null;
    if (opening !== null) opening.merge.sureOf = sureOf(target);
    if (opening !== null && opening.since >= segment.bornAt && !opening.merge.isShort) {
      this.#turnTo(opening.merge, target);
    } else {
      this.#read(async () => this.#turnTo(await this.#open(target), target));
    }
  }

  #turnTo(merge: Merge, target: Target): void {
    // Of nodes that the segment does not know nothing was delivered here, or not yet.
    if (!target.isCurrent) merge.endTs = Math.max(...target.limits.values());
    this.#merge = merge;
  }

  #covers(segment: ArrivalSegment): boolean {
    const ended = this.#ended?.segment === segment ? this.#ended.nodes : null;
    return segment.covers(this.#vector, ended);
  }

  /** Up to where the messages of a node are read before the target's segment. */
  #limitOf(target: Target, node: string): number {
    // What the store of all has of a peer that is away may not come in another way.
    if (target.isCurrent && this.#looksForAway && this.#away.has(node)) return Infinity;
    return target.limits.get(node) ?? (target.isCurrent ? Infinity : 0);
  }

  /** Opens the sources of what lies before the target. */
  async #open(target: Target): Promise<Merge> {
    const { sources, router } = this.parts;
    const { channel } = this.subscription;
    const needs = (node: string) =>
      !this.#silent.has(node) && !this.#away.has(node) &&
      this.#vector.get(node) < this.#limitOf(target, node);
    const here = new Set(router.historyPeers.map(({ node }) => node));
    const away = [...this.#answered].filter((node) =>
      node !== this.parts.host.node && needs(node) && !here.has(node)
    );
    if (away.length > 0) throw new PeerError(`${away.join(", ")} cannot be asked any more`);
    const { feeds, failed } = await sources.open({
      app: channel.app.id,
      channel: channel.name,
      prefixLength: channel.prefix.length,
      vector: this.#vector,
      notBefore: target.segment.bornAt,
      sureOf: sureOf(target),
      needs,
    });
    if (failed.length > 0) throw new PeerError(`${failed.join(", ")} did not answer`);
    for (const { node } of feeds) if (node !== null) this.#answered.add(node);
    return new Merge(feeds, this.#vector, sureOf(target));
  }

  #pumpMerge(merge: Merge, maxBytes: number): void {
    const target = this.#target;
    if (target === null) throw new Error("a replay reads without knowing what for");
    const limitOf = (node: string) => this.#limitOf(target, node);
    const gathered = this.#gather();
    let piece = merge.next(limitOf, maxBytes);
    while (typeof piece !== "string") {
      const { node, froms } = piece.block;
      this.#early.set(node, piece.lastTs);
      gathered.add({ ...piece, node, froms });
      if (gathered.size >= maxBytes) break;
      piece = merge.next(limitOf, maxBytes - gathered.size);
    }
    this.#deliver(gathered);
    if (piece === "end") this.#finish(merge, target);
    else if (piece === "more") {
      this.#read(async () => {
        const failed = await merge.fill(limitOf);
        if (failed.length > 0) throw new PeerError(`${failed.join(", ")} did not answer`);
      });
    }
  }

  /** Everything before the target's segment has been read. */
  #finish(merge: Merge, { segment, limits, isCurrent }: Target): void {
    const asked = new Set(merge.feeds.map(({ node }) => node));
    const limitOf = (node: string) => limits.get(node) ?? (isCurrent ? Infinity : 0);
    const nodes = merge.finish(limitOf);
    // There is nobody who could be asked for the others: their part is missing, as was said.
    for (const [node, limit] of limits) {
      if (!asked.has(node) && node !== this.parts.host.node) this.#vector.raise(node, limit);
    }
    this.#ended = { segment, nodes };
    if (isCurrent) this.#looksForAway = false;
    this.#merge = null;
    this.#target = null;
  }

  /** One step in the log; false when the replay is over, or waits. */
  #pumpLog(channel: Channel, cursor: LogCursor, maxBytes: number): boolean {
    const { segment } = cursor;
    if (this.#looksForAway && this.parts.logs.isCurrent(channel, segment)) {
      this.#cursor = null;
      return true;
    }
    if (segment.isLost(cursor)) {
      // What was dropped may be what this one has had.
      const goesOn = !segment.isDropped && this.#covers(segment);
      this.#cursor = goesOn ? segment.start() : null;
      return true;
    }
    if (this.#deliverFrom(segment, cursor, maxBytes)) return true;
    if (channel.isOpen) {
      this.parts.host.closeBatch(channel);
      return true;
    }
    if (!this.parts.logs.isCurrent(channel, segment)) {
      this.#passedAt = segment.bornAt;
      this.#cursor = null;
      return true;
    }
    if (this.#hasAllArrived()) this.#turnLive();
    else this.#wait(channel);
    return false;
  }

  /** Delivers about `maxBytes` from a segment; false at its end. */
  #deliverFrom(segment: ArrivalSegment, cursor: LogCursor, maxBytes: number): boolean {
    const { follower: { subscriber, form } } = this.subscription;
    const gathered = this.#gather();
    let size = 0;
    while (size < maxBytes) {
      const piece = segment.next(cursor, this.#vector, maxBytes - size);
      if (piece === undefined) break;
      this.#vector.raise(piece.node, piece.lastTs);
      size += piece.lines.length;
      if (form === "text" && piece.whole !== null && piece.lines.length >= MIN_SHARED_BYTES) {
        this.#deliver(gathered);
        this.parts.host.countDelivered(piece.count);
        piece.whole.retain();
        subscriber.deliver(piece.whole);
      } else {
        gathered.add(piece);
        size = Math.max(size, gathered.size);
      }
    }
    this.#deliver(gathered);
    return size > 0;
  }

  #gather(): Gathered {
    const { follower, channel } = this.subscription;
    return new Gathered(follower.form, channel.name, channel.prefix.length);
  }

  #deliver(gathered: Gathered): void {
    if (gathered.count === 0) return;
    this.parts.host.countDelivered(gathered.count);
    this.subscription.follower.subscriber.deliver(gathered.take());
  }

  /**
   * Whether what was read elsewhere has arrived here, too, or cannot: live, it would come a second
   * time.
   */
  #hasAllArrived(): boolean {
    const { router, host } = this.parts;
    for (const [node, ts] of this.#early) {
      const isHere = node === host.node || (router.watermarks.get(node) ?? 0) >= ts ||
        !router.historyPeers.some((peer) => peer.node === node);
      if (isHere) this.#early.delete(node);
    }
    if (this.#early.size === 0) return true;
    const nowMs = performance.now();
    if (this.#waitingSinceMs === 0) this.#waitingSinceMs = nowMs;
    return nowMs - this.#waitingSinceMs > ARRIVAL_PATIENCE_MS;
  }

  /** Goes on in the log with what arrives, which it passes over where it has it. */
  #wait(channel: Channel): void {
    this.parts.logs.wait(channel, this);
    this.#timer = setTimeout(() => this.pump(), ARRIVAL_POLL_MS);
  }

  #stopWaiting(): void {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.parts.logs.stopWaiting(this.subscription.channel, this);
  }

  #turnLive(): void {
    const { channel, follower } = this.subscription;
    this.stop();
    channel.join(this.subscription);
    follower.subscriber.caughtUp();
  }

  /** Does what reads, until it succeeds, and goes on. */
  #read(work: () => Promise<void>): void {
    this.#isReading = true;
    spawn("engine.replay", async () => {
      while (this.siblings.has(this)) {
        try {
          await work();
          this.#failingSinceMs = 0;
          break;
        } catch (error) {
          if (error instanceof PeerError) {
            if (!this.#isPatient()) {
              // Better to say so than to leave a hole. It reads no more, and ends with its connection.
              this.subscription.follower.subscriber.cutOff();
              return;
            }
          } else if (!(error instanceof WireError)) throw error;
          await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        }
      }
      // What is answered from memory would never let the turn end.
      await nextTurn();
      this.#isReading = false;
      this.pump();
    });
  }

  #isPatient(): boolean {
    const nowMs = performance.now();
    if (this.#failingSinceMs === 0) this.#failingSinceMs = nowMs;
    return nowMs - this.#failingSinceMs < PEER_PATIENCE_MS;
  }

  /** Ends the replay without turning live. */
  stop(): void {
    if (!this.siblings.delete(this)) return;
    this.#stopWaiting();
    this.subscription.channel.catchingUp--;
  }
}
