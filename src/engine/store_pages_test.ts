// Pages of a store: read once for many, and never older than what whoever asks has to see.

import assert from "node:assert/strict";
import { goRound } from "../../tests/go_round.ts";
import { HeldStore } from "../../tests/held_store.ts";
import { blockOf } from "../../tests/stored_bench.ts";
import { StorePages } from "./store_pages.ts";

const TS = 1_700_000_000_000_000;

Deno.test("who asks when more has been kept does not take the end of an older read for the end", async () => {
  for (const old of [0, 1]) {
    const store = new HeldStore();
    let settledTs = TS;
    const pages = new StorePages(store, () => settledTs);
    if (old > 0) await store.append([blockOf("n", "c", [[TS, "old"]])]);
    store.holdsReads = true;
    const early = pages.read("default", "c", 0);
    await goRound();
    await store.append([blockOf("n", "c", [[TS + 5, "new"]])]);
    settledTs = TS + 5;
    const late = pages.read("default", "c", 0);
    const same = pages.read("default", "c", 0);
    await goRound();
    store.holdsReads = false;
    store.releaseReads();
    assert.deepEqual([(await early).isEnd, (await early).throughTs], [true, TS]);
    for (const page of [await late, await same]) {
      // Either it holds the new message, or it does not claim to be the end.
      const lastTs = page.blocks.at(-1)?.lastTs ?? 0;
      if (old === 0) assert.equal(lastTs, TS + 5);
      else assert.ok(lastTs === TS + 5 || (!page.isEnd && page.throughTs === TS));
    }
    assert.equal(store.calls.read, old === 0 ? 2 : 1);
  }
});

Deno.test("a read that began before something was deleted serves nobody who asks behind that", async () => {
  const store = new HeldStore();
  const pages = new StorePages(store, () => TS + 9);
  await store.append([blockOf("n", "c", [[TS, "gone"], [TS + 1, "stays"]])]);
  store.holdsReads = true;
  const early = pages.read("default", "c", 0);
  await goRound();
  await store.prune({ beforeTs: TS + 1, keepPerChannel: 0 });
  pages.forget();
  const late = pages.read("default", "c", 0);
  await goRound();
  store.holdsReads = false;
  store.releaseReads();
  assert.equal((await early).blocks[0].firstTs, TS);
  assert.deepEqual([(await late).blocks[0].firstTs, (await late).prunedTs], [TS + 1, TS]);
  // And what is kept for the next is the later one.
  assert.equal((await pages.read("default", "c", 0)).blocks[0].firstTs, TS + 1);
  assert.equal(store.calls.read, 2);
});
