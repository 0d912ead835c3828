// Requests over real sockets: the reply to each, the order of all, and what is refused.

import assert from "node:assert/strict";
import { Door, exchange, generalized } from "../../tests/door.ts";
import { goRound } from "../../tests/go_round.ts";
import { encodeUtf8 } from "../proto/bytes.ts";

Deno.test("pipelined requests are answered one by one, in order", async () => {
  await using door = new Door();
  const lines = await exchange(
    door,
    "ping\r\nsub c\nSUB c\npub c hello  world \nhis c 0\nunsub c\nunsub c\n\n\r\npub c again\nPiNg\n",
  );
  const replies = lines.filter((line) => !line.startsWith("MESSAGE "));
  assert.deepEqual(replies.map(generalized), [
    "PONG",
    "SUBSCRIBED c",
    "ALREADY SUBSCRIBED c",
    "PUBLISHED <ts>",
    'HISTORY c [{"channel":"c","msg":"hello  world ","ts":<ts>,"node":"node-1"}]',
    "UNSUBSCRIBED c",
    "NOT SUBSCRIBED c",
    "PUBLISHED <ts>",
    "PONG",
  ]);
  const messages = lines.filter((line) => line.startsWith("MESSAGE "));
  assert.deepEqual(messages.map(generalized), ["MESSAGE c <ts> hello  world "]);
  assert.ok(lines.indexOf(messages[0]) < lines.indexOf("UNSUBSCRIBED c"));
  const published = lines.find((line) => line.startsWith("PUBLISHED "));
  assert.equal(messages[0].split(" ")[2], published?.split(" ")[1]);
  await door.untilEmpty();
});

Deno.test("in one write: pub, sub, pub, unsub, pub delivers the second and nothing else", async () => {
  await using door = new Door();
  for (let i = 0; i < 50; i++) {
    const lines = await exchange(door, "pub c 1\nsub c\npub c 2\nunsub c\npub c 3\n");
    assert.deepEqual(
      lines.filter((line) => line.startsWith("MESSAGE ")).map(generalized),
      ["MESSAGE c <ts> 2"],
    );
    assert.equal(lines.length, 6);
  }
});

Deno.test("each refusal has its code, changes nothing, and the next request works", async () => {
  await using door = new Door();
  const long = "x".repeat(65_536);
  const cases: [string | number[], string | null][] = [
    ["pub", "missing-argument"],
    ["pub c", "missing-argument"],
    ["sub", "missing-argument"],
    ["unsub", "missing-argument"],
    ["his", "missing-argument"],
    ["his c", "missing-argument"],
    ["hello", "missing-argument"],
    ["gettoken", "missing-argument"],
    ["auth u", "missing-argument"],
    ["auth_server a", "missing-argument"],
    ["pub c ", "bad-message"],
    ["pub c x\r", "bad-message"],
    ["pub  c x", "bad-argument"],
    ["pub ", "bad-argument"],
    ["sub ", "bad-argument"],
    ["sub  c", "bad-argument"],
    ["sub c ", "bad-argument"],
    ["sub c 0 x", "bad-argument"],
    ["ping x", "bad-argument"],
    ["ping ", "bad-argument"],
    ["quit x", "bad-argument"],
    ["help me", "bad-argument"],
    ["hello 2", "bad-argument"],
    ["hello 1 xml", "bad-argument"],
    [" ping", "unknown-command"],
    ["publish c x", "unknown-command"],
    ["\u017fub c", "unknown-command"],
    ["p\u0131ng", "unknown-command"],
    ["__proto__", "unknown-command"],
    ["constructor x", "unknown-command"],
    ["ping\tx", "unknown-command"],
    ["sub $s", "reserved-name"],
    ["sub @x", "reserved-name"],
    ["his a* 0", "reserved-name"],
    ["pub $c x", "reserved-name"],
    ["unsub $c", "reserved-name"],
    ["gettoken @u", "reserved-name"],
    ["pub -id=1 c m", "bad-argument"],
    ["sub -x c", "bad-argument"],
    ["unsub -x", "bad-argument"],
    ["sub a\tb", "bad-argument"],
    ["pub a\u0085b x", "bad-argument"],
    [`sub ${"€".repeat(86)}`, "bad-argument"],
    [`pub ${"€".repeat(86)} x`, "bad-argument"],
    ...["-1", "+5", "1e3", "0x10", "1.5", "\u0663", "1".repeat(20)].flatMap(
      (
        ts,
      ): [string, string][] => [[`sub c ${ts}`, "bad-argument"], [`his c ${ts}`, "bad-argument"]],
    ),
    ...["0", "-1", "10001", "1e2", "", "1 1", "٣", "0x1"].map(
      (limit): [string, string] => [`his c 0 ${limit}`, "bad-argument"],
    ),
    ["auth_server a wrong", "auth-failed"],
    ["auth ann token", "auth-failed"],
    [[0x70, 0x75, 0x62, 0x20, 0x63, 0x20, 0xc0, 0xaf], "bad-message"],
    [[0x70, 0x75, 0x62, 0x20, 0x63, 0x20, 0xed, 0xa0, 0x80], "bad-message"],
    [[0x70, 0x75, 0x62, 0x20, 0xff, 0x61, 0x20, 0x78], "bad-argument"],
    [[0x73, 0x75, 0x62, 0x20, 0x80], "bad-argument"],
    [[0x16, 0x03, 0x01, 0x80, 0x81], "unknown-command"],
    [`pub c ${long}`, "line-too-long"],
    [long, "unknown-command"],
    [`${long}x`, "line-too-long"],
  ];
  using client = await door.connect();
  for (const [request, code] of cases) {
    const what = `${request}`.slice(0, 40);
    const bytes = typeof request === "string" ? encodeUtf8(request) : request;
    await client.send(Uint8Array.from([...bytes, 13, 10]));
    const reply = await client.line();
    assert.match(reply ?? "", new RegExp(`^ERROR ${code} .`), what);
    // deno-lint-ignore no-control-regex
    assert.doesNotMatch(reply ?? "", /[\u0000-\u001f\u007f-\u009f]/, what);
    assert.ok((reply ?? "").length < 400, what);
    assert.equal(await client.ask("ping"), "PONG", what);
  }
  assert.equal(door.server.engine.counters.published, 0);
  assert.equal(door.server.engine.counters.subscriptions, 0);
  assert.equal(door.server.engine.channelCount, 0);
});

Deno.test("odd names and messages come through as they are", async () => {
  await using door = new Door();
  using client = await door.connect();
  const names = ["__proto__", "constructor", "é", "e\u0301", "€".repeat(85), "a:b", "<img/src=x>"];
  const messages = ["-x", "  ", "\ufeffbom", "a\0b\rc", '"\\\u2028🎉', "x".repeat(60_000)];
  for (const name of names) assert.equal(await client.ask(`sub ${name}`), `SUBSCRIBED ${name}`);
  for (const name of names) {
    for (const message of messages) {
      await client.send(`pub ${name} ${message}\n`);
      const lines = [await client.line(), await client.line()].map((line) => line ?? "");
      const at = lines.findIndex((line) => line.startsWith("PUBLISHED "));
      const ts = lines[at].slice(10);
      assert.equal(lines[1 - at], `MESSAGE ${name} ${ts} ${message}`);
    }
    const kept = (await client.ask(`his ${name} 0`) ?? "").slice(`HISTORY ${name} `.length);
    assert.deepEqual(JSON.parse(kept).map(({ msg }: { msg: string }) => msg), messages);
  }
});

Deno.test("a line one byte too long is dropped whole, and answered once", async () => {
  await using door = new Door({ limits: { maxLineBytes: 100 } });
  for (const end of ["\n", "\r\n"]) {
    const line = (length: number) => `pub c ${"x".repeat(length - 6)}${end}`;
    const lines = await exchange(door, `${line(99)}${line(100)}${line(101)}ping${end}`);
    assert.deepEqual(lines.map(generalized), [
      "PUBLISHED <ts>",
      "PUBLISHED <ts>",
      "ERROR line-too-long",
      "PONG",
    ]);
  }
  const lines = await exchange(door, `${"x".repeat(1_000_000)}\nping\n`);
  assert.deepEqual(lines.map(generalized), ["ERROR line-too-long", "PONG"]);
});

Deno.test("telnet negotiation is dropped, cut at every byte", async () => {
  await using door = new Door();
  const request = Uint8Array.of(255, 253, 10, 112, 105, 255, 250, 24, 10, 255, 255, 255, 240, 110)
    .values().toArray();
  const bytes = Uint8Array.from([...request, 103, 255, 241, 13, 10]);
  using client = await door.connect();
  for (let cut = 1; cut < bytes.length; cut++) {
    await client.send(bytes.subarray(0, cut));
    await goRound();
    await client.send(bytes.subarray(cut));
    assert.equal(await client.line(), "PONG", `cut at ${cut}`);
  }
});

Deno.test("hello: what is here, and events from then on", async () => {
  await using door = new Door();
  using client = await door.connect();
  using publisher = await door.connect();
  const hello = JSON.parse((await client.ask("hello 1") ?? "").slice("HELLO 1 ".length));
  assert.equal(hello.node, "node-1");
  assert.deepEqual(hello.features, ["json", "history"]);
  assert.equal(hello.limits.max_line_bytes, 65_536);
  await client.ask("sub c");
  await publisher.ask("pub c 1");
  assert.match(await client.line() ?? "", /^MESSAGE c [0-9]{16} 1$/);
  assert.match(await client.ask("hello 1 json") ?? "", /^HELLO 1 \{.*\}$/);
  const published = await publisher.ask("pub c 2");
  assert.deepEqual(JSON.parse((await client.line() ?? "").slice("EVENT ".length)), {
    op: "msg",
    channel: "c",
    ts: Number(published?.slice("PUBLISHED ".length)),
    node: "node-1",
    msg: "2",
  });
});

Deno.test("help names every command, and each has its counter", async () => {
  await using door = new Door();
  using client = await door.connect();
  const help = await client.ask("HELP") ?? "";
  assert.match(help, /^HELP /);
  const names = help.slice("HELP ".length).split(" | ").map((usage) => usage.split(" ")[0]);
  assert.deepEqual(names, Object.keys(door.server.counters.commands));
  assert.equal(names.length, 11);
  await client.ask("PING");
  assert.equal(door.server.counters.commands.help, 1);
  assert.equal(door.server.counters.commands.ping, 1);
});

Deno.test("without history: his and sub from a timestamp are refused, sub is not", async () => {
  await using door = new Door({ engine: { keepHistory: false } });
  assert.deepEqual(
    (await exchange(door, "his c 0\nsub c 0\nsub c\npub c x\nhello 1\n")).map(generalized)
      .filter((line) => !line.startsWith("HELLO ")),
    [
      "ERROR history-off",
      "ERROR history-off",
      "SUBSCRIBED c",
      "PUBLISHED <ts>",
      "MESSAGE c <ts> x",
    ],
  );
  await door.untilEmpty();
  assert.equal(door.server.engine.channelCount, 0);
});

Deno.test("too many channels, and room again", async () => {
  await using door = new Door({ engine: { maxChannelsPerConnection: 2 } });
  using client = await door.connect();
  for (const name of ["a", "b"]) await client.ask(`sub ${name}`);
  assert.match(await client.ask("sub c") ?? "", /^ERROR too-many-channels /);
  assert.match(await client.ask("sub c 0") ?? "", /^ERROR too-many-channels /);
  assert.equal(await client.ask("unsub a"), "UNSUBSCRIBED a");
  assert.equal(await client.ask("sub c"), "SUBSCRIBED c");
  assert.equal(door.server.engine.channelCount, 2);
});

Deno.test("auth on: nothing before it, a token once, and the publisher is named", async () => {
  await using door = new Door({ auth: { required: true } });
  using app = await door.connect();
  using ann = await door.connect();
  for (const request of ["pub c x", "sub c", "sub c 0", "unsub c", "his c 0", "gettoken ann"]) {
    assert.match(await ann.ask(request) ?? "", /^ERROR need-auth /, request);
  }
  for (const [request, reply] of [["ping", "PONG"], ["help", "HELP"], ["hello 1", "HELLO"]]) {
    assert.ok((await ann.ask(request))?.startsWith(reply), request);
  }
  // Before authentication a line may be no longer than 4096 bytes.
  assert.match(await ann.ask("x".repeat(4097)) ?? "", /^ERROR line-too-long /);
  assert.equal(await app.ask("auth_server a s3cret"), "AUTHENTICATED a");
  const token = (await app.ask("gettoken ann"))?.split(" ")[2] ?? "";
  assert.match(await ann.ask(`auth bob ${token}`) ?? "", /^ERROR auth-failed /);
  assert.equal(await ann.ask(`auth ann ${token}`), "AUTHENTICATED ann");
  assert.match(await ann.ask(`auth ann ${token}`) ?? "", /^ERROR auth-failed /);
  assert.match(await ann.ask("gettoken ann") ?? "", /^ERROR not-permitted /);
  await app.ask("hello 1 json");
  await app.ask("sub c");
  assert.match(await ann.ask(`pub c ${"x".repeat(5000)}`) ?? "", /^PUBLISHED /);
  const event = JSON.parse((await app.line() ?? "").slice("EVENT ".length));
  assert.deepEqual([event.from, event.msg.length], ["ann", 5000]);
  // Into another application only without a subscription.
  assert.match(await app.ask("auth_server b other") ?? "", /^ERROR not-permitted /);
  await app.ask("unsub c");
  assert.equal(await app.ask("auth_server b other"), "AUTHENTICATED b");
  assert.equal(await app.ask("his c 0"), "HISTORY c []");
  assert.match(await ann.ask("his c 0") ?? "", /^HISTORY c \[\{.*"from":"ann".*\}\]$/);
});

Deno.test("auth on, in one write: each refusal for itself, nothing done", async () => {
  await using door = new Door({ auth: { required: true } });
  const lines = await exchange(door, "auth ann nope\npub c x\nsub c\nquit\n");
  assert.deepEqual(lines.map(generalized), [
    "ERROR auth-failed",
    "ERROR need-auth",
    "ERROR need-auth",
    "BYE",
  ]);
  assert.equal(door.server.engine.channelCount, 0);
});

Deno.test("the sixth wrong try waits, and holds up the requests behind it, not others", async () => {
  await using door = new Door();
  using other = await door.connect();
  const startMs = performance.now();
  using client = await door.connect();
  await client.send("auth ann nope\n".repeat(6) + "ping\n");
  for (let i = 0; i < 5; i++) assert.match(await client.line() ?? "", /^ERROR auth-failed /);
  assert.equal(await other.ask("ping"), "PONG");
  assert.match(await client.line() ?? "", /^ERROR auth-failed /);
  assert.ok(performance.now() - startMs >= 99);
  assert.equal(await client.line(), "PONG");
});
