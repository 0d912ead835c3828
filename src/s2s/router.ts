// Between the engine and the links: who gets which message, what is wanted where, and who can be asked.

import { getLogger } from "../core/logger.ts";
import { LogRate } from "../core/log_rate.ts";
import { spawn } from "../core/spawn.ts";
import type { Turn } from "../core/turn.ts";
import { StoreError } from "../engine/ports/history_store.ts";
import type {
  HistoryPeer,
  OwnBatch,
  RemoteBlock,
  RoutedChannel,
  Router,
  RouterHost,
} from "../engine/ports/router.ts";
import type { TokenStore } from "../engine/ports/token_store.ts";
import { WireError } from "../proto/errors.ts";
import { type AnnouncedLink, Announcer } from "./announcer.ts";
import { FrameBuilder, FrameError, FrameType, type PayloadReader } from "./frame.ts";
import type { Greeted } from "./handshake.ts";
import { HeardOf, knownFrame, readKnown } from "./heard_of.ts";
import { askKept, keptAnswer, readKeptRequest } from "./kept_questions.ts";
import { Link, type LinkOwner } from "./link.ts";
import { pubHead } from "./outbox.ts";
import { Peer, type PeerHost } from "./peer.ts";
import { answerFrame } from "./questions.ts";

/** A timestamp that is further ahead of our wall clock does not move ours, microseconds. */
const MAX_AHEAD_MICROS = 60_000_000;
/** A link whose unsent messages have made no progress for so long holds no publisher back, ms. */
const STOPPED_MS = 1000;
/** How long a peer for whom nothing is on its way may take to hear our farewell, ms. */
const LEAVE_IDLE_MS = 2000;
/** The same complaint about the same peer is logged so often at most, ms. */
const LOG_PERIOD_MS = 10_000;

/** What may change while the server runs; durations in milliseconds. */
export interface RouterLimits {
  readonly sessionTimeoutMs: number;
  readonly replayBytes: number;
  readonly replayTimeoutMs: number;
  readonly bloomThreshold: number;
  /** Channels of all peers that are remembered by name. */
  readonly maxChannels: number;
  readonly maxSkewMs: number;
}

/** Plain counters, read by the stats door. */
export interface RouterCounters {
  /** Messages given to links, once for each peer. */
  forwarded: number;
  /** Messages that came from peers. */
  received: number;
  /** Of those, the ones that nobody here wanted: a filter's false positives, and who has just left. */
  unwanted: number;
  /** Bytes of links that are down again. */
  bytesIn: number;
  bytesOut: number;
}

/** Settings of a {@link ClusterRouter}. */
export interface RouterOptions {
  readonly turn: Turn;
  readonly limits: RouterLimits;
  /** Our own store of tokens, for peers that ask; null where all nodes share one. */
  readonly tokens: TokenStore | null;
  /** What the router tells whoever keeps the links up. */
  onLinkDown(peer: Peer, reason: string, sentNonsense: boolean): void;
  /** Names of members that never were linked, and are not now. */
  neverLinked(): readonly string[];
  /** Our node id. */
  readonly node: string;
}

/** Who wants a channel's messages. */
interface Route {
  /** As of which state of the peers' interest. */
  readonly epoch: number;
  readonly peers: readonly Peer[];
  readonly head: Uint8Array;
}

const log = getLogger("s2s");

/** The router of a node in a cluster; see {@link Router}. */
export class ClusterRouter implements Router, LinkOwner, PeerHost {
  readonly counters: RouterCounters = {
    forwarded: 0,
    received: 0,
    unwanted: 0,
    bytesIn: 0,
    bytesOut: 0,
  };
  readonly announcer: Announcer;
  /** Every peer that was ever linked, by node id. */
  readonly peers: Map<string, Peer> = new Map();
  /** What peers have told of others. */
  readonly heardOf: HeardOf = new HeardOf();

  #options: RouterOptions;
  #limits: RouterLimits;
  #host: RouterHost | null = null;
  /** Counts the changes of what peers want. */
  #epoch = 0;
  #watermarks: Map<string, number> | null = null;
  #historyPeers: HistoryPeer[] | null = null;
  #lostRate = new LogRate(LOG_PERIOD_MS);
  #gapRate = new LogRate(LOG_PERIOD_MS);

  constructor(options: RouterOptions) {
    this.#options = options;
    this.#limits = options.limits;
    this.announcer = new Announcer({
      turn: options.turn,
      host: { wantedChannels: () => this.host.wantedChannels() },
      bloomThreshold: () => this.#limits.bloomThreshold,
      onSlow: (link) => this.#onSlow(link),
    });
  }

  /** The engine behind it; called once, before anything else. */
  bind(host: RouterHost): void {
    this.#host = host;
  }

  get host(): RouterHost {
    if (this.#host === null) throw new Error("the router has no engine yet");
    return this.#host;
  }

  get limits(): RouterLimits {
    return this.#limits;
  }

  /** Takes other bounds. */
  setLimits(limits: RouterLimits): void {
    this.#limits = limits;
    for (const { outbox } of this.peers.values()) outbox.maxBytes = limits.replayBytes;
  }

  // ---- asked by the engine -------------------------------------------------------------------

  forward(channel: RoutedChannel, batch: OwnBatch): void {
    if (this.peers.size === 0) return;
    const { peers, head } = this.#routeOf(channel);
    for (const peer of peers) {
      const { outbox, link } = peer;
      const { lost } = outbox;
      outbox.append(head, batch);
      this.counters.forwarded += batch.count;
      if (outbox.lost > lost) this.#onLost(peer, outbox.lost - lost);
      link?.wake();
    }
  }

  #routeOf(channel: RoutedChannel): Route {
    const known = channel.route as Route | null;
    if (known?.epoch === this.#epoch) return known;
    const { name, app: { id } } = channel;
    const wanted = { app: id, channel: name };
    const peers = [...this.peers.values()].filter(({ interest }) => interest.has(wanted));
    const head = known?.head ?? pubHead(id, name);
    const route = { epoch: this.#epoch, peers, head };
    channel.route = route;
    return route;
  }

  want(channel: RoutedChannel): void {
    this.announcer.want(channel);
  }

  unwant(channel: RoutedChannel): void {
    this.announcer.unwant(channel);
  }

  unaware(channel: RoutedChannel): readonly string[] {
    const links = this.announcer.unaware(channel);
    if (links.length === 0) return [];
    return [...this.peers.values()].flatMap(({ id, link }) =>
      link !== null && links.includes(link) ? [id] : []
    );
  }

  whenWanted(channel: RoutedChannel): Promise<void> | null {
    return this.announcer.whenWanted(channel);
  }

  get watermarks(): ReadonlyMap<string, number> {
    // Who has got one keeps it: it is made anew, not changed.
    return this.#watermarks ??= new Map(
      [...this.peers.values()].map(({ id, watermark }) => [id, watermark]),
    );
  }

  get historyPeers(): readonly HistoryPeer[] {
    return this.#historyPeers ??= [...this.peers.values()].flatMap((peer) => {
      const { link } = peer;
      if (link === null || !link.can("history")) return [];
      return [{ node: peer.id, kept: (request) => askKept(peer, request, this.#sawTs) }];
    });
  }

  missingPeers(afterTs: number): readonly string[] {
    const missing = new Set(this.#options.neverLinked());
    for (const { id, keeps_history, left_ts } of this.heardOf.nodes.values()) {
      if (this.peers.has(id) || !keeps_history) continue;
      if (left_ts === undefined || left_ts > afterTs) missing.add(id);
    }
    for (const peer of this.peers.values()) {
      const { link, hello, leftTs, id } = peer;
      if (link !== null || !hello.capabilities.includes("history")) continue;
      if (leftTs === undefined || leftTs > afterTs) missing.add(id);
    }
    return [...missing];
  }

  get maxSkewMicros(): number {
    return this.#limits.maxSkewMs * 1000;
  }

  backlog(channel: RoutedChannel, nowMs: number): number {
    if (this.peers.size === 0) return -1;
    let most = -1;
    for (const { link, outbox } of this.#routeOf(channel).peers) {
      if (link === null) continue;
      const { unsentBytes, maxBytes } = outbox;
      if (unsentBytes > 0 && nowMs - link.progressMs > STOPPED_MS) continue;
      most = Math.max(most, unsentBytes / maxBytes);
    }
    return most;
  }

  // ---- links come and go ---------------------------------------------------------------------

  /** Bytes over links since the start. */
  get bytes(): { in: number; out: number } {
    const sum = { in: this.counters.bytesIn, out: this.counters.bytesOut };
    for (const { link } of this.peers.values()) {
      sum.in += link?.bytesIn ?? 0;
      sum.out += link?.bytesOut ?? 0;
    }
    return sum;
  }

  /** Bytes that are kept for peers. */
  get replayBytes(): number {
    return this.#sum(({ outbox }) => outbox.waitingBytes);
  }

  /** Messages that peers will not get. */
  get lost(): number {
    return this.#sum(({ outbox }) => outbox.lost);
  }

  /** Channels of peers that are remembered by name. */
  get channelCount(): number {
    return this.#sum(({ interest }) => interest.size);
  }

  #sum(of: (peer: Peer) => number): number {
    let sum = 0;
    for (const peer of this.peers.values()) sum += of(peer);
    return sum;
  }

  /** Takes a connection into service; it replaces the link that there is. */
  linkUp(greeted: Greeted): Peer {
    const { hello } = greeted;
    let peer = this.peers.get(hello.id);
    peer?.link?.close("it has connected anew");
    if (peer === undefined) {
      peer = new Peer(hello, this.#limits.replayBytes, this);
      this.peers.set(hello.id, peer);
    }
    clearTimeout(peer.forgetTimer);
    // Its messages may come before it says that it has heard what is wanted here.
    if (peer.hello.incarnation !== hello.incarnation) this.host.onMissed(peer.id, -1);
    const link = new Link(greeted, {
      turn: this.#options.turn,
      outbox: peer.outbox,
      timeoutMs: () => this.#limits.sessionTimeoutMs,
      lastTs: () => this.host.lastTs,
    }, this);
    peer.leftTs = undefined;
    peer.linkUp(link);
    this.#watermarks = this.#historyPeers = null;
    this.announcer.linkUp(link);
    link.start();
    this.#tellOfPeers();
    return peer;
  }

  /** Tells every peer whom we know, and who is linked here. */
  #tellOfPeers(): void {
    const heard = [...this.heardOf.nodes.values()].filter(({ id }) => !this.peers.has(id));
    const frame = knownFrame(this.peers.values(), heard);
    for (const { link } of this.peers.values()) link?.queue(frame);
  }

  onDown(link: Link, reason: string): void {
    const peer = this.#peerOf(link);
    peer.knownVersion = this.announcer.linkDown(link);
    peer.linkDown(reason);
    this.#historyPeers = null;
    this.counters.bytesIn += link.bytesIn;
    this.counters.bytesOut += link.bytesOut;
    if (peer.leftTs !== undefined) peer.leave();
    else peer.forgetTimer = setTimeout(() => this.#giveUp(peer), this.#limits.replayTimeoutMs);
    this.heardOf.forgetTeller(peer.id);
    this.#tellOfPeers();
    this.#options.onLinkDown(peer, reason, link.sentNonsense);
  }

  /** The peer has been away for too long. */
  #giveUp(peer: Peer): void {
    const { lost } = peer.outbox;
    peer.forgetInterest();
    peer.outbox.giveUp();
    if (peer.outbox.lost > lost) this.#onLost(peer, peer.outbox.lost - lost);
  }

  /**
   * Says farewell to every peer, behind all that is on its way; at most `timeoutMs`, and less to one for
   * whom nothing is. What a peer has not got by then is logged.
   */
  async leave(timeoutMs: number): Promise<void> {
    const late = deadline(timeoutMs);
    const idle = deadline(Math.min(timeoutMs, LEAVE_IDLE_MS));
    await Promise.all([...this.peers.values()].map(async (peer) => {
      const { id, link, outbox } = peer;
      let hasAll = false;
      if (link !== null) {
        const farewell = this.#sayFarewell(link).then((isHeard) => hasAll = isHeard);
        await Promise.race([farewell, idle.promise]);
        if (!hasAll && !outbox.isEmpty) await Promise.race([farewell, late.promise]);
      }
      const { unacknowledged: messages } = outbox;
      if (!hasAll && messages > 0) {
        log.error("this node stops before a peer has got what was accepted here", {
          peer: id,
          messages,
        });
      }
    }));
    late.clear();
    idle.clear();
    for (const peer of this.peers.values()) {
      clearTimeout(peer.forgetTimer);
      peer.link?.close("this node stops");
      clearTimeout(peer.forgetTimer);
    }
  }

  /** Resolves when the link is down; to whether everything before the farewell, and it, was sent. */
  async #sayFarewell(link: Link): Promise<boolean> {
    await link.flushed();
    if (!link.isOpen) return false;
    link.queue(new FrameBuilder(FrameType.goodbye).u53(this.host.lastTs).finish());
    // It hangs up when it has read that. If we did, what is still in our socket from it would have
    // the connection reset, and with it what is on its way.
    await link.whenDown();
    return true;
  }

  // ---- told by links -------------------------------------------------------------------------

  #peerOf(link: Link): Peer {
    const peer = this.peers.get(link.hello.id);
    if (peer === undefined) throw new Error(`a link to ${link.hello.id}, who is nobody`);
    return peer;
  }

  onFrame(link: Link, type: number, payload: PayloadReader): void {
    const peer = this.#peerOf(link);
    switch (type) {
      case FrameType.pub:
        return peer.processPub(link, payload);
      case FrameType.ack:
        return peer.processAck(payload);
      case FrameType.clock:
        return this.#onClock(peer, payload);
      case FrameType.resume:
        return this.#onResume(peer, link, payload);
      case FrameType.interestBegin:
      case FrameType.interestAdd:
      case FrameType.interestBits:
      case FrameType.interestEnd:
      case FrameType.interestChange:
        return peer.processInterest(link, type, payload);
      case FrameType.interestAck:
        return this.#onInterestAck(peer, link, payload);
      case FrameType.ask:
        return this.#onAsk(link, payload);
      case FrameType.answer:
        return peer.questions.processAnswer(payload);
      case FrameType.known:
        return this.heardOf.hear(peer.id, readKnown(payload), this.#options.node);
      case FrameType.goodbye:
        peer.leftTs = payload.u53();
        return link.close("it is stopping");
    }
    throw new FrameError(`a frame of the unknown type ${type}`);
  }

  onHeartbeat(link: Link, wallMicros: number, lastTs: number): void {
    const peer = this.#peerOf(link);
    this.#saw(peer, lastTs);
    if (link.rttMs === undefined) return;
    peer.clock.add(wallMicros / 1000 + link.rttMs / 2 - Date.now(), link.rttMs);
    const change = peer.clock.judge(this.#limits.maxSkewMs);
    if (change === "apart") {
      log.warn("the clocks are further apart than s2s_max_skew", {
        peer: peer.id,
        skew_ms: Math.round(peer.clock.skewMs ?? 0),
        s2s_max_skew_ms: this.#limits.maxSkewMs,
      });
    } else if (change === "close") {
      log.info("the clocks are close again", {
        peer: peer.id,
        skew_ms: Math.round(peer.clock.skewMs ?? 0),
      });
    }
  }

  #sawTs = (peer: Peer, ts: number): void => this.#saw(peer, ts);

  /** A hybrid logical clock: ours goes on above every timestamp that was seen, but not far ahead. */
  #saw(peer: Peer, ts: number): void {
    const isAhead = ts > Date.now() * 1000 + MAX_AHEAD_MICROS;
    if (isAhead && !peer.isAhead) {
      log.warn("its timestamps are more than a minute ahead, and do not move ours; set its clock", {
        peer: peer.id,
        ahead_s: Math.round((ts / 1000 - Date.now()) / 1000),
      });
    }
    peer.isAhead = isAhead;
    if (!isAhead) this.host.sawTimestamp(ts);
  }

  #onClock(peer: Peer, payload: PayloadReader): void {
    peer.processClock(payload);
    this.#saw(peer, peer.watermark);
    this.#watermarks = null;
  }

  #onResume(peer: Peer, link: Link, payload: PayloadReader): void {
    const { lost } = peer.outbox;
    const hasKept = peer.processResume(link, payload);
    this.announcer.setKept(link, hasKept ? peer.knownVersion : -1);
    if (peer.outbox.lost > lost) this.#onLost(peer, peer.outbox.lost - lost);
  }

  #onInterestAck(peer: Peer, link: Link, payload: PayloadReader): void {
    const version = payload.u53();
    const peerTs = payload.u53();
    this.#saw(peer, peerTs);
    const heardLate = this.announcer.acknowledged(link, version);
    if (heardLate === null) {
      throw new FrameError(`it acknowledges an announcement ${version} that was never made`);
    }
    this.host.onAcknowledged();
    if (heardLate !== undefined) this.host.onMissed(peer.id, heardLate);
  }

  get channelRoom(): number {
    return this.#limits.maxChannels - this.channelCount;
  }

  onInterest(): void {
    this.#epoch++;
  }

  get lastTs(): number {
    return this.host.lastTs;
  }

  onTooMuchInterest(peer: Peer): void {
    log.warn(
      "it wants more channels than are remembered (s2s_channel_peers_max_items), and gets everything",
      { peer: peer.id, s2s_channel_peers_max_items: this.#limits.maxChannels },
    );
  }

  onBatch(peer: Peer, block: RemoteBlock): void {
    this.counters.received += block.count;
    if (!this.host.deliverRemote(block)) this.counters.unwanted += block.count;
    // Not before: what our clock has passed is taken for older than what arrives.
    this.#saw(peer, block.lastTs);
  }

  onGap(peer: Peer, messages: number): void {
    this.host.onMissed(peer.id, -1);
    const more = this.#gapRate.next();
    if (more === null) return;
    log.warn("messages of a peer were lost on their way: it could not keep more for us", {
      peer: peer.id,
      messages,
      ...more,
    });
  }

  #onLost(peer: Peer, messages: number): void {
    const more = this.#lostRate.next();
    if (more === null) return;
    log.error(
      "messages for a peer are lost, it was away for too long (s2s_replay_bytes, s2s_replay_timeout)",
      { peer: peer.id, messages, lost_in_all: peer.outbox.lost, ...more },
    );
  }

  #onSlow(link: AnnouncedLink): void {
    const peer = [...this.peers.values()].find((other) => other.link === link);
    if (peer === undefined) return;
    peer.slowAcks++;
    log.warn("it has not acknowledged within a second what is wanted here; not waited for", {
      peer: peer.id,
    });
  }

  // ---- questions -----------------------------------------------------------------------------

  #onAsk(link: Link, payload: PayloadReader): void {
    const id = payload.u32();
    const question = payload.json();
    spawn("s2s.answer", async () => {
      try {
        link.queue(await this.#answer(id, question));
      } catch (error) {
        if (error instanceof FrameError) link.close(`it asks nonsense: ${error.message}`, true);
        else if (error instanceof WireError || error instanceof StoreError) {
          link.queue(answerFrame(id, false, error.message));
        } else throw error;
      }
    });
  }

  async #answer(id: number, question: unknown): Promise<Uint8Array> {
    const { op, hash } = typeof question === "object" && question !== null
      ? question as Record<string, unknown>
      : {};
    const { tokens } = this.#options;
    if (op === "kept") return keptAnswer(id, await this.host.kept(readKeptRequest(question)));
    if (tokens !== null && typeof hash === "string") {
      if (op === "find_token") return answerFrame(id, true, await tokens.find(hash) ?? null);
      if (op === "take_token") return answerFrame(id, true, await tokens.take(hash));
    }
    return answerFrame(id, false, `a question that is not known here: ${String(op).slice(0, 50)}`);
  }
}

/** A promise that resolves after so long, unless it is cleared. */
function deadline(ms: number): { promise: Promise<void>; clear: () => void } {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const promise = new Promise<void>((resolve) => timer = setTimeout(resolve, ms));
  return { promise, clear: () => clearTimeout(timer) };
}
