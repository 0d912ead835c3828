import assert from "node:assert/strict";
import { goRound } from "../../tests/go_round.ts";
import { TestCluster, type TestNode, Visitor } from "../../tests/history_cluster.ts";
import { blockOf } from "../../tests/stored_bench.ts";
import { decodeUtf8 } from "../proto/bytes.ts";
import { WireError } from "../proto/errors.ts";
import type { KeptPage, KeptRequest } from "./ports/router.ts";

function ask(node: TestNode, request: Partial<KeptRequest> = {}): Promise<KeptPage> {
  return node.cluster.kept({
    app: "default",
    channel: "c",
    afterTs: 0,
    which: "all",
    maxMessages: 1000,
    maxBytes: 1 << 20,
    ...request,
  });
}

function texts({ blocks }: KeptPage): string[] {
  return blocks.flatMap(({ lines, count, firstTs, lastTs }) => {
    const all = decodeUtf8(lines).trimEnd().split("\r\n").map((line) => line.split(" "));
    assert.equal(all.length, count);
    assert.deepEqual([Number(all[0][2]), Number(all[count - 1][2])], [firstTs, lastTs]);
    return all.map(([, , , text]) => text);
  });
}

/** Reads on to the end, and returns the texts of each page. */
async function askAll(node: TestNode, request: Partial<KeptRequest> = {}): Promise<string[][]> {
  const pages: string[][] = [];
  let count: number | undefined;
  for (let afterTs = request.afterTs ?? 0;;) {
    const page = await ask(node, { ...request, afterTs });
    pages.push(texts(page));
    // As many as were said to be behind the page before.
    if (count !== undefined) assert.equal(page.count, count);
    count = page.count - texts(page).length;
    if (page.isEnd) {
      assert.equal(page.throughTs, node.lastTs);
      assert.equal(count, 0);
      return pages;
    }
    assert.equal(page.throughTs, page.blocks.at(-1)?.lastTs);
    afterTs = page.throughTs;
  }
}

async function pubAll(node: TestNode, messages: readonly string[]): Promise<number[]> {
  const stamps: number[] = [];
  for (const message of messages) {
    stamps.push(node.pub("c", message));
    await node.all.settle();
  }
  return stamps;
}

const EIGHT = ["1", "2", "3", "4", "5", "6", "7", "8"];

Deno.test("kept, in memory alone: pages up to the limits, then the end, which is the clock", async () => {
  await using cluster = await TestCluster.open({ nodes: 1, keeping: "memory" });
  const [a] = cluster.nodes;
  const stamps = await pubAll(a, EIGHT);
  a.sawTimestamp(a.lastTs + 1000);
  assert.deepEqual(await askAll(a), [EIGHT]);
  assert.deepEqual(await askAll(a, { afterTs: stamps[2] }), [EIGHT.slice(3)]);
  assert.deepEqual((await askAll(a, { maxMessages: 3 })).map(({ length }) => length), [3, 3, 2]);
  assert.deepEqual((await askAll(a, { maxBytes: 1 })).flat(), EIGHT);
  const nothing = await ask(a, { afterTs: stamps[7] });
  assert.deepEqual([nothing.blocks, nothing.isEnd, nothing.count], [[], true, 0]);
  const unknown = await ask(a, { channel: "unknown" });
  assert.deepEqual([unknown.isEnd, unknown.throughTs], [true, a.lastTs]);
});

Deno.test("kept: messages of the open batch are among them", async () => {
  await using cluster = await TestCluster.open({ nodes: 1, keeping: "memory" });
  const [a] = cluster.nodes;
  a.pub("c", "1");
  const asked = ask(a);
  assert.deepEqual(texts(await asked), ["1"]);
  a.pub("c", "2");
  const his = a.his("c", 0);
  assert.deepEqual((await his).texts, ["1", "2"]);
});

Deno.test("kept, with a store of its own: both parts, in any cut, counted", async () => {
  await using cluster = await TestCluster.open({
    nodes: 1,
    keeping: "own stores",
    history: { maxMessagesPerChannel: 3 },
  });
  const [a] = cluster.nodes;
  const stamps = await pubAll(a, EIGHT);
  assert.deepEqual((await askAll(a)).flat(), EIGHT);
  assert.deepEqual((await askAll(a, { maxMessages: 2 })).flat(), EIGHT);
  assert.deepEqual((await askAll(a, { maxBytes: 70 })).flat(), EIGHT);
  assert.deepEqual(
    (await askAll(a, { afterTs: stamps[0], maxMessages: 2 })).flat(),
    EIGHT.slice(1),
  );
  // What is on its way into the store is in memory.
  assert.ok(a.store !== null);
  a.store.holds = true;
  a.pub("c", "9");
  await goRound();
  a.pub("c", "10");
  assert.deepEqual((await askAll(a, { maxMessages: 2 })).flat(), [...EIGHT, "9", "10"]);
});

Deno.test("kept, with a store of its own: who reads on is told of what has come since", async () => {
  await using cluster = await TestCluster.open({
    nodes: 1,
    keeping: "own stores",
    history: { maxMessagesPerChannel: 1 },
  });
  const [a] = cluster.nodes;
  await pubAll(a, EIGHT);
  const { throughTs, count } = await ask(a, { maxMessages: 2 });
  assert.equal(count, 8);
  for (const text of ["9", "10", "11"]) {
    await pubAll(a, [text]);
    assert.equal((await ask(a, { afterTs: throughTs, maxMessages: 1 })).count, Number(text) - 2);
  }
});

Deno.test("kept, with a store of its own: read once, and then from memory", async () => {
  await using cluster = await TestCluster.open({ nodes: 1, keeping: "own stores" });
  const [a] = cluster.nodes;
  const { store } = a;
  assert.ok(store !== null);
  await store.inner.append([blockOf("n0", "c", [[a.lastTs - 5, "old"]])]);
  assert.deepEqual((await askAll(a)).flat(), ["old"]);
  const { reads } = store;
  assert.deepEqual((await askAll(a)).flat(), ["old"]);
  assert.equal(store.reads, reads);
});

Deno.test("kept: a page never ends between two of one timestamp", async () => {
  await using cluster = await TestCluster.open({ nodes: 1, keeping: "own stores" });
  const [a] = cluster.nodes;
  const ts = a.lastTs - 5;
  // As a store may hold them of which the node had another name.
  await a.store?.inner.append([
    blockOf("n0", "c", [[ts, "1"], [ts + 1, "2"]]),
    blockOf("older", "c", [[ts + 1, "3"], [ts + 2, "4"]]),
  ]);
  assert.deepEqual(await askAll(a, { maxMessages: 2 }), [["1", "2", "3"], ["4"]]);
});

Deno.test("kept: what may have been deleted is said, but not to who asks for everything", async () => {
  for (const keeping of ["memory", "own stores"] as const) {
    await using cluster = await TestCluster.open({
      nodes: 1,
      keeping,
      history: { maxMessagesPerChannel: 2 },
    });
    const [a] = cluster.nodes;
    const stamps = await pubAll(a, ["1", "2", "3", "4"]);
    await a.store?.inner.prune({ beforeTs: stamps[2], keepPerChannel: 0 });
    a.history.pruned(a.find("c"), stamps[1]);
    assert.equal((await ask(a, { afterTs: stamps[0] })).isPartial, true, keeping);
    assert.equal((await ask(a, { afterTs: stamps[1] })).isPartial, false, keeping);
    assert.equal((await ask(a)).isPartial, false, keeping);
    assert.deepEqual(texts(await ask(a)), ["3", "4"]);
  }
});

Deno.test("kept, not in the store of all yet: own messages only, in pages", async () => {
  await using cluster = await TestCluster.open({ nodes: 2, keeping: "one store" });
  const [a, b] = cluster.nodes;
  const unsettled = (request: Partial<KeptRequest> = {}) =>
    ask(a, { which: "unsettled", ...request });
  await pubAll(a, ["1", "2"]);
  await pubAll(b, ["b"]);
  assert.ok(a.store !== null);
  a.store.holds = true;
  const third = a.pub("c", "3");
  await goRound();
  a.pub("c", "4");
  const page = await unsettled();
  assert.deepEqual(texts(page), ["3", "4"]);
  assert.deepEqual([page.isEnd, page.throughTs, page.isPartial], [true, a.lastTs, false]);
  assert.deepEqual(texts(await unsettled({ afterTs: third })), ["4"]);
  const first = await unsettled({ maxMessages: 1 });
  assert.deepEqual([texts(first), first.isEnd, first.throughTs], [["3"], false, third]);
  await cluster.settle();
  assert.deepEqual(texts(await unsettled()), []);
  assert.deepEqual(texts(await unsettled({ channel: "unknown" })), []);
});

Deno.test("kept: others' messages never get into the cache, whose store is everybody's", async () => {
  await using cluster = await TestCluster.open({ nodes: 2, keeping: "one store" });
  const [a, b] = cluster.nodes;
  await pubAll(b, ["b1", "b2"]);
  const visitor = new Visitor(a);
  const sub = visitor.sub("c", 0);
  await cluster.settle();
  await sub;
  assert.deepEqual(await visitor.catchUp(), ["b1", "b2"]);
  assert.deepEqual((await a.his("c", 0)).texts, ["b1", "b2"]);
  assert.equal(a.find("c")?.history ?? null, null);
  visitor.leave();
});

Deno.test("kept: the bytes are the caller's, and so are the names of the publishers", async () => {
  await using cluster = await TestCluster.open({ nodes: 1, keeping: "own stores" });
  const [a] = cluster.nodes;
  await a.store?.inner.append([
    blockOf("n0", "c", [[a.lastTs - 5, "1", "anna"], [a.lastTs - 4, "2"], [
      a.lastTs - 3,
      "3",
      "bert",
    ]]),
  ]);
  const first = await ask(a, { maxMessages: 2 });
  assert.deepEqual(first.blocks[0].froms, ["anna", undefined]);
  const rest = await ask(a, { afterTs: first.throughTs });
  assert.deepEqual(rest.blocks[0].froms, ["bert"]);
  rest.blocks[0].lines.fill(0);
  first.blocks[0].lines.fill(0);
  assert.deepEqual(texts(await ask(a)), ["1", "2", "3"]);
});

Deno.test("kept: a store that does not answer, and a name that is none, are refused", async () => {
  await using cluster = await TestCluster.open({ nodes: 1, keeping: "own stores" });
  const [a] = cluster.nodes;
  assert.ok(a.store !== null);
  a.store.isDown = true;
  const isCode = (code: string) => (error: unknown) =>
    error instanceof WireError && error.code === code;
  await assert.rejects(ask(a), isCode("storage-unavailable"));
  await assert.rejects(ask(a, { channel: "a b" }), isCode("bad-argument"));
});
