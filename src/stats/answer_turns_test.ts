// Answers that are too many for one turn.

import assert from "node:assert/strict";
import { setImmediate } from "node:timers";
import { AnswerTurns } from "./answer_turns.ts";

Deno.test("answers: more than a slice has time for are begun in later turns, in order", async () => {
  const turns = new AnswerTurns();
  const begun: number[] = [];
  const all = Promise.withResolvers<void>();
  for (let i = 0; i < 10; i++) {
    turns.add(() => {
      const endMs = performance.now() + 3;
      while (performance.now() < endMs);
      if (begun.push(i) === 10) all.resolve();
    });
  }
  assert.deepEqual(begun, [0], "the first one need not wait");
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(begun.length < 10);
  await all.promise;
  assert.deepEqual(begun, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});
