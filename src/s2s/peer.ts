// What this node knows of one peer, beyond the life of a link: what it wants, and what is on its way.

import { PeerError, type RemoteBlock } from "../engine/ports/router.ts";
import { lineTimestamp, prefixLengthOf } from "../proto/encoder.ts";
import { decodeUtf8 } from "../proto/bytes.ts";
import { checkName } from "../proto/names.ts";
import { WireError } from "../proto/errors.ts";
import { InterestKind } from "./announcer.ts";
import { FrameBuilder, FrameError, FrameType, type PayloadReader, utf8Name } from "./frame.ts";
import type { Hello } from "./hello.ts";
import { FilteredInterest, FullInterest, type Interest, ListedInterest } from "./interest.ts";
import type { Link } from "./link.ts";
import { Outbox } from "./outbox.ts";
import { PeerClock } from "./peer_clock.ts";
import { type Answer, publishersOf, Questions } from "./questions.ts";

/** Flags of `resume`: the number is that of the message expected next; the interest is kept. */
const KNOWS_US = 1;
const KEPT_INTEREST = 2;

/** What a peer asks of the router. */
export interface PeerHost {
  /** How many more channels may be remembered by name. */
  readonly channelRoom: number;
  /** What the peer wants has changed. */
  onInterest(peer: Peer): void;
  /** The peer's list is longer than what is remembered: from now on it gets everything. */
  onTooMuchInterest(peer: Peer): void;
  /** A batch of the peer. */
  onBatch(peer: Peer, block: RemoteBlock): void;
  /** Our clock's last timestamp, microseconds. */
  readonly lastTs: number;
  /** Messages of the peer were lost on the way to us, by its own bounds. */
  onGap(peer: Peer, messages: number): void;
}

/** One other node. */
export class Peer {
  readonly outbox: Outbox;
  readonly questions: Questions = new Questions();
  /** The link; null while there is none. */
  link: Link | null = null;
  /** What it wants. Kept while a link is down, so that its messages are kept, too. */
  interest: Interest = new ListedInterest();
  /** Everything that it accepted up to this timestamp has arrived, microseconds. */
  watermark = 0;
  readonly clock: PeerClock = new PeerClock();
  /** Whether its timestamps are so far ahead that they do not move ours. */
  isAhead = false;
  /** It has left in order, and this was its last timestamp, microseconds; undefined while it has not. */
  leftTs: number | undefined = undefined;
  /** Ends the time for which what is on its way is kept. */
  forgetTimer: ReturnType<typeof setTimeout> | undefined = undefined;
  /** How often it was not waited for, because it did not acknowledge in time. */
  slowAcks = 0;
  /** Messages received from it. */
  received = 0;
  /** When it came up or went down, ms since the epoch. */
  sinceMs: number = Date.now();

  #host: PeerHost;
  /** Up to which version of our interest it knew it when the last link went down; -1 for nothing. */
  knownVersion = -1;

  #next: Interest | null = null;
  /** The application of the batch before. */
  #lastApp = "";
  #lastAppBytes = new Uint8Array(0);
  /** Whether it has told what it wants, and we have not forgotten. */
  #hasInterest = false;
  /** Number of the next message of this incarnation; -1 while nothing is known. */
  #expectedSeq = -1;

  constructor(public hello: Hello, maxBytes: number, host: PeerHost) {
    this.outbox = new Outbox(maxBytes);
    this.#host = host;
  }

  get id(): string {
    return this.hello.id;
  }

  /** A link is up. What was kept for an earlier incarnation has nobody left who waits for it. */
  linkUp(link: Link): void {
    if (link.hello.incarnation !== this.hello.incarnation) {
      this.leave();
      this.knownVersion = -1;
      this.#expectedSeq = -1;
      // What had arrived in its last life has arrived: the watermark stays.
    }
    this.hello = link.hello;
    this.link = link;
    this.#next = null;
    this.sinceMs = Date.now();
    const flags = (this.#expectedSeq < 0 ? 0 : KNOWS_US) | (this.#hasInterest ? KEPT_INTEREST : 0);
    link.queue(
      new FrameBuilder(FrameType.resume).u8(flags).u53(Math.max(0, this.#expectedSeq)).finish(),
    );
  }

  /** The link is down; `reason` ends the questions. */
  linkDown(reason: string): void {
    this.link = null;
    this.#next = null;
    this.sinceMs = Date.now();
    this.questions.failAll(reason);
  }

  /** It has left, or begins a new life: nobody waits for what was kept for it. */
  leave(): void {
    this.outbox.clear();
    this.forgetInterest();
  }

  /** It is taken to want nothing. */
  forgetInterest(): void {
    this.#hasInterest = false;
    this.interest = new ListedInterest();
    this.#host.onInterest(this);
  }

  /**
   * Asks it; `isLarge`, where its answer may be. Rejects with a {@link PeerError} where it cannot be asked,
   * or does not answer.
   */
  ask(question: unknown, isLarge = false): Promise<Answer> {
    const { link } = this;
    if (link === null) return Promise.reject(new PeerError(`${this.id} is not linked`));
    return this.questions.ask(question, (frame) => link.queue(frame), isLarge);
  }

  /**
   * `resume`: where the peer is in our messages. Returns whether it has kept all the time what it knew
   * of our interest.
   */
  processResume(link: Link, payload: PayloadReader): boolean {
    const flags = payload.u8();
    const seq = payload.u53();
    if ((flags & KNOWS_US) === 0) {
      // Nothing of ours has reached it, in this life: it is to have everything that is kept for it.
      this.outbox.resumeAll();
    } else if (!this.outbox.resume(seq)) {
      throw new FrameError(`it says to have ${seq} messages, more than were ever sent`);
    }
    link.resumed();
    return (flags & KEPT_INTEREST) !== 0;
  }

  /** `ack`: the peer has delivered everything before a number. */
  processAck(payload: PayloadReader): void {
    const seq = payload.u53();
    if (!this.outbox.acknowledge(seq)) {
      throw new FrameError(`it acknowledges ${seq} messages, more than were ever sent`);
    }
  }

  /** `clock`: everything up to a timestamp stands before it. */
  processClock(payload: PayloadReader): void {
    this.watermark = Math.max(this.watermark, payload.u53());
  }

  /** `pub`: a batch, unless it was here before. */
  processPub(link: Link, payload: PayloadReader): void {
    const bytes = payload.left;
    const seq = payload.u53();
    const count = payload.u32();
    const firstTs = payload.u53();
    const lastTs = payload.u53();
    const fromBytes = payload.u32();
    const app = this.#appOf(payload.nameBytes());
    const channel = payload.nameBytes();
    const froms = fromBytes === 0 ? null : readFroms(payload.bytes(fromBytes), count);
    const lines = payload.rest();
    checkBatch(channel, lines, count, firstTs, lastTs);
    if (this.#expectedSeq >= 0 && seq < this.#expectedSeq) return;
    if (this.#expectedSeq >= 0 && seq > this.#expectedSeq) {
      this.#host.onGap(this, seq - this.#expectedSeq);
    }
    this.#expectedSeq = seq + count;
    this.received += count;
    this.#host.onBatch(this, { app, channel, node: this.id, lines, count, firstTs, lastTs, froms });
    link.received(this.#expectedSeq, bytes);
  }

  /** Decoded once for batches of one application in a row. */
  #appOf(bytes: Uint8Array): string {
    if (!isEqual(bytes, this.#lastAppBytes)) {
      this.#lastApp = utf8Name(bytes);
      this.#lastAppBytes = bytes.slice();
    }
    return this.#lastApp;
  }

  /** Frames of the peer's interest. */
  processInterest(link: Link, type: number, payload: PayloadReader): void {
    if (type === FrameType.interestBegin) {
      this.#next = payload.u8() === InterestKind.list
        ? new ListedInterest()
        : new FilteredInterest(payload.u53(), payload.u32());
    } else if (type === FrameType.interestAdd) {
      if (this.#next === null) throw new FrameError("channels of an interest that has not begun");
      for (let left = payload.u32(); left > 0; left--) this.#add(this.#next, payload);
    } else if (type === FrameType.interestBits) {
      if (!(this.#next instanceof FilteredInterest)) throw new FrameError("bits of no filter");
      this.#next.setBytes(payload.u32(), payload.rest());
    } else if (type === FrameType.interestChange) {
      this.#processChange(link, payload);
    } else {
      this.#processEnd(link, payload);
    }
  }

  #add(interest: Interest, payload: PayloadReader): void {
    const app = payload.name();
    const channel = payload.name();
    interest.add({ app, channel });
    if (interest.size > this.#host.channelRoom) this.#wantEverything();
  }

  #wantEverything(): void {
    this.interest = new FullInterest();
    if (this.#next !== null) this.#next = this.interest;
    this.#host.onTooMuchInterest(this);
  }

  #processEnd(link: Link, payload: PayloadReader): void {
    const version = payload.u53();
    if (this.#next === null) throw new FrameError("the end of an interest that has not begun");
    this.interest = this.#next;
    this.#hasInterest = true;
    this.#next = null;
    this.#host.onInterest(this);
    this.#acknowledgeInterest(link, version);
  }

  /** Says how far our clock is, too: whatever is accepted later comes to the peer. */
  #acknowledgeInterest(link: Link, version: number): void {
    const { lastTs } = this.#host;
    link.queue(new FrameBuilder(FrameType.interestAck).u53(version).u53(lastTs).finish());
  }

  /** A change is in force at once, and is known in full once the whole interest is. */
  #processChange(link: Link, payload: PayloadReader): void {
    const version = payload.u53();
    const kind = payload.u8();
    // While a new kind is on its way, its changes mean nothing to the present one.
    const interests = new Set<Interest>();
    if (this.#next !== null) interests.add(this.#next);
    if (this.#next === null || kind === InterestKind.list) interests.add(this.interest);
    for (let left = payload.u32(); left > 0; left--) {
      const name = { app: payload.name(), channel: payload.name() };
      for (const interest of interests) interest.remove(name);
    }
    for (let left = payload.u32(); left > 0; left--) {
      if (kind === InterestKind.list) {
        const name = { app: payload.name(), channel: payload.name() };
        for (const interest of interests) interest.add(name);
        if (this.interest.size > 0 && this.#host.channelRoom < 0) this.#wantEverything();
      } else {
        const hash = { a: payload.u32() | 0, b: payload.u32() | 0 };
        for (const interest of interests) interest.addHash(hash);
      }
    }
    this.#host.onInterest(this);
    if (this.#next === null) this.#acknowledgeInterest(link, version);
  }
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function readFroms(bytes: Uint8Array, count: number): (string | undefined)[] {
  let froms: unknown;
  try {
    froms = JSON.parse(decodeUtf8(bytes));
  } catch (cause) {
    throw new FrameError("a batch whose publishers cannot be read", { cause });
  }
  return publishersOf(froms, count);
}

/** Checks what would otherwise go to clients as it is. */
function checkBatch(
  channel: Uint8Array,
  lines: Uint8Array,
  count: number,
  firstTs: number,
  lastTs: number,
): void {
  try {
    checkName(channel, 0, channel.length, "channel");
  } catch (error) {
    if (error instanceof WireError) throw new FrameError(`a batch: ${error.message}`);
    throw error;
  }
  const prefixLength = prefixLengthOf(channel);
  const isWhole = count > 0 && lines.length > prefixLength && lines[lines.length - 1] === 0x0a;
  if (!isWhole || firstTs > lastTs || lineTimestamp(lines, 0, prefixLength) !== firstTs) {
    throw new FrameError("a batch whose lines are not what it says");
  }
}
