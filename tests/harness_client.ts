// A client of the line protocol for tests: real TCP, strict about every line's end.

import { AssertionError } from "node:assert/strict";
import { PATIENCE_MS, within } from "./harness_within.ts";

const LF = 0x0a;
const CR = 0x0d;
/** How much of a conversation a failure shows. */
const MAX_SHOWN_LINES = 100;
const MAX_SHOWN_CHARACTERS = 300;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * One connection to a server under test.
 *
 * Every wait has a deadline; a failure shows what was sent and received so far. A line that does not
 * end in CR LF, is not UTF-8, or is cut off by the end of the connection is a failure, too.
 */
export class Client implements Disposable {
  /** How long one line may take, ms. */
  patienceMs = PATIENCE_MS;

  #conn: Deno.Conn;
  #chunk: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  #at = 0;
  #isClosed = false;
  #conversation: string[] = [];

  private constructor(conn: Deno.Conn) {
    this.#conn = conn;
  }

  /** Connects to a port of this machine. */
  static async connect(port: number, hostname = "127.0.0.1"): Promise<Client> {
    return new Client(await Deno.connect({ hostname, port }));
  }

  /** Talks over a connection that was made otherwise, such as TLS. */
  static over(conn: Deno.Conn): Client {
    return new Client(conn);
  }

  /** The port of this end, by which the server's log names the client. */
  get localPort(): number {
    return (this.#conn.localAddr as Deno.NetAddr).port;
  }

  /** Writes all of `data`, a text without adding a line end. */
  async send(data: string | Uint8Array): Promise<void> {
    const bytes = typeof data === "string" ? encoder.encode(data) : data;
    const shown = new TextDecoder().decode(bytes.subarray(0, MAX_SHOWN_CHARACTERS));
    this.#record(`> ${JSON.stringify(shown)}${shown.length < bytes.length ? "…" : ""}`);
    const writing = (async () => {
      for (let rest = bytes; rest.length > 0;) {
        rest = rest.subarray(await this.#conn.write(rest));
      }
    })();
    await this.#within("the server to read", writing);
  }

  /** The next line, without its CR LF. */
  async line(): Promise<string> {
    const line = await this.lineOrEnd();
    if (line === null) this.fail("a line was expected, but the server closed the connection");
    return line;
  }

  /** The next line, without its CR LF; null where the server has closed. */
  async lineOrEnd(): Promise<string | null> {
    while (true) {
      const lf = this.#chunk.indexOf(LF, this.#at);
      if (lf >= 0) {
        const bytes = this.#chunk.subarray(this.#at, lf);
        this.#at = lf + 1;
        return this.#decode(bytes);
      }
      const left = this.#chunk.subarray(this.#at);
      const next = new Uint8Array(left.length + Math.max(16 * 1024, left.length));
      next.set(left);
      const count = await this.#read(next.subarray(left.length));
      if (count === null) {
        if (left.length > 0) {
          this.fail(`the server closed within a line: ${shownOf(new TextDecoder().decode(left))}`);
        }
        this.#record("< (end)");
        return null;
      }
      this.#chunk = next.subarray(0, left.length + count);
      this.#at = 0;
    }
  }

  /** The next line, which must be `expected` or match it; returns the match, its groups behind [0]. */
  async expect(expected: string | RegExp): Promise<readonly string[]> {
    const line = await this.line();
    if (typeof expected === "string") {
      if (line !== expected) this.fail(`the line should be ${JSON.stringify(expected)}`);
      return [line];
    }
    const match = expected.exec(line);
    if (match === null) this.fail(`the line should match ${expected}`);
    return match;
  }

  /** The next `count` lines. */
  async lines(count: number): Promise<string[]> {
    const lines: string[] = [];
    while (lines.length < count) lines.push(await this.line());
    return lines;
  }

  /** Sends one request and returns the next line. */
  async reply(request: string): Promise<string> {
    await this.send(`${request}\n`);
    return await this.line();
  }

  /** Sends one request, and the next line must be `expected` or match it; see {@link expect}. */
  async ask(request: string, expected: string | RegExp): Promise<readonly string[]> {
    await this.send(`${request}\n`);
    return await this.expect(expected);
  }

  /** Half-closes: says that nothing more will be sent. */
  async end(): Promise<void> {
    this.#record("> (end)");
    await this.#conn.closeWrite();
  }

  /** The server must close now, without a further line. */
  async eof(): Promise<void> {
    const line = await this.lineOrEnd();
    if (line !== null) this.fail("the connection should end here");
  }

  /** Every line that is left, up to the end of the connection. */
  async rest(): Promise<string[]> {
    const lines: string[] = [];
    for (let line = await this.lineOrEnd(); line !== null; line = await this.lineOrEnd()) {
      lines.push(line);
    }
    return lines;
  }

  /** Closes both directions at once. Idempotent. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#conn.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Fails with `message` and the conversation so far. */
  fail(message: string): never {
    const shown = this.#conversation.slice(-MAX_SHOWN_LINES).join("\n");
    throw new AssertionError({
      message: `${message}; so far:\n${shown}`,
      stackStartFn: this.fail,
    });
  }

  #decode(bytes: Uint8Array): string {
    const shown = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
    this.#record(`< ${shownOf(shown.replace(/\r$/, ""))}`);
    if (bytes.at(-1) !== CR) this.fail("the last line does not end in CR LF");
    try {
      return decoder.decode(bytes.subarray(0, -1));
    } catch {
      this.fail("the last line is not UTF-8");
    }
  }

  async #read(into: Uint8Array): Promise<number | null> {
    try {
      return await this.#within("a line or the end of the connection", this.#conn.read(into));
    } catch (error) {
      if (error instanceof Deno.errors.ConnectionReset) this.fail("the connection was reset");
      throw error;
    }
  }

  async #within<T>(what: string, promise: Promise<T>): Promise<T> {
    return await within(
      () => `${what}; so far:\n${this.#conversation.slice(-MAX_SHOWN_LINES).join("\n")}`,
      promise,
      // The operation under way would otherwise outlive the test.
      { ms: this.patienceMs, onLate: () => this.close() },
    );
  }

  #record(entry: string): void {
    this.#conversation.push(entry);
    if (this.#conversation.length > 2 * MAX_SHOWN_LINES) {
      this.#conversation.splice(0, MAX_SHOWN_LINES);
    }
  }
}

function shownOf(text: string): string {
  if (text.length <= MAX_SHOWN_CHARACTERS) return text;
  return `${text.slice(0, MAX_SHOWN_CHARACTERS)}… (${text.length} characters)`;
}

/** What an `ERROR` line of this code looks like: behind the code stands an explanation. */
export function errorLine(code: string): RegExp {
  return new RegExp(`^ERROR ${code} \\S.*\\S$`);
}
