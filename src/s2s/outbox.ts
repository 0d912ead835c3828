// What is on its way to one peer: numbered messages in frames, kept until the peer has acknowledged them.

import { encodeUtf8 } from "../proto/bytes.ts";
import type { OwnBatch } from "../engine/ports/router.ts";
import { FrameType, HEADER_BYTES, putU53 } from "./frame.ts";

/** Frames are collected in chunks of this size; what is larger stands alone. */
const CHUNK_BYTES = 128 * 1024;
/** Chunks that are kept for use anew. */
const MAX_FREE_CHUNKS = 8;
/** seq, count, first and last timestamp, length of the publishers' names. */
const PUB_FIXED_BYTES = 8 + 4 + 8 + 8 + 4;
const CLOCK_BYTES = HEADER_BYTES + 8;

const freeChunks: Uint8Array<ArrayBuffer>[] = [];

interface Chunk {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView;
  length: number;
  /** Numbers of its first message, and of the one behind its last. */
  firstSeq: number;
  endSeq: number;
}

/**
 * Messages to one peer are numbered from 0. Their frames stand in chunks that are sent as they grow
 * and kept until they are acknowledged; after a reconnect they are sent again from where the peer
 * says it was. Bounded in bytes: over the bound the oldest goes, and is counted as lost unless it had
 * been sent, which is settled when the peer says what it has.
 */
export class Outbox {
  /** Messages that the peer will not get. */
  lost = 0;
  /** Bytes that are kept. */
  bytes = 0;
  /** Bound of {@link bytes}. */
  maxBytes: number;
  /** Bytes that were not sent yet. */
  unsentBytes = 0;

  #chunks: Chunk[] = [];
  /** Number of the next message. */
  #nextSeq = 0;
  /** The peer has everything before this one. */
  #ackedSeq = 0;
  /** The first message that was never on its way. */
  #unsentSeq = 0;
  /** Where sending is: index of the chunk, and offset in it. */
  #sending = 0;
  #offset = 0;
  #isClockDue = false;
  /** Dropped messages that have been counted as lost, in order. */
  #counted: { from: number; end: number }[] = [];

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  /** Number of the next message; grows with every {@link append}. */
  get nextSeq(): number {
    return this.#nextSeq;
  }

  /** Messages that have not been acknowledged. */
  get unacknowledged(): number {
    return this.#nextSeq - this.#ackedSeq;
  }

  /** Whether everything has been acknowledged. */
  get isEmpty(): boolean {
    return this.#ackedSeq === this.#nextSeq;
  }

  /** Bytes that wait for the peer, or for its acknowledgement. */
  get waitingBytes(): number {
    return this.isEmpty ? 0 : this.bytes;
  }

  /** Adds a batch; `head` is its application's and channel's names as {@link pubHead} writes them. */
  append(head: Uint8Array, batch: OwnBatch): void {
    const { lines: { view: lines }, count } = batch;
    const froms = batch.froms === null ? null : encodeUtf8(JSON.stringify(batch.froms));
    const fromBytes = froms?.length ?? 0;
    const length = HEADER_BYTES + PUB_FIXED_BYTES + head.length + fromBytes + lines.length;
    const chunk = this.#chunkFor(length);
    const { view, bytes } = chunk;
    let at = chunk.length;
    view.setUint32(at, length - 4);
    bytes[at + 4] = FrameType.pub;
    at += HEADER_BYTES;
    putU53(view, at, this.#nextSeq);
    view.setUint32(at + 8, count);
    putU53(view, at + 12, batch.firstTs);
    putU53(view, at + 20, batch.lastTs);
    view.setUint32(at + 28, fromBytes);
    at += PUB_FIXED_BYTES;
    bytes.set(head, at);
    at += head.length;
    if (froms !== null) bytes.set(froms, at);
    at += fromBytes;
    bytes.set(lines, at);
    chunk.length = at + lines.length;
    this.#nextSeq += count;
    chunk.endSeq = this.#nextSeq;
    this.bytes += length;
    this.unsentBytes += length;
    this.#isClockDue = true;
    if (this.bytes > this.maxBytes) this.#dropOldest();
  }

  #chunkFor(length: number): Chunk {
    const last = this.#chunks.at(-1);
    if (last !== undefined && last.length + length <= last.bytes.length) return last;
    const need = length + CLOCK_BYTES;
    const bytes = need > CHUNK_BYTES
      ? new Uint8Array(need)
      : freeChunks.pop() ?? new Uint8Array(CHUNK_BYTES);
    const chunk: Chunk = {
      bytes,
      view: new DataView(bytes.buffer),
      length: 0,
      firstSeq: this.#nextSeq,
      endSeq: this.#nextSeq,
    };
    this.#chunks.push(chunk);
    return chunk;
  }

  /**
   * Says behind the messages of this turn how far our clock is: everything older stands before it.
   * Without messages in this turn only where it `must` be said.
   */
  addClock(lastTs: number, must: boolean): void {
    if (!this.#isClockDue && !must) return;
    this.#isClockDue = false;
    const chunk = this.#chunkFor(CLOCK_BYTES);
    const { view, bytes, length } = chunk;
    view.setUint32(length, CLOCK_BYTES - 4);
    bytes[length + 4] = FrameType.clock;
    putU53(view, length + HEADER_BYTES, lastTs);
    chunk.length += CLOCK_BYTES;
    this.bytes += CLOCK_BYTES;
    this.unsentBytes += CLOCK_BYTES;
  }

  #dropOldest(): void {
    while (this.bytes > this.maxBytes && this.#chunks.length > 1) {
      // Not from the middle of a frame: what is half sent stays.
      const isHalfSent = this.#sending === 0 && this.#offset > 0;
      if (isHalfSent && this.#chunks.length === 2) return;
      const [gone] = this.#chunks.splice(isHalfSent ? 1 : 0, 1);
      if (this.#sending > 0) this.#sending--;
      else this.unsentBytes -= gone.length;
      this.bytes -= gone.length;
      const from = Math.max(gone.firstSeq, this.#unsentSeq);
      if (gone.endSeq > from) this.#count(from, gone.endSeq);
    }
  }

  /** Counts the messages of `[from, end)` as lost. */
  #count(from: number, end: number): void {
    this.lost += end - from;
    this.#note(from, end);
  }

  /** Remembers that they are counted. */
  #note(from: number, end: number): void {
    if (end <= from) return;
    const all = [...this.#counted, { from, end }].sort((a, b) => a.from - b.from);
    this.#counted = [];
    for (const range of all) {
      const last = this.#counted.at(-1);
      if (last !== undefined && range.from <= last.end) last.end = Math.max(last.end, range.end);
      else this.#counted.push({ ...range });
    }
  }

  /** The next bytes to send, at most so many; undefined when all are sent. They go on their way. */
  take(maxBytes: number): Uint8Array<ArrayBuffer> | undefined {
    while (true) {
      const chunk = this.#chunks[this.#sending];
      if (chunk === undefined) return undefined;
      if (this.#offset < chunk.length) {
        const end = Math.min(chunk.length, this.#offset + maxBytes);
        const bytes = chunk.bytes.subarray(this.#offset, end);
        this.#offset = end;
        this.unsentBytes -= bytes.length;
        // To the message: some of them may not be on their way, and are settled by the peer's word.
        this.#unsentSeq = Math.max(this.#unsentSeq, chunk.endSeq);
        return bytes;
      }
      if (this.#sending + 1 >= this.#chunks.length) return undefined;
      this.#sending++;
      this.#offset = 0;
    }
  }

  /** Whether what was taken last ends with a frame. */
  get isAtFrameEnd(): boolean {
    return this.#offset === (this.#chunks[this.#sending]?.length ?? 0);
  }

  /** The peer has every message before `seq`. False for a number that was never given. */
  acknowledge(seq: number): boolean {
    if (seq > this.#nextSeq) return false;
    this.#ackedSeq = Math.max(this.#ackedSeq, seq);
    // The one that is being sent, or still grows, stays.
    let gone = 0;
    while (gone < this.#sending && this.#chunks[gone].endSeq <= seq) {
      const chunk = this.#chunks[gone++];
      this.bytes -= chunk.length;
      if (chunk.bytes.length === CHUNK_BYTES && freeChunks.length < MAX_FREE_CHUNKS) {
        freeChunks.push(chunk.bytes);
      }
    }
    if (gone > 0) {
      this.#chunks.splice(0, gone);
      this.#sending -= gone;
    }
    return true;
  }

  /**
   * The peer is there again and has every message before `seq`: sending begins behind that, or at
   * the oldest that is kept, and what lies between is lost. False for a number that was never given.
   */
  resume(seq: number): boolean {
    if (seq > this.#nextSeq) return false;
    this.#sending = this.#chunks.length;
    this.#offset = 0;
    this.acknowledge(seq);
    this.#sending = 0;
    const first = this.#chunks[0];
    const firstSeq = first?.firstSeq ?? this.#nextSeq;
    const counted = this.#counted.filter(({ end }) => end > seq);
    this.#counted = [];
    let at = seq;
    for (const { from, end } of counted) {
      if (at < from && at < firstSeq) this.#count(at, Math.min(from, firstSeq));
      this.#note(Math.max(from, seq), end);
      at = Math.max(at, end);
    }
    if (at < firstSeq) this.#count(at, firstSeq);
    // What had been sent and did not come is on its way no more.
    this.#unsentSeq = seq;
    if (first !== undefined) this.#offset = offsetOf(first, seq);
    this.unsentBytes = this.bytes - this.#offset;
    return true;
  }

  /** As {@link resume}, for a peer that has nothing which it has not acknowledged. */
  resumeAll(): void {
    this.resume(this.#ackedSeq);
  }

  /** Forgets everything that the peer has not got, and counts it as lost. */
  giveUp(): void {
    const first = this.#ackedSeq;
    const counted = this.#counted;
    let at = first;
    for (const { from, end } of counted) {
      if (at < from) this.lost += from - at;
      at = Math.max(at, end);
    }
    this.lost += this.#nextSeq - at;
    this.clear();
    // The peer may come back, and say how far it is: they are not counted anew then.
    this.#counted = counted;
    this.#note(first, this.#nextSeq);
  }

  /** Forgets everything that the peer has not got, because nobody waits for it. */
  clear(): void {
    this.#chunks = [];
    this.bytes = this.unsentBytes = 0;
    this.#sending = 0;
    this.#offset = 0;
    this.#ackedSeq = this.#unsentSeq = this.#nextSeq;
    this.#counted = [];
    this.#isClockDue = false;
  }
}

/** The names in front of a batch: application and channel, each behind its length. */
export function pubHead(app: string, channel: string): Uint8Array<ArrayBuffer> {
  const appBytes = encodeUtf8(app);
  const channelBytes = encodeUtf8(channel);
  const head = new Uint8Array(2 + appBytes.length + channelBytes.length);
  head[0] = appBytes.length;
  head.set(appBytes, 1);
  head[1 + appBytes.length] = channelBytes.length;
  head.set(channelBytes, 2 + appBytes.length);
  return head;
}

/** Where in the chunk the first frame begins that holds the message `seq` or a later one. */
function offsetOf({ bytes, view, length, endSeq }: Chunk, seq: number): number {
  let at = 0;
  if (seq >= endSeq) return length;
  while (at < length) {
    const frameEnd = at + 4 + view.getUint32(at);
    if (bytes[at + 4] === FrameType.pub) {
      const first = view.getUint32(at + 5) * 2 ** 32 + view.getUint32(at + 9);
      if (first + view.getUint32(at + 13) > seq) return at;
    }
    at = frameEnd;
  }
  return length;
}
