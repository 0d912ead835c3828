// Small stretches of lines on their way to one subscriber, put together in its form.

import { buffers, type PooledBuffer } from "../core/buffer_pool.ts";
import { encodeUtf8, LF } from "../proto/bytes.ts";
import { eventLine, type Form, lineText, lineTimestamp } from "../proto/encoder.ts";

/** Whole lines of one node. */
export interface Stretch {
  readonly node: string;
  readonly lines: Uint8Array;
  readonly count: number;
  /** The publishers' names, and the number of the first line among them. */
  readonly froms: readonly (string | undefined)[] | null;
  readonly line: number;
}

/** Messages of one channel, which go out at once: a buffer and a write for each would cost more than they do. */
export class Gathered {
  /** Bytes, or characters where there is JSON to be made of them. */
  size = 0;
  /** Messages. */
  count = 0;

  #form: Form;
  #channel: string;
  #prefixLength: number;
  #views: Uint8Array[] = [];
  #text = "";

  constructor(form: Form, channel: string, prefixLength: number) {
    this.#form = form;
    this.#channel = channel;
    this.#prefixLength = prefixLength;
  }

  /** Adds lines; their bytes are read by {@link take}, or before. */
  add(stretch: Stretch): void {
    this.count += stretch.count;
    if (this.#form === "text") {
      this.#views.push(stretch.lines);
      this.size += stretch.lines.length;
    } else {
      this.#addEvents(stretch);
      this.size = this.#text.length;
    }
  }

  #addEvents({ node, lines, froms, line: first }: Stretch): void {
    const channel = this.#channel;
    let line = first;
    for (let at = 0; at < lines.length; line++) {
      const lf = lines.indexOf(LF, at);
      const ts = lineTimestamp(lines, at, this.#prefixLength);
      const msg = lineText(lines, at, lf, this.#prefixLength);
      this.#text += eventLine({ channel, ts, msg, from: froms?.[line], node });
      at = lf + 1;
    }
  }

  /** Everything that was added, with one ownership for the caller; begins anew. */
  take(): PooledBuffer {
    const views = this.#form === "text" ? this.#views : [encodeUtf8(this.#text)];
    const buffer = buffers.acquire(views.reduce((sum, { length }) => sum + length, 0));
    for (const view of views) {
      buffer.bytes.set(view, buffer.length);
      buffer.length += view.length;
    }
    this.#views = [];
    this.#text = "";
    this.size = this.count = 0;
    return buffer.seal();
  }
}
