// Moments: what is worked out from two looks, what is kept of them, and where a line is broken.

import assert from "node:assert/strict";
import { liveNumbers } from "../../tests/live_source.ts";
import { Histogram } from "../core/histogram.ts";
import type { LiveNumbers } from "./live_source.ts";
import { Sampler } from "./sampler.ts";
import { type Moment, SERIES, Timeline } from "./timeline.ts";

function moment(value: number): Moment {
  return Object.fromEntries(SERIES.map((name) => [name, value])) as Moment;
}

/** Time and first value of each row. */
function shown(timeline: Timeline): (number | null)[][] {
  return timeline.rows().map(([time, value]) => [time, value]);
}

Deno.test("timeline: the newest moments, the oldest first", () => {
  const timeline = new Timeline(3, 1000);
  assert.equal(timeline.last(), null);
  for (let i = 1; i <= 5; i++) timeline.add(i * 1000, moment(i));
  assert.deepEqual(shown(timeline), [[3000, 3], [4000, 4], [5000, 5]]);
  assert.deepEqual(timeline.last()?.slice(0, 2), [5000, 5]);
  assert.equal(timeline.last()?.length, SERIES.length + 1);
});

Deno.test("timeline: where the process stood still there is a gap, and none where it was a bit late", () => {
  const timeline = new Timeline(900, 1000);
  timeline.add(1000, moment(1));
  timeline.add(3400, moment(2));
  timeline.add(60_000, moment(3));
  assert.deepEqual(shown(timeline), [[1000, 1], [3400, 2], [4400, null], [60_000, 3]]);
});

Deno.test("timeline: a clock that was put back begins anew", () => {
  const timeline = new Timeline(900, 1000);
  timeline.add(5000, moment(1));
  timeline.add(6000, moment(2));
  timeline.add(2000, moment(3));
  assert.deepEqual(shown(timeline), [[2000, 3]]);
});

Deno.test("sampler: rates over the time between two looks, and the state at the second", () => {
  let numbers: LiveNumbers = liveNumbers({ published: 1000, bytesOut: 5 });
  let samples = 0;
  const sampler = new Sampler(() => numbers, () => samples++);
  sampler.sample(1000);
  assert.equal(sampler.timeline.length, 0);
  const startMs = performance.now();
  while (performance.now() - startMs < 20);
  numbers = liveNumbers({ published: 1300, bytesOut: 5, connections: 7, lagMs: 3 });
  sampler.sample(2000, 30);
  const { latest } = sampler;
  assert.ok(latest !== null);
  assert.equal(samples, 1);
  assert.equal(latest.connections, 7);
  // 300 in at least 20 ms.
  assert.ok(latest.published > 0 && latest.published <= 15_000, `${latest.published}`);
  assert.equal(latest.bytes_out, 0);
  // It came late itself, which says more than what was measured elsewhere.
  assert.equal(latest.lag_ms, 30);
  assert.ok(latest.resident_bytes > 1e6 && latest.cpu_percent >= 0);
  assert.ok(Number.isNaN(latest.publish_p99_ms) && Number.isNaN(latest.s2s_received));
});

Deno.test("sampler: percentiles of what came since the last look alone", () => {
  const publish = new Histogram();
  for (let i = 0; i < 1000; i++) publish.observeMs(5000);
  const sampler = new Sampler(() => {
    const latency = { publish: publish.snapshot(), delivery: new Histogram().snapshot() };
    return liveNumbers({ latency });
  }, () => {});
  sampler.sample(1000);
  for (let i = 0; i < 100; i++) publish.observeMs(i < 90 ? 1.5 : 15);
  sampler.sample(2000);
  const { publish_p50_ms, publish_p99_ms, delivery_p50_ms } = sampler.latest ?? assert.fail();
  assert.ok(publish_p50_ms > 1 && publish_p50_ms < 2, `${publish_p50_ms}`);
  assert.ok(publish_p99_ms > 10 && publish_p99_ms < 20, `${publish_p99_ms}`);
  assert.ok(Number.isNaN(delivery_p50_ms));
});
