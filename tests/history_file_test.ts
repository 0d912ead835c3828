// The SQLite file under a running server: other programs on it, a clock set back, and files that are not ours.

import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { fakeTimeEnv } from "./fake_time.ts";
import { Client, type Pushd, type Run, runPushd, startPushd } from "./harness.ts";
import { readHistory } from "./history_reader.ts";
import { Publisher } from "./publisher.ts";
import { untilReady } from "./readiness.ts";
import { requireTool } from "./require.ts";

const PUBLISHED = /^PUBLISHED (\d{16})$/;
const NOT_STORED = /^ERROR storage-unavailable (\d{16}) delivered but not stored\b/;
const MIB = 2 ** 20;

interface Place extends AsyncDisposable {
  folder: string;
  path: string;
  config: Record<string, unknown>;
}

async function makePlace(): Promise<Place> {
  const folder = await Deno.makeTempDir({ prefix: "pushd-file-" });
  const path = `${folder}/pushd.db`;
  return {
    folder,
    path,
    config: { msg_storage: "sqlite", sqlite: { path } },
    [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }),
  };
}

async function historyOf(pushd: Pushd): Promise<string[]> {
  using client = await Client.connect(pushd.port);
  return (await readHistory(client, "c")).map(({ ts, msg }) => `${ts} ${msg}`);
}

/** Runs a server that is not meant to start. */
async function runOn(place: Place): Promise<Run> {
  const conf = `${place.folder}/pushd.cf`;
  const ports = { tcp_listen_addr: "127.0.0.1:0", stats_listen_addr: "127.0.0.1:0" };
  await Deno.writeTextFile(conf, JSON.stringify({ ...ports, ...place.config }));
  return await runPushd(["--conf", conf]);
}

for (const holdMs of [2000, 6000]) {
  Deno.test(`another program keeps the file locked for ${holdMs / 1000} s`, async () => {
    await using place = await makePlace();
    await using pushd = await startPushd({ config: place.config });
    using client = await Client.connect(pushd.port);
    using bystander = await Client.connect(pushd.port);
    const [, before] = await client.ask("pub c before", PUBLISHED);
    const kept = [`${before} before`];
    const db = new DatabaseSync(place.path);
    let waited: string;
    try {
      db.exec("BEGIN IMMEDIATE");
      const released = new Promise<void>((resolve) =>
        setTimeout(() => {
          db.exec("ROLLBACK");
          resolve();
        }, holdMs)
      );
      await client.send("pub c waited\n");
      const answered = client.line();
      let isOver = false;
      void released.then(() => isOver = true);
      const waits: number[] = [];
      while (!isOver) {
        const askedMs = performance.now();
        await bystander.ask("ping", "PONG");
        waits.push(performance.now() - askedMs);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      waits.sort((a, b) => a - b);
      assert.ok(waits[Math.floor(waits.length * 0.95)] < 200, `waits: ${waits.slice(-10)}`);
      waited = await answered;
      await released;
    } finally {
      db.close();
    }
    // It waits for a while, and then says so.
    const [, ts] = (holdMs < 5000 ? PUBLISHED : NOT_STORED).exec(waited) ?? client.fail(waited);
    if (holdMs < 5000) kept.push(`${ts} waited`);
    await untilReady(pushd);
    const [, after] = await client.ask("pub c after", PUBLISHED);
    kept.push(`${after} after`);
    assert.deepEqual(await historyOf(pushd), kept);
    await pushd.kill();
    await using again = await startPushd({ config: place.config });
    assert.deepEqual(await historyOf(again), kept);
  });
}

Deno.test("a foreign reader keeps the write-ahead log large, and leaves", async () => {
  await using place = await makePlace();
  await using pushd = await startPushd({ config: { ...place.config, max_cache_bytes: "1MiB" } });
  using client = await Client.connect(pushd.port);
  await client.ask("pub c first", PUBLISHED);
  const walMib = () => Deno.statSync(`${place.path}-wal`).size / MIB;
  const reader = new DatabaseSync(place.path, { readOnly: true });
  try {
    reader.exec("BEGIN");
    reader.prepare("SELECT count(*) FROM blocks").get();
    const message = "x".repeat(60_000);
    for (let sent = 0; sent < 100 * MIB;) {
      const burst = 50;
      await client.send(`pub c ${message}\n`.repeat(burst));
      for (let i = 0; i < burst; i++) await client.expect(PUBLISHED);
      sent += burst * message.length;
    }
    assert.ok(walMib() > 90, `${walMib()} MiB: the reader keeps nothing, so nothing is tested`);
    await pushd.waitForLog(/WARN .*\.db.*(?:write-ahead|WAL|wal)/);
    reader.exec("COMMIT");
  } finally {
    reader.close();
  }
  const deadlineMs = performance.now() + 10_000;
  while (walMib() >= 64) {
    assert.ok(performance.now() < deadlineMs, `${walMib()} MiB, and nobody reads`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await client.ask("pub c last", PUBLISHED);
  // Our own readers, which come page by page, keep nothing.
  using follower = await Client.connect(pushd.port);
  await follower.ask("sub c 0", /^SUBSCRIBED c \d+$/);
  const publisher = await Publisher.start(pushd.port, "d", "p", { window: 20, padding: 60_000 });
  for (let line = ""; !line.endsWith(" last");) line = await follower.line();
  publisher.stop();
  await publisher.done;
  assert.ok(walMib() < 64, `${walMib()} MiB after a replay`);
});

const faketime = requireTool("faketime");
Deno.test({
  name: `a restart with the clock a day back${faketime.reason}`,
  ignore: faketime.ignore,
  async fn() {
    await using place = await makePlace();
    let last = 0;
    const publish = async (pushd: Pushd) => {
      using client = await Client.connect(pushd.port);
      for (const channel of ["c", "c", "d"]) {
        const ts = Number((await client.ask(`pub ${channel} x`, PUBLISHED))[1]);
        assert.ok(ts > last, `${ts} after ${last}`);
        last = ts;
      }
    };
    {
      await using pushd = await startPushd({ config: place.config });
      await publish(pushd);
      await pushd.kill();
    }
    for (let life = 0; life < 2; life++) {
      await using pushd = await startPushd({
        config: place.config,
        env: await fakeTimeEnv("-1d"),
      });
      const yesterday = new Date(Date.now() - 86_400_000).toISOString().slice(0, 10);
      assert.ok(pushd.log().startsWith(yesterday), "the clock is not set back");
      const before = last;
      await publish(pushd);
      assert.ok(last - before < 60_000_000, "it goes on right behind the last one");
      using client = await Client.connect(pushd.port);
      const kept = await readHistory(client, "c");
      assert.deepEqual(
        kept.map(({ ts }) => ts).toSorted((a, b) => a - b),
        kept.map(({ ts }) => ts),
      );
      assert.equal(kept.length, 4 + 2 * life);
      // Clients that resume are not told of what they have had.
      await client.ask(`sub c ${kept[kept.length - 1].ts}`, "SUBSCRIBED c 0");
    }
  },
});

Deno.test("a second server on the same file is refused, and a killed one leaves no lock", async () => {
  await using place = await makePlace();
  const kept: string[] = [];
  for (let life = 0; life < 3; life++) {
    await using pushd = await startPushd({ config: place.config });
    using client = await Client.connect(pushd.port);
    const publish = async () => {
      const [, ts] = await client.ask("pub c x", PUBLISHED);
      kept.push(`${ts} x`);
    };
    await publish();
    const { code, stderr } = await runOn(place);
    assert.equal(code, 1);
    assert.match(
      stderr,
      /^pushd: sqlite\.path: SQLite \S*pushd\.db: another pushd is using it\b.*\n$/,
    );
    await publish();
    const load = await Publisher.start(pushd.port, "d", "p");
    while (load.acked.length < 10) await publish();
    await pushd.kill();
    await load.done;
  }
  await using pushd = await startPushd({ config: place.config });
  assert.deepEqual(await historyOf(pushd), kept);
});

interface BadFile {
  name: string;
  says: RegExp;
  make(path: string): void;
}

function makeDatabase(path: string, sql: string): void {
  const db = new DatabaseSync(path);
  db.exec(sql);
  db.close();
}

const BAD_FILES: readonly BadFile[] = [
  {
    name: "a text",
    says: /not an SQLite database/,
    make: (path) => Deno.writeTextFileSync(path, "This is no database.\n".repeat(300)),
  },
  {
    name: "NULs",
    says: /not an SQLite database/,
    make: (path) => Deno.writeFileSync(path, new Uint8Array(8192)),
  },
  {
    name: "the database of something else",
    says: /another application/,
    make: (path) => makeDatabase(path, "CREATE TABLE t (x); INSERT INTO t VALUES (1)"),
  },
];

/** Every file of a folder but the configuration. */
async function filesIn(folder: string): Promise<Record<string, string>> {
  const files: Record<string, string> = {};
  for await (const { name } of Deno.readDir(folder)) {
    if (name !== "pushd.cf") files[name] = (await Deno.readFile(`${folder}/${name}`)).toHex();
  }
  return files;
}

async function assertRefused(place: Place, says: RegExp): Promise<void> {
  const before = await filesIn(place.folder);
  const { code, stderr } = await runOn(place);
  assert.equal(code, 1, stderr);
  assert.match(stderr, /^pushd: sqlite\.path: [^\n]*\n$/);
  assert.ok(stderr.includes(place.path), stderr);
  assert.match(stderr, says);
  assert.deepEqual(await filesIn(place.folder), before);
}

for (const { name, says, make } of BAD_FILES) {
  Deno.test(`a start on ${name}`, async () => {
    await using place = await makePlace();
    make(place.path);
    await assertRefused(place, says);
  });
}

Deno.test("a start on a file of a later version", async () => {
  await using place = await makePlace();
  await (await startPushd({ config: place.config }))[Symbol.asyncDispose]();
  makeDatabase(place.path, "PRAGMA user_version = 999");
  await assertRefused(place, /newer version.*999/);
});

Deno.test("a start on a folder, and one on an empty file", async () => {
  await using place = await makePlace();
  await Deno.mkdir(place.path);
  const { code, stderr } = await runOn(place);
  assert.equal(code, 1);
  assert.match(stderr, /^pushd: sqlite\.path: [^\n]*it is a folder[^\n]*\n$/);
  await Deno.remove(place.path);
  await Deno.writeTextFile(place.path, "");
  await using pushd = await startPushd({ config: place.config });
  using client = await Client.connect(pushd.port);
  await client.ask("pub c x", PUBLISHED);
});
