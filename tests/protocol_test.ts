// The wire protocol by real TCP: framing, every command and its replies, every refusal of a request.

import assert from "node:assert/strict";
import { Client, errorLine, startPushd } from "./harness.ts";

const encoder = new TextEncoder();
const PUBLISHED = /^PUBLISHED (\d{16})$/;

Deno.test("every command and its replies", async (t) => {
  await using pushd = await startPushd({ config: { node_id: "n1" } });

  await t.step("sub, pub, unsub", async () => {
    using publisher = await Client.connect(pushd.port);
    using subscriber = await Client.connect(pushd.port);
    await subscriber.ask("sub c", "SUBSCRIBED c");
    await subscriber.ask("sub c", "ALREADY SUBSCRIBED c");
    const beforeMs = Date.now();
    const [, first] = await publisher.ask("pub c hello", PUBLISHED);
    const [, second] = await publisher.ask("pub c  two  words ", PUBLISHED);
    assert.ok(Number(second) > Number(first));
    assert.ok(Number(first) >= beforeMs * 1000 && Number(first) <= (Date.now() + 1) * 1000);
    await subscriber.expect(`MESSAGE c ${first} hello`);
    await subscriber.expect(`MESSAGE c ${second}  two  words `);
    await subscriber.ask("unsub c", "UNSUBSCRIBED c");
    await subscriber.ask("unsub c", "NOT SUBSCRIBED c");
    await subscriber.ask("unsub never", "NOT SUBSCRIBED never");
    await publisher.ask("pub c unseen", PUBLISHED);
    await subscriber.ask("ping", "PONG");
  });

  await t.step("a publisher that subscribes gets its own messages", async () => {
    using client = await Client.connect(pushd.port);
    await client.ask("sub own", "SUBSCRIBED own");
    await client.send("pub own x\n");
    const lines = await client.lines(2);
    const [, ts] = PUBLISHED.exec(lines.find((line) => PUBLISHED.test(line)) ?? "") ?? [];
    assert.ok(lines.includes(`MESSAGE own ${ts} x`), lines.join("\n"));
  });

  await t.step("his", async () => {
    using client = await Client.connect(pushd.port);
    const [, ts] = await client.ask("pub h hello", PUBLISHED);
    const [, json] = await client.ask("his h 0", /^HISTORY h (.*)$/);
    assert.deepEqual(JSON.parse(json), [{
      channel: "h",
      msg: "hello",
      ts: Number(ts),
      node: "n1",
    }]);
    await client.ask("his nothing 0", "HISTORY nothing []");
    await client.ask("his nothing 0 1", "HISTORY nothing []");
  });

  await t.step("hello, in both forms", async () => {
    using client = await Client.connect(pushd.port);
    for (const request of ["hello 1", "hello 1 json"]) {
      const [, json] = await client.ask(request, /^HELLO 1 (\{.*\})$/);
      const { version, node, features, limits } = JSON.parse(json);
      assert.match(version, /^\d+\.\d+\.\d+/);
      assert.equal(node, "n1");
      assert.deepEqual(features.filter((name: string) => name === "history"), ["history"]);
      assert.equal(limits.max_line_bytes, 65536);
      assert.equal(limits.max_pending_bytes, 8 * 1024 * 1024);
    }
  });

  await t.step("deliveries as EVENT after hello 1 json", async () => {
    using client = await Client.connect(pushd.port);
    using publisher = await Client.connect(pushd.port);
    await client.ask("sub e", "SUBSCRIBED e");
    const [, text] = await publisher.ask("pub e text", PUBLISHED);
    await client.expect(`MESSAGE e ${text} text`);
    await client.ask("hello 1 json", /^HELLO 1 /);
    const message = 'a "quoted" \\ \u2028 \u{1f600} \u0001 end';
    const [, ts] = await publisher.ask(`pub e ${message}`, PUBLISHED);
    const [, json] = await client.expect(/^EVENT (\{.*\})$/s);
    assert.deepEqual(JSON.parse(json), {
      op: "msg",
      channel: "e",
      ts: Number(ts),
      node: "n1",
      msg: message,
    });
    // Kept messages come in the same form.
    await client.ask("unsub e", "UNSUBSCRIBED e");
    await client.ask("sub e 0", "SUBSCRIBED e 2");
    const [, kept] = await client.expect(/^EVENT (\{.*\})$/s);
    assert.deepEqual(JSON.parse(kept), {
      op: "msg",
      channel: "e",
      ts: Number(text),
      node: "n1",
      msg: "text",
    });
    await client.expect(`EVENT ${json}`);
  });

  await t.step("ping, help, quit", async () => {
    using client = await Client.connect(pushd.port);
    await client.ask("ping", "PONG");
    const [, help] = await client.ask("help", /^HELP (.+)$/);
    for (
      const name of "sub unsub pub his gettoken auth auth_server hello ping help quit".split(" ")
    ) {
      assert.match(help, new RegExp(`\\b${name}\\b`));
    }
    await client.ask("quit", "BYE");
    await client.eof();
  });

  await t.step("commands in any case, of ASCII", async () => {
    using client = await Client.connect(pushd.port);
    await client.ask("PING", "PONG");
    await client.ask("SuB Case", "SUBSCRIBED Case");
    await client.ask("pUb case x", PUBLISHED);
    await client.ask("Unsub case", "NOT SUBSCRIBED case");
    await client.ask("\u017fub c", errorLine("unknown-command"));
    await client.ask("p\u0131ng", errorLine("unknown-command"));
  });
});

/** Requests, and the code that refuses them. */
const REFUSED: Record<string, string[]> = {
  "unknown-command": ["foo", " ping", "pinging", "sub\tc", "-x", "\u00e9", "auth-server a b", "1"],
  "missing-argument": [
    "sub",
    "unsub",
    "pub",
    "pub c",
    "his",
    "his c",
    "gettoken",
    "auth",
    "auth u",
    "auth_server",
    "auth_server a",
    "hello",
  ],
  "bad-argument": [
    // An empty word, or one too many.
    ...[
      "sub ",
      "sub  c",
      "sub c ",
      "sub c  0",
      "sub c 0 x",
      "unsub ",
      "unsub c x",
      "pub ",
      "pub  c x",
    ],
    ...["his c ", "his c 0 ", "his c 0 1 1", "gettoken a b", "auth u t x", "auth_server a b c"],
    ...["ping x", "ping ", "help x", "help ", "quit x", "quit ", "hello 1 json x", "hello 1 "],
    // An option, of which there are none.
    ...["sub -x c", "sub -x", "unsub -x c", "pub -id=42 c hello", "pub -x", "his -x c 0"],
    ...["ping -x", "help -x", "quit -x", "hello -x 1", "gettoken -x u", "auth -x u t", "sub --"],
    ...["auth_server -x a b"],
    // A version or form that is not spoken.
    ...["hello 2", "hello 01", "hello one", "hello 1 xml", "hello 1 JSON"],
    // A name that cannot be one.
    ...["sub a\u007fb", "sub a\u0085b", "sub a\tb", "sub a\0b", "pub a\tb x", "his a\u0080 0"],
    ...[`sub ${"n".repeat(256)}`, `pub ${"n".repeat(256)} x`, `sub ${"\u20ac".repeat(86)}`],
    ...[`gettoken ${"u".repeat(256)}`, `his ${"n".repeat(256)} 0`, `unsub ${"n".repeat(256)}`],
    ...[`sub ${"n".repeat(256)} 0`, "gettoken a\u009fb", "unsub a\u0001"],
    // A timestamp or limit that is none.
    ...["his c -1", "his c +5", "his c 1e3", "his c 0x10", "his c 1.5", "his c \u0663", "sub c x"],
    ...[`his c ${"1".repeat(20)}`, `sub c ${"9".repeat(20)}`, "his c 1_000", "his c PARTIAL"],
    ...["his c 0 0", "his c 0 -1", "his c 0 10001", "his c 0 1e2", "his c 0 1.0", "his c 0 x"],
  ],
  "bad-message": ["pub c ", "pub c a\r\r", "pub c \r\r"],
  "reserved-name": [
    ...["sub $s", "sub @x", "sub a*", "sub *", "sub a*b 0", "unsub $s", "pub $s x", "pub @x x"],
    ...[
      "pub a* x",
      "his a* 0",
      "his $s 0",
      "gettoken $u",
      "gettoken @u",
      "gettoken u*",
      "auth @u t",
    ],
  ],
  "not-permitted": ["auth_server a b"],
};

Deno.test("every refused request is answered by its code, and changes nothing", async (t) => {
  await using pushd = await startPushd();
  using client = await Client.connect(pushd.port);
  await client.ask("sub c", "SUBSCRIBED c");
  for (const [code, requests] of Object.entries(REFUSED)) {
    await t.step(code, async () => {
      for (const request of requests) {
        await client.ask(request, errorLine(code));
        await client.ask("ping", "PONG");
      }
      // The same in one write: one reply each, in order.
      await client.send(requests.map((request) => `${request}\r\n`).join(""));
      for (const line of await client.lines(requests.length)) assert.match(line, errorLine(code));
    });
  }
  await t.step("nothing has changed", async () => {
    assert.deepEqual(pick((await pushd.stat()).stats, ["subscriptions", "published"]), [1, 0]);
    await client.ask("his c 0", "HISTORY c []");
    await client.ask("unsub c", "UNSUBSCRIBED c");
  });
});

function pick(stats: Record<string, number>, names: string[]): number[] {
  return names.map((name) => stats[name]);
}

Deno.test("names at their limits, and compared byte for byte", async () => {
  await using pushd = await startPushd();
  using client = await Client.connect(pushd.port);
  using publisher = await Client.connect(pushd.port);
  const names = [
    ...["n".repeat(255), "\u20ac".repeat(85), "\u00e9", "e\u0301", "C", "c", "a$b", "a@b", "a-b"],
    ...["__proto__", "constructor", "\u{1f600}", "\u00a0", "\ufeff", '"', "\\", "0", "a,b"],
  ];
  for (const name of names) await client.ask(`sub ${name}`, `SUBSCRIBED ${name}`);
  for (const name of names) {
    const [, ts] = await publisher.ask(`pub ${name} to you`, PUBLISHED);
    await client.expect(`MESSAGE ${name} ${ts} to you`);
    const reply = await publisher.reply(`his ${name} 0`);
    assert.ok(reply.startsWith(`HISTORY ${name} [`), reply);
    const [{ channel }] = JSON.parse(reply.slice(`HISTORY ${name} `.length));
    assert.equal(channel, name);
  }
});

Deno.test("messages at their limits come as they were sent", async () => {
  await using pushd = await startPushd();
  using client = await Client.connect(pushd.port);
  using publisher = await Client.connect(pushd.port);
  await client.ask("sub c", "SUBSCRIBED c");
  const longest = 65536 - "pub c ".length;
  const messages = [
    ...["x", "-x", " ", "  a  b  ", "\ufeffbom", "a\rb", "a\0b", "\u2028", "\u{1f600}", '"\\'],
    ...["m".repeat(longest - 1), "m".repeat(longest), "\u20ac".repeat(longest / 3)],
  ];
  for (const message of messages) {
    const [, ts] = await publisher.ask(`pub c ${message}`, PUBLISHED);
    await client.expect(`MESSAGE c ${ts} ${message}`);
  }
  const [, json] = await publisher.ask("his c 0", /^HISTORY c (.*)$/s);
  assert.deepEqual(JSON.parse(json).map(({ msg }: { msg: string }) => msg), messages);

  // One byte more; with a CR; in pieces; and far more.
  for (const message of ["m".repeat(longest + 1), "m".repeat(longest + 1) + "\r"]) {
    await publisher.ask(`pub c ${message}`, errorLine("line-too-long"));
  }
  await publisher.send(`pub c ${"m".repeat(longest)}`);
  await publisher.send("m\n");
  await publisher.expect(errorLine("line-too-long"));
  await publisher.ask(`pub c ${"m".repeat(1_000_000)}`, errorLine("line-too-long"));
  await publisher.ask("ping", "PONG");
  // A CR and NULs before the LF are not part of the line.
  await publisher.ask(`pub c ${"m".repeat(longest)}\r`, PUBLISHED);
  await client.expect(/^MESSAGE c \d{16} m+$/);
  await publisher.ask("pub c end\r\0\0", PUBLISHED);
  await publisher.ask("pub c nul\0", PUBLISHED);
  await client.expect(/^MESSAGE c \d{16} end$/);
  await client.expect(/^MESSAGE c \d{16} nul$/);
});

Deno.test("what is not UTF-8 is bad, and shown to nobody", async () => {
  await using pushd = await startPushd();
  using client = await Client.connect(pushd.port);
  await client.ask("sub c", "SUBSCRIBED c");
  for (
    const bytes of [[0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0x80], [0xfe]]
  ) {
    const bad = Uint8Array.of(0x61, ...bytes);
    const line = (text: string) => Uint8Array.of(...encoder.encode(text), ...bad, 0x0a);
    await client.send(line("pub c "));
    await client.expect(errorLine("bad-message"));
    await client.send(line("sub "));
    await client.expect(errorLine("bad-argument"));
    await client.send(Uint8Array.of(...encoder.encode("pub "), ...bad, ...encoder.encode(" x\n")));
    await client.expect(errorLine("bad-argument"));
    await client.send(Uint8Array.of(...bad, 0x0a));
    await client.expect(errorLine("unknown-command"));
  }
  await client.ask("his c 0", "HISTORY c []");
  assert.equal((await pushd.stat()).stats.subscriptions, 1);
});

Deno.test("pipelined requests are carried out in order, one reply each", async () => {
  await using pushd = await startPushd();
  using client = await Client.connect(pushd.port);
  await client.send(
    "pub c 1\nsub c\nping\npub c 2\nhis c 0\n\n\r\nunsub c\nfoo\npub c 3\nhis c 0 1\nhello 1\nquit\nping\n",
  );
  const lines = await client.rest();
  const [message] = lines.filter((line) => line.startsWith("MESSAGE "));
  assert.match(message, /^MESSAGE c \d{16} 2$/);
  assert.ok(lines.indexOf(message) < lines.indexOf("UNSUBSCRIBED c"));
  const replies = lines.filter((line) => line !== message);
  const patterns = [
    PUBLISHED,
    /^SUBSCRIBED c$/,
    /^PONG$/,
    PUBLISHED,
    /^HISTORY c \[\{.*"msg":"1".*"msg":"2".*\}\]$/,
    /^UNSUBSCRIBED c$/,
    errorLine("unknown-command"),
    PUBLISHED,
    /^HISTORY c \[\{.*"msg":"1"[^}]*\}\]$/,
    /^HELLO 1 /,
    /^BYE$/,
  ];
  assert.equal(replies.length, patterns.length, replies.join("\n"));
  for (const [i, pattern] of patterns.entries()) assert.match(replies[i], pattern);
});

Deno.test("timestamps strictly increase, over connections too", async () => {
  await using pushd = await startPushd();
  using subscriber = await Client.connect(pushd.port);
  await subscriber.ask("sub c", "SUBSCRIBED c");
  const count = 2_000;
  const publishers = await Promise.all([1, 2, 3].map(() => Client.connect(pushd.port)));
  const replies = await Promise.all(publishers.map(async (publisher, who) => {
    await publisher.send(Array.from({ length: count }, (_, i) => `pub c ${who} ${i}\n`).join(""));
    const lines = await publisher.lines(count);
    publisher.close();
    return lines.map((line) => Number(PUBLISHED.exec(line)?.[1]));
  }));
  for (const times of replies) assert.ok(times.every((ts, i) => i === 0 || ts > times[i - 1]));
  const all = replies.flat();
  assert.equal(new Set(all).size, 3 * count);

  const next = [0, 0, 0];
  let last = 0;
  for (const line of await subscriber.lines(3 * count)) {
    const [, , ts, who, i] = line.split(" ").map(Number);
    assert.ok(ts > last, line);
    assert.equal(i, next[who]++, line);
    assert.equal(replies[who][i], ts, line);
    last = ts;
  }
});

Deno.test("telnet negotiation is dropped, wherever it stands", async () => {
  const [IAC, SE, NOP, SB, WILL, DO] = [255, 240, 241, 250, 251, 253];
  await using pushd = await startPushd();
  using client = await Client.connect(pushd.port);
  const pieces = [
    [IAC, WILL, 31, ..."pi"].map((part) => typeof part === "string" ? part.charCodeAt(0) : part),
    [IAC],
    [DO],
    [0x0a, 0x6e, 0x67, IAC, SB, 24, 0x0a, IAC, IAC, 0x0a, IAC, SE, IAC, NOP],
    [0x0a],
  ];
  for (const piece of pieces) await client.send(Uint8Array.from(piece));
  await client.expect("PONG");
  // A block that does not end is given up.
  await client.send(Uint8Array.of(IAC, SB, ...new Uint8Array(5000).fill(0x61), 0x0a));
  await client.expect(errorLine("line-too-long"));
  await client.ask("ping", "PONG");
});

Deno.test("a line of HTTP ends the connection, and publishes nothing", async () => {
  await using pushd = await startPushd();
  for (
    const request of [
      "GET / HTTP/1.1\r\nHost: localhost:2222\r\n\r\npub c evil\n",
      "POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\n\npub c evil\n",
      "host: localhost\npub c evil\n",
      "Host: localhost\npub c evil\n",
      "get /pub/c/evil http/1.0\r\npub c evil\n",
    ]
  ) {
    using client = await Client.connect(pushd.port);
    await client.send(request);
    await client.expect(errorLine("unknown-command"));
    await client.eof();
  }
  using client = await Client.connect(pushd.port);
  await client.ask("his c 0", "HISTORY c []");
});

Deno.test("a client that half-closes gets every reply", async () => {
  await using pushd = await startPushd();
  {
    using client = await Client.connect(pushd.port);
    await client.send("pub c 1\nping\npub c 2\nhis c 0\nping without its line end");
    await client.end();
    await client.expect(PUBLISHED);
    await client.expect("PONG");
    await client.expect(PUBLISHED);
    await client.expect(/^HISTORY c .*"1".*"2"/);
    await client.eof();
  }
  {
    // What it asked of history is such a reply.
    using client = await Client.connect(pushd.port);
    await client.send(Array.from({ length: 998 }, () => `pub c ${"m".repeat(4000)}\n`).join(""));
    await client.lines(998);
    await client.send("sub c 0\n");
    await client.end();
    const lines = await client.rest();
    assert.equal(lines[0], "SUBSCRIBED c 1000");
    assert.equal(lines.length, 1001);
  }
  {
    using client = await Client.connect(pushd.port);
    await client.end();
    await client.eof();
  }
  await pushd.untilStat("connections", 0);
});
