// The text of /metrics, and the path in the app, without a socket.

import assert from "node:assert/strict";
import { statsDeps } from "../../tests/stats_deps.ts";
import { BOUNDS_S, Histogram } from "../core/histogram.ts";
import { createStatsApp, type StatsDeps } from "./app.ts";
import { type MetricNumbers, metricsText } from "./metrics.ts";

/** A histogram's snapshot, and its series by the name of the metric. */
function durations(...ms: number[]) {
  const histogram = new Histogram();
  for (const one of ms) histogram.observeMs(one);
  const snapshot = histogram.snapshot();
  return {
    snapshot,
    series(name: string): Record<string, number> {
      const atMost = (s: number) => ms.filter((one) => one / 1000 <= s).length;
      const buckets = [...BOUNDS_S, Infinity].map((le) => {
        return [`${name}_bucket{le="${le === Infinity ? "+Inf" : le}"}`, atMost(le)];
      });
      const sum = snapshot.sum_s;
      return { ...Object.fromEntries(buckets), [`${name}_sum`]: sum, [`${name}_count`]: ms.length };
    },
  };
}

const PUBLISH = durations(0.25, 0.25, 3000);
const DELIVERY = durations(0.5, 20_000);
const COMMIT = durations();

const NUMBERS: MetricNumbers = {
  version: "1.2.3",
  ready: true,
  failing: { storage: false, s2s: true },
  connections: 1,
  connectionsLimit: 100,
  connectionsTotal: 2,
  connectionsRefused: 21,
  disconnects: { client: 3, "slow-consumer": 0 },
  subscriptions: 4,
  channels: 5,
  published: 6,
  delivered: 7,
  bytesIn: 8,
  bytesOut: 9,
  commands: { pub: 10, sub: 0 },
  errors: { "bad-argument": 11, "too-busy": 0 },
  latency: { publish: PUBLISH.snapshot, delivery: DELIVERY.snapshot, commit: COMMIT.snapshot },
  storagePending: 12,
  storagePendingLimit: 120,
  storageErrors: 13,
  historyCacheBytes: 14,
  historyCache: { hits: 140, misses: 141 },
  s2s: { links: 2, forwarded: 30, received: 31, replayBytes: 32, lost: 3 },
  nodes: { up: 2, connecting: 0, down: 1 },
  configReloads: { ok: 15, failed: 16 },
  eventLoopLagMs: 17,
  clientFiles: 170,
  clientFilesLimit: 171,
  fileLimit: 172,
  process: { cpuS: 18.5, residentBytes: 19, startS: 20.25 },
};

/** Every series and its value, the same in both formats. */
const SERIES: Record<string, number> = {
  "pushd_ready": 1,
  'pushd_failing{what="storage"}': 0,
  'pushd_failing{what="s2s"}': 1,
  "pushd_connections": 1,
  "pushd_connections_limit": 100,
  "pushd_connections_total": 2,
  "pushd_connections_refused_total": 21,
  'pushd_disconnects_total{reason="client"}': 3,
  'pushd_disconnects_total{reason="slow-consumer"}': 0,
  "pushd_subscriptions": 4,
  "pushd_channels": 5,
  "pushd_messages_published_total": 6,
  "pushd_messages_delivered_total": 7,
  "pushd_bytes_in_total": 8,
  "pushd_bytes_out_total": 9,
  'pushd_commands_total{command="pub"}': 10,
  'pushd_commands_total{command="sub"}': 0,
  'pushd_errors_total{code="bad-argument"}': 11,
  'pushd_errors_total{code="too-busy"}': 0,
  ...PUBLISH.series("pushd_publish_duration_seconds"),
  ...DELIVERY.series("pushd_delivery_duration_seconds"),
  ...COMMIT.series("pushd_storage_commit_duration_seconds"),
  "pushd_storage_pending": 12,
  "pushd_storage_pending_limit": 120,
  "pushd_storage_errors_total": 13,
  "pushd_history_cache_bytes": 14,
  "pushd_history_cache_hits_total": 140,
  "pushd_history_cache_misses_total": 141,
  "pushd_s2s_links": 2,
  "pushd_s2s_forwarded_total": 30,
  "pushd_s2s_received_total": 31,
  "pushd_s2s_replay_bytes": 32,
  "pushd_s2s_lost_total": 3,
  'pushd_s2s_nodes{state="up"}': 2,
  'pushd_s2s_nodes{state="connecting"}': 0,
  'pushd_s2s_nodes{state="down"}': 1,
  'pushd_config_reloads_total{result="ok"}': 15,
  'pushd_config_reloads_total{result="failed"}': 16,
  "pushd_event_loop_lag_seconds": 0.017,
  'pushd_build_info{version="1.2.3"}': 1,
  "pushd_client_files": 170,
  "pushd_client_files_limit": 171,
  "process_max_fds": 172,
  "process_cpu_seconds_total": 18.5,
  "process_resident_memory_bytes": 19,
  "process_start_time_seconds": 20.25,
};

/** Families with their types, and series with their values; fails on anything else and on one that is there twice. */
function parse(text: string): { types: Record<string, string>; series: Record<string, number> } {
  const types: Record<string, string> = {};
  const series: Record<string, number> = {};
  let helped = "";
  for (const line of text.split("\n")) {
    const help = /^# HELP (\w+) \S.*\.$/.exec(line);
    const type = /^# TYPE (\w+) (\w+)$/.exec(line);
    const sample = /^(\w+(?:\{\w+="[^"\\]+"\})?) (\d+(?:\.\d+)?)$/.exec(line);
    if (help !== null) helped = help[1];
    else if (type !== null) {
      assert.equal(type[1], helped, "each type stands behind its help");
      assert.ok(!(type[1] in types), `${type[1]} twice`);
      types[type[1]] = type[2];
    } else if (sample !== null) {
      assert.ok(!(sample[1] in series), `${sample[1]} twice`);
      series[sample[1]] = Number(sample[2]);
    } else assert.ok(line === "" || line === "# EOF", `a line that means nothing: ${line}`);
  }
  return { types, series };
}

Deno.test("metrics: every number in Prometheus text, counters under their whole name", async () => {
  const text = await metricsText(NUMBERS, "prometheus");
  const { types, series } = parse(text);
  assert.deepEqual(series, SERIES);
  for (const [name, type] of Object.entries(types)) {
    const expected = /_total$/.test(name)
      ? "counter"
      : /_duration_seconds$/.test(name)
      ? "histogram"
      : "gauge";
    assert.equal(type, expected, name);
  }
  assert.doesNotMatch(text, /# EOF/);
});

Deno.test("metrics: the same in OpenMetrics, which names a counter without _total", async () => {
  const text = await metricsText(NUMBERS, "openMetrics");
  assert.match(text, /[^\n]\n# EOF\n$/);
  assert.doesNotMatch(text, /\n\n/, "an empty line is an error there");
  const { types, series } = parse(text);
  assert.deepEqual(series, SERIES);
  const counters = Object.keys(types).filter((name) => types[name] === "counter");
  const expected = Object.keys(SERIES).map((name) => name.replace(/\{.*/, ""))
    .filter((name) => name.endsWith("_total") && name !== "pushd_connections_total")
    .map((name) => name.replace(/_total$/, ""));
  assert.deepEqual(counters, [...new Set(expected)]);
  // The counter's name would be the gauge's.
  assert.equal(types.pushd_connections, "gauge");
  assert.equal(types.pushd_connections_total, "unknown");
});

Deno.test("metrics: where files have no limit there is no series for it", async () => {
  const { series } = parse(await metricsText({ ...NUMBERS, fileLimit: Infinity }, "prometheus"));
  assert.ok(!("process_max_fds" in series));
});

Deno.test("metrics: one format leaves nothing behind for the other", async () => {
  const before = await metricsText(NUMBERS, "prometheus");
  const [openMetrics] = await Promise.all([
    metricsText(NUMBERS, "openMetrics"),
    metricsText({ ...NUMBERS, connections: 99 }, "openMetrics"),
  ]);
  assert.equal(await metricsText(NUMBERS, "prometheus"), before);
  assert.equal(await metricsText(NUMBERS, "openMetrics"), openMetrics);
});

function newApp(overrides: Partial<StatsDeps> = {}) {
  return createStatsApp(statsDeps({ metrics: () => NUMBERS, ...overrides }));
}

function get(app: ReturnType<typeof newApp>, headers: Record<string, string> = {}, method = "GET") {
  return app.request("/metrics", { method, headers: { Host: "localhost", ...headers } });
}

Deno.test("metrics: the Accept header chooses the format", async () => {
  const app = newApp();
  const formatOf = async (accept: string | null) => {
    const response = await get(app, accept === null ? {} : { Accept: accept });
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("vary"), "Accept");
    assert.equal(response.headers.get("cache-control"), "no-store");
    const isOpen = (await response.text()).endsWith("# EOF\n");
    const type = isOpen
      ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
      : "text/plain; version=0.0.4; charset=utf-8";
    assert.equal(response.headers.get("content-type"), type);
    return isOpen ? "openMetrics" : "prometheus";
  };
  for (
    const accept of [
      "application/openmetrics-text",
      "application/openmetrics-text; version=1.0.0; charset=utf-8",
      "text/plain;q=0.3, application/openmetrics-text;version=1.0.0;q=0.5",
      // What Prometheus 2 sends.
      "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    ]
  ) {
    assert.equal(await formatOf(accept), "openMetrics", accept);
  }
  for (
    const accept of [
      null,
      "*/*",
      "text/plain",
      "text/html,application/xhtml+xml,*/*;q=0.8",
      "application/json",
      "application/openmetrics-text;q=0",
      "application/openmetrics-text;q=0.2, text/plain;q=0.9",
      "application/openmetrics-textile",
    ]
  ) {
    assert.equal(await formatOf(accept), "prometheus", `${accept}`);
  }
});

Deno.test("metrics: guarded like the other paths, and shown at /", async () => {
  const app = newApp({ token: () => "t", metrics: () => assert.fail("was asked") });
  assert.equal((await get(app)).status, 401);
  assert.equal((await get(app, { Authorization: "Bearer t", Host: "evil.io" })).status, 403);
  assert.equal((await get(app, { Authorization: "Bearer t" }, "POST")).status, 405);
  const open = newApp({ token: () => "t" });
  assert.equal((await get(open, { Authorization: "Bearer t" })).status, 200);
  const head = await get(newApp(), {}, "HEAD");
  assert.deepEqual([head.status, await head.text()], [200, ""]);
  const index = await newApp().request("/", { headers: { Host: "localhost" } });
  assert.match(await index.text(), /^GET \/metrics /m);
});
