// The running server and a MongoDB that is down, is killed again and again, or hangs.

import assert from "node:assert/strict";
import { MongoClient } from "mongodb";
import { Client, type Pushd, startPushd } from "./harness.ts";
import { readHistory } from "./history_reader.ts";
import { freshDatabase, type MongoServer, requireMongo, startMongo } from "./mongo_server.ts";
import { readiness, untilReady, untilUnready } from "./readiness.ts";

const PUBLISHED = /^PUBLISHED (\d{16})$/;
const NOT_STORED = /^ERROR storage-unavailable (\d{16}) delivered but not stored\b/;
const REFUSED = /^ERROR storage-unavailable (?!\d{16} )\S.*$/;
const RESTARTS = 10;
/** Messages that a publisher sends at once. */
const BURST = 5;
/** Where everything else on the machine is at work, too, and nothing depends on how soon it is over. */
const BUSY_TIMEOUT = "2s";

const { ignore, reason } = await requireMongo({ own: true });
const test = (name: string, fn: () => Promise<void>) =>
  Deno.test({ name: `mongodb: ${name}${reason}`, ignore, fn });

function start(
  mongo: MongoServer,
  config: Record<string, unknown> = {},
  operationTimeout = "1s",
): Promise<Pushd> {
  return startPushd({
    config: {
      msg_storage: "mongodb",
      mongodb: {
        url: mongo.url,
        operation_timeout: operationTimeout,
        conn_timeout: "1s",
        sync_timeout: operationTimeout,
      },
      ...config,
    },
  });
}

async function textsOf(pushd: Pushd, channel: string): Promise<string[]> {
  using client = await Client.connect(pushd.port);
  return (await readHistory(client, channel)).map(({ msg }) => msg);
}

/** The next line comes within the timeout of one operation and a second, and matches. */
async function asksInTime(client: Client, request: string, expected: RegExp): Promise<void> {
  const startMs = performance.now();
  await client.ask(request, expected);
  const ms = performance.now() - startMs;
  assert.ok(ms < 2000, `"${request}" was answered after ${ms} ms`);
}

test("down at the start", async () => {
  await using mongo = await startMongo();
  await mongo.kill();
  await using pushd = await start(mongo);
  assert.match(pushd.log(), /WARN .*MongoDB .*cannot be used yet/);
  const { status, text } = await readiness(pushd);
  assert.equal(status, 503);
  assert.match(text, /storage/);
  using client = await Client.connect(pushd.port);
  using follower = await Client.connect(pushd.port);
  await follower.ask("sub c", "SUBSCRIBED c");
  await asksInTime(client, "pub c undelivered", REFUSED);
  await asksInTime(client, "his c 0", REFUSED);
  await asksInTime(client, "sub c 0", REFUSED);
  await client.ask("unsub c", "NOT SUBSCRIBED c");
  await follower.ask("ping", "PONG");
  await mongo.restart();
  await untilReady(pushd);
  const [, ts] = await client.ask("pub c x", PUBLISHED);
  await follower.expect(`MESSAGE c ${ts} x`);
  assert.deepEqual(await textsOf(pushd, "c"), ["x"]);
});

/** Publishes a few messages at a time, and notes what became of each. */
class Load {
  readonly published: string[] = [];
  refusals = 0;
  #isOver = false;
  readonly #done: Promise<void>;

  constructor(readonly port: number, readonly name: string) {
    this.#done = this.#run();
    // Whoever stops it hears of it.
    this.#done.catch(() => {});
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#done;
  }

  async #run(): Promise<void> {
    using client = await Client.connect(this.port);
    for (let n = 0; !this.#isOver; n += BURST) {
      const texts = Array.from({ length: BURST }, (_, i) => `${this.name}-${n + i}`);
      await client.send(texts.map((text) => `pub c ${text}\n`).join(""));
      for (const text of texts) {
        const reply = await client.line();
        if (PUBLISHED.test(reply)) this.published.push(text);
        else if (NOT_STORED.test(reply) || REFUSED.test(reply)) this.refusals++;
        else client.fail("it is neither published nor refused");
      }
      // A moment for the database, which is on the same machine.
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

async function until(what: string, is: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 30_000;
  while (!is()) {
    assert.ok(performance.now() < deadlineMs, `waited for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

test(`killed and started again ${RESTARTS} times under load`, async () => {
  await using mongo = await startMongo();
  const loads: Load[] = [];
  const check = async (pushd: Pushd) => {
    const texts = await textsOf(pushd, "c");
    for (const { name, published } of loads) {
      assert.deepEqual(texts.filter((text) => text.startsWith(`${name}-`)), published);
    }
    assert.equal(texts.length, loads.reduce((sum, { published }) => sum + published.length, 0));
  };
  {
    await using pushd = await start(mongo, {}, BUSY_TIMEOUT);
    for (const name of ["a", "b", "d"]) loads.push(new Load(pushd.port, name));
    const counts = () => loads.map(({ published }) => published.length);
    const moreThan = (before: readonly number[]) => () =>
      counts().every((count, i) => count > before[i] + 3 * BURST);
    for (let i = 0; i < RESTARTS; i++) {
      await until("messages to be published", moreThan(counts()));
      await mongo.kill();
      const before = loads.reduce((sum, { refusals }) => sum + refusals, 0);
      // Sometimes it is back before anybody has noticed.
      if (i % 3 > 0) {
        await until("a refusal", () => loads.reduce((sum, l) => sum + l.refusals, 0) > before);
      }
      await mongo.restart();
    }
    await until("messages to be published at last", moreThan(counts()));
    await Promise.all(loads.map((load) => load.stop()));
    await check(pushd);
  }
  await using pushd = await start(mongo, {}, BUSY_TIMEOUT);
  await check(pushd);
});

test("hangs for longer than operation_timeout", async () => {
  await using mongo = await startMongo();
  await (async () => {
    await using pushd = await start(mongo);
    using client = await Client.connect(pushd.port);
    await client.ask("pub old x", PUBLISHED);
  })();
  const kept: string[] = [];
  {
    await using pushd = await start(mongo);
    using client = await Client.connect(pushd.port);
    using reader = await Client.connect(pushd.port);
    using follower = await Client.connect(pushd.port);
    await follower.ask("sub c", "SUBSCRIBED c");
    const [, first] = await client.ask("pub c before", PUBLISHED);
    await follower.expect(`MESSAGE c ${first} before`);
    kept.push("before");
    mongo.stop();
    try {
      await Promise.all([
        asksInTime(client, "pub c lost", NOT_STORED),
        asksInTime(reader, "his old 0", REFUSED),
      ]);
      await follower.expect(/^MESSAGE c \d{16} lost$/);
      await asksInTime(client, "pub c undelivered", REFUSED);
      await asksInTime(reader, "his old 0", REFUSED);
      const { status } = await untilUnready(pushd);
      assert.equal(status, 503);
      // From the cache.
      await reader.ask(`his c ${first}`, /^HISTORY c \[\{[^}]*"before"[^}]*\}\]$/);
      await follower.ask("ping", "PONG");
    } finally {
      mongo.cont();
    }
    await untilReady(pushd);
    await client.ask("pub c after", PUBLISHED);
    kept.push("after");
    assert.deepEqual(await textsOf(pushd, "c"), kept);
    assert.deepEqual(await textsOf(pushd, "old"), ["x"]);
  }
  await using pushd = await start(mongo);
  assert.deepEqual(await textsOf(pushd, "c"), kept);
});

test("down with policy 1: messages are taken until the buffer is full", async () => {
  const ROOM = 30;
  await using mongo = await startMongo();
  const texts = Array.from({ length: ROOM }, (_, i) => `${i}`);
  {
    await using pushd = await start(mongo, {
      msg_storage_flush_policy: 1,
      msg_storage_write_buffer_size: ROOM,
    });
    using client = await Client.connect(pushd.port);
    using follower = await Client.connect(pushd.port);
    await follower.ask("sub c", "SUBSCRIBED c");
    const publish = async (text: string) => {
      const [, ts] = await client.ask(`pub c ${text}`, PUBLISHED);
      await follower.expect(`MESSAGE c ${ts} ${text}`);
    };
    await mongo.kill();
    for (const text of texts.slice(0, 5)) await publish(text);
    await pushd.waitForLog(/ERROR .*messages are kept in memory until it works again/);
    for (const text of texts.slice(5, -1)) await publish(text);
    assert.equal((await readiness(pushd)).status, 200);
    await publish(texts[ROOM - 1]);
    await client.ask("pub c undelivered", REFUSED);
    const { status, text } = await readiness(pushd);
    assert.equal(status, 503);
    assert.match(text, /storage/);
    await follower.ask("ping", "PONG");
    await mongo.restart();
    await untilReady(pushd);
    await pushd.untilStat("storage_pending", 0);
    await publish("after");
    texts.push("after");
  }
  await using pushd = await start(mongo);
  assert.deepEqual(await textsOf(pushd, "c"), texts);
});

test("down with policy 1: more than one operation can store is stored when it is back", async () => {
  const COUNT = 30_000;
  const database = freshDatabase();
  await using mongo = await startMongo();
  await using pushd = await start(mongo, {
    msg_storage_flush_policy: 1,
    mongodb: { url: mongo.url, database, operation_timeout: "1s" },
  });
  using client = await Client.connect(pushd.port);
  await mongo.kill();
  for (let i = 0; i < COUNT; i += 1000) {
    await client.send("pub c x\n".repeat(1000));
    for (let k = 0; k < 1000; k++) await client.expect(PUBLISHED);
  }
  await pushd.waitForLog(/ERROR .*messages are kept in memory/);
  await mongo.restart();
  const deadlineMs = performance.now() + 40_000;
  for (let left = COUNT; left > 0; left = (await pushd.stat()).stats.storage_pending) {
    assert.ok(performance.now() < deadlineMs, `${left} messages still wait`);
    await client.ask("ping", "PONG");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const mongodb = new MongoClient(mongo.url);
  try {
    assert.equal(await mongodb.db(database).collection("messages").countDocuments(), COUNT);
  } finally {
    await mongodb.close();
  }
});

test("down at the stop with policy 1: the server says what is lost", async () => {
  await using mongo = await startMongo();
  await using pushd = await start(mongo, { msg_storage_flush_policy: 1, drain_timeout: "1s" });
  using client = await Client.connect(pushd.port);
  await mongo.kill();
  await client.send("pub c x\n".repeat(7));
  for (let i = 0; i < 7; i++) await client.expect(PUBLISHED);
  client.close();
  const startMs = performance.now();
  assert.deepEqual(await pushd.stop(), { code: 1, signal: null });
  assert.ok(performance.now() - startMs < 5000);
  assert.match(pushd.log(), /ERROR .*could not be stored.*\b7\b/);
});

test("down at the stop with policy 1, and back in time", async () => {
  await using mongo = await startMongo();
  {
    await using pushd = await start(mongo, { msg_storage_flush_policy: 1, drain_timeout: "8s" });
    using client = await Client.connect(pushd.port);
    await mongo.kill();
    await client.send("pub c x\n".repeat(7));
    for (let i = 0; i < 7; i++) await client.expect(PUBLISHED);
    client.close();
    await pushd.waitForLog(/ERROR .*messages are kept in memory/);
    const stopping = pushd.stop();
    await pushd.waitForLog(/INFO .*stopping/);
    await mongo.restart();
    assert.deepEqual(await stopping, { code: 0, signal: null });
  }
  await using pushd = await start(mongo);
  assert.deepEqual(await textsOf(pushd, "c"), Array.from({ length: 7 }, () => "x"));
});
