import assert from "node:assert/strict";
import { compareNodes, Vector } from "./vector.ts";

Deno.test("a vector: a timestamp for each node, which only grows", () => {
  const vector = new Vector(10, [["a", 20], ["b", 5]]);
  assert.deepEqual(["a", "b", "c"].map((node) => vector.get(node)), [20, 5, 10]);
  assert.equal(vector.min, 5);
  const copy = vector.copy();
  vector.raise("a", 15);
  vector.raise("b", 12);
  vector.raise("c", 11);
  assert.deepEqual(["a", "b", "c"].map((node) => vector.get(node)), [20, 12, 11]);
  assert.equal(vector.min, 10);
  assert.deepEqual(["a", "b", "c"].map((node) => copy.get(node)), [20, 5, 10]);
});

Deno.test("nodes are in the order of their names' bytes", () => {
  const names = ["b", "a", "é", "z", "\u{1F600}", "\u{FFFD}"];
  assert.deepEqual(names.toSorted(compareNodes), ["a", "b", "z", "é", "\u{FFFD}", "\u{1F600}"]);
});
