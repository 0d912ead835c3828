// What connections read into: tiny buffers for those that only wait, larger ones from a pool.

import { BufferPool } from "../core/buffer_pool.ts";

/** Size of the buffer in which a quiet connection waits for its next bytes. */
export const TINY_BYTES = 64;
/**
 * Tiny buffers are cut from pieces of this size, as an ArrayBuffer costs some 300 bytes whatever its
 * length: not larger, since a piece is kept as long as one of its buffers is.
 */
const PIECE_BYTES = 4096;
/** Free tiny buffers that are kept; the rest goes to the garbage collector. */
const MAX_FREE_TINY = 4096;

/** Lends buffers to reads. One buffer serves one read at a time, however many share its piece. */
export class ReadBuffers {
  #pool = new BufferPool();
  #tiny: Uint8Array<ArrayBuffer>[] = [];
  #piece: ArrayBuffer = new ArrayBuffer(0);
  #taken = 0;

  /** A buffer of at least `bytes`. */
  take(bytes: number): Uint8Array<ArrayBuffer> {
    return bytes > TINY_BYTES ? this.#pool.take(bytes) : this.#tiny.pop() ?? this.#cut();
  }

  #cut(): Uint8Array<ArrayBuffer> {
    if (this.#taken + TINY_BYTES > this.#piece.byteLength) {
      this.#piece = new ArrayBuffer(PIECE_BYTES);
      this.#taken = 0;
    }
    const tiny = new Uint8Array(this.#piece, this.#taken, TINY_BYTES);
    this.#taken += TINY_BYTES;
    return tiny;
  }

  /** Takes one back whose read is done. */
  put(buffer: Uint8Array<ArrayBuffer>): void {
    if (buffer.length > TINY_BYTES) this.#pool.put(buffer);
    else if (this.#tiny.length < MAX_FREE_TINY) this.#tiny.push(buffer);
  }
}
