// What is hidden of appends that have not resolved, when some of it is settled, and that it costs little.

import assert from "node:assert/strict";
import { Unsettled } from "./mongodb_unsettled.ts";

const NAME = { app: "app", channel: "ch" };
const range = (firstTs: number, lastTs: number, node = "a") => ({ ...NAME, node, firstTs, lastTs });

Deno.test("what is settled is hidden no more, wherever it is cut", () => {
  const unsettled = new Unsettled();
  unsettled.begin([range(10, 19), range(20, 29), range(20, 29, "b")]);
  assert.deepEqual(unsettled.hidden(NAME), [
    { node: "a", firstTs: 10, lastTs: 29 },
    { node: "b", firstTs: 20, lastTs: 29 },
  ]);
  unsettled.settle([range(5, 12), range(12, 14), range(25, 40)]);
  assert.deepEqual(unsettled.hidden(NAME), [
    { node: "a", firstTs: 15, lastTs: 24 },
    { node: "b", firstTs: 20, lastTs: 29 },
  ]);
  unsettled.settle([range(0, 99), range(17, 18)]);
  assert.deepEqual(unsettled.hidden(NAME), [{ node: "b", firstTs: 20, lastTs: 29 }]);
  unsettled.settle([range(21, 28, "b")]);
  assert.deepEqual(unsettled.hidden(NAME), [{ node: "b", firstTs: 20, lastTs: 29 }]);
  unsettled.settle([range(20, 20, "b"), range(29, 29, "b")]);
  assert.deepEqual(unsettled.hidden(NAME), []);
});

Deno.test("what is in doubt is found by its range, and is in doubt until that is settled", () => {
  const unsettled = new Unsettled();
  const keys = [1, 2, 3, 4].map((ts) => ({ ...NAME, ts, node: "a" }));
  unsettled.doubt([...keys, { ...NAME, ts: 2, node: "b" }]);
  assert.deepEqual(unsettled.inDoubt([range(3, 9), range(1, 1)]), [keys[0], keys[2], keys[3]]);
  assert.deepEqual(unsettled.inDoubt([{ ...range(0, 9), channel: "other" }]), []);
  unsettled.settle([range(2, 3)]);
  assert.deepEqual(unsettled.inDoubt([range(0, 9)]), [keys[0], keys[3]]);
});

Deno.test("an append of 50,000 batches of one channel is settled at once", () => {
  const unsettled = new Unsettled();
  const ranges = Array.from({ length: 50_000 }, (_, i) => range(2 * i, 2 * i));
  unsettled.begin(ranges);
  unsettled.doubt(
    ranges.slice(0, 2000).map(({ firstTs }) => ({ ...NAME, ts: firstTs, node: "a" })),
  );
  const startMs = performance.now();
  unsettled.settle(ranges);
  // Some 30 ms; a minute where each is compared with each.
  const ms = performance.now() - startMs;
  assert.ok(ms < 2000, `it took ${ms} ms`);
  assert.deepEqual(unsettled.hidden(NAME), []);
  assert.deepEqual(unsettled.inDoubt(ranges), []);
});
