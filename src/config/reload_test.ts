// Tests of what a reload changes, and what is said of it.

import assert from "node:assert/strict";
import fc from "fast-check";
import { loadConfig } from "./load.ts";
import { redact } from "./redact.ts";
import { describeChanges, planReload } from "./reload.ts";
import { type Config, KEY_NAMES, specOf, valueOf } from "./schema.ts";

function load(text: string): Config {
  const result = loadConfig({ text });
  if (!result.ok) assert.fail(result.mistakes.join("\n"));
  return result.config;
}

function plan(current: Config, loaded: Config | string) {
  const result = planReload(current, typeof loaded === "string" ? load(loaded) : loaded);
  if (!result.ok) assert.fail(result.mistakes.join("\n"));
  return result;
}

/** What is said of the changes from one text to another. */
function changesOf(from: string, to: string): string {
  return describeChanges(plan(load(from), to).changes);
}

Deno.test("planReload: a reload applies some keys, the others wait for a restart", () => {
  const current = load("token_ttl: 5m\ntcp_backlog: 100\nmongodb: {\n  database: one\n}");
  const { config, changes, needRestart, warnings } = plan(
    current,
    "token_ttl: 6m\ntcp_backlog: 200\nmongodb: {\n  database: two\n}\nmax_line_bytes: 128KiB",
  );
  assert.deepEqual(changes, [
    { name: "max_line_bytes", text: "max_line_bytes: 64KiB -> 128KiB" },
    { name: "token_ttl", text: "token_ttl: 5m -> 6m" },
  ]);
  assert.deepEqual(needRestart, [
    { name: "tcp_backlog", text: "tcp_backlog: 100 -> 200" },
    { name: "mongodb.database", text: "mongodb.database: one -> two" },
  ]);
  assert.deepEqual(warnings, []);
  assert.equal(config.token_ttl, 360_000);
  assert.equal(config.tcp_backlog, 100);
  assert.equal(config.mongodb.database, "one");
  assert.equal(current.token_ttl, 300_000);
});

Deno.test("planReload: what needed a restart and came back is listed no more", () => {
  const first = plan(load("tcp_backlog: 100"), "tcp_backlog: 200\ntoken_ttl: 6m");
  assert.equal(first.needRestart.length, 1);
  const second = plan(first.config, "tcp_backlog: 100\ntoken_ttl: 6m");
  assert.deepEqual([second.changes, second.needRestart], [[], []]);
});

Deno.test("planReload: values are compared, not how they are written", () => {
  const { config, changes, needRestart } = plan(
    load('tcp_listen_addr: "[::1]:2222"\ntoken_ttl: 90m\nmax_line_bytes: 64KiB'),
    'tcp_listen_addr: "[0:0:0:0:0:0:0:1]:2222"\ntoken_ttl: 1h30m\nauth: off',
  );
  assert.deepEqual([changes, needRestart], [[], []]);
  assert.equal(redact(config).token_ttl, "1h30m");
});

Deno.test("planReload: each key is shown as its own configuration wrote it", () => {
  const current = load("drain_timeout: 60s\ntcp_backlog: 4000\nsqlite: {\n  path: ./a.db\n}");
  const { config } = plan(current, "token_ttl: 90m\nsqlite: {\n  path: ./b.db\n}");
  const shown = redact(config);
  assert.equal(shown.token_ttl, "90m");
  assert.equal(shown.drain_timeout, "10s");
  assert.equal(shown.tcp_backlog, 4000);
  assert.deepEqual(shown.sqlite, { path: "./a.db" });
  // And so it is in the next one.
  const next = plan(config, "token_ttl: 1h40m\nsqlite: {\n  path: ./b.db\n}");
  assert.equal(describeChanges(next.changes), "token_ttl: 90m -> 1h40m");
  assert.equal(
    describeChanges(next.needRestart),
    "tcp_backlog: 4000 -> 4096; sqlite.path: ./a.db -> ./b.db",
  );
});

Deno.test("planReload: what is in force has to fit together", () => {
  const tls = 'tls_listen_addr: ":2224"\ntls_cert: c.pem\ntls_key: k.pem';
  const noDoor = planReload(load(tls), load("token_ttl: 5m"));
  assert.deepEqual(noDoor, {
    ok: false,
    mistakes: [
      "tls_listen_addr: needs tls_cert and tls_key beside it; the file is right by itself, but a " +
      "restart is needed first for tls_listen_addr (now :2224)",
    ],
  });
  const tooLong = planReload(
    load("msg_storage: mongodb"),
    load("max_line_bytes: 16MiB\nmax_pending_bytes: 16MiB"),
  );
  assert.ok(!tooLong.ok);
  assert.equal(tooLong.mistakes.length, 1);
  assert.match(
    tooLong.mistakes[0],
    /^max_line_bytes: "16MiB": .*; the file is right .* restart .* msg_storage \(now mongodb\)$/,
  );
  const proxies = planReload(
    load('proxy_protocol: true\ntrusted_proxies: ["10.0.0.1"]'),
    load(""),
  );
  assert.ok(!proxies.ok);
  assert.match(proxies.mistakes[0], /^proxy_protocol: true: .* proxy_protocol \(now true\)$/);
});

Deno.test("planReload: warns of what is in force until the restart", () => {
  const { warnings } = plan(load('stats_listen_addr: ":9020"\nstats_token: hunter2'), "");
  assert.equal(warnings.length, 1);
  assert.match(warnings[0], /^stats_listen_addr: .*others can reach.*\(now :9020\)$/);
  assert.ok(!/hunter2/.test(warnings[0]));
  // Loading warned of that.
  assert.deepEqual(plan(load(""), "auth: off\ntls_cert: a\ntls_key: b").warnings, []);
});

Deno.test("describeChanges: values as the file says them", () => {
  assert.equal(changesOf("", "max_connections: 5000"), "max_connections: not set -> 5000");
  assert.equal(changesOf("", 'metrics_logfile: "a b"'), 'metrics_logfile: "" -> "a b"');
  assert.equal(
    changesOf("", 'allowed_hosts: ["a.org", "b.org"]'),
    "allowed_hosts: [] -> [a.org, b.org]",
  );
  const long = `metrics_logfile: /${"x".repeat(200)}`;
  assert.equal(changesOf(`${long}1`, `${long}2`), "metrics_logfile: changed");
  assert.equal(changesOf("", ""), "");
});

Deno.test("describeChanges: of a long list, what came and went", () => {
  const hosts = Array.from({ length: 30 }, (_, i) => `"${i}.example.org"`);
  const list = (items: string[]) => `allowed_hosts: [${items.join(", ")}]`;
  assert.equal(
    changesOf(list(hosts), list([...hosts.slice(2), '"new.example.org"'])),
    "allowed_hosts: added new.example.org; removed 0.example.org, 1.example.org",
  );
  assert.match(changesOf("", list(hosts)), /^allowed_hosts: added 0\.e.*, 9\.\S+ and 20 more$/);
  assert.equal(
    changesOf(list(hosts), list(hosts.toReversed())),
    "allowed_hosts: in another order",
  );
});

Deno.test("describeChanges: applications", () => {
  const apps = (...list: [string, string][]) =>
    `apps: ${JSON.stringify(list.map(([id, secret]) => ({ id, secret })))}`;
  assert.equal(
    changesOf(
      apps(["a", "hunter2"], ["d", "hunter2"], ["e", "x"]),
      apps(["b", "hunter2"], ["c", "x"], ["d", "hunter3"], ["e", "x"]),
    ),
    "apps: added b, c; removed a; new secret for d",
  );
  assert.equal(changesOf(apps(["é", "x"]), ""), 'apps: removed "é"');
  assert.equal(
    changesOf(apps(["a", "x"], ["b", "x"]), apps(["b", "x"], ["a", "x"])),
    "apps: in another order",
  );
});

Deno.test("describeChanges: never a secret", () => {
  const text = (word: string) => `
    stats_token: ${word}
    s2s_secret: ${word}
    mongodb: {
      url: "mongodb://u:${word}@a:1/pushd"
      password: ${word}
    }
    apps: [{ id: "a", secret: "${word}" }]`;
  for (const [from, to] of [["hunter2", "hunter3"], ["", "hunter3"], ["hunter2", ""]]) {
    const of = (word: string) => load(word === "" ? "" : text(word));
    const result = planReload(of(from), of(to));
    assert.ok(result.ok);
    const lines = describeChanges([...result.changes, ...result.needRestart]);
    assert.ok(!/hunter/.test(lines), lines);
    assert.equal(result.changes.length + result.needRestart.length, 5, lines);
  }
  assert.equal(changesOf("stats_token: a", "stats_token: b"), "stats_token: changed");
  assert.equal(changesOf("stats_token: a", ""), 'stats_token: *** -> ""');
});

/** Configurations that differ in keys of every kind. */
const anyConfig = fc.record({
  max_line_bytes: fc.constantFrom("64KiB", "1MiB", "16MiB"),
  msg_storage: fc.constantFrom("sqlite", "mongodb", "memory"),
  tls_listen_addr: fc.constantFrom("", ":2224"),
  tls_cert: fc.constantFrom("", "c.pem"),
  tls_key: fc.constantFrom("", "k.pem"),
  proxy_protocol: fc.constantFrom("true", "false"),
  trusted_proxies: fc.constantFrom("", "10.0.0.1", "10.0.0.1,10.0.0.2"),
  "sqlite.path": fc.constantFrom("a.db", "b.db"),
}).map((overrides) => loadConfig({ text: "max_pending_bytes: 16MiB", overrides }))
  .filter((result) => result.ok).map(({ config }) => config);

Deno.test("planReload: each key is the file's, or waits for a restart and is as it was", () => {
  fc.assert(fc.property(anyConfig, anyConfig, (current, loaded) => {
    const result = planReload(current, loaded);
    if (!result.ok) {
      for (const line of result.mistakes) assert.match(line, /restart is needed first for \w/);
      return;
    }
    const waiting = result.needRestart.map(({ name }) => name);
    for (const name of KEY_NAMES) {
      const from = waiting.includes(name) ? current : loaded;
      assert.ok(!waiting.includes(name) || !specOf(name).reload);
      assert.deepEqual(valueOf(result.config, name), valueOf(from, name), name);
    }
    const again = plan(result.config, loaded);
    assert.deepEqual([again.changes, again.needRestart], [[], result.needRestart]);
  }));
});
