// History from a store with little of it in memory: his and sub from a timestamp, over restarts and failures.

import assert from "node:assert/strict";
import { Client, clientOf, START_MS } from "../../tests/engine_bench.ts";
import { goRound } from "../../tests/go_round.ts";
import { HeldStore } from "../../tests/held_store.ts";
import { blockOf, StoredBench } from "../../tests/stored_bench.ts";

function numbers(count: number, from = 0): string[] {
  return Array.from({ length: count }, (_, i) => `m${from + i}`);
}

Deno.test("his and sub reach back behind what memory holds, from every message, n exact", async () => {
  for (const maxMessagesPerChannel of [0, 1, 3, 1000]) {
    await using bench = await StoredBench.open({ history: { maxMessagesPerChannel } });
    const stamps = await bench.pubAll("c", numbers(20));
    for (const [i, ts] of [0, ...stamps].entries()) {
      const { kept, partial } = await bench.his("c", ts + 1);
      assert.deepEqual(kept.map(({ msg }) => msg), numbers(20 - i, i));
      assert.ok(!partial);
      for (const form of ["text", "json"] as const) {
        const session = bench.connect();
        session.form = form;
        const start = await bench.sub(session, "c", ts);
        assert.deepEqual([start.count, start.partial], [20 - i, false], `after message ${i}`);
        assert.deepEqual(await bench.got(session), numbers(20 - i, i));
        bench.engine.closeSession(session);
      }
    }
    bench.checkEmpty();
  }
});

Deno.test("what is published while a slow reader catches up comes behind it, none lost, none twice", async () => {
  await using bench = await StoredBench.open();
  await bench.pubAll("c", numbers(10));
  const session = bench.connect(new Client(100));
  const start = await bench.sub(session, "c", 0);
  assert.equal(start.count, 10);
  const publisher = bench.connect();
  for (let i = 10; i < 40; i++) {
    bench.pub(publisher, "c", `m${i}`);
    await bench.readOnce(session);
  }
  assert.deepEqual(await bench.got(session), numbers(40));
  bench.pub(publisher, "c", "m40");
  assert.deepEqual(await bench.got(session), numbers(41));
});

Deno.test("after a restart everything is there, and one read serves all who follow", async () => {
  const store = new HeldStore();
  let stamps: number[];
  {
    await using before = await StoredBench.open({ store });
    stamps = await before.pubAll("c", numbers(10));
  }
  await using bench = await StoredBench.open({ store, history: { maxMessagesPerChannel: 1000 } });
  const session = bench.connect();
  assert.equal((await bench.sub(session, "c", stamps[3])).count, 6);
  assert.equal(store.calls.readNewest, 1);
  const later = await bench.pubAll("c", numbers(2, 10));
  assert.ok(later[0] > stamps[9]);
  assert.deepEqual(await bench.texts("c"), numbers(12));
  assert.deepEqual(await bench.got(session), numbers(8, 4));
  assert.deepEqual(store.calls, { append: 12, read: 0, readNewest: 1, count: 0 });
});

Deno.test("after a restart a channel that was published to before somebody asks is refilled as well", async () => {
  const store = new HeldStore();
  {
    await using before = await StoredBench.open({ store });
    await before.pubAll("c", numbers(10));
  }
  await using bench = await StoredBench.open({ store, history: { maxMessagesPerChannel: 1000 } });
  // In the store they stand in one block with those before the restart.
  await bench.pubAll("c", numbers(5, 10));
  for (let i = 0; i < 3; i++) assert.deepEqual(await bench.texts("c"), numbers(15));
  assert.deepEqual([store.calls.readNewest, store.calls.read], [1, 0]);
});

Deno.test("a read is a hit where memory alone answers it, and a miss where the store is asked", async () => {
  const store = new HeldStore();
  {
    await using before = await StoredBench.open({ store });
    await before.pubAll("c", numbers(10));
  }
  await using bench = await StoredBench.open({ store, history: { maxMessagesPerChannel: 3 } });
  const reads: number[][] = [];
  const count = () => reads.push(Object.values(bench.engine.historyReads));
  const stamps = (await bench.his("c", 0)).kept.map(({ ts }) => ts);
  count();
  await bench.his("c", stamps[8]);
  count();
  await bench.his("c", stamps[2]);
  count();
  await bench.sub(bench.connect(), "c", stamps[8]);
  count();
  await bench.sub(bench.connect(), "c", stamps[2]);
  count();
  assert.deepEqual(reads, [[0, 1], [1, 1], [1, 2], [2, 2], [2, 3]]);
});

Deno.test("a thousand who ask at once cost a read or two", async () => {
  for (const maxMessagesPerChannel of [1, 1000]) {
    const store = new HeldStore();
    let stamps: number[];
    {
      await using before = await StoredBench.open({ store });
      stamps = await before.pubAll("c", numbers(50));
    }
    await using bench = await StoredBench.open({ store, history: { maxMessagesPerChannel } });
    store.holdsReads = true;
    const sessions = Array.from({ length: 1000 }, () => bench.connect());
    const starts = sessions.map((session, i) =>
      bench.sub(session, "c", i % 50 === 0 ? 0 : stamps[i % 50 - 1])
    );
    await goRound();
    store.holdsReads = false;
    store.releaseReads();
    const counts = (await Promise.all(starts)).map(({ count }) => count);
    assert.deepEqual(counts, counts.map((_, i) => 50 - i % 50));
    for (const [i, session] of sessions.entries()) {
      assert.deepEqual(await bench.got(session), numbers(50 - i % 50, i % 50));
      bench.engine.closeSession(session);
    }
    const { readNewest, read } = store.calls;
    assert.ok(readNewest === 1 && read <= 2, `${readNewest} and ${read} reads`);
    bench.checkEmpty();
  }
});

Deno.test("who asks behind an acknowledged message sees it, whatever read is under way", async () => {
  // Its channel is forgotten at once, so that nobody but the store knows.
  await using bench = await StoredBench.open({ history: { maxIdleChannels: 0 } });
  const { store } = bench;
  for (const before of [[], ["old"]]) {
    const name = `c${before.length}`;
    await bench.pubAll(name, before);
    store.holdsReads = true;
    const early = [bench.texts(name)];
    await goRound();
    // Its newest have been looked for; now it reads the page, and the second looks for the newest.
    store.releaseReads();
    await goRound();
    early.push(bench.texts(name));
    await goRound();
    await bench.pubAll(name, ["new"]);
    const late = bench.texts(name);
    await goRound();
    store.releaseReads();
    store.holdsReads = false;
    await goRound();
    store.releaseReads();
    assert.deepEqual(await late, [...before, "new"]);
    for (const texts of await Promise.all(early)) {
      assert.deepEqual(texts.slice(0, before.length), before);
    }
  }
});

Deno.test("PARTIAL exactly where retention has deleted something after the timestamp", async () => {
  const store = new HeldStore();
  const check = async (bench: StoredBench, stamps: number[], gone: number) => {
    for (const [i, ts] of stamps.entries()) {
      const { kept, partial } = await bench.his("c", ts);
      assert.equal(partial, i < gone, `his from message ${i}, ${gone} are gone`);
      assert.deepEqual(
        kept.map(({ msg }) => msg),
        numbers(10 - Math.max(i, gone), Math.max(i, gone)),
      );
      const session = bench.connect();
      const start = await bench.sub(session, "c", ts);
      const first = Math.max(i + 1, gone);
      assert.deepEqual(
        [start.count, start.partial],
        [10 - first, i + 1 < gone],
        `sub ${i}/${gone}`,
      );
      assert.deepEqual(await bench.got(session), numbers(10 - first, first));
      bench.engine.closeSession(session);
    }
    assert.equal((await bench.his("c", 0)).partial, false);
    assert.equal((await bench.his("other", stamps[0])).partial, false);
  };
  for (const maxMessagesPerChannel of [1, 3, 1000]) {
    await store.forget([{
      app: "default",
      channel: "c",
      node: "node-1",
      firstTs: 0,
      lastTs: Infinity,
    }]);
    const history = { maxMessagesPerChannel };
    let stamps: number[];
    {
      await using bench = await StoredBench.open({ store, history });
      stamps = await bench.pubAll("c", numbers(10));
      await check(bench, stamps, 0);
      await bench.prune(stamps[2]);
      await check(bench, stamps, 2);
      await bench.prune(0, 5);
      await check(bench, stamps, 5);
    }
    await using again = await StoredBench.open({ store, history });
    await check(again, stamps, 5);
    await again.prune(stamps[9]);
    await check(again, stamps, 9);
  }
});

Deno.test("messages that are pruned while they are read do not come back into memory", async () => {
  const store = new HeldStore();
  {
    await using before = await StoredBench.open({ store });
    await before.pubAll("c", numbers(10));
  }
  await using bench = await StoredBench.open({ store, history: { maxMessagesPerChannel: 1000 } });
  store.holdsReads = true;
  const reading = bench.texts("c");
  await goRound();
  assert.equal(store.heldReads, 1);
  await bench.prune(0, 2);
  store.holdsReads = false;
  store.releaseReads();
  await reading;
  assert.deepEqual(await bench.texts("c"), ["m8", "m9"]);
  const all = [...bench.engine.app("default").channels()];
  assert.ok(all.length <= 1);
});

Deno.test("what another node has deleted from the store leaves memory, and is counted as freed", async () => {
  await using bench = await StoredBench.open();
  // Each in a block of its own.
  const texts = ["a", "b", "c"].map((text) => text.padEnd(40_000, "."));
  const stamps = await bench.pubAll("c", texts);
  const before = bench.engine.historyBytes;
  // We are not told, and see it at the next read.
  await bench.store.prune({ beforeTs: stamps[2], keepPerChannel: 0 });
  assert.deepEqual(await bench.texts("c"), [texts[2]]);
  const { historyBytes } = bench.engine;
  assert.ok(historyBytes < before / 2 && historyBytes > 40_000, `${historyBytes} of ${before}`);
});

Deno.test("what comes and is forgotten while a channel is refilled is not taken for missing", async () => {
  const store = new HeldStore();
  {
    await using before = await StoredBench.open({ store });
    await before.pubAll("c", ["old"]);
  }
  const history = { maxMessagesPerChannel: 1000, maxIdleChannels: 1 };
  await using bench = await StoredBench.open({ store, history });
  store.holdsReads = true;
  const reading = bench.texts("c");
  await goRound();
  await bench.pubAll("c", ["new"]);
  await bench.pubAll("x", ["pushes it out"]);
  store.holdsReads = false;
  store.releaseReads();
  await reading;
  assert.deepEqual(await bench.texts("c"), ["old", "new"]);
});

Deno.test("blocks of two nodes: in order of time and node, limits between equal stamps, named right", async () => {
  const at = START_MS * 1000 - 1000;
  for (const maxMessagesPerChannel of [1, 3, 1000]) {
    const store = new HeldStore();
    await store.append([
      blockOf("node-0", "c", [[at + 1, "a1", "ann"], [at + 2, "a2"], [at + 3, "a3", "cid"]]),
      blockOf("node-9", "c", [[at + 2, "b2", "bob"], [at + 3, "b3"], [at + 5, "b5", "bob"]]),
      blockOf("node-0", "c", [[at + 4, "a4"], [at + 5, "a5", "ann"]]),
    ]);
    await using bench = await StoredBench.open({ store, history: { maxMessagesPerChannel } });
    const expected: [string, string, string | undefined][] = [
      ["a1", "node-0", "ann"],
      ["a2", "node-0", undefined],
      ["b2", "node-9", "bob"],
      ["a3", "node-0", "cid"],
      ["b3", "node-9", undefined],
      ["a4", "node-0", undefined],
      ["a5", "node-0", "ann"],
      ["b5", "node-9", "bob"],
      ["own", "node-1", "eve"],
    ];
    // Before and after something is published here.
    for (let round = 0; round < 2; round++) {
      const all = expected.slice(0, 8 + round);
      const { kept } = await bench.his("c", 0);
      assert.deepEqual(kept.map(({ msg, node, from }) => [msg, node, from]), all);
      for (let limit = 1; limit < 10; limit++) {
        const paged: string[] = [];
        for (let from = 0;;) {
          const page = (await bench.his("c", from, limit)).kept;
          if (page.length === 0) break;
          paged.push(...page.map(({ msg }) => msg));
          from = page[page.length - 1].ts + 1;
        }
        assert.deepEqual(paged, all.map(([msg]) => msg), `limit ${limit}`);
      }
      for (const room of [Infinity, 80]) {
        const client = new Client(room);
        client.node = null;
        const session = bench.connect(client);
        session.form = "json";
        assert.equal((await bench.sub(session, "c", at + 1)).count, all.length - 1);
        assert.deepEqual(await bench.got(session), all.slice(1).map(([msg]) => msg));
        assert.deepEqual(
          client.got.map(({ from }) => from),
          all.slice(1).map(([, , from]) => from),
        );
        assert.deepEqual(client.nodes, all.slice(1).map(([, node]) => node));
        bench.engine.closeSession(session);
      }
      if (round === 0) {
        const publisher = bench.connect();
        publisher.user = "eve";
        bench.pub(publisher, "c", "own");
      }
    }
  }
});

Deno.test("a client that drains while its subscription waits for the store gets nothing before the reply", async () => {
  await using bench = await StoredBench.open({ history: { maxMessagesPerChannel: 0 } });
  const { store, engine } = bench;
  await bench.pubAll("c", numbers(3));
  for (let answered = 0; answered < 4; answered++) {
    store.holdsReads = true;
    const session = bench.connect();
    const starting = Promise.resolve(engine.subscribeFrom(session, "c", 0));
    for (let i = 0; i <= answered; i++) {
      engine.pumpReplays(session);
      await goRound();
      clientOf(session).read();
      assert.deepEqual(clientOf(session).got, []);
      if (i < answered) store.releaseReads();
    }
    store.holdsReads = false;
    store.releaseReads();
    const start = await starting;
    assert.equal(start?.count, 3);
    engine.pumpReplays(session);
    clientOf(session).read();
    assert.deepEqual(clientOf(session).got, []);
    start?.start();
    assert.deepEqual(await bench.got(session), numbers(3));
    engine.closeSession(session);
  }
});

Deno.test("a channel is not forgotten while somebody waits for its history", async () => {
  const history = { maxMessagesPerChannel: 0, maxIdleChannels: 1, maxBytes: 0 };
  await using bench = await StoredBench.open({ history });
  await bench.pubAll("c", numbers(2));
  // Now it is known as one that nobody follows.
  await bench.his("c", 0);
  const session = bench.connect();
  await bench.sub(session, "c", 0);
  await bench.pubAll("d", ["x"]);
  await bench.pubAll("c", ["m2"]);
  assert.deepEqual(await bench.got(session), numbers(3));
});
