// Frames between nodes: u32 length (of what follows), u8 type, payload. Big-endian.

import { decodeUtf8, encodeUtf8, isUtf8 } from "../proto/bytes.ts";

/** Names of a frame's type. An unknown one below {@link IGNORABLE} ends the link; others are passed over. */
export const FrameType = {
  hello: 1,
  challenge: 2,
  auth: 3,
  welcome: 4,
  refuse: 5,
  resume: 10,
  pub: 11,
  ack: 12,
  clock: 13,
  heartbeat: 14,
  interestBegin: 15,
  interestAdd: 16,
  interestBits: 17,
  interestEnd: 18,
  interestChange: 19,
  interestAck: 20,
  goodbye: 21,
  ask: 22,
  answer: 23,
  /** Who does not know it does without. */
  known: 128,
} as const;

/** Frames of this type and above may be sent to a node that does not know them. */
export const IGNORABLE = 128;

/** Bytes in front of a frame's payload. */
export const HEADER_BYTES = 5;
/** Longest frame, type included: the longest line (16 MiB) and what stands around it. */
export const MAX_FRAME_BYTES = 16 * 2 ** 20 + 64 * 1024;
/** Longest frame of a node that has not proved itself. */
const MAX_HANDSHAKE_BYTES = 4096;

/** A peer has sent what no node of this protocol sends; the link is to be closed. */
export class FrameError extends Error {
  override readonly name = "FrameError";
}

/** Writes a frame's payload; grows as needed. */
export class FrameBuilder {
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  #length = HEADER_BYTES;

  constructor(type: number) {
    this.#bytes[4] = type;
  }

  /** Bytes written so far, header included. */
  get length(): number {
    return this.#length;
  }

  #room(count: number): void {
    const need = this.#length + count;
    if (need <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(need, this.#bytes.length * 2));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }

  u8(value: number): this {
    this.#room(1);
    this.#bytes[this.#length++] = value;
    return this;
  }

  u32(value: number): this {
    this.#room(4);
    this.#view.setUint32(this.#length, value);
    this.#length += 4;
    return this;
  }

  /** A whole number up to 2^53, in eight bytes. */
  u53(value: number): this {
    this.#room(8);
    putU53(this.#view, this.#length, value);
    this.#length += 8;
    return this;
  }

  f64(value: number): this {
    this.#room(8);
    this.#view.setFloat64(this.#length, value);
    this.#length += 8;
    return this;
  }

  bytes(value: Uint8Array): this {
    this.#room(value.length);
    this.#bytes.set(value, this.#length);
    this.#length += value.length;
    return this;
  }

  /** A text of at most 255 bytes, or its UTF-8, behind its length. */
  name(value: string | Uint8Array): this {
    const bytes = typeof value === "string" ? encodeUtf8(value) : value;
    return this.u8(bytes.length).bytes(bytes);
  }

  /** A JSON text behind its length. */
  json(value: unknown): this {
    const bytes = encodeUtf8(JSON.stringify(value));
    return this.u32(bytes.length).bytes(bytes);
  }

  /** The whole frame. */
  finish(): Uint8Array<ArrayBuffer> {
    this.#view.setUint32(0, this.#length - 4);
    return this.#bytes.slice(0, this.#length);
  }
}

/** Reads a frame's payload. Every method throws a {@link FrameError} where the payload is too short. */
export class PayloadReader {
  #bytes: Uint8Array;
  #view: DataView;
  #at: number;

  /** Reads `bytes[start, end)`. */
  constructor(bytes: Uint8Array, start: number, readonly end: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#at = start;
  }

  get left(): number {
    return this.end - this.#at;
  }

  #take(count: number): number {
    const at = this.#at;
    if (count > this.end - at) throw new FrameError("a frame ends too early");
    this.#at = at + count;
    return at;
  }

  u8(): number {
    return this.#bytes[this.#take(1)];
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4));
  }

  u53(): number {
    const at = this.#take(8);
    const high = this.#view.getUint32(at);
    if (high >= 2 ** 21) throw new FrameError("a number is beyond 2^53");
    return high * 2 ** 32 + this.#view.getUint32(at + 4);
  }

  f64(): number {
    return this.#view.getFloat64(this.#take(8));
  }

  /** The next bytes, as a view. */
  bytes(count: number): Uint8Array {
    const at = this.#take(count);
    return this.#bytes.subarray(at, at + count);
  }

  /** All that is left, as a view. */
  rest(): Uint8Array {
    return this.bytes(this.left);
  }

  name(): string {
    return utf8Name(this.nameBytes());
  }

  /** A name's bytes, as a view; not checked. */
  nameBytes(): Uint8Array {
    return this.bytes(this.u8());
  }

  json(): unknown {
    const bytes = this.bytes(this.u32());
    try {
      return JSON.parse(decodeUtf8(bytes));
    } catch (cause) {
      throw new FrameError("a frame's JSON cannot be read", { cause });
    }
  }
}

/** The text of a name's bytes. Throws a {@link FrameError} where they are none. */
export function utf8Name(bytes: Uint8Array): string {
  if (!isUtf8(bytes, 0, bytes.length)) throw new FrameError("a name is not valid UTF-8");
  return decodeUtf8(bytes);
}

/** Takes whole frames out of a stream of bytes. */
export class FrameReader {
  /** Longest frame that is taken. */
  maxBytes: number = MAX_HANDSHAKE_BYTES;

  #buffer = new Uint8Array(4096);
  #start = 0;
  #end = 0;

  /** Where the next bytes are to be read to: at least `minBytes`. */
  room(minBytes: number): Uint8Array<ArrayBuffer> {
    if (this.#start === this.#end) this.#start = this.#end = 0;
    if (this.#buffer.length - this.#end < minBytes) this.#makeRoom(minBytes);
    return this.#buffer.subarray(this.#end);
  }

  #makeRoom(minBytes: number): void {
    const kept = this.#end - this.#start;
    const need = kept + minBytes;
    // Twice what is there, at most: half a frame of a great length gets no great buffer.
    const target = need <= this.#buffer.length && this.#start >= kept
      ? this.#buffer
      : new Uint8Array(Math.max(need, kept * 2));
    target.set(this.#buffer.subarray(this.#start, this.#end));
    this.#buffer = target;
    this.#start = 0;
    this.#end = kept;
  }

  /** So many bytes have been read into {@link room}. */
  filled(count: number): void {
    this.#end += count;
  }

  /** Bytes that are read and not taken. */
  get pending(): number {
    return this.#end - this.#start;
  }

  /**
   * The next whole frame; its bytes are good until the next call of {@link room}. Undefined when it
   * has not come yet. Throws a {@link FrameError} for a length that cannot be.
   */
  next(): { type: number; payload: PayloadReader } | undefined {
    const have = this.#end - this.#start;
    if (have < 4) return undefined;
    const b = this.#buffer;
    const at = this.#start;
    const length = b[at] * 2 ** 24 + (b[at + 1] << 16 | b[at + 2] << 8 | b[at + 3]);
    if (length === 0) throw new FrameError("a frame of no bytes");
    if (length > this.maxBytes) {
      throw new FrameError(`a frame of ${length} bytes; at most ${this.maxBytes} are taken`);
    }
    if (have < 4 + length) return undefined;
    this.#start = at + 4 + length;
    return { type: b[at + 4], payload: new PayloadReader(b, at + HEADER_BYTES, this.#start) };
  }
}

/** Writes a whole number up to 2^53 in eight bytes. */
export function putU53(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 2 ** 32));
  view.setUint32(at + 4, value >>> 0);
}
