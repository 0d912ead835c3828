// Buckets, sums, what lies between two looks, and percentiles.

import assert from "node:assert/strict";
import { between, BOUNDS_S, countOf, Histogram, quantile } from "./histogram.ts";

function of(...ms: number[]): Histogram {
  const histogram = new Histogram();
  for (const one of ms) histogram.observeMs(one);
  return histogram;
}

Deno.test("a histogram puts each duration into the first bucket that is not too small", () => {
  // On a bound, just above it, nothing, and beyond all.
  const { counts, bounds_s, sum_s } = of(0, 0.05, 0.050001, 1000, 10_000, 10_001, -3).snapshot();
  assert.equal(bounds_s, BOUNDS_S);
  assert.equal(counts.length, BOUNDS_S.length + 1);
  const filled = counts.flatMap((count, i) => count > 0 ? [[bounds_s[i] ?? Infinity, count]] : []);
  assert.deepEqual(filled, [[0.00005, 3], [0.0001, 1], [1, 1], [10, 1], [Infinity, 1]]);
  assert.ok(Math.abs(sum_s - 21.001100001) < 1e-9, `${sum_s}`);
  assert.deepEqual([...BOUNDS_S].sort((a, b) => a - b), BOUNDS_S);
});

Deno.test("a snapshot stays as it was, and two give what came between them", () => {
  const histogram = of(1, 3);
  const before = histogram.snapshot();
  histogram.observeMs(3);
  histogram.observeMs(40);
  assert.equal(countOf(before), 2);
  const since = between(before, histogram.snapshot());
  assert.equal(countOf(since), 2);
  assert.ok(Math.abs(since.sum_s - 0.043) < 1e-9);
  assert.equal(since.counts[BOUNDS_S.indexOf(0.001)], 0);
  assert.equal(since.counts[BOUNDS_S.indexOf(0.005)], 1);
});

Deno.test("a quantile lies within its bucket", () => {
  const hundred = of(...Array(98).fill(1.5), 30, 30);
  const snapshot = hundred.snapshot();
  const near = (q: number, expected: number) => {
    const found = quantile(snapshot, q) ?? NaN;
    assert.ok(Math.abs(found - expected) < 1e-12, `${q}: ${found}, not ${expected}`);
  };
  near(0, 0.001);
  near(0.49, 0.0015);
  near(0.98, 0.002);
  near(0.99, 0.035);
  near(1, 0.05);
  assert.equal(quantile(of(60_000).snapshot(), 0.5), 10);
  assert.equal(quantile(of().snapshot(), 0.5), null);
});
