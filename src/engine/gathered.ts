// Small stretches of lines on their way to one subscriber, put together in its form.

import { buffers, type PooledBuffer } from "../core/buffer_pool.ts";
import type { Form } from "../proto/encoder.ts";
import { EventLines, type Stretch } from "../proto/event_lines.ts";

/** Messages of one channel, which go out at once: a buffer and a write for each would cost more than they do. */
export class Gathered {
  /** Bytes. */
  size = 0;
  /** Messages. */
  count = 0;

  #form: Form;
  #channel: string;
  #prefixLength: number;
  #views: Uint8Array[] = [];
  #events: EventLines | null = null;

  constructor(form: Form, channel: string, prefixLength: number) {
    this.#form = form;
    this.#channel = channel;
    this.#prefixLength = prefixLength;
  }

  /** Adds lines; their bytes are read by {@link take}, or before. */
  add(stretch: Stretch & { readonly count: number }): void {
    const { lines } = stretch;
    this.count += stretch.count;
    if (this.#form === "text") {
      this.#views.push(lines);
      this.size += lines.length;
    } else {
      this.#events ??= new EventLines(this.#channel, this.#prefixLength, lines.length);
      this.#events.add(stretch);
      this.size = this.#events.length;
    }
  }

  /** Everything that was added, with one ownership for the caller; begins anew. */
  take(): PooledBuffer {
    const buffer = this.#events?.finish() ?? this.#join();
    this.#views = [];
    this.#events = null;
    this.size = this.count = 0;
    return buffer;
  }

  #join(): PooledBuffer {
    const buffer = buffers.acquire(this.size);
    for (const view of this.#views) {
      buffer.bytes.set(view, buffer.length);
      buffer.length += view.length;
    }
    return buffer.seal();
  }
}
