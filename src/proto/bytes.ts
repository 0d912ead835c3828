// Small byte-level helpers that the parser and the encoders share.

import { isUtf8 as isUtf8Native } from "node:buffer";

export const LF = 0x0a;
export const CR = 0x0d;
export const NUL = 0x00;
export const SPACE = 0x20;

const encoder = new TextEncoder();
// `ignoreBOM` keeps a leading U+FEFF (it belongs to the message); `fatal` refuses instead of
// putting U+FFFD where a byte was wrong.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** UTF-8 bytes of `text`. */
export function encodeUtf8(text: string): Uint8Array<ArrayBuffer> {
  return encoder.encode(text);
}

/** Text of valid UTF-8 `bytes`, a leading U+FEFF included. Throws a TypeError when they are not. */
export function decodeUtf8(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/** Whether `bytes[start, end)` is valid UTF-8. */
export function isUtf8(bytes: Uint8Array, start = 0, end = bytes.length): boolean {
  if (start === 0 && end === bytes.length) return isUtf8Native(bytes);
  return isUtf8Native(bytes.subarray(start, end));
}

/**
 * Offset of the first `byte` in `bytes[start, end)`, or -1.
 *
 * Short distances go in a plain loop (a native call costs as much as some 60 bytes of it), the
 * rest by the native search, bounded by `end` so that many short searches in one large buffer
 * stay linear.
 */
export function indexOfByte(bytes: Uint8Array, byte: number, start: number, end: number): number {
  const near = Math.min(end, start + 96);
  for (let i = start; i < near; i++) {
    if (bytes[i] === byte) return i;
  }
  if (near === end) return -1;
  const at = end === bytes.length
    ? bytes.indexOf(byte, near)
    : bytes.subarray(0, end).indexOf(byte, near);
  return at;
}
