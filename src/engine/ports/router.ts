// The seam to the other nodes of a cluster: what the engine asks of them, and what they ask of it.

import type { Block } from "./history_store.ts";

/** A channel, as the router sees it. */
export interface RoutedChannel {
  readonly app: { readonly id: string };
  /** Its name, decoded anew each time. */
  readonly name: string;
  /** Its bytes; a copy. */
  readonly nameBytes: Uint8Array;
  /**
   * The router's: number of the announcement that told the peers of our interest in it; 0 while there
   * is none. Kept here, because a table of a million channels of its own would cost as much as the
   * channels.
   */
  interestVersion: number;
  /** The router's: who wants its messages, and as of which state of the peers' interest. */
  route: unknown;
}

/** One turn's messages of a channel, accepted here. */
export interface OwnBatch {
  /** Whole MESSAGE lines; the bytes are read before {@link Router.forward} returns. */
  readonly lines: { readonly view: Uint8Array };
  readonly count: number;
  readonly firstTs: number;
  readonly lastTs: number;
  readonly froms: readonly (string | undefined)[] | null;
}

/** Messages of one channel that a peer has accepted. The bytes are good until the call returns. */
export interface RemoteBlock extends Block {
  readonly app: string;
  /** The channel's name; not checked. */
  readonly channel: Uint8Array;
}

/** What a node is asked of the history that it keeps itself. */
export interface KeptRequest {
  readonly app: string;
  readonly channel: string;
  /** Messages with a later timestamp, microseconds; 0 for all. */
  readonly afterTs: number;
  /**
   * `all`: everything that it keeps. `unsettled`: only what it has accepted and its store, which is
   * everybody's, may not hold yet; pages of it, too.
   */
  readonly which: "all" | "unsettled";
  readonly maxMessages: number;
  readonly maxBytes: number;
}

/** A page of what one node keeps, oldest first by timestamp, then by node. */
export interface KeptPage {
  /** As `Page.blocks` of a store: in order, not overlapping, and the caller's. */
  readonly blocks: readonly Block[];
  /** Nothing newer was kept at that moment. */
  readonly isEnd: boolean;
  /**
   * There is no message of this node up to here behind the asked timestamp that is not in this page
   * (or settled, for `unsettled`). At the end that is the node's clock.
   */
  readonly throughTs: number;
  /** Whether messages behind the asked timestamp may have been deleted or forgotten. */
  readonly isPartial: boolean;
  /** Number of messages behind the asked timestamp, those beyond the page included. */
  readonly count: number;
}

/** A peer whose history can be asked for. */
export interface HistoryPeer {
  /** Its node id. */
  readonly node: string;
  /** Rejects with a {@link PeerError} when it does not answer in time, or leaves. */
  kept(request: KeptRequest): Promise<KeptPage>;
}

/** A peer did not do what it was asked: it went away, was too slow, or cannot. */
export class PeerError extends Error {
  override readonly name = "PeerError";
}

/**
 * The other nodes. Messages of one node reach each of its peers in the order of {@link forward}; a
 * peer delivers them once, and within `s2s_replay_bytes` and `s2s_replay_timeout` none is lost to a
 * link that fails and returns. None of these calls blocks or throws.
 */
export interface Router {
  /** Hands a batch to every peer that wants the channel. */
  forward(channel: RoutedChannel, batch: OwnBatch): void;

  /** The channel has got its first follower here. */
  want(channel: RoutedChannel): void;

  /** The channel has lost its last follower here. */
  unwant(channel: RoutedChannel): void;

  /**
   * Names of the peers whose link is up and that do not know yet that the channel is wanted, which it is.
   * One that has let a second pass is no longer among them, see {@link RouterHost.onMissed}.
   */
  unaware(channel: RoutedChannel): readonly string[];

  /** Until there are none of them; null when there are none. Resolves after a second even so. */
  whenWanted(channel: RoutedChannel): Promise<void> | null;

  /**
   * By node: everything that the node had accepted up to this timestamp, and that was wanted here then,
   * has arrived. Not to be changed; the next call may return another map.
   */
  readonly watermarks: ReadonlyMap<string, number>;

  /** The peers that can be asked now. */
  readonly historyPeers: readonly HistoryPeer[];

  /** Names of the peers that are known and cannot be asked: what they keep is missing after `afterTs`. */
  missingPeers(afterTs: number): readonly string[];

  /** How far the timestamps of two nodes may be apart, microseconds. */
  readonly maxSkewMicros: number;

  /** How full the way to the slowest peer that wants the channel is, as `Subscriber.backlog` says. */
  backlog(channel: RoutedChannel, nowMs: number): number;
}

/** What the router asks of the engine. */
export interface RouterHost {
  /** Delivers what a peer has accepted to who follows the channel here. False when nobody does. */
  deliverRemote(block: RemoteBlock): boolean;
  /** Every channel that has followers here, in no order; may be walked over many turns. */
  wantedChannels(): Iterable<RoutedChannel>;
  /** Answers a peer. Rejects with a WireError when the store does not work. */
  kept(request: KeptRequest): Promise<KeptPage>;
  /** The last timestamp given here, microseconds. */
  readonly lastTs: number;
  /** A peer has given this timestamp: ours go on above it. */
  sawTimestamp(ts: number): void;
  /** A peer has acknowledged what is wanted here, and ours are above its timestamps of that moment. */
  onAcknowledged(): void;
  /**
   * A peer has heard only now that the channels with a later `interestVersion` are wanted here, or has
   * lost messages for us (-1: of any channel): what arrived of its messages may have holes.
   */
  onMissed(node: string, knownVersion: number): void;
}
