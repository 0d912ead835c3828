// A connection's requests: from the parser's events to the commands, and their refusals.

import type { Logger } from "../core/logger.ts";
import type { Channel } from "../engine/channel.ts";
import type { HistoryQueue } from "../engine/ports/history_queue.ts";
import { CR, decodeUtf8, isUtf8 } from "../proto/bytes.ts";
import { type ErrorCode, WireError } from "../proto/errors.ts";
import { checkName } from "../proto/names.ts";
import { Parser, type ParserEvents } from "../proto/parser.ts";
import { isHttpLine, parseRequest, shorten } from "../proto/request.ts";
import { BegunCommands, type BegunOwner } from "./begun_commands.ts";
import type { Begun, CommandContext, Running } from "./commands/command.ts";
import { commands } from "./commands/table.ts";
import type { HeldReplies } from "./held_replies.ts";
import { type CloseReason, MAX_LINE_BYTES_BEFORE_AUTH, type ServCounters } from "./limits.ts";
import type { ServingTime } from "./serving_time.ts";
import type { Writer } from "./writer.ts";

/** New channels that get a message between two looks at the time. */
const NEW_AT_ONCE = 16;

/** The connection, as its requests see it. */
export interface RequestHost extends CommandContext {
  readonly writer: Writer;
  readonly counters: ServCounters;
  readonly logger: Logger;
  readonly servingTime: ServingTime;
  /** Whether so much waits for the client that its next request has to wait, too. */
  readonly isFull: boolean;
  /** Whether it will be closed as soon as what has been read is answered. */
  readonly isLeaving: boolean;
  /** Replies that wait for a commit. */
  readonly held: HeldReplies;
  /** Whether there are any. */
  readonly isHolding: boolean;
  replyError(code: ErrorCode, explanation: string): void;
  /** Something that the next request waited for is over. */
  wake(): void;
  /** It may be that everything that was asked for so far has been answered. */
  onAnswered(): void;
  /** Takes no more requests; closes once everything is written. */
  finish(reason: CloseReason): void;
  /** Closes at once. */
  close(reason: CloseReason): void;
}

/** Parses one connection's bytes and carries its requests out, in order. */
export class Requests implements ParserEvents, BegunOwner {
  /** The channel of the last `pub`: most connections publish to one. */
  lastChannel: Channel | null = null;

  #host: RequestHost;
  #parser: Parser;
  /** Made for the first command that is not ready at once. */
  #begun: BegunCommands | null = null;
  /** What waits until those have been replied to. */
  #afterBegun: (() => void) | null = null;
  /** A command under way that the next request waits for. */
  #isRunning = false;
  #isThrottled = false;
  /** Continues the command that waits for the replies before it. */
  #afterHeld: (() => void) | null = null;
  #publishTokens = 0;
  #tokensAtMs = 0;
  /** Counts messages to channels that were not known. */
  #newChannels = 0;
  /** When the read began whose first message is measured, monotonic ms; 0 where none is. */
  #measuredFromMs = 0;

  constructor(host: RequestHost) {
    this.#host = host;
    this.#parser = new Parser(this, this.#maxLineBytes());
  }

  /** Whether the next request has to wait for the last one. */
  get isBusy(): boolean {
    return this.#isRunning || this.#isThrottled;
  }

  /** Whether replies to commands that have begun are owed. */
  get isOwing(): boolean {
    return this.#begun !== null && !this.#begun.isEmpty;
  }

  /** Whether only what is allowed before authentication is served. */
  get needsAuth(): boolean {
    return this.#host.auth.required && !this.#host.session.authenticated;
  }

  /** Serves `chunk` from `at` on and returns how far it came; see {@link Parser.push}. */
  push(chunk: Uint8Array, at: number): number {
    return this.#parser.push(chunk, at);
  }

  /** Measures how long the next message takes, which came with a read at `readMs`. */
  measurePublish(readMs: number): void {
    this.#measuredFromMs = readMs;
    this.#host.engine.latency.beginPublish(readMs);
  }

  /** That read has been served. */
  endMeasuring(): void {
    if (this.#measuredFromMs === 0) return;
    this.#measuredFromMs = 0;
    this.#host.engine.latency.abandonPublish();
  }

  /** Ends the running {@link push} behind the present request. */
  halt(): void {
    this.#parser.halt();
  }

  /** The session is authenticated, and maybe in another application. */
  authenticated(): void {
    this.lastChannel = null;
    this.#parser.maxLineBytes = this.#maxLineBytes();
  }

  /** The limits of the server have changed. */
  limitsChanged(): void {
    this.#parser.maxLineBytes = this.#maxLineBytes();
  }

  #maxLineBytes(): number {
    const { maxLineBytes } = this.#host.limits;
    return this.needsAuth ? Math.min(maxLineBytes, MAX_LINE_BYTES_BEFORE_AUTH) : maxLineBytes;
  }

  onPub(
    bytes: Uint8Array,
    nameStart: number,
    nameEnd: number,
    end: number,
    utf8: boolean,
  ): void {
    if (this.isOwing) {
      const line = bytes.slice(nameStart, end);
      this.#waitForBegun(() => this.onPub(line, 0, nameEnd - nameStart, line.length, utf8));
      return;
    }
    const { counters, limits } = this.#host;
    counters.commands.pub++;
    try {
      if (this.needsAuth) throw needAuth("pub");
      this.#publish(bytes, nameStart, nameEnd, end, utf8);
    } catch (error) {
      this.#refuse(error);
    }
    if (limits.maxPublishesPerSecond > 0 && !this.#host.isLeaving) {
      this.#throttle(limits.maxPublishesPerSecond);
    }
    if (this.#host.isFull) this.halt();
  }

  /** Publishes a message that is good, now or when the store has room for it; throws a refusal. */
  #publish(
    bytes: Uint8Array,
    nameStart: number,
    nameEnd: number,
    end: number,
    utf8: boolean,
  ): void {
    const { engine, session, writer } = this.#host;
    let channel: Channel | null | undefined = this.lastChannel;
    if (
      channel === null || channel.forgotten || channel.app !== session.app ||
      !channel.isNamed(bytes, nameStart, nameEnd)
    ) {
      // The name of a channel that is known has been checked.
      channel = session.app.find(bytes, nameStart, nameEnd);
      if (channel === undefined) this.#checkNew(bytes, nameStart, nameEnd);
    }
    checkMessage(bytes, nameEnd + 1, end, utf8);
    const { queue } = engine;
    if (queue !== null && queue.admission !== "open") {
      if (queue.admission === "down") throw storageDown();
      this.#awaitRoom(queue, bytes.slice(nameStart, end), nameEnd - nameStart);
      return;
    }
    // Made for a message that is good, and not before.
    channel ??= engine.channelFor(session, bytes, nameStart, nameEnd);
    this.lastChannel = channel;
    engine.publish(session, channel, bytes, nameEnd + 1, end);
    if (queue !== null && queue.repliesAfterCommit) {
      this.#host.held.addPublished(engine.timestampDigits, queue.group);
    } else if (!this.#host.isHolding) {
      writer.queuePublished(engine.timestampDigits);
    } else {
      this.#host.held.addLine(`PUBLISHED ${decodeUtf8(engine.timestampDigits)}`);
    }
    if (this.#measuredFromMs !== 0) this.#measured(queue);
  }

  /** Of a channel that is not known, which takes many times as long as a message to one that is. */
  #checkNew(bytes: Uint8Array, nameStart: number, nameEnd: number): void {
    if (++this.#newChannels % NEW_AT_ONCE === 0 && this.#host.servingTime.isOver) this.halt();
    checkName(bytes, nameStart, nameEnd, "channel");
  }

  #measured(queue: HistoryQueue | null): void {
    const readMs = this.#measuredFromMs;
    this.#measuredFromMs = 0;
    const group = queue !== null && queue.repliesAfterCommit ? queue.group : null;
    this.#host.engine.latency.published(readMs, group);
  }

  /** So much waits for the store that this client is not read until there is room again. */
  #awaitRoom(queue: HistoryQueue, line: Uint8Array, nameEnd: number): void {
    this.#isRunning = true;
    this.halt();
    const retry = () => {
      // The client has gone, and with it what it did not get an answer to.
      if (this.#host.session.closed) return this.#done();
      if (queue.admission === "full") return queue.whenAdmitted(retry);
      try {
        this.#publish(line, 0, nameEnd, line.length, true);
      } catch (error) {
        this.#refuse(error);
      }
      this.#done();
    };
    queue.whenAdmitted(retry);
  }

  #done(): void {
    this.#isRunning = false;
    this.#host.wake();
  }

  /** No reply is held any more: what waited for them goes on. */
  onReleased(): void {
    const next = this.#afterHeld;
    if (next === null || this.#host.isHolding) return;
    this.#afterHeld = null;
    next();
  }

  onLine(bytes: Uint8Array, start: number, end: number, utf8: boolean): void {
    const line = decodeLine(bytes, start, end, utf8);
    if (this.isOwing && (this.#begun?.isFull || !overlaps(line))) {
      this.#waitForBegun(() => this.#run(line, utf8));
    } else if (!this.#host.isHolding) {
      this.#run(line, utf8);
    } else {
      // It comes after the messages before it, and sees what has become of them.
      this.#isRunning = true;
      this.halt();
      this.#afterHeld = () => {
        this.#isRunning = false;
        this.#run(line, utf8);
        this.#host.wake();
      };
    }
    if (this.#host.isFull || this.#host.servingTime.isOver) this.halt();
  }

  #run(line: string, utf8: boolean): void {
    const { command: name, words } = parseRequest(line);
    const command = commands.get(name);
    if (command === undefined) {
      this.#unknownCommand(line, name);
    } else {
      this.#host.counters.commands[name]++;
      try {
        if (this.needsAuth && !command.beforeAuth) throw needAuth(name);
        if (!utf8) throw new WireError("bad-argument", `${name}: the line is not valid UTF-8`);
        this.#goOn(command.run(this.#host, words));
      } catch (error) {
        // Behind the replies to those that have begun.
        const finish = () => {
          throw error;
        };
        this.#begin({ ready: null, finish });
      }
    }
  }

  #goOn(running: Running): void {
    if (running instanceof Promise) this.#awaitCommand(running);
    else if (running !== undefined) this.#begin(running);
  }

  #begin(begun: Begun): void {
    if (begun.ready !== null) this.#begun ??= new BegunCommands(this);
    if (this.#begun !== null) return this.#begun.add(begun);
    try {
      begun.finish();
    } catch (error) {
      this.#refuse(error);
    }
  }

  #waitForBegun(work: () => void): void {
    this.#isRunning = true;
    this.halt();
    this.#afterBegun = work;
  }

  onAllFinished(): void {
    const next = this.#afterBegun;
    this.#afterBegun = null;
    if (next !== null) {
      this.#isRunning = false;
      next();
      this.#host.wake();
    }
    this.#host.onAnswered();
  }

  onRefused(error: unknown): void {
    this.#refuse(error);
  }

  /** The connection has ended: nothing is answered any more. */
  clear(): void {
    this.#begun?.clear();
    this.#afterBegun = null;
  }

  onTooLong(): void {
    if (this.isOwing) return this.#waitForBegun(() => this.onTooLong());
    this.#host.replyError(
      "line-too-long",
      `a line may have ${this.#parser.maxLineBytes} bytes; this one was dropped`,
    );
    if (this.#host.isFull) this.halt();
  }

  #unknownCommand(line: string, name: string): void {
    const isHttp = isHttpLine(line);
    const hint = isHttp
      ? "this port does not speak HTTP; goodbye"
      : line.startsWith(" ")
      ? "a line begins with its command, without a space in front"
      : `"${shorten(name)}" is no command; help names them all`;
    this.#host.replyError("unknown-command", hint);
    if (isHttp) this.#host.finish("http");
  }

  #awaitCommand(running: Promise<void>): void {
    this.#isRunning = true;
    this.halt();
    running.catch((error) => this.#refuse(error)).finally(() => this.#done());
  }

  #refuse(error: unknown): void {
    if (error instanceof WireError) {
      this.#host.replyError(error.code, error.message);
      return;
    }
    this.#host.logger.error("a command failed", { error });
    this.#host.close("failed");
  }

  /** Publishing more than the allowed rate is paid for by a pause. */
  #throttle(perSecond: number): void {
    const nowMs = performance.now();
    const earned = (nowMs - this.#tokensAtMs) * perSecond / 1000;
    this.#publishTokens = Math.min(perSecond, this.#publishTokens + earned) - 1;
    this.#tokensAtMs = nowMs;
    if (this.#publishTokens >= 1) return;
    this.#isThrottled = true;
    this.halt();
    setTimeout(() => {
      this.#isThrottled = false;
      this.#host.wake();
    }, Math.max(1, (1 - this.#publishTokens) * 1000 / perSecond));
  }
}

function storageDown(): WireError {
  return new WireError(
    "storage-unavailable",
    "the store does not work, so nothing was published; try again in a while",
  );
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

function overlaps(line: string): boolean {
  const { command, words } = parseRequest(line);
  return commands.get(command)?.overlaps?.(words) ?? false;
}

/** A line as text; of one that is not text only as much as it takes to see its command. */
function decodeLine(bytes: Uint8Array, start: number, end: number, utf8: boolean): string {
  const line = bytes.subarray(start, end);
  return utf8 ? decodeUtf8(line) : String.fromCharCode(...line.subarray(0, 1024));
}
