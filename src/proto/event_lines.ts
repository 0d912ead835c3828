// EVENT lines made of MESSAGE lines.

import type { PooledBuffer } from "../core/buffer_pool.ts";
import { encodeUtf8 } from "./bytes.ts";
import { TIMESTAMP_DIGITS } from "./encoder.ts";
import { JsonText } from "./json_text.ts";

const MESSAGE_KEY = encodeUtf8(',"msg":');
const END = encodeUtf8("}\r\n");

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
  const text = new JsonText(lines.length + head.length + middle.length + 64);
  text.from(lines);
  let line = firstLine;
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
  return text.finish();
}
