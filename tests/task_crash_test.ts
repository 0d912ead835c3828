// A background task that crashes takes the whole server with it: exit 1 and its name in the log.

import assert from "node:assert/strict";
import { Client, type Pushd, startPushd } from "./harness.ts";
import { readHistory } from "./history_reader.ts";
import { LASTING } from "./stores.ts";

const PUBLISHED = /^PUBLISHED (\d{16})$/;
const PRELOAD = new URL("crash_preload.ts", import.meta.url).pathname;
/** Starts `deno run …` with the bug loaded first. */
const WITH_BUG = [
  "sh",
  "-c",
  'deno=$1; run=$2; shift 2; exec "$deno" "$run" --preload="$0" "$@"',
  PRELOAD,
];

/** How a task is made to crash, and how it is called in the log. */
interface Case {
  task: string;
  /** See crash_preload.ts. */
  bug: string;
  /** Makes the bug happen; left out where it does by itself, once the server has said that it is ready. */
  trigger?: (pushd: Pushd) => Promise<void>;
  /** What the log line says; by default the bug's own error. */
  error?: RegExp;
}

async function touchConfig(pushd: Pushd): Promise<void> {
  const path = `${pushd.folder}/pushd.cf`;
  await Deno.writeTextFile(`${path}.new`, `${await Deno.readTextFile(path)}\n# another one\n`);
  await Deno.rename(`${path}.new`, path);
}

const signal = (name: Deno.Signal) => (pushd: Pushd) => Promise.resolve(pushd.signal(name));

const CASES: Case[] = [
  { task: "serv.accept", bug: "core/acceptor.ts Acceptor run" },
  {
    task: "serv.connection",
    bug: "serv/connection.ts Connection run",
    trigger: async ({ port }) => (await Client.connect(port)).close(),
  },
  { task: "reload", bug: "pushd.ts Pushd apply", trigger: signal("SIGHUP") },
  { task: "config.watch", bug: "pushd.ts Pushd apply", trigger: touchConfig },
  { task: "leave", bug: "serv/server.ts Server leave", trigger: signal("SIGUSR2") },
  // Another configuration is a reason to look what is to be deleted.
  {
    task: "engine.retention",
    bug: "engine/retention.ts Retention round",
    trigger: signal("SIGHUP"),
  },
  { task: "storage.sqlite", bug: "worker", trigger: signal("SIGUSR1"), error: /Cannot read prop/ },
];

for (const { task, bug, trigger, error = /TypeError: put in by a test/ } of CASES) {
  Deno.test(`a crash of ${task} ends the server with 1, and its name is logged`, async () => {
    await using place = await LASTING[0].open();
    await using pushd = await startPushd({
      config: { ...place.config, drain_timeout: "1m" },
      prefix: WITH_BUG,
      // What was compiled preloads nothing.
      fromSource: true,
      env: { PUSHD_TEST_CRASH: bug },
    });
    const acked: number[] = [];
    // Where a client is what makes it crash, there is none before.
    if (trigger !== undefined && task !== "serv.connection") {
      using client = await Client.connect(pushd.port);
      await client.send("pub c x\n".repeat(50));
      for (const line of await client.lines(50)) acked.push(Number(PUBLISHED.exec(line)?.[1]));
      await trigger(pushd);
    } else await trigger?.(pushd);

    assert.deepEqual(await pushd.ended(), { code: 1, signal: null });
    const fatal = / FATAL core +a task failed task=(\S+) (error=.*)\n/.exec(pushd.log());
    assert.equal(fatal?.[1], task, pushd.log());
    assert.match(fatal[2], error);
    await assert.rejects(Deno.connect({ hostname: "127.0.0.1", port: pushd.port }));
    if (acked.length === 0) return;
    await using again = await startPushd({ config: place.config });
    using client = await Client.connect(again.port);
    assert.deepEqual((await readHistory(client, "c")).map(({ ts }) => ts), acked);
  });
}
