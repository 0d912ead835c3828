// The README's walkthrough, as a person does it: real telnet programs on terminals.

import assert from "node:assert/strict";
import { DevCluster } from "./dev_cluster.ts";
import { Client, pushdEnv, startPushd, within } from "./harness.ts";
import { openTelnet } from "./harness_terminal.ts";
import { readTranscripts, replay } from "./harness_transcript.ts";
import { findTool, requireTool } from "./require.ts";
import { firstMinute } from "./walkthrough.ts";

const ROOT = new URL("../", import.meta.url);

const tools = requireTool("telnet", "expect");
Deno.test({
  name: `the README's walkthrough in two telnet programs, word for word${tools.reason}`,
  ignore: tools.ignore,
  async fn() {
    const scene = await firstMinute();
    await using pushd = await startPushd({ config: { node_id: "myhost:2222" } });
    const { port, statsPort } = pushd;
    await replay(scene, { servers: [{ port, statsPort }], open: openTelnet });
  },
});

Deno.test({
  name: `the README's cluster in three telnet programs, word for word${tools.reason}`,
  ignore: tools.ignore,
  async fn() {
    const readme = await Deno.readTextFile(new URL("README.md", ROOT));
    const scene = readTranscripts(readme).scenes.find(({ nodes }) => nodes === 3) ??
      assert.fail("the README shows no cluster of three");
    await using cluster = await DevCluster.start(3);
    await replay(scene, { servers: cluster.nodes, open: openTelnet });
  },
});

const npx = findTool("npx") === null ? " (npx is missing: apt-get install npm)" : "";
Deno.test({
  name: `the README's first command starts a server${npx}`,
  ignore: npx !== "",
  async fn() {
    const readme = await Deno.readTextFile(new URL("README.md", ROOT));
    const [, start] = /^ {4}(npx .* task start)$/m.exec(readme) ??
      assert.fail("the README does not say how to start a server");
    const folder = await Deno.makeTempDir({ prefix: "pushd-first-" });
    // A process group of its own, as npx does not pass signals on.
    const child = new Deno.Command("setsid", {
      args: ["sh", "-c", `exec 2>&1; ${start}`],
      cwd: ROOT,
      clearEnv: true,
      env: pushdEnv({
        PUSHD_TCP_LISTEN_ADDR: "127.0.0.1:0",
        PUSHD_STATS_LISTEN_ADDR: "127.0.0.1:0",
        PUSHD_SQLITE_PATH: `${folder}/pushd.db`,
      }),
      stdout: "piped",
    }).spawn();
    let log = "";
    const ready = Promise.withResolvers<void>();
    const reading = (async () => {
      for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
        log += text;
        if (/ ready: .*\n/.test(log)) ready.resolve();
      }
      ready.reject(new Error(`the server ended:\n${log}`));
    })();
    try {
      // The first time, npx has to fetch.
      await within(() => `the server to be ready:\n${log}`, ready.promise, { ms: 120_000 });
      using client = await Client.connect(Number(/ clients: .*?:(\d+),/.exec(log)?.[1]));
      await client.ask("sub channel1", "SUBSCRIBED channel1");
    } finally {
      await new Deno.Command("kill", { args: ["-TERM", "--", `-${child.pid}`] }).output();
      await child.status;
      await reading;
      await Deno.remove(folder, { recursive: true });
    }
    assert.match(log, / stopped\n/);
  },
});
