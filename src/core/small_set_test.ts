// A small set behaves as a Set, whatever is done to it.

import assert from "node:assert/strict";
import fc from "fast-check";
import { SmallSet } from "./small_set.ts";

const MEMBERS = Array.from({ length: 4 }, (_, id) => ({ id }));

Deno.test("any additions and deletions: the members of a Set, in its order", () => {
  const step = fc.record({ adds: fc.boolean(), member: fc.constantFrom(...MEMBERS) });
  fc.assert(fc.property(fc.array(step), (steps) => {
    const small = new SmallSet<{ id: number }>();
    const model = new Set<{ id: number }>();
    for (const { adds, member } of steps) {
      if (adds) {
        small.add(member);
        model.add(member);
      } else {
        assert.equal(small.delete(member), model.delete(member));
      }
      assert.equal(small.size, model.size);
      assert.deepEqual([...small], [...model]);
      for (const other of MEMBERS) assert.equal(small.has(other), model.has(other));
    }
  }));
});

for (const count of [1, 2, 3]) {
  Deno.test(`${count} that are taken out while they are walked over are seen once each`, () => {
    const small = new SmallSet<{ id: number }>();
    for (const member of MEMBERS.slice(0, count)) small.add(member);
    const seen: number[] = [];
    for (const member of small) {
      seen.push(member.id);
      small.delete(member);
    }
    assert.deepEqual(seen, [0, 1, 2].slice(0, count));
    assert.equal(small.size, 0);
  });
}
