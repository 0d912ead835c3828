// /metrics of a running server: what happened is counted, and no client can make the answer grow.

import assert from "node:assert/strict";
import { Client, errorLine, startPushd } from "./harness.ts";
import { metricSeries as series } from "./metric_series.ts";

const OPEN_METRICS = "application/openmetrics-text; version=1.0.0";

Deno.test("what happened is in /metrics, and by code and reason in /s/stat", async () => {
  await using pushd = await startPushd({ config: { msg_storage: "memory" } });
  const before = await series(pushd);
  for (const [name, value] of before) {
    // Whoever asks takes part of a second of the processor and some memory.
    if (/^(pushd_build_info|process_|pushd_event_loop_lag)/.test(name)) continue;
    if (/^pushd_(ready|\w+_limit)$/.test(name)) {
      assert.equal(value > 0, name !== "pushd_storage_pending_limit", name);
      continue;
    }
    assert.equal(value, 0, name);
  }
  const { ver } = await pushd.stat();
  assert.equal(before.get(`pushd_build_info{version="${ver}"}`), 1);
  const ageS = Date.now() / 1000 - (before.get("process_start_time_seconds") ?? 0);
  assert.ok(ageS > 0 && ageS < 60, `started ${ageS} s ago`);

  using subscriber = await Client.connect(pushd.port);
  const publisher = await Client.connect(pushd.port);
  await subscriber.ask("sub c", "SUBSCRIBED c");
  await subscriber.ask("sub d", "SUBSCRIBED d");
  await publisher.ask("pub c hello", /^PUBLISHED /);
  await publisher.ask("pub e hello", /^PUBLISHED /);
  await publisher.ask("nonsense", errorLine("unknown-command"));
  await publisher.ask("pub $x hello", errorLine("reserved-name"));
  await publisher.ask("his $x 0", errorLine("reserved-name"));
  await publisher.ask("quit", "BYE");
  await publisher.eof();
  publisher.close();
  using web = await Client.connect(pushd.port);
  await web.ask("GET / HTTP/1.1", errorLine("unknown-command"));
  await web.eof();
  web.close();
  await subscriber.expect(/^MESSAGE c \d{16} hello$/);
  await pushd.untilStat("connections", 1);
  pushd.signal("SIGHUP");
  await pushd.untilStat("config_reloads_ok", 1);
  // Seen by itself, and whole: a signal beside that could make it two.
  await Deno.writeTextFile(`${pushd.folder}/new`, "{ session_timeout: nonsense }");
  await Deno.rename(`${pushd.folder}/new`, `${pushd.folder}/pushd.cf`);
  await pushd.untilStat("config_reloads_failed", 1);

  const { stats } = await pushd.stat();
  const after = await series(pushd);
  const changed: Record<string, number> = {};
  for (const [name, value] of after) {
    if (
      !/^(process_|pushd_event_loop_lag|\w+_duration_)/.test(name) && value !== before.get(name)
    ) {
      changed[name] = value;
    }
  }
  assert.deepEqual(changed, {
    "pushd_connections": 1,
    "pushd_connections_total": 3,
    'pushd_disconnects_total{reason="quit"}': 1,
    'pushd_disconnects_total{reason="http"}': 1,
    "pushd_client_files": 1,
    "pushd_subscriptions": 2,
    "pushd_channels": 3,
    "pushd_messages_published_total": 2,
    "pushd_messages_delivered_total": 1,
    "pushd_bytes_in_total": stats.bytes_in,
    "pushd_bytes_out_total": stats.bytes_out,
    'pushd_commands_total{command="sub"}': 2,
    'pushd_commands_total{command="pub"}': 3,
    'pushd_commands_total{command="his"}': 1,
    'pushd_commands_total{command="quit"}': 1,
    'pushd_errors_total{code="unknown-command"}': 2,
    'pushd_errors_total{code="reserved-name"}': 2,
    "pushd_history_cache_bytes": stats.history_cache_bytes,
    'pushd_config_reloads_total{result="ok"}': 1,
    'pushd_config_reloads_total{result="failed"}': 1,
  });
  const counted = Object.entries(stats)
    .filter(([name, value]) => /^(errors|disconnects)_/.test(name) && value > 0);
  assert.deepEqual(Object.fromEntries(counted), {
    errors_unknown_command: 2,
    errors_reserved_name: 2,
    disconnects_quit: 1,
    disconnects_http: 1,
  });
  for (const name of ["process_cpu_seconds_total", "process_resident_memory_bytes"]) {
    assert.ok((after.get(name) ?? 0) > 0, name);
  }

  const open = await series(pushd, OPEN_METRICS);
  assert.deepEqual([...open.keys()], [...after.keys()]);
  assert.equal(open.get("pushd_messages_published_total"), 2);
});

Deno.test("10,000 channels and users add no series to /metrics", async () => {
  const count = 10_000;
  await using pushd = await startPushd({
    config: { msg_storage: "memory", auth: "on", apps: [{ id: "chat", secret: "s" }] },
  });
  const before = [...(await series(pushd)).keys()];
  const numbers = Array.from({ length: count }, (_, i) => i);
  const lines = (line: (i: number) => string) => numbers.map((i) => `${line(i)}\n`).join("");
  /** Sends all at once, and reads the replies meanwhile. */
  const ask = async (client: Client, requests: string) =>
    (await Promise.all([client.lines(count), client.send(requests)]))[0];

  using server = await Client.connect(pushd.port);
  await server.ask("auth_server chat s", "AUTHENTICATED chat");
  const tokens = await ask(server, lines((i) => `gettoken user${i}`));
  using client = await Client.connect(pushd.port);
  const users = await ask(
    client,
    tokens.map((reply) => `auth ${reply.replace(/^TOKEN /, "")}\n`).join(""),
  );
  assert.deepEqual(users, numbers.map((i) => `AUTHENTICATED user${i}`));
  for (const line of await ask(client, lines((i) => `sub channel${i}`))) {
    assert.match(line, /^SUBSCRIBED channel\d+$/);
  }
  for (const line of await ask(server, lines((i) => `pub channel${i} hello`))) {
    assert.match(line, /^PUBLISHED \d{16}$/);
  }
  for (const line of await client.lines(count)) {
    assert.match(line, /^MESSAGE channel\d+ \d{16} hello$/);
  }
  // What is no command at all could be a label, too.
  for (const line of await ask(server, lines((i) => `command${i}`))) {
    assert.match(line, errorLine("unknown-command"));
  }

  const after = await series(pushd);
  assert.deepEqual([...after.keys()], before);
  assert.equal(after.get("pushd_channels"), count);
  assert.equal(after.get("pushd_messages_delivered_total"), count);
  assert.equal(after.get('pushd_commands_total{command="auth"}'), count);
  assert.equal(after.get('pushd_errors_total{code="unknown-command"}'), count);
});
