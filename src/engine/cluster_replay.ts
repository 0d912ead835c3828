// The catching-up reader in a cluster: all nodes' messages for one subscription, until it turns live.

import type { SmallSet } from "../core/small_set.ts";
import { spawn } from "../core/spawn.ts";
import { nextTurn } from "../core/turn.ts";
import { WireError } from "../proto/errors.ts";
import type { LogReader } from "./arrival_log.ts";
import type { ArrivalLogs } from "./arrival_logs.ts";
import type { ArrivalSegment, LogCursor } from "./arrival_segment.ts";
import type { Channel, Subscription } from "./channel.ts";
import type { ClusterSources } from "./cluster_sources.ts";
import { EarlyMessages } from "./early_messages.ts";
import { Gathered } from "./gathered.ts";
import { Merge } from "./merged_history.ts";
import { PeerError, type Router } from "./ports/router.ts";
import type { CatchUp } from "./replay.ts";
import { limitOf, sureOf, type Target } from "./replay_target.ts";
import { Vector } from "./vector.ts";

/** Messages go out in pieces of about this size. */
const PIECE_BYTES = 64 * 1024;
/** A batch of this size is not copied. */
const MIN_SHARED_BYTES = 16 * 1024;
/** Who did not answer is asked again after so long, ms. */
const RETRY_MS = 1000;
/** So long a peer that has answered before may be away, ms. */
const PEER_PATIENCE_MS = 30_000;

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
  /** Whether memory is all that there is, so that what is dropped there is gone. */
  readonly isOnlyCopy: boolean;
  readonly router: Pick<Router, "watermarks" | "historyPeers">;
}

/** What a replay had still to read is kept nowhere any more. */
class GoneError extends Error {
  override readonly name = "GoneError";
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
  #opening: { merge: Merge; since: number } | null = null;
  #merge: Merge | null = null;
  #target: Target | null = null;
  /** The nodes that were read to their end while this segment was there. */
  #ended: { segment: ArrivalSegment; nodes: ReadonlySet<string> } | null = null;
  #early = new EarlyMessages();
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Peers that did not answer at the begin, and are not asked again; those that cannot be asked. */
  #silent: ReadonlySet<string> = new Set();
  #away = new Set<string>();
  /** Whether the store of all has still to be asked for what those had accepted that are away. */
  #looksForAway = false;
  /** Those whose parts must not be missing, and behind which timestamp they were asked first. */
  #askedTs = new Map<string, number>();
  #failingSinceMs = 0;
  #endPause: () => void = () => {};
  #isReading = false;
  /** Whether the client has been told what it will get; before that nothing may reach it. */
  #isStarted = false;

  constructor(
    readonly parts: ReplayParts,
    readonly subscription: Subscription,
    /** The replays of the same connection; this one is among them while it lasts. */
    readonly siblings: SmallSet<CatchUp>,
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

  /** Begins with pages that have been read already; their ends are those of `since`, or later. */
  beginWith(merge: Merge, since: number): void {
    this.#vector = merge.vector;
    this.#opening = { merge, since };
  }

  /**
   * The client knows that the parts of `silent` and `away` are missing. Those of the others must not
   * be: by node, the timestamp behind which it was asked, 0 where it was not.
   */
  relyOn(
    asked: Iterable<readonly [string, number]>,
    silent: readonly string[],
    away: readonly string[],
  ): void {
    this.#askedTs = new Map(asked);
    this.#silent = new Set(silent);
    this.#away = new Set(away);
    this.#looksForAway = this.parts.sources.isShared && away.length > 0;
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
      const room = subscriber.replayRoom();
      if (room <= 0) {
        // Who does not read could otherwise have pages held for each of its channels.
        this.#opening = null;
        return;
      }
      if (this.#cursor === null && this.#merge === null) {
        this.#choose(channel);
        continue;
      }
      const maxBytes = Math.min(room, PIECE_BYTES);
      if (this.#merge !== null) this.#pumpMerge(this.#merge, maxBytes);
      else if (this.#cursor !== null && !this.#pumpLog(channel, this.#cursor, maxBytes)) return;
    }
  }

  /** Goes to the next segment, or to what has to be read before that. */
  #choose(channel: Channel): void {
    const { log, current } = this.parts.logs.open(channel);
    const segment = log.firstAfter(this.#passedAt) ?? current;
    const isCurrent = segment === current;
    if (this.#covers(segment, isCurrent) && !(isCurrent && this.#looksForAway)) {
      this.#cursor = segment.start();
      return;
    }
    const target = {
      segment,
      limits: segment.limits(),
      before: segment.before(),
      isCurrent,
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
    const { limits, before, isCurrent } = target;
    if (!isCurrent) merge.endTs = Math.max(...limits.values(), ...before.values());
    this.#merge = merge;
  }

  #covers(segment: ArrivalSegment, isCurrent: boolean): boolean {
    const ended = this.#ended?.segment === segment ? this.#ended.nodes : null;
    if (!segment.covers(this.#vector, ended)) return false;
    // One that has been linked since the segment began is asked for what it did not hand over.
    return !isCurrent ||
      this.parts.router.historyPeers.every(({ node }) =>
        segment.takes(node) || ended?.has(node) || this.#silent.has(node)
      );
  }

  /** Up to where the messages of a node are read before the target's segment. */
  #limitOf(target: Target, node: string): number {
    // What the store of all has of a peer that is away may not come in another way.
    if (target.isCurrent && this.#looksForAway && this.#away.has(node)) return Infinity;
    return limitOf(target)(node);
  }

  /** Opens the sources of what lies before the target. */
  async #open(target: Target): Promise<Merge> {
    const { sources, router } = this.parts;
    const { channel } = this.subscription;
    const here = new Set(router.historyPeers.map(({ node }) => node));
    for (const node of here) this.#away.delete(node);
    const needs = (node: string) =>
      !this.#silent.has(node) && !this.#away.has(node) &&
      this.#vector.get(node) < this.#limitOf(target, node);
    const away = [...this.#askedTs.keys()].filter((node) =>
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
    for (const { node, askedTs } of feeds) {
      if (node !== null && !this.#askedTs.has(node)) this.#askedTs.set(node, askedTs);
    }
    const merge = new Merge(feeds, this.#vector, sureOf(target));
    this.#checkWhole(merge);
    return merge;
  }

  /** What is forgotten while the client takes its time was not among what it knows to be missing. */
  #checkWhole({ feeds }: Merge): void {
    if (!this.parts.isOnlyCopy) return;
    for (const { node, isPartial, askedTs } of feeds) {
      if (node !== null && isPartial && askedTs > (this.#askedTs.get(node) ?? 0)) {
        throw new GoneError(`${node} has forgotten what was still to be read`);
      }
    }
  }

  #pumpMerge(merge: Merge, maxBytes: number): void {
    const target = this.#target;
    if (target === null) throw new Error("a replay reads without knowing what for");
    const limitOf = (node: string) => this.#limitOf(target, node);
    const gathered = this.#gather();
    let piece = merge.next(limitOf, maxBytes);
    while (typeof piece !== "string") {
      const { node, froms } = piece.block;
      this.#early.add(node, piece.lastTs);
      target.segment.noteRead(node, piece.lastTs);
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
        this.#checkWhole(merge);
      });
    }
  }

  /** Everything before the target's segment has been read. */
  #finish(merge: Merge, target: Target): void {
    const { segment, limits, before, isCurrent } = target;
    const asked = new Set(merge.feeds.map(({ node }) => node));
    const nodes = merge.finish(limitOf(target));
    // There is nobody who could be asked for the others: what the segment does not have of theirs is
    // missing, as was said.
    for (const node of [...limits.keys(), ...before.keys()]) {
      if (asked.has(node) || node === this.parts.host.node) continue;
      this.#vector.raise(node, before.get(node) ?? 0);
      nodes.add(node);
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
      const isCurrent = this.parts.logs.isCurrent(channel, segment);
      const goesOn = !segment.isDropped && this.#covers(segment, isCurrent);
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
    const { host, router } = this.parts;
    if (this.#early.haveArrived(host.node, router.watermarks)) this.#turnLive();
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

  /** Goes on in the log with what arrives, which it passes over where it has it. */
  #wait(channel: Channel): void {
    this.parts.logs.wait(channel, this);
    this.#timer = setTimeout(() => this.pump(), this.#early.pollMs);
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
          const isGone = error instanceof GoneError;
          if (isGone || error instanceof PeerError && !this.#isPatient()) {
            // Better to say so than to leave a hole. It reads no more, and ends with its connection.
            this.subscription.follower.subscriber.cutOff();
            return;
          }
          if (!(error instanceof PeerError || error instanceof WireError)) throw error;
          await this.#pause();
        }
      }
      // What is answered from memory would never let the turn end.
      await nextTurn();
      this.#isReading = false;
      this.pump();
    });
  }

  /** Waits before it is tried again, but not longer than the replay lasts. */
  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, RETRY_MS);
      this.#endPause = () => {
        clearTimeout(timer);
        resolve();
      };
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
    this.#endPause();
    this.subscription.channel.catchingUp--;
  }
}
