// EVENT lines made of MESSAGE lines by copying: a text without anything to escape is its own JSON, in quotes.

import { buffers, type PooledBuffer } from "../core/buffer_pool.ts";
import { copyText, NATIVE_COPY_BYTES, viewOf } from "../core/text_copy.ts";
import { CR, encodeUtf8, LF } from "./bytes.ts";
import { lineText, TIMESTAMP_DIGITS } from "./encoder.ts";

const MESSAGE_KEY = encodeUtf8(',"msg":');
const END = encodeUtf8("}\r\n");
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** Up to this length a loop is cheaper than a native copy. */
const SHORT_BYTES = 64;

/** Bytes that a JSON text cannot hold as they are: 1. Those of characters beyond ASCII can. */
const ESCAPED = new Uint8Array(256).fill(1, 0, 0x20);
ESCAPED[QUOTE] = ESCAPED[BACKSLASH] = 1;

/** What is the same in all lines of a stretch. */
export interface EventStretch {
  readonly channel: string;
  /** Of each line; see `messagePrefix`. */
  readonly prefixLength: number;
  readonly node: string;
  /** The publishers of all lines of a block, of which the first one here is `froms[firstLine]`. */
  readonly froms: readonly (string | undefined)[] | null;
  readonly firstLine: number;
}

/** The same as `eventLine` makes of each of these MESSAGE lines, sealed, with one ownership for the caller. */
export function eventLines(lines: Uint8Array, stretch: EventStretch): PooledBuffer {
  const { channel, prefixLength, node, froms, firstLine } = stretch;
  const head = encodeUtf8(`EVENT {"op":"msg","channel":${JSON.stringify(channel)},"ts":`);
  const middle = encodeUtf8(`,"node":${JSON.stringify(node)}`);
  const writer = new Writer(lines, lines.length + head.length + middle.length + 64);
  let line = firstLine;
  let lastFrom: string | undefined;
  let fromBytes = new Uint8Array(0);
  for (let at = 0; at < lines.length; line++) {
    writer.write(head);
    const digits = at + prefixLength;
    writer.copy(digits, digits + TIMESTAMP_DIGITS);
    writer.write(middle);
    const from = froms?.[line];
    if (from !== undefined) {
      if (from !== lastFrom) fromBytes = encodeUtf8(`,"from":${JSON.stringify(from)}`);
      lastFrom = from;
      writer.write(fromBytes);
    }
    writer.write(MESSAGE_KEY);
    const start = digits + TIMESTAMP_DIGITS + 1;
    let end = start;
    while (ESCAPED[lines[end]] === 0) end++;
    if (lines[end] === CR && lines[end + 1] === LF) {
      writer.quote(start, end);
    } else {
      const lf = lines.indexOf(LF, end);
      writer.write(encodeUtf8(JSON.stringify(lineText(lines, at, lf, prefixLength))));
      end = lf - 1;
    }
    writer.write(END);
    at = end + 2;
  }
  return writer.finish();
}

/** A buffer that grows, written to from `lines` and with other bytes. */
class Writer {
  #lines: Uint8Array;
  #source: DataView;
  #out: PooledBuffer;

  constructor(lines: Uint8Array, bytes: number) {
    this.#lines = lines;
    this.#source = viewOf(lines);
    this.#out = buffers.acquire(bytes);
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

  /** Copies `lines[start, end)`. */
  copy(start: number, end: number): void {
    const length = end - start;
    const out = this.#roomFor(length);
    if (length < NATIVE_COPY_BYTES) copyText(out.data, out.length, this.#source, start, end);
    else out.bytes.set(this.#lines.subarray(start, end), out.length);
    out.length += length;
  }

  /** Copies `lines[start, end)`, in quotes. */
  quote(start: number, end: number): void {
    const out = this.#roomFor(end - start + 2);
    out.bytes[out.length++] = QUOTE;
    this.copy(start, end);
    out.bytes[out.length++] = QUOTE;
  }

  finish(): PooledBuffer {
    return this.#out.seal();
  }

  #roomFor(bytes: number): PooledBuffer {
    const out = this.#out;
    if (out.length + bytes <= out.bytes.length) return out;
    return this.#out = buffers.grow(out, Math.max(2 * out.length, out.length + bytes));
  }
}
