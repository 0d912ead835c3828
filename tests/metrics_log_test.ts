// The metrics log of a running server: reloads, log rotation, a folder that vanishes, the last line.

import assert from "node:assert/strict";
import { Client, runPushd, startPushd } from "./harness.ts";
import { within } from "./harness_within.ts";

async function linesOf(path: string): Promise<Record<string, number>[]> {
  const text = await Deno.readTextFile(path).catch(() => "");
  return text.split("\n").slice(0, -1).map((line) => JSON.parse(line));
}

async function untilLine(path: string): Promise<void> {
  let isLate = false;
  const looking = (async () => {
    while (!isLate && (await linesOf(path)).length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  })();
  await within(() => `a line in ${path}`, looking, { onLate: () => isLate = true });
}

Deno.test("lines come by reload and at the end, move with SIGUSR1, and agree with /s/stat", async () => {
  await using pushd = await startPushd();
  const conf = `${pushd.folder}/pushd.cf`;
  const config = JSON.parse(await Deno.readTextFile(conf));
  const reload = async (more: Record<string, string>, result: string, count: number) => {
    await Deno.writeTextFile(`${conf}.new`, JSON.stringify({ ...config, ...more }));
    await Deno.rename(`${conf}.new`, conf);
    await pushd.untilStat(`config_reloads_${result}`, count);
  };
  await reload({ metrics_logfile: "nowhere/m.log" }, "failed", 1);
  await pushd.waitForLog(/ERROR .*metrics_logfile: "nowhere\/m.log" cannot be written: /);

  // Relative to where the server runs.
  const path = `${pushd.folder}/m.log`;
  await reload({ metrics_logfile: "m.log", stats_output_interval: "1s" }, "ok", 1);
  await pushd.waitForLog(new RegExp(`metrics: a line every 1 s to ${path}`));
  await untilLine(path);
  await Deno.rename(path, `${path}.1`);
  pushd.signal("SIGUSR1");
  await untilLine(path);

  using client = await Client.connect(pushd.port);
  await client.ask("sub c", "SUBSCRIBED c");
  await client.ask("pub c 1", /^(MESSAGE|PUBLISHED) /);
  await client.line();
  await client.ask("quit", "BYE");
  await client.eof();
  client.close();
  await pushd.untilStat("connections", 0);
  const { stats } = await pushd.stat();
  assert.equal((await pushd.stop()).code, 0);
  const last = (await linesOf(path)).at(-1) ?? assert.fail("no last line");
  for (const [name, value] of Object.entries(stats)) assert.equal(last[name], value, name);
  assert.ok(last.resident_bytes > 0 && last.interval_s > 0);
});

Deno.test("a folder that goes away is warned of once, and the lines go on where it comes back", async () => {
  const logs = await Deno.makeTempDir({ prefix: "pushd-logs-" });
  const path = `${logs}/m.log`;
  try {
    await using pushd = await startPushd({
      config: { metrics_logfile: path, stats_output_interval: "1s", msg_storage: "memory" },
    });
    await Deno.remove(logs, { recursive: true });
    await pushd.waitForLog(/WARN .*metrics_logfile cannot be written.* path=/);
    await Deno.mkdir(logs);
    await untilLine(path);
    assert.equal((await pushd.stop()).code, 0);
    assert.equal(pushd.log().match(/metrics_logfile cannot/g)?.length, 1);
  } finally {
    await Deno.remove(logs, { recursive: true }).catch(() => {});
  }
});

Deno.test("a start whose metrics_logfile cannot be written says so and ends", async () => {
  const run = await runPushd([], {
    env: {
      PUSHD_METRICS_LOGFILE: "/nowhere/m.log",
      PUSHD_TCP_LISTEN_ADDR: "127.0.0.1:0",
      PUSHD_STATS_LISTEN_ADDR: "127.0.0.1:0",
      PUSHD_MSG_STORAGE: "memory",
    },
  });
  assert.equal(run.code, 1);
  assert.match(
    run.stderr,
    /^pushd: metrics_logfile: "\/nowhere\/m.log" cannot be written: .*No such file/,
  );
});
