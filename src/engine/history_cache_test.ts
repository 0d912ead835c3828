// The kept messages of all channels: what is forgotten, when, and in which order.

import assert from "node:assert/strict";
import fc from "fast-check";
import { BufferLedger } from "../../tests/buffer_ledger.ts";
import { encodeUtf8 } from "../proto/bytes.ts";
import type { Channel } from "./channel.ts";
import { App } from "./channel_table.ts";
import { ChannelHistory } from "./channel_history.ts";
import { HistoryCache, type HistoryLimits } from "./history_cache.ts";

const START_TS = 1_700_000_000_000_000;
const GENEROUS: HistoryLimits = {
  maxMessagesPerChannel: 1000,
  maxBytes: 64 * 1024 * 1024,
  maxIdleChannels: 1000,
};

/** A cache, its channels, and a plain list of those without subscribers, last used last. */
class Pair {
  readonly app = new App("default");
  readonly real: HistoryCache;
  readonly forgotten: string[] = [];
  idle: string[] = [];
  ts = START_TS;
  /** Of channels that were forgotten. */
  lostTs = START_TS;

  constructor(public limits: HistoryLimits) {
    this.real = new HistoryCache(limits, {
      startTs: START_TS,
      isOnlyCopy: true,
      node: "node-1",
      remove: (channel) => {
        assert.equal(channel.history, null);
        assert.ok(channel.isIdle, "forgotten although somebody is subscribed");
        assert.equal(channel.name, this.idle[0], "not the least recently used one");
        this.idle.shift();
        this.lostTs = Math.max(this.lostTs, channel.lastTs);
        this.forgotten.push(channel.name);
        this.app.remove(channel);
      },
    });
  }

  channel(name: string): Channel {
    const bytes = encodeUtf8(name);
    return this.app.open(bytes, 0, bytes.length);
  }

  /** Publishes into the channel's open batch. */
  open(name: string, count: number, size: number): Channel {
    const channel = this.channel(name);
    for (let i = 0; i < count; i++) {
      const digits = encodeUtf8(String(++this.ts));
      channel.append(encodeUtf8("x".repeat(size)), 0, size, this.ts, digits, undefined);
    }
    return channel;
  }

  /** Keeps the channel's open batch. */
  close(channel: Channel): void {
    const batch = channel.takeBatch();
    if (batch === null) return;
    if (channel.isIdle) this.#used(channel.name);
    this.real.append(channel, batch.lines.view, batch);
    batch.lines.release();
  }

  append(name: string, count: number, size: number): void {
    this.close(this.open(name, count, size));
  }

  /** Somebody subscribes or unsubscribes; `catchingUp` stands for both kinds of subscription. */
  follow(name: string, count: 0 | 1): void {
    const channel = this.channel(name);
    channel.catchingUp = count;
    this.idle = this.idle.filter((other) => other !== name);
    if (count === 0 && channel.history !== null) this.#used(name);
    this.real.touch(channel);
    // What nobody follows any more may be too much; that is seen at the next message, or now.
    if (count === 0) this.real.setLimits(this.limits);
  }

  #used(name: string): void {
    this.idle = [...this.idle.filter((other) => other !== name), name];
  }

  check(): void {
    const { maxBytes, maxIdleChannels } = this.limits;
    let bytes = 0;
    let kept = 0;
    for (const channel of this.app.channels()) {
      const { history } = channel;
      if (history === null) continue;
      assert.ok(history.count <= this.limits.maxMessagesPerChannel);
      bytes += history.bytes;
      if (!channel.isIdle) kept += history.count;
    }
    assert.ok(this.real.bytes >= bytes);
    assert.ok(this.idle.length <= maxIdleChannels);
    if (this.real.bytes > maxBytes) assert.deepEqual([this.idle.length, kept], [0, 0]);
    for (const [ts, inclusive] of [[this.lostTs, true], [this.lostTs - 1, false]] as const) {
      assert.ok(this.real.isPartial(inclusive ? ts - 1 : ts));
    }
    for (
      const [ts, inclusive] of [[this.lostTs + 1, true], [this.lostTs, false], [0, true]] as const
    ) {
      assert.ok(!this.real.isPartial(inclusive ? ts - 1 : ts));
    }
  }

  /** Forgets everything. */
  clear(): void {
    for (const channel of [...this.app.channels()]) this.follow(channel.name, 0);
    this.real.setLimits({ ...this.limits, maxIdleChannels: 0 });
    assert.equal(this.real.bytes, 0);
  }
}

Deno.test("whatever is published and followed: bounds hold, the least recently used goes first", () => {
  const limits = fc.record({
    maxMessagesPerChannel: fc.integer({ min: 0, max: 20 }),
    maxBytes: fc.integer({ min: 0, max: 40_000 }),
    maxIdleChannels: fc.integer({ min: 0, max: 6 }),
  });
  const name = fc.integer({ min: 0, max: 9 }).map((i) => `c${i}`);
  const step = fc.oneof(
    {
      weight: 5,
      arbitrary: fc.tuple(name, fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 3000 }))
        .map(([name, count, size]) => (pair: Pair) => pair.append(name, count, size)),
    },
    {
      weight: 3,
      arbitrary: fc.tuple(name, fc.constantFrom(0, 1)).map(([name, count]) => (pair: Pair) =>
        pair.follow(name, count as 0 | 1)
      ),
    },
    {
      weight: 1,
      arbitrary: limits.map((limits) => (pair: Pair) => {
        // A smaller number of messages reaches a channel with its next message.
        pair.limits = { ...limits, maxMessagesPerChannel: pair.limits.maxMessagesPerChannel };
        pair.real.setLimits(pair.limits);
      }),
    },
  );
  fc.assert(
    fc.property(limits, fc.array(step, { maxLength: 60 }), (limits, steps) => {
      using ledger = new BufferLedger();
      const pair = new Pair(limits);
      for (const step of steps) {
        step(pair);
        pair.check();
      }
      pair.clear();
      assert.equal(ledger.owned, 0);
    }),
    { numRuns: 500 },
  );
});

Deno.test("used is: published to, subscribed, unsubscribed", () => {
  const pair = new Pair({ ...GENEROUS, maxIdleChannels: 3 });
  for (const name of ["a", "b", "c"]) pair.append(name, 1, 5);
  pair.append("a", 1, 5);
  pair.follow("b", 1);
  pair.follow("b", 0);
  pair.append("d", 1, 5);
  assert.deepEqual(pair.forgotten, ["c"]);
  pair.append("e", 1, 5);
  assert.deepEqual(pair.forgotten, ["c", "a"]);
  pair.clear();
});

Deno.test("a channel with an open batch is not forgotten before that has come", () => {
  const pair = new Pair({ ...GENEROUS, maxIdleChannels: 1 });
  pair.append("a", 1, 5);
  const open = pair.open("a", 1, 5);
  pair.append("b", 1, 5);
  pair.append("c", 1, 5);
  assert.deepEqual(pair.forgotten, []);
  assert.equal(open.history?.count, 1);
  pair.close(open);
  assert.deepEqual(pair.forgotten, ["b", "c"]);
  assert.equal(open.history?.count, 2);
  pair.clear();
});

Deno.test("followed channels lose their oldest messages, the least recently used first, never their place", () => {
  const pair = new Pair({ ...GENEROUS, maxBytes: 200_000 });
  for (const name of ["a", "b", "c"]) pair.follow(name, 1);
  for (let round = 0; round < 5; round++) {
    for (const name of ["a", "b", "c"]) pair.append(name, 1, 30_000);
  }
  const counts = ["a", "b", "c"].map((name) => pair.channel(name).history?.count);
  const [a, b, c] = counts.map((count) => count ?? NaN);
  assert.ok(a <= b && b <= c && c > 0 && a + b + c < 15, `${counts}`);
  assert.ok(pair.channel("a").history?.isPartial(START_TS));
  assert.deepEqual(pair.forgotten, []);
  pair.check();
  pair.clear();
});

Deno.test("followed channels that have nothing left are not asked again and again", () => {
  const pair = new Pair({ ...GENEROUS, maxBytes: 0 });
  let asked = 0;
  const drop = ChannelHistory.prototype.dropOldestBlock;
  ChannelHistory.prototype.dropOldestBlock = function () {
    asked++;
    return drop.call(this);
  };
  try {
    for (let i = 0; i < 500; i++) {
      pair.follow(`c${i}`, 1);
      pair.append(`c${i}`, 1, 5);
    }
    assert.ok(asked < 5000, `${asked} for 500 messages`);
  } finally {
    ChannelHistory.prototype.dropOldestBlock = drop;
  }
  pair.clear();
});

Deno.test("what is not settled is not dropped, whatever the bounds say, and goes once it is", () => {
  const pair = new Pair({ maxMessagesPerChannel: 1, maxBytes: 0, maxIdleChannels: 0 });
  pair.real.settledTs = START_TS;
  pair.follow("f", 1);
  for (const name of ["a", "b", "f"]) pair.append(name, 3, 5);
  assert.deepEqual(pair.forgotten, []);
  assert.deepEqual(["a", "b", "f"].map((name) => pair.channel(name).history?.count), [3, 3, 3]);
  pair.real.settledTs = pair.channel("a").lastTs;
  pair.real.setLimits(pair.limits);
  assert.deepEqual(pair.forgotten, ["a"]);
  // Of a followed channel the settled part goes, and what comes behind it stays.
  pair.real.settledTs = pair.ts;
  pair.append("f", 2, 40_000);
  assert.deepEqual(pair.forgotten, ["a", "b"]);
  assert.equal(pair.channel("f").history?.count, 2);
  pair.real.settledTs = pair.ts;
  pair.real.setLimits(pair.limits);
  assert.equal(pair.channel("f").history?.count, 0);
  assert.equal(pair.real.bytes, 0);
  pair.clear();
});

Deno.test("expire: what is older goes, and a channel with nothing left and nobody there", () => {
  const pair = new Pair(GENEROUS);
  for (const name of ["a", "b", "f"]) pair.append(name, 2, 5);
  pair.follow("f", 1);
  const [a, b, f] = ["a", "b", "f"].map((name) => pair.channel(name));
  const { bytes } = pair.real;
  for (const channel of [a, b, f]) pair.real.expire(channel, a.lastTs);
  assert.deepEqual([a, b, f].map(({ history }) => history?.count), [1, 2, 2]);
  assert.equal(pair.real.bytes, bytes);
  const open = pair.open("b", 1, 5);
  for (const channel of [a, b, f]) pair.real.expire(channel, pair.ts);
  assert.deepEqual(pair.forgotten, ["a"]);
  // Neither one with an open batch nor one that is followed loses its place.
  assert.deepEqual([b.history?.count, f.history?.count], [0, 0]);
  assert.equal(pair.real.bytes, 0);
  pair.close(open);
  assert.equal(b.history?.count, 1);
  assert.ok(pair.real.bytes > 0);
  pair.clear();
});
