// The arrival logs of all channels, within their bounds, in the order of their last use.

import type { PooledBuffer } from "../core/buffer_pool.ts";
import { nextTurn } from "../core/turn.ts";
import { ArrivalLog, type LogReader } from "./arrival_log.ts";
import type { ArrivalSegment, Known } from "./arrival_segment.ts";
import type { Channel } from "./channel.ts";
import { nextMoment } from "./moment.ts";
import type { Router } from "./ports/router.ts";

/** Bounds of the arrival logs. */
export interface LogLimits {
  /** Newest messages kept per channel; 0 keeps none. */
  maxMessagesPerChannel: number;
  /** Bytes over all channels, an estimate of their bookkeeping included. */
  maxBytes: number;
}

/** What the logs ask of the engine. */
export interface LogHost {
  /** This node's name. */
  readonly node: string;
  /** The last timestamp given here, or told by a peer, microseconds. */
  readonly lastTs: number;
  /** Closes the channel's open batch, which appends it here. */
  closeBatch(channel: Channel): void;
  /** See `Router.unaware`. */
  unaware(channel: Channel): readonly string[];
  /** An idle channel's log is kept no more: the channel itself may be forgotten. Not to be called back. */
  onLogDropped(channel: Channel): void;
}

/** What is handed to a channel's subscribers at once; the owner of its lines is sealed. */
export interface ArrivedBatch {
  readonly lines: PooledBuffer;
  readonly count: number;
  readonly firstTs: number;
  readonly lastTs: number;
  readonly froms: readonly (string | undefined)[] | null;
}

/** A moment at which messages of a node may have been missed. */
interface Interruption {
  readonly at: number;
  /** Null for any. */
  readonly node: string | null;
  /** Channels whose `interestVersion` is no larger have missed nothing. */
  readonly knownVersion: number;
}

/** Logs that are looked at before others have their turn. */
const LOGS_PER_TURN = 1000;
/** So many are told apart. */
const MAX_INTERRUPTIONS = 32;
/** What a log takes beside its segments, an estimate. */
const LOG_OVERHEAD_BYTES = 500;

/**
 * Over the bound in bytes the log that was used longest ago pays: those of channels without followers
 * are dropped, then the others lose their oldest arrivals, and go with the last.
 */
export class ArrivalLogs {
  /** Bytes in use, bookkeeping included. */
  bytes = 0;

  #limits: LogLimits;
  #host: LogHost;
  #router: Pick<Router, "watermarks" | "historyPeers">;
  // Maps and sets keep the order of insertion: taken out and put in again is "last used".
  #logs = new Map<Channel, ArrivalLog>();
  /** Those of them without followers. */
  #idle = new Set<Channel>();
  /** What has ended segments. */
  #interruptions: Interruption[] = [];
  /** Our clock when a peer has acknowledged something last; -1 where that is not known. */
  #acknowledgedTs = -1;
  /** Up to here followers may have been given what no log has, or have missed something. */
  #missedTs = 0;

  constructor(
    limits: LogLimits,
    host: LogHost,
    router: Pick<Router, "watermarks" | "historyPeers">,
  ) {
    this.#limits = limits;
    this.#host = host;
    this.#router = router;
  }

  /** Whether the channel has one. */
  has(channel: Channel): boolean {
    return this.#logs.has(channel);
  }

  /** Adds what the channel's followers are given at this moment. Keeps an ownership of its own. */
  append(channel: Channel, batch: ArrivedBatch, node: string): void {
    if (channel.isIdle) return;
    let log = this.#logs.get(channel);
    this.#endInterrupted(channel, log, node);
    if (log === undefined || log.current === null || !log.current.takes(node)) {
      // Before the peers know that it is wanted something would be missing.
      if (this.#host.unaware(channel).length > 0) {
        this.#missedTs = Math.max(this.#missedTs, batch.lastTs);
        return this.#lapse(log);
      }
      log ??= this.#make(channel);
      this.#begin(channel, log, node, batch.firstTs - 1);
    }
    const before = log.bytes;
    const { lines: buffer, count, firstTs, lastTs, froms } = batch;
    const marks = this.#router.watermarks;
    log.append(
      { buffer, node, count, firstTs, lastTs, froms, marks },
      this.#limits.maxMessagesPerChannel,
    );
    this.bytes += log.bytes - before;
    if (log.waiting.size > 0) { for (const reader of [...log.waiting]) reader.pump(); }
    if (this.bytes > this.#limits.maxBytes) this.#evict();
  }

  /**
   * The channel's log, with a present segment: whatever arrives from now on is in it. The channel has
   * followers, and the peers know that it is wanted.
   */
  open(channel: Channel): { log: ArrivalLog; current: ArrivalSegment } {
    this.#host.closeBatch(channel);
    let log = this.#logs.get(channel);
    this.#endInterrupted(channel, log);
    log ??= this.#make(channel);
    this.#touch(channel, log);
    const current = log.current ?? this.#begin(channel, log, this.#host.node, this.#host.lastTs);
    return { log, current };
  }

  /** Whether what arrives for the channel now goes into this segment. */
  isCurrent(channel: Channel, segment: ArrivalSegment): boolean {
    const log = this.#logs.get(channel);
    this.#endInterrupted(channel, log);
    return log !== undefined && log.current === segment;
  }

  /** `reader` is pumped when something arrives for the channel, until it waits no more. */
  wait(channel: Channel, reader: LogReader): void {
    this.#logs.get(channel)?.waiting.add(reader);
  }

  stopWaiting(channel: Channel, reader: LogReader): void {
    this.#logs.get(channel)?.waiting.delete(reader);
  }

  #make(channel: Channel): ArrivalLog {
    const log = new ArrivalLog(channel.prefix.length);
    this.#logs.set(channel, log);
    this.bytes += LOG_OVERHEAD_BYTES;
    return log;
  }

  #touch(channel: Channel, log: ArrivalLog): void {
    this.#logs.delete(channel);
    this.#logs.set(channel, log);
    this.#idle.delete(channel);
    if (channel.isIdle) this.#idle.add(channel);
  }

  /** `node` is about to append something, all of which is later than `ts`. */
  #begin(channel: Channel, log: ArrivalLog, node: string, ts: number): ArrivalSegment {
    const before = log.bytes;
    log.end();
    const { node: own, lastTs } = this.#host;
    const { watermarks, historyPeers } = this.#router;
    const arrived = new Map(watermarks);
    const complete = new Map<string, number>();
    // No peer has acknowledged later that the channel is wanted, and what it said then has moved our
    // clock past its own; so has what stands in a segment before this one, or is missed.
    const acknowledgedTs = this.#acknowledgedTs < 0 ? lastTs : this.#acknowledgedTs;
    const sinceTs = Math.max(acknowledgedTs, this.#missedTs, log.lastTs);
    const { former } = log;
    const known = former?.known() ?? new Map<string, Known>();
    // Of one that is away, what it keeps for us will come. One that is forgotten will be new.
    const away = [...known.keys()].filter((peer) => watermarks.has(peer));
    for (const peer of new Set([...away, ...historyPeers.map(({ node }) => node), node])) {
      const mark = watermarks.get(peer) ?? 0;
      const knew = known.get(peer);
      if (
        former === null || knew === undefined ||
        this.#isInterrupted(channel, former, (node) => node === peer)
      ) {
        complete.set(peer, Math.max(sinceTs, mark, peer === node ? ts : 0));
      } else {
        // Nothing of it is missing between the two.
        const reached = Math.max(mark, knew.reached);
        arrived.set(peer, reached);
        complete.set(peer, Math.max(reached, knew.complete));
      }
    }
    const ownTs = node === own ? ts : lastTs;
    arrived.set(own, ownTs);
    complete.set(own, ownTs);
    const segment = log.begin({ arrived, complete });
    this.bytes += log.bytes - before;
    return segment;
  }

  /** The channel has lost its last follower. */
  lapse(channel: Channel): void {
    const log = this.#logs.get(channel);
    if (log === undefined) return;
    this.#lapse(log);
    this.#touch(channel, log);
    if (this.bytes > this.#limits.maxBytes) this.#evict();
  }

  #lapse(log: ArrivalLog | undefined): void {
    if (log === undefined) return;
    const before = log.bytes;
    log.lapse();
    this.bytes += log.bytes - before;
  }

  /**
   * Something may be missing in what arrives from a node, null for any: it has heard only now that channels with an
   * `interestVersion` beyond `knownVersion` are wanted here, or its link has lost messages.
   */
  interrupt(node: string | null, knownVersion: number): void {
    const at = nextMoment();
    this.#missedTs = this.#host.lastTs;
    const covered = (other: Interruption) =>
      other.node === node && other.knownVersion >= knownVersion;
    this.#interruptions = this.#interruptions.filter((other) => !covered(other));
    this.#interruptions.push({ at, node, knownVersion });
    if (this.#interruptions.length > MAX_INTERRUPTIONS) this.#forgetInterruption();
  }

  /** The two oldest become one that ends more than it must. */
  #forgetInterruption(): void {
    const [first, second] = this.#interruptions.splice(0, 2);
    const knownVersion = Math.min(first.knownVersion, second.knownVersion);
    const node = first.node === second.node ? first.node : null;
    this.#interruptions.unshift({ at: second.at, node, knownVersion });
  }

  /**
   * A peer has acknowledged that channels are wanted, and our clock is past what it said then. Where
   * this is never called, the first messages of a log are not found in it.
   */
  acknowledged(): void {
    this.#acknowledgedTs = this.#host.lastTs;
  }

  /**
   * Ends a present segment that something has interrupted; not yet where `from` is about to append, and
   * the interruption can wait, see {@link #canWait}.
   */
  #endInterrupted(channel: Channel, log: ArrivalLog | undefined, from?: string): void {
    const current = log?.current ?? null;
    if (log === undefined || current === null) return;
    if (!this.#isInterrupted(channel, current, (node) => current.takes(node))) return;
    if (from !== undefined && this.#canWait(channel, current, from)) return;
    const before = log.bytes;
    log.end();
    this.bytes += log.bytes - before;
  }

  /**
   * Whether what has interrupted the segment can wait: a node that does not know yet what is wanted, as
   * after a restart, gives nothing, and another segment could not begin before it knows. For what comes of
   * the others nothing has changed.
   */
  #canWait(channel: Channel, segment: ArrivalSegment, from: string): boolean {
    const unaware = this.#host.unaware(channel);
    if (unaware.length === 0 || unaware.includes(from)) return false;
    return !this.#isInterrupted(
      channel,
      segment,
      (node) => segment.takes(node) && !unaware.includes(node),
    );
  }

  /** Whether something may be missing behind the segment, of a node that is `concerned`. */
  #isInterrupted(
    channel: Channel,
    segment: ArrivalSegment,
    concerned: (node: string) => boolean,
  ): boolean {
    return this.#interruptions.some(({ at, node, knownVersion }) =>
      segment.bornAt < at && channel.interestVersion > knownVersion &&
      (node === null || concerned(node))
    );
  }

  /** Messages of the channel that were accepted here, from `ts` on, have not been kept. */
  takeBack(channel: Channel, ts: number): void {
    this.#logs.get(channel)?.takeBack(this.#host.node, ts);
  }

  /** Messages up to `ts` of the channel are to be kept nowhere any more. */
  prune(channel: Channel, ts: number): void {
    const log = this.#logs.get(channel);
    if (log === undefined) return;
    const before = log.bytes;
    log.prune(ts);
    this.bytes += log.bytes - before;
  }

  /** Drops what is older than `beforeTs`, of all channels. */
  async expire(beforeTs: number): Promise<void> {
    let sinceTurn = 0;
    for (const channel of [...this.#logs.keys()]) {
      this.prune(channel, beforeTs - 1);
      if (++sinceTurn % LOGS_PER_TURN === 0) await nextTurn();
    }
  }

  /** Drops the channel's log: the channel is being forgotten. */
  forget(channel: Channel): void {
    const log = this.#logs.get(channel);
    if (log === undefined) return;
    this.bytes -= log.bytes + LOG_OVERHEAD_BYTES;
    log.clear();
    this.#logs.delete(channel);
    this.#idle.delete(channel);
  }

  /** Takes new bounds. */
  setLimits(limits: LogLimits): void {
    this.#limits = limits;
    for (const log of this.#logs.values()) {
      const before = log.bytes;
      log.trim(limits.maxMessagesPerChannel);
      this.bytes += log.bytes - before;
    }
    this.#evict();
  }

  #evict(): void {
    const { maxBytes } = this.#limits;
    for (const channel of this.#idle) {
      if (this.bytes <= maxBytes) return;
      this.forget(channel);
      this.#host.onLogDropped(channel);
    }
    for (const [channel, log] of this.#logs) {
      if (this.bytes <= maxBytes) return;
      const before = log.bytes;
      while (this.bytes - (before - log.bytes) > maxBytes && log.dropOldest());
      this.bytes -= before - log.bytes;
      if (log.arrivals === 0) {
        // Many of them would take more than the bound even so, and be looked through in vain.
        this.forget(channel);
        this.#missedTs = this.#host.lastTs;
      } else {
        this.#logs.delete(channel);
        this.#logs.set(channel, log);
      }
    }
  }
}
