// What the engine does because there are other nodes: tells them what is wanted, hands messages over, answers.

import { buffers } from "../core/buffer_pool.ts";
import { WireError } from "../proto/errors.ts";
import type { LogHost, LogLimits } from "./arrival_logs.ts";
import type { Batch, Channel } from "./channel.ts";
import { ClusterHistory } from "./cluster_history.ts";
import type { ClusterReplayHost } from "./cluster_replay.ts";
import type { KeptHost, KeptParts } from "./kept.ts";
import type { KeptPage, KeptRequest, RemoteBlock, Router, RouterHost } from "./ports/router.ts";

/** What it asks of the engine. */
export interface ClusteredHost
  extends Omit<LogHost, "unaware" | "onLogDropped">, KeptHost, ClusterReplayHost {
  /** Every channel of every application, in no order. */
  channels(): Iterable<Channel>;
  /** The channel of a name that is not checked, if it is known. */
  findChannel(app: string, name: Uint8Array): Channel | undefined;
  /** Hands a batch to the channel's subscribers, and counts that. */
  fanOut(channel: Channel, batch: Batch, node: string): void;
  /** Forgets the channel where nothing is left of it. */
  forgetIfUnused(channel: Channel): void;
  /** Our timestamps go on above this one. */
  sawTimestamp(ts: number): void;
}

/** Settings of a {@link Clustered}. */
export interface ClusteredOptions {
  readonly host: ClusteredHost;
  readonly router: Router;
  /** What this node keeps; null where no history is kept. */
  readonly parts: KeptParts | null;
  /** Bounds of the arrival logs. */
  readonly limits: LogLimits;
}

/** The engine's side of a cluster. */
export class Clustered implements RouterHost {
  readonly router: Router;
  /** The history of all nodes; null where none is kept. */
  readonly history: ClusterHistory | null;

  #host: ClusteredHost;

  constructor({ host, router, parts, limits }: ClusteredOptions) {
    this.#host = host;
    this.router = router;
    const logHost = {
      node: host.node,
      get lastTs() {
        return host.lastTs;
      },
      app: (id: string) => host.app(id),
      closeBatch: (channel: Channel) => host.closeBatch(channel),
      countDelivered: (messages: number) => host.countDelivered(messages),
      unaware: (channel: Channel) => router.unaware(channel),
      onLogDropped: (channel: Channel) => host.forgetIfUnused(channel),
    };
    this.history = parts === null
      ? null
      : new ClusterHistory({ host: logHost, router, parts, limits });
  }

  // ---- asked by the engine -------------------------------------------------------------------

  /** The channel has a follower, maybe its first. */
  follow(channel: Channel): void {
    if (channel.interestVersion === 0) this.router.want(channel);
  }

  /** The channel has no follower any more. */
  unfollow(channel: Channel): void {
    if (channel.interestVersion === 0) return;
    this.router.unwant(channel);
    this.history?.logs.lapse(channel);
  }

  /** Hands on a batch that was accepted here, and has been given to the channel's subscribers. */
  hand(channel: Channel, batch: Batch): void {
    this.history?.logs.append(channel, batch, this.#host.node);
    this.router.forward(channel, batch);
  }

  /** Whether something is remembered of an idle channel. */
  remembers(channel: Channel): boolean {
    return this.history?.logs.has(channel) ?? false;
  }

  /** The channel is being forgotten. */
  forget(channel: Channel): void {
    this.history?.logs.forget(channel);
  }

  /** Forgets what arrived before `beforeTs`; also what a peer had accepted, whose store it has left. */
  async expire(beforeTs: number): Promise<void> {
    if (this.history === null || beforeTs <= 0) return;
    await this.history.logs.expire(beforeTs);
    this.history.forgetRead();
  }

  // ---- asked by the router -------------------------------------------------------------------

  get lastTs(): number {
    return this.#host.lastTs;
  }

  sawTimestamp(ts: number): void {
    this.#host.sawTimestamp(ts);
  }

  deliverRemote(block: RemoteBlock): boolean {
    const { node, count, firstTs, lastTs, froms } = block;
    const channel = this.#host.findChannel(block.app, block.channel);
    if (channel === undefined || channel.isIdle) return false;
    // What was accepted here before has its place before it.
    this.#host.closeBatch(channel);
    const lines = buffers.copyOf(block.lines);
    const batch = { lines, count, firstTs, lastTs, froms };
    this.#host.fanOut(channel, batch, node);
    this.history?.logs.append(channel, batch, node);
    lines.release();
    return true;
  }

  *wantedChannels(): Generator<Channel> {
    for (const channel of this.#host.channels()) {
      if (channel.interestVersion !== 0) yield channel;
    }
  }

  kept(request: KeptRequest): Promise<KeptPage> {
    if (this.history !== null) return this.history.kept(request);
    return Promise.reject(new WireError("history-off", "no history is kept here"));
  }

  onAcknowledged(): void {
    this.history?.logs.acknowledged();
  }

  onMissed(node: string, knownVersion: number): void {
    this.history?.logs.interrupt(node, knownVersion);
  }
}
