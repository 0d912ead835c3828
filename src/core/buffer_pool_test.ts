// The buffer pool: size classes, reuse, and shared ownership.

import assert from "node:assert/strict";
import fc from "fast-check";
import { BufferPool } from "./buffer_pool.ts";

const MiB = 1024 * 1024;

Deno.test("a buffer is at least as large as asked, and the next power of two up to 1 MiB", () => {
  const pool = new BufferPool();
  fc.assert(fc.property(fc.integer({ min: 0, max: 3 * MiB }), (asked) => {
    const { length } = pool.take(asked);
    if (asked > MiB) return assert.equal(length, asked);
    assert.ok(length >= asked && length >= 256);
    assert.ok(length === 256 || length < 2 * asked, `${length} for ${asked}`);
    assert.equal(length & (length - 1), 0);
  }));
  for (const [asked, got] of [[0, 256], [256, 256], [257, 512], [512, 512], [MiB, MiB]]) {
    assert.equal(pool.take(asked).length, got, `${asked}`);
  }
});

Deno.test("bytes go back to the pool once the last owner has released them", () => {
  const pool = new BufferPool();
  const first = pool.acquire(300);
  first.retain();
  first.retain();
  first.release();
  first.release();
  assert.notEqual(pool.take(300), first.bytes);
  first.release();
  assert.equal(pool.take(400), first.bytes);
  assert.notEqual(pool.take(400), first.bytes);
});

Deno.test("a sealed buffer shows the bytes in use, and all of them where it is full", () => {
  const pool = new BufferPool();
  const buffer = pool.acquire(256);
  buffer.bytes.set([1, 2, 3]);
  buffer.length = 3;
  assert.equal(buffer.seal(), buffer);
  assert.deepEqual([...buffer.view], [1, 2, 3]);
  const full = pool.acquire(256);
  full.length = 256;
  assert.equal(full.seal().view, full.bytes);
});

Deno.test("bytes that are in no size class are not kept", () => {
  const pool = new BufferPool();
  for (const length of [0, 100, 300, MiB + 1, 2 * MiB]) {
    const bytes = new Uint8Array(length);
    pool.put(bytes);
    assert.notEqual(pool.take(length), bytes, `${length}`);
  }
});

Deno.test("of each size class no more than 4 MiB are kept free", () => {
  const pool = new BufferPool();
  for (const size of [256, 64 * 1024, MiB]) {
    const given = new Set(Array.from({ length: 5 * MiB / size }, () => new Uint8Array(size)));
    for (const bytes of given) pool.put(bytes);
    let reused = 0;
    while (given.has(pool.take(size))) reused++;
    assert.equal(reused * size, 4 * MiB);
  }
});
