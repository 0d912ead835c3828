// Rounds of deletion: what is asked of the store, and what a clock that was set does to that.

import assert from "node:assert/strict";
import { FakeTime, START_MS } from "../../tests/engine_bench.ts";
import { goRound } from "../../tests/go_round.ts";
import { type PruneRequest, type PruneStep, StoreError } from "./ports/history_store.ts";
import { Retention, type RetentionLimits } from "./retention.ts";

const HOUR_MS = 3_600_000;
const DONE: PruneStep = { pruned: [], cursor: undefined };

/** Retention before a store that notes what it is asked for. */
class Bench {
  readonly time = new FakeTime();
  readonly asked: PruneRequest[] = [];
  readonly pruned: string[] = [];
  /** What the next steps answer. */
  readonly steps: (PruneStep | Error)[] = [];
  isUp = true;
  readonly retention: Retention;

  constructor(limits: Partial<RetentionLimits>) {
    this.retention = new Retention({
      limits: { maxAgeMs: 0, keepPerChannel: 0, ...limits },
      prune: (request) => {
        this.asked.push(request);
        const step = this.steps.shift() ?? DONE;
        return step instanceof Error ? Promise.reject(step) : Promise.resolve(step);
      },
      isUp: () => this.isUp,
      onPruned: (app, channel, ts) => void this.pruned.push(`${app} ${channel} ${ts}`),
      time: this.time,
    });
  }

  /** Time passes, on both clocks. */
  pass(ms: number): void {
    this.time.mono += ms;
    this.time.wall += ms;
  }

  /** One round; what the first step was asked for. */
  async round(): Promise<Omit<PruneRequest, "cursor"> | undefined> {
    const { length } = this.asked;
    await this.retention.round();
    const asked = this.asked[length];
    return asked && { beforeTs: asked.beforeTs, keepPerChannel: asked.keepPerChannel };
  }
}

Deno.test("a round goes on to its end, and each channel is told of", async () => {
  const bench = new Bench({ maxAgeMs: HOUR_MS, keepPerChannel: 7 });
  bench.steps.push(
    { pruned: [{ app: "a", channel: "c", prunedTs: 5 }], cursor: "one" },
    { pruned: [], cursor: 0 },
    { pruned: [{ app: "b", channel: "d", prunedTs: 9 }], cursor: undefined },
  );
  await bench.round();
  const beforeTs = (START_MS - HOUR_MS) * 1000;
  assert.deepEqual(
    bench.asked,
    [undefined, "one", 0].map((cursor) => ({ beforeTs, keepPerChannel: 7, cursor })),
  );
  assert.deepEqual(bench.pruned, ["a c 5", "b d 9"]);
  bench.pass(1000);
  const again = await bench.round();
  assert.deepEqual(again, { beforeTs: beforeTs + 1_000_000, keepPerChannel: 7 });
});

Deno.test("nothing is asked where everything may be kept, or while the store is down", async () => {
  assert.equal(await new Bench({}).round(), undefined);
  // Nothing can be so old.
  assert.equal(await new Bench({ maxAgeMs: 2 * START_MS }).round(), undefined);
  const bench = new Bench({ maxAgeMs: HOUR_MS });
  bench.isUp = false;
  assert.equal(await bench.round(), undefined);
  bench.isUp = true;
  bench.steps.push({ pruned: [{ app: "a", channel: "c", prunedTs: 1 }], cursor: 1 });
  const rounds = bench.retention.round();
  bench.isUp = false;
  await rounds;
  assert.equal(bench.asked.length, 1);
  assert.deepEqual(bench.pruned, ["a c 1"]);
});

Deno.test("a clock that was set stops deletion by age for an hour, not that by number", async () => {
  for (const jumpMs of [-24 * HOUR_MS, -5001, 5001, 24 * HOUR_MS]) {
    const bench = new Bench({ maxAgeMs: HOUR_MS, keepPerChannel: 7 });
    const paused = { beforeTs: 0, keepPerChannel: 7 };
    const active = () => ({ beforeTs: (bench.time.wall - HOUR_MS) * 1000, keepPerChannel: 7 });
    assert.deepEqual(await bench.round(), active());
    bench.pass(60_000);
    assert.deepEqual(await bench.round(), active());
    bench.time.wall += jumpMs;
    assert.deepEqual(await bench.round(), paused, `${jumpMs}`);
    bench.pass(HOUR_MS - 1);
    assert.deepEqual(await bench.round(), paused);
    bench.pass(1);
    assert.deepEqual(await bench.round(), active());
    // Set again before the hour is over: an hour from then on.
    bench.time.wall += jumpMs;
    assert.deepEqual(await bench.round(), paused);
    bench.pass(HOUR_MS / 2);
    bench.time.wall -= jumpMs;
    assert.deepEqual(await bench.round(), paused);
    bench.pass(HOUR_MS - 1);
    assert.deepEqual(await bench.round(), paused);
    bench.pass(1);
    assert.deepEqual(await bench.round(), active());
  }
});

Deno.test("a clock that is slewed deletes on", async () => {
  const bench = new Bench({ maxAgeMs: HOUR_MS });
  for (let i = 0; i < 100; i++) {
    bench.pass(60_000);
    bench.time.wall += i % 2 === 0 ? 5000 : -4000;
    const beforeTs = (bench.time.wall - HOUR_MS) * 1000;
    assert.deepEqual(await bench.round(), { beforeTs, keepPerChannel: 0 });
  }
});

Deno.test("by age alone nothing at all is asked while the clock is not trusted", async () => {
  const bench = new Bench({ maxAgeMs: HOUR_MS });
  bench.time.wall += 10_000;
  assert.equal(await bench.round(), undefined);
});

Deno.test("rounds begin by themselves, go on after a failure, and end with the step under way", async () => {
  // The rounds wait for a second at least; it passes at once here.
  const { setTimeout: original } = globalThis;
  const naps: (number | undefined)[] = [];
  globalThis.setTimeout = ((fn: () => void, ms?: number) => {
    naps.push(ms);
    return original(fn, 0);
  }) as typeof setTimeout;
  try {
    const bench = new Bench({ maxAgeMs: HOUR_MS });
    bench.steps.push(new StoreError("unavailable", "down for a test"));
    bench.retention.start();
    bench.retention.start();
    while (bench.asked.length < 3) await goRound();
    await bench.retention.stop();
    const { length } = bench.asked;
    for (let i = 0; i < 5; i++) await goRound();
    assert.equal(bench.asked.length, length);
    // A tenth of the age, but once a minute; more often where messages are counted.
    assert.ok(naps.every((ms) => ms === 60_000), `${naps}`);
    for (
      const [limits, ms] of [
        [{ maxAgeMs: 1000 }, 1000],
        [{ maxAgeMs: 100_000 }, 10_000],
        [{ keepPerChannel: 1 }, 5000],
        [{ keepPerChannel: 1, maxAgeMs: 20_000 }, 2000],
      ] as const
    ) {
      naps.length = 0;
      const other = new Bench(limits);
      other.retention.start();
      while (naps.length === 0) await goRound();
      await other.retention.stop();
      assert.equal(naps[0], ms);
    }
  } finally {
    globalThis.setTimeout = original;
  }
});

Deno.test("any other failure is a bug, and not hidden", async () => {
  const bench = new Bench({ maxAgeMs: HOUR_MS });
  bench.steps.push(new TypeError("a bug"));
  await assert.rejects(() => bench.round(), TypeError);
});
