// What a running server deletes by itself, and that PARTIAL says so exactly where something is missing.

import assert from "node:assert/strict";
import { Client, startPushd, within } from "./harness.ts";
import { STORES } from "./stores.ts";

const PUBLISHED = /^PUBLISHED (\d{16})$/;
const stores = STORES.filter(({ name }) => name !== "mongodb");

interface Shown {
  isPartial: boolean;
  stamps: number[];
}

async function shown(client: Client, fromTs: number): Promise<Shown> {
  const [, partial, json] = await client.ask(`his c ${fromTs}`, /^HISTORY c (PARTIAL )?(\[.*\])$/);
  const page: { ts: number }[] = JSON.parse(json);
  return { isPartial: partial !== undefined, stamps: page.map(({ ts }) => ts) };
}

/** Asks again and again until so many are left. */
async function untilLeft(client: Client, count: number): Promise<number[]> {
  let stamps: number[] = [];
  let isLate = false;
  const polling = (async () => {
    do {
      await new Promise((resolve) => setTimeout(resolve, 50));
      ({ stamps } = await shown(client, 0));
    } while (!isLate && stamps.length !== count);
    return stamps;
  })();
  const onLate = () => isLate = true;
  return await within(() => `${count} messages; there are ${stamps.length}`, polling, { onLate });
}

async function publish(client: Client, count: number): Promise<number[]> {
  const stamps: number[] = [];
  for (let i = 0; i < count; i++) {
    stamps.push(Number((await client.ask(`pub c ${i}`, PUBLISHED))[1]));
  }
  return stamps;
}

/** All of `stamps` were published, those from `kept` on are left: PARTIAL says so where it matters. */
async function assertPartial(
  port: number,
  client: Client,
  stamps: readonly number[],
  kept: number,
): Promise<void> {
  for (const [i, ts] of stamps.entries()) {
    const at = await shown(client, ts);
    assert.deepEqual(at.stamps, stamps.slice(Math.max(i, kept)), `his from ${i}`);
    assert.equal(at.isPartial, i < kept, `his from message ${i}, ${kept} is the oldest`);
    using follower = await Client.connect(port);
    const left = stamps.slice(Math.max(i + 1, kept));
    // What it names itself it has had.
    const [, partial] = await follower.ask(
      `sub c ${ts}`,
      new RegExp(`^SUBSCRIBED c ${left.length}( PARTIAL)?$`),
    );
    assert.equal(
      partial !== undefined,
      i + 1 < kept,
      `sub from message ${i}, ${kept} is the oldest`,
    );
    for (const due of left) await follower.expect(new RegExp(`^MESSAGE c ${due} `));
  }
  const all = await shown(client, 0);
  assert.deepEqual(all, { isPartial: false, stamps: stamps.slice(kept) });
  using follower = await Client.connect(port);
  await follower.ask("sub c 0", `SUBSCRIBED c ${stamps.length - kept}`);
}

for (const store of stores) {
  Deno.test(`msg_retention, ${store.name}`, async () => {
    await using place = await store.open();
    const config = { ...place.config, msg_retention: "3s" };
    let stamps: number[] = [];
    {
      await using pushd = await startPushd({ config });
      using client = await Client.connect(pushd.port);
      stamps = await publish(client, 5);
      await assertPartial(pushd.port, client, stamps, 0);
      // So that the first ones go before the others do.
      await new Promise((resolve) => setTimeout(resolve, 2000));
      stamps.push(...await publish(client, 5));
      await untilLeft(client, 5);
      const oldestUs = Date.now() * 1000 - stamps[5];
      await assertPartial(pushd.port, client, stamps, 5);
      assert.ok(oldestUs < 3_000_000, "the second five should not be due yet");
      await untilLeft(client, 0);
      await assertPartial(pushd.port, client, stamps, 10);
      stamps.push(...await publish(client, 1));
      await assertPartial(pushd.port, client, stamps, 10);
      await pushd.kill();
    }
    if (store.name === "memory") return;
    await using pushd = await startPushd({ config: { ...config, msg_retention: "1h" } });
    using client = await Client.connect(pushd.port);
    await assertPartial(pushd.port, client, stamps, 10);
  });

  Deno.test(`msg_retention_per_channel, ${store.name}`, async () => {
    await using place = await store.open();
    const config = { ...place.config, msg_retention_per_channel: 3 };
    let stamps: number[] = [];
    {
      await using pushd = await startPushd({ config });
      using client = await Client.connect(pushd.port);
      stamps = await publish(client, 3);
      await assertPartial(pushd.port, client, stamps, 0);
      stamps.push(...await publish(client, 7));
      await untilLeft(client, 3);
      await assertPartial(pushd.port, client, stamps, 7);
      await pushd.kill();
    }
    if (store.name === "memory") return;
    await using pushd = await startPushd({ config });
    using client = await Client.connect(pushd.port);
    await assertPartial(pushd.port, client, stamps, 7);
  });
}
