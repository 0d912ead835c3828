// EVENT lines made of MESSAGE lines.

import type { PooledBuffer } from "../core/buffer_pool.ts";
import { encodeUtf8 } from "./bytes.ts";
import { TIMESTAMP_DIGITS } from "./encoder.ts";
import { JsonText } from "./json_text.ts";

const MESSAGE_KEY = encodeUtf8(',"msg":');
const END = encodeUtf8("}\r\n");

/** MESSAGE lines of one channel that one node has accepted. */
export interface Stretch {
  readonly lines: Uint8Array;
  readonly node: string;
  /** The publishers of all lines of a block, of which the first one here is `froms[line]`. */
  readonly froms: readonly (string | undefined)[] | null;
  readonly line: number;
}

/** EVENT lines of one channel, in a buffer that grows: the same as `eventLine` makes of each message. */
export class EventLines {
  #head: Uint8Array;
  #prefixLength: number;
  #node: string | undefined;
  #middle = new Uint8Array(0);
  #text: JsonText;

  /** Begins with room for MESSAGE lines of so many bytes; for the length of a prefix see `messagePrefix`. */
  constructor(channel: string, prefixLength: number, bytes: number) {
    this.#head = encodeUtf8(`EVENT {"op":"msg","channel":${JSON.stringify(channel)},"ts":`);
    this.#prefixLength = prefixLength;
    this.#text = new JsonText(bytes + this.#head.length + 128);
  }

  /** Bytes so far. */
  get length(): number {
    return this.#text.length;
  }

  /** Adds an event for each line. */
  add({ lines, node, froms, line: first }: Stretch): void {
    if (node !== this.#node) {
      this.#node = node;
      this.#middle = encodeUtf8(`,"node":${JSON.stringify(node)}`);
    }
    const head = this.#head;
    const middle = this.#middle;
    const prefixLength = this.#prefixLength;
    const text = this.#text;
    text.from(lines);
    let line = first;
    for (let at = 0; at < lines.length; line++) {
      text.write(head);
      const digits = at + prefixLength;
      text.copy(digits, digits + TIMESTAMP_DIGITS);
      text.write(middle);
      text.publisher(froms?.[line]);
      text.write(MESSAGE_KEY);
      at = text.string(digits + TIMESTAMP_DIGITS + 1);
      text.write(END);
    }
  }

  /** Everything, sealed, with one ownership for the caller. Nothing may be added any more. */
  finish(): PooledBuffer {
    return this.#text.finish();
  }
}

/** {@link EventLines} of one stretch. */
export function eventLines(channel: string, prefixLength: number, stretch: Stretch): PooledBuffer {
  const events = new EventLines(channel, prefixLength, stretch.lines.length);
  events.add(stretch);
  return events.finish();
}
