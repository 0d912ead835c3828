// The metrics log: what stands in a line, when the next one comes, and what a file that goes away does.

import assert from "node:assert/strict";
import { Histogram } from "../core/histogram.ts";
import { goRound } from "../../tests/go_round.ts";
import { within } from "../../tests/harness_within.ts";
import { MetricsLog, type MetricsLogSource, openMetricsFile } from "./metrics_log.ts";

type Line = Record<string, string | number | null>;

/** A server whose numbers are the test's. */
class Source implements MetricsLogSource {
  readonly stats: Record<string, number> = { published: 0, bytes_in: 0, subscriptions: 0 };
  readonly publish = new Histogram();
  cpuS = 5;
  readonly #none = new Histogram().snapshot();

  snapshot() {
    const stats = { ...this.stats } as ReturnType<MetricsLogSource["snapshot"]>["stats"];
    return { version: "1.2.3", build: "dev", nodeId: "n1", uptimeS: 7, stats };
  }

  metrics() {
    const latency = { publish: this.publish.snapshot(), delivery: this.#none, commit: this.#none };
    const process = { cpuS: this.cpuS, residentBytes: 1234, startS: 1 };
    return { latency, eventLoopLagMs: 1.5, process } as ReturnType<MetricsLogSource["metrics"]>;
  }
}

async function linesOf(path: string): Promise<Line[]> {
  const text = await Deno.readTextFile(path).catch(() => "");
  return text.split("\n").slice(0, -1).map((line) => JSON.parse(line));
}

async function untilLines(path: string, count: number): Promise<Line[]> {
  let isLate = false;
  const looking = (async () => {
    for (let lines: Line[] = []; !isLate; await goRound()) {
      lines = await linesOf(path);
      if (lines.length >= count) return lines;
    }
    return [];
  })();
  return await within(() => `${count} lines in ${path}`, looking, { onLate: () => isLate = true });
}

async function inFolder(test: (path: string, folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "pushd-metrics-" });
  try {
    await test(`${folder}/m.log`, folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const HOUR_MS = 3_600_000;

Deno.test("a line has the counters, what came in its interval, and percentiles of that", async () => {
  await inFolder(async (path) => {
    const source = new Source();
    source.publish.observeMs(3000);
    source.stats.published = 1_000_000;
    const log = new MetricsLog(source);
    log.use(await openMetricsFile(path), 20);
    Object.assign(source.stats, { published: 1_000_500, bytes_in: 9, subscriptions: 3 });
    source.publish.observeMs(1.5);
    source.cpuS = 6;
    const [first] = await untilLines(path, 1);
    assert.match(`${first.time}`, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    const { node, version, uptime_s, published, bytes_in, subscriptions } = first;
    assert.deepEqual([node, version, uptime_s, published, bytes_in, subscriptions], [
      "n1",
      "1.2.3",
      7,
      1_000_500,
      9,
      3,
    ]);
    const added = Number(first.published_per_s) * Number(first.interval_s);
    assert.ok(Math.abs(added - 500) < 20, `${added}`);
    assert.ok(!("subscriptions_per_s" in first), "a rate of what goes up and down");
    // The 3 s were before.
    assert.deepEqual([first.publish_p50_ms, first.publish_p99_ms], [1.5, 1.99]);
    assert.deepEqual([first.delivery_p50_ms, first.commit_p99_ms], [null, null]);
    assert.deepEqual([first.resident_bytes, first.event_loop_lag_ms], [1234, 1.5]);
    const cpuS = Number(first.cpu_percent) / 100 * Number(first.interval_s);
    assert.ok(Math.abs(cpuS - 1) < 0.1, `${cpuS}`);
    const [, second] = await untilLines(path, 2);
    assert.deepEqual([second.published_per_s, second.publish_p50_ms], [0, null]);
    await log.close();
  });
});

Deno.test("another interval counts at once, and the end writes a last line", async () => {
  await inFolder(async (path) => {
    const source = new Source();
    const log = new MetricsLog(source);
    log.use(await openMetricsFile(path), HOUR_MS);
    log.use(undefined, 5);
    await untilLines(path, 2);
    log.use(undefined, HOUR_MS);
    const changedAt = new Date().toISOString();
    source.stats.published = 77;
    await log.close();
    const lines = await linesOf(path);
    assert.deepEqual(lines.slice(0, -1).filter(({ time }) => `${time}` > changedAt), []);
    assert.equal(lines.at(-1)?.published, 77);
    await log.close();
    assert.equal((await linesOf(path)).length, lines.length);
  });
});

Deno.test("off, on in another file, and off again", async () => {
  await inFolder(async (path, folder) => {
    const log = new MetricsLog(new Source());
    log.use(null, 1);
    log.use(await openMetricsFile(path), 1);
    await untilLines(path, 1);
    log.use(await openMetricsFile(`${folder}/other`), 1);
    await untilLines(`${folder}/other`, 1);
    log.use(null, 1);
    await log.close();
    const counts = [(await linesOf(path)).length, (await linesOf(`${folder}/other`)).length];
    assert.ok(Math.min(...counts) >= 1);
  });
});

Deno.test("reopen goes on in a new file; one that was removed is made again, also its folder", async () => {
  await inFolder(async (_, folder) => {
    await Deno.mkdir(`${folder}/logs`);
    const path = `${folder}/logs/m.log`;
    const log = new MetricsLog(new Source());
    log.use(await openMetricsFile(path), 5);
    await untilLines(path, 1);
    await Deno.rename(path, `${path}.1`);
    log.reopen();
    await untilLines(path, 1);
    await Deno.remove(`${folder}/logs`, { recursive: true });
    // What comes meanwhile waits.
    for (let i = 0; i < 20; i++) await goRound();
    await Deno.mkdir(`${folder}/logs`);
    await untilLines(path, 2);
    await log.close();
  });
});

Deno.test("a path that cannot be written is refused", async () => {
  await assert.rejects(openMetricsFile("/nowhere/m.log"), Deno.errors.NotFound);
  await assert.rejects(openMetricsFile("/"), /directory/);
});

Deno.test("a full disk keeps nobody waiting", async () => {
  const log = new MetricsLog(new Source());
  log.use(await openMetricsFile("/dev/full"), 1);
  for (let i = 0; i < 20; i++) await goRound();
  const startMs = performance.now();
  await log.close();
  assert.ok(performance.now() - startMs < 5000);
});
