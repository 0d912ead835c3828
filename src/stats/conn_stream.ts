// A connection of Deno as the stream that node:http serves.
//
// A listener of node:net is not taken, as in Deno 2.9.6 one that was refused a file ("too many open files")
// accepts nothing any more, and says nothing about it; and as its sockets read 64 KiB at a time, which
// node:http takes apart at once, though it can be a thousand requests.

import { Buffer } from "node:buffer";
import { Duplex } from "node:stream";

/** Less than most requests: node:http makes all that are in one read before the first can be answered. */
const READ_BYTES = 1024;

/** Bytes from and to a client; destroying it closes the connection. */
export class ConnStream extends Duplex {
  #conn: Deno.TcpConn;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timeoutMs = 0;
  #bytesWritten = 0;

  constructor(conn: Deno.TcpConn) {
    super({ readableHighWaterMark: READ_BYTES });
    this.#conn = conn;
    // Head and body of an answer are two writes.
    conn.setNoDelay(true);
  }

  override _read(): void {
    const buffer = Buffer.alloc(READ_BYTES);
    this.#conn.read(buffer).then((count) => {
      this.#startTimer();
      this.push(count === null ? null : buffer.subarray(0, count));
    }, (error) => this.destroy(error));
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
