// Buffers for reads: none is lent twice, tiny ones share their memory, large ones do not.

import assert from "node:assert/strict";
import { ReadBuffers, TINY_BYTES } from "./read_buffers.ts";

Deno.test("tiny buffers lie beside each other, and none is lent twice", () => {
  const buffers = new ReadBuffers();
  const lent = Array.from({ length: 1000 }, () => buffers.take(TINY_BYTES));
  lent.forEach((buffer, i) => buffer.fill(i % 251));
  lent.forEach((buffer, i) => {
    assert.equal(buffer.length, TINY_BYTES);
    assert.ok(buffer.every((byte) => byte === i % 251), `buffer ${i} was written to by another`);
  });
  const pieces = new Set(lent.map(({ buffer }) => buffer));
  assert.ok(pieces.size < 20, `${pieces.size} pieces for 1000 tiny buffers`);
});

Deno.test("what is given back is lent again, of its own size", () => {
  const buffers = new ReadBuffers();
  const tiny = buffers.take(1);
  const large = buffers.take(TINY_BYTES + 1);
  assert.ok(large.length > TINY_BYTES);
  buffers.put(tiny);
  buffers.put(large);
  assert.equal(buffers.take(TINY_BYTES), tiny);
  assert.equal(buffers.take(TINY_BYTES + 1), large);
  assert.notEqual(buffers.take(TINY_BYTES), tiny);
});
