// JSON of messages, put together by copying: a text without anything to escape is its own JSON, in quotes.

import { buffers, type PooledBuffer } from "../core/buffer_pool.ts";
import { copyText, viewOf } from "../core/text_copy.ts";
import { CR, decodeUtf8, encodeUtf8, LF } from "./bytes.ts";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** Up to this length a loop is cheaper than a native copy. */
const SHORT_BYTES = 64;

/** Bytes that a JSON text cannot hold as they are: 1. Those of characters beyond ASCII can. */
const ESCAPED = new Uint8Array(256).fill(1, 0, 0x20);
ESCAPED[QUOTE] = ESCAPED[BACKSLASH] = 1;

/** Text in a buffer that grows; parts of it are copied from MESSAGE lines. */
export class JsonText {
  #lines: Uint8Array = new Uint8Array(0);
  #source: DataView = viewOf(this.#lines);
  /** The publisher that was written last, and what was written. */
  #publisher: string | undefined;
  #publisherBytes = new Uint8Array(0);
  #out: PooledBuffer;

  /** Begins with room for so many bytes. */
  constructor(bytes: number) {
    this.#out = buffers.acquire(bytes);
  }

  /** Bytes written. */
  get length(): number {
    return this.#out.length;
  }

  /** From now on it is these MESSAGE lines that are copied from. */
  from(lines: Uint8Array): void {
    this.#lines = lines;
    this.#source = viewOf(lines);
  }

  write(bytes: Uint8Array): void {
    const out = this.#roomFor(bytes.length);
    // What is written here is short, mostly.
    if (bytes.length < SHORT_BYTES) {
      let at = out.length;
      for (let i = 0; i < bytes.length; i++) out.bytes[at++] = bytes[i];
    } else {
      out.bytes.set(bytes, out.length);
    }
    out.length += bytes.length;
  }

  /** Copies `[start, end)` of the lines. */
  copy(start: number, end: number): void {
    const out = this.#roomFor(end - start);
    out.length = copyText(out.data, out.length, this.#source, start, end);
  }

  /** Writes the member `from` of an object behind others; nothing where the publisher is not known. */
  publisher(name: string | undefined): void {
    if (name === undefined) return;
    if (name !== this.#publisher) {
      this.#publisher = name;
      this.#publisherBytes = encodeUtf8(`,"from":${JSON.stringify(name)}`);
    }
    this.write(this.#publisherBytes);
  }

  /** Writes the rest of a line from `start` on as a JSON string; returns where the next line begins. */
  string(start: number): number {
    const lines = this.#lines;
    let end = start;
    while (ESCAPED[lines[end]] === 0) end++;
    if (lines[end] === CR && lines[end + 1] === LF) {
      this.#quote(start, end);
      return end + 2;
    }
    const lf = lines.indexOf(LF, end);
    this.write(encodeUtf8(JSON.stringify(decodeUtf8(lines.subarray(start, lf - 1)))));
    return lf + 1;
  }

  /** Everything, sealed, with one ownership for the caller. Nothing may be written any more. */
  finish(): PooledBuffer {
    return this.#out.seal();
  }

  #quote(start: number, end: number): void {
    const out = this.#roomFor(end - start + 2);
    out.bytes[out.length++] = QUOTE;
    this.copy(start, end);
    out.bytes[out.length++] = QUOTE;
  }

  #roomFor(bytes: number): PooledBuffer {
    const out = this.#out;
    if (out.length + bytes <= out.bytes.length) return out;
    return this.#out = buffers.grow(out, Math.max(2 * out.length, out.length + bytes));
  }
}
