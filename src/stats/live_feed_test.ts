// The feed: what a viewer is told, in which order, and when it is cut off.

import assert from "node:assert/strict";
import { goRound } from "../../tests/go_round.ts";
import { liveSource, shownConnection } from "../../tests/live_source.ts";
import { recentLog } from "../core/recent_log.ts";
import { runningTasks } from "../core/spawn.ts";
import { LiveFeed } from "./live_feed.ts";
import { eventBytes, Viewer } from "./viewer.ts";

/** Reads events, one after the other. */
class Events {
  #reader: ReadableStreamDefaultReader<Uint8Array>;
  #text = "";

  constructor(body: ReadableStream<Uint8Array> | null) {
    assert.ok(body !== null);
    this.#reader = body.getReader();
  }

  /** The next one; null at the end. */
  async next(): Promise<{ event: string; data: unknown } | null> {
    while (!this.#text.includes("\n\n")) {
      const { done, value } = await this.#reader.read();
      if (done) return null;
      this.#text += new TextDecoder().decode(value);
    }
    const [first] = this.#text.split("\n\n", 1);
    this.#text = this.#text.slice(first.length + 2);
    const [, event, data] = /^event: (\w+)\ndata: (.*)$/.exec(first) ?? assert.fail(first);
    return { event, data: JSON.parse(data) };
  }

  /** The next one of this name, whatever comes before it. */
  async of(event: string): Promise<unknown> {
    for (let next = await this.next(); next !== null; next = await this.next()) {
      if (next.event === event) return next.data;
    }
    return assert.fail(`the end, and no ${event}`);
  }

  async cancel(): Promise<void> {
    await this.#reader.cancel();
  }
}

async function withFeed(
  feed: LiveFeed,
  fn: (feed: LiveFeed) => Promise<void>,
): Promise<void> {
  feed.start();
  try {
    await fn(feed);
  } finally {
    await feed.stop();
  }
}

Deno.test("feed: hello first, then a look around and moments; nobody is looked for when all have gone", async () => {
  let looks = 0;
  const source = liveSource({
    lists: {
      channels: () => {
        looks++;
        return Promise.resolve([]);
      },
      connections: () =>
        Promise.resolve([
          shownConnection({ address: "::1", pending: 5 }),
          shownConnection({ address: "::2", pending: 0 }),
        ]),
    },
  });
  await withFeed(new LiveFeed(source, { lookIntervalMs: 10 }), async (feed) => {
    const events = new Events(feed.open());
    const hello = await events.next() as { event: string; data: Record<string, unknown> };
    assert.equal(hello.event, "hello");
    assert.equal(hello.data.node, "host:2222");
    assert.deepEqual(hello.data.conf, { s2s_secret: "***" });
    assert.deepEqual(hello.data.has, { s2s: false });
    const look = await events.of("look") as { slowest: unknown[] };
    assert.equal(look.slowest.length, 1);
    feed.sampler.sample(Date.now());
    const { row } = await events.of("moment") as { row: unknown[] };
    assert.equal(row.length, (hello.data.series as unknown[]).length + 1);
    assert.equal(feed.viewers, 1);
    // Who comes later is told what is known already.
    const other = new Events(feed.open());
    const { data } = await other.next() as { data: { look: unknown; rows: unknown[] } };
    assert.notEqual(data.look, null);
    assert.equal(data.rows.length, 1);
    await events.cancel();
    await other.cancel();
    assert.equal(feed.viewers, 0);
    assert.ok(looks > 0);
    while (runningTasks().some(({ name }) => name === "stats.look")) await goRound();
  });
});

Deno.test("feed: new warnings, and another configuration", async () => {
  let conf = { a: 1 };
  const source = liveSource({ conf: () => conf });
  await withFeed(new LiveFeed(source, { lookIntervalMs: 10 }), async (feed) => {
    const events = new Events(feed.open());
    await events.of("look");
    conf = { a: 2 };
    assert.deepEqual(await events.of("conf"), { a: 2 });
    recentLog.add({
      category: ["pushd", "serv"],
      level: "error",
      message: ["the disk is on fire"],
      rawMessage: "the disk is on fire",
      timestamp: Date.now(),
      properties: { disk: 1 },
    });
    const [record] = await events.of("log") as { text: string; level: string }[];
    assert.deepEqual([record.level, record.text], ["error", "the disk is on fire disk=1"]);
    const { data } = await new Events(feed.open()).next() as { data: { log: { text: string }[] } };
    assert.equal(data.log.at(-1)?.text, record.text);
  });
});

Deno.test("feed: no more than so many viewers, none after the end, and all end with it", async () => {
  const feed = new LiveFeed(liveSource(), { maxViewers: 2 });
  assert.equal(feed.open(), null);
  await withFeed(feed, async () => {
    const first = new Events(feed.open());
    const second = new Events(feed.open());
    assert.equal(feed.hasRoom, false);
    assert.equal(feed.open(), null);
    await first.cancel();
    assert.equal(feed.hasRoom, true);
    await feed.stop();
    while (await second.next() !== null);
    assert.equal(feed.open(), null);
  });
});

Deno.test("feed: another token ends the streams of the old one", async () => {
  let token = "old";
  await withFeed(new LiveFeed(liveSource({ token: () => token })), async (feed) => {
    const events = new Events(feed.open());
    await events.next();
    token = "new";
    feed.sampler.sample(Date.now());
    while (await events.next() !== null);
    assert.equal(feed.viewers, 0);
  });
});

Deno.test("viewer: the first may be of any size; with more than the bound waiting it is cut off", async () => {
  const gone: Viewer[] = [];
  let cuts = 0;
  const newViewer = () =>
    new Viewer({
      maxWaitingBytes: 100,
      token: "",
      cutOff: () => cuts++,
      onGone: (viewer) => gone.push(viewer),
    });
  const slow = newViewer();
  slow.send(eventBytes("hello", "x".repeat(500)));
  assert.equal(cuts, 0);
  slow.send(eventBytes("moment", 1));
  slow.send(eventBytes("moment", 2));
  assert.deepEqual([cuts, gone.length], [1, 1]);
  const reading = newViewer();
  const reader = reading.body.getReader();
  for (let i = 0; i < 20; i++) {
    reading.send(eventBytes("moment", i));
    assert.equal(
      new TextDecoder().decode((await reader.read()).value),
      `event: moment\ndata: ${i}\n\n`,
    );
  }
  reading.end();
  assert.equal((await reader.read()).done, true);
  assert.deepEqual([cuts, gone.length], [1, 2]);
});
