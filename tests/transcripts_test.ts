// What the docs show is what happens: every transcript is played, README's with its own commands.

import assert from "node:assert/strict";
import { LoadServer, within } from "./load_server.ts";
import { requireTool } from "./require.ts";
import { play, readBlocks } from "./transcripts.ts";

const ROOT = new URL("../", import.meta.url);
const tools = requireTool("telnet", "script", "nc", "curl");

function read(path: string): string {
  return Deno.readTextFileSync(new URL(path, ROOT));
}

Deno.test({
  name:
    `a newcomer starts the server by README's first command and follows it at telnet${tools.reason}`,
  ignore: tools.ignore,
  fn: async () => {
    const readme = read("README.md");
    const [, start] = /^ {4}(npx .* task start)$/m.exec(readme) ?? assert.fail("no start command");
    const blocks = readBlocks(readme);
    assert.ok(blocks.filter(({ kind }) => kind === "telnet").length >= 2, "no walkthrough");
    // A group of its own, because npx does not pass signals on.
    const child = new Deno.Command("setsid", {
      args: ["sh", "-c", start],
      cwd: ROOT,
      env: {
        PUSHD_TCP_LISTEN_ADDR: "127.0.0.1:0",
        PUSHD_STATS_LISTEN_ADDR: "127.0.0.1:0",
        PUSHD_NODE_ID: "myhost:2222",
      },
      stdout: "piped",
      stderr: "null",
    }).spawn();
    let log = "";
    const ready = Promise.withResolvers<void>();
    const reading = (async () => {
      for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
        log += text;
        if (log.includes(" ready: telnet ")) ready.resolve();
      }
      ready.reject(new Error(`the server ended: ${log}`));
    })();
    try {
      await within(60_000, "the server to be ready", ready.promise);
      const port = Number(/ clients: 127\.0\.0\.1:(\d+)/.exec(log)?.[1]);
      const statsPort = Number(/ stats: http:\/\/127\.0\.0\.1:(\d+)/.exec(log)?.[1]);
      await play(blocks, { port, statsPort });
    } finally {
      await new Deno.Command("kill", { args: ["-TERM", "--", `-${child.pid}`] }).output();
      await child.status;
      await reading;
    }
    assert.match(log, /main {2}stopped/);
  },
});

for (const { name } of Deno.readDirSync(new URL("docs", ROOT))) {
  if (!name.endsWith(".md")) continue;
  const blocks = readBlocks(read(`docs/${name}`));
  if (blocks.length === 0) continue;
  Deno.test({
    name: `the transcripts of docs/${name} are what happens${tools.reason}`,
    ignore: tools.ignore,
    fn: async () => {
      await using server = await LoadServer.start({ conf: { node_id: "myhost:2222" } });
      await play(blocks, server);
    },
  });
}

Deno.test({
  name: `a transcript with one wrong word does not pass${tools.reason}`,
  ignore: tools.ignore,
  fn: async () => {
    await using server = await LoadServer.start();
    const right = [
      "```telnet A",
      "$ telnet localhost 2222",
      "Trying 127.0.0.1...",
      "Connected to localhost.",
      "Escape character is '^]'.",
      "sub c",
      "SUBSCRIBED c",
      "quit",
      "BYE",
      "Connection closed by foreign host.",
      "```",
      "```sh",
      "$ printf 'ping\\n' | nc -N localhost 2222",
      "PONG",
      "```",
    ].join("\n");
    await play(readBlocks(right), server);
    await assert.rejects(play(readBlocks(right.replace("BYE", "BYE!")), server), /expected/);
    await assert.rejects(play(readBlocks(right.replace("PONG", "PING")), server), /expected/);
    assert.throws(() => readBlocks("```\n$ curl localhost:9020\n```"), /not marked/);
  },
});
