// The first few of many: the same as by sorting.

import assert from "node:assert/strict";
import fc from "fast-check";
import { Slices } from "./slices.ts";
import { Top } from "./top.ts";

Deno.test("top: the first of all, in order, as if all were sorted", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(50)), fc.nat(60), async (numbers, limit) => {
      const top = new Top<number>(limit + 1, (a, b) => a > b);
      for (const number of numbers) top.add(number);
      const sorted = numbers.toSorted((a, b) => b - a).slice(0, limit + 1);
      assert.equal(top.last, numbers.length > limit ? sorted.at(-1) : undefined);
      assert.deepEqual(await top.take(new Slices()), sorted);
    }),
  );
});
