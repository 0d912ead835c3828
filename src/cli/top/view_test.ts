// The picture of `pushd top`: what it says, and that it fits whatever it is drawn on.
// deno-lint-ignore-file no-control-regex -- what steers terminals is what it is about

import assert from "node:assert/strict";
import fc from "fast-check";
import { channelRates, ratesBetween, summaryOf } from "./rates.ts";
import { parseStatsUrl, type Sample } from "./stats_client.ts";
import { topLines, type TopState } from "./view.ts";

function sampleAt(
  s: number,
  overrides: Partial<Sample> = {},
  stats: Record<string, number> = {},
): Sample {
  return {
    wallMs: s * 1000,
    atMs: s * 1000,
    stat: {
      ver: "1.2.3",
      node: "n1",
      uptime_s: s,
      stats: {
        ...{ connections: 2, connections_total: 2, published: 100 * s, delivered: 1000 * s },
        ...{ bytes_in: 2048 * s, bytes_out: 4096 * s, pubsub_channel_count: 3, subscriptions: 4 },
        ...{ slow_consumers: 5, storage_pending: 6, ...stats },
      },
    },
    sys: {
      memory: { resident_bytes: 2 ** 27, heap_used_bytes: 2 ** 25 },
      rusage: { user_s: s * 0.25, system_s: s * 0.25 },
      event_loop: { lag_ms: 1.5, lag_max_15s_ms: 300 },
      files: { open: null, clients: 2, limit: 1024 },
    },
    ready: { ready: true, failing: [] },
    nodes: { cluster: null, nodes: [] },
    channels: [{ channel: "c", app: "default", subscribers: 7, published: 10 * s, last_ts: 0 }],
    connections: [],
    ...overrides,
  };
}

function connection(pending: number): Sample["connections"][number] {
  const counts = { id: 1, channels: 1, bytes_in: 0, bytes_out: 0, connected_s: 9, idle_s: 8 };
  return { ...counts, address: "::1", user: "bob", app: "chat", pending };
}

function node(id: string, state: string): Sample["nodes"]["nodes"][number] {
  const addresses = { s2s_addr: "127.0.0.1:2223", client_addr: null, version: null };
  return {
    id,
    self: id === "n1",
    state,
    ...addresses,
    rtt_ms: 1,
    skew_ms: 2,
    replay_bytes: 3,
    lost: 0,
  };
}

function stateOf(sample: Sample, more: Partial<TopState> = {}): TopState {
  return { url: "http://h:1", before: sampleAt(10), sample, lost: null, nowMs: 0, ...more };
}

const PLAIN = { columns: 80, rows: Infinity, hasColour: false, isScreen: false };

Deno.test("top: rates are those of one run of the server", () => {
  const rates = ratesBetween(sampleAt(10), sampleAt(12));
  assert.deepEqual(rates, {
    ...{ seconds: 2, published: 100, delivered: 1000, bytes_in: 2048, bytes_out: 4096 },
    ...{ connections: 0, cpu_percent: 50 },
  });
  assert.equal(ratesBetween(null, sampleAt(12)), null);
  const restarted = sampleAt(12, { stat: { ...sampleAt(12).stat, uptime_s: 1 } });
  assert.equal(ratesBetween(sampleAt(10), restarted), null);
  assert.deepEqual([...channelRates(sampleAt(10), sampleAt(12)).values()], [10]);
  assert.equal(channelRates(sampleAt(10), restarted).size, 0);
  const summary = summaryOf("http://h:1", sampleAt(10), sampleAt(12));
  assert.equal(summary.top_channels[0].published_per_s, 10);
});

Deno.test("top: says how it is, what it does, and who is slow", () => {
  const nodes = { cluster: "prod", nodes: [node("n1", "up"), node("n2", "down")] };
  const sample = sampleAt(12, { nodes, connections: [connection(5000), connection(0)] });
  const text = topLines(stateOf(sample), PLAIN).join("\n");
  assert.match(text, /^pushd 1\.2\.3 {2}node n1 {2}up 12s {2}http:\/\/h:1 +\d\d:\d\d:\d\d\n/);
  assert.match(text, /\nready {3}cluster prod: 1 of 2 nodes up\n/);
  assert.match(text, /^connections +2 published\/s +100 in\/s +2\.0 KiB$/m);
  assert.match(text, /^down .* n2\nthis .* n1$/m);
  assert.match(text, /^ +7 +120 +10 default +c$/m);
  assert.match(text, /^ {2}4\.9 KiB .* chat +::1 +bob$/m);
  assert.doesNotMatch(text, /\x1b/);
});

Deno.test("top: what is wrong stands in the second line", () => {
  const second = (state: TopState) => topLines(state, PLAIN)[1];
  const failing = (ready: boolean, ...names: string[]) =>
    sampleAt(12, { ready: { ready, failing: names } });
  assert.equal(
    second(stateOf(failing(false, "storage", "draining"))),
    "NOT READY: storage, draining",
  );
  assert.equal(second(stateOf(failing(true, "etc"))), "ready, but failing: etc");
  const lost = { sinceMs: 1000, reason: "http://h:1: Connection refused" };
  const state = stateOf(sampleAt(12), { lost, nowMs: 66_000 });
  assert.equal(
    second(state),
    "NO ANSWER for 1m 5s, still trying: http://h:1: Connection refused",
  );
  assert.match(topLines(state, PLAIN).join("\n"), /published\/s +- /);
  const coloured = topLines(state, { ...PLAIN, hasColour: true });
  assert.match(coloured[1], /^\x1b\[1;31mNO ANSWER.*\x1b\[0m$/);
});

Deno.test("top: fits every terminal, and shows of each table what there is room for", () => {
  const many = Array.from({ length: 50 }, (_, i) => i);
  const sample = sampleAt(12, {
    nodes: { cluster: "p", nodes: many.map((i) => node(`n${i}`, "up")) },
    channels: many.map((i) => ({
      ...sampleAt(1).channels[0],
      channel: `\u623f\x1b${i}`,
      app: "\u95f4",
    })),
    connections: many.map((i) => connection(i + 1)),
  });
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 200 }),
      fc.integer({ min: 1, max: 60 }),
      (columns, rows) => {
        const lines = topLines(stateOf(sample), { ...PLAIN, columns, rows });
        assert.ok(lines.length <= rows);
        for (const line of lines) assert.ok(line.length <= columns, `${columns}: ${line}`);
      },
    ),
  );
  const lines = topLines(stateOf(sample), { ...PLAIN, rows: 24 });
  assert.equal(lines.length, 24);
  for (const head of ["NODES", "FOLLOWERS", "WAITING"]) {
    assert.ok(lines.findIndex((line) => line.trimStart().startsWith(head)) > 0, head);
  }
  // A short table leaves its room to the others.
  const one = topLines(stateOf({ ...sample, channels: [] }), { ...PLAIN, rows: 24 });
  assert.ok(
    one.filter((line) => line.endsWith("bob")).length >
      lines.filter((line) => line.endsWith("bob")).length,
  );
});

Deno.test("top: the address of the door, in the forms that people write", () => {
  const good = {
    "localhost:9020": "http://localhost:9020",
    ":9020": "http://127.0.0.1:9020",
    "[::1]:9020": "http://[::1]:9020",
    "http://[::1]:9020/": "http://[::1]:9020",
    "https://push.example.org": "https://push.example.org",
  };
  for (const [text, url] of Object.entries(good)) assert.equal(parseStatsUrl(text), url);
  for (
    const text of [
      "",
      "9020",
      "h:0",
      "h:99999",
      "ftp://h:1",
      "http://",
      "http://h/s/stat",
      "http://u:p@h:1",
    ]
  ) {
    assert.throws(() => parseStatsUrl(text), Error, text);
  }
});
