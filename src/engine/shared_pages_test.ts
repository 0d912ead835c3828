import assert from "node:assert/strict";
import { goRound } from "../../tests/go_round.ts";
import { blockOf } from "../../tests/stored_bench.ts";
import { nextMoment } from "./moment.ts";
import { type KeptPage, PeerError } from "./ports/router.ts";
import { SharedPages } from "./shared_pages.ts";

const BASE = 1_700_000_000_000_000;
const ANY_END = { notBefore: 0, throughTs: 0 };

/** A source with a message at each of `BASE + first` to `BASE + last`, in pages of three. */
class Source {
  readonly asked: number[] = [];
  first = 1;
  last = 7;
  partialUntil = 0;
  hold: Promise<void> | null = null;

  load = async (afterTs: number): Promise<KeptPage> => {
    this.asked.push(Math.max(0, afterTs - BASE));
    const first = Math.max(this.first, afterTs - BASE + 1);
    const stamps: number[] = [];
    for (let i = first; i <= this.last && stamps.length < 3; i++) stamps.push(i);
    const isEnd = (stamps.at(-1) ?? this.last) >= this.last;
    const page: KeptPage = {
      blocks: stamps.length === 0
        ? []
        : [blockOf("n", "c", stamps.map((ts) => [BASE + ts, `${ts}`] as const))],
      isEnd,
      throughTs: BASE + (isEnd ? this.last + 100 : stamps[stamps.length - 1]),
      isPartial: afterTs > 0 && this.partialUntil > afterTs - BASE,
      count: Math.max(0, this.last - first + 1),
    };
    await goRound();
    if (this.hold !== null) await this.hold;
    return page;
  };
}

Deno.test("shared: who asks for nearly the same at the same time waits for one read", async () => {
  const pages = new SharedPages();
  const source = new Source();
  const read = (ts: number) => pages.read("s", BASE + ts, ANY_END, source.load);
  const all = await Promise.all([read(1), read(1), read(2), read(3), read(4)]);
  assert.deepEqual(source.asked, [1, 4]);
  assert.deepEqual(all.map(({ askedTs }) => askedTs - BASE), [1, 1, 1, 1, 4]);
});

Deno.test("shared: sources are not mixed up", async () => {
  const pages = new SharedPages();
  const source = new Source();
  await pages.read("s", BASE + 1, ANY_END, source.load);
  await pages.read("t", BASE + 1, ANY_END, source.load);
  assert.deepEqual(source.asked, [1, 1]);
});

Deno.test("shared: pages are kept for a moment, and not longer", async () => {
  let nowMs = 0;
  const pages = new SharedPages(1e6, () => nowMs);
  const source = new Source();
  for (const ms of [0, 900, 1100]) {
    nowMs = ms;
    await pages.read("s", BASE + 1, ANY_END, source.load);
  }
  assert.deepEqual(source.asked, [1, 1]);
});

Deno.test("shared: pages are kept within a bound of bytes", async () => {
  const pages = new SharedPages(1);
  const source = new Source();
  await pages.read("s", BASE + 1, ANY_END, source.load);
  await pages.read("s", BASE + 1, ANY_END, source.load);
  assert.equal(source.asked.length, 2);
});

Deno.test("shared: pages of nothing count, too", async () => {
  const pages = new SharedPages(1200);
  const source = new Source();
  source.last = 0;
  for (const key of ["s", "t", "u", "s"]) await pages.read(key, BASE, ANY_END, source.load);
  assert.equal(source.asked.length, 4);
  await pages.read("u", BASE, ANY_END, source.load);
  assert.equal(source.asked.length, 4);
});

Deno.test("shared: who is ahead of all others waits for one of their pages only", async () => {
  const pages = new SharedPages();
  const source = new Source();
  const release: (() => void)[] = [];
  const load = async (afterTs: number) => {
    await new Promise<void>((resolve) => release.push(resolve));
    return await source.load(afterTs);
  };
  const behind = pages.read("s", BASE, ANY_END, load);
  const ahead = pages.read("s", BASE + 6, ANY_END, load);
  const end = { notBefore: nextMoment(), throughTs: 0 };
  const other = pages.read("s", BASE, end, load);
  assert.equal(release.length, 2);
  release[0]();
  await behind;
  await goRound();
  assert.equal(release.length, 3);
  release[2]();
  assert.equal((await ahead).blocks[0].firstTs, BASE + 7);
  release[1]();
  await other;
});

Deno.test("shared: an end is the end as of the moment that is wanted", async () => {
  const pages = new SharedPages();
  const source = new Source();
  await pages.read("s", BASE + 5, ANY_END, source.load);
  source.last = 8;
  const notBefore = nextMoment();
  const page = await pages.read("s", BASE + 5, { notBefore, throughTs: 0 }, source.load);
  // What it holds is still true, but not that nothing follows.
  assert.deepEqual([page.isEnd, page.throughTs], [false, BASE + 7]);
  const rest = await pages.read("s", page.throughTs, { notBefore, throughTs: 0 }, source.load);
  assert.deepEqual([rest.isEnd, rest.blocks[0].firstTs], [true, BASE + 8]);
  assert.deepEqual(source.asked, [5, 7]);
});

Deno.test("shared: an end goes as far as is wanted, where it can", async () => {
  const pages = new SharedPages();
  const source = new Source();
  await pages.read("s", BASE + 7, ANY_END, source.load);
  await pages.read("s", BASE + 7, { notBefore: 0, throughTs: BASE + 107 }, source.load);
  assert.equal(source.asked.length, 1);
  const page = await pages.read(
    "s",
    BASE + 7,
    { notBefore: 0, throughTs: BASE + 108 },
    source.load,
  );
  assert.equal(source.asked.length, 2);
  assert.equal(page.isEnd, true);
});

Deno.test("shared: whether something is missing is said for the timestamp that was asked for", async () => {
  const pages = new SharedPages();
  const source = new Source();
  source.partialUntil = 4;
  source.first = 4;
  const isPartial = async (ts: number) =>
    (await pages.read("s", ts, ANY_END, source.load)).isPartial;
  assert.equal(await isPartial(0), false);
  assert.equal(await isPartial(BASE + 1), true);
  // It may be that nothing was deleted behind 2; of 4 it is sure.
  assert.equal(await isPartial(BASE + 2), true);
  assert.equal(await isPartial(BASE + 4), false);
  assert.deepEqual(source.asked, [0, 1]);
});

Deno.test("shared: what was deleted is read anew, also where a read is under way", async () => {
  const pages = new SharedPages();
  const source = new Source();
  await pages.read("s", BASE + 1, ANY_END, source.load);
  const before = pages.read("s", BASE + 6, ANY_END, source.load);
  pages.forget();
  await pages.read("s", BASE + 6, ANY_END, source.load);
  await before;
  await pages.read("s", BASE + 1, ANY_END, source.load);
  assert.deepEqual(source.asked, [1, 6, 6, 1]);
});

Deno.test("shared: a read that fails has failed for all who wait for it, and for nobody else", async () => {
  const pages = new SharedPages();
  const source = new Source();
  const fail = () => Promise.reject(new PeerError("gone"));
  const both = [1, 1].map(() => pages.read("s", BASE + 1, ANY_END, fail));
  for (const { status } of await Promise.allSettled(both)) assert.equal(status, "rejected");
  assert.equal((await pages.read("s", BASE + 1, ANY_END, source.load)).count, 6);
});
