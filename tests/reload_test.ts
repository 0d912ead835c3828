// Reloads of the configuration while clients are connected: what each key changes, and what none does.

import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { Client, errorLine, type Pushd, startPushd, within } from "./harness.ts";

type Keys = Record<string, unknown>;

const PUBLISHED = /^PUBLISHED (\d{16})$/;
const APPS = [{ id: "a", secret: "s3cret" }, { id: "b", secret: "0ther" }];

/** A server and the file that it reads. */
class Reloaded implements AsyncDisposable {
  #outcomes = 0;

  private constructor(readonly pushd: Pushd, readonly base: Keys) {}

  static async start(base: Keys = {}, env: Record<string, string> = {}): Promise<Reloaded> {
    const all = {
      tcp_listen_addr: "127.0.0.1:0",
      stats_listen_addr: "127.0.0.1:0",
      msg_storage: "memory",
      ...base,
    };
    return new Reloaded(await startPushd({ config: all, env }), all);
  }

  get file(): string {
    return `${this.pushd.folder}/pushd.cf`;
  }

  /** Writes the file: what it was started with, and `changes`. */
  async write(changes: Keys): Promise<void> {
    await Deno.writeTextFile(this.file, JSON.stringify({ ...this.base, ...changes }));
  }

  /** Writes the file, sends SIGHUP, and waits for what comes of it. */
  async reload(changes: Keys | string): Promise<void> {
    if (typeof changes === "string") await Deno.writeTextFile(this.file, changes);
    else await this.write(changes);
    this.pushd.signal("SIGHUP");
    await this.outcome();
  }

  /** Waits for the end of one more reload. */
  async outcome(): Promise<void> {
    const count = ++this.#outcomes;
    await this.pushd.waitForLog(
      new RegExp(`(?:configuration (?:not )?reloaded:[^\\n]*\\n[\\s\\S]*?){${count}}`),
    );
  }

  /** How many reloads there have been. */
  outcomes(): { ok: number; failed: number } {
    const log = this.pushd.log();
    return {
      ok: log.match(/configuration reloaded:/g)?.length ?? 0,
      failed: log.match(/configuration not reloaded:/g)?.length ?? 0,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pushd[Symbol.asyncDispose]();
  }
}

Deno.test("limits: a reload reaches the connections that are open", async () => {
  await using server = await Reloaded.start();
  const { pushd } = server;
  using client = await Client.connect(pushd.port);
  await client.ask("sub c1", "SUBSCRIBED c1");

  await server.reload({ max_channels_per_connection: 1 });
  await client.ask("sub c2", errorLine("too-many-channels"));
  await server.reload({ max_channels_per_connection: 2 });
  await client.ask("sub c2", "SUBSCRIBED c2");

  await server.reload({ max_line_bytes: 512 });
  await client.ask(`pub other ${"x".repeat(600)}`, errorLine("line-too-long"));
  await server.reload({});
  await client.ask(`pub other ${"x".repeat(600)}`, PUBLISHED);

  await server.reload({ max_connections: 1 });
  using refused = await Client.connect(pushd.port);
  await refused.expect(errorLine("too-busy"));
  await server.reload({ max_connections_per_address: 1 });
  using alsoRefused = await Client.connect(pushd.port);
  assert.match(await alsoRefused.line(), /too-busy.*max_connections_per_address/);
  await server.reload({});
  using taken = await Client.connect(pushd.port);
  await taken.ask("ping", "PONG");

  // 20 a second: the first second's are taken at once, 20 more take one.
  await server.reload({ max_publishes_per_second: 20 });
  const startMs = performance.now();
  await client.send("pub other x\n".repeat(40));
  for (let i = 0; i < 40; i++) await client.expect(PUBLISHED);
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs > 500, `40 publishes at 20 a second took ${tookMs} ms`);
  await server.reload({});
  await client.send("pub other x\n".repeat(400));
  for (let i = 0; i < 400; i++) await client.expect(PUBLISHED);

  // What waits for one who does not read: cut off at 64 KiB, where 8 MiB were allowed before.
  using stopped = await Client.connect(pushd.port);
  await stopped.ask("sub flood", "SUBSCRIBED flood");
  await server.reload({ max_pending_bytes: "64KiB", max_line_bytes: "32KiB" });
  const text = "y".repeat(30_000);
  for (let i = 0; i < 300; i++) await client.ask(`pub flood ${text}`, PUBLISHED);
  await pushd.untilStat("slow_consumers", 1);
});

Deno.test("deadlines: a reload reaches the connections that are open", async () => {
  await using server = await Reloaded.start({ auth: "on", apps: APPS, auth_timeout: "1h" });
  const { pushd } = server;
  using idle = await Client.connect(pushd.port);
  await idle.ask("auth_server a s3cret", "AUTHENTICATED a");
  using unknown = await Client.connect(pushd.port);
  await unknown.ask("ping", "PONG");
  await server.reload({ auth_timeout: "300ms" });
  await unknown.expect(errorLine("need-auth"));
  await unknown.eof();
  await idle.ask("ping", "PONG");
  await server.reload({ session_timeout: "400ms" });
  await idle.expect(/^NOTE idle/);
  await idle.expect(errorLine("idle-timeout"));
  await idle.eof();
});

Deno.test("applications: added, given another secret, taken out", async () => {
  await using server = await Reloaded.start({ auth: "on", apps: [APPS[0]] });
  const { pushd } = server;
  using a = await Client.connect(pushd.port);
  await a.ask("auth_server a s3cret", "AUTHENTICATED a");
  const [, token] = await a.ask("gettoken ann", /^TOKEN ann (\S+)$/);
  const [, spare] = await a.ask("gettoken ann", /^TOKEN ann (\S+)$/);
  using ann = await Client.connect(pushd.port);
  await ann.ask(`auth ann ${token}`, "AUTHENTICATED ann");
  await ann.ask("sub c", "SUBSCRIBED c");
  using early = await Client.connect(pushd.port);
  await early.ask("auth_server b 0ther", errorLine("auth-failed"));

  await server.reload({ apps: APPS });
  await early.ask("auth_server b 0ther", "AUTHENTICATED b");

  await server.reload({ apps: [{ id: "a", secret: "another" }, APPS[1]] });
  await a.ask("pub c x", PUBLISHED);
  await ann.expect(/^MESSAGE c \d+ x$/);
  using late = await Client.connect(pushd.port);
  await late.ask("auth_server a s3cret", errorLine("auth-failed"));
  await late.ask("auth_server a another", "AUTHENTICATED a");

  await server.reload({ apps: [APPS[1]] });
  for (const client of [a, ann, late]) {
    await client.expect(errorLine("auth-failed"));
    await client.eof();
  }
  await early.ask("ping", "PONG");
  using tokens = await Client.connect(pushd.port);
  await tokens.ask(`auth ann ${spare}`, errorLine("auth-failed"));
  for (const secret of ["s3cret", "0ther", "another", token, spare]) {
    assert.ok(!pushd.log().includes(secret), "a secret in the log");
  }
  assert.match(pushd.log(), /apps: removed a/);
});

Deno.test("tokens: their time and their number", async () => {
  await using server = await Reloaded.start({ apps: [APPS[0]] });
  const { pushd } = server;
  using a = await Client.connect(pushd.port);
  await a.ask("auth_server a s3cret", "AUTHENTICATED a");
  await server.reload({ max_unused_tokens: 1 });
  await a.ask("gettoken ann", /^TOKEN/);
  await a.ask("gettoken ann", errorLine("too-busy"));
  await server.reload({ max_unused_tokens: 10, token_ttl: "1ms" });
  const [, token] = await a.ask("gettoken ann", /^TOKEN ann (\S+)$/);
  using ann = await Client.connect(pushd.port);
  await ann.ask(`auth ann ${token}`, errorLine("auth-failed"));
});

Deno.test("history: the cache and what is kept", async () => {
  await using server = await Reloaded.start();
  const { pushd } = server;
  using client = await Client.connect(pushd.port);
  for (let i = 0; i < 20; i++) await client.ask(`pub c ${i}`, PUBLISHED);
  await server.reload({ max_cache_msgs_every_channel: 5 });
  await client.ask("pub c last", PUBLISHED);
  const [, json] = await client.ask("his c 0", /^HISTORY c (?:PARTIAL )?(\[.*\])$/);
  assert.equal(JSON.parse(json).length, 5);
  await server.reload({ msg_retention: "1ms" });
  await within(
    () => "the history to be deleted",
    (async () => {
      while (!(await client.reply("his c 0")).endsWith(" []"));
    })(),
  );
});

Deno.test("history: bounds of the cache, and what is kept of each channel", async () => {
  await using server = await Reloaded.start();
  const { pushd } = server;
  using client = await Client.connect(pushd.port);
  const kept = async (channel: string): Promise<number> => {
    const [, json] = await client.ask(`his ${channel} 0`, /^HISTORY \S+ (?:PARTIAL )?(\[.*\])$/);
    return JSON.parse(json).length;
  };
  const text = "x".repeat(30_000);
  for (let i = 0; i < 10; i++) await client.ask(`pub large ${text}`, PUBLISHED);
  for (const name of ["c1", "c2", "c3"]) await client.ask(`pub ${name} x`, PUBLISHED);
  await server.reload({ pubsub_channel_max_items: 1 });
  await pushd.untilStat("pubsub_channel_count", 1);
  for (let i = 0; i < 10; i++) await client.ask(`pub large ${text}`, PUBLISHED);
  await server.reload({ max_cache_bytes: "64KiB" });
  assert.ok(await kept("large") <= 2);
  await server.reload({ msg_retention_per_channel: 2 });
  for (let i = 0; i < 10; i++) await client.ask("pub small x", PUBLISHED);
  assert.equal(await kept("small"), 2);
});

Deno.test("storage: its policy and its bounds", async () => {
  await using server = await Reloaded.start({
    msg_storage: "sqlite",
    sqlite: { path: await Deno.makeTempFile({ suffix: ".db" }) },
  });
  const { pushd } = server;
  const { path } = server.base.sqlite as { path: string };
  using client = await Client.connect(pushd.port);
  using other = await Client.connect(pushd.port);
  await client.ask("pub c 0", PUBLISHED);
  const db = new DatabaseSync(path);
  try {
    // While somebody holds the file nothing is stored: with policy 1 that is no reason to wait.
    const buffered = { msg_storage_flush_policy: 1, msg_storage_write_buffer_size: 3 };
    await server.reload(buffered);
    db.exec("BEGIN IMMEDIATE");
    for (let i = 1; i <= 3; i++) await client.ask(`pub c ${i}`, PUBLISHED);
    await client.send("pub c 4\nping\n");
    await pushd.untilStat("storage_pending", 3);
    await other.ask("ping", "PONG");
    await server.reload({ ...buffered, msg_storage_write_buffer_size: 100 });
    await client.expect(PUBLISHED);
    await client.expect("PONG");
    const text = "x".repeat(20_000);
    await server.reload({
      ...buffered,
      msg_storage_write_buffer_size: 100,
      max_storage_outstanding_bytes: "64KiB",
    });
    await client.send(`pub c ${text}\n`.repeat(10) + "ping\n");
    for (let i = 0; i < 3; i++) await client.expect(PUBLISHED);
    await other.ask("ping", "PONG");
    const { stats } = await pushd.stat();
    assert.ok(stats.storage_pending < 12, `${stats.storage_pending} wait`);
    db.exec("ROLLBACK");
    for (let i = 0; i < 7; i++) await client.expect(/^(PUBLISHED|ERROR storage-unavailable)/);
    await client.expect("PONG");
  } finally {
    db.close();
  }
  await server.reload({});
  await pushd.untilStat("storage_pending", 0);
  const history = await other.reply("his c 0 5");
  assert.deepEqual(
    JSON.parse(history.slice("HISTORY c ".length)).map(({ msg }: { msg: string }) => msg),
    ["0", "1", "2", "3", "4"],
  );
  await Deno.remove(path);
});

Deno.test("deadlines of writing and of the stop", async () => {
  await using server = await Reloaded.start();
  const { pushd } = server;
  using publisher = await Client.connect(pushd.port);
  const stop = async (): Promise<Client> => {
    const client = await Client.connect(pushd.port);
    await client.ask("sub c", "SUBSCRIBED c");
    return client;
  };
  const fill = async () => {
    const text = "x".repeat(60_000);
    for (let i = 0; i < 120; i++) await publisher.ask(`pub c ${text}`, PUBLISHED);
  };
  using _stopped = await stop();
  await fill();
  await server.reload({ write_timeout: "300ms" });
  await pushd.untilStat("slow_consumers", 1);
  await server.reload({ drain_timeout: "300ms" });
  using _alsoStopped = await stop();
  await fill();
  const startMs = performance.now();
  assert.equal((await pushd.stop()).code, 0);
  const tookMs = performance.now() - startMs;
  // By default it would have been 10 s.
  assert.ok(tookMs < 5000, `it took ${tookMs} ms`);
});

Deno.test("the stats door: hosts", async () => {
  await using server = await Reloaded.start();
  const { pushd } = server;
  const status = async (): Promise<string> => {
    using client = await Client.connect(pushd.statsPort);
    await client.send(
      "GET /s/ping HTTP/1.1\r\nHost: push.example.org\r\nConnection: close\r\n\r\n",
    );
    return await client.line();
  };
  assert.match(await status(), / 403 /);
  await server.reload({ allowed_hosts: ["push.example.org"] });
  assert.match(await status(), / 200 /);
  await server.reload({ web_origins: ["https://push.example.org"] });
  assert.match(await status(), / 200 /);
  await server.reload({});
  assert.match(await status(), / 403 /);
});

Deno.test("the stats door: its token", async () => {
  await using server = await Reloaded.start();
  const { pushd } = server;
  assert.equal(await (await pushd.get("/s/ping")).text(), '{"status":"ok"}\n');
  await server.reload({ stats_token: "t0ken" });
  const refused = await pushd.get("/s/ping");
  await refused.body?.cancel();
  assert.equal(refused.status, 401);
  const answer = await pushd.get("/s/stat", { headers: { Authorization: "Bearer t0ken" } });
  const { conf } = await answer.json();
  assert.equal(conf.stats_token, "***");
  assert.ok(!pushd.log().includes("t0ken"));
});

Deno.test("a wrong file changes nothing, and each mistake is named", async () => {
  await using server = await Reloaded.start();
  const { pushd } = server;
  using client = await Client.connect(pushd.port);
  await client.ask("sub c1", "SUBSCRIBED c1");
  await server.reload({ max_channels_per_connection: 1, session_timeout: "5" });
  assert.match(pushd.log(), /session_timeout: "5"/);
  await client.ask("sub c2", "SUBSCRIBED c2");
  await server.reload("{ max_channels_per_connection: 1");
  await client.ask("sub c3", "SUBSCRIBED c3");
  const { stats, conf } = await pushd.stat();
  assert.equal(conf.max_channels_per_connection, 10_000);
  assert.deepEqual([stats.config_reloads_ok, stats.config_reloads_failed], [0, 2]);
});

Deno.test("what needs a restart is named, and the rest applied", async () => {
  await using server = await Reloaded.start();
  const { pushd } = server;
  using client = await Client.connect(pushd.port);
  await server.reload({ max_channels_per_connection: 1, tcp_backlog: 77 });
  await pushd.waitForLog(/a restart is needed for: tcp_backlog: 4096 -> 77\b/);
  await client.ask("sub c1", "SUBSCRIBED c1");
  await client.ask("sub c2", errorLine("too-many-channels"));
  const { conf } = await pushd.stat();
  assert.equal(`${conf.tcp_backlog}`, "4096");
});

Deno.test("the file changes: in place, by rename, by a link's swap, in several writes", async () => {
  await using server = await Reloaded.start();
  const { pushd, file } = server;
  const text = (channels: number) =>
    JSON.stringify({ ...server.base, max_channels_per_connection: channels });
  const inForce = async (channels: number) => {
    await server.outcome();
    const { conf } = await pushd.stat();
    assert.equal(conf.max_channels_per_connection, channels);
  };
  await Deno.writeTextFile(file, text(1));
  await inForce(1);
  await Deno.writeTextFile(`${file}.new`, text(2));
  await Deno.rename(`${file}.new`, file);
  await inForce(2);
  // As a configuration of Kubernetes is mounted.
  const link = async (version: string, channels: number) => {
    await Deno.mkdir(`${pushd.folder}/${version}`);
    await Deno.writeTextFile(`${pushd.folder}/${version}/pushd.cf`, text(channels));
    await Deno.symlink(version, `${pushd.folder}/..data.new`);
    await Deno.rename(`${pushd.folder}/..data.new`, `${pushd.folder}/..data`);
  };
  await link("..v1", 3);
  await Deno.symlink("..data/pushd.cf", `${file}.new`);
  await Deno.rename(`${file}.new`, file);
  await inForce(3);
  await link("..v2", 4);
  await inForce(4);
  // Truncated, and written in pieces: the moments between count for nothing.
  const real = `${pushd.folder}/..v2/pushd.cf`;
  await Deno.writeTextFile(real, "");
  for (const part of text(5).match(/.{1,40}/g) ?? []) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    await Deno.writeTextFile(real, part, { append: true });
  }
  await inForce(5);
  assert.deepEqual(server.outcomes(), { ok: 5, failed: 0 });
});

Deno.test("a file that goes away leaves the server as it was", async () => {
  await using server = await Reloaded.start({ max_channels_per_connection: 7 });
  const { pushd, file } = server;
  await Deno.rename(file, `${file}.away`);
  await pushd.waitForLog(/a file of the configuration is missing/);
  pushd.signal("SIGHUP");
  await pushd.waitForLog(/configuration not reloaded/);
  assert.equal((await pushd.stat()).conf.max_channels_per_connection, 7);
});

Deno.test("1,000 reloads under load: no message is lost and nothing grows", async () => {
  // A heap so small that what grows shows, or ends the process.
  const env = { DENO_V8_FLAGS: "--max-old-space-size=32" };
  await using server = await Reloaded.start({ max_cache_msgs_every_channel: 100 }, env);
  const { pushd } = server;
  using subscriber = await Client.connect(pushd.port);
  using publisher = await Client.connect(pushd.port);
  await subscriber.ask("sub c", "SUBSCRIBED c");
  let isOver = false;
  let sent = 0;
  const publishing = (async () => {
    while (!isOver) {
      const lines = Array.from({ length: 20 }, () => `pub c ${sent++}\n`).join("");
      await publisher.send(lines);
      for (let i = 0; i < 20; i++) await publisher.expect(PUBLISHED);
    }
  })();
  let received = 0;
  const receiving = (async () => {
    while (!isOver || received < sent) {
      await subscriber.expect(new RegExp(`^MESSAGE c \\d+ ${received}$`));
      received++;
    }
  })();
  const round = async (count: number, from: number) => {
    for (let i = 0; i < count; i++) {
      const changes = {
        max_channels_per_connection: 1000 + i % 2,
        session_timeout: `${1 + i % 3}h`,
      };
      await server.write(changes);
      pushd.signal("SIGHUP");
      while ((await pushd.stat()).stats.config_reloads_ok < from + i + 1);
    }
  };
  // The first thousand warm up what is compiled and cached.
  await round(1000, 0);
  const before = pushd.rssKb();
  const filesBefore = await openFiles(pushd);
  await round(1000, 1000);
  isOver = true;
  await publishing;
  await receiving;
  assert.ok(sent > 1000, `only ${sent} messages`);
  assert.equal(received, sent);
  assert.equal(await openFiles(pushd), filesBefore);
  const grownKb = pushd.rssKb() - before;
  assert.ok(grownKb < 12 * 1024, `${grownKb} KiB more after 1,000 reloads`);
  assert.equal((await pushd.stat()).stats.config_reloads_failed, 0);
});

async function openFiles({ pid }: Pushd): Promise<number> {
  let count = 0;
  for await (const _ of Deno.readDir(`/proc/${pid}/fd`)) count++;
  return count;
}
