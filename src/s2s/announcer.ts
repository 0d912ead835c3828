// Tells the peers which channels are wanted here: all of them when a link comes up, then each change.

import { nextTurn, type Turn, type TurnTask } from "../core/turn.ts";
import { spawn } from "../core/spawn.ts";
import type { RoutedChannel, RouterHost } from "../engine/ports/router.ts";
import { encodeUtf8 } from "../proto/bytes.ts";
import { BloomFilter, hashChannel } from "./bloom_filter.ts";
import { FrameBuilder, FrameType } from "./frame.ts";

/** Channels in one frame. */
const CHANNELS_PER_FRAME = 1000;
/** Bytes of a filter in one frame. */
const BITS_PER_FRAME = 256 * 1024;
/** A peer that has not acknowledged after so long is not waited for, ms. */
const ACK_WAIT_MS = 1000;

export const InterestKind = { list: 0, filter: 1 } as const;

/** A link, as the announcer sees it. */
export interface AnnouncedLink {
  readonly isOpen: boolean;
  can(capability: string): boolean;
  queue(frame: Uint8Array): void;
  /** Resolves when there is room for more. */
  whenRoom(): Promise<void>;
}

interface Audience {
  readonly link: AnnouncedLink;
  /** The peer knows everything up to this version; -1 before it has everything for the first time. */
  ackedVersion: number;
  /** What it had kept from the link before: nothing up to this version is missed for want of the present one. */
  keptVersion: number;
  /** What it was sent, or is being sent. */
  filter: BloomFilter | null;
  /** Counts what it was sent as a whole: a newer one ends an older one under way. */
  round: number;
  /** It has let a wait run out, and is not waited for until it acknowledges something. */
  isSlow: boolean;
}

interface Wait {
  readonly version: number;
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  /** Ends it. */
  readonly timer: ReturnType<typeof setTimeout>;
}

/** Settings of an {@link Announcer}. */
export interface AnnouncerOptions {
  readonly turn: Turn;
  readonly host: Pick<RouterHost, "wantedChannels">;
  /** Channels beyond which a filter stands for the list. */
  readonly bloomThreshold: () => number;
  /** A peer has not acknowledged in time. */
  readonly onSlow: (link: AnnouncedLink) => void;
}

/** Our interest, and what the peers know of it. */
export class Announcer implements TurnTask {
  /** Channels that are wanted. */
  wanted = 0;

  #options: AnnouncerOptions;
  /** Number of the last announcement. */
  #version = 0;
  #pending = new Map<RoutedChannel, boolean>();
  #audience = new Map<AnnouncedLink, Audience>();
  #waits: Wait[] = [];
  /** Stands for the list; null while there are few enough channels. */
  #filter: BloomFilter | null = null;
  /** Channels that the filter was made for, and those that left since. */
  #filterSize = 0;
  #stale = 0;

  constructor(options: AnnouncerOptions) {
    this.#options = options;
  }

  /** See `Router.want`. */
  want(channel: RoutedChannel): void {
    this.wanted++;
    this.#change(channel, true);
    channel.interestVersion = this.#version + 1;
  }

  /** See `Router.unwant`. */
  unwant(channel: RoutedChannel): void {
    this.wanted--;
    this.#change(channel, false);
    channel.interestVersion = 0;
  }

  #change(channel: RoutedChannel, isWanted: boolean): void {
    if (this.#pending.size === 0) this.#options.turn.addSource(this);
    this.#pending.set(channel, isWanted);
  }

  /** Announces what has changed in this turn. */
  endTurn(): void {
    const pending = this.#pending;
    if (pending.size === 0) return;
    this.#pending = new Map();
    this.#version++;
    const added: RoutedChannel[] = [];
    const removed: RoutedChannel[] = [];
    for (const [channel, isWanted] of pending) (isWanted ? added : removed).push(channel);
    if (this.#filter !== null) this.#changeFilter(this.#filter, added, removed.length);
    this.#tellChange(added, removed);
    this.#fit();
  }

  #changeFilter(filter: BloomFilter, added: readonly RoutedChannel[], removed: number): void {
    for (const channel of added) {
      filter.add(hashChannel(channel.app.id, channel.name, filter.seed));
    }
    this.#stale += removed;
  }

  #tellChange(added: readonly RoutedChannel[], removed: readonly RoutedChannel[]): void {
    let named: Uint8Array[] | null = null;
    let hashed: Uint8Array[] | null = null;
    for (const { link, filter } of this.#audience.values()) {
      const frames = filter === null
        ? named ??= changeFrames(this.#version, added, removed, null)
        : hashed ??= changeFrames(this.#version, added, [], filter);
      for (const frame of frames) link.queue(frame);
    }
  }

  /** Goes over to a filter or back to a list, or makes the filter anew, where the number asks for it. */
  #fit(): void {
    const threshold = this.#options.bloomThreshold();
    if (this.#filter === null) {
      if (this.wanted > threshold) this.#renewFilter();
    } else if (this.wanted < threshold / 2) {
      this.#filter = null;
      for (const audience of this.#audience.values()) this.#tellAll(audience);
    } else if (this.#stale > this.#filterSize / 2 || this.wanted > this.#filterSize) {
      this.#renewFilter();
    }
  }

  #renewFilter(): void {
    // Room to grow into, so that the next one is far away.
    this.#filterSize = this.wanted * 2;
    this.#stale = 0;
    this.#filter = BloomFilter.for(this.#filterSize);
    // Begun before anybody is told, who waits for it.
    this.#fillFilter(this.#filter);
    for (const audience of this.#audience.values()) {
      if (audience.link.can("bloom")) this.#tellAll(audience);
    }
  }

  #filling: Promise<void> | null = null;

  /** Fills a new filter; what is added meanwhile goes in by itself. */
  #fillFilter(filter: BloomFilter): void {
    let done = () => {};
    this.#filling = new Promise((resolve) => done = resolve);
    spawn("s2s.filter", async () => {
      let count = 0;
      for (const channel of this.#options.host.wantedChannels()) {
        if (this.#filter !== filter) break;
        filter.add(hashChannel(channel.app.id, channel.name, filter.seed));
        if (++count % CHANNELS_PER_FRAME === 0) await nextTurn();
      }
      done();
    });
  }

  /** A link is up: its peer is told everything. */
  linkUp(link: AnnouncedLink): void {
    const audience: Audience = {
      link,
      ackedVersion: -1,
      keptVersion: -1,
      filter: null,
      round: 0,
      isSlow: false,
    };
    this.#audience.set(link, audience);
    this.#tellAll(audience);
  }

  /** A link is down. Returns up to which version its peer knows what is wanted, -1 for nothing. */
  linkDown(link: AnnouncedLink): number {
    const audience = this.#audience.get(link);
    if (audience === undefined) return -1;
    this.#audience.delete(link);
    this.#settleWaits();
    return Math.max(audience.ackedVersion, audience.keptVersion);
  }

  /** The link's peer has kept what it knew on the link before, up to `version`. */
  setKept(link: AnnouncedLink, version: number): void {
    const audience = this.#audience.get(link);
    if (audience !== undefined) audience.keptVersion = version;
  }

  #tellAll(audience: Audience): void {
    const { link } = audience;
    const round = ++audience.round;
    const filter = link.can("bloom") ? this.#filter : null;
    audience.filter = filter;
    // Changes of the channels from here on follow in the same stream, and are hashes for a filter.
    link.queue(beginFrame(filter));
    const isCurrent = () => audience.round === round && link.isOpen;
    spawn("s2s.announce", async () => {
      if (filter === null) await this.#sendList(link, isCurrent);
      else await this.#sendFilter(link, filter, isCurrent);
      if (isCurrent()) link.queue(endFrame(this.#version));
    });
  }

  async #sendList(link: AnnouncedLink, isCurrent: () => boolean): Promise<void> {
    let names: RoutedChannel[] = [];
    for (const channel of this.#options.host.wantedChannels()) {
      names.push(channel);
      if (names.length < CHANNELS_PER_FRAME) continue;
      link.queue(addFrame(names));
      names = [];
      await link.whenRoom();
      await nextTurn();
      if (!isCurrent()) return;
    }
    if (names.length > 0) link.queue(addFrame(names));
  }

  async #sendFilter(
    link: AnnouncedLink,
    filter: BloomFilter,
    isCurrent: () => boolean,
  ): Promise<void> {
    while (this.#filling !== null) {
      const filling = this.#filling;
      await filling;
      if (this.#filling === filling) this.#filling = null;
    }
    for (let at = 0; at < filter.bytes.length && isCurrent(); at += BITS_PER_FRAME) {
      link.queue(
        new FrameBuilder(FrameType.interestBits).u32(at)
          .bytes(filter.bytes.subarray(at, at + BITS_PER_FRAME)).finish(),
      );
      await link.whenRoom();
      await nextTurn();
    }
  }

  /**
   * The peer has acknowledged everything up to `version`. Where it has heard of something only now that
   * counted as known already, returns up to which version it did know. Null for a version that was
   * never given.
   */
  acknowledged(link: AnnouncedLink, version: number): number | undefined | null {
    if (version > this.#version) return null;
    const audience = this.#audience.get(link);
    if (audience === undefined) return undefined;
    const { ackedVersion, isSlow, keptVersion } = audience;
    audience.ackedVersion = Math.max(ackedVersion, version);
    audience.isSlow = false;
    this.#settleWaits();
    return ackedVersion < 0 || isSlow ? Math.max(ackedVersion, keptVersion) : undefined;
  }

  /** The links of those that `Router.unaware` names. */
  unaware({ interestVersion: version }: RoutedChannel): AnnouncedLink[] {
    return [...this.#audience.values()].flatMap((audience) =>
      isAware(audience, version) ? [] : [audience.link]
    );
  }

  /** See `Router.whenWanted`. */
  whenWanted({ interestVersion: version }: RoutedChannel): Promise<void> | null {
    if (this.#isKnown(version)) return null;
    const last = this.#waits.at(-1);
    if (last?.version === version) return last.promise;
    const wait = this.#waits.find((other) => other.version === version);
    if (wait !== undefined) return wait.promise;
    let resolve = () => {};
    const promise = new Promise<void>((done) => resolve = done);
    const timer = setTimeout(() => this.#giveUp(version), ACK_WAIT_MS);
    this.#waits.push({ version, promise, resolve, timer });
    return promise;
  }

  #isKnown(version: number): boolean {
    for (const audience of this.#audience.values()) if (!isAware(audience, version)) return false;
    return true;
  }

  #settleWaits(): void {
    if (this.#waits.length === 0) return;
    this.#waits = this.#waits.filter(({ version, resolve, timer }) => {
      if (!this.#isKnown(version)) return true;
      clearTimeout(timer);
      resolve();
      return false;
    });
  }

  #giveUp(version: number): void {
    if (!this.#waits.some((wait) => wait.version === version)) return;
    for (const audience of this.#audience.values()) {
      if (audience.ackedVersion >= version || audience.isSlow) continue;
      audience.isSlow = true;
      this.#options.onSlow(audience.link);
    }
    this.#settleWaits();
  }
}

function isAware({ ackedVersion, isSlow }: Audience, version: number): boolean {
  return ackedVersion >= version || isSlow;
}

function beginFrame(filter: BloomFilter | null): Uint8Array {
  const frame = new FrameBuilder(FrameType.interestBegin);
  if (filter === null) return frame.u8(InterestKind.list).finish();
  return frame.u8(InterestKind.filter).u53(filter.bits).u32(filter.seed).finish();
}

function addFrame(channels: readonly RoutedChannel[]): Uint8Array {
  const frame = new FrameBuilder(FrameType.interestAdd).u32(channels.length);
  addNames(frame, channels);
  return frame.finish();
}

function endFrame(version: number): Uint8Array {
  return new FrameBuilder(FrameType.interestEnd).u53(version).finish();
}

/** A change in frames of at most {@link CHANNELS_PER_FRAME} channels; the last one completes it. */
function changeFrames(
  version: number,
  added: readonly RoutedChannel[],
  removed: readonly RoutedChannel[],
  filter: BloomFilter | null,
): Uint8Array[] {
  const frames: Uint8Array[] = [];
  // Removals first: a channel that was forgotten and made anew in one turn is in both lists.
  for (let at = 0; at < removed.length; at += CHANNELS_PER_FRAME) {
    frames.push(changeFrame(version - 1, removed.slice(at, at + CHANNELS_PER_FRAME), [], filter));
  }
  let at = 0;
  do {
    const end = at + CHANNELS_PER_FRAME;
    const isLast = end >= added.length;
    frames.push(changeFrame(isLast ? version : version - 1, [], added.slice(at, end), filter));
    at = end;
  } while (at < added.length);
  return frames;
}

function changeFrame(
  version: number,
  removed: readonly RoutedChannel[],
  added: readonly RoutedChannel[],
  filter: BloomFilter | null,
): Uint8Array {
  const frame = new FrameBuilder(FrameType.interestChange).u53(version)
    .u8(filter === null ? InterestKind.list : InterestKind.filter)
    .u32(removed.length);
  addNames(frame, removed);
  frame.u32(added.length);
  if (filter === null) addNames(frame, added);
  else {
    for (const { app, name } of added) {
      const { a, b } = hashChannel(app.id, name, filter.seed);
      frame.u32(a).u32(b);
    }
  }
  return frame.finish();
}

function addNames(frame: FrameBuilder, channels: readonly RoutedChannel[]): void {
  let app = { id: "", bytes: new Uint8Array(0) };
  for (const channel of channels) {
    const { id } = channel.app;
    if (id !== app.id) app = { id, bytes: encodeUtf8(id) };
    frame.name(app.bytes).name(channel.nameBytes);
  }
}
