// Tests of lines out of reads.

import assert from "node:assert/strict";
import { encodeUtf8 } from "../../proto/bytes.ts";
import { LineReader } from "./line_reader.ts";

Deno.test("LineReader: the same lines, wherever the reads part them", () => {
  const bytes = encodeUtf8("one\r\n\n\ufefftwo ü €\nth\rree\r\nrest");
  const lines = ["one", "", "\ufefftwo ü €", "th\rree"];
  for (let at = 0; at <= bytes.length; at++) {
    const reader = new LineReader();
    const first = reader.push(bytes.subarray(0, at));
    assert.deepEqual([...first, ...reader.push(bytes.subarray(at))], lines, `parted at ${at}`);
    assert.equal(reader.rest(), "rest");
    assert.equal(reader.rest(), "");
  }
  const byByte = new LineReader();
  assert.deepEqual([...bytes].flatMap((byte) => byByte.push(Uint8Array.of(byte))), lines);
});

Deno.test("LineReader: the bytes of a read may be used again", () => {
  const reader = new LineReader();
  const buffer = encodeUtf8("begin");
  assert.deepEqual(reader.push(buffer), []);
  buffer.fill(0x78);
  assert.deepEqual(reader.push(encodeUtf8(" end\n")), ["begin end"]);
});
