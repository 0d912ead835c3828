// A connection of Deno as the stream that node:http serves.
//
// A listener of node:net is not taken, as in Deno 2.9.6 one that was refused a file ("too many open files")
// accepts nothing any more, and says nothing about it; and as its sockets read 64 KiB at a time, which
// node:http takes apart at once, though it can be a thousand requests.

import { Buffer } from "node:buffer";
import { Duplex } from "node:stream";
import { nextTurn } from "../core/turn.ts";

/** Less than most requests: node:http makes all that are in one read before the first can be answered. */
const READ_BYTES = 1024;
/** How long leaving may take, and with it what a client still sends is read, ms. */
const LINGER_MS = 2000;
const DISCARD_BYTES = 64 * 1024;

/** What a connection is read and written by. */
export type Wire = Pick<Deno.TcpConn, "read" | "write" | "close" | "closeWrite" | "setNoDelay">;

/** Bytes from and to a client; destroying it closes the connection. */
export class ConnStream extends Duplex {
  #conn: Wire;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timeoutMs = 0;
  #bytesWritten = 0;
  #isHeld = false;
  #isReading = false;
  /** The stream wants more, and is held. */
  #wantsMore = false;
  #isLeaving = false;

  constructor(conn: Wire) {
    super({ readableHighWaterMark: READ_BYTES });
    this.#conn = conn;
    // Head and body of an answer are two writes.
    conn.setNoDelay(true);
  }

  override _read(): void {
    if (this.#isHeld) this.#wantsMore = true;
    else this.#readOnce();
  }

  #readOnce(): void {
    const buffer = Buffer.alloc(READ_BYTES);
    this.#isReading = true;
    this.#conn.read(buffer).then((count) => {
      this.#isReading = false;
      if (this.#isLeaving) return this.#discard();
      this.#startTimer();
      this.push(count === null ? null : buffer.subarray(0, count));
    }, (error) => this.destroy(error));
  }

  /** Reads no more, but for what is being read, until {@linkcode goOn}. */
  hold(): void {
    this.#isHeld = true;
  }

  goOn(): void {
    this.#isHeld = false;
    if (!this.#wantsMore) return;
    this.#wantsMore = false;
    this.#readOnce();
  }

  /**
   * Writes `text` and closes, but reads for a moment what the client still sends, and throws it away: to
   * close with bytes unread is a reset, which can take the answer away from the client.
   */
  leave(text: string): void {
    this.hold();
    this.setTimeout(LINGER_MS);
    this.#isLeaving = true;
    this.once("timeout", () => this.destroy());
    this.end(text);
    void this.#discard();
  }

  async #discard(): Promise<void> {
    if (this.#isReading) return;
    this.#isReading = true;
    const buffer = new Uint8Array(DISCARD_BYTES);
    try {
      while (await this.#conn.read(buffer) !== null) await nextTurn();
    } catch {
      // A reset, or its time is up.
    }
    this.destroySoon();
  }

  override _write(bytes: Uint8Array, _encoding: string, done: (error?: Error) => void): void {
    this.#writeAll(bytes).then(() => done(), done);
  }

  async #writeAll(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const count = await this.#conn.write(bytes.subarray(at));
      at += count;
      this.#bytesWritten += count;
      this.#startTimer();
    }
  }

  /** As a socket of node:net has it: what the kernel has taken. */
  get bytesWritten(): number {
    return this.#bytesWritten;
  }

  override _final(done: (error?: Error) => void): void {
    this.#conn.closeWrite().then(() => done(), done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearTimeout(this.#timer);
    try {
      this.#conn.close();
    } catch {
      // The runtime has closed it, after an error on the socket.
    }
    done(error);
  }

  /** As a socket of node:net has it: emits `timeout` when nothing was read or written for so long; 0 never. */
  setTimeout(ms: number): this {
    this.#timeoutMs = ms;
    this.#startTimer();
    return this;
  }

  #startTimer(): void {
    if (this.#isLeaving) return;
    clearTimeout(this.#timer);
    if (this.#timeoutMs === 0 || this.destroyed) return;
    this.#timer = setTimeout(() => this.emit("timeout"), this.#timeoutMs);
  }

  /** As a socket of node:net has it: closes once everything is written. */
  destroySoon(): void {
    if (this.writableFinished) this.destroy();
    else this.end(() => this.destroy());
  }
}
