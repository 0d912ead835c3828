// The byte helpers, against what they stand for.

import assert from "node:assert/strict";
import fc from "fast-check";
import { anyText } from "../../tests/any_text.ts";
import { decodeUtf8, encodeUtf8, indexOfByte, isUtf8 } from "./bytes.ts";

Deno.test("a byte is found where a plain search finds it, and only within the bounds", () => {
  const bytes = fc.uint8Array({ maxLength: 400, max: 3 });
  fc.assert(fc.property(bytes, fc.nat(3), fc.nat(400), fc.nat(400), (buf, byte, a, b) => {
    const start = Math.min(a, b, buf.length);
    const end = Math.min(Math.max(a, b), buf.length);
    const at = buf.subarray(start, end).indexOf(byte);
    assert.equal(indexOfByte(buf, byte, start, end), at < 0 ? -1 : start + at);
  }));
  const sparse = new Uint8Array(1000);
  for (const at of [0, 95, 96, 97, 500, 999]) {
    sparse.fill(0)[at] = 1;
    assert.equal(indexOfByte(sparse, 1, 0, 1000), at);
    assert.equal(indexOfByte(sparse, 1, 0, at), -1);
    assert.equal(indexOfByte(sparse, 1, at, at + 1), at);
  }
});

Deno.test("UTF-8 is told from what is not, and a leading U+FEFF stays", () => {
  assert.equal(decodeUtf8(Uint8Array.of(0xef, 0xbb, 0xbf, 0x61)), "\ufeffa");
  for (
    const bytes of [[0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0x80], [0xc3]]
  ) {
    const surrounded = Uint8Array.of(0x61, ...bytes, 0x61);
    assert.ok(!isUtf8(surrounded));
    assert.ok(!isUtf8(surrounded, 1, 1 + bytes.length));
    assert.ok(isUtf8(surrounded, 0, 1));
    assert.throws(() => decodeUtf8(surrounded), TypeError);
  }
  fc.assert(fc.property(anyText(), (text) => {
    const bytes = encodeUtf8(text);
    assert.ok(isUtf8(bytes));
    assert.equal(decodeUtf8(bytes), text);
  }));
});
