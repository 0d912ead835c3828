// Medians, ratios and how they are shown.

import assert from "node:assert/strict";
import { faultsOf, type Run } from "./loadgen.ts";
import { processors } from "./machine.ts";
import {
  formatCount,
  formatLatency,
  formatMicros,
  formatRatio,
  formatRow,
  median,
  medianLatencies,
} from "./report.ts";
import { ratio, reportLatency, reportRow, reportServer, summarize } from "./report.ts";
import { parseRow } from "./rows.ts";

function run(deliveriesPerSecond: number, more: Partial<Run> = {}): Run {
  return {
    published: 1,
    deliveries: 1,
    seconds: 1,
    publishes_per_s: deliveriesPerSecond,
    deliveries_per_s: deliveriesPerSecond,
    generator_cpu: 0.5,
    server_cpu: 1,
    other_cpu: 0,
    lost: 0,
    duplicated: 0,
    disordered: 0,
    corrupt: 0,
    cut: 0,
    errors: 0,
    unanswered: 0,
    stalled: false,
    ...more,
  };
}

Deno.test("median: the middle one, or between the two middle ones; by number, not by text", () => {
  assert.equal(median([10, 9, 100]), 10);
  assert.equal(median([1, 4, 2, 3]), 2.5);
  assert.throws(() => median([]), RangeError);
  const values = [3, 1, 2];
  assert.deepEqual(summarize(values), { median: 2, min: 1, max: 3 });
  assert.deepEqual(values, [3, 1, 2]);
});

Deno.test("ratio: of the medians, with the extremes of single rounds", () => {
  assert.deepEqual(ratio([2, 4, 9], [1, 4, 3]), { median: 4 / 3, min: 1, max: 3 });
  assert.throws(() => ratio([1], [1, 2]), RangeError);
});

Deno.test("formatCount: three digits at every size", () => {
  const texts = [0, 7, 999, 1000, 52_000, 999_499, 999_600, 2_414_000, 19_249_000, 130_000_000].map(
    formatCount,
  );
  assert.deepEqual(texts, [
    "0",
    "7",
    "999",
    "1.00 k",
    "52.0 k",
    "999 k",
    "1.00 M",
    "2.41 M",
    "19.2 M",
    "130 M",
  ]);
  assert.equal(formatRatio({ median: 1.2345, min: 0.5, max: 12 }), "1.23× (0.50–12.0)");
});

Deno.test("reportServer: says when the generator was the limit", () => {
  assert.equal(reportServer([run(1e6)], 1e7).generator_limited, false);
  assert.equal(reportServer([run(9e6)], 1e7).generator_limited, true);
  assert.equal(reportServer([run(1e6, { generator_cpu: 0.95 })], 1e7).generator_limited, true);
});

Deno.test("reportServer: says when the machine was not ours alone", () => {
  const report = reportServer([
    run(1e6, { other_cpu: 0.5 }),
    run(1e6, { other_cpu: 0.4 }),
    run(1e6),
  ], 1e7);
  assert.equal(report.disturbed, true);
  assert.equal(reportServer([run(1e6, { other_cpu: 0.1 })], 1e7).disturbed, false);
});

Deno.test("formatRow: a line for each server, and pushd's ratios to the others", () => {
  const report = reportRow(parseRow("1x10"), [
    { name: "pushd", runs: [run(9e6), run(10e6), run(8e6)], ceiling: 30e6 },
    { name: "nats", runs: [run(3e6), run(2e6), run(4e6)], ceiling: 20e6 },
  ]);
  assert.equal(
    formatRow(report),
    "1 → 10, 64 B\n" +
      "  pushd is 3.00× (2.00–5.00) nats\n" +
      "  pushd   9.00 M  (8.00 M – 10.0 M)    cpu 1.00, 0.11 s/M  generator 0.50  ceiling 30.0 M\n" +
      "  nats    3.00 M  (2.00 M – 4.00 M)    cpu 1.00, 0.33 s/M  generator 0.50  ceiling 20.0 M\n",
  );
});

Deno.test("reportRow: no ratio to a server that delivered nothing", () => {
  const report = reportRow(parseRow("1x1"), [
    { name: "pushd", runs: [run(1e6)], ceiling: 1e7 },
    { name: "nats", runs: [run(0)], ceiling: 1e7 },
  ]);
  assert.deepEqual(report.pushd_ratio, {});
});

Deno.test("formatRow: no ratio without pushd", () => {
  const report = reportRow(parseRow("1x1"), [{ name: "nats", runs: [run(1e6)], ceiling: 1e6 }]);
  assert.deepEqual(report.pushd_ratio, {});
  assert.match(formatRow(report), /\(the generator was the limit\)\n$/);
});

Deno.test("formatRow: across a link the cores of both servers", () => {
  const runs = [run(1e6, { server_cpu: 1.5, subscribers_cpu: 0.6 })];
  const report = reportRow(parseRow("link:1x1"), [{ name: "nats", runs, ceiling: 1e7 }]);
  assert.match(
    formatRow(report),
    /^1 → 1, 64 B, across a link\n.* cpu 0\.90 \+ 0\.60, 1\.50 s\/M {2}generator/,
  );
});

Deno.test("formatLatency: what a link adds is the median of the rounds' differences", () => {
  const timed = (p50: number) => {
    const latencies = { p50, p90: 2 * p50, p99: 3 * p50, p999: 4 * p50, max: 5 * p50 };
    return run(1e6, { latency_us: latencies, send_delay_us: latencies });
  };
  const report = reportLatency(parseRow("link:1x1"), 10_000, [
    {
      name: "pushd",
      rate: 10_000,
      runs: [timed(100), timed(300), timed(40)],
      unlinkedRuns: [timed(60), timed(90), timed(50)],
    },
    { name: "nats", rate: 10_000, runs: [timed(70)] },
  ]);
  assert.equal(
    formatLatency(report),
    "1 → 1, 64 B, across a link at 10.0 k deliveries/s\n" +
      "  pushd's p50 and p99 are 1.43× and 1.43× nats\n" +
      "  pushd  p50  100 µs  p90  200 µs  p99  300 µs  p99.9  400 µs  max  500 µs  (1.00 s/M, generator late by p99 300 µs)\n" +
      "         p50   60 µs  p90  120 µs  p99  180 µs  p99.9  240 µs  max  300 µs  without the link\n" +
      "         p50   40 µs  p90   80 µs  p99  120 µs  p99.9  160 µs  max  200 µs  added by it\n" +
      "  nats   p50   70 µs  p90  140 µs  p99  210 µs  p99.9  280 µs  max  350 µs  (1.00 s/M, generator late by p99 210 µs)\n",
  );
  assert.equal(formatMicros(-12.4), "−12 µs");
});

Deno.test("formatLatency: percentiles in µs and ms", () => {
  const latencies = { p50: 33.8, p90: 50.2, p99: 917.5, p999: 3735.6, max: 12_345 };
  const timed = run(1e6, { latency_us: latencies, send_delay_us: latencies });
  const report = reportLatency(parseRow("1x1"), "half", [
    { name: "pushd", rate: 20_000, runs: [timed] },
  ]);
  assert.equal(
    formatLatency(report),
    "1 → 1, 64 B at half of what each can\n" +
      "  pushd  p50   34 µs  p90   50 µs  p99  918 µs  p99.9 3.74 ms  max 12.3 ms  " +
      "(at 20.0 k/s, 1.00 s/M, generator late by p99 918 µs)\n",
  );
  assert.equal(
    medianLatencies([latencies, { ...latencies, p50: 1 }, { ...latencies, p50: 2 }]).p50,
    2,
  );
});

Deno.test("faultsOf: nothing for a good run, every fault of a bad one", () => {
  assert.equal(faultsOf(run(1)), "");
  const bad = run(1, { lost: 3, disordered: 1, stalled: true, problem: "ERROR x" });
  assert.equal(faultsOf(bad), "3 lost, 1 out of order, stalled, first: ERROR x");
});

Deno.test("processors: counts them and names the model", () => {
  const cpuinfo =
    "processor\t: 0\nmodel name\t: AMD EPYC\nprocessor\t: 1\nmodel name\t: AMD EPYC\n";
  assert.deepEqual(processors(cpuinfo), { cores: 2, model: "AMD EPYC" });
  assert.equal(processors("").cores, 0);
});
