// Copies of texts, against plain ones.

import assert from "node:assert/strict";
import fc from "fast-check";
import { copyText, LastView, viewOf } from "./text_copy.ts";

const encoder = new TextEncoder();

/** `bytes[start, end)` copied to `at` of bytes that must stay as they are around it. */
function copied(bytes: Uint8Array, start: number, end: number, at: number): Uint8Array {
  const out = new Uint8Array(at + end - start + 14).fill(0xee).subarray(5);
  assert.equal(copyText(viewOf(out), at, viewOf(bytes), start, end), at + end - start);
  assert.ok(out.subarray(0, at).every((byte) => byte === 0xee));
  assert.ok(out.subarray(at + end - start).every((byte) => byte === 0xee));
  return out.subarray(at, at + end - start);
}

Deno.test("text is copied as it is, wherever it begins and ends", () => {
  // What comes nearest to a NaN: the first byte of the longest characters, and 0x7F.
  const unit = fc.constantFrom(
    "\x7f",
    "\u{10ffff}",
    "\u{40000}",
    "\u{fffff}",
    "é",
    "\uffff",
    "\0",
    "a",
  );
  const text = fc.array(unit, { maxLength: 60 }).map((units) => units.join(""));
  fc.assert(
    fc.property(text, fc.nat(20), fc.nat(20), fc.nat(20), (text, skip, drop, at) => {
      const bytes = encoder.encode(text);
      const start = Math.min(skip, bytes.length);
      const end = Math.max(start, bytes.length - drop);
      assert.deepEqual(copied(bytes, start, end, at), bytes.slice(start, end));
    }),
    { numRuns: 500 },
  );
});

Deno.test("a long text is copied as it is, too", () => {
  const bytes = encoder.encode("é🎉z".repeat(300));
  for (const end of [1025, 1026, 1027, bytes.length]) {
    // From the second view on one that does not begin where its buffer does.
    for (const view of [bytes, bytes.slice(0, end + 3).subarray(3), bytes.subarray(5)]) {
      const last = Math.min(end, view.length);
      assert.deepEqual(copied(view, 2, last, 3), view.slice(2, last));
    }
  }
});

Deno.test("no eight bytes of a text are those of a NaN", () => {
  const ends = [...Array(0x80).keys(), 0x80, 0xbf, 0xc2, 0xdf, 0xe0, 0xef, 0xf0, 0xf4];
  const decoder = new TextDecoder("utf-8", { fatal: true });
  // The two bytes that hold a float's exponent, in texts in which they can stand beside each other.
  for (const low of ends) {
    for (const high of ends) {
      const tails = ["", "\x80", "\x80\x80", "\x80\x80\x80", "\x90\x80\x80", "\xa0\x80"];
      const heads = [
        "",
        "\xf0\x90\x80",
        "\xf0\x90",
        "\xe1\x80",
        "\xe1",
        "\xc2",
        "\xf1",
        "\xf1\x80",
      ];
      const isText = heads.some((head) =>
        tails.some((tail) => {
          const bytes = Uint8Array.from(
            [...head, String.fromCharCode(low), String.fromCharCode(high), ...tail],
            (c) => c.charCodeAt(0),
          );
          try {
            decoder.decode(bytes);
            return true;
          } catch {
            return false;
          }
        })
      );
      if (!isText) continue;
      const float = new DataView(new ArrayBuffer(8));
      float.setUint32(0, 0x01020304);
      float.setUint8(6, low);
      float.setUint8(7, high);
      assert.ok(!Number.isNaN(float.getFloat64(0, true)), `${low} ${high}`);
    }
  }
});

Deno.test("a last view is that of the bytes it was asked for", () => {
  const last = new LastView();
  const bytes = Uint8Array.of(1, 2, 3, 4);
  const part = bytes.subarray(2);
  for (const asked of [bytes, part, part, bytes]) {
    const view = last.of(asked);
    assert.deepEqual([view.byteLength, view.getUint8(0)], [asked.length, asked[0]]);
  }
});
