// The reply to `his`, made of MESSAGE lines.

import { buffers, type PooledBuffer } from "../core/buffer_pool.ts";
import { encodeUtf8 } from "./bytes.ts";
import { TIMESTAMP_DIGITS } from "./encoder.ts";
import { JsonText } from "./json_text.ts";

const PARTIAL = encodeUtf8("PARTIAL ");
const CLOSE = encodeUtf8("]\r\n");
const COMMA = encodeUtf8(",");
const TIMESTAMP_KEY = encodeUtf8(',"ts":');
/** Room at the start for a message, and for all of them. */
const MESSAGE_BYTES = 160;
const MAX_FIRST_BYTES = 256 * 1024;

/** The line `HISTORY <channel> [PARTIAL] <json>`, message by message. */
export class HistoryLine {
  /** Messages in it. */
  count = 0;

  #text: JsonText;
  /** Where the array begins. */
  #start: number;
  #prefixLength: number;
  #head: Uint8Array;
  #node: string | null = null;
  #tail = new Uint8Array(0);

  /**
   * The channel, the length of the part of its lines before the timestamp (see `messagePrefix`), and about
   * how many messages may come.
   */
  constructor(channel: string, prefixLength: number, limit: number) {
    this.#head = encodeUtf8(`{"channel":${JSON.stringify(channel)},"msg":`);
    this.#prefixLength = prefixLength;
    this.#text = new JsonText(Math.min(256 + limit * MESSAGE_BYTES, MAX_FIRST_BYTES));
    this.#text.write(encodeUtf8(`HISTORY ${channel} [`));
    this.#start = this.#text.length - 1;
  }

  /** Bytes of the array so far. */
  get bytes(): number {
    return this.#text.length - this.#start;
  }

  /** The MESSAGE lines that {@link add} reads, and the node that accepted them. */
  from(lines: Uint8Array, node: string): void {
    this.#text.from(lines);
    if (node === this.#node) return;
    this.#node = node;
    this.#tail = encodeUtf8(`,"node":${JSON.stringify(node)}}`);
  }

  /** Adds the message whose line begins at `at`; returns where the next line begins. */
  add(at: number, from: string | undefined): number {
    const text = this.#text;
    if (this.count++ > 0) text.write(COMMA);
    text.write(this.#head);
    const digits = at + this.#prefixLength;
    const next = text.string(digits + TIMESTAMP_DIGITS + 1);
    text.write(TIMESTAMP_KEY);
    text.copy(digits, digits + TIMESTAMP_DIGITS);
    text.publisher(from);
    text.write(this.#tail);
    return next;
  }

  /** The whole line, sealed, with one ownership for the caller. Nothing may be added any more. */
  finish(partial: boolean): PooledBuffer {
    this.#text.write(CLOSE);
    const line = this.#text.finish();
    return partial ? withWord(line, this.#start, PARTIAL) : line;
  }
}

/** The same line with a word put in at `at`, for an ownership of that line. */
function withWord(line: PooledBuffer, at: number, word: Uint8Array): PooledBuffer {
  const whole = buffers.acquire(line.length + word.length);
  whole.bytes.set(line.view.subarray(0, at));
  whole.bytes.set(word, at);
  whole.bytes.set(line.view.subarray(at), at + word.length);
  whole.length = line.length + word.length;
  line.release();
  return whole.seal();
}
