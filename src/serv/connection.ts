// One client connection: reads, hands the bytes to its requests, writes, and knows when to close.

import type { PooledBuffer } from "../core/buffer_pool.ts";
import type { Logger } from "../core/logger.ts";
import { crash, delist, enlist, type Enlisted, watch } from "../core/spawn.ts";
import type { TimingWheel, WheelEntry } from "../core/timing_wheel.ts";
import { isPollDue, nextTurn, type Turn } from "../core/turn.ts";
import type { Auth } from "../engine/auth.ts";
import type { Engine } from "../engine/engine.ts";
import type { Subscriber } from "../engine/ports/subscriber.ts";
import type { Session } from "../engine/session.ts";
import type { ErrorCode } from "../proto/errors.ts";
import type { Farewell } from "./farewell.ts";
import type { CloseReason, ServCounters, ServLimits } from "./limits.ts";
import { HeldReplies, type HeldRepliesOwner } from "./held_replies.ts";
import { holdBack, mustHoldBack, type ReadBudget } from "./pace.ts";
import { ReadBuffers, TINY_BYTES } from "./read_buffers.ts";
import { type RequestHost, Requests } from "./requests.ts";
import { closeQuietly } from "../core/close_quietly.ts";
import type { ServingTime } from "./serving_time.ts";
import { type Socket } from "./socket.ts";
import { Writer, type WriterOwner } from "./writer.ts";

/** The name under which connections are looked after. */
export const CONNECTION_TASK = "serv.connection";

/**
 * Most connections listen, and say little: they wait for their next bytes in a buffer of
 * {@link TINY_BYTES}. Where that was too small, this is the size, until it would have been enough
 * so many times in a row.
 */
const TALKER_BYTES = 512;
const QUIET_READS = 2;
/** What a connection may keep while it waits, as large as its last reads were. */
const MAX_WAITING_READ_BYTES = 16 * 1024;
/**
 * A read that fills its buffer is followed by one that is so many times larger, up to this size: not
 * at once, as large buffers for a hundred clients that send a little more than before cost more than
 * the reads they save.
 */
const READ_GROWTH = 4;
const MAX_READ_BYTES = 256 * 1024;
/** Nobody waits for the end of a connection, and when a crowd leaves there are thousands of them. */
const IS_LONG = true;
/** A read that took less found its bytes waiting, ms. */
const AT_ONCE_MS = 0.2;
/** Above this, a connection that does not read its replies is not read from. */
const MAX_HIGH_WATER_BYTES = 1024 * 1024;
/** A subscriber whose socket has taken nothing for so long has stopped, ms. */
const STOPPED_MS = 500;

/** How long a half-closed connection waits for the client to close, ms. */
const LINGER_MS = 1000;
/** How long before the idle timeout a person is told, ms. */
const NOTE_BEFORE_MS = 30_000;

const readBuffers = new ReadBuffers();

/** What connections share. */
export interface ConnectionHost {
  readonly engine: Engine;
  readonly auth: Auth;
  readonly turn: Turn;
  readonly wheel: TimingWheel;
  readonly limits: ServLimits;
  readonly counters: ServCounters;
  readonly logger: Logger;
  /** What all connections together may serve in one turn. */
  readonly budget: ReadBudget;
  readonly servingTime: ServingTime;
  /** The connection is cut off, because it does not read fast enough. */
  onCutOff(connection: Connection, explanation: string): void;
  /** The connection has ended. */
  onClosed(connection: Connection, reason: CloseReason, left: LeftBehind): void;
}

type State = "open" | "finishing" | "lingering" | "closed";

/** What a connection had in the moment of its end. */
export interface LeftBehind {
  /** Number of those that it followed. */
  readonly channels: number;
  /** Bytes that waited to be written. */
  readonly pending: number;
}

const NOTHING_LEFT: LeftBehind = { channels: 0, pending: 0 };

/** Connections are numbered from the start of the process on. */
let lastId = 0;

/** Serves one client, from accept to close. */
export class Connection
  implements Subscriber, WriterOwner, RequestHost, HeldRepliesOwner, WheelEntry, Enlisted {
  // The timing wheel's.
  prev: WheelEntry | null = null;
  next: WheelEntry | null = null;
  slot = -1;
  dueMs = 0;

  // The running tasks'.
  older: Enlisted | null = null;
  newer: Enlisted | null = null;
  readonly startedMs: number = Math.round(performance.now());

  readonly id: number = ++lastId;
  readonly session: Session;
  /** Bytes that came from the client. */
  bytesIn = 0;
  readonly writer: Writer;

  #host: ConnectionHost;
  #conn: Socket;
  #requests: Requests;
  /** Made for the first reply that has to wait. */
  #held: HeldReplies | null = null;
  #state: State = "open";
  #reason: CloseReason = "client";

  #inputEnded = false;
  /** Continues the read loop once nothing blocks it. */
  #resume: (() => void) | null = null;

  #lastReadMs: number = this.startedMs;
  /** How many reads in a row were done with a tiny buffer, or would have been: up to {@link QUIET_READS}. */
  #quietReads = QUIET_READS;
  #noted = false;
  /** Whether there are bytes read whose requests are not all carried out. */
  #isServing = false;
  #lingerUntilMs = 0;
  #cutAtMs = 0;
  /** What it is closed with as soon as everything that was read has been answered. */
  #farewell: Farewell | null = null;
  #left: LeftBehind = NOTHING_LEFT;

  constructor(
    host: ConnectionHost,
    conn: Socket,
    address: string,
    /** Files that it holds. */
    readonly files: number,
  ) {
    this.#host = host;
    this.#conn = conn;
    this.session = host.engine.openSession(this, address);
    this.writer = new Writer(conn, host.turn, this, host.limits.maxPendingBytes);
    this.#requests = new Requests(this);
    this.#scheduleBy(this.#nextDueMs());
  }

  get engine(): Engine {
    return this.#host.engine;
  }

  get auth(): Auth {
    return this.#host.auth;
  }

  get counters(): ServCounters {
    return this.#host.counters;
  }

  get logger(): Logger {
    return this.#host.logger;
  }

  get limits(): ServLimits {
    return this.#host.limits;
  }

  get servingTime(): ServingTime {
    return this.#host.servingTime;
  }

  get isClosed(): boolean {
    return this.#state === "closed";
  }

  /** When the client sent something last, monotonic ms. */
  get lastReadMs(): number {
    return this.#lastReadMs;
  }

  // ---- reading -----------------------------------------------------------------------------

  /** Begins to read and to serve, which goes on until the connection ends. */
  run(): void {
    enlist(CONNECTION_TASK, this);
    this.#read(TINY_BYTES);
  }

  #read(size: number): void {
    if (this.isClosed) return;
    if (this.#isTakingLeave) return watch(CONNECTION_TASK, this.#readAfterLeave(size));
    const { turn } = this.#host;
    const buffer = readBuffers.take(size);
    const askedTurn = turn.count;
    const askedMs = turn.nowMs;
    this.#conn.read(buffer).then(
      (count) => this.#onRead(buffer, count, askedTurn, askedMs),
      (error) => this.#onReadFailed(buffer, error),
    );
  }

  /**
   * Nothing more is served, and a client that goes on sending is slowed. What it has sent is read, and
   * dropped, once everything is written: closing over it would reset the connection.
   */
  get #isTakingLeave(): boolean {
    return this.#state === "finishing" || (this.#state === "open" && this.#farewell !== null);
  }

  async #readAfterLeave(size: number): Promise<void> {
    while (this.#isTakingLeave) await this.#woken();
    this.#read(size);
  }

  #onReadFailed(buffer: Uint8Array<ArrayBuffer>, error: unknown): void {
    readBuffers.put(buffer);
    // Reset by the peer, or closed by us while the read waited.
    this.#host.logger.debug("read failed", { error, address: this.session.address });
    this.#inTime(() => this.close(this.#reason), IS_LONG);
  }

  /** Does it now, or in line with others where this turn has had enough of requests. */
  #inTime(work: () => void, isLong: boolean): void {
    if (this.isClosed || !this.servingTime.isOver) return work();
    this.servingTime.line(() => this.#guard(work), isLong);
  }

  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      crash(CONNECTION_TASK, error);
    }
  }

  /** A read that was asked for in the turn `askedTurn`, at `askedMs`, is done. */
  #onRead(
    buffer: Uint8Array<ArrayBuffer>,
    count: number | null,
    askedTurn: number,
    askedMs: number,
  ): void {
    try {
      if (count === null) {
        readBuffers.put(buffer);
        return this.#inTime(() => this.#endOfInput(), IS_LONG);
      }
      const { turn, counters, budget } = this.#host;
      this.#lastReadMs = turn.nowMs;
      this.#noted = false;
      counters.bytesIn += count;
      this.bytesIn += count;
      this.#isServing = true;
      if (this.#lastReadMs >= this.engine.latency.publishDueMs) {
        this.#requests.measurePublish(this.#lastReadMs);
      }
      // A flood is read in one microtask after the other: the turn must end now and then, and the
      // sockets of others have to be looked at.
      const mustBreathe = turn.count === askedTurn && this.#mustBreathe(askedMs);
      if (mustBreathe || !budget.take(count, turn, this.#maxReadBytes())) {
        watch(CONNECTION_TASK, this.#serveNextTurn(buffer, count));
      } else {
        // A publisher's messages are bounded by their bytes: the more a turn has of them, the more each
        // channel hands out at once.
        if (this.#requests.lastChannel !== null) this.#servePaced(buffer, count);
        else this.#inTime(() => this.#servePaced(buffer, count), count > TINY_BYTES);
      }
    } catch (error) {
      crash(CONNECTION_TASK, error);
    }
  }

  /** Whether a read that began at `askedMs` was done at once, and a look at the sockets is due. */
  #mustBreathe(askedMs: number): boolean {
    const nowMs = performance.now();
    return nowMs - askedMs < AT_ONCE_MS && isPollDue(nowMs);
  }

  /** Serves what was read once the loop has gone round, and there is room for it in the turn. */
  async #serveNextTurn(buffer: Uint8Array<ArrayBuffer>, count: number): Promise<void> {
    const { budget, turn } = this.#host;
    do await nextTurn(); while (!budget.take(count, turn, this.#maxReadBytes()));
    this.#servePaced(buffer, count);
  }

  /** Serves what was read, no faster than others read what it publishes. */
  #servePaced(buffer: Uint8Array<ArrayBuffer>, count: number): void {
    const { engine } = this;
    const channel = this.#requests.lastChannel;
    if (channel === null || !engine.mayHaveReaders(channel) || !mustHoldBack(engine, channel)) {
      return this.#serve(buffer, count);
    }
    const held = holdBack(engine, channel, count, () => this.#state === "open");
    watch(CONNECTION_TASK, held.then(() => this.#serve(buffer, count)));
  }

  /** Serves what was read, and reads on. */
  #serve(buffer: Uint8Array<ArrayBuffer>, count: number): void {
    const chunk = buffer.subarray(0, count);
    const at = this.#state === "open" ? this.#requests.push(chunk, 0) : count;
    if (at === count && !this.#isBlocked()) return this.#served(buffer, count);
    const rest = this.#serveRest(chunk, at);
    watch(CONNECTION_TASK, rest.then(() => this.#served(buffer, count)));
  }

  #served(buffer: Uint8Array<ArrayBuffer>, count: number): void {
    const isFull = count === buffer.length;
    readBuffers.put(buffer);
    this.#requests.endMeasuring();
    this.#isServing = false;
    this.#quietReads = count < TINY_BYTES ? Math.min(this.#quietReads + 1, QUIET_READS) : 0;
    this.#endIfDone();
    if (isFull) return this.#read(Math.min(count * READ_GROWTH, this.#maxReadBytes()));
    const least = this.#quietReads < QUIET_READS ? TALKER_BYTES : TINY_BYTES;
    this.#read(Math.min(Math.max(count, least), MAX_WAITING_READ_BYTES));
  }

  /** Carries out the rest of one read's requests, from `from` on, waiting where something blocks. */
  async #serveRest(chunk: Uint8Array, from: number): Promise<void> {
    let at = from;
    while (this.#state === "open") {
      if (this.#isBlocked()) await this.#unblocked();
      if (at === chunk.length) return;
      // It has had its share of this turn, or what blocked it was over at once.
      await this.servingTime.wait();
      if (this.#state !== "open") return;
      at = this.#requests.push(chunk, at);
    }
  }

  /** So little that a turn's messages, in whatever form, fit well into what may wait for a reader. */
  #maxReadBytes(): number {
    return Math.min(
      MAX_READ_BYTES,
      Math.max(TALKER_BYTES, Math.floor(this.writer.maxPendingBytes / 16)),
    );
  }

  #isBlocked(): boolean {
    return this.#state === "open" && (this.#requests.isBusy || this.isFull);
  }

  async #unblocked(): Promise<void> {
    while (this.#isBlocked()) await this.#woken();
    // We did not read: the client was not silent.
    this.#lastReadMs = performance.now();
  }

  /** Resolves at the next {@link wake} that nothing blocks. */
  #woken(): Promise<void> {
    return new Promise((resolve) => this.#resume = resolve);
  }

  /** Continues reading, unless something still blocks it. */
  wake(): void {
    const resume = this.#resume;
    if (resume === null || this.#isBlocked()) return;
    this.#resume = null;
    resume();
  }

  /** Whether so much waits for the client that its next request has to wait, too. */
  get isFull(): boolean {
    const { pending, maxPendingBytes } = this.writer;
    const waiting = pending + (this.#held?.otherBytes ?? 0);
    return waiting > MAX_HIGH_WATER_BYTES || waiting > maxPendingBytes / 4;
  }

  #endOfInput(): void {
    this.#inputEnded = true;
    if (this.#state === "lingering") this.close(this.#reason);
    else this.#endIfDone();
  }

  /** Closes in order where that is due, and everything that was asked for has been answered. */
  #endIfDone(): void {
    if (this.#state !== "open" || this.#isServing || this.#isOwing) return;
    if (this.#farewell !== null) {
      const { code, explanation } = this.#farewell;
      this.replyError(code, explanation);
      this.finish(code);
    } else if (this.#inputEnded && this.session.replays.size === 0) this.finish("client");
  }

  /** Whether replies wait for something else than the client. */
  get #isOwing(): boolean {
    return this.isHolding || this.#requests.isOwing;
  }

  // ---- what commands may do ----------------------------------------------------------------

  get maxReplyBytes(): number {
    return Math.floor(this.writer.maxPendingBytes / 4);
  }

  get held(): HeldReplies {
    return this.#held ??= new HeldReplies(this);
  }

  get isHolding(): boolean {
    return this.#held !== null && !this.#held.isEmpty;
  }

  reply(line: string): void {
    if (this.#held === null) this.writer.queueLine(line);
    else this.#held.addLine(line);
  }

  replyLine(line: PooledBuffer): void {
    if (this.#held === null) this.writer.deliver(line);
    else this.#held.addBuffer(line);
  }

  replyError(code: ErrorCode, explanation: string): void {
    const { errors } = this.#host.counters;
    errors[code] = (errors[code] ?? 0) + 1;
    this.reply(`ERROR ${code} ${explanation}`);
  }

  /** Whether it will be closed as soon as what has been read is answered. */
  get isLeaving(): boolean {
    return this.#farewell !== null;
  }

  onReleased(): void {
    // It was us who kept it waiting.
    this.#lastReadMs = this.#host.turn.nowMs;
    this.#requests.onReleased();
    this.#endIfDone();
  }

  onAnswered(): void {
    this.#lastReadMs = this.#host.turn.nowMs;
    this.#endIfDone();
  }

  onNotStored(messages: number): void {
    const { errors } = this.#host.counters;
    errors["storage-unavailable"] = (errors["storage-unavailable"] ?? 0) + messages;
  }

  authenticated(): void {
    this.session.authenticated = true;
    this.#requests.authenticated();
  }

  quit(): void {
    this.finish("quit");
  }

  refused(command: string, reason: string): void {
    this.#host.logger.warn("refused", {
      command,
      reason,
      address: this.session.address,
    });
  }

  // ---- deliveries (called by the engine) ---------------------------------------------------

  deliver(lines: PooledBuffer): void {
    this.writer.deliver(lines);
  }

  replayRoom(): number {
    if (this.#state !== "open") return 0;
    return Math.floor(this.writer.maxPendingBytes / 2) - this.writer.pending;
  }

  backlog(nowMs: number): number {
    const { stalledSinceMs, pending, maxPendingBytes } = this.writer;
    if (stalledSinceMs > 0 && nowMs - stalledSinceMs > STOPPED_MS) return -1;
    return pending / maxPendingBytes;
  }

  measureDelivery(fromMs: number): void {
    this.writer.measure(this.engine.latency.delivery, fromMs);
  }

  caughtUp(): void {
    this.#endIfDone();
  }

  cutOff(): void {
    this.#cutOff("slow-consumer", "messages that you still had to get are no longer kept");
  }

  // ---- writing (called by the writer) ------------------------------------------------------

  onWriteStarted(): void {
    this.#scheduleBy(this.#host.turn.nowMs + this.limits.writeTimeoutMs);
  }

  onWrote(count: number): void {
    this.#host.counters.bytesOut += count;
  }

  onDrained(): void {
    if (this.session.replays.size > 0) this.engine.pumpReplays(this.session);
    this.wake();
  }

  onOverflow(): void {
    this.#cutOff(
      "slow-consumer",
      `more than ${this.writer.maxPendingBytes} bytes wait for you (max_pending_bytes)`,
    );
  }

  onWriteFailed(error: unknown): void {
    this.#host.logger.debug("write failed", { error, address: this.session.address });
    this.close(this.#reason);
  }

  onFinished(): void {
    // Closing while the client still sends would reset the connection and could take our last
    // lines with it: half-close, and give the client a second to do its part, where it has not yet.
    this.#state = "lingering";
    // Over TLS that has to wait until the last bytes have gone out.
    this.#lingerFor(this.limits.writeTimeoutMs);
    this.wake();
    const close = () => this.close(this.#reason);
    this.#conn.closeWrite().then(
      () => this.#inputEnded ? close() : this.#lingerFor(LINGER_MS),
      close,
    );
  }

  #lingerFor(ms: number): void {
    if (this.isClosed) return;
    this.#lingerUntilMs = performance.now() + ms;
    this.#scheduleBy(this.#lingerUntilMs);
  }

  // ---- ending ------------------------------------------------------------------------------

  /** Takes no more requests; what is queued is written, then the door closes. */
  finish(reason: CloseReason): void {
    if (this.#state !== "open") return;
    this.#state = "finishing";
    this.#reason = reason;
    this.#requests.halt();
    // What was published before this moment is still delivered.
    this.engine.closeBatches(this.session);
    this.#endSession();
    this.writer.end();
    this.wake();
  }

  /** Drops what is queued and ends with an `ERROR` line, as far as the socket takes it. */
  #cutOff(reason: CloseReason & ErrorCode, explanation: string): void {
    if (this.#state !== "open") return;
    this.#state = "finishing";
    this.#held?.clear();
    this.#requests.clear();
    this.#reason = reason;
    this.#requests.halt();
    const { counters } = this.#host;
    if (reason === "slow-consumer") counters.slowConsumers++;
    counters.errors[reason] = (counters.errors[reason] ?? 0) + 1;
    this.#cutAtMs = performance.now();
    this.#host.onCutOff(this, explanation);
    this.writer.cut(`ERROR ${reason} ${explanation}`);
    // Not now: this may be in the middle of a channel's fan-out.
    this.#host.turn.addSink({ endTurn: () => this.engine.closeSession(this.session) });
    this.wake();
  }

  /** Reads no more, answers what has been read, then says why and closes. */
  sayGoodbye(farewell: Farewell): void {
    this.#farewell ??= farewell;
    this.#endIfDone();
  }

  /** Tells the client that the server is about to leave, and when to come back, ms. */
  tellToReconnect(afterMs: number): void {
    this.writer.queueLine(`RECONNECT ${afterMs}`);
  }

  /** The limits of the server have changed. */
  limitsChanged(): void {
    if (this.#state === "closed") return;
    this.writer.maxPendingBytes = this.limits.maxPendingBytes;
    this.#requests.limitsChanged();
    this.#host.wheel.schedule(this, this.#nextDueMs());
    this.wake();
  }

  /** Refuses a connection that was just accepted. */
  refuse(explanation: string): void {
    this.replyError("too-busy", explanation);
    this.finish("too-busy");
  }

  /** Closes at once. Idempotent. */
  close(reason: CloseReason): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#endSession();
    this.#held?.clear();
    this.#requests.clear();
    this.#host.wheel.cancel(this);
    delist(CONNECTION_TASK, this);
    this.writer.close();
    this.wake();
    closeQuietly(this.#conn);
    this.#host.onClosed(this, reason, this.#left);
  }

  #endSession(): void {
    if (this.session.closed) return;
    this.#left = { channels: this.session.subscriptions.size, pending: this.writer.pending };
    this.engine.closeSession(this.session);
  }

  // ---- deadlines (called by the timing wheel) ----------------------------------------------

  #scheduleBy(dueMs: number): void {
    if (dueMs === Infinity || (this.slot >= 0 && this.dueMs <= dueMs)) return;
    this.#host.wheel.schedule(this, dueMs);
  }

  onDue(nowMs: number): number {
    if (this.#state === "closed") return 0;
    const { limits } = this;
    if (this.#state === "lingering" && nowMs >= this.#lingerUntilMs) {
      this.close(this.#reason);
      return 0;
    }
    if (nowMs >= this.#writeDueMs()) {
      if (this.#state !== "open") {
        // The socket takes nothing more: the last line is left out.
        this.close(this.#reason);
        return 0;
      }
      const timeout = seconds(limits.writeTimeoutMs);
      this.#cutOff("slow-consumer", `you took nothing for ${timeout} (write_timeout)`);
    } else if (this.#state === "open" && this.#isLateToAuthenticate(nowMs)) {
      this.replyError("need-auth", `not authenticated within auth_timeout`);
      this.finish("auth-timeout");
    } else if (this.#state === "open") {
      this.#checkIdle(nowMs);
    }
    return this.#nextDueMs();
  }

  /**
   * Until when the write under way has to make progress. One who is cut off gets the time anew: the
   * line in which the socket stopped can be finished if the client reads on.
   */
  #writeDueMs(): number {
    const { stalledSinceMs } = this.writer;
    if (stalledSinceMs === 0) return Infinity;
    return Math.max(stalledSinceMs, this.#cutAtMs) + this.limits.writeTimeoutMs;
  }

  #isLateToAuthenticate(nowMs: number): boolean {
    return this.#requests.needsAuth && nowMs - this.startedMs >= this.limits.authTimeoutMs;
  }

  /** When the client was last heard of: while we do not read it, or owe it a reply, that is now. */
  #heardAtMs(nowMs: number): number {
    const isOurTurn = this.#resume !== null || this.#inputEnded || this.#isOwing;
    return isOurTurn ? nowMs : this.#lastReadMs;
  }

  #checkIdle(nowMs: number): void {
    const { sessionTimeoutMs } = this.limits;
    if (sessionTimeoutMs === 0) return;
    const idleMs = nowMs - this.#heardAtMs(nowMs);
    if (idleMs >= sessionTimeoutMs) {
      this.replyError("idle-timeout", `nothing came from you for ${seconds(sessionTimeoutMs)}`);
      this.finish("idle-timeout");
    } else if (!this.#noted && idleMs >= noteAfterMs(sessionTimeoutMs)) {
      this.#noted = true;
      if (this.session.form === "json") return;
      const leftMs = sessionTimeoutMs - idleMs;
      this.reply(
        `NOTE idle for ${seconds(idleMs)}, closing in ${seconds(leftMs)}, ` +
          `press Enter to stay`,
      );
    }
  }

  #nextDueMs(): number {
    const { limits } = this;
    let due = this.#writeDueMs();
    if (this.#state === "lingering") due = Math.min(due, this.#lingerUntilMs);
    if (this.#state !== "open") return due;
    if (this.#requests.needsAuth) due = Math.min(due, this.startedMs + limits.authTimeoutMs);
    if (limits.sessionTimeoutMs > 0) {
      const heardMs = this.#heardAtMs(performance.now());
      const afterMs = this.#noted ? limits.sessionTimeoutMs : noteAfterMs(limits.sessionTimeoutMs);
      due = Math.min(due, heardMs + afterMs);
    }
    return due;
  }
}

function noteAfterMs(sessionTimeoutMs: number): number {
  return sessionTimeoutMs < 60_000 ? sessionTimeoutMs / 2 : sessionTimeoutMs - NOTE_BEFORE_MS;
}

function seconds(ms: number): string {
  return ms >= 10_000 ? `${Math.round(ms / 1000)}s` : `${Math.round(ms / 100) / 10}s`;
}
