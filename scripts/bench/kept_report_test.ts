// Figures and texts of the rows about messages that are kept, and the disk they are kept on.

import assert from "node:assert/strict";
import { askFaultsOf, type AskRun } from "./asker.ts";
import { fileSystemOf } from "./disk.ts";
import { formatAnswers, formatWriting, reportAnswers, reportWriting } from "./kept_report.ts";
import type { Run } from "./loadgen.ts";
import { parseRow } from "./rows.ts";
import { inTurns, leastDisturbed } from "./turns.ts";

function answers(perS: number, more: Partial<AskRun> = {}): AskRun {
  return {
    asked: 1,
    answered: 1,
    seconds: 1,
    answers_per_s: perS,
    generator_cpu: 0.5,
    server_cpu: 1,
    other_cpu: 0,
    errors: 0,
    odd: 0,
    disordered: 0,
    unanswered: 0,
    stalled: false,
    latency_us: { p50: 100, p90: 200, p99: 1500, p999: 2000, max: 3000 },
    ...more,
  };
}

function deliveries(perS: number): Run {
  return {
    published: 1,
    deliveries: 1,
    seconds: 1,
    publishes_per_s: perS / 100,
    deliveries_per_s: perS,
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
  };
}

const ROW = { row: "durable:100", title: "100 publishers", unit: "acknowledged/s", perAnswer: 1 };

Deno.test("formatAnswers: a line for each way, and pushd's ratios to the others", () => {
  const report = reportAnswers({
    ...ROW,
    measured: [
      { name: "pushd", runs: [answers(50e3), answers(40e3), answers(60e3)], ceiling: 200e3 },
      { name: "redis xadd", runs: [answers(25e3), answers(20e3), answers(20e3)], ceiling: 200e3 },
    ],
  });
  assert.equal(
    formatAnswers(report),
    "100 publishers: acknowledged/s\n" +
      "  pushd is 2.50× (2.00–3.00) redis xadd\n" +
      "  pushd        50.0 k  (40.0 k – 60.0 k)    p50 100 µs, p99 1.50 ms  " +
      "cpu 1.00, 20 µs each, generator 0.50  ceiling  200 k\n" +
      "  redis xadd   20.0 k  (20.0 k – 25.0 k)    p50 100 µs, p99 1.50 ms  " +
      "cpu 1.00, 50 µs each, generator 0.50  ceiling  200 k\n",
  );
});

Deno.test("reportAnswers: a page counts for its messages; no ratio without pushd", () => {
  const measured = [{ name: "jetstream", runs: [answers(500)], ceiling: 510 }];
  const report = reportAnswers({ ...ROW, perAnswer: 1000, measured });
  assert.equal(report.servers.jetstream.per_s.median, 500e3);
  assert.equal(report.servers.jetstream.generator_limited, true);
  assert.deepEqual(report.pushd_ratio, {});
});

Deno.test("formatWriting: ratios to the way that keeps nothing", () => {
  const runs = new Map([["no storage", [deliveries(40e6)]], ["storage: memory", [
    deliveries(30e6),
  ]]]);
  assert.equal(
    formatWriting(
      reportWriting({ kind: "writing", id: "writing:1x100", row: parseRow("1x100") }, runs, null),
    ),
    "1 → 100, 64 B, pushd beside writing: deliveries/s\n" +
      "  no storage                            40.0 M  (40.0 M – 40.0 M)    cpu 1.00, 0.03 s/M  generator 0.50\n" +
      "  storage: memory  0.75× (0.75–0.75)    30.0 M  (30.0 M – 30.0 M)    cpu 1.00, 0.03 s/M  generator 0.50\n",
  );
});

Deno.test("askFaultsOf: nothing for a good run, every fault of a bad one", () => {
  assert.equal(askFaultsOf(answers(1)), "");
  const bad = answers(1, { errors: 1, unanswered: 2, stalled: true, problem: "ERROR x" });
  assert.equal(askFaultsOf(bad), "1 refused, 2 unanswered, stalled, first: ERROR x");
});

Deno.test("fileSystemOf: that of the longest mount point above the path", () => {
  const mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/disk xfs rw 0 0\n";
  assert.equal(fileSystemOf("/var/tmp", mounts), "ext4");
  assert.equal(fileSystemOf("/tmp", mounts), "tmpfs");
  assert.equal(fileSystemOf("/tmpx", mounts), "ext4");
  assert.equal(fileSystemOf("/tmp/disk/x", mounts), "xfs");
  assert.equal(fileSystemOf("/", ""), "unknown");
});

Deno.test("inTurns: one run of each contender, then the next round", async () => {
  const order: string[] = [];
  const runs = await inTurns(["a", "b"], 2, (contender, round) => {
    order.push(contender + round);
    return Promise.resolve(round);
  });
  assert.deepEqual(order, ["a1", "b1", "a2", "b2"]);
  assert.deepEqual(runs.get("b"), [1, 2]);
});

Deno.test("leastDisturbed: an undisturbed run is not repeated, a disturbed one is", async () => {
  const tries = [{ other_cpu: 0.5, figure: 9 }, { other_cpu: 0.1, figure: 1 }];
  let i = 0;
  const next = () => Promise.resolve(tries[i++]);
  assert.equal((await leastDisturbed(0, next)).figure, 9);
  i = 0;
  assert.equal((await leastDisturbed(3, next)).figure, 1);
  assert.equal(i, 2);
});
