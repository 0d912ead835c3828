// One connection to a peer: reads frames, writes what is queued, and notices when the other side is gone.

import { Buffer } from "node:buffer";
import { closeQuietly } from "../core/close_quietly.ts";
import { messageOf } from "../core/message_of.ts";
import { spawn } from "../core/spawn.ts";
import { nextTurn, type Turn, type TurnTask } from "../core/turn.ts";
import { FrameBuilder, FrameError, FrameType, IGNORABLE, type PayloadReader } from "./frame.ts";
import type { Greeted, Wire } from "./handshake.ts";
import type { Hello } from "./hello.ts";
import type { Outbox } from "./outbox.ts";

/** Bytes of one write. */
const WRITE_BYTES = 256 * 1024;
const MIN_READ_BYTES = 16 * 1024;
const MAX_READ_BYTES = 256 * 1024;
/** Frames beside messages that may wait; a peer that does not take them is cut off. */
const MAX_CONTROL_BYTES = 64 * 2 ** 20;
/** With more of them waiting, who has much to say waits. */
const FULL_CONTROL_BYTES = 1 * 2 ** 20;
/** Heartbeats in one timeout. */
const BEATS = 3;
/** They do not go more often for a peer that waits for less, ms. */
const MIN_BEAT_MS = 50;
/** They go so often however long a peer waits: they also say how far clocks are apart, ms. */
const MAX_BEAT_MS = 60_000;
/** Received messages are acknowledged after so many bytes, or so long, ms. */
const ACK_BYTES = 128 * 1024;
const ACK_MS = 50;

/** What a link tells its owner. */
export interface LinkOwner {
  /** A frame that is not the link's own business. Throws a {@link FrameError} for one that cannot be. */
  onFrame(link: Link, type: number, payload: PayloadReader): void;
  /** A heartbeat of the peer: its wall clock and its last timestamp, microseconds. */
  onHeartbeat(link: Link, wallMicros: number, lastTs: number): void;
  /** The link has ended; `reason` is for a person. Called once. */
  onDown(link: Link, reason: string): void;
}

/** What a link needs to know. */
export interface LinkOptions {
  readonly turn: Turn;
  readonly outbox: Outbox;
  /** A peer that sends no byte for so long is gone, ms. The peer is told, and beats accordingly. */
  readonly timeoutMs: () => number;
  /** Our clock's last timestamp, microseconds. */
  readonly lastTs: () => number;
}

/** A link that has been greeted. */
export class Link implements TurnTask {
  readonly hello: Hello;
  readonly isDialer: boolean;
  readonly sinceMs: number = Date.now();
  /** Round trip, ms; undefined until it is known. */
  rttMs: number | undefined = undefined;
  /** Bytes since the link is up. */
  bytesIn = 0;
  bytesOut = 0;
  /** When a write last made progress, monotonic ms. */
  progressMs: number = performance.now();

  #wire: Wire;
  #greeted: Greeted;
  #options: LinkOptions;
  #owner: LinkOwner;
  #control: Uint8Array[] = [];
  #controlBytes = 0;
  #onRoom: (() => void)[] = [];
  #onDown: (() => void)[] = [];
  #isOpen = true;
  /** Whether the peer has said where it is in our messages. */
  #isResumed = false;
  #inTurn = false;
  #isWriting = false;
  #onFlushed: (() => void)[] = [];
  #lastReadMs = performance.now();
  #lastBeatMs = performance.now();
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** The peer's last heartbeat, to be sent back, and when it came. */
  #echo = 0;
  #echoAtMs = 0;
  /** How long the peer waits for a sign of life, ms; it may be another time than ours. */
  #peerTimeoutMs = Infinity;
  #unackedBytes = 0;
  #ackSeq = -1;
  #ackTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(greeted: Greeted, options: LinkOptions, owner: LinkOwner) {
    this.#greeted = greeted;
    this.#wire = greeted.wire;
    this.hello = greeted.hello;
    this.isDialer = greeted.isDialer;
    this.#options = options;
    this.#owner = owner;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Whether the peer can do it, too. */
  can(capability: string): boolean {
    return this.hello.capabilities.includes(capability);
  }

  /** Begins to read and to write. */
  start(): void {
    this.#beat();
    spawn("s2s.read", () => this.#readLoop());
  }

  // ---- writing -----------------------------------------------------------------------------

  /** Queues a frame before all messages that wait. */
  queue(frame: Uint8Array): void {
    if (!this.#isOpen) return;
    this.#control.push(frame);
    this.#controlBytes += frame.length;
    if (this.#controlBytes > MAX_CONTROL_BYTES) {
      this.close("it does not take what is sent to it");
      return;
    }
    this.wake();
  }

  /** Resolves when there is room for more frames, or the link is down. */
  whenRoom(): Promise<void> {
    if (!this.#isOpen || this.#controlBytes < FULL_CONTROL_BYTES) return Promise.resolve();
    return new Promise((resolve) => this.#onRoom.push(resolve));
  }

  /** Something is to be written at the end of this turn. */
  wake(): void {
    if (this.#inTurn || !this.#isOpen) return;
    this.#inTurn = true;
    this.#options.turn.addCarrier(this);
  }

  endTurn(): void {
    this.#inTurn = false;
    if (this.#isResumed) this.#options.outbox.addClock(this.#options.lastTs(), false);
    if (!this.#isWriting && this.#isOpen) spawn("s2s.write", () => this.#write());
  }

  /** The peer has said where it is: messages may flow. */
  resumed(): void {
    this.#isResumed = true;
    this.#options.outbox.addClock(this.#options.lastTs(), true);
    this.wake();
  }

  /** Resolves when the link is down. */
  whenDown(): Promise<void> {
    return this.#isOpen ? new Promise((resolve) => this.#onDown.push(resolve)) : Promise.resolve();
  }

  /** Resolves when everything that is queued now has been written, or the link is down. */
  flushed(): Promise<void> {
    if (!this.#isOpen) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onFlushed.push(resolve);
      this.wake();
    });
  }

  /** Writes all that waits; begins at once, so that a message goes before the replies of its turn. */
  async #write(): Promise<void> {
    this.#isWriting = true;
    try {
      for (let bytes = this.#takeNext(); bytes !== undefined; bytes = this.#takeNext()) {
        while (bytes.length > 0) {
          const count = await this.#wire.write(bytes);
          if (!this.#isOpen) return;
          this.bytesOut += count;
          this.progressMs = performance.now();
          bytes = bytes.subarray(count);
        }
      }
      this.#isWriting = false;
      for (const done of this.#onFlushed.splice(0)) done();
    } catch (error) {
      this.close(`writing failed: ${messageOf(error)}`);
    }
  }

  #takeNext(): Uint8Array | undefined {
    const { outbox } = this.#options;
    // Frames overtake messages, but between frames only.
    if (this.#control.length > 0 && (!this.#isResumed || outbox.isAtFrameEnd)) {
      const frames = this.#control;
      this.#control = [];
      this.#controlBytes = 0;
      for (const go of this.#onRoom.splice(0)) go();
      return frames.length === 1 ? frames[0] : Buffer.concat(frames);
    }
    return this.#isResumed ? outbox.take(WRITE_BYTES) : undefined;
  }

  // ---- reading -----------------------------------------------------------------------------

  async #readLoop(): Promise<void> {
    const { reader } = this.#greeted;
    const { turn } = this.#options;
    let readBytes = MIN_READ_BYTES;
    try {
      this.#takeFrames();
      while (this.#isOpen) {
        const room = reader.room(readBytes);
        const askedTurn = turn.count;
        const count = await this.#wire.read(room);
        // Reads that are done at once would never let the turn end; after one that had to wait it has.
        if (turn.count === askedTurn) await nextTurn();
        if (!this.#isOpen) return;
        if (count === null) return this.close("it closed the connection");
        this.#lastReadMs = performance.now();
        this.bytesIn += count;
        reader.filled(count);
        if (count === room.length) readBytes = Math.min(MAX_READ_BYTES, readBytes * 4);
        this.#takeFrames();
      }
    } catch (error) {
      if (error instanceof FrameError) this.close(`it sent nonsense: ${error.message}`, true);
      else this.close(messageOf(error));
    }
  }

  /** Whether it was closed for what the peer sent. */
  sentNonsense = false;

  #takeFrames(): void {
    const { reader } = this.#greeted;
    while (this.#isOpen) {
      const frame = reader.next();
      if (frame === undefined) return;
      const { type, payload } = frame;
      if (type === FrameType.heartbeat) this.#processHeartbeat(payload);
      else if (type < IGNORABLE || type === FrameType.known) {
        this.#owner.onFrame(this, type, payload);
      }
    }
  }

  /** The peer's messages before `seq` have been delivered; `bytes` came with them. */
  received(seq: number, bytes: number): void {
    this.#ackSeq = seq;
    this.#unackedBytes += bytes;
    if (this.#unackedBytes >= ACK_BYTES) this.#acknowledge();
    else this.#ackTimer ??= setTimeout(() => this.#acknowledge(), ACK_MS);
  }

  #acknowledge(): void {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = undefined;
    this.#unackedBytes = 0;
    this.queue(new FrameBuilder(FrameType.ack).u53(this.#ackSeq).finish());
  }

  // ---- signs of life -------------------------------------------------------------------------

  #beat(): void {
    if (!this.#isOpen) return;
    const nowMs = performance.now();
    const timeoutMs = this.#options.timeoutMs();
    const intervalMs = timeoutMs / BEATS;
    // After a freeze of our own the peer's bytes wait in the socket: read first, then judge.
    const isLate = nowMs - this.#lastBeatMs > 2 * intervalMs;
    this.#lastBeatMs = nowMs;
    if (isLate) this.#lastReadMs = Math.max(this.#lastReadMs, nowMs - timeoutMs + intervalMs);
    if (nowMs - this.#lastReadMs >= timeoutMs) {
      this.close(`silent for ${Math.round((nowMs - this.#lastReadMs) / 100) / 10} s`);
      return;
    }
    this.#sendHeartbeat(nowMs);
    if (this.#isResumed) this.#options.outbox.addClock(this.#options.lastTs(), true);
    const beatMs = Math.max(MIN_BEAT_MS, this.#peerTimeoutMs / BEATS);
    this.#timer = setTimeout(() => this.#beat(), Math.min(intervalMs, beatMs, MAX_BEAT_MS));
  }

  #sendHeartbeat(nowMs: number): void {
    const heldMs = this.#echo === 0 ? 0 : nowMs - this.#echoAtMs;
    this.queue(
      new FrameBuilder(FrameType.heartbeat)
        .f64(nowMs).f64(this.#echo).f64(heldMs)
        .u53(Date.now() * 1000).u53(this.#options.lastTs())
        .u53(this.#options.timeoutMs()).finish(),
    );
  }

  #processHeartbeat(payload: PayloadReader): void {
    const nowMs = performance.now();
    const isFirst = this.#echo === 0;
    this.#echo = payload.f64();
    this.#echoAtMs = nowMs;
    // So that the round trip is known at once.
    if (isFirst) this.#sendHeartbeat(nowMs);
    const echoed = payload.f64();
    const heldMs = payload.f64();
    if (echoed > 0 && Number.isFinite(heldMs)) {
      this.rttMs = Math.max(0, nowMs - echoed - heldMs);
    }
    this.#owner.onHeartbeat(this, payload.u53(), payload.u53());
    // Earlier versions do not say.
    if (payload.left > 0) this.#hearTimeout(payload.u53());
  }

  #hearTimeout(timeoutMs: number): void {
    const isShorter = timeoutMs < this.#peerTimeoutMs;
    this.#peerTimeoutMs = timeoutMs;
    if (!isShorter || timeoutMs >= this.#options.timeoutMs()) return;
    // What is set for the next heartbeat may be too late for it.
    clearTimeout(this.#timer);
    this.#beat();
  }

  /** Ends the link. Idempotent. */
  close(reason: string, sentNonsense = false): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.sentNonsense = sentNonsense;
    clearTimeout(this.#timer);
    clearTimeout(this.#ackTimer);
    this.#control = [];
    for (const waiting of [this.#onFlushed, this.#onRoom, this.#onDown]) {
      for (const done of waiting.splice(0)) done();
    }
    closeQuietly(this.#wire);
    this.#owner.onDown(this, reason);
  }
}
