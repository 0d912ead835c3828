// What was acknowledged is there after kill -9, once and in order; with the looser policy, all but the last second.

import assert from "node:assert/strict";
import { Client, type Pushd, startPushd } from "./harness.ts";
import { type KeptMessage, readHistory } from "./history_reader.ts";
import { Publisher } from "./publisher.ts";
import { LASTING, type StorePlace } from "./stores.ts";

const CHANNELS = ["c", "d"];
/** How often each server is killed; more with PUSHD_TEST_KILLS. */
const KILLS = Number(Deno.env.get("PUSHD_TEST_KILLS") ?? 6);
/** With policy 1, what was acknowledged longer ago than this before a crash is kept, microseconds. */
const MAX_LOSS_US = 1_000_000;

/** One life of a server: published to until it is ended, at a random moment. */
async function live(
  place: StorePlace,
  policy: 0 | 1,
  life: number,
  end: (pushd: Pushd) => Promise<unknown>,
): Promise<Publisher[]> {
  // FerretDB reads all of a collection to answer, so there must not be too much of it.
  const pace = place.config.msg_storage === "mongodb" ? { max_publishes_per_second: 300 } : {};
  await using pushd = await startPushd({
    config: { ...place.config, ...pace, msg_storage_flush_policy: policy },
  });
  const publishers = await Promise.all(
    [0, 1, 2].map((i) =>
      Publisher.start(pushd.port, CHANNELS[i % 2], `life${life}p${i}`, { window: 1 + 40 * i })
    ),
  );
  const { promise, resolve } = Promise.withResolvers<void>();
  // A moment of the load that is different each time.
  setTimeout(resolve, 5 + Math.random() * (policy === 0 ? 150 : 1500));
  await promise;
  await end(pushd);
  for (const publisher of publishers) publisher.stop();
  await Promise.all(publishers.map(({ done }) => done));
  return publishers;
}

/** What must be kept of a publisher's messages, and is; each once, in the order of sending. */
function check(publisher: Publisher, kept: readonly KeptMessage[], acked: readonly number[]): void {
  const { name } = publisher;
  const numbers = kept.filter(({ msg }) => msg.startsWith(`${name}-`))
    .map(({ msg }) => Number(msg.slice(name.length + 1)));
  for (let i = 1; i < numbers.length; i++) {
    assert.ok(numbers[i] > numbers[i - 1], `${name}: ${numbers[i - 1]} before ${numbers[i]}`);
  }
  const there = new Set(numbers);
  const missing = acked.filter((n) => !there.has(n));
  assert.deepEqual(missing, [], `${name}: acknowledged, and not kept`);
}

for (const store of LASTING) {
  const kills = store.name === "sqlite" ? KILLS : Math.ceil(KILLS / 2);
  for (const policy of [0, 1] as const) {
    Deno.test({
      name: `kill -9 under load, policy ${policy}, ${store.name}${store.reason}`,
      ignore: store.ignore,
      async fn() {
        await using place = await store.open();
        let lastTs = 0;
        const count = policy === 0 ? kills : Math.ceil(kills / 4);
        for (let life = 0; life < count; life++) {
          let killedUs = 0;
          const publishers = await live(place, policy, life, async (pushd) => {
            killedUs = Date.now() * 1000;
            await pushd.kill();
          });
          lastTs = await verify(place, publishers, lastTs, policy === 0 ? Infinity : killedUs);
        }
      },
    });
  }

  Deno.test({
    name:
      `SIGTERM under load keeps everything that was acknowledged, policy 1, ${store.name}${store.reason}`,
    ignore: store.ignore,
    async fn() {
      await using place = await store.open();
      const publishers = await live(place, 1, 0, async (pushd) => {
        assert.deepEqual(await pushd.stop(), { code: 0, signal: null });
      });
      await verify(place, publishers, 0, Infinity);
    },
  });
}

/**
 * Starts a server on the place and looks at what was kept after `lastTs`; what was acknowledged within
 * the last second before `killedUs` may be missing. Returns the newest timestamp.
 */
async function verify(
  place: StorePlace,
  publishers: readonly Publisher[],
  lastTs: number,
  killedUs: number,
): Promise<number> {
  await using pushd = await startPushd({ config: place.config });
  using client = await Client.connect(pushd.port);
  let newest = lastTs;
  for (const channel of CHANNELS) {
    const kept = await readHistory(client, channel, lastTs + 1);
    const stamps = kept.map(({ ts }) => ts);
    assert.equal(new Set(stamps).size, stamps.length, "a timestamp twice");
    newest = Math.max(newest, ...stamps.slice(-1));
    for (const publisher of publishers) {
      if (publisher.channel !== channel) continue;
      const due = publisher.acked.filter(({ ts }) => ts < killedUs - MAX_LOSS_US);
      check(publisher, kept, due.map(({ n }) => n));
    }
  }
  const [, next] = await client.ask("pub c next", /^PUBLISHED (\d{16})$/);
  assert.ok(Number(next) > newest, "the clock went back");
  return Number(next);
}
