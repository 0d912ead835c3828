// The two forms in which messages reach a client: MESSAGE lines, and EVENT lines with JSON.

import { copyText, LastView, viewOf } from "../core/text_copy.ts";
import { CR, decodeUtf8, encodeUtf8, LF, SPACE } from "./bytes.ts";

/** How a connection wants its deliveries; `hello 1 json` chooses "json". */
export type Form = "text" | "json";

/** Decimal digits of a timestamp in microseconds (from 2001 to the year 2286). */
export const TIMESTAMP_DIGITS = 16;

/** One kept or delivered message, decoded. */
export interface Message {
  readonly channel: string;
  /** Microseconds since the Unix epoch. */
  readonly ts: number;
  readonly msg: string;
  /** The publisher's user name, where it is known. */
  readonly from?: string;
  /** The node that accepted it. */
  readonly node: string;
}

/** Where the channel's name begins in a {@link messagePrefix}. */
export const PREFIX_NAME_START = 8;

/** The bytes in front of the timestamp in each MESSAGE line of a channel. */
export function messagePrefix(name: Uint8Array): Uint8Array<ArrayBuffer> {
  const prefix = new Uint8Array(PREFIX_NAME_START + name.length + 1);
  prefix.set(encodeUtf8("MESSAGE "));
  prefix.set(name, PREFIX_NAME_START);
  prefix[prefix.length - 1] = SPACE;
  return prefix;
}

/** Length of the {@link messagePrefix} of a channel with this name. */
export function prefixLengthOf(name: Uint8Array): number {
  return PREFIX_NAME_START + name.length + 1;
}

/** The channel's name in a {@link messagePrefix}. */
export function prefixName(prefix: Uint8Array): string {
  // A copy: a view would move a small array's bytes out of the heap for good.
  return decodeUtf8(prefix.slice(PREFIX_NAME_START, -1));
}

/** Whether `bytes[start, end)` is the name of the channel in a {@link messagePrefix}. */
export function isPrefixOf(
  prefix: Uint8Array,
  bytes: Uint8Array,
  start: number,
  end: number,
): boolean {
  const length = end - start;
  if (prefix.length !== PREFIX_NAME_START + length + 1) return false;
  for (let i = 0; i < length; i++) {
    if (prefix[PREFIX_NAME_START + i] !== bytes[start + i]) return false;
  }
  return true;
}

/** Bytes of a MESSAGE line beside its prefix and its message: timestamp, space, CR LF. */
export const MESSAGE_LINE_EXTRA = TIMESTAMP_DIGITS + 1 + 2;

/** CR LF as a little-endian number. */
const CR_LF = CR | LF << 8;

/** Where lines are written to: the same bytes in two views. */
export interface LineBytes {
  readonly bytes: Uint8Array;
  readonly data: DataView;
}

/** The last digits and messages that were written. */
const digitsView = new LastView();
const sourceView = new LastView();

/**
 * Writes one MESSAGE line into `out` at `at` and returns the offset behind it. The caller has made
 * room for `prefix.length + (end - start) + MESSAGE_LINE_EXTRA` bytes, and has seen that the message is
 * valid UTF-8.
 */
export function writeMessageLine(
  { bytes: out, data }: LineBytes,
  at: number,
  prefix: Uint8Array,
  digits: Uint8Array,
  src: Uint8Array,
  start: number,
  end: number,
): number {
  let o = at;
  const prefixLength = prefix.length;
  if (prefixLength <= 64) {
    for (let i = 0; i < prefixLength; i++) out[o++] = prefix[i];
  } else {
    out.set(prefix, o);
    o += prefixLength;
  }
  o = copyText(data, o, digitsView.of(digits), 0, TIMESTAMP_DIGITS);
  out[o++] = SPACE;
  o = copyText(data, o, sourceView.of(src), start, end);
  data.setUint16(o, CR_LF, true);
  return o + 2;
}

const PUBLISHED = viewOf(encodeUtf8("PUBLISHED "));

/** Length of the line that {@link writePublished} writes. */
export const PUBLISHED_BYTES = PUBLISHED.byteLength + TIMESTAMP_DIGITS + 2;

/** Writes the reply `PUBLISHED` with a timestamp's digits into `out` at `at`; returns the offset behind it. */
export function writePublished(out: DataView, at: number, digits: Uint8Array): number {
  let o = copyText(out, at, PUBLISHED, 0, PUBLISHED.byteLength);
  o = copyText(out, o, digitsView.of(digits), 0, TIMESTAMP_DIGITS);
  out.setUint16(o, CR_LF, true);
  return o + 2;
}

/** The channel in the MESSAGE line with which `bytes` begin. */
export function lineChannel(bytes: Uint8Array): string {
  let name = "";
  for (let i = PREFIX_NAME_START; bytes[i] !== SPACE; i++) {
    // Beyond ASCII by the decoder, which costs as much as 50 characters here.
    if (bytes[i] > 0x7f) {
      return decodeUtf8(bytes.subarray(PREFIX_NAME_START, bytes.indexOf(SPACE, i)));
    }
    name += String.fromCharCode(bytes[i]);
  }
  return name;
}

/** The timestamp in the MESSAGE line that begins at `at`. */
export function lineTimestamp(bytes: Uint8Array, at: number, prefixLength: number): number {
  let ts = 0;
  const start = at + prefixLength;
  for (let i = start; i < start + TIMESTAMP_DIGITS; i++) ts = ts * 10 + (bytes[i] - 0x30);
  return ts;
}

/** The message's text in the MESSAGE line `bytes[at, lf]`. */
export function lineText(
  bytes: Uint8Array,
  at: number,
  lf: number,
  prefixLength: number,
): string {
  return decodeUtf8(bytes.subarray(at + prefixLength + TIMESTAMP_DIGITS + 1, lf - 1));
}

/** One EVENT line, with its line end. */
export function eventLine(message: Message): string {
  const { channel, ts, node, from, msg } = message;
  return `EVENT ${JSON.stringify({ op: "msg", channel, ts, node, from, msg })}\r\n`;
}
