// The ends of lines, against a plain search.

import assert from "node:assert/strict";
import fc from "fast-check";
import { findLineEnd, findLineEnds, lineEnds, WINDOW_BYTES } from "./line_ends.ts";

const LF = 10;

/** Bytes of which some are line ends, some look nearly like it. */
const bytes = fc.array(fc.constantFrom(LF, LF, 0, 9, 11, 13, 0x8a, 0xff, 0x61), { maxLength: 300 })
  .map((list) => Uint8Array.from(list));

function plainly(buf: Uint8Array, start: number, end: number): number[] {
  return [...buf.subarray(start, end).entries()].filter(([, byte]) => byte === LF).map(([at]) =>
    at
  );
}

Deno.test("line ends are found where a plain search finds them, and only within the bounds", () => {
  fc.assert(fc.property(bytes, fc.nat(300), fc.nat(300), fc.nat(5), (buf, a, b, most) => {
    const start = Math.min(a, b, buf.length);
    const end = Math.min(Math.max(a, b), buf.length);
    const places = plainly(buf, start, end);
    assert.deepEqual([...lineEnds.subarray(0, findLineEnds(buf, start, end))], places);
    const some = places.slice(0, most + 1);
    assert.deepEqual([...lineEnds.subarray(0, findLineEnds(buf, start, end, most + 1))], some);
    assert.equal(findLineEnd(buf, start, end), places.length === 0 ? -1 : start + places[0]);
  }));
});

Deno.test("a window may be nothing but line ends, and nothing of the one before it is left", () => {
  const full = new Uint8Array(WINDOW_BYTES + 100).fill(LF);
  assert.equal(findLineEnds(full, 0, full.length), WINDOW_BYTES);
  assert.equal(lineEnds[WINDOW_BYTES - 1], WINDOW_BYTES - 1);
  assert.equal(findLineEnds(new Uint8Array(20), 0, 20), 0);
  assert.equal(findLineEnds(full, 0, 17), 17);
});

Deno.test("a line longer than a window has its end found, at whatever place", () => {
  for (const at of [0, 15, 16, WINDOW_BYTES - 1, WINDOW_BYTES, 3 * WINDOW_BYTES + 5]) {
    const long = new Uint8Array(4 * WINDOW_BYTES);
    long[at + 7] = LF;
    assert.equal(findLineEnd(long, 7, long.length), at + 7);
    assert.equal(findLineEnd(long, 7, at + 7), -1);
    assert.equal(findLineEnd(long, at + 8, long.length), -1);
  }
});
