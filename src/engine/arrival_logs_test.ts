import assert from "node:assert/strict";
import { BufferLedger } from "../../tests/buffer_ledger.ts";
import { buffers } from "../core/buffer_pool.ts";
import { encodeUtf8 } from "../proto/bytes.ts";
import { ArrivalLogs, type LogHost, type LogLimits } from "./arrival_logs.ts";
import type { Channel } from "./channel.ts";
import { App } from "./channel_table.ts";
import type { HistoryPeer, Router } from "./ports/router.ts";
import { Vector } from "./vector.ts";

const BASE = 1_700_000_000_000_000;

/** An engine and a router that say what the test says. */
class Bench implements LogHost, Pick<Router, "watermarks" | "historyPeers"> {
  readonly node = "a";
  readonly app = new App("default");
  readonly dropped: string[] = [];
  readonly logs: ArrivalLogs;
  readonly limits: LogLimits;
  lastTs = BASE;
  isKnown = true;
  peers = ["b"];
  watermarks: ReadonlyMap<string, number> = new Map();

  constructor(limits: Partial<LogLimits> = {}) {
    this.limits = { maxMessagesPerChannel: 1000, maxBytes: 1 << 30, ...limits };
    this.logs = new ArrivalLogs(this.limits, this, this);
    this.logs.acknowledged();
  }

  get historyPeers(): HistoryPeer[] {
    return this.peers.map((node) => ({ node, kept: () => Promise.reject(new Error("asked")) }));
  }
  closeBatch(): void {}
  isWanted(): boolean {
    return this.isKnown;
  }
  onLogDropped(channel: Channel): void {
    assert.equal(this.logs.has(channel), false);
    this.dropped.push(channel.name);
  }

  channel(name: string): Channel {
    const bytes = encodeUtf8(name);
    return this.app.open(bytes, 0, bytes.length);
  }

  /** A channel with a follower. */
  followed(name: string): Channel {
    const channel = this.channel(name);
    channel.catchingUp++;
    return channel;
  }

  leave(channel: Channel): void {
    channel.catchingUp--;
    this.logs.lapse(channel);
  }

  /** Adds messages that arrive together, and returns the timestamp of the last. */
  add(channel: Channel, node = this.node, count = 1): number {
    const firstTs = this.lastTs + 1;
    let text = "";
    for (let i = 0; i < count; i++) {
      text += `MESSAGE ${channel.name} ${++this.lastTs} ${"x".repeat(200)}\r\n`;
    }
    const lines = buffers.copyOf(encodeUtf8(text));
    this.logs.append(channel, { lines, count, firstTs, lastTs: this.lastTs, froms: null }, node);
    lines.release();
    return this.lastTs;
  }

  /** Number of messages behind the one with the timestamp; undefined where it is not found. */
  behind(channel: Channel, ts: number): number | undefined {
    const { log } = this.logs.open(channel);
    const found = log.find(ts, 0);
    return found === null ? undefined : log.countBehind(found.vector);
  }
}

Deno.test("a log begins with the first message that a follower gets", () => {
  const bench = new Bench();
  const idle = bench.channel("idle");
  bench.add(idle);
  assert.equal(bench.logs.has(idle), false);
  const channel = bench.followed("c");
  const own = bench.add(channel);
  bench.add(channel);
  const other = bench.add(channel, "b");
  bench.add(channel);
  assert.equal(bench.behind(channel, own), 3);
  assert.equal(bench.behind(channel, other), 1);
});

Deno.test("nothing is noted before the peers know that the channel is wanted", () => {
  const bench = new Bench();
  const channel = bench.followed("c");
  bench.isKnown = false;
  bench.add(channel);
  assert.equal(bench.logs.has(channel), false);
  bench.isKnown = true;
  const ts = bench.add(channel);
  assert.equal(bench.behind(channel, ts), 0);
});

Deno.test("of a peer nothing is sure up to the moment at which the log begins", () => {
  const bench = new Bench();
  bench.watermarks = new Map([["b", BASE - 100]]);
  const channel = bench.followed("c");
  const { current } = bench.logs.open(channel);
  assert.equal(current.limit("b"), BASE);
  assert.equal(current.covers(new Vector(BASE - 50)), false);
  assert.equal(current.covers(new Vector(BASE)), true);
  // Those who acknowledged did so before.
  bench.lastTs += 50;
  bench.leave(channel);
  channel.catchingUp++;
  assert.equal(bench.logs.open(channel).current.limit("b"), BASE);
  // Its clock may be ahead of ours.
  bench.leave(channel);
  bench.watermarks = new Map([["b", BASE + 100]]);
  channel.catchingUp++;
  assert.equal(bench.logs.open(channel).current.limit("b"), BASE + 100);
});

Deno.test("when the last follower has left, the log stays for who comes back, until the next time", () => {
  using ledger = new BufferLedger();
  const bench = new Bench();
  const channel = bench.followed("c");
  const first = bench.add(channel);
  bench.add(channel);
  bench.leave(channel);
  const missed = bench.add(channel);
  // Somebody comes and gets nothing: it is still the time before that counts.
  for (let i = 0; i < 3; i++) {
    channel.catchingUp++;
    assert.equal(bench.behind(channel, first), 1);
    assert.equal(bench.behind(channel, missed), undefined);
    bench.leave(channel);
  }
  channel.catchingUp++;
  const second = bench.add(channel);
  assert.equal(bench.behind(channel, first), 2);
  bench.leave(channel);
  assert.equal(ledger.owned, 1);
  assert.equal(bench.behind(channel, first), undefined);
  assert.equal(bench.behind(channel, second), 0);
});

Deno.test("an interruption ends every segment, and a node that is new in one ends it, too", () => {
  const bench = new Bench();
  const channel = bench.followed("c");
  const first = bench.add(channel);
  const { current } = bench.logs.open(channel);
  assert.equal(bench.logs.isCurrent(channel, current), true);
  bench.logs.interrupt(null, -1);
  assert.equal(bench.logs.isCurrent(channel, current), false);
  bench.add(channel);
  const second = bench.logs.open(channel).current;
  assert.notEqual(second, current);
  assert.equal(bench.behind(channel, first), 1);
  bench.add(channel, "c");
  const third = bench.logs.open(channel).current;
  assert.notEqual(third, second);
  assert.deepEqual([...third.nodes].sort(), ["a", "b", "c"]);
  bench.add(channel, "c");
  assert.equal(bench.logs.open(channel).current, third);
});

Deno.test("who waits at the end is told of what arrives", () => {
  const bench = new Bench();
  const channel = bench.followed("c");
  bench.logs.open(channel);
  let pumped = 0;
  const reader = { pump: () => void pumped++ };
  bench.logs.wait(channel, reader);
  bench.add(channel);
  bench.logs.stopWaiting(channel, reader);
  bench.add(channel);
  assert.equal(pumped, 1);
});

Deno.test("bounds: the newest messages of a channel", () => {
  const bench = new Bench({ maxMessagesPerChannel: 2 });
  const channel = bench.followed("c");
  const stamps = [1, 2, 3].map(() => bench.add(channel));
  assert.deepEqual(stamps.map((ts) => bench.behind(channel, ts)), [undefined, 1, 0]);
  bench.logs.setLimits({ ...bench.limits, maxMessagesPerChannel: 1 });
  assert.deepEqual(stamps.map((ts) => bench.behind(channel, ts)), [undefined, undefined, 0]);
});

Deno.test("bounds: over the bytes, idle logs go whole, the one used longest ago first", () => {
  using ledger = new BufferLedger();
  const bench = new Bench();
  const channels = ["c1", "c2", "c3"].map((name) => bench.followed(name));
  for (const channel of channels) for (let i = 0; i < 4; i++) bench.add(channel);
  const busy = bench.followed("busy");
  bench.add(busy);
  for (const channel of [channels[1], channels[0], channels[2]]) bench.leave(channel);
  const { bytes } = bench.logs;
  bench.logs.setLimits({ ...bench.limits, maxBytes: bytes - 1 });
  assert.deepEqual(bench.dropped, ["c2"]);
  // Asked for again: used last.
  channels[0].catchingUp++;
  bench.logs.open(channels[0]);
  bench.leave(channels[0]);
  bench.logs.setLimits({ ...bench.limits, maxBytes: bench.logs.bytes - 1 });
  assert.deepEqual(bench.dropped, ["c2", "c3"]);
  assert.equal(ledger.owned, 5);
});

Deno.test("bounds: what arrived together last is kept, however much it is", () => {
  const bench = new Bench({ maxMessagesPerChannel: 2 });
  const channel = bench.followed("c");
  const first = bench.add(channel);
  const last = bench.add(channel, bench.node, 5);
  assert.equal(bench.behind(channel, first), undefined);
  assert.equal(bench.behind(channel, last), 0);
});

Deno.test("bounds: many channels in use, with hardly anything in each", () => {
  using ledger = new BufferLedger();
  const bench = new Bench({ maxBytes: 20_000 });
  const channels = Array.from({ length: 100 }, (_, i) => bench.followed(`c${i}`));
  for (const channel of channels) {
    bench.add(channel);
    assert.ok(bench.logs.bytes <= 20_000);
  }
  const having = channels.filter((channel) => bench.logs.has(channel));
  assert.ok(having.length >= 5);
  assert.deepEqual(having, channels.slice(-having.length));
  assert.equal(ledger.owned, having.length);
  assert.deepEqual(bench.dropped, []);
  for (const channel of channels) bench.logs.forget(channel);
});

Deno.test("bounds: a log that begins anew does not claim what was dropped with the one before", () => {
  const bench = new Bench({ maxBytes: 0 });
  const channel = bench.followed("c");
  const ts = bench.add(channel, "b");
  assert.equal(bench.logs.has(channel), false);
  const { current } = bench.logs.open(channel);
  assert.equal(current.limit("b"), ts);
});

Deno.test("bounds: then those in use lose their oldest messages", () => {
  const bench = new Bench();
  const channels = ["c1", "c2"].map((name) => bench.followed(name));
  const stamps = channels.map((channel) => [1, 2, 3, 4].map(() => bench.add(channel)));
  bench.logs.setLimits({ ...bench.limits, maxBytes: bench.logs.bytes - 1 });
  assert.equal(bench.behind(channels[0], stamps[0][0]), undefined);
  assert.equal(bench.behind(channels[0], stamps[0][1]), 2);
  assert.equal(bench.behind(channels[1], stamps[1][0]), 3);
  bench.logs.setLimits({ ...bench.limits, maxBytes: bench.logs.bytes - 1 });
  // It was asked for before the other.
  assert.equal(bench.behind(channels[0], stamps[0][1]), undefined);
  assert.equal(bench.behind(channels[1], stamps[1][0]), 3);
  bench.logs.setLimits({ ...bench.limits, maxBytes: 0 });
  const next = bench.add(channels[0]);
  assert.equal(bench.behind(channels[0], next), undefined);
  assert.deepEqual(bench.dropped, []);
});

Deno.test("bytes: whatever comes and goes, at the end nothing is left", () => {
  using ledger = new BufferLedger();
  const bench = new Bench({ maxMessagesPerChannel: 3 });
  const channels = ["c1", "c2", "c3"].map((name) => bench.followed(name));
  for (let i = 0; i < 5; i++) {
    for (const channel of channels) {
      for (const node of ["a", "b", "d"]) bench.add(channel, node);
      bench.logs.prune(channel, bench.lastTs - 2);
      bench.logs.takeBack(channel, bench.lastTs - 1);
      if (i % 2 === 0) {
        bench.leave(channel);
        channel.catchingUp++;
      }
    }
    bench.logs.interrupt(null, -1);
  }
  for (const channel of channels) bench.logs.forget(channel);
  assert.deepEqual([bench.logs.bytes, ledger.owned], [0, 0]);
});

Deno.test("what was not kept is given to nobody", () => {
  const bench = new Bench();
  const channel = bench.followed("c");
  const first = bench.add(channel);
  const failed = bench.add(channel);
  bench.add(channel, "b");
  bench.logs.takeBack(channel, failed);
  assert.equal(bench.behind(channel, first), 1);
});

Deno.test("what is too old to be kept is dropped from every log", async () => {
  const bench = new Bench();
  const [busy, quiet] = [bench.followed("busy"), bench.followed("quiet")];
  const old = [bench.add(busy), bench.add(quiet, "b")];
  const edge = bench.add(busy);
  const later = bench.add(busy);
  await bench.logs.expire(edge);
  assert.equal(bench.behind(busy, old[0]), undefined);
  assert.equal(bench.behind(busy, edge), 1);
  assert.equal(bench.behind(busy, later), 0);
  assert.equal(bench.behind(quiet, old[1]), undefined);
});
