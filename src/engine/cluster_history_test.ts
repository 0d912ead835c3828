import assert from "node:assert/strict";
import { goRound } from "../../tests/go_round.ts";
import { type Keeping, TestCluster, Visitor } from "../../tests/history_cluster.ts";
import { WireError } from "../proto/errors.ts";

const KEEPINGS: Keeping[] = ["memory", "own stores", "one store"];

for (const keeping of KEEPINGS) {
  Deno.test(`his, ${keeping}: every node's messages, in one order`, async () => {
    await using cluster = await TestCluster.open({ nodes: 3, keeping });
    const [a, b, c] = cluster.nodes;
    for (let i = 0; i < 10; i++) {
      for (const node of [a, b, c]) node.pub("c", `${node.node} ${i}`);
      await cluster.round();
    }
    const { kept, texts, partial } = await b.his("c", 0);
    assert.deepEqual(texts, cluster.texts("c"));
    assert.equal(partial, false);
    // The same instant on two nodes: the order of their names.
    assert.ok(kept.some(({ ts }, i) => i > 0 && ts === kept[i - 1].ts), "no two of one timestamp");
    const from = kept[14].ts;
    const rest = await a.his("c", from);
    assert.deepEqual(rest.texts, texts.slice(kept.findIndex(({ ts }) => ts >= from)));
  });

  Deno.test(`his, ${keeping}: pages never end between two of one timestamp`, async () => {
    await using cluster = await TestCluster.open({ nodes: 3, keeping });
    const [a, b, c] = cluster.nodes;
    for (let i = 0; i < 10; i++) {
      for (const node of [a, b, c]) node.pub("c", `${node.node} ${i}`);
      await cluster.round();
    }
    const got: string[] = [];
    for (let from = 0;;) {
      const { kept, texts } = await a.his("c", from, 2);
      if (texts.length === 0) break;
      got.push(...texts);
      from = kept[kept.length - 1].ts + 1;
    }
    assert.deepEqual(got, cluster.texts("c"));
  });

  Deno.test(`sub, ${keeping}: everything of all nodes, then live, once`, async () => {
    await using cluster = await TestCluster.open({ nodes: 3, keeping });
    const [a, b, c] = cluster.nodes;
    for (let i = 0; i < 5; i++) {
      for (const node of [a, b, c]) node.pub("c", `${node.node} ${i}`);
      await cluster.round();
    }
    const visitor = new Visitor(a);
    const sub = visitor.sub("c", 0);
    await cluster.round();
    await cluster.round();
    const { count, partial } = await sub;
    assert.equal(count, 15);
    assert.equal(partial, false);
    const drained = visitor.catchUp();
    b.pub("c", "live from b");
    a.pub("c", "live from a");
    await cluster.settle();
    await drained;
    const got = visitor.read();
    assert.deepEqual(got.slice(0, 15), cluster.texts("c").slice(0, 15));
    assert.deepEqual(got.slice(15).sort(), ["live from a", "live from b"]);
    visitor.leave();
  });
}

Deno.test("his: what was accepted before the request is in the answer, kept or not", async () => {
  await using cluster = await TestCluster.open({ nodes: 2, keeping: "one store" });
  const [a, b] = cluster.nodes;
  for (const node of [a, b]) if (node.store !== null) node.store.holds = true;
  a.pub("c", "a");
  b.pub("c", "b");
  assert.deepEqual((await a.his("c", 0)).texts, ["a", "b"]);
  await cluster.round();
  assert.deepEqual((await a.his("c", 0)).texts, ["a", "b"]);
  await cluster.settle();
  assert.deepEqual((await a.his("c", 0)).texts, ["a", "b"]);
  assert.equal(b.store?.reads, 0, "the cache of one node has only its own");
});

Deno.test("his: a peer that is down or silent is PARTIAL, but not where the store is everybody's", async () => {
  for (const keeping of KEEPINGS) {
    await using cluster = await TestCluster.open({ nodes: 2, keeping });
    const [a, b] = cluster.nodes;
    a.pub("c", "a");
    b.pub("c", "b");
    await cluster.settle();
    const isShared = keeping === "one store";
    a.router.down.add(b.node);
    const down = await a.his("c", 0);
    assert.equal(down.partial, !isShared);
    assert.deepEqual(down.texts, isShared ? ["a", "b"] : ["a"]);
    a.router.down.delete(b.node);
    a.router.silent.add(b.node);
    assert.equal((await a.his("c", 0)).partial, true);
    a.router.silent.delete(b.node);
    assert.equal((await a.his("c", 0)).partial, false);
  }
});

Deno.test("his: our own store that does not answer is storage-unavailable", async () => {
  await using cluster = await TestCluster.open({
    nodes: 2,
    keeping: "own stores",
    history: { maxMessagesPerChannel: 1 },
  });
  const [a] = cluster.nodes;
  for (const msg of ["1", "2", "3"]) {
    a.pub("c", msg);
    await cluster.settle();
  }
  assert.ok(a.store !== null);
  a.store.isDown = true;
  await assert.rejects(
    a.his("c", 0),
    (error) => error instanceof WireError && error.code === "storage-unavailable",
  );
  const visitor = new Visitor(a);
  const sub = visitor.sub("c", 0);
  await Promise.all([
    cluster.settle(),
    assert.rejects(sub, (error) => error instanceof WireError),
  ]);
  assert.equal(visitor.replays.size, 0);
  a.store.isDown = false;
});

Deno.test("his: a history of many pages is complete, from memory, stores and peers", async () => {
  for (const keeping of KEEPINGS) {
    await using cluster = await TestCluster.open({
      nodes: 2,
      keeping,
      history: { maxMessagesPerChannel: keeping === "memory" ? 1e5 : 100 },
    });
    const [a, b] = cluster.nodes;
    for (let i = 0; i < 40; i++) {
      for (let j = 0; j < 200; j++) {
        for (const node of [a, b]) node.pub("c", `${node.node} ${i} ${j} ${"x".repeat(60)}`);
      }
      await cluster.round();
    }
    await cluster.settle();
    const got: string[] = [];
    for (let from = 0;;) {
      const { kept, texts, partial } = await a.his("c", from, 10_000);
      assert.equal(partial, false);
      if (texts.length === 0) break;
      got.push(...texts);
      from = kept[kept.length - 1].ts + 1;
    }
    assert.deepEqual(got, cluster.texts("c"));
    const visitor = new Visitor(b, 100_000);
    const sub = visitor.sub("c", 0);
    await cluster.round();
    await cluster.round();
    const { count } = await sub;
    assert.equal(count, 16_000);
    await visitor.catchUp();
    assert.deepEqual(visitor.read(), cluster.texts("c"));
    visitor.leave();
  }
});

Deno.test("his: what a peer's memory forgets while it is read is PARTIAL", async () => {
  await using cluster = await TestCluster.open({
    nodes: 2,
    keeping: "memory",
    pageMessages: 3,
    history: { maxMessagesPerChannel: 10 },
  });
  const [a, b] = cluster.nodes;
  for (let i = 0; i < 10; i++) b.pub("c", `${i}`);
  await cluster.settle();
  const from = cluster.published[0].ts;
  assert.equal((await a.his("c", from + 1)).partial, false);
  a.cluster.forgetRead();
  a.router.holds = true;
  const asked = a.router.asked.get(b.node)?.length;
  const his = a.his("c", from + 1);
  while (a.router.asked.get(b.node)?.length === asked) await goRound();
  for (let i = 0; i < 3; i++) await goRound();
  for (let i = 10; i < 30; i++) b.pub("c", `${i}`);
  await goRound();
  a.router.holds = false;
  a.router.release();
  assert.equal((await his).partial, true);
});
