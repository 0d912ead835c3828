// One connection to a server as a client has it: requests, their replies in order, and what comes unasked.

import { hostAndPort } from "../../core/host_port.ts";
import { messageOf } from "../../core/message_of.ts";
import { pause } from "../../core/pause.ts";
import { spawn } from "../../core/spawn.ts";
import { writeAll } from "../../core/write_all.ts";
import { encodeUtf8 } from "../../proto/bytes.ts";
import { ClientError, ConnectionLost } from "./client_error.ts";
import { LineReader } from "./line_reader.ts";

/** Where a server is. */
export interface ServerAddress {
  readonly hostname: string;
  readonly port: number;
}

/** How to connect. */
export interface DialOptions {
  readonly tls: boolean;
  /** Certificates of authorities beside the system's, PEM. */
  readonly caCerts: readonly string[];
}

const CONNECT_TIMEOUT_MS = 5000;
/** Without a line for so long the server is asked whether it is there, ms. */
const PING_AFTER_MS = 20_000;
/** And so long it has for an answer, ms. */
const PONG_WITHIN_MS = 10_000;
const READ_BYTES = 64 * 1024;

/** First words of lines that answer no request. */
const UNASKED = new Set(["MESSAGE", "EVENT", "NOTE", "RECONNECT"]);
/** First words of lines that do. Whatever else comes is from a later version, and passed over. */
const REPLIES = new Set([
  "SUBSCRIBED",
  "ALREADY",
  "UNSUBSCRIBED",
  "NOT",
  "PUBLISHED",
  "HISTORY",
  "TOKEN",
  "AUTHENTICATED",
  "HELLO",
  "PONG",
  "HELP",
  "BYE",
  "ERROR",
]);
/** Codes of errors that no request is refused with: the last line before the server closes. */
const FAREWELLS = new Set(["slow-consumer", "idle-timeout", "shutting-down"]);

/** What a conversation tells its owner. */
export interface Listener {
  /** A line that answers nothing: MESSAGE, EVENT, NOTE or RECONNECT. */
  onUnasked(line: string): void;
  /** Everything that came in one read has been told; nothing is read until this resolves. */
  onRead?(): Promise<void>;
}

interface Waiting {
  /** Takes the reply; null when the connection ended first. */
  (reply: string | null): void;
}

/** A connection. */
export class Conversation {
  /** `host:port`, for messages. */
  readonly where: string;
  /** Rejects with a {@link ConnectionLost} when the connection has ended, whoever ended it. Never resolves. */
  readonly ended: Promise<never>;

  #conn: Deno.Conn;
  #waiting: Waiting[] = [];
  #firstWaiting = 0;
  #farewell = "";
  #heardMs = performance.now();
  /** The owner takes its time, which is not the server's silence. */
  #isBusy = false;
  #closed = new AbortController();
  #out: string[] = [];
  #flushing: Promise<void> | null = null;

  private constructor(address: ServerAddress, conn: Deno.Conn, listener: Listener) {
    this.where = hostAndPort(address.hostname, address.port);
    this.#conn = conn;
    this.ended = this.#read(listener).finally(() => this.close());
    // Who awaits nothing else is told by it; who does finds out there.
    this.ended.catch(() => {});
    spawn("client.keep_alive", () => this.#keepAlive());
  }

  /** Connects. Rejects with a {@link ConnectionLost}. */
  static async open(
    address: ServerAddress,
    options: DialOptions,
    listener: Listener,
  ): Promise<Conversation> {
    const { hostname, port } = address;
    const timeout = AbortSignal.timeout(CONNECT_TIMEOUT_MS);
    try {
      const tcp = await Deno.connect({ hostname, port, signal: timeout });
      tcp.setNoDelay(true);
      if (!options.tls) return new Conversation(address, tcp, listener);
      const tls = await Deno.startTls(tcp, { hostname, caCerts: [...options.caCerts] });
      await withDeadline(tls.handshake(), timeout, () => tls.close());
      return new Conversation(address, tls, listener);
    } catch (error) {
      const why = timeout.aborted ? `no answer within ${CONNECT_TIMEOUT_MS} ms` : messageOf(error);
      throw new ConnectionLost(`cannot connect to ${hostAndPort(hostname, port)}: ${why}`);
    }
  }

  /** Requests whose reply has not come. */
  get outstanding(): number {
    return this.#waiting.length - this.#firstWaiting;
  }

  /** Sends a request, a line without its end, and resolves to its reply; rejects when there will be none. */
  ask(request: string): Promise<string> {
    return new Promise((resolve, reject) => {
      this.send(request, (reply) => {
        if (reply !== null) resolve(reply);
        else reject(this.#lost());
      });
    });
  }

  /** Sends a request; `onReply` is called with its reply, or with null when the connection ends first. */
  send(request: string, onReply: (reply: string | null) => void): void {
    if (this.#closed.signal.aborted) return onReply(null);
    this.#waiting.push(onReply);
    this.#out.push(request, "\n");
    this.#flushing ??= spawn("client.flush", () => this.#flush()).done;
  }

  /** Resolves when what was sent is with the kernel, or the connection has ended. */
  async flushed(): Promise<void> {
    await this.#flushing;
  }

  /** Closes it for a reason, which whoever waits for something is told. */
  giveUp(why: string): void {
    this.#farewell ||= why;
    this.close();
  }

  /** Closes it. What waits for a reply gets none. Idempotent. */
  close(): void {
    if (this.#closed.signal.aborted) return;
    this.#closed.abort();
    try {
      this.#conn.close();
    } catch {
      // The runtime has closed it.
    }
    const waiting = this.#waiting.slice(this.#firstWaiting);
    this.#waiting = [];
    this.#firstWaiting = 0;
    for (const onReply of waiting) onReply(null);
  }

  #lost(why = "the server closed the connection"): ConnectionLost {
    return new ConnectionLost(`${this.where}: ${this.#farewell || why}`);
  }

  async #read(listener: Listener): Promise<never> {
    const buffer = new Uint8Array(READ_BYTES);
    const lines = new LineReader();
    try {
      for (;;) {
        const count = await this.#conn.read(buffer);
        if (count === null) break;
        this.#heardMs = performance.now();
        for (const line of lines.push(buffer.subarray(0, count))) this.#onLine(line, listener);
        this.#isBusy = true;
        await listener.onRead?.();
        this.#isBusy = false;
      }
    } catch (error) {
      throw error instanceof ClientError ? error : this.#lost(messageOf(error));
    }
    throw this.#lost();
  }

  #onLine(line: string, listener: Listener): void {
    const space = line.indexOf(" ");
    const word = space === -1 ? line : line.slice(0, space);
    if (UNASKED.has(word)) return listener.onUnasked(line);
    if (!REPLIES.has(word)) return;
    const code = word === "ERROR" ? line.split(" ", 2)[1] : "";
    if (FAREWELLS.has(code) || this.outstanding === 0) {
      if (word === "ERROR") this.#farewell = line;
      return;
    }
    const onReply = this.#waiting[this.#firstWaiting++];
    // Not shifted each time: that costs as much as there are waiting.
    if (this.#firstWaiting > 1000 && this.#firstWaiting * 2 > this.#waiting.length) {
      this.#waiting.splice(0, this.#firstWaiting);
      this.#firstWaiting = 0;
    }
    onReply(line);
  }

  async #flush(): Promise<void> {
    // With what else is sent in this turn.
    await Promise.resolve();
    try {
      while (this.#out.length > 0) {
        const bytes = encodeUtf8(this.#out.join(""));
        this.#out = [];
        await writeAll(this.#conn, bytes);
      }
    } catch {
      // The read says why.
      this.#out = [];
    } finally {
      this.#flushing = null;
    }
  }

  async #keepAlive(): Promise<void> {
    const { signal } = this.#closed;
    while (await pause(PING_AFTER_MS, signal)) {
      if (this.#isBusy || performance.now() - this.#heardMs < PING_AFTER_MS) continue;
      const askedMs = performance.now();
      this.send("ping", () => {});
      if (!await pause(PONG_WITHIN_MS, signal)) return;
      if (this.#isBusy || this.#heardMs >= askedMs) continue;
      this.giveUp(`no sign of life for ${(PING_AFTER_MS + PONG_WITHIN_MS) / 1000} s`);
    }
  }
}

async function withDeadline<T>(
  work: Promise<T>,
  deadline: AbortSignal,
  onLate: () => void,
): Promise<T> {
  deadline.addEventListener("abort", onLate);
  try {
    return await work;
  } finally {
    deadline.removeEventListener("abort", onLate);
  }
}
