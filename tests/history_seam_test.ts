// Subscribers that come with a timestamp while publishers run flat out: everything after it, once, in order.

import assert from "node:assert/strict";
import { Client, startPushd } from "./harness.ts";
import { Publisher } from "./publisher.ts";
import { STORES } from "./stores.ts";

const SUBSCRIBERS = 50;
const PUBLISHERS = 4;
const LOAD_MS = 2500;
/** This process reads for all of them and falls behind; who is cut off for that is asked elsewhere. */
const PATIENCE = { max_pending_bytes: "1GiB", write_timeout: "60s" };

interface Follower {
  afterTs: number;
  count: number;
  form: "text" | "json";
  /** Timestamps received, in order. */
  got: number[];
}

/** Subscribes from a timestamp and reads until the message `end`. */
async function follow(port: number, afterTs: number, form: "text" | "json"): Promise<Follower> {
  using client = await Client.connect(port);
  client.patienceMs = 60_000;
  if (form === "json") await client.ask("hello 1 json", /^HELLO 1 /);
  const [, count] = await client.ask(`sub c ${afterTs}`, /^SUBSCRIBED c (\d+)$/);
  const got: number[] = [];
  while (true) {
    const line = await client.line();
    const { ts, msg } = form === "text"
      ? textMessage(line)
      : JSON.parse(line.slice("EVENT ".length));
    if (msg === "end") return { afterTs, count: Number(count), form, got };
    got.push(Number(ts));
  }
}

function textMessage(line: string): { ts: string; msg: string } {
  const [verb, channel, ts, msg] = line.split(" ");
  assert.deepEqual([verb, channel], ["MESSAGE", "c"], line);
  return { ts, msg };
}

for (const store of STORES) {
  // A small cache, so that the store is read up to the last moment; memory has nothing else.
  const cache = store.name === "memory" ? {} : { max_cache_msgs_every_channel: 500 };
  // What FerretDB takes; the others are to be pressed.
  const window = store.name === "mongodb" ? 4 : 500;
  Deno.test({
    name:
      `${SUBSCRIBERS} subscribers join the past of a channel in full flow, ${store.name}${store.reason}`,
    ignore: store.ignore,
    async fn() {
      await using place = await store.open();
      await using pushd = await startPushd({ config: { ...place.config, ...cache, ...PATIENCE } });
      using control = await Client.connect(pushd.port);
      await control.ask("pub c begin", /^PUBLISHED/);
      const publishers = await Promise.all(
        Array.from(
          { length: PUBLISHERS },
          (_, i) => Publisher.start(pushd.port, "c", `p${i}`, { window }),
        ),
      );
      const acked = () => publishers.flatMap((publisher) => publisher.acked);
      const followers = Array.from({ length: SUBSCRIBERS }, async (_, i) => {
        const { promise, resolve } = Promise.withResolvers<void>();
        // A moment of the load that is different each time.
        setTimeout(resolve, Math.random() * LOAD_MS);
        await promise;
        const known = acked();
        const place = i % 5;
        const afterTs = place === 0 || known.length === 0
          ? 0
          : known[Math.floor((place === 1 ? 1 : Math.random()) * (known.length - 1))].ts;
        return await follow(pushd.port, afterTs, i % 2 === 0 ? "text" : "json");
      });
      const { promise, resolve } = Promise.withResolvers<void>();
      setTimeout(resolve, LOAD_MS);
      await promise;
      for (const publisher of publishers) publisher.stop();
      await Promise.all(publishers.map(({ done }) => done));
      for (const { refused, acked, sent } of publishers) {
        assert.deepEqual(refused, []);
        assert.equal(acked.length, sent);
      }
      await control.ask("pub c end", /^PUBLISHED/);
      const all = acked().map(({ ts }) => ts).sort((a, b) => a - b);
      assert.equal(new Set(all).size, all.length);
      for (const { afterTs, count, got } of await Promise.all(followers)) {
        // From 0 on there is the first message of all, too.
        const due = all.filter((ts) => ts > afterTs);
        const received = afterTs === 0 ? got.slice(1) : got;
        assert.equal(received.length, due.length, `after ${afterTs}`);
        assert.ok(
          received.every((ts, k) => ts === due[k]),
          `after ${afterTs}: lost, twice or out of order`,
        );
        assert.ok(count <= got.length + 1);
      }
    },
  });
}
