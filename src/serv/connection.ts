// One client connection: reads requests, carries them out in order, and knows when to close.

import { BufferPool } from "../core/buffer_pool.ts";
import type { PooledBuffer } from "../core/buffer_pool.ts";
import type { Logger } from "../core/logger.ts";
import type { TimingWheel, WheelEntry } from "../core/timing_wheel.ts";
import { nextTurn, type Turn } from "../core/turn.ts";
import type { Auth } from "../engine/auth.ts";
import type { Channel } from "../engine/channel.ts";
import type { Engine } from "../engine/engine.ts";
import type { Subscriber } from "../engine/ports.ts";
import type { Session } from "../engine/session.ts";
import { CR, decodeUtf8, equalBytes, isUtf8 } from "../proto/bytes.ts";
import { type ErrorCode, WireError } from "../proto/errors.ts";
import { checkName } from "../proto/names.ts";
import { Parser, type ParserEvents } from "../proto/parser.ts";
import { isHttpLine, parseRequest, shorten } from "../proto/request.ts";
import type { CommandContext } from "./commands/command.ts";
import { commands } from "./commands/table.ts";
import {
  type CloseReason,
  MAX_LINE_BYTES_BEFORE_AUTH,
  type ServCounters,
  type ServLimits,
} from "./limits.ts";
import { Writer, type WriterOwner } from "./writer.ts";

/** A silent connection waits for its next bytes in a buffer of this size. */
const FIRST_READ_BYTES = 512;
/** What a connection may keep while it waits, as large as its last reads were. */
const MAX_WAITING_READ_BYTES = 16 * 1024;
/** A read that fills its buffer is followed by one of this size. */
const MAX_READ_BYTES = 256 * 1024;
/** Above this, a connection that does not read its replies is not read from. */
const MAX_HIGH_WATER_BYTES = 1024 * 1024;
/** How fast a publisher is read where every subscriber of its channel is behind, bytes/ms. */
const ALL_BEHIND_BYTES_PER_MS = 4 * 1024;
/** The same where one subscriber is far behind: about 100 ms to catch up, then it is cut off. */
const ONE_BEHIND_BYTES_PER_MS = 32 * 1024;
/** What counts as behind, and as far behind, of `max_pending_bytes`. */
const BEHIND = 1 / 4;
const FAR_BEHIND = 1 / 2;
/** How often it is looked whether somebody has caught up, ms. */
const CATCH_UP_POLL_MS = 4;
/** A subscriber whose socket has taken nothing for so long has stopped, ms. */
const STOPPED_MS = 100;

/** How long a half-closed connection waits for the client to close, ms. */
const LINGER_MS = 1000;
/** How long before the idle timeout a person is told, ms. */
const NOTE_BEFORE_MS = 30_000;

const readBuffers = new BufferPool();

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
  /** The connection has ended. */
  onClosed(connection: Connection, reason: CloseReason): void;
}

/**
 * Bounds the bytes that are served in one turn over all connections: what many publishers send at
 * once is written to its readers between turns, and does not pile up on them within one.
 */
export class ReadBudget {
  #turnCount = -1;
  #bytes = 0;

  /** Takes `count` bytes of the turn's `2 * share`; false when they have to wait for the next turn. */
  take(count: number, turnCount: number, share: number): boolean {
    if (turnCount !== this.#turnCount) {
      this.#turnCount = turnCount;
      this.#bytes = 0;
    } else if (this.#bytes + count > 2 * share) {
      // A turn in which nothing is left to do does not end by itself: the waiting counts as one.
      this.#turnCount = -1;
      return false;
    }
    this.#bytes += count;
    return true;
  }
}

type State = "open" | "finishing" | "lingering" | "closed";

/** Serves one client, from accept to close. */
export class Connection
  implements Subscriber, WriterOwner, ParserEvents, CommandContext, WheelEntry {
  // The timing wheel's.
  prev: WheelEntry | null = null;
  next: WheelEntry | null = null;
  slot = -1;
  dueMs = 0;

  readonly session: Session;
  readonly connectedAtMs: number = performance.now();
  readonly writer: Writer;
  bytesIn = 0;

  #host: ConnectionHost;
  #conn: Deno.Conn;
  #parser: Parser;
  #state: State = "open";
  #reason: CloseReason = "client";
  /** The channel of the last `pub`: most connections publish to one. */
  #lastChannel: Channel | null = null;

  #inputEnded = false;
  /** A command under way that the next request waits for. */
  #busy = false;
  /** Until when publishing is held back, monotonic ms. */
  #throttledUntilMs = 0;
  #publishTokens = 0;
  #tokensAtMs = 0;
  /** Continues the read loop once nothing blocks it. */
  #resume: (() => void) | null = null;

  #lastReadMs: number = this.connectedAtMs;
  #noted = false;
  #lingerUntilMs = 0;
  #isShuttingDown = false;

  constructor(host: ConnectionHost, conn: Deno.Conn, address: string) {
    this.#host = host;
    this.#conn = conn;
    this.session = host.engine.openSession(this, address);
    this.writer = new Writer(conn, host.turn, this, host.limits.maxPendingBytes);
    this.#parser = new Parser(this, this.#maxLineBytes());
    this.#scheduleBy(this.#nextDueMs());
  }

  get engine(): Engine {
    return this.#host.engine;
  }

  get auth(): Auth {
    return this.#host.auth;
  }

  get limits(): ServLimits {
    return this.#host.limits;
  }

  get isClosed(): boolean {
    return this.#state === "closed";
  }

  // ---- reading -----------------------------------------------------------------------------

  /** Reads and serves until the connection ends. Never throws. */
  async run(): Promise<void> {
    const { turn } = this.#host;
    let size = FIRST_READ_BYTES;
    let turnCount = -1;
    try {
      while (!this.isClosed) {
        const buffer = readBuffers.take(size);
        const count = await this.#conn.read(buffer);
        if (count === null) break;
        this.#lastReadMs = performance.now();
        this.#noted = false;
        this.bytesIn += count;
        this.#host.counters.bytesIn += count;
        size = count === buffer.length
          ? this.#maxReadBytes()
          : Math.min(Math.max(count, FIRST_READ_BYTES), MAX_WAITING_READ_BYTES);
        // A flood is read in one microtask after the other; once a turn must do.
        if (turn.count === turnCount) await nextTurn();
        while (!this.#host.budget.take(count, turn.count, this.#maxReadBytes())) await nextTurn();
        turnCount = turn.count;
        if (this.#lastChannel !== null) await this.#holdBack(this.#lastChannel, count);
        await this.#serve(buffer.subarray(0, count));
        readBuffers.put(buffer);
        if (this.#isShuttingDown) this.#sayGoodbye();
      }
      this.#endOfInput();
    } catch (error) {
      // Reset by the peer, or closed by us while the read waited.
      this.#host.logger.debug("read failed: {error}", { error, address: this.session.address });
      this.close(this.#reason);
    }
  }

  /**
   * A publisher can be read faster than anybody can read what it publishes, which would only have
   * its subscribers cut off. Where all of a channel's subscribers are behind, it is read no faster
   * than one of them catches up, or than {@link ALL_BEHIND_BYTES_PER_MS}, whichever is more; where
   * one is far behind, no faster than {@link ONE_BEHIND_BYTES_PER_MS}, which is a short grace before
   * the cut. A subscriber that has stopped taking bytes holds nobody back.
   */
  async #holdBack(channel: Channel, bytes: number): Promise<void> {
    const startMs = performance.now();
    let nowMs = startMs;
    while (this.#state === "open") {
      const { least, most } = channel.backlogs(nowMs);
      if (most <= FAR_BEHIND && least <= BEHIND) return;
      const rate = least > BEHIND ? ALL_BEHIND_BYTES_PER_MS : ONE_BEHIND_BYTES_PER_MS;
      const leftMs = bytes / rate - (nowMs - startMs);
      if (leftMs <= 0) return;
      await new Promise((resolve) => setTimeout(resolve, Math.min(leftMs, CATCH_UP_POLL_MS)));
      nowMs = performance.now();
    }
  }

  /** Carries out the requests of one read, waiting where something blocks. */
  async #serve(chunk: Uint8Array): Promise<void> {
    let at = 0;
    while (this.#state === "open") {
      at = this.#parser.push(chunk, at);
      if (this.#isBlocked()) await this.#unblocked();
      else if (at === chunk.length) return;
      if (at === chunk.length) return;
    }
  }

  /** So little that a turn's messages, in whatever form, fit well into what may wait for a reader. */
  #maxReadBytes(): number {
    return Math.min(MAX_READ_BYTES, Math.max(FIRST_READ_BYTES, this.writer.maxPendingBytes >> 4));
  }

  #isBlocked(): boolean {
    return this.#state === "open" &&
      (this.#busy || this.#throttledUntilMs > 0 || this.writer.pending > this.#highWater());
  }

  async #unblocked(): Promise<void> {
    while (this.#isBlocked()) {
      await new Promise<void>((resolve) => this.#resume = resolve);
    }
    // We did not read: the client was not silent.
    this.#lastReadMs = performance.now();
  }

  #wake(): void {
    const resume = this.#resume;
    if (resume === null || this.#isBlocked()) return;
    this.#resume = null;
    resume();
  }

  #highWater(): number {
    return Math.min(MAX_HIGH_WATER_BYTES, this.writer.maxPendingBytes >> 2);
  }

  #endOfInput(): void {
    this.#inputEnded = true;
    if (this.#state === "lingering") {
      this.close(this.#reason);
    } else if (this.#state === "open" && this.session.replays.size === 0) {
      this.#finish("client");
    }
  }

  // ---- requests (called by the parser) -----------------------------------------------------

  onPub(
    bytes: Uint8Array,
    nameStart: number,
    nameEnd: number,
    end: number,
    utf8: boolean,
  ): void {
    const { engine, session, writer } = this;
    this.#host.counters.commands.pub++;
    try {
      if (this.#needsAuth()) throw needAuth("pub");
      let channel = this.#lastChannel;
      if (
        channel === null || channel.forgotten || channel.app !== session.app ||
        !equalBytes(channel.nameBytes, bytes, nameStart, nameEnd)
      ) {
        checkName(bytes, nameStart, nameEnd, "channel");
        checkMessage(bytes, nameEnd + 1, end, utf8);
        channel = this.#lastChannel = engine.channelFor(session, bytes, nameStart, nameEnd);
      } else {
        checkMessage(bytes, nameEnd + 1, end, utf8);
      }
      engine.publish(session, channel, bytes, nameEnd + 1, end);
      writer.queuePublished(engine.timestampDigits);
    } catch (error) {
      this.#refuse(error);
    }
    if (this.limits.maxPublishesPerSecond > 0) this.#throttle();
    if (writer.pending > this.#highWater()) this.#parser.halt();
  }

  onLine(bytes: Uint8Array, start: number, end: number, utf8: boolean): void {
    // A line that is not text is shown to nobody; its words are looked at as far as they are valid.
    const line = decodeLine(bytes, start, end, utf8);
    const { command: name, words } = parseRequest(line);
    const command = commands.get(name);
    if (command === undefined) {
      this.#unknownCommand(line, name);
      return;
    }
    this.#host.counters.commands[name]++;
    try {
      if (this.#needsAuth() && !command.beforeAuth) throw needAuth(name);
      if (!utf8) throw new WireError("bad-argument", `${name}: the line is not valid UTF-8`);
      const running = command.run(this, words);
      if (running !== undefined) this.#awaitCommand(running);
    } catch (error) {
      this.#refuse(error);
    }
    if (this.writer.pending > this.#highWater()) this.#parser.halt();
  }

  onTooLong(): void {
    this.replyError(
      "line-too-long",
      `a line may have ${this.#parser.maxLineBytes} bytes; this one was dropped`,
    );
    if (this.writer.pending > this.#highWater()) this.#parser.halt();
  }

  #unknownCommand(line: string, name: string): void {
    const isHttp = isHttpLine(line);
    const hint = isHttp
      ? "this port does not speak HTTP; goodbye"
      : line.startsWith(" ")
      ? "a line begins with its command, without a space in front"
      : `"${shorten(name)}" is no command; help names them all`;
    this.replyError("unknown-command", hint);
    if (isHttp) this.#finish("http");
    if (this.writer.pending > this.#highWater()) this.#parser.halt();
  }

  #awaitCommand(running: Promise<void>): void {
    this.#busy = true;
    this.#parser.halt();
    running.catch((error) => this.#refuse(error)).finally(() => {
      this.#busy = false;
      this.#wake();
    });
  }

  #refuse(error: unknown): void {
    if (error instanceof WireError) {
      this.replyError(error.code, error.message);
      return;
    }
    this.#host.logger.error("a command failed: {error}", { error });
    this.close("failed");
  }

  /** Publishing more than the allowed rate is paid for by a pause. */
  #throttle(): void {
    const perSecond = this.limits.maxPublishesPerSecond;
    const now = performance.now();
    const earned = (now - this.#tokensAtMs) * perSecond / 1000;
    this.#publishTokens = Math.min(perSecond, this.#publishTokens + earned) - 1;
    this.#tokensAtMs = now;
    if (this.#publishTokens >= 1) return;
    const waitMs = Math.max(1, (1 - this.#publishTokens) * 1000 / perSecond);
    this.#throttledUntilMs = now + waitMs;
    this.#parser.halt();
    setTimeout(() => {
      this.#throttledUntilMs = 0;
      this.#wake();
    }, waitMs);
  }

  #needsAuth(): boolean {
    return this.auth.required && !this.session.authenticated;
  }

  #maxLineBytes(): number {
    const { maxLineBytes } = this.limits;
    return this.#needsAuth() ? Math.min(maxLineBytes, MAX_LINE_BYTES_BEFORE_AUTH) : maxLineBytes;
  }

  // ---- what commands may do ----------------------------------------------------------------

  get maxReplyBytes(): number {
    return this.writer.maxPendingBytes >> 2;
  }

  reply(line: string): void {
    this.writer.queueLine(line);
  }

  replyError(code: ErrorCode, explanation: string): void {
    const { errors } = this.#host.counters;
    errors[code] = (errors[code] ?? 0) + 1;
    this.writer.queueLine(`ERROR ${code} ${explanation}`);
  }

  authenticated(): void {
    this.session.authenticated = true;
    this.#lastChannel = null;
    this.#parser.maxLineBytes = this.#maxLineBytes();
  }

  quit(): void {
    this.#finish("quit");
  }

  refused(command: string, reason: string): void {
    this.#host.logger.warn("{command} refused: {reason}", {
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
    return (this.writer.maxPendingBytes >> 1) - this.writer.pending;
  }

  backlog(nowMs: number): number {
    const { stalledSinceMs, pending, maxPendingBytes } = this.writer;
    if (stalledSinceMs > 0 && nowMs - stalledSinceMs > STOPPED_MS) return -1;
    return pending / maxPendingBytes;
  }

  cutOff(): void {
    this.#cutOff("slow-consumer", "messages that you still had to get are no longer kept");
  }

  // ---- writing (called by the writer) ------------------------------------------------------

  onWriteStarted(): void {
    this.#scheduleBy(performance.now() + this.limits.writeTimeoutMs);
  }

  onDrained(): void {
    if (this.session.replays.size > 0) {
      this.engine.pumpReplays(this.session);
      if (this.#inputEnded && this.session.replays.size === 0) this.#finish("client");
    }
    this.#wake();
  }

  onOverflow(): void {
    this.#cutOff(
      "slow-consumer",
      `more than ${this.writer.maxPendingBytes} bytes wait for you (max_pending_bytes)`,
    );
  }

  onWriteFailed(error: unknown): void {
    this.#host.logger.debug("write failed: {error}", { error, address: this.session.address });
    this.close(this.#reason);
  }

  onFinished(): void {
    if (this.#inputEnded) {
      this.close(this.#reason);
      return;
    }
    // Closing while the client still sends would reset the connection and could take our last
    // lines with it: half-close, and give the client a second to do its part.
    this.#state = "lingering";
    this.#lingerUntilMs = performance.now() + LINGER_MS;
    this.#scheduleBy(this.#lingerUntilMs);
    this.#conn.closeWrite().catch(() => this.close(this.#reason));
  }

  // ---- ending ------------------------------------------------------------------------------

  /** Takes no more requests; what is queued is written, then the door closes. */
  #finish(reason: CloseReason): void {
    if (this.#state !== "open") return;
    this.#state = "finishing";
    this.#reason = reason;
    this.#parser.halt();
    // What was published before this moment is still delivered.
    this.engine.closeBatches(this.session);
    this.engine.closeSession(this.session);
    this.writer.end();
    this.#wake();
  }

  /** Drops what is queued and ends with an `ERROR` line, as far as the socket takes it. */
  #cutOff(reason: CloseReason & ErrorCode, explanation: string): void {
    if (this.#state !== "open" && this.#state !== "finishing") return;
    this.#state = "finishing";
    this.#reason = reason;
    this.#parser.halt();
    const { counters } = this.#host;
    if (reason === "slow-consumer") counters.slowConsumers++;
    counters.errors[reason] = (counters.errors[reason] ?? 0) + 1;
    this.#host.logger.warn("cut off: {reason}, {explanation}", {
      reason,
      explanation,
      address: this.session.address,
    });
    this.writer.cut(`ERROR ${reason} ${explanation}`);
    // Not now: this may be in the middle of a channel's fan-out.
    this.#host.turn.addSink({ endTurn: () => this.engine.closeSession(this.session) });
    this.#wake();
  }

  /** Orderly stop of the server: answers what has been read, then says so and closes. */
  shutDown(): void {
    if (this.#state !== "open") return;
    // In the middle of a read's requests: the rest of them first.
    if (this.#resume !== null) this.#isShuttingDown = true;
    else this.#sayGoodbye();
  }

  #sayGoodbye(): void {
    this.replyError("shutting-down", "the server is stopping; come back soon");
    this.#finish("shutting-down");
  }

  /** Refuses a connection that was just accepted. */
  refuse(explanation: string): void {
    this.replyError("too-busy", explanation);
    this.#finish("too-busy");
  }

  /** Closes at once. Idempotent. */
  close(reason: CloseReason): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.engine.closeSession(this.session);
    this.#host.wheel.cancel(this);
    this.writer.close();
    this.#wake();
    try {
      this.#conn.close();
    } catch {
      // Already closed by the runtime, after an error on the socket.
    }
    this.#host.onClosed(this, reason);
  }

  // ---- deadlines (called by the timing wheel) ----------------------------------------------

  #scheduleBy(dueMs: number): void {
    if (dueMs === Infinity || (this.slot >= 0 && this.dueMs <= dueMs)) return;
    this.#host.wheel.schedule(this, dueMs);
  }

  onDue(nowMs: number): number {
    if (this.#state === "closed") return 0;
    const { limits, writer } = this;
    if (this.#state === "lingering" && nowMs >= this.#lingerUntilMs) {
      this.close(this.#reason);
      return 0;
    }
    if (writer.stalledSinceMs > 0 && nowMs - writer.stalledSinceMs >= limits.writeTimeoutMs) {
      // The socket takes nothing more, so there is no last line.
      if (this.#state === "open") this.#host.counters.slowConsumers++;
      this.close(this.#state === "open" ? "slow-consumer" : this.#reason);
      return 0;
    }
    if (this.#state === "open" && this.#isLateToAuthenticate(nowMs)) {
      this.replyError("need-auth", `not authenticated within auth_timeout`);
      this.#finish("auth-timeout");
    } else if (this.#state === "open") {
      this.#checkIdle(nowMs);
    }
    return this.#nextDueMs();
  }

  #isLateToAuthenticate(nowMs: number): boolean {
    return this.#needsAuth() && nowMs - this.connectedAtMs >= this.limits.authTimeoutMs;
  }

  /** When the client was last heard of: while we do not read it, that is now. */
  #heardAtMs(nowMs: number): number {
    return this.#resume === null && !this.#inputEnded ? this.#lastReadMs : nowMs;
  }

  #checkIdle(nowMs: number): void {
    const { sessionTimeoutMs } = this.limits;
    if (sessionTimeoutMs === 0) return;
    const idleMs = nowMs - this.#heardAtMs(nowMs);
    if (idleMs >= sessionTimeoutMs) {
      this.replyError("idle-timeout", `nothing came from you for ${seconds(sessionTimeoutMs)}`);
      this.#finish("idle-timeout");
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
    const { limits, writer } = this;
    let due = Infinity;
    if (this.#state === "lingering") due = this.#lingerUntilMs;
    if (writer.stalledSinceMs > 0) {
      due = Math.min(due, writer.stalledSinceMs + limits.writeTimeoutMs);
    }
    if (this.#state !== "open") return due;
    if (this.#needsAuth()) due = Math.min(due, this.connectedAtMs + limits.authTimeoutMs);
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

function needAuth(command: string): WireError {
  return new WireError("need-auth", `authenticate first (auth, auth_server) to use ${command}`);
}

function checkMessage(bytes: Uint8Array, start: number, end: number, utf8: boolean): void {
  if (start >= end) throw new WireError("bad-message", "the message is empty");
  if (!utf8 && !isUtf8(bytes, start, end)) {
    throw new WireError("bad-message", "the message is not valid UTF-8");
  }
  if (bytes[end - 1] === CR) throw new WireError("bad-message", "the message ends in CR");
}

function decodeLine(bytes: Uint8Array, start: number, end: number, utf8: boolean): string {
  const line = bytes.subarray(start, end);
  return utf8 ? decodeUtf8(line) : String.fromCharCode(...line.subarray(0, 64));
}
