// Finds the ends of many lines at a time, in WebAssembly, which compares sixteen bytes at once.

import { Buffer } from "node:buffer";

/** So much is looked at in one go: a caller that stops at its first line has lost little. */
export const WINDOW_BYTES = 8 * 1024;
/** There may be as many ends as bytes. */
const MAX_PLACES = WINDOW_BYTES;
/** Where the module puts them, behind the window. */
const PLACES_AT = 32 * 1024;

/**
 * ```wat
 * (module
 *   (memory (export "memory") 1 1)
 *   (func (export "scan") (param $end i32) (param $most i32) (result i32)
 *     (local $at i32) (local $count i32) (local $mask i32) (local $place i32)
 *     (block $done
 *       (loop $next
 *         (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
 *         (local.set $mask
 *           (i8x16.bitmask (i8x16.eq (v128.load (local.get $at)) (i8x16.splat (i32.const 10)))))
 *         (block $found
 *           (loop $bit
 *             (br_if $found (i32.eqz (local.get $mask)))
 *             (local.set $place (i32.add (local.get $at) (i32.ctz (local.get $mask))))
 *             (br_if $done (i32.ge_u (local.get $place) (local.get $end)))
 *             (i32.store offset=32768 (i32.shl (local.get $count) (i32.const 2)) (local.get $place))
 *             (local.set $count (i32.add (local.get $count) (i32.const 1)))
 *             (br_if $done (i32.eq (local.get $count) (local.get $most)))
 *             (local.set $mask
 *               (i32.and (local.get $mask) (i32.sub (local.get $mask) (i32.const 1))))
 *             (br $bit)))
 *         (local.set $at (i32.add (local.get $at) (i32.const 16)))
 *         (br $next)))
 *     (local.get $count)))
 * ```
 */
const MODULE =
  "AGFzbQEAAAABBwFgAn9/AX8DAgEABQQBAQEBBxECBm1lbW9yeQIABHNjYW4AAApuAWwBBH8CQANAIAIgAE8NASAC" +
  "/QAEAEEK/Q/9I/1kIQQCQANAIARFDQEgAiAEaGohBSAFIABPDQMgA0ECdCAFNgKAgAIgA0EBaiEDIAMgAUYNAyAEIARBAWtx" +
  "IQQMAAsLIAJBEGohAgwACwsgAws=";

interface ScanExports {
  memory: WebAssembly.Memory;
  scan(end: number, most: number): number;
}

const { exports } = new WebAssembly.Instance(
  new WebAssembly.Module(Buffer.from(MODULE, "base64")),
);
const { memory, scan } = exports as unknown as ScanExports;
const window = new Uint8Array(memory.buffer, 0, WINDOW_BYTES);

/** The places of the last {@link findLineEnds}, each an offset from where it began. */
export const lineEnds: Int32Array = new Int32Array(memory.buffer, PLACES_AT, MAX_PLACES);

/**
 * Finds LF bytes in `bytes[start, end)`, at most `most` of them and in the first {@link WINDOW_BYTES} only,
 * puts where they are into {@link lineEnds}, and returns how many there are.
 */
export function findLineEnds(
  bytes: Uint8Array,
  start: number,
  end: number,
  most: number = MAX_PLACES,
): number {
  const length = Math.min(end - start, WINDOW_BYTES);
  window.set(bytes.subarray(start, start + length));
  return scan(length, Math.min(most, MAX_PLACES));
}

/** Offset of the first LF in `bytes[start, end)`, or -1. */
export function findLineEnd(bytes: Uint8Array, start: number, end: number): number {
  for (let at = start; at < end; at += WINDOW_BYTES) {
    if (findLineEnds(bytes, at, end, 1) > 0) return at + lineEnds[0];
  }
  return -1;
}
