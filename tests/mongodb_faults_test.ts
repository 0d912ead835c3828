// What the stores in MongoDB do when the server hangs, is not there, or is cut off; and what they ask of it.

import assert from "node:assert/strict";
import { StoreError } from "../src/engine/ports/history_store.ts";
import {
  MongoConnection,
  type MongoOptions,
  MongoStore,
  MongoTokenStore,
} from "../src/storage/mongodb.ts";
import { PATIENCE_MS } from "./harness_within.ts";
import { startMongoProxy } from "./mongo_proxy.ts";
import { requireMongo, startMongo } from "./mongo_server.ts";
import { BASE_TS, block, type Line, readAll } from "./store_model.ts";

const TIMEOUT_MS = 1000;
const T = BASE_TS;

const { ignore, reason } = await requireMongo({ own: true });
// The driver waits a random time before it tries an operation again (executeOperationWithRetries, 7.9),
// and closing it does not end that: such a timer outlives the test now and then.
const sanitize = { sanitizeOps: false, sanitizeResources: false };
const test = (name: string, fn: () => Promise<void>) =>
  Deno.test({ name: `mongodb: ${name}${reason}`, ignore, ...sanitize, fn });

function optionsFor(url: string, more: Partial<MongoOptions> = {}): MongoOptions {
  return {
    url,
    database: "pushd",
    node: "a",
    connTimeoutMs: TIMEOUT_MS,
    syncTimeoutMs: TIMEOUT_MS,
    operationTimeoutMs: TIMEOUT_MS,
    ...more,
  };
}

function line(offset: number, text: string): Line {
  return { ts: T + offset, text, from: "ann" };
}

/** Rejects with a StoreError within the time that is promised. */
async function assertUnavailable(work: () => Promise<unknown>): Promise<StoreError> {
  const start = performance.now();
  const error = await work().then(() => undefined, (error) => error);
  assert.ok(error instanceof StoreError, `it gave ${error}`);
  assert.equal(error.fault, "unavailable");
  const ms = performance.now() - start;
  // Far below the driver's own 30 s, and with room for a machine that is busy with other things.
  assert.ok(ms < TIMEOUT_MS + 5000, `it took ${ms} ms`);
  return error;
}

/** Does it again until the server can, as the running server does: a slow machine needs its time. */
async function soon<T>(work: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof StoreError) || performance.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

test("a server that hangs", async () => {
  await using server = await startMongo();
  const connection = new MongoConnection(optionsFor(server.url));
  const store = new MongoStore(connection);
  const tokens = new MongoTokenStore(connection);
  const token = { hash: "h", app: "app", user: "ann", ttlMs: 60_000 };
  const limits = { maxMessages: 9, maxBytes: 9999 };
  try {
    await soon(() => store.open());
    await soon(() => store.append([block("app", "ch", "a", [line(1, "before")])]));
    server.stop();
    const lost = block("app", "ch", "a", [line(2, "lost"), line(3, "lost too")]);
    const error = await assertUnavailable(() => store.append([lost]));
    assert.match(error.message, new RegExp(`${server.addr}.*within 1000 ms`));
    await assertUnavailable(() => store.read({ app: "app", channel: "ch", afterTs: 0, ...limits }));
    await assertUnavailable(() => store.readNewest({ app: "app", channel: "ch", ...limits }));
    await assertUnavailable(() => store.count("app", "ch", 0, T + 9));
    await assertUnavailable(() => store.prune({ beforeTs: T, keepPerChannel: 0 }));
    await assertUnavailable(() =>
      store.forget([{ app: "x", channel: "x", node: "a", firstTs: 0, lastTs: 9 }])
    );
    await assertUnavailable(async () => {
      for await (const _ of store.scan());
    });
    await assertUnavailable(() => tokens.put(token, 9));
    await assertUnavailable(() => tokens.find("h"));
    await assertUnavailable(() => tokens.take("h"));
    await assertUnavailable(() => store.open());
    await assertUnavailable(() => store.read({ app: "app", channel: "ch", afterTs: 0, ...limits }));
    server.cont();
    await soon(() => store.open());
    await soon(() => store.forget([lost]));
    // The first write has perhaps arrived only now.
    await new Promise((resolve) => setTimeout(resolve, 300));
    await soon(() => store.append([block("app", "ch", "a", [line(4, "after")])]));
    const texts = (await soon(() => readAll(store, "app", "ch"))).map(({ text }) => text);
    assert.deepEqual(texts, ["before", "after"]);
    assert.equal(await soon(() => store.count("app", "ch", 0, T + 9)), 2);
    // It was taken back, and can be kept all the same.
    await soon(() => store.append([lost]));
    assert.equal((await soon(() => readAll(store, "app", "ch"))).length, 4);
    assert.equal(await soon(() => store.count("app", "ch", 0, T + 9)), 4);
  } finally {
    server.cont();
    await store.close();
  }
});

test("an append that timed out is appended again, once", async () => {
  await using server = await startMongo();
  const store = new MongoStore(new MongoConnection(optionsFor(server.url)));
  try {
    await soon(() => store.open());
    server.stop();
    const blocks = [block("app", "ch", "a", [line(1, "x"), line(2, "y")])];
    await assertUnavailable(() => store.append(blocks));
    server.cont();
    await soon(() => store.open());
    assert.deepEqual(await soon(() => readAll(store, "app", "ch")), [], "not before it is settled");
    await soon(() => store.append(blocks));
    assert.equal((await soon(() => readAll(store, "app", "ch"))).length, 2);
    assert.equal(await soon(() => store.count("app", "ch", 0, T + 9)), 2);
  } finally {
    server.cont();
    await store.close();
  }
});

test("a write that comes late, after it was taken back", async () => {
  await using server = await startMongo();
  await using proxy = await startMongoProxy(Number(server.addr.split(":")[1]));
  const store = new MongoStore(new MongoConnection(optionsFor(proxy.url)));
  try {
    await soon(() => store.open());
    const letPass = proxy.hold("insert");
    const lost = block("app", "ch", "a", [line(1, "lost"), line(2, "lost too")]);
    await assertUnavailable(() => store.append([lost]));
    await soon(() => store.open());
    await soon(() => store.forget([lost]));
    letPass();
    // Time for the server to do it; that it has done nothing leaves no trace to wait for.
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.deepEqual(await soon(() => readAll(store, "app", "ch")), []);
    assert.equal(await soon(() => store.count("app", "ch", 0, T + 9)), 0);
    await soon(() => store.append([lost]));
    assert.equal((await soon(() => readAll(store, "app", "ch"))).length, 2, "kept after all");
  } finally {
    await store.close();
  }
});

test("closing while the server hangs", async () => {
  await using server = await startMongo();
  const store = new MongoStore(new MongoConnection(optionsFor(server.url)));
  await soon(() => store.open());
  server.stop();
  const reading = assertUnavailable(() => store.count("app", "ch", 0, T));
  const start = performance.now();
  await store.close();
  assert.ok(performance.now() - start < 2000);
  await reading;
  server.cont();
});

test("a server that is not there, comes, goes and comes again", async () => {
  await using server = await startMongo();
  await server.kill();
  const store = new MongoStore(new MongoConnection(optionsFor(server.url)));
  try {
    for (let i = 0; i < 2; i++) {
      const { message } = await assertUnavailable(() => store.open());
      assert.ok(message.includes(server.addr), message);
      assert.match(message, /mongodb\.addr/);
    }
    await server.restart();
    await soon(() => store.open());
    await soon(() => store.append([block("app", "ch", "a", [line(1, "kept")])]));
    await server.kill();
    await assertUnavailable(() => store.append([block("app", "ch", "a", [line(2, "lost")])]));
    await server.restart();
    await soon(() => store.open());
    await soon(() => store.append([block("app", "ch", "a", [line(2, "lost")])]));
    const texts = (await soon(() => readAll(store, "app", "ch"))).map(({ text }) => text);
    assert.deepEqual(texts, ["kept", "lost"]);
  } finally {
    await store.close();
  }
});

test("a connection cut between a write and its answer", async () => {
  await using server = await startMongo();
  await using proxy = await startMongoProxy(Number(server.addr.split(":")[1]));
  const store = new MongoStore(
    new MongoConnection(optionsFor(proxy.url, { operationTimeoutMs: 60_000 })),
  );
  try {
    await soon(() => store.open());
    const lines = Array.from({ length: 5000 }, (_, i) => line(i, `m${i}`));
    proxy.cutAnswerTo("insert");
    await soon(() => store.append([block("app", "ch", "a", lines)]));
    assert.equal(proxy.cuts, 1);
    const inserts = proxy.commands.filter((command) => "insert" in command);
    assert.equal(inserts.length, 4, "three commands, one of them twice");
    assert.deepEqual(inserts[0].documents, inserts[1].documents, "under the same ids");
    assert.ok(inserts.every(({ writeConcern: concern }) => {
      assert.deepEqual(concern, { w: "majority", j: true });
      return true;
    }));
    assert.equal((await soon(() => readAll(store, "app", "ch"))).length, 5000);
    assert.equal(await soon(() => store.count("app", "ch", 0, T + 9999)), 5000);
  } finally {
    await store.close();
  }
});

test("the indexes, with the server to delete expired tokens", async () => {
  await using server = await startMongo();
  await using proxy = await startMongoProxy(Number(server.addr.split(":")[1]));
  const connection = new MongoConnection(optionsFor(proxy.url));
  const store = new MongoStore(connection);
  try {
    await soon(() => store.open());
    await soon(() => store.open());
    const indexes = proxy.commands.filter((command) => "createIndexes" in command)
      .map(({ createIndexes, indexes }) => JSON.stringify({ [`${createIndexes}`]: indexes }));
    const has = (index: unknown) =>
      assert.ok(indexes.includes(JSON.stringify(index)), `${indexes}`);
    has({ tokens: [{ name: "expired", expireAfterSeconds: 0, key: { expires: 1 } }] });
    has({
      messages: [{ name: "message", unique: true, key: { app: 1, channel: 1, ts: 1, node: 1 } }],
    });
    const tokens = new MongoTokenStore(connection);
    await tokens.put({ hash: "h", app: "app", user: "ann", ttlMs: 60_000 }, 10);
    const put = proxy.commands.find((command) =>
      "update" in command && command.update === "tokens"
    );
    assert.ok(put, "a token is put by an update");
    const [{ u }] = put.updates as { u: { expires: unknown } }[];
    assert.ok(u.expires instanceof Date, "only a date makes the server delete it");
  } finally {
    await store.close();
  }
});

test("one token on two nodes at once", async () => {
  await using server = await startMongo();
  const nodes = ["a", "b"].map((node) => new MongoConnection(optionsFor(server.url, { node })));
  try {
    for (const node of nodes) await new MongoStore(node).open();
    const [a, b] = nodes.map((node) => new MongoTokenStore(node));
    for (let i = 0; i < 30; i++) {
      await a.put({ hash: `h${i}`, app: "app", user: "ann", ttlMs: 60_000 }, 100);
      const takes = [a, b, a, b].map((store) => store.take(`h${i}`));
      const taken = (await Promise.all(takes)).filter((isTaken) => isTaken);
      assert.equal(taken.length, 1);
    }
  } finally {
    for (const node of nodes) await node.close();
  }
});

test("two nodes that delete at once", async () => {
  await using server = await startMongo();
  const long = { operationTimeoutMs: 60_000 };
  const [a, b] = ["a", "b"].map((node) =>
    new MongoStore(new MongoConnection(optionsFor(server.url, { node, ...long })))
  );
  try {
    await a.open();
    await b.open();
    for (const [node, store] of [["a", a], ["b", b]] as const) {
      const lines = Array.from({ length: 1200 }, (_, i) => line(2 * i, `${node}${i}`));
      await soon(() => store.append([block("app", "ch", node, lines)]));
    }
    const round = async (store: MongoStore) => {
      let cursor: unknown;
      do {
        const step = await store.prune({ beforeTs: T + 900, keepPerChannel: 100, cursor });
        cursor = step.cursor;
      } while (cursor !== undefined);
    };
    let isDone = false;
    const rounds = Promise.all([round(a), round(b)]).finally(() => isDone = true);
    while (!isDone) {
      const { blocks, prunedTs } = await a.read({
        app: "app",
        channel: "ch",
        afterTs: 0,
        maxMessages: 1,
        maxBytes: 1,
      });
      // Every timestamp has a message of both: the first that is left follows what was deleted.
      assert.equal(blocks[0].firstTs, prunedTs === 0 ? T : prunedTs + 2);
      assert.equal(blocks.length, 2);
    }
    await rounds;
    for (const store of [a, b]) {
      const left = await soon(() => readAll(store, "app", "ch"));
      assert.deepEqual([left.length, left[0].ts], [100, T + 2 * 1150]);
    }
  } finally {
    await a.close();
    await b.close();
  }
});

Deno.test("mongodb: no password in any message", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  const fast = { connTimeoutMs: 200, syncTimeoutMs: 200, operationTimeoutMs: 200 };
  for (
    const url of [
      `mongodb://ann:s3cr%40t@127.0.0.1:${port}/`,
      `mongodb://ann:s3cr@t@127.0.0.1:99999/`,
      `mongodb://ann:s3cr%zzt@127.0.0.1:${port}/`,
      `mongo://ann:s3cr%40t@127.0.0.1:${port}/`,
      `mongodb://127.0.0.1:${port}/?tls=true&tlsCertificateKeyFilePassword=s3cret&nonsense=1`,
    ]
  ) {
    const store = new MongoStore(new MongoConnection(optionsFor(url, fast)));
    assert.doesNotMatch(store.description, /s3cr|ann/);
    assert.match(store.description, /^MongoDB 127\.0\.0\.1:\d+\/pushd$/);
    const error = await assertUnavailable(() => store.open());
    assert.doesNotMatch(Deno.inspect(error), /s3cr/, url);
    assert.match(error.message, /127\.0\.0\.1:\d+/);
    await store.close();
  }
});

test("a user who is not let in", async () => {
  await using server = await startMongo();
  const url = server.url.replace("//", "//nobody:s3cret@");
  const store = new MongoStore(new MongoConnection(optionsFor(url)));
  try {
    const error = await assertUnavailable(() => store.open());
    assert.doesNotMatch(Deno.inspect(error), /s3cret/);
    assert.match(error.message, /mongodb\.password/);
  } finally {
    await store.close();
  }
});
