// The clients' door over real sockets: limits, and every way in which a connection ends.

import assert from "node:assert/strict";
import { Door, exchange, generalized } from "../../tests/door.ts";
import { goRound } from "../../tests/go_round.ts";

Deno.test("a client that shuts its sending side still gets every reply; half a line is dropped", async () => {
  await using door = new Door();
  assert.deepEqual((await exchange(door, "pub c a\nping\npub c b")).map(generalized), [
    "PUBLISHED <ts>",
    "PONG",
  ]);
  assert.deepEqual(await exchange(door, ""), []);
  assert.deepEqual(await exchange(door, "pin"), []);
  assert.equal(door.server.engine.counters.published, 1);
  await door.untilEmpty();
  assert.equal(door.server.counters.disconnects.client, 3);
});

Deno.test("a replay that was asked for before the client shut its side comes whole", async () => {
  await using door = new Door({ limits: { maxPendingBytes: 256 * 1024 } });
  using publisher = await door.connect();
  const count = 2000;
  const text = "x".repeat(1000);
  await publisher.send(Array.from({ length: count }, (_, i) => `pub c ${i} ${text}\n`).join(""));
  for (let i = 0; i < count; i++) await publisher.line();
  for (const form of ["text", "json"]) {
    const lines = await exchange(door, `${form === "json" ? "hello 1 json\n" : ""}sub c 0\nping\n`);
    const messages = lines.filter((line) => /^(MESSAGE|EVENT) /.test(line));
    assert.equal(messages.length, count);
    messages.forEach((line, i) => assert.ok(line.includes(`${i} xxx`), `${i}`));
    const replies = lines.filter((line) => !/^(MESSAGE|EVENT|HELLO) /.test(line));
    assert.deepEqual(replies, [`SUBSCRIBED c ${count}`, "PONG"]);
  }
});

Deno.test("an HTTP client is told so and shut out before it can publish", async () => {
  await using door = new Door();
  const evil = "Content-Type: text/plain\r\n\r\n\npub c evil\n";
  for (
    const head of [
      "POST / HTTP/1.1\r\nHost: localhost:2222\r\n",
      "get /pub/c/x http/1.0\r\n",
      "Host: evil.example\r\n",
      "PUB /c HTTP/1.1\r\nHost: x\r\n",
    ]
  ) {
    const before = door.server.engine.counters.published;
    const lines = await exchange(door, head + evil);
    assert.match(lines.at(-1) ?? "", /^ERROR unknown-command .*HTTP/);
    // The last one is a well-formed pub; its second line ends it.
    assert.equal(door.server.engine.counters.published - before, head.startsWith("PUB") ? 1 : 0);
  }
  await door.untilEmpty();
  assert.equal(door.server.counters.disconnects.http, 4);
});

Deno.test("quit: BYE behind the replies before it, nothing of what is behind it, then the end", async () => {
  await using door = new Door();
  using client = await door.connect();
  await client.send("ping\nQUIT\nping\npub c x\n");
  assert.deepEqual(await client.rest(), ["PONG", "BYE"]);
  assert.equal(door.server.engine.counters.published, 0);
  client.close();
  await door.untilEmpty();
  assert.equal(door.server.counters.disconnects.quit, 1);
});

Deno.test("ten thousand publishes and quit in one write: as many replies, then BYE", async () => {
  await using door = new Door();
  for (let i = 0; i < 3; i++) {
    using client = await door.connect();
    const sending = client.send("pub c x\n".repeat(10_000) + "quit\n");
    const lines = await client.rest();
    await sending;
    assert.equal(lines.length, 10_001);
    assert.ok(lines.slice(0, -1).every((line) => line.startsWith("PUBLISHED ")));
    assert.equal(lines.at(-1), "BYE");
    // Strictly rising, so each is a message of its own.
    for (let j = 1; j < 10_000; j++) assert.ok(lines[j] > lines[j - 1]);
  }
});

Deno.test("a client that leaves while its request waits leaves nothing behind", async () => {
  await using door = new Door();
  const client = await door.connect();
  await client.send("sub c\nsub d 0\n" + "auth ann nope\n".repeat(6) + "sub e\n");
  for (let i = 0; i < 7; i++) await client.line();
  client.close();
  await door.untilEmpty();
});

Deno.test("more connections than allowed are told too-busy, and there is room again", async () => {
  for (const limits of [{ maxConnections: 2 }, { maxConnectionsPerAddress: 2 }]) {
    await using door = new Door({ limits });
    const first = await door.connect();
    using second = await door.connect();
    for (const client of [first, second]) assert.equal(await client.ask("ping"), "PONG");
    for (let i = 0; i < 3; i++) {
      using refused = await door.connect();
      const lines = await refused.rest();
      assert.equal(lines.length, 1);
      assert.match(lines[0], /^ERROR too-busy .*max_connections/);
    }
    assert.equal(door.server.counters.refused, 3);
    first.close();
    while (door.server.connections.size > 1) await goRound();
    using third = await door.connect();
    assert.equal(await third.ask("ping"), "PONG");
    assert.equal(await second.ask("ping"), "PONG");
  }
});

Deno.test("a silent client is warned and then told to go, one that says something is not", async () => {
  await using door = new Door({ limits: { sessionTimeoutMs: 600 } });
  const startMs = performance.now();
  using silent = await door.connect();
  using program = await door.connect();
  using awake = await door.connect();
  await program.ask("hello 1 json");
  const note = await silent.line();
  assert.match(note ?? "", /^NOTE idle .*press Enter to stay$/);
  await awake.send("\n");
  assert.match(await silent.line() ?? "", /^ERROR idle-timeout /);
  assert.ok(performance.now() - startMs >= 590);
  assert.equal(await silent.line(), null);
  const lines = await program.rest();
  assert.deepEqual(lines.map(generalized), ["ERROR idle-timeout"]);
  assert.match(await awake.ask("ping") ?? "", /^(NOTE|PONG)/);
  assert.ok(door.server.counters.disconnects["idle-timeout"] <= 2);
});

Deno.test("who does not authenticate in time is told to go", async () => {
  await using door = new Door({
    limits: { authTimeoutMs: 150 },
    auth: { required: true },
  });
  using app = await door.connect();
  await app.ask("auth_server a s3cret");
  using late = await door.connect();
  assert.deepEqual((await late.rest()).map(generalized), ["ERROR need-auth"]);
  assert.equal(await app.ask("ping"), "PONG");
});

Deno.test("beyond the publishes per second a connection is read more slowly, nothing is refused", async () => {
  await using door = new Door({ limits: { maxPublishesPerSecond: 500 } });
  using client = await door.connect();
  const startMs = performance.now();
  const lines = await exchange(door, "pub c x\n".repeat(650));
  assert.equal(lines.length, 650);
  assert.ok(performance.now() - startMs > 250);
  assert.equal(await client.ask("ping"), "PONG");
});

Deno.test("a client that does not read is cut off with whole lines; nobody else misses anything", async () => {
  await using door = new Door({ limits: { maxPendingBytes: 256 * 1024 } });
  using slow = await door.connect();
  using quick = await door.connect();
  using publisher = await door.connect();
  await slow.ask("sub c");
  await quick.ask("sub c");
  const count = 400;
  const text = "x".repeat(60_000);
  const received: number[] = [];
  const reading = (async () => {
    for (let i = 0; i < count; i++) {
      received.push(Number((await quick.line())?.split(" ")[3].split(".")[0]));
    }
  })();
  for (let i = 0; i < count; i++) await publisher.ask(`pub c ${i}.${text}`);
  await reading;
  assert.deepEqual(received, Array.from({ length: count }, (_, i) => i));
  assert.equal(door.server.counters.slowConsumers, 1);
  const lines = await slow.rest();
  assert.ok(lines.length < count);
  const last = lines.pop() ?? "";
  assert.match(last, /^ERROR slow-consumer /);
  lines.forEach((line, i) => assert.equal(Number(line.split(" ")[3].split(".")[0]), i));
});

Deno.test("clients that vanish in the middle of a delivery are counted and forgotten", async () => {
  await using door = new Door();
  using publisher = await door.connect();
  const clients = await Promise.all(Array.from({ length: 50 }, () => door.connect()));
  await Promise.all(clients.map((client) => client.ask("sub c")));
  const sending = publisher.send(`pub c ${"x".repeat(20_000)}\n`.repeat(20));
  // Unread bytes make it a reset.
  for (const client of clients) client.close();
  await sending;
  for (let i = 0; i < 20; i++) await publisher.line();
  while (door.server.connections.size > 1) await goRound();
  assert.equal(door.server.engine.counters.subscriptions, 0);
  assert.equal(door.server.counters.disconnects.client, 50);
  assert.equal(await publisher.ask("ping"), "PONG");
});

Deno.test("stop: everybody is told, gets what was queued, and the port is closed", async () => {
  const door = new Door();
  const clients = await Promise.all(Array.from({ length: 5 }, () => door.connect()));
  for (const client of clients) await client.ask("sub c");
  await clients[0].send("pub c last\n");
  while (door.server.engine.counters.published === 0) await goRound();
  const stopping = door[Symbol.asyncDispose]();
  const texts = await Promise.all(clients.map((client) => client.rest()));
  for (const client of clients) client.close();
  await stopping;
  texts.forEach((lines, i) => {
    const expected = ["MESSAGE c <ts> last", "ERROR shutting-down"];
    if (i === 0) expected.unshift("PUBLISHED <ts>");
    assert.deepEqual(lines.map(generalized), expected);
  });
  assert.equal(door.server.counters.disconnects["shutting-down"], 5);
  await assert.rejects(Deno.connect({ hostname: "127.0.0.1", port: door.port }));
});

Deno.test("stop: what has been read is answered first, however much it is", async () => {
  const door = new Door();
  using client = await door.connect();
  const sending = client.send("ping\n".repeat(50_000)).catch(() => {
    // What was not read is not taken either.
  });
  while (door.server.counters.bytesIn < 50_000) await goRound();
  const stopping = door[Symbol.asyncDispose]();
  const read = door.server.counters.bytesIn;
  const lines = await client.rest();
  client.close();
  await sending;
  await stopping;
  assert.match(lines.pop() ?? "", /^ERROR shutting-down /);
  assert.ok(lines.length >= Math.floor(read / 5), `${lines.length} replies to ${read} bytes`);
});
