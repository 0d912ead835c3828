// What the machine and the network do to a server: few files, clients that vanish, many names.

import assert from "node:assert/strict";
import { LoadChild, type PingReport } from "./load_child.ts";
import { connectMany, LineClient } from "./load_client.ts";
import { LoadServer, pause, within } from "./load_server.ts";
import { requireTool } from "./require.ts";

/** How long a bystander's ping may take on a noisy machine of two cores, ms. */
const PATIENCE_MS = 500;

/** What became of a client that connected. */
type Fate = "served" | "too-busy" | "closed";

async function fateOf(client: LineClient): Promise<Fate> {
  try {
    const answer = await client.ask("ping");
    if (answer === "PONG") return "served";
    if (answer === null) return "closed";
    assert.match(answer, /^ERROR too-busy /);
    assert.equal(await client.line(), null);
    return "too-busy";
  } catch (error) {
    // Closed before it could ask.
    if (error instanceof Deno.errors.ConnectionReset) return "closed";
    if (error instanceof Deno.errors.BrokenPipe) return "closed";
    throw error;
  }
}

/** States of TCP connections of a local port, without those that only wait for their time to pass. */
function socketStates(port: number): string[] {
  const LISTEN = "0A";
  const TIME_WAIT = "06";
  return ["/proc/net/tcp", "/proc/net/tcp6"].flatMap((file) =>
    Deno.readTextFileSync(file).split("\n").slice(1)
  ).map((line) => line.trim().split(/\s+/))
    .filter(([, local, , state]) =>
      local !== undefined && Number.parseInt(local.split(":")[1], 16) === port &&
      state !== LISTEN && state !== TIME_WAIT
    ).map(([, , , state]) => state);
}

/** Waits until the process holds no more than `most`. */
async function untilSockets(server: LoadServer, most: number): Promise<void> {
  while (server.socketCount() > most) await pause(20);
}

const prlimit = requireTool("prlimit");
Deno.test({
  name: `few files and 400 connections${prlimit.reason}`,
  ignore: prlimit.ignore,
  async fn() {
    await using server = await LoadServer.start({ prefix: ["prlimit", "--nofile=256:256"] });
    const beganMs = performance.now();
    const clients = await connectMany(server.port, 400);
    const fates = await within(20_000, "400 answers", Promise.all(clients.map(fateOf)));
    const served = clients.filter((_, i) => fates[i] === "served");
    const refused = clients.filter((_, i) => fates[i] !== "served");
    assert.ok(served.length >= 150 && served.length < 256, `${served.length} are served`);
    assert.ok(fates.includes("too-busy"));

    // They go on trying to come in, as clients do.
    const cpuMs = server.cpuMs();
    const startMs = performance.now();
    let isOver = false;
    const trying = Promise.all(Array.from({ length: 10 }, async () => {
      while (!isOver) {
        using client = await LineClient.connect(server.port);
        assert.notEqual(await fateOf(client), "served");
        await pause(100);
      }
    }));
    await pause(1000);
    const share = (server.cpuMs() - cpuMs) / (performance.now() - startMs);
    assert.equal((await server.stats()).connections, served.length);
    isOver = true;
    await within(10_000, "the last tries", trying);
    assert.ok(share < 0.2, `it uses ${Math.round(share * 100)} % of a processor for refusing`);
    assert.deepEqual(
      await Promise.all(served.map((client) => client.ask("ping"))),
      served.map(() => "PONG"),
    );
    // What is refused is told once a second.
    const most = 2 + Math.ceil((performance.now() - beganMs) / 1000);
    assert.ok(server.complaints().length <= most, server.complaints().join("\n"));

    for (const client of refused) client.close();
    for (const client of served.splice(0, 50)) client.close();
    await server.statsWhen("connections", served.length);
    const more = await connectMany(server.port, 50);
    assert.deepEqual(await Promise.all(more.map(fateOf)), more.map(() => "served"));
    for (const client of [...more, ...served]) client.close();
  },
});

Deno.test({
  name:
    `no file left at all: the accept loop waits, and goes on when there are some${prlimit.reason}`,
  ignore: prlimit.ignore,
  async fn() {
    // So few that more connections are allowed than there are files beside those of the server itself.
    await using server = await LoadServer.start({ prefix: ["prlimit", "--nofile=64:64"] });
    const clients = await connectMany(server.port, 45);
    const first = clients.slice(0, 10);
    for (const client of first) assert.equal(await client.ask("ping"), "PONG");
    await pause(200);
    const cpuMs = server.cpuMs();
    await pause(1000);
    assert.ok(server.cpuMs() - cpuMs < 100, `${server.cpuMs() - cpuMs} ms of 1000 at accepting`);
    assert.equal(await first[0].ask("ping"), "PONG");
    assert.ok(server.complaints().length <= 3, server.complaints().join("\n"));
    // All of them are served in the end, as the ones before them leave.
    for (const client of clients) {
      assert.equal(await within(5_000, "a file to be free", client.ask("ping")), "PONG");
      client.close();
    }
    await server.statsWhen("connections", 0);
  },
});

Deno.test("what the server closes is seen within a second, and nothing is left of it", async () => {
  await using server = await LoadServer.start({ config: { session_timeout: "1s" } });
  // The door for statistics may keep its connection to us.
  const sockets = server.socketCount() + 1;

  for (const closes of [true, false]) {
    using idle = await LineClient.connect(server.port);
    assert.equal(await idle.ask("sub c"), "SUBSCRIBED c");
    const startMs = performance.now();
    assert.match(await idle.line() ?? "closed", /^NOTE idle .* press Enter to stay$/);
    assert.match(await idle.line() ?? "closed", /^ERROR idle-timeout /);
    const errorMs = performance.now();
    assert.equal(await idle.line(), null);
    assert.ok(performance.now() - errorMs < 1000);
    assert.ok(errorMs - startMs > 900 && errorMs - startMs < 3000, `${errorMs - startMs} ms`);

    using quitting = await LineClient.connect(server.port);
    assert.equal(await quitting.ask("quit"), "BYE");
    const quitMs = performance.now();
    assert.equal(await quitting.line(), null);
    assert.ok(performance.now() - quitMs < 1000);

    using http = await LineClient.connect(server.port);
    await http.send("GET / HTTP/1.1\r\n\r\n");
    assert.match(await http.line() ?? "closed", /^ERROR unknown-command /);
    assert.equal(await http.line(), null);

    if (closes) { for (const client of [idle, quitting, http]) client.close(); }
    await server.statsWhen("connections", 0, 5_000);
    await within(5_000, `all but ${sockets} sockets to be closed`, untilSockets(server, sockets));
    if (closes) assert.deepEqual(socketStates(server.port), []);
  }
});

Deno.test("a client that closes its sending side gets every reply, then the end", async () => {
  await using server = await LoadServer.start();
  for (let round = 0; round < 50; round++) {
    using client = await LineClient.connect(server.port);
    await client.send("sub half\npub half a\nping\nping but unfinished");
    await client.conn.closeWrite();
    const lines = await within(5_000, "the end", client.rest());
    assert.equal(lines.length, 4, lines.join("\n"));
    assert.equal(lines[0], "SUBSCRIBED half");
    assert.equal(lines.filter((line) => /^(PUBLISHED|MESSAGE half) \d{16}/.test(line)).length, 2);
    assert.ok(lines.includes("PONG"));
  }
  await server.statsWhen("connections", 0);
  assert.equal((await server.stats()).subscriptions, 0);
});

Deno.test("a client with 10,000 channels that leaves, and 200,000 names in passing, stall nobody", async () => {
  await using server = await LoadServer.start({ config: { msg_storage: "" } });
  await using bystander = await LoadChild.start("ping", `${server.port}`);
  const before = await server.stats();

  // Each channel has other subscribers, so that taking one out is work.
  const followers = await Promise.all(Array.from({ length: 4 }, async () => {
    const client = await LineClient.connect(server.port);
    let subs = "";
    for (let i = 0; i < 10_000; i++) subs += `sub c${i}\n`;
    const sending = client.send(subs);
    for (let i = 0; i < 10_000; i++) assert.equal(await client.line(), `SUBSCRIBED c${i}`);
    await sending;
    return client;
  }));
  assert.match(await followers[0].ask("sub one-more") ?? "closed", /^ERROR too-many-channels /);
  let { pubsub_channel_count, subscriptions } = await server.stats();
  assert.equal(pubsub_channel_count, 10_000);
  assert.equal(subscriptions, 40_000);
  for (const client of followers) {
    client.close();
    subscriptions -= 10_000;
    await server.statsWhen("subscriptions", subscriptions);
  }
  pubsub_channel_count = (await server.stats()).pubsub_channel_count;
  assert.equal(pubsub_channel_count, 0);

  const heldBytes = server.rss();
  using client = await LineClient.connect(server.port);
  for (let at = 0; at < 200_000; at += 5000) {
    let text = "";
    for (let i = at; i < at + 5000; i++) {
      text += `sub name${i}\nunsub name${i}\n${i % 10 === 0 ? `pub other${i} x\n` : ""}`;
    }
    const sending = client.send(`${text}ping\n`);
    let count = 0;
    await client.eachLine((bytes, start, end) => {
      count++;
      return end - start === 4 && bytes[start] === 0x50;
    });
    await sending;
    assert.equal(count, 10_501);
  }
  await server.statsWhen("pubsub_channel_count", 0);
  const grown = server.rss() - heldBytes;
  // What the garbage collector lets lie is no more for a million names.
  assert.ok(grown < 250 * 2 ** 20, `resident memory grew by ${grown} bytes`);
  client.close();
  await server.statsWhen("connections", before.connections);
  const { worstMs } = await bystander.report<PingReport>();
  assert.ok(worstMs < PATIENCE_MS, `a ping took ${worstMs} ms`);
});

Deno.test("a history cache too small for what is followed costs no subscription and little time", async () => {
  await using server = await LoadServer.start({ config: { max_cache_bytes: "64KiB" } });
  const perClient = 10_000;
  const followers = await Promise.all([0, 1].map(async (k) => {
    const client = await LineClient.connect(server.port);
    let subs = "";
    for (let i = 0; i < perClient; i++) subs += `sub f${k * perClient + i}\n`;
    const sending = client.send(subs);
    for (let i = 0; i < perClient; i++) assert.match(await client.line() ?? "", /^SUBSCRIBED /);
    await sending;
    return client;
  }));
  using publisher = await LineClient.connect(server.port);

  async function publishToAll(): Promise<number> {
    const startMs = performance.now();
    const received = followers.map(async (client, k) => {
      for (let i = 0; i < perClient; i++) {
        assert.ok((await client.line())?.startsWith(`MESSAGE f${k * perClient + i} `));
      }
    });
    for (let at = 0; at < followers.length * perClient; at += 500) {
      let text = "";
      for (let i = at; i < at + 500; i++) text += `pub f${i} ${"x".repeat(50)}\n`;
      await publisher.send(text);
      for (let i = at; i < at + 500; i++) assert.match(await publisher.line() ?? "", /^PUBLISHED /);
    }
    await Promise.all(received);
    return performance.now() - startMs;
  }
  const firstMs = await within(20_000, "the first round", publishToAll());
  const secondMs = await within(20_000, "the second round", publishToAll());
  // Some 300 ms each, where a message costs the same however much does not fit into the cache.
  assert.ok(firstMs + secondMs < 4000, `20,000 messages: ${firstMs} ms, then ${secondMs} ms`);

  // The message is too much for the cache, and its channel has just been made.
  using both = await LineClient.connect(server.port);
  await both.send(`pub fresh ${"x".repeat(60_000)}\nsub fresh\n`);
  assert.match(await both.line() ?? "closed", /^PUBLISHED /);
  assert.equal(await both.line(), "SUBSCRIBED fresh");
  assert.match(await publisher.ask("pub fresh seen") ?? "closed", /^PUBLISHED /);
  assert.match(await both.ask("ping") ?? "closed", /^MESSAGE fresh \d{16} seen$/);
  for (const client of followers) client.close();
});
