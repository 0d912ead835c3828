// A publisher that sends as fast as it is let, and remembers what became of each message.

/** A message that was acknowledged. */
export interface Acked {
  /** Number of the message, counted by its publisher from 0. */
  n: number;
  ts: number;
}

const encoder = new TextEncoder();

/**
 * Publishes `<name>-<n>` to a channel, with a window of messages under way, until it is told to stop
 * or the connection ends. The message has `padding` further bytes behind a space.
 */
export class Publisher {
  readonly acked: Acked[] = [];
  /** Replies that were not PUBLISHED, with the number of their message. */
  readonly refused: { n: number; line: string }[] = [];
  /** Messages that were written to the socket, at least in part. */
  sent = 0;
  /** Resolves when the connection has ended, or everything sent was answered after {@link stop}. */
  readonly done: Promise<void>;

  #conn: Deno.TcpConn;
  #isStopping = false;
  #wake: (() => void) | null = null;
  #answered = 0;

  private constructor(
    conn: Deno.TcpConn,
    readonly channel: string,
    readonly name: string,
    readonly window: number,
    readonly padding: number,
  ) {
    this.#conn = conn;
    this.done = Promise.all([this.#write(), this.#read()]).then(() => conn.close());
  }

  static async start(
    port: number,
    channel: string,
    name: string,
    { window = 100, padding = 0 } = {},
  ): Promise<Publisher> {
    const conn = await Deno.connect({ hostname: "127.0.0.1", port });
    return new Publisher(conn, channel, name, window, padding);
  }

  /** Sends no more; {@link done} resolves when the rest is answered. */
  stop(): void {
    this.#isStopping = true;
    this.#wake?.();
  }

  get #room(): number {
    return this.window - (this.sent - this.#answered);
  }

  async #write(): Promise<void> {
    const tail = `${this.padding > 0 ? ` ${"x".repeat(this.padding)}` : ""}\n`;
    try {
      while (!this.#isStopping) {
        const room = this.#room;
        if (room <= 0) {
          await new Promise<void>((resolve) => this.#wake = resolve);
          continue;
        }
        let text = "";
        for (let i = 0; i < room; i++) {
          text += `pub ${this.channel} ${this.name}-${this.sent++}${tail}`;
        }
        for (let rest = encoder.encode(text); rest.length > 0;) {
          rest = rest.subarray(await this.#conn.write(rest));
        }
      }
      await this.#conn.closeWrite();
    } catch {
      // The server has gone; the reader sees it, too.
    }
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    const buffer = new Uint8Array(64 * 1024);
    let rest = "";
    try {
      for (let n = await this.#conn.read(buffer); n !== null; n = await this.#conn.read(buffer)) {
        const lines = (rest + decoder.decode(buffer.subarray(0, n), { stream: true })).split(
          "\r\n",
        );
        rest = lines.pop() ?? "";
        for (const line of lines) this.#onReply(line);
        this.#wake?.();
      }
    } catch {
      // Reset: the server was killed.
    }
    this.stop();
  }

  #onReply(line: string): void {
    const n = this.#answered++;
    const ts = /^PUBLISHED (\d{16})$/.exec(line)?.[1];
    if (ts === undefined) this.refused.push({ n, line });
    else this.acked.push({ n, ts: Number(ts) });
  }
}
