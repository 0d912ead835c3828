// The lists of the stats door: channels, connections, those that ended, and what the process is doing.

import assert from "node:assert/strict";
import { Client, errorLine, type Pushd, serverDeno, startPushd } from "./harness.ts";

/** How long a server is made to stand still. */
const FROZEN_MS = 800;

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function listOf<T>(pushd: Pushd, path: string): Promise<T[]> {
  const response = await pushd.get(path);
  assert.equal(response.status, 200, path);
  return await response.json();
}

Deno.test("/s/channels: those with the most subscribers first, by prefix, and no more than asked for", async () => {
  await using pushd = await startPushd();
  using first = await Client.connect(pushd.port);
  using second = await Client.connect(pushd.port);
  await first.ask("sub room:1", "SUBSCRIBED room:1");
  await first.ask("sub room:2", "SUBSCRIBED room:2");
  await second.ask("sub room:2", "SUBSCRIBED room:2");
  const [, ts] = await second.ask("pub <b>chat</b> x", /^PUBLISHED (\d{16})$/);
  const kept = { channel: "<b>chat</b>", app: "default", subscribers: 0, published: 1 };
  assert.deepEqual(await listOf(pushd, "/s/channels"), [
    { channel: "room:2", app: "default", subscribers: 2, published: 0, last_ts: 0 },
    { channel: "room:1", app: "default", subscribers: 1, published: 0, last_ts: 0 },
    { ...kept, last_ts: Number(ts) },
  ]);
  const named = await listOf<{ channel: string }>(pushd, "/s/channels?prefix=room:&limit=1");
  assert.deepEqual(named.map(({ channel }) => channel), ["room:2"]);
  assert.deepEqual(await listOf(pushd, "/s/channels?prefix=none"), []);
});

Deno.test("/s/conns and /s/closed: who is there, and how who was there has ended", async () => {
  await using pushd = await startPushd({
    config: { auth: "on", apps: [{ id: "chat", secret: "s" }] },
  });
  interface Conn {
    id: number;
    [key: string]: unknown;
  }
  {
    using server = await Client.connect(pushd.port);
    await server.ask("auth_server chat s", "AUTHENTICATED chat");
    const [, token] = await server.ask("gettoken bob", /^TOKEN bob (\S+)$/);
    using bob = await Client.connect(pushd.port);
    await bob.ask(`auth bob ${token}`, "AUTHENTICATED bob");
    await bob.ask("sub c", "SUBSCRIBED c");
    const [most] = await listOf<Conn>(pushd, "/s/conns?sort=in&limit=1");
    const { id, bytes_in, bytes_out, connected_s, idle_s, ...rest } = most;
    assert.ok(Number(bytes_in) > 50 && Number(bytes_out) > 20);
    assert.ok(Number(connected_s) >= Number(idle_s));
    assert.deepEqual(rest, {
      address: "127.0.0.1",
      user: "bob",
      app: "chat",
      channels: 1,
      pending: 0,
    });
    assert.equal((await listOf(pushd, "/s/conns")).length, 2);
    await bob.ask("quit", "BYE");
    await bob.eof();
    await pushd.untilStat("connections", 1);
    const [ended] = await listOf<Conn>(pushd, "/s/closed");
    assert.equal(ended.id, id);
    assert.deepEqual(
      [ended.user, ended.app, ended.channels, ended.reason, ended.address],
      ["bob", "chat", 1, "quit", "127.0.0.1"],
    );
    assert.ok(Math.abs(Date.parse(String(ended.closed_at)) - Date.now()) < 60_000);
  }
  await pushd.untilStat("connections", 0);
  using stranger = await Client.connect(pushd.port);
  await stranger.ask("sub c", errorLine("need-auth"));
  const ended = await listOf<Conn>(pushd, "/s/closed");
  assert.deepEqual(ended.map(({ reason }) => reason), ["client", "quit"]);
  assert.equal((await listOf(pushd, "/s/closed?limit=1")).length, 1);
});

Deno.test("/s/closed remembers the last thousand", async () => {
  await using pushd = await startPushd();
  for (let i = 0; i < 1020; i += 20) {
    const clients = await Promise.all(Array.from({ length: 20 }, () => Client.connect(pushd.port)));
    await Promise.all(clients.map((client) => client.ask("ping", "PONG")));
    for (const client of clients) client.close();
  }
  await pushd.untilStat("connections", 0);
  const ended = await listOf<{ id: number }>(pushd, "/s/closed?limit=1000");
  assert.equal(ended.length, 1000);
  assert.equal(new Set(ended.map(({ id }) => id)).size, 1000);
  assert.ok(Math.min(...ended.map(({ id }) => id)) >= 20);
});

Deno.test("/s/sys and /s/trace: what the process uses, and what it is doing", async () => {
  await using pushd = await startPushd();
  using _ = await Client.connect(pushd.port);
  await pushd.untilStat("connections", 1);
  const sys = await (await pushd.get("/s/sys")).json();
  assert.ok(sys.memory.resident_bytes > 1e7 && sys.rusage.user_s > 0, JSON.stringify(sys));
  assert.deepEqual([sys.pid, sys.files.clients], [pushd.pid, 1]);
  // Not without every permission, with which the server does not run.
  assert.ok(sys.files.open === null || sys.files.open > 1);
  const deno = await serverDeno();
  assert.equal(sys.versions.deno, deno);
  const trace = await (await pushd.get("/s/trace")).json();
  const names = trace.tasks.map(({ name }: { name: string }) => name);
  assert.ok(names.includes("serv.accept") && names.includes("serv.connection"), `${names}`);
  for (const { oldest_at, newest_at } of trace.tasks) {
    assert.ok(Date.parse(oldest_at) >= Date.parse(sys.started_at) - 1000, oldest_at);
    assert.ok(oldest_at <= newest_at);
  }
  assert.deepEqual([trace.resources.connections, trace.pending.storage_messages], [1, 0]);
  // Deno 2.4 does not count them.
  if (deno.startsWith("2.4.")) assert.equal(trace.resources.timeout, undefined);
  else assert.ok(trace.resources.timeout > 0);
});

Deno.test("/s/sys and /s/trace: a server that stood still says when, and for how long", async () => {
  await using pushd = await startPushd();
  const beganMs = Date.now();
  pushd.signal("SIGSTOP");
  const state = () => /\) (\w) /.exec(Deno.readTextFileSync(`/proc/${pushd.pid}/stat`))?.[1];
  while (state() !== "T") await pause(5);
  await pause(FROZEN_MS);
  pushd.signal("SIGCONT");
  const { event_loop: { stalls } } = await (await pushd.get("/s/trace")).json();
  // It looks every 250 ms.
  const stall = stalls.find(({ ms }: { ms: number }) => ms >= FROZEN_MS - 300);
  assert.ok(stall !== undefined, JSON.stringify(stalls));
  assert.ok(stall.cpu_ms < stall.ms, JSON.stringify(stall));
  const at = Date.parse(stall.at);
  assert.ok(at > beganMs - 1000 && at < Date.now(), `${stall.at}, begun ${beganMs}`);
  const { event_loop } = await (await pushd.get("/s/sys")).json();
  assert.ok(event_loop.lag_max_15s_ms >= FROZEN_MS - 300, JSON.stringify(event_loop));
  const metrics = await (await pushd.get("/metrics")).text();
  const lagS = Number(/^pushd_event_loop_lag_seconds (\S+)$/m.exec(metrics)?.[1]);
  assert.ok(lagS >= (FROZEN_MS - 300) / 1000, `${lagS}`);
});

Deno.test("a parameter that cannot be is refused, and named", async () => {
  await using pushd = await startPushd();
  const cases = [
    "/s/channels?limit=0",
    "/s/channels?limit=x",
    "/s/channels?limit=10001",
    "/s/channels?limit=1e3",
    "/s/channels?prefix=%ff",
    "/s/channels?prefix=%zz",
    "/s/channels?prefix=50%",
    `/s/channels?prefix=${"x".repeat(256)}`,
    "/s/conns?sort=name",
    "/s/conns?limit=-1",
    "/s/closed?limit=1001",
    "/s/closed?limit=",
    "/s/channels?prefix=a&prefix=b",
    "/s/conns?sort=in&sort=in",
  ];
  for (const path of cases) {
    const response = await pushd.get(path);
    const { error } = await response.json();
    assert.deepEqual([response.status, error.code], [400, "bad-argument"], path);
    const name = /\?(\w+)/.exec(path)?.[1];
    assert.match(error.message, new RegExp(`^${name}: (write|given 2 times)`));
  }
});
