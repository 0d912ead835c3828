// History from a store that fails, is down for a while, or answers when nobody listens any more.

import assert from "node:assert/strict";
import { Client, clientOf, follow } from "../../tests/engine_bench.ts";
import { goRound } from "../../tests/go_round.ts";
import { HeldStore } from "../../tests/held_store.ts";
import { StoredBench } from "../../tests/stored_bench.ts";
import { WireError } from "../proto/errors.ts";

function numbers(count: number, from = 0): string[] {
  return Array.from({ length: count }, (_, i) => `m${from + i}`);
}

/** Whether it is refused because the store does not answer. */
async function isUnavailable(work: () => unknown): Promise<boolean> {
  try {
    await work();
    return false;
  } catch (error) {
    return error instanceof WireError && error.code === "storage-unavailable";
  }
}

Deno.test("a failed commit leaves memory, and his is the same before and after a restart", async () => {
  for (const outcome of ["failed", "half"] as const) {
    for (const maxMessagesPerChannel of [1, 3, 1000]) {
      const history = { maxMessagesPerChannel };
      const store = new HeldStore();
      let shown: string[];
      {
        await using bench = await StoredBench.open({ store, history });
        await bench.pubAll("c", numbers(5));
        store.holdsAppends = true;
        const publisher = bench.connect();
        const follower = bench.connect();
        await bench.sub(follower, "c", 0);
        bench.pub(publisher, "c", "lost 1");
        bench.pub(publisher, "d", "lost 2");
        await bench.until(() => store.isAppending);
        bench.pub(publisher, "c", "lost 3");
        await goRound();
        assert.equal((await bench.texts("c")).length, 7);
        store.endAppend(outcome);
        await bench.until(() => !bench.queue.isUp);
        store.holdsAppends = false;
        if (maxMessagesPerChannel > 5) assert.deepEqual(await bench.texts("c"), numbers(5));
        bench.queue.suspect();
        await bench.until(() => bench.queue.isUp);
        assert.deepEqual(await bench.texts("c"), numbers(5));
        assert.deepEqual(await bench.texts("d"), []);
        await bench.pubAll("c", ["after"]);
        shown = await bench.texts("c");
        assert.deepEqual(shown, [...numbers(5), "after"]);
        assert.deepEqual(await bench.got(follower), [
          ...numbers(5),
          "lost 1",
          "lost 3",
          "after",
        ]);
      }
      await using again = await StoredBench.open({ store, history });
      assert.deepEqual(await again.texts("c"), shown);
      assert.deepEqual(await again.texts("d"), []);
    }
  }
});

Deno.test("a read that fails is refused, with nothing subscribed and nothing left behind", async () => {
  for (const [name, questions] of [["c", 3], ["unknown", 1]] as const) {
    // The first, the second or the third question is the one that fails.
    for (let answered = 0; answered < questions; answered++) {
      const history = { maxMessagesPerChannel: 1 };
      const store = new HeldStore();
      let stamps: number[];
      {
        await using before = await StoredBench.open({ store });
        stamps = await before.pubAll("c", numbers(5));
      }
      await using bench = await StoredBench.open({ store, history });
      const { engine } = bench;
      store.holdsReads = true;
      const session = bench.connect();
      const refused = isUnavailable(() => bench.sub(session, name, stamps[0]));
      for (let i = 0; i < answered; i++) {
        await goRound();
        store.releaseReads();
      }
      await goRound();
      assert.equal(store.heldReads, 1, `question ${answered + 1} of sub ${name}`);
      assert.equal(engine.counters.subscriptions, 1);
      store.isDown = true;
      store.holdsReads = false;
      store.releaseReads();
      assert.ok(await refused);
      bench.checkEmpty();
      assert.deepEqual([session.subscriptions.size, session.replays.size], [0, 0]);
      const isInMemory = answered > 0;
      assert.equal(await isUnavailable(() => bench.his("c", stamps[4])), !isInMemory);
      assert.ok(await isUnavailable(() => bench.his("c", stamps[0] - 1)));
      store.isDown = false;
      await bench.until(() => !bench.queue.isUp);
      bench.queue.suspect();
      await bench.until(() => bench.queue.isUp);
      assert.equal((await bench.sub(session, name, stamps[0])).count, name === "c" ? 4 : 0);
      engine.closeSession(session);
      bench.checkEmpty();
    }
  }
});

Deno.test("a replay goes on where it was once the store answers again", async () => {
  await using bench = await StoredBench.open({ history: { maxMessagesPerChannel: 1 } });
  const { store, queue } = bench;
  // Too much for one page.
  const texts = numbers(30).map((text) => text.padEnd(20_000, "."));
  await bench.pubAll("c", texts);
  const session = bench.connect(new Client(30_000));
  await bench.sub(session, "c", 0);
  await bench.readOnce(session);
  const { read } = store.calls;
  store.isDown = true;
  // Its page comes to an end, and the next one is refused.
  for (let before = -1; before !== clientOf(session).got.length;) {
    before = clientOf(session).got.length;
    await bench.readOnce(session);
  }
  const { length } = clientOf(session).got;
  assert.ok(length > 1 && length < 30, `${length}`);
  assert.equal(store.calls.read, read + 1);
  await bench.until(() => !queue.isUp);
  store.isDown = false;
  queue.suspect();
  await bench.until(() => queue.isUp);
  const more = ["live 1", "live 2"];
  await bench.pubAll("c", more);
  assert.deepEqual(await bench.got(session), [...texts, ...more]);
});

Deno.test("a session that closes while its read is under way leaves nothing behind", async () => {
  for (let answered = 0; answered < 4; answered++) {
    for (const name of ["c", "unknown"]) {
      await using bench = await StoredBench.open({ history: { maxMessagesPerChannel: 1 } });
      const { store, engine } = bench;
      await bench.pubAll("c", numbers(5));
      store.holdsReads = true;
      const session = bench.connect();
      const starting = bench.sub(session, name, 1);
      for (let i = 0; i < answered; i++) {
        await goRound();
        store.releaseReads();
      }
      engine.closeSession(session);
      bench.checkEmpty();
      store.holdsReads = false;
      store.releaseReads();
      await starting;
      bench.checkEmpty();
      assert.deepEqual(await bench.got(session), []);
      const later = bench.connect();
      await bench.sub(later, name, 0);
      bench.pub(later, name, "x");
      assert.equal((await bench.got(later)).at(-1), "x");
    }
  }
});

Deno.test("unsubscribed and subscribed anew while the first read is under way: the second one stays", async () => {
  await using bench = await StoredBench.open({ history: { maxMessagesPerChannel: 1 } });
  const { store, engine } = bench;
  await bench.pubAll("c", numbers(5));
  const session = bench.connect();
  store.holdsReads = true;
  const first = isUnavailable(() => bench.sub(session, "c", 1));
  await goRound();
  assert.ok(engine.unsubscribe(session, "c"));
  assert.ok(follow(engine, session, "c"));
  store.isDown = true;
  store.holdsReads = false;
  store.releaseReads();
  assert.ok(await first);
  assert.equal(engine.counters.subscriptions, 1);
  store.isDown = false;
  await bench.until(() => bench.queue.isUp);
  bench.pub(session, "c", "live");
  assert.deepEqual(await bench.got(session), ["live"]);
});
