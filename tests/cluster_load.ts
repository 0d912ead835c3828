// Connections of a fault run that publish and subscribe, and log whatever they send and get.

import { pause } from "../src/core/pause.ts";
import { Outcome, PublisherLog, type Resumption, SubscriberLog } from "./cluster_log.ts";

/** A publisher writes in such steps, ms. */
const STEP_MS = 20;
/** What gathers while a publisher has to wait: so much of its rate, ms. */
const MAX_BURST_MS = 250;
/** What a publisher sends ahead of the answers, at most. */
const MAX_UNANSWERED = 5000;
/** A message has about so many bytes, so that a batch of them is as long as real ones. */
const PADDING = "x".repeat(60);
/** A channel's name is this letter and its number. */
const CHANNEL = "c";

const LF = 0x0a;
const CR = 0x0d;
const SPACE = 0x20;
const DOT = 0x2e;
const ZERO = 0x30;

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const MESSAGE = encoder.encode(`MESSAGE ${CHANNEL}`);
const PUBLISHED = encoder.encode("PUBLISHED ");

/** Where a node takes clients. */
export interface Door {
  readonly hostname: string;
  readonly port: number;
}

/** The names of so many channels. */
export function channelNames(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${CHANNEL}${i}`);
}

/** Which publisher and message a text is of; null where it is none of ours. */
export function readMessage(text: string): { publisher: number; n: number } | null {
  const match = /^(\d+)\.(\d+) x+$/.exec(text);
  return match === null ? null : { publisher: Number(match[1]), n: Number(match[2]) };
}

type OnLine = (bytes: Uint8Array, start: number, end: number) => void;

/** Calls `onLine` for each line without its CR LF, until the connection ends, in whatever way. */
async function readLines(conn: Deno.TcpConn, onRead: () => void, onLine: OnLine): Promise<void> {
  let buffer = new Uint8Array(256 * 1024);
  let length = 0;
  while (true) {
    if (length === buffer.length) {
      const grown = new Uint8Array(2 * length);
      grown.set(buffer);
      buffer = grown;
    }
    let count: number | null;
    try {
      count = await conn.read(buffer.subarray(length));
    } catch {
      // Reset, as by a node that was killed; or closed here.
      return;
    }
    if (count === null) return;
    onRead();
    length += count;
    let start = 0;
    for (let lf = buffer.subarray(0, length).indexOf(LF); lf >= 0;) {
      // A line without CR is shown as it is: with its last byte missing it is none that is expected.
      onLine(buffer, start, buffer[lf - 1] === CR ? lf - 1 : lf);
      start = lf + 1;
      lf = buffer.subarray(0, length).indexOf(LF, start);
    }
    buffer.copyWithin(0, start, length);
    length -= start;
  }
}

async function writeAll(conn: Deno.TcpConn, text: string): Promise<void> {
  for (let rest = encoder.encode(text); rest.length > 0;) {
    rest = rest.subarray(await conn.write(rest));
  }
}

function close(conn: Deno.TcpConn): void {
  try {
    conn.close();
  } catch {
    // It is.
  }
}

function startsAt(bytes: Uint8Array, at: number, end: number, head: Uint8Array): boolean {
  if (end - at < head.length) return false;
  for (let i = 0; i < head.length; i++) if (bytes[at + i] !== head[i]) return false;
  return true;
}

/** Reads numbers one after the other. */
class NumberReader {
  at = 0;
  bytes: Uint8Array = new Uint8Array(0);
  end = 0;

  /** The number that ends in front of `stop`; NaN where there is none. */
  next(stop: number): number {
    const from = this.at;
    let value = 0;
    for (; this.at < this.end && this.bytes[this.at] !== stop; this.at++) {
      const digit = this.bytes[this.at] - ZERO;
      if (digit < 0 || digit > 9) return NaN;
      value = value * 10 + digit;
    }
    return this.at++ === from ? NaN : value;
  }
}

/** What a publisher sends, and how fast. */
export interface PublisherOptions {
  readonly door: Door;
  readonly now: () => number;
  /** Messages a second. */
  readonly rate: number;
  /** The channel of the next message. */
  readonly nextChannel: () => number;
}

/** One connection that publishes, until it is stopped or lost. */
export class LoadPublisher {
  /** Resolves when the connection has ended. */
  readonly done: Promise<void>;

  readonly #log: PublisherLog;
  readonly #conn: Deno.TcpConn;
  readonly #options: PublisherOptions;
  /** Aborted when nothing more is to be sent. */
  readonly #over = new AbortController();
  #isStopped = false;
  #answered = 0;
  #nowMs = 0;
  #number = new NumberReader();

  private constructor(log: PublisherLog, conn: Deno.TcpConn, options: PublisherOptions) {
    this.#log = log;
    this.#conn = conn;
    this.#options = options;
    this.done = this.#run();
  }

  /** Connects, and begins a log; rejects where nobody serves. */
  static async connect(
    newLog: () => PublisherLog,
    options: PublisherOptions,
  ): Promise<LoadPublisher> {
    const conn = await Deno.connect({ ...options.door });
    return new LoadPublisher(newLog(), conn, options);
  }

  /** Sends no more; ends when everything is answered. */
  stop(): void {
    // Where it is lost already, it was not the test that ended it.
    if (!this.#over.signal.aborted) this.#isStopped = true;
    this.#over.abort();
  }

  async #run(): Promise<void> {
    const { now } = this.#options;
    const reading = readLines(
      this.#conn,
      () => this.#nowMs = now(),
      (bytes, start, end) => this.#onLine(bytes, start, end),
    ).then(() => {
      this.#log.endedMs = now();
      this.#over.abort();
    });
    try {
      await this.#write();
      // Every reply still comes.
      await this.#conn.closeWrite();
    } catch {
      // The connection is lost; the reader sees it, too.
    }
    await reading;
    this.#log.isComplete = this.#isStopped && this.#answered === this.#log.length;
    close(this.#conn);
  }

  async #write(): Promise<void> {
    const { now, rate, nextChannel } = this.#options;
    let lastMs = now();
    let due = 0;
    while (await pause(STEP_MS, this.#over.signal)) {
      const sentMs = now();
      // Who had to wait does not make up for all of it.
      due = Math.min(due + (sentMs - lastMs) * rate / 1000, MAX_BURST_MS * rate / 1000);
      lastMs = sentMs;
      const room = MAX_UNANSWERED - (this.#log.length - this.#answered);
      const count = Math.min(Math.floor(due), room);
      if (count <= 0) continue;
      due -= count;
      let text = "";
      for (let i = 0; i < count; i++) {
        const channel = nextChannel();
        const n = this.#log.send(channel, sentMs);
        text += `pub ${CHANNEL}${channel} ${this.#log.id}.${n} ${PADDING}\n`;
      }
      await writeAll(this.#conn, text);
    }
  }

  #onLine(bytes: Uint8Array, start: number, end: number): void {
    if (startsAt(bytes, start, end, PUBLISHED)) {
      const number = this.#number;
      number.bytes = bytes;
      number.at = start + PUBLISHED.length;
      number.end = end;
      this.#answer(number.next(SPACE));
      return;
    }
    const line = decoder.decode(bytes.subarray(start, end));
    // The farewell of a node that is told to end; it answers nothing.
    if (line.startsWith("ERROR shutting-down ")) return;
    this.#log.strays.push(line);
    if (!line.startsWith("ERROR ")) return;
    const isDelivered = /^ERROR storage-unavailable \d+ /.test(line);
    this.#answer(isDelivered ? Outcome.notStored : Outcome.refused);
  }

  #answer(outcome: number): void {
    if (this.#answered === this.#log.length) this.#log.strays.push("a reply to nothing");
    else this.#log.answer(this.#answered++, outcome, this.#nowMs);
  }
}

/** What a subscriber follows. */
export interface SubscriberOptions {
  readonly door: Door;
  readonly now: () => number;
  readonly channels: readonly number[];
  /** Its connection before, where it goes on with that. */
  readonly before?: LoadSubscriber;
}

/** One connection that subscribes, until it is closed or lost. */
export class LoadSubscriber {
  readonly log: SubscriberLog;
  /** By channel, the timestamp of the last message that came, on this connection or those before. */
  readonly lastTs: Map<number, number>;
  /** Resolves when the last SUBSCRIBED was read, or the connection has ended. */
  readonly subscribed: Promise<void>;
  /** Resolves when the connection has ended. */
  readonly done: Promise<void>;

  readonly #conn: Deno.TcpConn;
  readonly #options: SubscriberOptions;
  #onSubscribed = () => {};
  #nowMs = 0;
  #number = new NumberReader();
  #isClosed = false;
  #hasEnded = false;

  private constructor(log: SubscriberLog, conn: Deno.TcpConn, options: SubscriberOptions) {
    this.log = log;
    this.#conn = conn;
    this.#options = options;
    this.lastTs = new Map(options.before?.lastTs);
    const subscribed = Promise.withResolvers<void>();
    this.subscribed = subscribed.promise;
    this.#onSubscribed = subscribed.resolve;
    this.done = this.#run();
  }

  /** Connects, begins a log, and asks; rejects where nobody serves. */
  static async connect(
    newLog: () => SubscriberLog,
    options: SubscriberOptions,
  ): Promise<LoadSubscriber> {
    const conn = await Deno.connect({ ...options.door });
    const log = newLog();
    const { before, channels, now } = options;
    log.askedMs = now();
    if (before !== undefined) {
      const known = [...before.lastTs].filter(([channel]) => channels.includes(channel));
      const resumption: Resumption = {
        of: before.log.id,
        afterTs: new Map(known),
        partial: new Set(),
      };
      log.resumption = resumption;
    }
    return new LoadSubscriber(log, conn, options);
  }

  /** Closes it at once, where it has not ended. */
  close(): void {
    if (this.#hasEnded) return;
    this.#isClosed = true;
    this.log.end = "closed by the test";
    this.log.endedMs = this.#options.now();
    close(this.#conn);
  }

  async #run(): Promise<void> {
    const { channels, now } = this.#options;
    const afterTs = this.log.resumption?.afterTs;
    const requests = channels.map((channel) => {
      const ts = afterTs?.get(channel);
      return `sub ${CHANNEL}${channel}${ts === undefined ? "" : ` ${ts}`}\n`;
    });
    const reading = readLines(
      this.#conn,
      () => this.#nowMs = now(),
      (bytes, start, end) => this.#onLine(bytes, start, end),
    );
    await writeAll(this.#conn, requests.join("")).catch(() => {
      // Lost already; the reader sees it, too.
    });
    await reading;
    this.#hasEnded = true;
    if (!this.#isClosed) {
      if (this.log.end === "open") this.log.end = "lost";
      this.log.endedMs = now();
      close(this.#conn);
    }
    this.#onSubscribed();
  }

  #onLine(bytes: Uint8Array, start: number, end: number): void {
    // What was read and not yet looked at when it was closed does not count.
    if (this.#isClosed) return;
    if (startsAt(bytes, start, end, MESSAGE)) {
      const number = this.#number;
      number.bytes = bytes;
      number.at = start + MESSAGE.length;
      number.end = end;
      const channel = number.next(SPACE);
      const ts = number.next(SPACE);
      const publisher = number.next(DOT);
      const n = number.next(SPACE);
      if (!Number.isNaN(channel + ts + publisher + n)) {
        this.log.receipts.add(channel, publisher, n, ts, this.#nowMs);
        this.lastTs.set(channel, ts);
        return;
      }
    }
    this.#onOther(decoder.decode(bytes.subarray(start, end)));
  }

  #onOther(line: string): void {
    const pattern = new RegExp(`^SUBSCRIBED ${CHANNEL}(\\d+)( \\d+)?( PARTIAL)?$`);
    const [, name, , partial] = pattern.exec(line) ?? [];
    if (name !== undefined) {
      const channel = Number(name);
      this.log.sinceMs.set(channel, this.#nowMs);
      if (partial !== undefined) this.log.resumption?.partial.add(channel);
      if (this.log.sinceMs.size === this.#options.channels.length) this.#onSubscribed();
    } else if (line.startsWith("ERROR slow-consumer")) {
      this.log.end = "slow-consumer";
    } else if (!line.startsWith("ERROR shutting-down ")) {
      // But for the farewell of a node that is told to end, nothing else is expected.
      this.log.strays.push(line);
    }
  }
}
