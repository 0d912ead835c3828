// History by the wire protocol: his and its pages, sub from a timestamp, PARTIAL, and none at all.

import assert from "node:assert/strict";
import { Client, errorLine, startPushd } from "./harness.ts";

interface Kept {
  channel: string;
  msg: string;
  ts: number;
}

/** Publishes the messages and returns their timestamps. */
async function publish(client: Client, channel: string, messages: string[]): Promise<number[]> {
  await client.send(messages.map((message) => `pub ${channel} ${message}\n`).join(""));
  const lines = await client.lines(messages.length);
  return lines.map((line) => Number(/^PUBLISHED (\d{16})$/.exec(line)?.[1]));
}

/** `his` with these arguments behind the channel. */
async function his(
  client: Client,
  channel: string,
  words: string,
): Promise<{ partial: boolean; kept: Kept[] }> {
  const pattern = new RegExp(`^HISTORY ${channel} (PARTIAL )?(\\[.*\\])$`);
  const [, partial, json] = await client.ask(`his ${channel} ${words}`, pattern);
  return { partial: partial !== undefined, kept: JSON.parse(json) };
}

function numbers(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${i}`);
}

Deno.test("his reads from a timestamp on, page by page", async () => {
  await using pushd = await startPushd();
  using client = await Client.connect(pushd.port);
  const times = await publish(client, "c", numbers(2500));

  const first = await his(client, "c", "0");
  assert.equal(first.kept.length, 1000, "the limit when none is given");
  assert.equal((await his(client, "c", "0 10000")).kept.length, 2500);
  assert.equal((await his(client, "c", "0 1")).kept.length, 1);

  const all: Kept[] = [];
  for (let from = 0;;) {
    const { kept, partial } = await his(client, "c", `${from} 700`);
    assert.equal(partial, false);
    if (kept.length === 0) break;
    all.push(...kept);
    from = kept[kept.length - 1].ts + 1;
  }
  assert.deepEqual(all.map(({ msg }) => msg), numbers(2500));
  assert.deepEqual(all.map(({ ts }) => ts), times);

  // At or after the timestamp.
  const middle = times[1200];
  assert.equal((await his(client, "c", `${middle}`)).kept[0].ts, middle);
  assert.equal((await his(client, "c", `${middle + 1}`)).kept[0].ts, times[1201]);
  assert.deepEqual((await his(client, "c", `${times[2499] + 1}`)).kept, []);
});

Deno.test("a page is about 4 MiB at most, and all of it can be read", async () => {
  await using pushd = await startPushd();
  using client = await Client.connect(pushd.port);
  const text = "m".repeat(60_000);
  await publish(client, "c", Array.from({ length: 200 }, (_, i) => `${i} ${text}`));
  const all: string[] = [];
  let pages = 0;
  for (let from = 0;; pages++) {
    const line = await client.reply(`his c ${from} 10000`);
    assert.ok(line.length < 4.5 * 1024 * 1024, `a page of ${line.length} characters`);
    const kept: Kept[] = JSON.parse(line.slice("HISTORY c ".length));
    if (kept.length === 0) break;
    all.push(...kept.map(({ msg }) => msg));
    from = kept[kept.length - 1].ts + 1;
  }
  assert.ok(pages >= 3 && pages <= 8, `${pages} pages`);
  assert.deepEqual(all, Array.from({ length: 200 }, (_, i) => `${i} ${text}`));
});

Deno.test("a timestamp's unit is read from its magnitude", async () => {
  await using pushd = await startPushd();
  using client = await Client.connect(pushd.port);
  const [ts] = await publish(client, "c", ["x"]);
  const cases: [string | number, number][] = [
    [ts, 1],
    [`000${ts}`, 1],
    [ts + 1, 0],
    // Nanoseconds, rounded up.
    [`${ts}000`, 1],
    [`${ts}001`, 0],
    [`${ts - 1}001`, 1],
    // Milliseconds and seconds.
    [Math.floor(ts / 1000), 1],
    [Math.floor(ts / 1000) + 1, 0],
    [Math.floor(ts / 1_000_000), 1],
    [Math.floor(ts / 1_000_000) + 1, 0],
    // Far ahead.
    ["99999999999", 0],
    ["99999999999999", 0],
    ["99999999999999999", 0],
    ["9999999999999999999", 0],
    ["0", 1],
    ["000", 1],
  ];
  for (const [from, count] of cases) {
    assert.equal((await his(client, "c", `${from}`)).kept.length, count, `his c ${from}`);
  }
});

Deno.test("sub from a timestamp: what is kept after it, then the live ones", async () => {
  await using pushd = await startPushd();
  using publisher = await Client.connect(pushd.port);
  using client = await Client.connect(pushd.port);
  const times = await publish(publisher, "c", ["0", "1", "2"]);

  await client.ask(`sub c ${times[0]}`, "SUBSCRIBED c 2");
  assert.deepEqual(await client.lines(2), [
    `MESSAGE c ${times[1]} 1`,
    `MESSAGE c ${times[2]} 2`,
  ]);
  await client.ask("sub c 0", "ALREADY SUBSCRIBED c");
  await client.ask("sub c", "ALREADY SUBSCRIBED c");
  const [live] = await publish(publisher, "c", ["live"]);
  await client.expect(`MESSAGE c ${live} live`);
  await client.ask("unsub c", "UNSUBSCRIBED c");

  await client.ask(`sub c ${live}`, "SUBSCRIBED c 0");
  await client.ask("unsub c", "UNSUBSCRIBED c");
  await client.ask("sub c 0", "SUBSCRIBED c 4");
  assert.equal((await client.lines(4))[0], `MESSAGE c ${times[0]} 0`);
  await client.ask("sub nobody 0", "SUBSCRIBED nobody 0");

  // From a moment in the future: live ones all the same.
  await client.ask("sub later 99999999999999999", "SUBSCRIBED later 0");
  const [later] = await publish(publisher, "later", ["now"]);
  await client.expect(`MESSAGE later ${later} now`);
});

Deno.test("where history turns live nothing is lost and nothing comes twice", async () => {
  await using pushd = await startPushd({ config: { max_cache_msgs_every_channel: 1_000_000 } });
  using publisher = await Client.connect(pushd.port);
  const total = 20_000;
  const started = await publish(publisher, "c", numbers(500));
  const publishing = (async () => {
    for (let at = 500; at < total; at += 500) {
      await publish(publisher, "c", Array.from({ length: 500 }, (_, i) => `${at + i}`));
    }
  })();
  await Promise.all([0, 1, 2, 3, 4, 5, 6, 7].map(async (who) => {
    using client = await Client.connect(pushd.port);
    if (who % 2 === 1) await client.ask("hello 1 json", /^HELLO /);
    const from = started[who * 60];
    const [, count] = await client.ask(`sub c ${from}`, /^SUBSCRIBED c (\d+)$/);
    assert.ok(Number(count) >= 500 - who * 60 - 1);
    let last = from;
    for (let i = who * 60 + 1; i < total; i++) {
      const line = await client.line();
      const [, ts, text] = who % 2 === 1
        ? /^EVENT .*"ts":(\d+).*"msg":"(\d+)"/.exec(line) ?? []
        : /^MESSAGE c (\d+) (\d+)$/.exec(line) ?? [];
      assert.equal(Number(text), i, line);
      assert.ok(Number(ts) > last);
      last = Number(ts);
    }
    await client.ask("ping", "PONG");
  }));
  await publishing;
});

Deno.test("PARTIAL says that messages after the timestamp may be gone", async () => {
  await using pushd = await startPushd({
    config: { msg_storage: "memory", max_cache_msgs_every_channel: 10 },
  });
  using client = await Client.connect(pushd.port);
  using subscriber = await Client.connect(pushd.port);
  const times: number[] = [];
  for (const message of numbers(25)) times.push(...await publish(client, "c", [message]));
  const newest = numbers(25).slice(15);

  for (
    const [from, partial] of [[times[5], true], [times[14], true], [times[15], false]] as const
  ) {
    const answer = await his(client, "c", `${from}`);
    assert.equal(answer.partial, partial, `his from ${times.indexOf(from)}`);
    assert.deepEqual(answer.kept.map(({ msg }) => msg), newest);
  }
  const beginning = await his(client, "c", "0");
  assert.equal(beginning.partial, false);
  assert.equal(beginning.kept.length, 10);

  const subs: [number, string][] = [
    [times[5], "10 PARTIAL"],
    [times[13], "10 PARTIAL"],
    [times[14], "10"],
    [times[20], "4"],
    [0, "10"],
  ];
  for (const [from, answer] of subs) {
    await subscriber.ask(`sub c ${from}`, `SUBSCRIBED c ${answer}`);
    const lines = await subscriber.lines(Number.parseInt(answer));
    assert.match(lines[lines.length - 1], / 24$/);
    await subscriber.ask("unsub c", "UNSUBSCRIBED c");
  }
  // A history in memory does not know what was before the server's start.
  assert.deepEqual(await his(client, "nothing", "1"), { partial: true, kept: [] });
  await subscriber.ask("sub nothing 1", "SUBSCRIBED nothing 0 PARTIAL");
});

Deno.test("PARTIAL where a whole channel was forgotten", async () => {
  await using pushd = await startPushd({
    config: { msg_storage: "memory", pubsub_channel_max_items: 5 },
  });
  using client = await Client.connect(pushd.port);
  const [ts] = await publish(client, "c0", ["x"]);
  for (const i of numbers(20)) await publish(client, `other${i}`, ["x"]);
  assert.deepEqual(await his(client, "c0", `${ts}`), { partial: true, kept: [] });
  assert.deepEqual(await his(client, "c0", "0"), { partial: false, kept: [] });
  assert.deepEqual(await his(client, "c0", `${ts + 10_000_000}`), { partial: false, kept: [] });
  assert.equal((await his(client, "other19", "0")).kept.length, 1);
});

Deno.test("without history: history-off, and nothing is subscribed by it", async () => {
  await using pushd = await startPushd({ config: { msg_storage: "" } });
  assert.match(pushd.log(), /history: off/);
  using client = await Client.connect(pushd.port);
  await client.ask("his c 0", errorLine("history-off"));
  await client.ask("sub c 0", errorLine("history-off"));
  await client.ask("unsub c", "NOT SUBSCRIBED c");
  await client.ask("his $c 0", errorLine("reserved-name"));
  const [, json] = await client.ask("hello 1", /^HELLO 1 (.*)$/);
  assert.ok(!JSON.parse(json).features.includes("history"));
  await client.ask("sub c", "SUBSCRIBED c");
  await client.send("pub c x\n");
  const lines = (await client.lines(2)).sort();
  assert.match(lines.join("\n"), /^MESSAGE c \d{16} x\nPUBLISHED \d{16}$/);
  // Nothing of it stays when nobody follows the channel.
  await client.ask("unsub c", "UNSUBSCRIBED c");
  await pushd.untilStat("pubsub_channel_count", 0);
});
