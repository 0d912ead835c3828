// Many connections, many bytes, and readers that do not read: what they get, and what it costs.

import assert from "node:assert/strict";
import { openFileLimit } from "../src/core/open_files.ts";
import { type FollowReport, LoadChild, type PingReport } from "./load_child.ts";
import { bytesOf, connectMany, LineClient, numberAt, startsAt } from "./load_client.ts";
import { LoadServer, pause, within } from "./load_server.ts";

const MiB = 2 ** 20;
/** Longest silence that other clients may see on a noisy machine of two cores, ms. */
const PATIENCE_MS = 500;
/**
 * How far a publisher runs before readers that must not be cut off: they are in the test's process,
 * which a busy machine may not run for longer than it takes to fill max_pending_bytes (8 MiB).
 */
const AHEAD_BYTES = 6 * MiB;

const MESSAGE = bytesOf("MESSAGE ");
const PUBLISHED = bytesOf("PUBLISHED ");
const SPACE = 0x20;

/**
 * Checks the messages of one channel as they come. Their text begins with a number that counts up
 * from 0, and a space.
 */
class Checker {
  /** The number that comes next. */
  next = 0;
  #head: Uint8Array;
  #lastTs = 0;

  constructor(channel: string) {
    this.#head = bytesOf(`MESSAGE ${channel} `);
  }

  /** Takes a MESSAGE line. Throws where it is not the next one. */
  take(bytes: Uint8Array, start: number, end: number): void {
    const at = start + this.#head.length;
    const number = numberAt(bytes, at + 17, Math.min(bytes.indexOf(SPACE, at + 17), end));
    if (!startsAt(bytes, start, this.#head) || number !== this.next) {
      const line = new TextDecoder().decode(bytes.subarray(start, Math.min(end, start + 100)));
      throw new Error(`message ${this.next} of its channel was expected, and not: ${line}`);
    }
    const ts = numberAt(bytes, at, at + 16);
    if (ts <= this.#lastTs) throw new Error(`timestamp ${ts} after ${this.#lastTs}`);
    this.#lastTs = ts;
    this.next++;
  }

  /** Reads messages until `count` of them have come; any other line is an error. */
  async read(client: LineClient, count: number): Promise<void> {
    const isOpen = this.next >= count || await client.eachLine((bytes, start, end) => {
      this.take(bytes, start, end);
      return this.next === count;
    });
    assert.ok(isOpen, `the server closed after ${this.next} of ${count} messages`);
  }
}

/** The lines of messages `from` to `to` of `size` bytes each. */
function publishLines(channel: string, from: number, to: number, size: number): string {
  let lines = "";
  for (let i = from; i < to; i++) lines += `pub ${channel} ${`${i} `.padEnd(size, "x")}\n`;
  return lines;
}

/**
 * Publishes messages 0 to `count`, pipelined, and awaits every reply; never further than
 * {@link AHEAD_BYTES} before what `reached` says.
 */
async function publishAll(
  publisher: LineClient,
  channel: string,
  count: number,
  size: number,
  reached: () => number = () => count,
): Promise<void> {
  const written = (async () => {
    const step = Math.max(1, Math.floor(256 * 1024 / size));
    for (let i = 0; i < count; i += step) {
      while ((i - reached()) * size > AHEAD_BYTES) await pause(1);
      await publisher.send(publishLines(channel, i, Math.min(count, i + step), size));
    }
  })();
  await Promise.all([written, readPublished(publisher, count)]);
}

async function readPublished(publisher: LineClient, count: number): Promise<void> {
  let published = 0;
  await publisher.eachLine((bytes, start, end) => {
    if (!startsAt(bytes, start, PUBLISHED)) {
      throw new Error(new TextDecoder().decode(bytes.subarray(start, end)));
    }
    return ++published === count;
  });
  assert.equal(published, count);
}

async function subscribed(port: number, channel: string): Promise<LineClient> {
  const client = await LineClient.connect(port);
  assert.equal(await client.ask(`sub ${channel}`), `SUBSCRIBED ${channel}`);
  return client;
}

function closeAll(clients: Iterable<LineClient>): void {
  for (const client of clients) client.close();
}

const { limit } = await openFileLimit();
const FILES = 12_000;
Deno.test({
  name: "10,000 subscribers and 100,000 messages: each arrives once and in order" +
    (limit < FILES ? ` (the open-file limit of ${limit} is below ${FILES})` : ""),
  ignore: limit < FILES,
  async fn() {
    const channels = 10_000;
    const publishers = 4;
    const messages = 100_000;
    await using server = await LoadServer.start();
    const clients = await connectMany(server.port, channels);
    await Promise.all(clients.map(async (client, i) => {
      assert.equal(await client.ask(`sub c${i}`), `SUBSCRIBED c${i}`);
    }));
    const stats = await server.stats();
    assert.equal(stats.connections, channels);
    assert.equal(stats.subscriptions, channels);

    // Each channel has one publisher, so that the order is known; each publisher has many channels.
    const each = messages / publishers;
    await Promise.all(Array.from({ length: publishers }, async (_, p) => {
      using publisher = await LineClient.connect(server.port);
      let lines = "";
      for (let k = 0; k < each; k++) {
        const at = k * publishers + p;
        lines += `pub c${at % channels} ${Math.floor(at / channels)} ${at}\n`;
      }
      await Promise.all([publisher.send(lines), readPublished(publisher, each)]);
    }));

    // Everything stands in the queues now; behind it comes the answer to this.
    await within(
      30_000,
      "every message",
      Promise.all(clients.map(async (client, i) => {
        const checker = new Checker(`c${i}`);
        await client.send("ping\n");
        await client.eachLine((bytes, start, end) => {
          if (!startsAt(bytes, start, MESSAGE)) return true;
          checker.take(bytes, start, end);
        });
        assert.equal(checker.next, messages / channels, `messages of c${i}`);
      })),
    );
    const after = await server.stats();
    assert.equal(after.published, messages);
    assert.equal(after.delivered, messages);
    assert.equal(after.slow_consumers, 0);
    closeAll(clients);
    await server.statsWhen("connections", 0);
  },
});

Deno.test("200 MB to a subscriber that never reads: it is cut off, and nobody else notices", async () => {
  const size = 16 * 1024;
  const count = Math.ceil(200_000_000 / size);
  await using server = await LoadServer.start({
    // What is kept is not what is measured here.
    config: { max_cache_msgs_every_channel: 100 },
  });
  const readers = await Promise.all(Array.from({ length: 4 }, () => subscribed(server.port, "c")));
  using stopped = await subscribed(server.port, "c");
  using publisher = await LineClient.connect(server.port);
  await using bystander = await LoadChild.start("ping", `${server.port}`);
  const before = server.rss();
  server.clearPeak();
  const checkers = readers.map(() => new Checker("c"));
  const reached = () => Math.min(...checkers.map(({ next }) => next));
  await within(
    60_000,
    "200 MB to be read",
    Promise.all([
      publishAll(publisher, "c", count, size, reached),
      ...readers.map((reader, i) => checkers[i].read(reader, count)),
    ]),
  );
  const grown = server.peakRss() - before;
  assert.ok(grown < 100 * MiB, `resident memory grew by ${grown} bytes`);
  assert.equal((await server.stats()).slow_consumers, 1);

  // Whole lines (an end in the middle of one is an error of eachLine), and the reason as the last.
  const seen = new Checker("c");
  let error = "";
  await stopped.eachLine((bytes, start, end) => {
    assert.equal(error, "", "a line behind the last one");
    if (startsAt(bytes, start, MESSAGE)) seen.take(bytes, start, end);
    else error = new TextDecoder().decode(bytes.subarray(start, end));
  });
  assert.match(error, /^ERROR slow-consumer /);
  assert.ok(seen.next < count, "it cannot have got everything");
  const { worstMs } = await bystander.report<PingReport>();
  assert.ok(worstMs < PATIENCE_MS, `a ping took ${worstMs} ms`);
  closeAll(readers);
});

Deno.test("cut off in the middle of a message of 8 MB: that is finished, then comes the reason", async () => {
  const size = 8_000_000;
  await using server = await LoadServer.start({
    config: { max_line_bytes: "8MiB", max_pending_bytes: "16MiB" },
  });
  using stopped = await subscribed(server.port, "c");
  using publisher = await LineClient.connect(server.port);
  await within(10_000, "40 MB to be taken", publishAll(publisher, "c", 5, size));
  assert.equal((await server.stats()).slow_consumers, 1);
  const lengths: number[] = [];
  let error = "";
  await stopped.eachLine((bytes, start, end) => {
    assert.equal(error, "", "a line behind the last one");
    if (startsAt(bytes, start, MESSAGE)) lengths.push(end - start);
    else error = new TextDecoder().decode(bytes.subarray(start, end));
  });
  const length = "MESSAGE c ".length + 16 + 1 + size;
  assert.deepEqual(lengths, lengths.map(() => length));
  assert.ok(lengths.length > 0 && lengths.length < 3, `${lengths.length} messages`);
  assert.match(error, /^ERROR slow-consumer /);
});

Deno.test("500 subscribers that do not read share the bytes of 7 MiB", async () => {
  const size = 16 * 1024;
  const count = 7 * MiB / size;
  await using server = await LoadServer.start();
  const clients = await connectMany(server.port, 500);
  await Promise.all(clients.map((client) => client.ask("sub c")));
  using publisher = await LineClient.connect(server.port);
  const before = server.rss();
  server.clearPeak();
  await within(30_000, "7 MiB to be taken", publishAll(publisher, "c", count, size));
  const grown = server.peakRss() - before;
  assert.ok(grown < 100 * MiB, `resident memory grew by ${grown} bytes`);
  assert.equal((await server.stats()).slow_consumers, 0);
  closeAll(clients);
  await server.statsWhen("connections", 1);
});

Deno.test("what a subscriber has read no longer counts: three bursts of 6 MiB", async () => {
  const size = 16 * 1024;
  const count = 6 * MiB / size;
  await using server = await LoadServer.start({ config: { write_timeout: "1s" } });
  using reader = await subscribed(server.port, "c");
  using publisher = await LineClient.connect(server.port);
  for (let burst = 0; burst < 3; burst++) {
    const checker = new Checker("c");
    await publishAll(publisher, "c", count, size);
    await within(10_000, "a burst of 6 MiB", checker.read(reader, count));
    // Longer than a write may take.
    if (burst === 1) await pause(1300);
  }
  assert.equal(await reader.ask("ping"), "PONG");
  assert.equal((await server.stats()).slow_consumers, 0);
});

Deno.test("a stopped subscriber among 100 is cut off, and the others see no gap", async () => {
  const size = 20_000;
  await using server = await LoadServer.start({
    config: { max_pending_bytes: "512KiB" },
  });
  const others = await Promise.all(Array.from({ length: 99 }, () => subscribed(server.port, "c")));
  await using stopped = await LoadChild.start("follow", `${server.port}`, "c");
  using publisher = await LineClient.connect(server.port);
  let worstMs = 0;
  const reading = others.map(async (client) => {
    const checker = new Checker("c");
    let lastMs = performance.now();
    await client.eachLine((bytes, start, end) => {
      checker.take(bytes, start, end);
      worstMs = Math.max(worstMs, performance.now() - lastMs);
      lastMs = performance.now();
      return bytes[end - 1] === 0x2e;
    });
    return checker.next;
  });
  stopped.kill("SIGSTOP");
  let count = 0;
  for (let isCut = false; !isCut && count < 1000; count++) {
    await publisher.send(publishLines("c", count, count + 1, size));
    await readPublished(publisher, 1);
    await pause(20);
    isCut = count % 25 === 0 && (await server.stats()).slow_consumers === 1;
  }
  await publisher.send(`pub c ${count} .\n`);
  assert.deepEqual(
    await within(10_000, "the others", Promise.all(reading)),
    others.map(() => count + 1),
  );
  assert.ok(worstMs < PATIENCE_MS, `nothing came for ${worstMs} ms`);
  assert.equal((await server.stats()).slow_consumers, 1);
  stopped.kill("SIGCONT");
  const { numbers, others: lines, fault } = await stopped.report<FollowReport>();
  assert.deepEqual(numbers, numbers.map((_, i) => i));
  assert.ok(numbers.length < count, "it cannot have got everything");
  assert.equal(lines.length, 1);
  assert.match(lines[0], /^ERROR slow-consumer /);
  assert.equal(fault, null);
  closeAll(others);
});

Deno.test("40 MiB of history to a reader of about 15 MiB/s: all of it, and nobody else waits", async () => {
  const size = 16 * 1024;
  const count = 40 * MiB / size;
  await using server = await LoadServer.start({
    config: { max_cache_msgs_every_channel: 100_000 },
  });
  using publisher = await LineClient.connect(server.port);
  await publishAll(publisher, "c", count, size);
  await using bystander = await LoadChild.start("ping", `${server.port}`);
  using reader = await LineClient.connect(server.port);
  assert.equal(await reader.ask("sub c 0"), `SUBSCRIBED c ${count}`);
  const checker = new Checker("c");
  const startMs = performance.now();
  for (let upTo = 64; checker.next < count; upTo += 64) {
    await checker.read(reader, Math.min(upTo, count));
    await pause(startMs + checker.next * size / (15 * MiB / 1000) - performance.now());
  }
  assert.equal(await reader.ask("ping"), "PONG");
  assert.equal((await server.stats()).slow_consumers, 0);
  const { worstMs, count: pings } = await bystander.report<PingReport>();
  assert.ok(pings > 50 && worstMs < PATIENCE_MS, `of ${pings} pings one took ${worstMs} ms`);
});

Deno.test("subscribers that join with a timestamp while messages come: none lost, none twice", async () => {
  const count = 20_000;
  await using server = await LoadServer.start({
    config: { max_cache_msgs_every_channel: count },
  });
  using publisher = await LineClient.connect(server.port);
  let published = 0;
  const publishing = (async () => {
    while (published < count) {
      const step = Math.min(1 + published % 97, count - published);
      await publisher.send(publishLines("c", published, published + step, 60 + published % 200));
      await readPublished(publisher, step);
      published += step;
    }
  })();
  const joining: Promise<void>[] = [];
  // One after the other, as soon as the one before is being served: at whatever moment that is.
  while (published < count - 500) {
    const client = await LineClient.connect(server.port);
    joining.push((async () => {
      using _ = client;
      const answer = await client.ask("sub c 0");
      assert.match(answer ?? "closed", /^SUBSCRIBED c \d+$/);
      await new Checker("c").read(client, count);
      assert.equal(await client.ask("ping"), "PONG");
    })());
    if (joining.length >= 300) break;
    await pause(joining.length % 5);
  }
  await within(30_000, "all subscribers", Promise.all([publishing, ...joining]));
  assert.ok(joining.length > 20, `only ${joining.length} subscribers joined in time`);

  // One that leaves and comes back with its last timestamp.
  using again = await LineClient.connect(server.port);
  let ts = "0";
  for (let next = 0, steps = 0; next < count; steps++) {
    assert.match(await again.ask(`sub c ${ts}`) ?? "closed", /^SUBSCRIBED c \d+$/);
    const until = Math.min(count, next + 1 + steps * 37 % 1500);
    while (next < until) {
      const [word, , at, number] = (await again.line() ?? "closed").split(" ");
      assert.equal(`${word} ${number}`, `MESSAGE ${next}`);
      ts = at;
      next++;
    }
    await again.send("unsub c\n");
    while (await again.line() !== "UNSUBSCRIBED c");
  }
});
