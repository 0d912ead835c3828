// What a server allows its connections: how many, how long silent, how many channels, how fast.

import assert from "node:assert/strict";
import { Client, errorLine, startPushd } from "./harness.ts";

const PUBLISHED = /^PUBLISHED (\d{16})$/;

Deno.test("who is silent for session_timeout is told, and then closed", async () => {
  await using pushd = await startPushd({ config: { session_timeout: "2s" } });
  const startMs = performance.now();
  const since = () => performance.now() - startMs;
  using silent = await Client.connect(pushd.port);
  using json = await Client.connect(pushd.port);
  using awake = await Client.connect(pushd.port);
  await awake.ask("sub c", "SUBSCRIBED c");
  await json.ask("hello 1 json", /^HELLO /);
  await Promise.all([
    (async () => {
      await silent.expect(/^NOTE idle .*, press Enter to stay$/);
      assert.ok(since() >= 900 && since() < 1900, `a note after ${since()} ms`);
      await silent.expect(errorLine("idle-timeout"));
      assert.ok(since() >= 1900, `closed after ${since()} ms`);
      await silent.eof();
    })(),
    (async () => {
      // A program gets no note.
      await json.expect(errorLine("idle-timeout"));
      assert.ok(since() >= 1900, `closed after ${since()} ms`);
      await json.eof();
    })(),
    (async () => {
      // An empty line is a sign of life.
      await awake.expect(/^NOTE idle /);
      await awake.send("\r\n");
      await awake.expect(/^NOTE idle /);
      assert.ok(since() >= 1900, `a second note after ${since()} ms`);
      await awake.ask("ping", "PONG");
      await awake.ask("unsub c", "UNSUBSCRIBED c");
    })(),
  ]);
});

Deno.test("session_timeout 0: never", async () => {
  await using pushd = await startPushd({ config: { session_timeout: 0 } });
  using client = await Client.connect(pushd.port);
  const [, json] = await client.ask("hello 1", /^HELLO 1 (.*)$/);
  assert.equal(JSON.parse(json).limits.session_timeout_ms, 0);
});

Deno.test("beyond max_connections a client is told and closed", async () => {
  await using pushd = await startPushd({ config: { max_connections: 2 } });
  using first = await Client.connect(pushd.port);
  using second = await Client.connect(pushd.port);
  await first.ask("ping", "PONG");
  await second.ask("ping", "PONG");
  for (let i = 0; i < 3; i++) {
    using third = await Client.connect(pushd.port);
    await third.expect(/^ERROR too-busy .*max_connections/);
    await third.eof();
  }
  await first.ask("ping", "PONG");
  await first.ask("quit", "BYE");
  await first.eof();
  first.close();
  await pushd.untilStat("connections", 1);
  using fourth = await Client.connect(pushd.port);
  await fourth.ask("ping", "PONG");
});

Deno.test("beyond max_connections_per_address a client is told and closed", async () => {
  await using pushd = await startPushd({ config: { max_connections_per_address: 1 } });
  const first = await Client.connect(pushd.port);
  await first.ask("ping", "PONG");
  using second = await Client.connect(pushd.port);
  await second.expect(/^ERROR too-busy .*max_connections_per_address/);
  await second.eof();
  first.close();
  await pushd.untilStat("connections", 0);
  using third = await Client.connect(pushd.port);
  await third.ask("ping", "PONG");
});

Deno.test("beyond max_channels_per_connection sub is refused", async () => {
  await using pushd = await startPushd({ config: { max_channels_per_connection: 3 } });
  using client = await Client.connect(pushd.port);
  using other = await Client.connect(pushd.port);
  await client.ask("sub a", "SUBSCRIBED a");
  await client.ask("sub b 0", "SUBSCRIBED b 0");
  await client.ask("sub c", "SUBSCRIBED c");
  await client.ask("sub d", errorLine("too-many-channels"));
  await client.ask("sub d 0", errorLine("too-many-channels"));
  await client.ask("sub a", "ALREADY SUBSCRIBED a");
  await client.ask("unsub d", "NOT SUBSCRIBED d");
  await other.ask("sub d", "SUBSCRIBED d");
  await client.ask("unsub a", "UNSUBSCRIBED a");
  await client.ask("sub d", "SUBSCRIBED d");
  const [, ts] = await other.ask("pub c x", PUBLISHED);
  await client.expect(`MESSAGE c ${ts} x`);
});

Deno.test("a shorter max_line_bytes", async () => {
  await using pushd = await startPushd({ config: { max_line_bytes: 1024 } });
  using client = await Client.connect(pushd.port);
  await client.ask(`pub c ${"m".repeat(1018)}`, PUBLISHED);
  await client.ask(`pub c ${"m".repeat(1019)}`, errorLine("line-too-long"));
  await client.ask("ping", "PONG");
});

Deno.test("beyond max_publishes_per_second a publisher waits, and nothing is refused", async () => {
  await using pushd = await startPushd({ config: { max_publishes_per_second: 100 } });
  using fast = await Client.connect(pushd.port);
  using other = await Client.connect(pushd.port);
  const startMs = performance.now();
  await fast.send("pub c x\n".repeat(150) + "ping\n");
  await other.ask("pub c y", PUBLISHED);
  await other.ask("ping", "PONG");
  const othersMs = performance.now() - startMs;
  for (const line of await fast.lines(150)) assert.match(line, PUBLISHED);
  await fast.expect("PONG");
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs >= 450, `150 at 100 a second took ${Math.round(tookMs)} ms`);
  assert.ok(othersMs < tookMs / 2, `another publisher waited ${Math.round(othersMs)} ms`);
});
