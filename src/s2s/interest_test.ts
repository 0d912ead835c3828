import assert from "node:assert/strict";
import { BloomFilter, hashChannel } from "./bloom_filter.ts";
import { FrameError } from "./frame.ts";
import { FilteredInterest, ListedInterest } from "./interest.ts";

Deno.test("interest: a list holds what was added, by application", () => {
  const list = new ListedInterest();
  list.add({ app: "a", channel: "b:c" });
  list.add({ app: "a", channel: "b:c" });
  assert.equal(list.size, 1);
  assert.ok(list.has({ app: "a", channel: "b:c" }));
  assert.ok(!list.has({ app: "a:b", channel: "c" }));
  list.remove({ app: "a", channel: "b:c" });
  assert.ok(!list.has({ app: "a", channel: "b:c" }));
  assert.equal(list.size, 0);
});

Deno.test("bloom filter: no member is missed, and few others pass", () => {
  const filter = BloomFilter.for(10_000);
  for (let i = 0; i < 10_000; i++) filter.add(hashChannel("default", `channel${i}`, filter.seed));
  let passed = 0;
  for (let i = 0; i < 10_000; i++) {
    assert.ok(filter.has(hashChannel("default", `channel${i}`, filter.seed)));
    if (filter.has(hashChannel("default", `other${i}`, filter.seed))) passed++;
  }
  assert.ok(passed < 200, `${passed} of 10,000 others pass`);
});

Deno.test("interest: a filter that is sent in parts is the same filter", () => {
  const filter = BloomFilter.for(100);
  filter.add(hashChannel("default", "c", filter.seed));
  const received = new FilteredInterest(filter.bits, filter.seed);
  const half = filter.bytes.length / 2;
  received.setBytes(0, filter.bytes.subarray(0, half));
  received.setBytes(half, filter.bytes.subarray(half));
  assert.ok(received.has({ app: "default", channel: "c" }));
  received.addHash(hashChannel("default", "d", filter.seed));
  assert.ok(received.has({ app: "default", channel: "d" }));
});

Deno.test("interest: a filter that cannot be is refused before anything is allocated", () => {
  for (const bits of [0, 7, 12, 2 ** 40, NaN]) {
    assert.throws(() => new FilteredInterest(bits, 1), FrameError);
  }
  const filter = new FilteredInterest(1024, 1);
  assert.throws(() => filter.setBytes(128, new Uint8Array(1)), FrameError);
});
