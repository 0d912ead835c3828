// Which publishes and deliveries are measured, over real sockets, and when each of them ends.

import assert from "node:assert/strict";
import { Door } from "../../tests/door.ts";
import { goRound } from "../../tests/go_round.ts";
import { HeldStore } from "../../tests/held_store.ts";
import { countOf } from "../core/histogram.ts";

async function until(isDone: () => boolean): Promise<void> {
  while (!isDone()) await goRound();
}

/** Measurements so far. */
function measured({ server: { engine: { latency } } }: Door) {
  return {
    publish: countOf(latency.publish.snapshot()),
    delivery: countOf(latency.delivery.snapshot()),
  };
}

/** From now on the next message is measured, however soon after the last one it comes. */
function expectNext({ server: { engine: { latency } } }: Door): void {
  latency.publishDueMs = 0;
  latency.deliveryDueMs = 0;
}

Deno.test("a publish is measured to its reply, a delivery until a subscriber's socket took it", async () => {
  await using door = new Door();
  using publisher = await door.connect();
  using reader = await door.connect();
  assert.match(await publisher.ask("pub c nobody is there") ?? "", /^PUBLISHED /);
  assert.deepEqual(measured(door), { publish: 1, delivery: 0 });
  assert.equal(await reader.ask("sub c"), "SUBSCRIBED c");
  expectNext(door);
  assert.match(await publisher.ask("pub c 1") ?? "", /^PUBLISHED /);
  await until(() => measured(door).delivery === 1);
  assert.equal(measured(door).publish, 2);
  const { sum_s } = door.server.engine.latency.delivery.snapshot();
  assert.ok(sum_s > 0 && sum_s < 60, `${sum_s} s`);
});

Deno.test("of a read one message is measured, the first that is good; none in it, and the next read's is", async () => {
  await using door = new Door();
  using publisher = await door.connect();
  await publisher.send("ping\npub c \npub c 1\npub c 2\npub c 3\n");
  await until(() => door.server.engine.counters.published === 3);
  assert.equal(measured(door).publish, 1);
  expectNext(door);
  for (let i = 0; i < 3; i++) assert.equal(await publisher.line() === null, false);
  await publisher.send("ping\npub c \n");
  for (let i = 0; i < 4; i++) await publisher.line();
  // Neither was a message: they have not taken the place of one.
  assert.equal(door.server.engine.latency.publishDueMs, 0);
  assert.match(await publisher.ask("pub c 4") ?? "", /^PUBLISHED /);
  assert.equal(measured(door).publish, 2);
});

Deno.test("a publish that waits for its commit is measured behind it, and not where that fails", async () => {
  const store = new HeldStore();
  store.holdsAppends = true;
  await using door = new Door({ store });
  using publisher = await door.connect();
  await publisher.send("pub c 1\n");
  await until(() => store.isAppending);
  assert.equal(measured(door).publish, 0);
  store.endAppend();
  assert.match(await publisher.line() ?? "", /^PUBLISHED /);
  assert.equal(measured(door).publish, 1);
  assert.equal(countOf(door.queue?.durations.snapshot() ?? assert.fail()), 1);
  expectNext(door);
  await publisher.send("pub c 2\n");
  await until(() => store.isAppending);
  store.endAppend("failed");
  assert.match(await publisher.line() ?? "", /^ERROR storage-unavailable /);
  assert.equal(measured(door).publish, 1);
  assert.equal(countOf(door.queue?.durations.snapshot() ?? assert.fail()), 1);
});
