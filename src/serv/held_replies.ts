// Replies that wait for a commit, in the order of their requests.

import { buffers, type PooledBuffer } from "../core/buffer_pool.ts";
import type { CommitGroup, CommitWaiter } from "../engine/ports/history_queue.ts";
import { encodeUtf8, LF } from "../proto/bytes.ts";
import { PUBLISHED_BYTES, writePublished } from "../proto/encoder.ts";
import type { Writer } from "./writer.ts";

const FIRST_BYTES = 256;
const NOT_STORED = " delivered but not stored: the store failed while it was on its way; " +
  "publish it again once the store works";

/** The replies of one connection to messages of one commit, and what stands between them. */
interface Segment {
  group: CommitGroup;
  lines: PooledBuffer;
  /** Lines that say `PUBLISHED`. */
  published: number;
  /** Bytes of the other lines. */
  otherBytes: number;
}

/** What {@link HeldReplies} tells its connection. */
export interface HeldRepliesOwner {
  readonly writer: Writer;
  /** Replies were released, and it may be that none is held any more. */
  onReleased(): void;
  /** So many messages were delivered and not stored. */
  onNotStored(messages: number): void;
}

/**
 * Holds `PUBLISHED` back until its message is kept, and every reply behind it: each request gets its
 * reply in order. They are written out as they stand when the commit succeeds, and become errors when
 * it fails.
 */
export class HeldReplies implements CommitWaiter {
  #owner: HeldRepliesOwner;
  #segments: Segment[] = [];
  /** See {@link otherBytes}. */
  #otherBytes = 0;

  constructor(owner: HeldRepliesOwner) {
    this.#owner = owner;
  }

  get isEmpty(): boolean {
    return this.#segments.length === 0;
  }

  /**
   * Bytes of held lines that do not say `PUBLISHED`: those are bounded by what may wait for the store,
   * these by nothing but the client.
   */
  get otherBytes(): number {
    return this.#otherBytes;
  }

  /** Holds `PUBLISHED` with these 16 digits until the group is settled. */
  addPublished(digits: Uint8Array, group: CommitGroup): void {
    let segment = this.#segments.at(-1);
    if (segment === undefined || segment.group !== group) {
      segment = { group, lines: buffers.acquire(FIRST_BYTES), published: 0, otherBytes: 0 };
      this.#segments.push(segment);
      group.waiters.push(this);
    }
    segment.published++;
    const lines = roomIn(segment, PUBLISHED_BYTES);
    lines.length = writePublished(lines.data, lines.length, digits);
  }

  /** Holds another reply line behind those that are held; its CR LF is added. */
  addLine(line: string): void {
    const segment = this.#segments.at(-1);
    if (segment === undefined) {
      this.#owner.writer.queueLine(line);
      return;
    }
    this.#add(segment, encodeUtf8(`${line}\r\n`));
  }

  /** The same for a line with its CR LF, whose ownership it takes. */
  addBuffer(line: PooledBuffer): void {
    const segment = this.#segments.at(-1);
    if (segment === undefined) {
      this.#owner.writer.deliver(line);
      return;
    }
    this.#add(segment, line.view);
    line.release();
  }

  #add(segment: Segment, line: Uint8Array): void {
    const lines = roomIn(segment, line.length);
    lines.bytes.set(line, lines.length);
    lines.length += line.length;
    segment.otherBytes += line.length;
    this.#otherBytes += line.length;
  }

  onSettled(group: CommitGroup): void {
    const [segment] = this.#segments;
    // Dropped meanwhile, with the connection.
    if (segment === undefined || segment.group !== group) return;
    this.#segments.shift();
    const { lines, published } = segment;
    this.#otherBytes -= segment.otherBytes;
    if (group.state === "stored") {
      this.#owner.writer.deliver(lines.seal());
    } else {
      this.#queueFailed(lines);
      lines.release();
      this.#owner.onNotStored(published);
    }
    this.#owner.onReleased();
  }

  /**
   * Queues the lines, with an error in the place of each `PUBLISHED`: at once, because the client
   * reads fast enough, however much longer than it was all of this may be.
   */
  #queueFailed(lines: PooledBuffer): void {
    const { bytes, length } = lines;
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    let text = "";
    for (let at = 0; at < length;) {
      const end = bytes.indexOf(LF, at) + 1;
      const line = decoder.decode(bytes.subarray(at, end - 2));
      at = end;
      const ts = /^PUBLISHED (\d{16})$/.exec(line)?.[1];
      text += ts === undefined ? line : `ERROR storage-unavailable ${ts}${NOT_STORED}`;
      text += "\r\n";
    }
    this.#owner.writer.deliver(buffers.copyOf(encodeUtf8(text)));
  }

  /** Drops everything; the connection has ended. */
  clear(): void {
    for (const { lines } of this.#segments) lines.release();
    this.#segments = [];
    this.#otherBytes = 0;
  }
}

/** The segment's lines with room for `bytes` more. */
function roomIn(segment: Segment, bytes: number): PooledBuffer {
  const { lines } = segment;
  if (lines.length + bytes <= lines.bytes.length) return lines;
  return segment.lines = buffers.grow(lines, (lines.length + bytes) * 2);
}
