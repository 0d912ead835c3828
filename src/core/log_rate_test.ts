import assert from "node:assert/strict";
import { LogRate } from "./log_rate.ts";

Deno.test("LogRate: one line a period, with the number of those that were left out", () => {
  const rate = new LogRate(1000);
  assert.deepEqual(rate.next(5000), {});
  assert.equal(rate.next(5001), null);
  assert.equal(rate.next(5999), null);
  assert.deepEqual(rate.next(6000), { further: 2 });
  assert.deepEqual(rate.next(9000), {});
});
