// SIGUSR2, the lame duck: nobody new gets in, and those who are there are sent away little by little.

import assert from "node:assert/strict";
import { Client, errorLine, type Pushd, startPushd } from "./harness.ts";
import { readHistory } from "./history_reader.ts";
import { readiness } from "./readiness.ts";
import { LASTING } from "./stores.ts";

const PUBLISHED = /^PUBLISHED (\d{16})$/;
const RECONNECT = /^RECONNECT ([1-9]\d*)$/;
const LAST = errorLine("shutting-down");
const CLIENTS = 1000;
/** So many connect at a time. */
const AT_ONCE = 100;
/** Each of so many publishes once it has been told to leave. */
const PUBLISHING = 10;
const DRAIN_MS = 3000;
/** What the end may take beyond `drain_timeout`, ms. */
const SLACK_MS = 2000;

async function connect(pushd: Pushd, count: number): Promise<Client[]> {
  const clients: Client[] = [];
  while (clients.length < count) {
    const some = Math.min(AT_ONCE, count - clients.length);
    clients.push(
      ...await Promise.all(Array.from({ length: some }, () => Client.connect(pushd.port))),
    );
  }
  // It has them all.
  await Promise.all(clients.map((client) => client.ask("ping", "PONG")));
  return clients;
}

/** How one client was sent away; times in ms since the signal. */
interface Leave {
  toldMs: number;
  /** After which it is to come back, ms. */
  reconnectMs: number;
  closedMs: number;
}

/** Goes along with being sent away; between the two lines `meanwhile` may ask for something. */
async function leave(
  client: Client,
  startMs: number,
  meanwhile: () => Promise<void> = () => Promise.resolve(),
): Promise<Leave> {
  const [, ms] = await client.expect(RECONNECT);
  const toldMs = performance.now() - startMs;
  await meanwhile();
  // Not another RECONNECT.
  await client.expect(LAST);
  const closedMs = performance.now() - startMs;
  await client.eof();
  client.close();
  return { toldMs, reconnectMs: Number(ms), closedMs };
}

/** Of five parts of the time between the first and the last, each holds roughly a fifth. */
function assertEven(what: string, times: readonly number[], leastMs: number): void {
  const first = Math.min(...times);
  const lengthMs = Math.max(...times) - first;
  assert.ok(lengthMs >= leastMs, `${what}: all within ${lengthMs} ms`);
  const parts = [0, 0, 0, 0, 0];
  for (const ms of times) parts[Math.min(4, Math.floor((ms - first) / lengthMs * 5))]++;
  for (const count of parts) {
    const part = count / times.length;
    assert.ok(part >= 0.1 && part <= 0.3, `${what} in five parts of the time: ${parts}`);
  }
}

async function assertRefused({ port }: Pushd): Promise<void> {
  const connecting = Deno.connect({ hostname: "127.0.0.1", port }).then((conn) => conn.close());
  await assert.rejects(connecting, Deno.errors.ConnectionRefused);
}

Deno.test(`SIGUSR2 with ${CLIENTS} clients: they leave evenly, and late messages are kept`, async () => {
  await using place = await LASTING[0].open();
  await using pushd = await startPushd({
    config: { ...place.config, drain_timeout: `${DRAIN_MS}ms` },
  });
  const clients = await connect(pushd, CLIENTS);
  assert.equal((await readiness(pushd)).status, 200);
  const late: { ts: number; msg: string }[] = [];
  const publish = async (client: Client, msg: string) => {
    const [, ts] = await client.ask(`pub c ${msg}`, PUBLISHED);
    late.push({ ts: Number(ts), msg });
  };

  const startMs = performance.now();
  pushd.signal("SIGUSR2");
  const { promise: firstIsTold, resolve: told } = Promise.withResolvers<void>();
  const leaving = Promise.all(clients.map((client, i) =>
    leave(client, startMs, async () => {
      told();
      if (i % PUBLISHING === 0) await publish(client, `late${i}`);
    })
  ));
  // Whoever is told first finds the doors closed, and what watches the server knows.
  await Promise.race([firstIsTold, leaving]);
  await assertRefused(pushd);
  const { status, text } = await readiness(pushd);
  assert.deepEqual([status, JSON.parse(text)], [503, { ready: false, failing: ["draining"] }]);
  // It is leaving already: this changes nothing.
  pushd.signal("SIGUSR2");

  const leaves = await leaving;
  assert.deepEqual(await pushd.ended(), { code: 0, signal: null });
  const endMs = performance.now() - startMs;
  assert.ok(endMs < DRAIN_MS + SLACK_MS, `it took ${endMs} ms`);
  assert.equal(pushd.log().split(" lame duck: ").length, 2);
  assert.equal(pushd.stderr, "");

  assertEven("RECONNECT", leaves.map(({ toldMs }) => toldMs), DRAIN_MS / 2);
  assertEven("the end", leaves.map(({ closedMs }) => closedMs), DRAIN_MS / 2);
  assertEven("the time to come back", leaves.map((l) => l.toldMs + l.reconnectMs), DRAIN_MS / 2);
  for (const { toldMs, closedMs, reconnectMs } of leaves) {
    assert.ok(closedMs > toldMs + 50, "no time to finish anything");
    const backMs = toldMs + reconnectMs;
    assert.ok(backMs >= endMs, `told to come back after ${backMs} ms`);
    assert.ok(backMs < 3 * DRAIN_MS + SLACK_MS, `told to come back after ${backMs} ms only`);
  }

  assert.equal(late.length, CLIENTS / PUBLISHING);
  await using again = await startPushd({ config: place.config });
  using client = await Client.connect(again.port);
  const kept = (await readHistory(client, "c")).map(({ ts, msg }) => ({ ts, msg }));
  assert.deepEqual(kept, late.sort((a, b) => a.ts - b.ts));
});

Deno.test("SIGUSR2 with nobody there ends the server at once", async () => {
  await using pushd = await startPushd({ config: { drain_timeout: "1m" } });
  // Once it has served somebody it is ready for signals, too.
  const [visitor] = await connect(pushd, 1);
  visitor.close();
  await pushd.untilStat("connections", 0);
  const startMs = performance.now();
  pushd.signal("SIGUSR2");
  assert.deepEqual(await pushd.ended(), { code: 0, signal: null });
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs < 1000, `it took ${tookMs} ms`);
});

Deno.test("SIGUSR2: once the last has left by itself, the server does not wait for the time to pass", async () => {
  await using pushd = await startPushd({ config: { drain_timeout: "1m" } });
  const clients = await connect(pushd, 3);
  pushd.signal("SIGUSR2");
  await pushd.waitForLog(/ lame duck: /);
  const startMs = performance.now();
  for (const client of clients) client.close();
  assert.deepEqual(await pushd.ended(), { code: 0, signal: null });
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs < 1000, `it took ${tookMs} ms`);
});

Deno.test("SIGTERM while clients are sent away one by one: the rest goes at once", async () => {
  await using pushd = await startPushd({ config: { drain_timeout: "1m" } });
  const clients = await connect(pushd, 50);
  const { promise: firstIsTold, resolve: told } = Promise.withResolvers<void>();
  let count = 0;
  const leaving = Promise.all(clients.map(async (client) => {
    const line = await client.line();
    if (RECONNECT.test(line)) {
      count++;
      told();
      await client.expect(LAST);
    } else if (!LAST.test(line)) client.fail("this is not how a server leaves");
    await client.eof();
    client.close();
  }));
  pushd.signal("SIGUSR2");
  await Promise.race([firstIsTold, leaving]);
  const startMs = performance.now();
  pushd.signal("SIGTERM");
  await leaving;
  assert.deepEqual(await pushd.ended(), { code: 0, signal: null });
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs < 1000, `it took ${tookMs} ms`);
  assert.ok(count < clients.length / 2, `${count} had been told: it was over anyway`);
});

Deno.test("SIGUSR2 beside one who does not read and one who does not close: exit 0 in time", async () => {
  const drainMs = 1000;
  await using pushd = await startPushd({ config: { drain_timeout: `${drainMs}ms` } });
  const [stopped, publisher, open] = await connect(pushd, 3);
  await stopped.ask("sub c", "SUBSCRIBED c");
  // More than fits into the sockets' buffers.
  for (let i = 0; i < 120; i++) await publisher.ask(`pub c ${"m".repeat(60_000)}`, PUBLISHED);
  const startMs = performance.now();
  pushd.signal("SIGUSR2");
  await leave(publisher, startMs);
  await open.expect(RECONNECT);
  await open.expect(LAST);
  await open.eof();
  assert.deepEqual(await pushd.ended(), { code: 0, signal: null });
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs >= drainMs, `${tookMs} ms: nobody was waited for`);
  assert.ok(tookMs < drainMs + SLACK_MS, `it took ${tookMs} ms`);
  for (const client of [stopped, open]) client.close();
});
