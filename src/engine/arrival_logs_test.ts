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
  unawarePeers: string[] = [];
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
  unaware(): string[] {
    return this.unawarePeers;
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
    this.lastTs += count;
    return this.addAt(channel, node, firstTs, count);
  }

  /** The same, for messages that have been under way. */
  addAt(channel: Channel, node: string, firstTs: number, count = 1): number {
    let text = "";
    for (let i = 0; i < count; i++) {
      text += `MESSAGE ${channel.name} ${firstTs + i} ${"x".repeat(200)}\r\n`;
    }
    const lines = buffers.copyOf(encodeUtf8(text));
    const lastTs = firstTs + count - 1;
    this.logs.append(channel, { lines, count, firstTs, lastTs, froms: null }, node);
    lines.release();
    return lastTs;
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

Deno.test("of a peer nothing is noted before it knows that the channel is wanted", () => {
  const bench = new Bench();
  const channel = bench.followed("c");
  bench.unawarePeers = ["b"];
  bench.add(channel, "b");
  assert.equal(bench.logs.has(channel), false);
  bench.unawarePeers = [];
  bench.add(channel);
  const ts = bench.add(channel, "b");
  assert.equal(bench.behind(channel, ts), 0);
});

Deno.test("while a peer does not know yet what is wanted, what the others give is noted as before", () => {
  const { bench, channel } = threeNodes();
  const before = bench.add(channel);
  const { current } = bench.logs.open(channel);
  // It has been started anew, and has not heard of the channel.
  bench.logs.interrupt("c", -1);
  bench.unawarePeers = ["c"];
  const own = bench.add(channel);
  const other = bench.add(channel, "b");
  assert.equal(current.count, 6);
  bench.unawarePeers = [];
  const last = bench.add(channel, "b");
  const next = bench.logs.open(channel).current;
  assert.notEqual(next, current);
  bench.add(channel, "c");
  assert.deepEqual([before, own, other, last].map((ts) => bench.behind(channel, ts)), [4, 3, 2, 1]);
});

Deno.test("what interrupts for another reason does not wait for a peer that does not know yet", () => {
  for (const node of ["b", null]) {
    const { bench, channel } = threeNodes();
    const { current } = bench.logs.open(channel);
    bench.logs.interrupt("c", -1);
    bench.logs.interrupt(node, -1);
    bench.unawarePeers = ["c"];
    bench.add(channel);
    assert.equal(current.count, 3);
    assert.equal(bench.logs.open(channel).log.former, null);
  }
  const { bench, channel } = threeNodes();
  const { current } = bench.logs.open(channel);
  bench.logs.interrupt("c", -1);
  bench.unawarePeers = ["c"];
  // Nor is it noted what comes of that peer itself.
  bench.add(channel, "c");
  assert.equal(current.count, 3);
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

Deno.test("when the last follower has left, the log stays for who comes back, more than once", () => {
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
  assert.equal(bench.behind(channel, first), 2);
  assert.equal(bench.behind(channel, missed), undefined);
  assert.equal(bench.behind(channel, second), 0);
});

Deno.test("several segments that have ended are kept, the newest ones", () => {
  using ledger = new BufferLedger();
  const bench = new Bench();
  const channel = bench.followed("c");
  const stamps: number[] = [];
  for (let i = 0; i < 10; i++) {
    stamps.push(bench.add(channel));
    bench.logs.interrupt(null, -1);
  }
  // The last one has ended, too.
  const behind = stamps.map((ts) => bench.behind(channel, ts));
  assert.deepEqual(behind, [undefined, undefined, 7, 6, 5, 4, 3, 2, 1, 0]);
  assert.equal(ledger.owned, 8);
  // Those without messages do not count.
  for (let i = 0; i < 10; i++) {
    bench.logs.interrupt(null, -1);
    assert.equal(bench.behind(channel, stamps[2]), 7);
  }
});

Deno.test("bounds: the oldest of several segments pays first, and goes with its last message", () => {
  using ledger = new BufferLedger();
  const bench = new Bench();
  const channel = bench.followed("c");
  const stamps: number[] = [];
  for (let i = 0; i < 4; i++) {
    for (let j = 0; j < 2; j++) stamps.push(bench.add(channel));
    bench.logs.interrupt(null, -1);
  }
  const found = () => stamps.map((ts) => bench.behind(channel, ts) !== undefined);
  bench.logs.setLimits({ ...bench.limits, maxMessagesPerChannel: 5 });
  assert.deepEqual(found(), [false, false, false, true, true, true, true, true]);
  bench.logs.prune(channel, stamps[4]);
  assert.deepEqual(found(), [false, false, false, false, false, true, true, true]);
  bench.logs.setLimits({ ...bench.limits, maxBytes: bench.logs.bytes - 1 });
  assert.deepEqual(found(), [false, false, false, false, false, false, true, true]);
  assert.equal(ledger.owned, 2);
  bench.logs.forget(channel);
  assert.equal(bench.logs.bytes, 0);
});

/** A log that has messages of a, b and c; b has not said its clock since. Ours has gone on by 100 µs. */
function threeNodes(): { bench: Bench; channel: Channel } {
  const bench = new Bench();
  bench.peers = ["b", "c"];
  const channel = bench.followed("c");
  for (const node of ["a", "b", "c"]) bench.add(channel, node);
  bench.watermarks = new Map([["b", BASE], ["c", bench.lastTs]]);
  bench.lastTs += 100;
  return { bench, channel };
}

Deno.test("of whom an interruption has nothing to do with, nothing is in doubt behind it", () => {
  for (const isAway of [false, true]) {
    const { bench, channel } = threeNodes();
    const last = bench.lastTs;
    // What an absent one keeps for us comes when it is back.
    if (isAway) bench.peers = ["c"];
    bench.logs.interrupt("c", -1);
    bench.add(channel);
    const { current } = bench.logs.open(channel);
    bench.addAt(channel, "b", last - 60);
    bench.addAt(channel, "c", last - 50);
    bench.add(channel);
    assert.equal(bench.logs.open(channel).current, current);
    assert.deepEqual([current.limit("b"), current.limit("c")], [last - 101, last]);
    assert.equal(bench.behind(channel, last - 60), 2);
    assert.equal(bench.behind(channel, last - 50), undefined);
    // And again, for the other one.
    bench.logs.interrupt("b", -1);
    bench.addAt(channel, "c", last - 40);
    bench.addAt(channel, "b", last - 30);
    const next = bench.logs.open(channel).current;
    assert.deepEqual([next.limit("b"), next.limit("c")], [bench.lastTs, last]);
    assert.equal(bench.behind(channel, last - 60), 4);
    assert.equal(bench.behind(channel, last - 30), undefined);
  }
});

Deno.test("a node that is new in a log raises no doubt of the others", () => {
  const { bench, channel } = threeNodes();
  const last = bench.lastTs;
  bench.add(channel, "d");
  bench.addAt(channel, "b", last - 60);
  const { current } = bench.logs.open(channel);
  assert.deepEqual([current.limit("b"), current.limit("d")], [last - 101, last]);
  assert.equal(bench.behind(channel, last - 60), 0);
});

Deno.test("an interruption before the next segment has begun raises doubt in that, too", () => {
  const { bench, channel } = threeNodes();
  const { current } = bench.logs.open(channel);
  bench.logs.interrupt("c", -1);
  assert.equal(bench.logs.isCurrent(channel, current), false);
  bench.logs.interrupt("b", -1);
  const next = bench.logs.open(channel).current;
  assert.deepEqual([next.limit("b"), next.limit("c")], [bench.lastTs, bench.lastTs]);
});

Deno.test("two interruptions with nothing between: what the first one left in doubt still is", () => {
  const { bench, channel } = threeNodes();
  const last = bench.lastTs;
  bench.logs.interrupt("c", -1);
  bench.logs.open(channel);
  bench.lastTs += 100;
  bench.logs.interrupt("d", -1);
  bench.add(channel, "d");
  bench.addAt(channel, "b", last - 60);
  const { current } = bench.logs.open(channel);
  assert.deepEqual([current.limit("b"), current.limit("c")], [last - 101, last]);
  assert.equal(bench.behind(channel, last - 60), 0);
});

Deno.test("what followers are given and no log has is in doubt in the next one", () => {
  for (const isFirst of [true, false]) {
    const { bench, channel } = threeNodes();
    const other = isFirst ? bench.followed("other") : channel;
    bench.logs.interrupt("c", -1);
    bench.unawarePeers = ["b"];
    const missed = bench.add(other, "b");
    bench.unawarePeers = [];
    bench.add(other);
    assert.equal(bench.logs.open(other).current.limit("b"), missed);
  }
});

Deno.test("what somebody has read elsewhere may be what a timestamp means", () => {
  const { bench, channel } = threeNodes();
  const last = bench.lastTs;
  bench.logs.interrupt("c", -1);
  bench.add(channel);
  bench.logs.open(channel).current.noteRead("c", last - 60);
  for (const ts of [last - 70, last - 60, last - 50]) bench.addAt(channel, "b", ts);
  assert.equal(bench.behind(channel, last - 60), undefined);
  assert.equal(bench.behind(channel, last - 70), undefined);
  assert.equal(bench.behind(channel, last - 50), 0);
  // It is no less so in the next one.
  bench.logs.interrupt("c", -1);
  bench.addAt(channel, "b", last - 40);
  bench.logs.open(channel).current.noteRead("c", last - 40);
  bench.logs.interrupt("c", -1);
  bench.addAt(channel, "b", last - 30);
  assert.equal(bench.behind(channel, last - 40), undefined);
  assert.equal(bench.behind(channel, last - 30), 0);
});

Deno.test("what was read on the way to a segment that remained empty is not forgotten", () => {
  const { bench, channel } = threeNodes();
  bench.logs.interrupt("c", -1);
  const ts = bench.lastTs - 60;
  bench.logs.open(channel).current.noteRead("c", ts);
  bench.logs.interrupt("c", -1);
  bench.addAt(channel, "b", ts);
  assert.equal(bench.behind(channel, ts), undefined);
});

Deno.test("two of one timestamp: neither, where one of them may have been read elsewhere, or is gone", () => {
  for (const doubtful of ["c", "d"]) {
    const bench = new Bench();
    bench.peers = ["b", "c", "d"];
    const channel = bench.followed("c");
    bench.add(channel);
    bench.lastTs += 99;
    bench.add(channel);
    bench.logs.interrupt(doubtful, -1);
    bench.addAt(channel, "c", BASE + 50);
    bench.add(channel);
    bench.addAt(channel, "b", BASE + 50);
    assert.equal(bench.behind(channel, BASE + 50), doubtful === "c" ? undefined : 2);
    // Of the segment before something is left, which is later.
    bench.logs.prune(channel, BASE + 50);
    assert.equal(bench.behind(channel, BASE + 101), 2);
    assert.equal(bench.behind(channel, BASE + 50), undefined);
  }
});

Deno.test("what came while nobody followed may be of the same time as what comes then", () => {
  const { bench, channel } = threeNodes();
  bench.leave(channel);
  channel.catchingUp++;
  bench.watermarks = new Map([["b", BASE], ["c", bench.lastTs + 50]]);
  bench.addAt(channel, "b", bench.lastTs + 40);
  bench.addAt(channel, "b", bench.lastTs + 60);
  assert.equal(bench.behind(channel, bench.lastTs + 40), undefined);
  assert.equal(bench.behind(channel, bench.lastTs + 60), 0);
});

Deno.test("once its former one is dropped, a segment answers for itself", () => {
  const { bench, channel } = threeNodes();
  const last = bench.lastTs;
  bench.logs.interrupt("c", -1);
  bench.add(channel);
  bench.addAt(channel, "b", last - 60);
  assert.equal(bench.behind(channel, last - 60), 0);
  // What was in doubt may have been another one of this time.
  bench.logs.prune(channel, last - 100);
  assert.equal(bench.behind(channel, last - 60), undefined);
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
  assert.deepEqual([...third.known().keys()].sort(), ["a", "b", "c"]);
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
  for (let i = 0; i < 30; i++) {
    for (const channel of channels) {
      bench.logs.setLimits({ ...bench.limits, maxMessagesPerChannel: i % 3 === 0 ? 100 : 3 });
      for (const node of ["a", "b", "d"]) bench.add(channel, node);
      bench.logs.prune(channel, bench.lastTs - 2);
      bench.logs.takeBack(channel, bench.lastTs - 1);
      if (i % 2 === 0) {
        bench.leave(channel);
        channel.catchingUp++;
      }
    }
    bench.logs.interrupt([null, "b"][i % 2], -1);
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
