import assert from "node:assert/strict";
import { BufferLedger } from "../../tests/buffer_ledger.ts";
import { goRound } from "../../tests/go_round.ts";
import {
  type ClusterOptions,
  type Keeping,
  TestCluster,
  type TestNode,
  Visitor,
} from "../../tests/history_cluster.ts";
import { buffers } from "../core/buffer_pool.ts";
import { encodeUtf8 } from "../proto/bytes.ts";
import type { ReplayStart } from "./history.ts";

const KEEPINGS: Keeping[] = ["memory", "own stores", "one store"];

function open(options: Partial<ClusterOptions> = {}): Promise<TestCluster> {
  return TestCluster.open({ nodes: 2, keeping: "own stores", ...options });
}

/** Subscribes, lets everything arrive that this takes, and reads until it is live. */
async function sub(visitor: Visitor, afterTs: number): Promise<ReplayStart & { got: string[] }> {
  const start = visitor.sub("c", afterTs);
  await visitor.node.all.settle();
  return { ...await start, got: await visitor.catchUp() };
}

/** Follows the channel on a node, so that it stays wanted there. */
async function follow(node: TestNode): Promise<Visitor> {
  const visitor = new Visitor(node);
  node.subscribe(visitor, "c");
  await node.all.settle();
  return visitor;
}

function askedOf(node: TestNode): number {
  return [...node.router.asked.values()].flat().length;
}

/** Timers fire at once, and the monotonic clock runs `factor` times as fast, until it is disposed of. */
function hurry(factor: number): Disposable {
  const { setTimeout } = globalThis;
  const now = performance.now.bind(performance);
  const startMs = now();
  globalThis.setTimeout = ((fn: () => void) => setTimeout(fn, 0)) as typeof setTimeout;
  performance.now = () => startMs + (now() - startMs) * factor;
  return {
    [Symbol.dispose]() {
      globalThis.setTimeout = setTimeout;
      performance.now = now;
    },
  };
}

for (const keeping of KEEPINGS) {
  Deno.test(`back on a channel that others follow, ${keeping}: nobody is asked, nothing comes twice`, async () => {
    await using cluster = await open({ keeping });
    const [a, b] = cluster.nodes;
    const other = await follow(a);
    const first = a.pub("c", "1");
    b.pub("c", "2");
    await cluster.settle();
    const last = a.pub("c", "3");
    await cluster.settle();
    const asked = askedOf(a);
    const visitor = new Visitor(a);
    const { count, partial, got } = await sub(visitor, first);
    assert.deepEqual([count, partial, got], [2, false, ["2", "3"]]);
    const late = new Visitor(a);
    assert.deepEqual((await sub(late, last)).got, []);
    assert.equal(askedOf(a), asked);
    b.pub("c", "4");
    a.pub("c", "5");
    await cluster.settle();
    for (const one of [visitor, late]) {
      assert.deepEqual(one.read().slice(-2).sort(), ["4", "5"]);
      one.leave();
    }
    other.leave();
  });

  Deno.test(`the only one, gone and back, ${keeping}: what was missed, once, and then live`, async () => {
    await using cluster = await open({ keeping });
    const [a, b] = cluster.nodes;
    const before = await follow(a);
    a.pub("c", "1");
    await cluster.settle();
    const [had] = cluster.published;
    b.pub("c", "2");
    await cluster.settle();
    before.leave();
    for (const node of [a, b]) {
      node.pub("c", `missed ${node.node}`);
      await cluster.settle();
    }
    const visitor = new Visitor(a);
    const { count, partial, got } = await sub(visitor, had.ts);
    assert.equal(visitor.found, "exactly");
    assert.deepEqual([count, partial, got], [3, false, ["2", "missed n0", "missed n1"]]);
    b.pub("c", "live");
    await cluster.settle();
    assert.deepEqual(visitor.read().slice(3), ["live"]);
    visitor.leave();
  });
}

Deno.test("the first message of a log is found in it", async () => {
  await using cluster = await open();
  const [a, b] = cluster.nodes;
  b.pub("c", "0");
  await cluster.settle();
  const before = await follow(a);
  const ts = a.pub("c", "1");
  await cluster.settle();
  before.leave();
  const visitor = new Visitor(a);
  assert.deepEqual((await sub(visitor, ts)).got, []);
  assert.equal(visitor.found, "exactly");
  visitor.leave();
});

Deno.test("a message that arrived late is not missed by who had a later one", async () => {
  await using cluster = await open();
  const [a, b] = cluster.nodes;
  const other = await follow(a);
  a.pub("c", "0");
  await cluster.settle();
  cluster.isPrompt = false;
  b.pub("c", "late");
  cluster.now += 1000;
  const ts = a.pub("c", "early");
  await goRound();
  const visitor = new Visitor(a);
  assert.deepEqual((await Promise.all([visitor.sub("c", ts), goRound()]))[0].count, 0);
  cluster.arriveAll();
  assert.deepEqual(visitor.read(), ["late"]);
  // And who had that one, too, does not get it again.
  const again = new Visitor(a);
  const [, { ts: lateTs }] = cluster.published;
  assert.equal((await Promise.all([again.sub("c", lateTs), goRound()]))[0].count, 0);
  for (const one of [visitor, again, other]) one.leave();
});

Deno.test("an unknown timestamp: reached back for, within what clocks may differ; 0 stays 0", async () => {
  await using cluster = await open({ maxSkewMicros: 100_000 });
  const [a, b] = cluster.nodes;
  const stamps: number[] = [];
  for (const node of [a, b, a, b]) {
    cluster.now += 60_000;
    stamps.push(node.pub("c", node.node));
    await cluster.settle();
  }
  const visitor = new Visitor(a);
  // The log of the channel begins only now: none of them is in it.
  assert.equal((await sub(visitor, stamps[2] + 1)).count, 3);
  const all = new Visitor(a);
  assert.equal((await sub(all, 0)).count, 4);
  for (const one of [visitor, all]) one.leave();
});

for (const keeping of KEEPINGS) {
  Deno.test(`the timestamp of a message that is kept, ${keeping}: nothing of its node comes again`, async () => {
    for (const asked of [0, 1]) {
      await using cluster = await open({ keeping });
      const [a] = cluster.nodes;
      // Nothing was there before the start, as far as it is reached back for.
      cluster.now += 1_000_000;
      const stamps: number[] = [];
      for (let i = 0; i < 6; i++) stamps.push(a.pub("c", `${i}`));
      await cluster.settle();
      const visitor = new Visitor(cluster.nodes[asked]);
      const { count, partial, got } = await sub(visitor, stamps[3]);
      assert.deepEqual([count, partial, got], [2, false, ["4", "5"]]);
      visitor.leave();
    }
  });
}

Deno.test("the timestamp of the oldest message that memory has kept: nothing is missing behind it", async () => {
  await using cluster = await open({ keeping: "memory", history: { maxMessagesPerChannel: 3 } });
  const [a] = cluster.nodes;
  cluster.now += 1_000_000;
  const stamps: number[] = [];
  for (let i = 0; i < 6; i++) {
    stamps.push(a.pub("c", `${i}`));
    await cluster.settle();
  }
  for (const [i, partial] of [[3, false], [2, true]] as const) {
    const visitor = new Visitor(a);
    assert.equal((await sub(visitor, stamps[i])).partial, partial, `${i}`);
    visitor.leave();
  }
});

Deno.test("what is read from a peer and is still under way does not come twice", async () => {
  await using cluster = await open();
  const [a, b] = cluster.nodes;
  const before = await follow(a);
  cluster.isPrompt = false;
  b.pub("c", "1");
  await goRound();
  // It is under way when nobody wants it any more, and then somebody does.
  before.leave();
  const visitor = new Visitor(a);
  const start = visitor.sub("c", 0);
  for (let i = 0; i < 10; i++) {
    for (const { frames } of cluster.ways) for (const { arrive } of frames.splice(0)) arrive();
    await goRound();
  }
  const { count } = await start;
  for (let i = 0; i < 10; i++) {
    visitor.read();
    await goRound();
  }
  assert.equal(count, 1);
  assert.deepEqual(visitor.read(), ["1"]);
  // Not live yet, but what comes meanwhile is not kept from it.
  assert.equal(visitor.replays.size, 1);
  a.pub("c", "2");
  await goRound();
  assert.deepEqual(visitor.read(), ["1", "2"]);
  cluster.arriveAll();
  b.pub("c", "3");
  await goRound();
  cluster.arriveAll();
  await visitor.catchUp();
  assert.deepEqual(visitor.read(), ["1", "2", "3"]);
  visitor.leave();
});

Deno.test("both forms, whole batches and parts of them, with the names of the publishers", async () => {
  using ledger = new BufferLedger();
  await using cluster = await open();
  const [a, b] = cluster.nodes;
  const other = await follow(a);
  const first = a.pub("c", "0");
  await cluster.settle();
  for (let i = 0; i < 5; i++) for (const node of [a, b]) node.pub("c", `${node.node} ${i}`);
  await cluster.settle();
  other.leave();
  // What the caches and the logs hold stays; what the replays took is given back.
  const { ownerships } = ledger;
  for (const form of ["text", "json"] as const) {
    for (const room of [1, 100, Infinity]) {
      for (const afterTs of [0, first]) {
        const visitor = new Visitor(a, room);
        visitor.form = form;
        await sub(visitor, afterTs);
        const got = visitor.read().filter((text) => text !== "0");
        assert.deepEqual(got.sort(), cluster.texts("c").filter((text) => text !== "0").sort());
        visitor.leave();
      }
    }
  }
  assert.equal(ledger.ownerships, ownerships);
});

Deno.test("a peer that is down, or silent, at the begin: PARTIAL, and the rest comes", async () => {
  for (const keeping of KEEPINGS) {
    await using cluster = await open({ keeping });
    const [a, b] = cluster.nodes;
    a.pub("c", "a");
    b.pub("c", "b");
    await cluster.settle();
    const isShared = keeping === "one store";
    for (const kind of ["down", "silent"] as const) {
      a.router[kind].add(b.node);
      const visitor = new Visitor(a);
      const { partial, got } = await sub(visitor, 0);
      assert.equal(partial, kind === "silent" || !isShared, `${keeping} ${kind}`);
      assert.deepEqual(got, isShared ? ["a", "b"] : ["a"]);
      visitor.leave();
      a.router[kind].delete(b.node);
    }
  }
});

Deno.test("PARTIAL is said where the log has everything that is known, and a peer is down", async () => {
  await using cluster = await open();
  const [a, b] = cluster.nodes;
  const other = await follow(a);
  const ts = a.pub("c", "1");
  await cluster.settle();
  a.router.down.add(b.node);
  const visitor = new Visitor(a);
  assert.equal((await sub(visitor, ts)).partial, true);
  for (const one of [visitor, other]) one.leave();
});

Deno.test("what a peer had put into the store of all before it went down is not missed", async () => {
  await using cluster = await open({ keeping: "one store" });
  const [a, b] = cluster.nodes;
  const other = await follow(a);
  const ts = a.pub("c", "1");
  await cluster.settle();
  // It is stored, and the link fails before it is forwarded.
  cluster.isPrompt = false;
  b.pub("c", "2");
  await cluster.until(() => b.queue?.messages === 0);
  for (const way of cluster.ways) way.messages.length = 0;
  a.router.down.add(b.node);
  const visitor = new Visitor(a);
  const start = visitor.sub("c", ts);
  for (let i = 0; i < 10; i++) await goRound();
  assert.equal(visitor.found, "exactly");
  const { count, partial } = await start;
  while (visitor.read().length === 0) await goRound();
  assert.deepEqual([count, partial, visitor.read()], [1, false, ["2"]]);
  a.pub("c", "3");
  await goRound();
  assert.deepEqual(visitor.read(), ["2", "3"]);
  // It may come yet, when the link returns; what else comes is not kept from the client meanwhile.
  assert.equal(visitor.replays.size, 1);
  for (const one of [visitor, other]) one.leave();
});

/** Publishes more than a page of a peer takes. */
async function pubPages(node: TestNode): Promise<void> {
  for (let i = 0; i < 4; i++) {
    for (let j = 0; j < 1000; j++) node.pub("c", `${i} ${j} ${"x".repeat(100)}`);
    await node.all.settle();
  }
}

Deno.test("a peer that fails midway is waited for", async () => {
  using _ = hurry(1);
  await using cluster = await open();
  const [a, b] = cluster.nodes;
  await pubPages(b);
  const visitor = new Visitor(a, 100_000);
  const start = visitor.sub("c", 0);
  for (let i = 0; i < 20; i++) await cluster.round();
  assert.equal((await start).partial, false);
  a.router.silent.add(b.node);
  const asked = askedOf(a);
  while (askedOf(a) < asked + 5) {
    visitor.read();
    await goRound();
  }
  assert.ok(visitor.read().length < 4000);
  a.router.silent.delete(b.node);
  await visitor.catchUp();
  assert.deepEqual(visitor.read(), cluster.texts("c"));
  visitor.leave();
});

Deno.test("a peer that stays away midway: cut off rather than a hole", async () => {
  using _ = hurry(1000);
  for (const kind of ["silent", "down"] as const) {
    await using cluster = await open();
    const [a, b] = cluster.nodes;
    await pubPages(b);
    const visitor = new Visitor(a, 100_000);
    const start = visitor.sub("c", 0);
    for (let i = 0; i < 20; i++) await cluster.round();
    await start;
    a.router[kind].add(b.node);
    if (kind === "down") {
      // Its page is used up, and a new segment begins behind what it has.
      a.cluster.logs.interrupt(null, -1);
      a.router.silent.add(b.node);
    }
    while (!visitor.client.isCut) {
      visitor.read();
      await goRound();
    }
    const got = visitor.read();
    assert.deepEqual(got, cluster.texts("c").slice(0, got.length));
    visitor.leave();
    for (let i = 0; i < 5; i++) await goRound();
  }
});

Deno.test("our own store that fails midway is waited for", async () => {
  using _ = hurry(1000);
  await using cluster = await open({ history: { maxMessagesPerChannel: 10 } });
  const [a] = cluster.nodes;
  await pubPages(a);
  await pubPages(a);
  const visitor = new Visitor(a, 100_000);
  const start = visitor.sub("c", 0);
  for (let i = 0; i < 20; i++) await cluster.round();
  assert.equal((await start).count, 8000);
  assert.ok(a.store !== null);
  a.store.isDown = true;
  for (let i = 0; i < 100; i++) {
    visitor.read();
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  const part = visitor.read().length;
  assert.ok(part > 0 && part < 8000 && !visitor.client.isCut, `${part}`);
  a.store.isDown = false;
  await visitor.catchUp();
  assert.deepEqual(visitor.read(), cluster.texts("c"));
  visitor.leave();
});

Deno.test("one that is slow while the log forgets what it still has to get reads it elsewhere", async () => {
  await using cluster = await open({ logs: { maxMessagesPerChannel: 10 } });
  const [a, b] = cluster.nodes;
  const other = await follow(a);
  const ts = a.pub("c", "0");
  await cluster.settle();
  const visitor = new Visitor(a, 1);
  await sub(visitor, ts);
  visitor.leave();
  const slow = new Visitor(a, 1);
  for (let i = 0; i < 5; i++) {
    for (const node of [a, b]) node.pub("c", `${node.node} ${i}`);
    await cluster.settle();
  }
  const start = await slow.sub("c", ts - 1);
  assert.equal(slow.found, "by time");
  assert.equal(start.count, 11);
  for (let i = 5; i < 30; i++) {
    for (const node of [a, b]) node.pub("c", `${node.node} ${i}`);
    await cluster.settle();
  }
  await slow.catchUp();
  assert.deepEqual([...new Set(slow.read())].length, slow.read().length);
  assert.deepEqual(slow.read().toSorted(), cluster.texts("c").toSorted());
  for (const one of [slow, other]) one.leave();
});

Deno.test("the log is dropped under a replay that is slow: it goes on from where it was", async () => {
  await using cluster = await open();
  const [a, b] = cluster.nodes;
  const other = await follow(a);
  const ts = a.pub("c", "0");
  for (let i = 0; i < 10; i++) {
    for (const node of [a, b]) node.pub("c", `${node.node} ${i}`);
    await cluster.settle();
  }
  const slow = new Visitor(a, 1);
  await slow.sub("c", ts);
  assert.equal(slow.found, "exactly");
  slow.client.read();
  const limits = { maxMessagesPerChannel: 1000, maxBytes: 0 };
  a.cluster.logs.setLimits(limits);
  await slow.catchUp();
  assert.deepEqual(
    slow.read().toSorted(),
    cluster.texts("c").filter((text) => text !== "0").toSorted(),
  );
  for (const one of [slow, other]) one.leave();
});

Deno.test("a peer that is linked anew: what it had accepted before is read from it", async () => {
  await using cluster = await open();
  const [a, b] = cluster.nodes;
  for (const [one, peer] of [[a, b], [b, a]]) one.router.down.add(peer.node);
  const before = new Visitor(a);
  a.subscribe(before, "c");
  const ts = a.pub("c", "1");
  await cluster.settle();
  // Nobody forwards this one.
  b.pub("c", "2");
  await cluster.settle();
  b.router.linkUp(a);
  b.router.hear("n0", "c", true);
  a.router.linkUp(b);
  a.pub("c", "3");
  b.pub("c", "4");
  await cluster.settle();
  const visitor = new Visitor(a);
  const { got, partial } = await sub(visitor, ts);
  assert.equal(visitor.found, "at a begin");
  assert.deepEqual([got.toSorted(), partial], [["2", "3", "4"], false]);
  for (const one of [visitor, before]) one.leave();
});

Deno.test("many come back at once: their peers and their store are asked a few times", async () => {
  for (const keeping of KEEPINGS) {
    await using cluster = await open({ nodes: 3, keeping });
    const [a, b] = cluster.nodes;
    for (let i = 0; i < 100; i++) {
      for (const node of [a, b]) node.pub("c", `${node.node} ${i}`);
      if (i % 10 === 0) await cluster.settle();
    }
    await cluster.settle();
    const visitors = Array.from({ length: 500 }, () => new Visitor(a));
    const from = cluster.published[0].ts - 10_000_000;
    const starts = visitors.map((visitor, i) => visitor.sub("c", from + i));
    await cluster.settle();
    for (const { count } of await Promise.all(starts)) assert.equal(count, 200);
    for (const visitor of visitors) {
      assert.equal((await visitor.catchUp()).length, 200);
      visitor.leave();
    }
    assert.ok(askedOf(a) <= 2 * 4, `${askedOf(a)} requests, ${keeping}`);
    assert.ok((a.store?.reads ?? 0) <= 4, `${a.store?.reads} reads`);
  }
});

Deno.test("who leaves while the sources are asked gets nothing, and leaves nothing behind", async () => {
  await using cluster = await open();
  const [a, b] = cluster.nodes;
  b.pub("c", "1");
  await cluster.settle();
  for (const rounds of [0, 1, 2, 3, 4, 5, 6]) {
    const visitor = new Visitor(a);
    const start = visitor.sub("c", 0);
    for (let i = 0; i < rounds; i++) {
      await goRound();
      cluster.arriveAll();
    }
    visitor.leave();
    await cluster.settle();
    await start;
    assert.equal(visitor.replays.size, 0);
    assert.ok(a.find("c")?.isIdle ?? true);
  }
});

Deno.test("what was not kept is in no replay from then on", async () => {
  await using cluster = await open();
  const [a] = cluster.nodes;
  const other = await follow(a);
  const ts = a.pub("c", "1");
  await cluster.settle();
  assert.ok(a.store !== null && a.queue !== null);
  a.store.isDown = true;
  a.pub("c", "failed");
  await cluster.until(() => a.queue?.messages === 0);
  assert.deepEqual(other.read(), ["1", "failed"]);
  const visitor = new Visitor(a);
  const { count, got } = await sub(visitor, ts);
  assert.deepEqual([count, got], [0, []]);
  for (const one of [visitor, other]) one.leave();
});

/** What a client of little room has still to read. */
const waits = encodeUtf8(`EVENT {"op":"msg","channel":"c","ts":1,"node":"n0","msg":"0"}\r\n`);

/** Lets only the frames arrive, so that what is wanted is known, until the promise is done. */
async function untilKnown<T>(cluster: TestCluster, promise: Promise<T>): Promise<T> {
  let isDone = false;
  const done = promise.finally(() => isDone = true);
  while (!isDone) {
    for (const { frames } of cluster.ways) for (const { arrive } of frames.splice(0)) arrive();
    await goRound();
  }
  return await done;
}

Deno.test("what is put into the store of all while that is read is not passed over", async () => {
  await using cluster = await open({ keeping: "one store", pageMessages: 3 });
  cluster.isPrompt = false;
  const [a, b] = cluster.nodes;
  for (let i = 0; i < 6; i++) a.pub("c", `a${i}`);
  while (a.queue?.messages !== 0) await goRound();
  const visitor = new Visitor(a, 1);
  await untilKnown(cluster, visitor.sub("c", 0));
  // Between the timestamps of the others, those before the end of the page that is read and one behind.
  for (let i = 0; i < 4; i++) b.pub("c", `b${i}`);
  while (b.queue?.messages !== 0) await goRound();
  cluster.isPrompt = true;
  await cluster.settle();
  await visitor.catchUp();
  assert.deepEqual(visitor.read().toSorted(), cluster.texts("c").toSorted());
  visitor.leave();
});

for (const keeping of KEEPINGS) {
  Deno.test(`the count of a history of many pages, ${keeping}: as of the request, nothing twice`, async () => {
    await using cluster = await open({
      keeping,
      pageMessages: 3,
      history: { maxMessagesPerChannel: keeping === "own stores" ? 2 : 1000 },
    });
    const [a, b] = cluster.nodes;
    for (let i = 0; i < 5; i++) for (const node of [a, b]) node.pub("c", `${node.node} ${i}`);
    await cluster.settle();
    for (let i = 0; i < 3; i++) {
      // Pages that were read for the one before are still kept.
      const visitor = new Visitor(a);
      const { count, got } = await sub(visitor, 0);
      assert.deepEqual([count, got.length], [10 + i, 10 + i]);
      visitor.leave();
      if (b.store !== null) b.store.holds = true;
      b.pub("c", `more ${i}`);
      await goRound();
    }
  });
}

Deno.test("what is still in the log of the time before is not counted again from the sources", async () => {
  await using cluster = await open({ pageMessages: 1 });
  const [a, b] = cluster.nodes;
  const before = await follow(a);
  const ts = a.pub("c", "1");
  await cluster.settle();
  for (const node of [b, a, b]) {
    node.pub("c", node.node);
    await cluster.settle();
  }
  before.leave();
  b.pub("c", "missed");
  await cluster.settle();
  const visitor = new Visitor(a);
  const { count, got } = await sub(visitor, ts);
  assert.deepEqual([visitor.found, count, got.length], ["exactly", 4, 4]);
  visitor.leave();
});

Deno.test("memory forgets what a slow client still has to get: cut off rather than a hole", async () => {
  await using cluster = await open({
    keeping: "memory",
    pageMessages: 3,
    history: { maxMessagesPerChannel: 10 },
    logs: { maxMessagesPerChannel: 1 },
  });
  const [, b] = cluster.nodes;
  // Nothing was there before the start, as far as it is reached back for.
  cluster.now += 1_000_000;
  for (let i = 0; i < 10; i++) b.pub("c", `${i}`);
  await cluster.settle();
  const visitor = new Visitor(cluster.nodes[0], 1);
  const ts = cluster.published[0].ts - 1;
  const start = visitor.sub("c", ts);
  await cluster.settle();
  assert.deepEqual([(await start).count, (await start).partial], [10, false]);
  for (let i = 10; i < 100; i++) b.pub("c", `${i}`);
  await cluster.settle();
  const got = await visitor.catchUp();
  assert.ok(visitor.client.isCut);
  assert.deepEqual(got, cluster.texts("c").slice(0, got.length));
  visitor.leave();
  // One who was told of it is not cut off for it.
  const late = new Visitor(cluster.nodes[0], 1);
  const { partial, count, got: rest } = await sub(late, ts);
  assert.deepEqual([partial, late.client.isCut], [true, false]);
  assert.ok(count <= rest.length);
  late.leave();
});

Deno.test("who has no room has no pages held, and reads them when it has", async () => {
  await using cluster = await open();
  const [a, b] = cluster.nodes;
  b.pub("c", "1");
  await cluster.settle();
  const visitor = new Visitor(a, 1);
  visitor.client.deliver(buffers.copyOf(waits));
  const start = visitor.sub("c", 0);
  await cluster.settle();
  assert.equal((await start).count, 1);
  const asked = askedOf(a);
  // What others have read is not kept so long.
  a.cluster.forgetRead();
  assert.deepEqual(await visitor.catchUp(), ["0", "1"]);
  assert.ok(askedOf(a) > asked);
  visitor.leave();
});

Deno.test("who leaves while a peer is waited for leaves no timer behind", async () => {
  await using cluster = await open({ pageMessages: 1 });
  const [a, b] = cluster.nodes;
  for (const text of ["1", "2", "3"]) b.pub("c", text);
  await cluster.settle();
  const visitor = new Visitor(a, 1);
  const start = visitor.sub("c", 0);
  await cluster.settle();
  await start;
  a.router.silent.add(b.node);
  const asked = askedOf(a);
  while (askedOf(a) === asked) {
    visitor.read();
    await goRound();
  }
  await goRound();
  visitor.leave();
});

Deno.test("what was read from a peer whose link then fails does not come twice when that returns", async () => {
  await using cluster = await open();
  const [a, b] = cluster.nodes;
  const before = await follow(a);
  cluster.isPrompt = false;
  b.pub("c", "1");
  await goRound();
  before.leave();
  const visitor = new Visitor(a);
  await untilKnown(cluster, visitor.sub("c", 0));
  while (visitor.read().length === 0) await goRound();
  cluster.cut(a, b);
  for (let i = 0; i < 10; i++) {
    visitor.read();
    await goRound();
  }
  cluster.mend();
  cluster.isPrompt = true;
  await cluster.settle();
  await visitor.catchUp();
  assert.deepEqual(visitor.read(), ["1"]);
  visitor.leave();
});

Deno.test("a link that returns before the others have answered: PARTIAL all the same", async () => {
  await using cluster = await open({ nodes: 3 });
  const [a, b, c] = cluster.nodes;
  b.pub("c", "1");
  await cluster.settle();
  cluster.cut(a, b);
  a.router.holds = true;
  const visitor = new Visitor(a);
  const start = visitor.sub("c", 0);
  const his = a.his("c", 0);
  await cluster.until(() => (a.router.asked.get(c.node)?.length ?? 0) >= 2);
  cluster.mend();
  await cluster.settle();
  assert.equal((await start).partial, true);
  assert.equal((await his).partial, true);
  visitor.leave();
});

Deno.test("a log that forgets while a peer is away: what is in neither is waited for", async () => {
  using _ = hurry(1);
  await using cluster = await open();
  const [a, b] = cluster.nodes;
  const other = await follow(a);
  const ts = a.pub("c", "0");
  for (const text of ["1", "2", "3"]) {
    b.pub("c", text);
    await cluster.settle();
  }
  const visitor = new Visitor(a, 1);
  const start = await visitor.sub("c", ts);
  assert.deepEqual([visitor.found, start.partial], ["exactly", false]);
  cluster.cut(a, b);
  a.cluster.logs.setLimits({ maxMessagesPerChannel: 1, maxBytes: 1 << 30 });
  for (let i = 0; i < 20; i++) {
    visitor.read();
    await goRound();
  }
  assert.deepEqual(visitor.read(), ["1"]);
  cluster.mend();
  await cluster.settle();
  assert.deepEqual(await visitor.catchUp(), ["1", "2", "3"]);
  for (const one of [visitor, other]) one.leave();
});

Deno.test("a peer that returns before the store of all has its messages is asked for them", async () => {
  await using cluster = await open({ keeping: "one store" });
  const [a, b] = cluster.nodes;
  assert.ok(b.store !== null);
  b.store.holds = true;
  cluster.cut(a, b);
  b.pub("c", "1");
  await goRound();
  const visitor = new Visitor(a, 1);
  visitor.client.deliver(buffers.copyOf(waits));
  const start = visitor.sub("c", 0);
  for (let i = 0; i < 10; i++) await goRound();
  await start;
  cluster.mend();
  for (let i = 0; i < 30; i++) {
    visitor.read();
    await cluster.round();
  }
  assert.deepEqual(visitor.read(), ["0", "1"]);
  visitor.leave();
});

Deno.test("what comes from a peer that does not answer is not passed over for what it does not say", async () => {
  await using cluster = await open({ tellsOfAcknowledgements: false });
  const [a, b] = cluster.nodes;
  cluster.isPrompt = false;
  a.router.silent.add(b.node);
  const visitor = new Visitor(a);
  const start = visitor.sub("c", 0);
  await goRound();
  for (const { frames } of cluster.ways) for (const { arrive } of frames.splice(0)) arrive();
  b.pub("c", "1");
  await goRound();
  cluster.arriveAll();
  const { partial, count } = await start;
  assert.deepEqual([partial, count, await visitor.catchUp()], [true, 1, ["1"]]);
  visitor.leave();
});

for (const keeping of KEEPINGS) {
  Deno.test(`a peer that is linked while the log goes on, ${keeping}: asked for what it had not handed over`, async () => {
    await using cluster = await open({ keeping });
    const [a, b] = cluster.nodes;
    cluster.now += 1_000_000;
    cluster.cut(a, b);
    const other = await follow(a);
    const ts = a.pub("c", "1");
    await cluster.round();
    b.pub("c", "2");
    await cluster.round();
    cluster.mend();
    await cluster.settle();
    for (const afterTs of [0, ts]) {
      const visitor = new Visitor(a, 1);
      const { partial, got } = await sub(visitor, afterTs);
      assert.deepEqual([partial, got.filter((text) => text !== "1")], [false, ["2"]]);
      visitor.leave();
    }
    other.leave();
  });
}

Deno.test("who was gone while the log was interrupted several times: nothing comes twice", async () => {
  await using cluster = await open({ nodes: 3 });
  const [a, b, c] = cluster.nodes;
  const other = await follow(a);
  b.pub("c", "0");
  await cluster.settle();
  const ts = a.pub("c", "1");
  await cluster.settle();
  // What it accepts comes before what has arrived, and has the later timestamp.
  a.skew = 300;
  for (let i = 0; i < 5; i++) {
    a.cluster.logs.interrupt(i % 2 === 0 ? c.node : b.node, -1);
    for (const node of cluster.nodes) node.pub("c", `${node.node} ${i}`);
    await cluster.settle();
  }
  const visitor = new Visitor(a);
  const { count, got, partial } = await sub(visitor, ts);
  assert.deepEqual([visitor.found, count, partial], ["exactly", 15, false]);
  // As somebody got them who was there.
  assert.deepEqual(got, other.read().slice(2));
  for (const one of [visitor, other]) one.leave();
});

Deno.test("what comes late from one peer is found, though another one was interrupted meanwhile", async () => {
  await using cluster = await open({ nodes: 3 });
  const [a, b, c] = cluster.nodes;
  const other = await follow(a);
  for (const node of cluster.nodes) node.pub("c", node.node);
  await cluster.settle();
  cluster.cut(a, b);
  const stamps = ["late 1", "late 2"].map((text) => b.pub("c", text));
  await cluster.settle();
  a.cluster.logs.interrupt(c.node, -1);
  a.pub("c", "1");
  c.pub("c", "2");
  await cluster.settle();
  cluster.mend();
  await cluster.settle();
  assert.deepEqual(other.read().slice(3), ["1", "2", "late 1", "late 2"]);
  for (const [i, rest] of [["late 2"], []].entries()) {
    const visitor = new Visitor(a);
    const { got, partial } = await sub(visitor, stamps[i]);
    assert.deepEqual([visitor.found, got, partial], ["exactly", rest, false]);
    visitor.leave();
  }
  other.leave();
});

Deno.test("two messages of one timestamp, one lost on its way and read, the other late: not lost", async () => {
  await using cluster = await open({ nodes: 3 });
  const [a, b, c] = cluster.nodes;
  const other = await follow(a);
  const first = a.pub("c", "0");
  await cluster.settle();
  cluster.isPrompt = false;
  cluster.now += 10_000;
  const ts = b.pub("c", "late");
  assert.equal(c.pub("c", "lost"), ts);
  await goRound();
  cluster.way(c, a).messages.length = 0;
  cluster.now += 10_000;
  a.pub("c", "1");
  await goRound();
  a.cluster.logs.interrupt(c.node, -1);
  const visitor = new Visitor(a);
  await untilKnown(cluster, visitor.sub("c", first));
  while (visitor.read().length < 2) await goRound();
  assert.deepEqual(visitor.read(), ["1", "lost"]);
  visitor.leave();
  cluster.isPrompt = true;
  await cluster.settle();
  assert.deepEqual(other.read(), ["0", "1", "late"]);
  const again = new Visitor(a);
  assert.ok((await sub(again, ts)).got.includes("late"));
  for (const one of [again, other]) one.leave();
});

/** `isKnown`: whether the peer has said its clock before. */
async function leaveBeforeLinked(isKnown: boolean): Promise<void> {
  await using cluster = await open();
  const [a, b] = cluster.nodes;
  b.pub("c", "old");
  await (isKnown ? cluster.settle() : goRound());
  cluster.now += 1_000_000;
  cluster.cut(a, b);
  const other = await follow(a);
  a.pub("c", "1");
  await cluster.settle();
  cluster.now += 1000;
  b.pub("c", "away");
  await goRound();
  cluster.mend();
  await cluster.settle();
  cluster.now += 1_000_000;
  a.pub("c", "2");
  await cluster.settle();
  a.cluster.logs.interrupt(null, -1);
  for (const had of [1, 2, 3]) {
    const visitor = new Visitor(a, 1);
    const start = visitor.sub("c", 0);
    await cluster.settle();
    await start;
    while (visitor.client.got.length < had) {
      visitor.read();
      await goRound();
    }
    visitor.leave();
    const { got } = visitor.client;
    const again = new Visitor(a);
    const { got: rest } = await sub(again, got[had - 1].ts);
    const all = [...got.slice(0, had).map(({ msg }) => msg), ...rest];
    assert.deepEqual(new Set(all), new Set(["old", "1", "away", "2"]), `${all}, ${had} at first`);
    again.leave();
  }
  other.leave();
}

for (const isKnown of [true, false]) {
  const name = isKnown ? "away" : "not linked yet";
  Deno.test(`who leaves in a segment of the time when a peer was ${name} has not had all of it`, async () => {
    await leaveBeforeLinked(isKnown);
  });
}

Deno.test("what comes later than clocks may differ is not missed by who had a later one", async () => {
  for (const isInterrupted of [false, true]) {
    await using cluster = await open({ nodes: 3, maxSkewMicros: 100_000 });
    const [a, b, c] = cluster.nodes;
    const other = await follow(a);
    for (const node of cluster.nodes) node.pub("c", "0");
    await cluster.settle();
    cluster.cut(a, b);
    b.pub("c", "late");
    await goRound();
    cluster.now += 1_000_000;
    if (isInterrupted) a.cluster.logs.interrupt(c.node, -1);
    a.pub("c", "1");
    await cluster.settle();
    const ts = a.pub("c", "2");
    await cluster.settle();
    cluster.mend();
    await cluster.settle();
    const visitor = new Visitor(a);
    const { got, partial } = await sub(visitor, ts);
    assert.deepEqual([visitor.found, got, partial], ["exactly", ["late"], false]);
    for (const one of [visitor, other]) one.leave();
  }
});
