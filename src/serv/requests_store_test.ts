// Requests over real sockets before a store that commits when the test says so: what waits for what.

import assert from "node:assert/strict";
import { SHUTTING_DOWN } from "./farewell.ts";
import { Door, generalized } from "../../tests/door.ts";
import { goRound } from "../../tests/go_round.ts";
import { HeldStore } from "../../tests/held_store.ts";

function held(): HeldStore {
  const store = new HeldStore();
  store.holdsAppends = true;
  return store;
}

async function until(isDone: () => boolean): Promise<void> {
  while (!isDone()) await goRound();
}

function short(lines: readonly string[]): string[] {
  return lines.map((line) =>
    generalized(line.replace(/^(ERROR storage-unavailable [0-9]{16} delivered).*$/, "NOT STORED"))
  );
}

Deno.test("every request behind a message that waits is answered behind it, in order", async () => {
  const store = held();
  await using door = new Door({ store, limits: { maxLineBytes: 100 } });
  using client = await door.connect();
  using other = await door.connect();
  const requests = [
    "pub c 1",
    "pub c ",
    "x".repeat(101),
    "pub c 2",
    "ping",
    "his c 0",
    "sub c 0",
    "pub c 3",
    "unsub c",
    "what",
    "quit",
    "ping",
  ];
  await client.send(requests.map((line) => `${line}\n`).join(""));
  await until(() => store.isAppending);
  // Others are served meanwhile.
  assert.equal(await other.ask("ping"), "PONG");
  assert.equal(await other.ask("sub c"), "SUBSCRIBED c");
  store.endAppend();
  const lines = [await client.line()];
  assert.match(lines[0] ?? "", /^PUBLISHED /);
  store.holdsAppends = false;
  store.endAppend();
  lines.push(...await client.rest());
  const got = short(lines.map((line) => line ?? ""));
  assert.deepEqual(got.filter((line) => !line.startsWith("MESSAGE ")), [
    "PUBLISHED <ts>",
    "ERROR bad-message",
    "ERROR line-too-long",
    "PUBLISHED <ts>",
    "PONG",
    'HISTORY c [{"channel":"c","msg":"1","ts":<ts>,"node":"node-1"},' +
    '{"channel":"c","msg":"2","ts":<ts>,"node":"node-1"}]',
    "SUBSCRIBED c 2",
    "PUBLISHED <ts>",
    "UNSUBSCRIBED c",
    "ERROR unknown-command",
    "BYE",
  ]);
  assert.deepEqual(
    got.filter((line) => line.startsWith("MESSAGE ")),
    ["1", "2", "3"].map((msg) => `MESSAGE c <ts> ${msg}`),
  );
});

Deno.test("a commit that fails is told to those who wait for it, and what is behind goes on", async () => {
  const store = held();
  await using door = new Door({ store });
  using client = await door.connect();
  using follower = await door.connect();
  assert.equal(await follower.ask("sub c"), "SUBSCRIBED c");
  await client.send("pub c 1\n");
  await until(() => store.isAppending);
  store.endAppend();
  assert.match(await client.line() ?? "", /^PUBLISHED /);
  // From now on memory knows that there is nothing before it.
  assert.match(await client.ask("his c 0") ?? "", /^HISTORY c \[\{/);
  await client.send("pub c 2\npub c \npub c 3\nhis c 0\npub c 4\nping\n");
  await until(() => store.isAppending && door.server.engine.counters.published === 3);
  store.endAppend("half");
  const lines: string[] = [];
  for (let i = 0; i < 6; i++) lines.push(await client.line() ?? "");
  assert.deepEqual(short(lines), [
    "NOT STORED",
    "ERROR bad-message",
    "NOT STORED",
    'HISTORY c [{"channel":"c","msg":"1","ts":<ts>,"node":"node-1"}]',
    "ERROR storage-unavailable",
    "PONG",
  ]);
  const stamps = [await follower.line(), await follower.line(), await follower.line()]
    .map((line) => line?.split(" ")[2]);
  assert.equal(lines[0].split(" ")[2], stamps[1]);
  assert.equal(lines[2].split(" ")[2], stamps[2]);
  assert.equal(door.server.counters.errors["storage-unavailable"], 3);
  store.holdsAppends = false;
  door.queue?.suspect();
  await until(() => door.queue?.isUp === true);
  assert.match(await client.ask("pub c 5") ?? "", /^PUBLISHED /);
});

Deno.test("a client that has shut its sending side still gets what it waits for", async () => {
  for (const outcome of ["kept", "failed"] as const) {
    const store = held();
    await using door = new Door({ store });
    using client = await door.connect();
    await client.send("pub c 1\nhis c 0");
    await client.conn.closeWrite();
    await until(() => store.isAppending);
    for (let i = 0; i < 5; i++) await goRound();
    assert.equal(door.server.connections.size, 1);
    store.endAppend(outcome);
    assert.deepEqual(short(await client.rest()), [
      outcome === "kept" ? "PUBLISHED <ts>" : "NOT STORED",
    ]);
    await door.untilEmpty();
  }
});

Deno.test("a stop answers what waits for its commit first", async () => {
  const store = held();
  await using door = new Door({ store });
  using client = await door.connect();
  await client.send("pub c 1\nhis c 0 1\n");
  await until(() => store.isAppending);
  for (const connection of door.server.connections) connection.sayGoodbye(SHUTTING_DOWN);
  for (let i = 0; i < 5; i++) await goRound();
  assert.equal(door.server.connections.size, 1);
  store.holdsAppends = false;
  store.endAppend();
  assert.deepEqual(short(await client.rest()), [
    "PUBLISHED <ts>",
    'HISTORY c [{"channel":"c","msg":"1","ts":<ts>,"node":"node-1"}]',
    "ERROR shutting-down",
  ]);
});

Deno.test("a client that goes while its message waits leaves nothing behind", async () => {
  const store = held();
  await using door = new Door({ store });
  {
    using client = await door.connect();
    await client.ask("sub c");
    await client.send("pub c 1\nsub d\npub c 2\n");
    await until(() => store.isAppending);
    // Read, so that closing does not leave bytes behind that would reset the connection.
    await client.line();
  }
  for (const connection of door.server.connections) connection.close("failed");
  await door.untilEmpty();
  store.holdsAppends = false;
  store.endAppend();
  await until(() => door.queue?.messages === 0);
  await door.untilEmpty();
  assert.equal(door.server.engine.counters.published, 1);
});

Deno.test("where the queue is full a publisher waits; its deliveries and all others do not", async () => {
  const store = held();
  await using door = new Door({ store, commit: { maxMessages: 2 } });
  const { engine } = door.server;
  using client = await door.connect();
  using other = await door.connect();
  using second = await door.connect();
  await client.ask("sub d");
  await client.send("pub c 1\npub d 2\npub c 3\npub c 4\nping\n");
  await until(() => store.isAppending && engine.counters.published === 2);
  assert.match(await client.line() ?? "", /^MESSAGE d [0-9]{16} 2$/);
  await second.send("pub c 5\npub c 6\n");
  assert.equal(await other.ask("ping"), "PONG");
  assert.equal(await other.ask("sub c"), "SUBSCRIBED c");
  assert.match(await other.ask("his c 0") ?? "", /^HISTORY c \[\{[^{]+"1"[^{]+\}\]$/);
  assert.equal(engine.counters.published, 2);
  store.holdsAppends = false;
  store.endAppend();
  const published: string[] = [];
  while (published.length < 4) published.push(await other.line() ?? "");
  assert.deepEqual(published.map((line) => line.split(" ")[3]).toSorted(), ["3", "4", "5", "6"]);
  const lines: string[] = [];
  for (let i = 0; i < 5; i++) lines.push(await client.line() ?? "");
  assert.deepEqual(short(lines), [...Array(4).fill("PUBLISHED <ts>"), "PONG"]);
  const stamps = lines.slice(0, 4).map((line) => Number(line.split(" ")[1]));
  assert.deepEqual(stamps, stamps.toSorted((a, b) => a - b));
});

Deno.test("who waits for room is refused when the store goes down instead", async () => {
  const store = held();
  await using door = new Door({ store, commit: { maxMessages: 1 } });
  using client = await door.connect();
  await client.send("pub c 1\npub c 2\nping\n");
  await until(() => store.isAppending);
  store.endAppend("failed");
  const lines = [await client.line(), await client.line(), await client.line()];
  assert.deepEqual(short(lines.map((line) => line ?? "")), [
    "NOT STORED",
    "ERROR storage-unavailable",
    "PONG",
  ]);
  assert.equal(door.server.engine.counters.published, 1);
});

Deno.test("a client that is owed a reply is not idle", async () => {
  const store = held();
  await using door = new Door({
    store,
    commit: { maxMessages: 1 },
    limits: { sessionTimeoutMs: 300 },
  });
  using silent = await door.connect();
  using owed = await door.connect();
  using waiting = await door.connect();
  await owed.send("pub c 1\n");
  await until(() => store.isAppending);
  await waiting.send("pub c 2\n");
  // The one who waits for nothing goes; by then the others would have had to go as well.
  assert.match(await silent.line() ?? "", /^NOTE idle /);
  assert.match(await silent.line() ?? "", /^ERROR idle-timeout /);
  using later = await door.connect();
  assert.match(await later.line() ?? "", /^NOTE idle /);
  assert.match(await later.line() ?? "", /^ERROR idle-timeout /);
  store.holdsAppends = false;
  store.endAppend();
  assert.match(await owed.line() ?? "", /^PUBLISHED /);
  assert.match(await waiting.line() ?? "", /^PUBLISHED /);
  assert.match(await owed.line() ?? "", /^NOTE idle /);
});

Deno.test("a client that floods behind a message that waits is not read for ever", async () => {
  const store = held();
  await using door = new Door({ store, limits: { maxPendingBytes: 64 * 1024 } });
  using client = await door.connect();
  using other = await door.connect();
  await client.send("pub c 1\n");
  await until(() => store.isAppending);
  const bad = `pub ${"x".repeat(500)} m\n`.repeat(100);
  let sent = 0;
  let isStuck = false;
  const sending = (async () => {
    for (; sent < 1000 && !isStuck; sent++) await client.send(bad);
  })();
  const refusals = () => door.server.counters.errors["bad-argument"] ?? 0;
  await until(() => refusals() > 0);
  // Until nothing of it is read any more.
  for (let before = -1; before !== refusals();) {
    before = refusals();
    for (let i = 0; i < 20; i++) assert.equal(await other.ask("ping"), "PONG");
  }
  isStuck = true;
  const refused = refusals();
  assert.ok(refused > 100 && refused < 2000, `${refused} refusals`);
  store.holdsAppends = false;
  store.endAppend();
  assert.match(await client.line() ?? "", /^PUBLISHED /);
  // Everything that was sent is answered.
  const [answers] = await Promise.all([
    (async () => {
      let count = 0;
      await client.eachLine((bytes, start) => {
        count++;
        return bytes[start] === 0x50;
      });
      return count - 1;
    })(),
    sending.then(() => client.send("ping\n")),
  ]);
  assert.equal(answers, sent * 100);
});

Deno.test("deliveries that a subscription waits for come behind its SUBSCRIBED, with a busy socket too", async () => {
  const store = new HeldStore();
  await using door = new Door({
    store,
    engine: { history: { maxMessagesPerChannel: 0, maxBytes: 1 << 28, maxIdleChannels: 1000 } },
  });
  using client = await door.connect();
  using publisher = await door.connect();
  for (let i = 0; i < 3; i++) await publisher.ask(`pub c ${i}`);
  await client.ask("sub live");
  store.holdsReads = true;
  await client.send("sub c 0\n");
  await until(() => store.heldReads === 1);
  for (let round = 0; round < 2; round++) {
    // Each of these has the client's socket drain.
    await publisher.ask("pub live x");
    assert.match(await client.line() ?? "", /^MESSAGE live /);
    await goRound();
    store.releaseReads();
    await goRound();
  }
  store.holdsReads = false;
  store.releaseReads();
  assert.equal(await client.line(), "SUBSCRIBED c 3");
  for (let i = 0; i < 3; i++) {
    assert.match(await client.line() ?? "", new RegExp(`^MESSAGE c [0-9]{16} ${i}$`));
  }
  await publisher.ask("pub c 3");
  assert.match(await client.line() ?? "", /^MESSAGE c [0-9]{16} 3$/);
});
