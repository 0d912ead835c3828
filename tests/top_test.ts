// `pushd top` beside a real server: for scripts, as text, and on a terminal.
// deno-lint-ignore-file no-control-regex -- what steers terminals is what it is about

import assert from "node:assert/strict";
import { Client, type Pushd, pushdCommand, pushdEnv, runPushd, startPushd } from "./harness.ts";
import { requireTool } from "./require.ts";
import { ProgramOnTerminal } from "./top_terminal.ts";

const terminal = requireTool("expect");

function topArgs(pushd: Pushd, ...more: string[]): string[] {
  return ["top", "--stats", `127.0.0.1:${pushd.statsPort}`, ...more];
}

/** Publishes to `c` until `signal` is aborted; returns how many messages that were. */
async function publish(client: Client, signal: AbortSignal): Promise<number> {
  let count = 0;
  for (; !signal.aborted; count += 50) {
    await client.send("pub c hello\n".repeat(50));
    await client.lines(50);
  }
  return count;
}

Deno.test("pushd top --once --json: one object, with rates of a second", async () => {
  await using pushd = await startPushd({ config: { node_id: "n1", msg_storage: "memory" } });
  using subscriber = await Client.connect(pushd.port);
  await subscriber.ask("sub c", "SUBSCRIBED c");
  using client = await Client.connect(pushd.port);
  const over = new AbortController();
  const publishing = publish(client, over.signal);
  const { code, stdout, stderr } = await runPushd(topArgs(pushd, "--once", "--json"));
  over.abort();
  const count = await publishing;
  assert.deepEqual([code, stderr], [0, ""]);
  assert.equal(stdout.split("\n").length, 2);
  const top = JSON.parse(stdout);
  assert.deepEqual([top.node, top.ready, top.failing, top.connections], ["n1", true, [], 2]);
  const { rates, top_channels: [channel] } = top;
  assert.ok(rates.seconds >= 1 && rates.seconds < 15, `${rates.seconds}`);
  assert.ok(rates.published > 0 && rates.published * rates.seconds <= count, JSON.stringify(rates));
  assert.ok(Math.abs(rates.delivered - rates.published) < 0.5 * rates.published + 100);
  assert.ok(rates.bytes_in > rates.published * 10 && rates.cpu_percent > 0);
  assert.deepEqual([channel.channel, channel.subscribers], ["c", 1]);
  assert.ok(channel.published_per_s > 0);
  assert.equal(top.slowest_consumers.length, 2);
  assert.equal(top.nodes[0].id, "n1");
});

Deno.test("pushd top: where there is no answer, it says why, and ends with 1", async () => {
  await using pushd = await startPushd({ config: { stats_token: "t\u00f6ken" } });
  const cases: [args: string[], reason: RegExp, env?: Record<string, string>][] = [
    [topArgs(pushd, "--once"), /it wants its stats_token; put it into PUSHD_STATS_TOKEN/],
    [topArgs(pushd, "--once", "--json", "--stats-token", "x"), /this is not its stats_token/],
    [topArgs(pushd), /this is not its stats_token/, { PUSHD_STATS_TOKEN: "y" }],
    [["top", "--stats", `127.0.0.1:${pushd.port}`, "--once"], /not the stats door of a pushd/],
    [["top", "--stats", "http://127.0.0.1:2", "--once"], /127\.0\.0\.1:2: Connection refused/],
  ];
  for (const [args, reason, env] of cases) {
    const { code, stdout, stderr } = await runPushd(args, { env });
    assert.deepEqual([code, stdout], [1, ""], args.join(" "));
    assert.match(stderr, reason);
    assert.equal(stderr.split("\n").length, 2);
  }
  const right = await runPushd(topArgs(pushd, "--once"), {
    env: { PUSHD_STATS_TOKEN: "t\u00f6ken" },
  });
  assert.equal(right.code, 0, right.stderr);
  // What is no terminal gets text alone.
  assert.doesNotMatch(right.stdout, /\x1b/);
  assert.match(right.stdout, /^pushd .*\nready\n/);
});

Deno.test({
  name: `pushd top on a terminal: drawn in place, outlives the server, leaves${terminal.reason}`,
  ignore: terminal.ignore,
  async fn() {
    await using pushd = await startPushd({ config: { msg_storage: "memory", node_id: "n1" } });
    using client = await Client.connect(pushd.port);
    const names = ["evil:\u202eabc\u2066", "\u623f\u95f4".repeat(40), `z${"\u0301".repeat(60)}`];
    for (const name of names) await client.ask(`sub ${name}`, `SUBSCRIBED ${name}`);
    const command = [...pushdCommand(), ...topArgs(pushd, "--interval", "500ms")];
    const { NO_COLOR: _, ...env } = pushdEnv();
    await using top = await ProgramOnTerminal.start(command, env);
    await top.until(/^pushd [\d.]+ {2}node n1 .* \d\d:\d\d:\d\d\nready\n/);
    assert.ok(top.isOther && top.isCursorHidden);
    assert.match(top.screen, /^ +1 +0 +- default {6}evil:\u00b7abc\u00b7$/m);
    assert.match(top.screen, /default {6}(\u623f\u95f4)+\u623f?\u2026$/m);
    assert.match(top.screen, /^connections {13}1 /m);
    await client.ask("sub later", "SUBSCRIBED later");
    await top.until(/default {6}later$/m);
    // Each picture is a write of what has changed.
    assert.ok(top.written.split("CHANNEL ").length <= 3);
    // The 1 of a keypad is no q.
    await top.type("\x1bOq");
    await pushd.kill();
    await top.until(/^NO ANSWER for \d+s, still trying: .*Connection refused$/m);
    assert.match(top.screen, /default {6}later$/m);
    await top.type("q");
    assert.equal(await top.ended(), 0);
    assert.ok(!top.isOther && !top.isCursorHidden);
    assert.ok(top.written.endsWith("\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"));
  },
});

Deno.test({
  name: `pushd top on a small terminal, without colours, ended by a signal${terminal.reason}`,
  ignore: terminal.ignore,
  async fn() {
    await using pushd = await startPushd();
    const command = [...pushdCommand(), ...topArgs(pushd)];
    await using top = await ProgramOnTerminal.start(command, pushdEnv(), { columns: 30, rows: 5 });
    await top.until(/^pushd .*\nready\nconnections {13}0\n/);
    assert.doesNotMatch(top.written, /\x1b\[\d+m/);
    Deno.kill(top.pid, "SIGTERM");
    assert.equal(await top.ended(), 0);
    assert.ok(!top.isOther && !top.isCursorHidden);
  },
});
