// A connection's outgoing side: a bounded queue, one write per turn, and a last line.

import { buffers, type PooledBuffer } from "../core/buffer_pool.ts";
import type { Histogram } from "../core/histogram.ts";
import { copyText } from "../core/text_copy.ts";
import type { Turn, TurnTask } from "../core/turn.ts";
import { encodeUtf8, LF } from "../proto/bytes.ts";
import { PUBLISHED_BYTES, writePublished } from "../proto/encoder.ts";

/**
 * Queued buffers are joined up to this size for one write: not more, as each of hundreds of clients that
 * have stopped reading may hold such a copy.
 */
const MAX_JOINED_BYTES = 64 * 1024;
/** A buffer of this size is written as it is: joining it would cost more than a second write. */
const ALONE_BYTES = 32 * 1024;
const FIRST_REPLY_BYTES = 256;
const MAX_REPLY_BUFFER_BYTES = 64 * 1024;

const encoder = new TextEncoder();
/** Shared by all that have nothing queued, and never changed. */
const EMPTY: PooledBuffer[] = [];

/** The part of a connection that is written to. `write` may take less than it is given. */
export interface Sink {
  write(bytes: Uint8Array): Promise<number>;
}

/** What a writer tells its connection. */
export interface WriterOwner {
  /** A write begins; the owner sees to it that it makes progress in time. */
  onWriteStarted(): void;
  /** The socket has taken `count` bytes more. */
  onWrote(count: number): void;
  /** The queue has shrunk; there may be room again. */
  onDrained(): void;
  /** More than the bound waits. */
  onOverflow(): void;
  /** The last line is written, after {@link Writer.end} or {@link Writer.cut}. */
  onFinished(): void;
  /** The socket cannot be written to. */
  onWriteFailed(error: unknown): void;
}

/** A place in the stream that is waited for. */
interface Mark {
  /** Value of {@link Writer.written} once the socket has taken everything up to it. */
  readonly at: number;
  readonly fromMs: number;
  readonly histogram: Histogram;
}

/**
 * Queues whole lines and writes them, in order, once per turn of the event loop. What waits is
 * bounded in bytes; the owner bounds the time (see {@link stalledSinceMs}).
 */
export class Writer implements TurnTask {
  /** Bytes that wait, those of a write under way included. */
  pending = 0;
  /** Bytes that the socket took. */
  written = 0;
  /** Bound of {@link pending}. */
  maxPendingBytes: number;
  /** When the write under way began or last made progress, monotonic ms; 0 when there is none. */
  stalledSinceMs = 0;

  #sink: Sink;
  #turn: Turn;
  #owner: WriterOwner;
  #queue: PooledBuffer[] = EMPTY;
  #head = 0;
  /** Replies of this turn, not sealed yet. */
  #replies: PooledBuffer | null = null;
  #replyBytes = FIRST_REPLY_BYTES;
  #inTurn = false;

  #writing: PooledBuffer | null = null;
  #offset = 0;
  /** Where the write under way ends: before its own end once the connection has been cut off. */
  #limit = 0;
  #isCut = false;
  #mark: Mark | null = null;

  #state: "open" | "ending" | "finished" | "closed" = "open";

  constructor(sink: Sink, turn: Turn, owner: WriterOwner, maxPendingBytes: number) {
    this.#sink = sink;
    this.#turn = turn;
    this.#owner = owner;
    this.maxPendingBytes = maxPendingBytes;
  }

  /** Whether lines are still taken. */
  get isOpen(): boolean {
    return this.#state === "open";
  }

  get #isClosed(): boolean {
    return this.#state === "closed";
  }

  /** Queues a reply line; its CR LF is added. */
  queueLine(line: string): void {
    if (this.#state !== "open") return;
    if (line.length > 1024) {
      this.deliver(buffers.copyOf(encodeUtf8(`${line}\r\n`)));
      return;
    }
    // A UTF-16 unit becomes at most three bytes.
    const replies = this.#roomForReply(line.length * 3 + 2);
    const { written } = encoder.encodeInto(line, replies.bytes.subarray(replies.length));
    replies.bytes[replies.length + written] = 0x0d;
    replies.bytes[replies.length + written + 1] = LF;
    replies.length += written + 2;
    this.#count(written + 2);
  }

  /** Queues `PUBLISHED` with a timestamp's 16 digits. */
  queuePublished(digits: Uint8Array): void {
    if (this.#state !== "open") return;
    const replies = this.#roomForReply(PUBLISHED_BYTES);
    replies.length = writePublished(replies.data, replies.length, digits);
    this.#count(PUBLISHED_BYTES);
  }

  /** Queues sealed whole lines and takes one ownership of them. */
  deliver(lines: PooledBuffer): void {
    if (this.#state !== "open") {
      lines.release();
      return;
    }
    if (this.#replies !== null) this.#sealReplies();
    this.#enqueue(lines);
    this.#count(lines.length);
  }

  /**
   * Observes the time since `fromMs` (monotonic clock) as soon as the socket has taken what is queued
   * now; nothing where that never happens, or another place is waited for.
   */
  measure(histogram: Histogram, fromMs: number): void {
    if (this.#mark !== null || this.#state !== "open") return;
    this.#mark = { at: this.written + this.pending, fromMs, histogram };
  }

  #count(bytes: number): void {
    this.pending += bytes;
    if (!this.#inTurn) {
      this.#inTurn = true;
      this.#turn.addSink(this);
    }
    // Little waited: then it is the size of what came, not the client, that exceeds a small bound.
    if (this.pending > this.maxPendingBytes && this.pending - bytes > this.maxPendingBytes / 2) {
      this.#owner.onOverflow();
    }
  }

  /** Mostly nothing waits: an array for one takes a third of what the first push to an empty one does. */
  #enqueue(lines: PooledBuffer): void {
    if (this.#queue.length === 0) this.#queue = [lines];
    else this.#queue.push(lines);
  }

  #roomForReply(bytes: number): PooledBuffer {
    let replies = this.#replies;
    if (replies !== null && replies.bytes.length - replies.length >= bytes) return replies;
    if (replies !== null) {
      this.#sealReplies();
      this.#replyBytes = Math.min(this.#replyBytes * 4, MAX_REPLY_BUFFER_BYTES);
    }
    replies = this.#replies = buffers.acquire(Math.max(bytes, this.#replyBytes));
    return replies;
  }

  #sealReplies(): void {
    if (this.#replies === null) return;
    this.#enqueue(this.#replies.seal());
    this.#replies = null;
  }

  get canWait(): boolean {
    return true;
  }

  endTurn(): void {
    this.#inTurn = false;
    if (this.#state === "closed") return;
    this.#sealReplies();
    this.#replyBytes = FIRST_REPLY_BYTES;
    if (this.#writing === null) this.#writeNext();
  }

  #writeNext(): void {
    const next = this.#takeNext();
    if (next === null) {
      if (this.#state === "ending") {
        this.#state = "finished";
        this.#owner.onFinished();
      }
      return;
    }
    this.#writing = next;
    this.#offset = 0;
    this.#limit = next.length;
    this.stalledSinceMs = this.#turn.nowMs;
    this.#owner.onWriteStarted();
    this.#write(next.view);
  }

  /** The callbacks are made anew each time: idle connections need not keep them. */
  #write(bytes: Uint8Array): void {
    this.#sink.write(bytes).then(
      (count) => this.#wrote(count),
      (error) => {
        if (this.#state !== "closed") this.#owner.onWriteFailed(error);
      },
    );
  }

  /** The next bytes to write: one buffer, or several small ones joined. */
  #takeNext(): PooledBuffer | null {
    const queue = this.#queue;
    const first = queue[this.#head];
    if (first === undefined) return null;
    let end = this.#head + 1;
    let total = first.length;
    if (total < ALONE_BYTES) {
      while (end < queue.length && total + queue[end].length <= MAX_JOINED_BYTES) {
        total += queue[end].length;
        end++;
      }
    }
    let next = first;
    if (end - this.#head > 1) {
      next = buffers.acquire(total);
      for (let i = this.#head; i < end; i++) {
        const { data, length } = queue[i];
        next.length = copyText(next.data, next.length, data, 0, length);
        queue[i].release();
      }
      next.seal();
    }
    if (end === queue.length) {
      this.#queue = EMPTY;
      this.#head = 0;
    } else if (end > 1024 && end > queue.length / 2) {
      this.#queue = queue.slice(end);
      this.#head = 0;
    } else {
      this.#head = end;
    }
    return next;
  }

  #wrote(count: number): void {
    const writing = this.#writing;
    if (writing === null) return;
    this.#offset += count;
    this.written += count;
    this.pending -= count;
    this.#owner.onWrote(count);
    if (this.#mark !== null && this.written >= this.#mark.at) {
      this.#mark.histogram.observeMs(performance.now() - this.#mark.fromMs);
      this.#mark = null;
    }
    if (this.#isCut && this.#offset < this.#limit) this.#limitToLine(writing);
    if (this.#offset < this.#limit) {
      this.stalledSinceMs = performance.now();
      this.#write(writing.bytes.subarray(this.#offset, this.#limit));
      return;
    }
    this.#writing = null;
    this.stalledSinceMs = 0;
    writing.release();
    if (this.#state === "open") this.#owner.onDrained();
    // What is queued in this turn is written at its end, together with what still comes.
    if (this.#writing === null && !this.#inTurn && !this.#isClosed) this.#writeNext();
  }

  /** After a cut: the write under way goes on only to the end of the line that it is in. */
  #limitToLine({ bytes }: PooledBuffer): void {
    const lineEnd = bytes[this.#offset - 1] === LF
      ? this.#offset
      : bytes.indexOf(LF, this.#offset) + 1;
    this.pending -= this.#limit - lineEnd;
    this.#limit = lineEnd;
    this.#isCut = false;
  }

  /** Takes no more lines, writes what is queued, and reports to the owner. */
  end(): void {
    if (this.#state !== "open") return;
    this.#state = "ending";
    if (!this.#inTurn) {
      this.#inTurn = true;
      this.#turn.addSink(this);
    }
  }

  /**
   * Drops what is queued. A line whose first bytes are already on their way is finished, then comes
   * `lastLine`: the client sees whole lines only.
   */
  cut(lastLine: string): void {
    if (this.#state === "closed" || this.#state === "finished") return;
    this.#state = "open";
    this.#dropQueue();
    this.#mark = null;
    this.#isCut = true;
    this.pending = this.#writing === null ? 0 : this.#limit - this.#offset;
    const buffer = buffers.acquire(lastLine.length * 3 + 2);
    buffer.length = encoder.encodeInto(`${lastLine}\r\n`, buffer.bytes).written;
    this.#enqueue(buffer.seal());
    this.pending += buffer.length;
    this.#state = "ending";
    if (!this.#inTurn) {
      this.#inTurn = true;
      this.#turn.addSink(this);
    }
  }

  #dropQueue(): void {
    if (this.#replies !== null) {
      this.#replies.release();
      this.#replies = null;
    }
    for (let i = this.#head; i < this.#queue.length; i++) this.#queue[i].release();
    this.#queue = EMPTY;
    this.#head = 0;
  }

  /** Drops everything at once; nothing is called any more. Idempotent. */
  close(): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#dropQueue();
    this.#mark = null;
    this.pending = 0;
    this.stalledSinceMs = 0;
    // A write under way still reads its bytes: they go to the garbage collector, not to the pool.
    this.#writing = null;
  }
}
