// History on a disk that is full, fails, or is slow: what was acknowledged is kept, and nothing else is shown.

import assert from "node:assert/strict";
import { Client, errorLine, type Pushd, startPushd, within } from "./harness.ts";
import { readHistory } from "./history_reader.ts";
import { untilReady, untilUnready } from "./readiness.ts";
import { requireTool } from "./require.ts";
import { Strace, syncs } from "./strace.ts";

const PUBLISHED = /^PUBLISHED (\d{16})$/;
/** The only error after which something has happened. */
const NOT_STORED = /^ERROR storage-unavailable (\d{16}) delivered but not stored\b/;
const REFUSED = /^ERROR storage-unavailable (?!\d{16} )\S.*$/;

const MIB = 2 ** 20;
const DISK_MIB = 8;

/** A small disk; null where the system does not let us mount one. */
async function mountSmall(): Promise<string | null> {
  const folder = await Deno.makeTempDir({ prefix: "pushd-disk-" });
  const args = ["-t", "tmpfs", "-o", `size=${DISK_MIB}m`, "tmpfs", folder];
  const mounted = await new Deno.Command("mount", { args, stderr: "null" }).output()
    .then(({ success }) => success, () => false);
  if (mounted) return folder;
  await Deno.remove(folder);
  return null;
}

async function unmount(folder: string): Promise<void> {
  const { success, stderr } = await new Deno.Command("umount", { args: [folder] }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  await Deno.remove(folder);
}

async function canMount(): Promise<boolean> {
  const folder = await mountSmall();
  if (folder !== null) await unmount(folder);
  return folder !== null;
}

/** Takes every byte that is left. */
async function fill(file: string): Promise<void> {
  using to = await Deno.open(file, { create: true, append: true });
  for (let size = MIB; size >= 1;) {
    try {
      await to.write(new Uint8Array(size));
    } catch {
      size = Math.floor(size / 4);
    }
  }
}

async function messagesOf(pushd: Pushd, fromTs = 0): Promise<string[]> {
  using client = await Client.connect(pushd.port);
  return (await readHistory(client, "c", fromTs)).map(({ ts, msg }) => `${ts} ${msg}`);
}

/** What is in memory while the store is down: memory does not know that there is nothing before it. */
function cachedOf(pushd: Pushd, kept: readonly string[]): Promise<string[]> {
  return messagesOf(pushd, Number(kept[0].split(" ", 1)[0]));
}

/** The lines that a client has got by now. */
async function linesUntilPong(client: Client): Promise<string[]> {
  await client.send("ping\n");
  const lines: string[] = [];
  for (let line = await client.line(); line !== "PONG"; line = await client.line()) {
    lines.push(line);
  }
  return lines;
}

const mounts = await canMount();
Deno.test({
  name: `the disk fills, and has space again${mounts ? "" : " (no tmpfs can be mounted)"}`,
  ignore: !mounts,
  async fn() {
    const disk = await mountSmall();
    assert.ok(disk !== null);
    const config = { msg_storage: "sqlite", sqlite: { path: `${disk}/pushd.db` } };
    try {
      const kept: string[] = [];
      {
        await using pushd = await startPushd({ config });
        using client = await Client.connect(pushd.port);
        using follower = await Client.connect(pushd.port);
        await follower.ask("sub c", "SUBSCRIBED c");
        const text = "x".repeat(20_000);
        let refusedTs: string | undefined;
        let count = 0;
        for (; refusedTs === undefined; count++) {
          // Half of it is the server's own doing.
          if (count === 100) await fill(`${disk}/filler`);
          const message = `${count} ${text}`;
          const reply = await client.reply(`pub c ${message}`);
          const ts = PUBLISHED.exec(reply)?.[1];
          if (ts !== undefined) kept.push(`${ts} ${message}`);
          else refusedTs = NOT_STORED.exec(reply)?.[1] ?? client.fail("it should say: delivered");
          const [, got] = await follower.expect(/^MESSAGE c (\d{16}) /);
          assert.equal(got, ts ?? refusedTs);
        }
        // What another try to open it gave back.
        await fill(`${disk}/filler`);
        await client.ask("pub c undelivered", REFUSED);
        assert.deepEqual(await linesUntilPong(follower), []);
        const { status, text: body } = await untilUnready(pushd);
        assert.equal(status, 503);
        assert.match(body, /storage/);
        assert.deepEqual(await cachedOf(pushd, kept), kept, "while the disk is full");

        await Deno.remove(`${disk}/filler`);
        const freedMs = performance.now();
        await untilReady(pushd);
        assert.ok(performance.now() - freedMs < 5000);
        const [, ts] = await client.ask("pub c after", PUBLISHED);
        await follower.expect(`MESSAGE c ${ts} after`);
        kept.push(`${ts} after`);
        assert.deepEqual(await messagesOf(pushd), kept, "with space again");
      }
      await using pushd = await startPushd({ config });
      assert.deepEqual(await messagesOf(pushd), kept, "after a restart");
    } finally {
      await unmount(disk);
    }
  },
});

/** A server whose database outlives it. */
class Place implements AsyncDisposable {
  private constructor(readonly folder: string) {}

  static async make(): Promise<Place> {
    return new Place(await Deno.makeTempDir({ prefix: "pushd-faults-" }));
  }

  get path(): string {
    return `${this.folder}/pushd.db`;
  }

  start(config: Record<string, unknown> = {}): Promise<Pushd> {
    return startPushd({
      config: { msg_storage: "sqlite", sqlite: { path: this.path }, ...config },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.folder, { recursive: true });
  }
}

const strace = requireTool("strace");
const test = (name: string, fn: () => Promise<void>) =>
  Deno.test({ name: `${name}${strace.reason}`, ignore: strace.ignore, fn });

test("the third fsync fails: that batch is not kept, and the next ones are", async () => {
  await using place = await Place.make();
  const kept: string[] = [];
  {
    await using pushd = await place.start();
    using client = await Client.connect(pushd.port);
    using follower = await Client.connect(pushd.port);
    await follower.ask("sub c", "SUBSCRIBED c");
    await using trace = await Strace.attach(pushd.pid, ...syncs(place.path, "error=EIO:when=3"));
    for (const message of ["one", "two"]) {
      const [, ts] = await client.ask(`pub c ${message}`, PUBLISHED);
      kept.push(`${ts} ${message}`);
      await follower.expect(`MESSAGE c ${ts} ${message}`);
    }
    await client.send("pub c bad-0\npub c bad-1\npub c bad-2\n");
    for (let i = 0; i < 3; i++) {
      const [, ts] = await client.expect(NOT_STORED);
      await follower.expect(`MESSAGE c ${ts} bad-${i}`);
    }
    assert.deepEqual(await cachedOf(pushd, kept), kept, "after the failure");
    await pushd.waitForLog(/INFO .* works again/);
    const [, ts] = await client.ask("pub c good", PUBLISHED);
    kept.push(`${ts} good`);
    assert.deepEqual(await messagesOf(pushd), kept, "when it works again");
    await trace.detach();
    assert.match(trace.text, /= -1 EIO .*INJECTED/);
    await pushd.kill();
  }
  await using pushd = await place.start();
  assert.deepEqual(await messagesOf(pushd), kept, "after a restart");
});

test("every fsync fails for a while", async () => {
  await using place = await Place.make();
  const kept: string[] = [];
  {
    await using pushd = await place.start();
    using client = await Client.connect(pushd.port);
    using follower = await Client.connect(pushd.port);
    await follower.ask("sub c", "SUBSCRIBED c");
    {
      await using trace = await Strace.attach(pushd.pid, ...syncs(place.path, "error=EIO:when=2+"));
      const [, ts] = await client.ask("pub c one", PUBLISHED);
      kept.push(`${ts} one`);
      await follower.expect(`MESSAGE c ${ts} one`);
      const [, badTs] = await client.ask("pub c bad", NOT_STORED);
      await follower.expect(`MESSAGE c ${badTs} bad`);
      await client.ask("pub c undelivered", REFUSED);
      const { status, text } = await untilUnready(pushd);
      assert.equal(status, 503);
      assert.match(text, /storage/);
      // It is tried meanwhile, and fails.
      await trace.waitFor(/(?:INJECTED[^]*){3}/);
      await client.ask("pub c undelivered", REFUSED);
      assert.deepEqual(await linesUntilPong(follower), []);
      assert.deepEqual(await cachedOf(pushd, kept), kept, "while it fails");
    }
    await untilReady(pushd);
    const [, ts] = await client.ask("pub c good", PUBLISHED);
    kept.push(`${ts} good`);
    assert.deepEqual(await messagesOf(pushd), kept, "when it works again");
    await pushd.kill();
  }
  await using pushd = await place.start();
  assert.deepEqual(await messagesOf(pushd), kept, "after a restart");
});

test("an fsync fails, and the server is stopped before it has tried again", async () => {
  await using place = await Place.make();
  const kept: string[] = [];
  {
    await using pushd = await place.start();
    using client = await Client.connect(pushd.port);
    await using trace = await Strace.attach(pushd.pid, ...syncs(place.path, "error=EIO:when=2"));
    const [, ts] = await client.ask("pub c good", PUBLISHED);
    kept.push(`${ts} good`);
    await client.ask("pub c bad", NOT_STORED);
    pushd.signal("SIGTERM");
    client.close();
    assert.deepEqual(await pushd.ended(), { code: 0, signal: null });
    assert.match(trace.text, /INJECTED/);
  }
  await using pushd = await place.start();
  assert.deepEqual(await messagesOf(pushd), kept);
});

for (const probes of [0, 2]) {
  test(`every fsync fails, and the server is killed after ${probes} attempts to open`, async () => {
    await using place = await Place.make();
    const kept: string[] = [];
    {
      await using pushd = await place.start();
      using client = await Client.connect(pushd.port);
      await using trace = await Strace.attach(pushd.pid, ...syncs(place.path, "error=EIO:when=2+"));
      const [, ts] = await client.ask("pub c good", PUBLISHED);
      kept.push(`${ts} good`);
      // Larger than what is written over it.
      await client.ask(`pub c bad${"x".repeat(20_000)}`, NOT_STORED);
      await trace.waitFor(new RegExp(`(?:INJECTED[^]*){${1 + probes}}`));
      await pushd.kill();
    }
    await using pushd = await place.start();
    assert.deepEqual(await messagesOf(pushd), kept);
  });
}

test("every fsync fails for a while, with policy 1: all is kept, once", async () => {
  await using place = await Place.make();
  const texts = ["one", "two", "three", "four", "five"];
  const check = async (pushd: Pushd) => {
    const kept = await messagesOf(pushd);
    assert.deepEqual(kept.map((entry) => entry.split(" ")[1]), texts);
  };
  {
    await using pushd = await place.start({
      msg_storage_flush_policy: 1,
      max_cache_bytes: "64KiB",
    });
    using client = await Client.connect(pushd.port);
    {
      await using trace = await Strace.attach(pushd.pid, ...syncs(place.path, "error=EIO"));
      for (const text of texts.slice(0, 3)) await client.ask(`pub c ${text}`, PUBLISHED);
      await pushd.waitForLog(/ERROR .*messages are kept in memory/);
      await trace.waitFor(/(?:INJECTED[^]*){3}/);
      for (const text of texts.slice(3)) await client.ask(`pub c ${text}`, PUBLISHED);
    }
    await pushd.untilStat("storage_pending", 0);
    await check(pushd);
    await pushd.kill();
  }
  await using pushd = await place.start();
  await check(pushd);
});

test("an fsync that takes long holds up publishers, and nobody else", async () => {
  const STALL_S = 4;
  await using place = await Place.make();
  await using pushd = await place.start({
    session_timeout: "1s",
    max_storage_outstanding_msg: 20,
  });
  using bystander = await Client.connect(pushd.port);
  await using trace = await Strace.attach(
    pushd.pid,
    ...syncs(place.path, `delay_enter=${STALL_S}000000:when=1`),
  );
  using publisher = await Client.connect(pushd.port);
  const startMs = performance.now();
  // More than is read of it: for the rest it waits.
  const count = 100;
  await publisher.send(Array.from({ length: count }, (_, i) => `pub c ${i}\n`).join(""));
  await pushd.untilStat("storage_pending", 20);
  let isOver = false;
  const published = publisher.line().finally(() => isOver = true);
  const waits: number[] = [];
  for (let i = 0; !isOver; i++) {
    const askedMs = performance.now();
    if (i % 2 === 0) await bystander.ask("ping", "PONG");
    else await bystander.ask(`sub other${i}`, `SUBSCRIBED other${i}`);
    waits.push(performance.now() - askedMs);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.match(await published, PUBLISHED);
  const ms = performance.now() - startMs;
  assert.ok(ms > STALL_S * 1000 - 100, `the fsync was to take ${STALL_S} s, it took ${ms} ms`);
  waits.sort((a, b) => a - b);
  assert.ok(waits.length > 20);
  // One of them may have met with the noise of the machine.
  assert.ok(waits[Math.floor(waits.length * 0.95)] < 200, `waits: ${waits.slice(-10)}`);
  assert.ok(waits[waits.length - 1] < 1000, `waits: ${waits.slice(-10)}`);
  for (let i = 1; i < count; i++) await publisher.expect(PUBLISHED);
  await publisher.ask("ping", "PONG");
  // One that is silent is still found out.
  using silent = await Client.connect(pushd.port);
  assert.match((await silent.rest()).pop() ?? "", errorLine("idle-timeout"));
  await trace.detach();
});

/** Bytes that the kernel holds for a server's socket, unread. */
async function unreadBytes(serverPort: number, clientPort: number): Promise<number> {
  const hex = (port: number) => port.toString(16).toUpperCase().padStart(4, "0");
  const table = await Deno.readTextFile("/proc/net/tcp");
  const line = table.split("\n").map((entry) => entry.trim().split(/\s+/)).find(([, own, peer]) =>
    own?.endsWith(`:${hex(serverPort)}`) && peer?.endsWith(`:${hex(clientPort)}`)
  );
  assert.ok(line !== undefined, "no such socket");
  return Number.parseInt(line[4].split(":")[1], 16);
}

test("a slow disk: a publisher of 100 MB is not read beyond the bound, and still hears", async () => {
  const BYTES = 10_000;
  const COUNT = 10_000;
  await using place = await Place.make();
  await using pushd = await place.start({
    max_storage_outstanding_msg: 1000,
    max_cache_bytes: "1MiB",
  });
  using client = await Client.connect(pushd.port);
  using other = await Client.connect(pushd.port);
  client.patienceMs = 60_000;
  await client.ask("sub news", "SUBSCRIBED news");
  const line = `pub c ${"x".repeat(BYTES)}\n`;
  // What the runtime and SQLite take once, however long it goes on.
  const warmUp = client.send(line.repeat(COUNT / 2));
  for (let i = 0; i < COUNT / 2; i++) await client.expect(PUBLISHED);
  await warmUp;
  const startKb = pushd.rssKb();
  let mostKb = 0;
  await using trace = await Strace.attach(pushd.pid, ...syncs(place.path, "delay_enter=100000"));
  const flood = new TextEncoder().encode(line.repeat(COUNT));
  let isOver = false;
  const sending = client.send(flood);
  const publishing = (async () => {
    let published = 0;
    for (; !isOver; published++) {
      await other.ask(`pub news ${published}`, PUBLISHED);
      mostKb = Math.max(mostKb, pushd.rssKb());
    }
    return published;
  })();
  let unread = 0;
  let pending = 0;
  const looking = (async () => {
    while (!isOver) {
      unread = Math.max(unread, await unreadBytes(pushd.port, client.localPort));
      pending = Math.max(pending, (await pushd.stat()).stats.storage_pending);
    }
  })();
  let heard = 0;
  for (let answers = 0; answers < COUNT;) {
    const answer = await client.line();
    if (answer.startsWith("PUBLISHED ")) answers++;
    else if (answer.endsWith(` ${heard}`)) heard++;
    else client.fail("neither a reply nor the next message");
  }
  isOver = true;
  const published = await within(() => "the other publisher", publishing);
  await sending;
  await looking;
  while (heard < published) await client.expect(new RegExp(`^MESSAGE news \\d{16} ${heard++}$`));
  await trace.detach();
  assert.ok(published >= 3, `another published ${published} messages meanwhile`);
  // Beyond the bound goes what one read of the socket has brought.
  assert.ok(pending <= 1100, `${pending} messages waited`);
  assert.ok(unread > 60_000, `${unread} bytes waited in the socket`);
  assert.ok(mostKb - startKb < 80 * 1024, `memory grew from ${startKb} to ${mostKb} KiB`);
});
