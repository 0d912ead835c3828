import assert from "node:assert/strict";
import fc from "fast-check";
import { blockOf } from "../../tests/stored_bench.ts";
import { decodeUtf8 } from "../proto/bytes.ts";
import { Feed, type LimitOf, Merge, type ReadPage } from "./merged_history.ts";
import type { Block } from "./ports/history_store.ts";
import { PeerError } from "./ports/router.ts";
import { Vector } from "./vector.ts";

const BASE = 1_700_000_000_000_000;
const PREFIX = "MESSAGE c ".length;
const NO_LIMIT: LimitOf = () => Infinity;

interface Message {
  node: string;
  ts: number;
}

/** Messages in pages, by timestamp and node, never cut between two of one timestamp. */
function pagesOf(messages: readonly Message[], perPage: number, throughTs: number): ReadPage[] {
  const sorted = messages.toSorted((a, b) => a.ts - b.ts || (a.node < b.node ? -1 : 1));
  const pages: ReadPage[] = [];
  for (let from = 0; from < sorted.length || pages.length === 0;) {
    let to = Math.min(sorted.length, from + perPage);
    while (to < sorted.length && sorted[to].ts === sorted[to - 1].ts) to++;
    const blocks: Block[] = [];
    for (let i = from; i < to;) {
      let end = i + 1;
      while (end < to && sorted[end].node === sorted[i].node) end++;
      const run = sorted.slice(i, end);
      blocks.push(blockOf(run[0].node, "c", run.map(({ node, ts }) => [BASE + ts, node + ts])));
      i = end;
    }
    const isEnd = to === sorted.length;
    pages.push({
      blocks,
      isEnd,
      throughTs: BASE + (isEnd ? throughTs : sorted[to - 1].ts),
      isPartial: false,
      count: sorted.length - from,
      moment: 0,
    });
    from = to;
  }
  return pages;
}

function feedOf(node: string | null, pages: ReadPage[], afterTs = BASE): Feed {
  let next = 0;
  return new Feed(node, PREFIX, afterTs, () => Promise.resolve(pages[next++]));
}

async function take(merge: Merge, limitOf = NO_LIMIT, maxBytes = Infinity): Promise<string[]> {
  const got: string[] = [];
  while (true) {
    const piece = merge.next(limitOf, maxBytes);
    if (piece === "end") return got;
    if (piece === "more") {
      assert.deepEqual(await merge.fill(limitOf), []);
      continue;
    }
    const texts = decodeUtf8(piece.lines).trimEnd().split("\r\n").map((line) => line.split(" ")[3]);
    assert.equal(texts.length, piece.count);
    assert.equal(texts.at(-1), `${piece.block.node}${piece.lastTs - BASE}`);
    assert.equal(texts[0], `${piece.block.node}${stampsOf(piece.block)[piece.line]}`);
    got.push(...texts);
  }
}

function stampsOf({ lines }: Block): number[] {
  return decodeUtf8(lines).trimEnd().split("\r\n").map((line) => Number(line.split(" ")[2]) - BASE);
}

const anyMessages = fc.uniqueArray(
  fc.record({ node: fc.constantFrom("a", "b", "c"), ts: fc.integer({ min: 1, max: 30 }) }),
  { selector: ({ node, ts }) => node + ts, maxLength: 60, size: "max" },
);

Deno.test("merge: any feeds, cut into any pages and pieces: by timestamp and node, each once", async () => {
  await fc.assert(fc.asyncProperty(
    anyMessages,
    fc.integer({ min: 1, max: 8 }),
    fc.constantFrom(1, 60, 100, Infinity),
    fc.dictionary(fc.constantFrom("a", "b", "c"), fc.integer({ min: 0, max: 30 })),
    fc.dictionary(fc.constantFrom("a", "b", "c"), fc.integer({ min: 0, max: 30 })),
    fc.boolean(),
    async (messages, perPage, maxBytes, had, limits, hasStore) => {
      const vector = new Vector(BASE, Object.entries(had).map(([node, ts]) => [node, BASE + ts]));
      const limitOf = (node: string) => BASE + (limits[node] ?? 100);
      const feeds = ["a", "b", "c"].map((node) => {
        const own = messages.filter((one) => one.node === node);
        const left = own.filter(({ ts }) => BASE + ts > vector.get(node));
        return feedOf(node, pagesOf(left, perPage, 50), vector.get(node));
      });
      // What a store of all has, others have, too.
      if (hasStore) feeds.push(feedOf(null, pagesOf(messages, perPage + 1, 50)));
      const expected = messages
        .filter(({ node, ts }) => BASE + ts > vector.get(node) && BASE + ts <= limitOf(node))
        .toSorted((a, b) => a.ts - b.ts || (a.node < b.node ? -1 : 1))
        .map(({ node, ts }) => node + ts);
      const merge = new Merge(feeds, vector);
      assert.deepEqual(await take(merge, limitOf, maxBytes), expected);
      merge.finish(limitOf);
      for (const node of ["a", "b", "c"]) {
        const reached = Math.min(limitOf(node), BASE + 50);
        assert.equal(vector.get(node), Math.max(BASE + (had[node] ?? 0), reached));
      }
    },
  ));
});

Deno.test("merge: what is read is counted without being taken", async () => {
  const a = [1, 3, 5].map((ts) => ({ node: "a", ts }));
  const b = [2, 3, 4].map((ts) => ({ node: "b", ts }));
  const whole = new Merge(
    [feedOf("a", pagesOf(a, 9, 9)), feedOf(null, pagesOf([...a, ...b], 9, 9))],
    new Vector(BASE),
  );
  await whole.fill(NO_LIMIT);
  const { count, isWhole, vector } = whole.look();
  assert.deepEqual([count, isWhole, vector.get("a")], [6, true, BASE + 9]);
  assert.equal(whole.vector.get("a"), BASE);
  assert.equal((await take(whole)).length, 6);
  const part = new Merge([feedOf("a", pagesOf(a, 2, 9))], new Vector(BASE));
  await part.fill(NO_LIMIT);
  assert.equal(part.look().isWhole, false);
});

Deno.test("merge: what lies behind the limit of a node is not asked for", async () => {
  let asked = 0;
  const [first] = pagesOf([{ node: "a", ts: 1 }, { node: "a", ts: 2 }, { node: "a", ts: 9 }], 2, 9);
  const feed = new Feed("a", PREFIX, BASE, () => {
    asked++;
    return Promise.resolve(first);
  });
  const merge = new Merge([feed], new Vector(BASE));
  assert.deepEqual(await take(merge, () => BASE + 2), ["a1", "a2"]);
  assert.equal(asked, 1);
  assert.deepEqual([...merge.finish(() => BASE + 2)], []);
});

Deno.test("merge: a store of all is not read beyond the largest limit", async () => {
  const messages = [1, 2, 3, 4, 5, 6].map((ts) => ({ node: "a", ts }));
  const pages = pagesOf(messages, 2, 9);
  let asked = 0;
  const feed = new Feed(null, PREFIX, BASE, () => Promise.resolve(pages[asked++]));
  const merge = new Merge([feed], new Vector(BASE));
  merge.endTs = BASE + 3;
  assert.deepEqual(await take(merge, () => BASE + 3), ["a1", "a2", "a3"]);
  assert.equal(asked, 2);
});

Deno.test("merge: an end that is too early is asked for again before anything later is given", async () => {
  const pages = [
    ...pagesOf([{ node: "a", ts: 1 }], 9, 2),
    ...pagesOf([{ node: "a", ts: 3 }], 9, 9),
  ];
  const asked: number[] = [];
  const a = new Feed("a", PREFIX, BASE, (_, throughTs) => {
    asked.push(throughTs - BASE);
    return Promise.resolve(pages[asked.length - 1]);
  });
  const b = feedOf("b", pagesOf([{ node: "b", ts: 4 }], 9, 9));
  await a.fill(BASE);
  const merge = new Merge([a, b], new Vector(BASE), (node) => BASE + (node === "a" ? 5 : 0));
  assert.deepEqual(await take(merge), ["a1", "a3", "b4"]);
  assert.deepEqual(asked, [0, 5]);
  // One that cannot know better is not asked without end.
  const [short] = pagesOf([], 9, 2);
  const stuck = new Merge([feedOf("a", [short, short])], new Vector(BASE), () => BASE + 5);
  assert.deepEqual(await take(stuck), []);
});

Deno.test("merge: a peer that does not answer is named, and can be left out", async () => {
  const gone = new Feed("a", PREFIX, BASE, () => Promise.reject(new PeerError("a is gone")));
  const merge = new Merge(
    [gone, feedOf("b", pagesOf([{ node: "b", ts: 4 }], 9, 9))],
    new Vector(BASE),
  );
  assert.equal(merge.next(NO_LIMIT, 1), "more");
  assert.deepEqual(await merge.fill(NO_LIMIT), ["a"]);
  assert.equal(merge.next(NO_LIMIT, 1), "more");
  merge.drop("a");
  assert.deepEqual(await take(merge), ["b4"]);
  const broken = new Feed("a", PREFIX, BASE, () => Promise.reject(new Error("a bug")));
  await assert.rejects(new Merge([broken], new Vector(BASE)).fill(NO_LIMIT), /a bug/);
});

Deno.test("a feed: counts and says what its first page says, from where it begins", async () => {
  const [page] = pagesOf([1, 2, 3].map((ts) => ({ node: "a", ts })), 9, 9);
  const feed = new Feed("a", PREFIX, BASE + 1, () => Promise.resolve({ ...page, isPartial: true }));
  await feed.fill(0);
  assert.deepEqual([feed.count, feed.isPartial], [2, true]);
});
