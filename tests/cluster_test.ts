// Several servers as one, as clients see it: real processes on addresses of this machine.

import assert from "node:assert/strict";
import { LoopbackCluster } from "./cluster_loopback.ts";
import { Client, errorLine } from "./harness.ts";

const PUBLISHED = /^PUBLISHED (\d{16})$/;

Deno.test("cluster: a message reaches the subscribers of every node, and history is one", async () => {
  await using cluster = await LoopbackCluster.start(3);
  using a = await cluster.connect(0);
  using b = await cluster.connect(1);
  using c = await cluster.connect(2);
  for (const client of [a, b, c]) await client.ask("sub channel1", "SUBSCRIBED channel1");
  const all: { channel: string; msg: string; ts: number; node: string }[] = [];
  for (const [i, publisher] of [a, b, c].entries()) {
    await publisher.send(`pub channel1 from ${i}\n`);
    let ts = 0;
    for (const client of [a, b, c]) {
      const lines = client === publisher ? await client.lines(2) : [await client.line()];
      const [, digits] =
        /^MESSAGE channel1 (\d{16}) /.exec(lines.join("\n").replace(/PUB.*\n/, "")) ?? [];
      ts ||= Number(digits);
      assert.deepEqual(lines.filter((line) => line.startsWith("MESSAGE")), [
        `MESSAGE channel1 ${digits} from ${i}`,
      ]);
    }
    all.push({ channel: "channel1", msg: `from ${i}`, ts, node: `n${i}` });
  }
  for (const client of [a, b, c]) {
    await client.ask("his channel1 0", `HISTORY channel1 ${JSON.stringify(all)}`);
    using late = client === a ? await cluster.connect(1) : await cluster.connect(0);
    await late.ask(`sub channel1 ${all[0].ts}`, "SUBSCRIBED channel1 2");
    await late.expect(`MESSAGE channel1 ${all[1].ts} from 1`);
    await late.expect(`MESSAGE channel1 ${all[2].ts} from 2`);
  }
});

Deno.test("cluster: at SUBSCRIBED a pub anywhere reaches it, a thousand times", async () => {
  await using cluster = await LoopbackCluster.start(2);
  using subscriber = await cluster.connect(0);
  using publisher = await cluster.connect(1);
  for (let i = 0; i < 1000; i++) {
    await subscriber.ask(`sub c${i}`, `SUBSCRIBED c${i}`);
    const [, ts] = await publisher.ask(`pub c${i} hello ${i}`, PUBLISHED);
    await subscriber.expect(`MESSAGE c${i} ${ts} hello ${i}`);
  }
});

Deno.test("cluster: the last subscriber leaves as another comes, thousands of times", async () => {
  await using cluster = await LoopbackCluster.start(2, { config: { msg_storage: "memory" } });
  using publisher = await cluster.connect(1);
  const subscribers = [await cluster.connect(0), await cluster.connect(0)];
  try {
    await subscribers[0].ask("sub c", "SUBSCRIBED c");
    for (let i = 0; i < 3000; i++) {
      const [before, next] = [subscribers[i % 2], subscribers[(i + 1) % 2]];
      // Both at once: which of them the server sees first is anybody's guess.
      await Promise.all([before.send("unsub c\n"), next.send("sub c\n")]);
      await next.expect("SUBSCRIBED c");
      const [, ts] = await publisher.ask(`pub c ${i}`, PUBLISHED);
      await next.expect(`MESSAGE c ${ts} ${i}`);
      await before.expect("UNSUBSCRIBED c");
    }
  } finally {
    for (const subscriber of subscribers) subscriber.close();
  }
});

Deno.test("cluster: pipelined subscriptions are announced together, and answered in order", async () => {
  await using cluster = await LoopbackCluster.start(2);
  using subscriber = await cluster.connect(0);
  using publisher = await cluster.connect(1);
  const count = 5000;
  const lines: string[] = [];
  for (let i = 0; i < count; i++) {
    lines.push(`sub c${i}`);
    if (i % 1000 === 999) lines.push(`sub c${i}`, `unsub c${i - 1}`, `pub c${i} own`, "ping");
  }
  const startMs = performance.now();
  const sending = subscriber.send(`${lines.join("\n")}\n`);
  const replies: string[] = [];
  for (const line of lines) {
    const [command, channel] = line.split(" ");
    let reply = await subscriber.line();
    // A message of its own may stand before the reply to what came later.
    while (reply.startsWith("MESSAGE")) reply = await subscriber.line();
    replies.push(reply.replace(/\d{16}/, "<ts>"));
    const expected = command === "sub"
      ? replies.includes(`SUBSCRIBED ${channel}`) && replies.at(-1) !== `SUBSCRIBED ${channel}`
        ? `ALREADY SUBSCRIBED ${channel}`
        : `SUBSCRIBED ${channel}`
      : { unsub: `UNSUBSCRIBED ${channel}`, pub: "PUBLISHED <ts>", ping: "PONG" }[command];
    assert.equal(replies.at(-1), expected);
  }
  await sending;
  const tookMs = performance.now() - startMs;
  // One round trip and one acknowledgement each would take far longer.
  assert.ok(tookMs < 10_000, `${tookMs} ms`);
  await publisher.ask("pub c17 x", PUBLISHED);
  await subscriber.expect(/^MESSAGE c17 \d{16} x$/);
});

Deno.test("cluster: a token of one node is good on another, once", async () => {
  const config = { auth: "on", apps: [{ id: "a", secret: "s" }, { id: "a:b", secret: "t" }] };
  await using cluster = await LoopbackCluster.start(2, { config });
  using server = await cluster.connect(0);
  await server.ask("auth_server a s", "AUTHENTICATED a");
  // More wrong tries than these would be answered late.
  for (let i = 0; i < 5; i++) {
    const [, token] = await server.ask(`gettoken user${i}`, /^TOKEN \S+ (\S+)$/);
    using x = await cluster.connect(0);
    using y = await cluster.connect(1);
    const replies = await Promise.all([x, y].map((it) => it.reply(`auth user${i} ${token}`)));
    const good = replies.filter((reply) => reply === `AUTHENTICATED user${i}`);
    assert.equal(good.length, 1, replies.join("\n"));
    assert.match(replies.find((reply) => reply !== good[0]) ?? "", errorLine("auth-failed"));
  }
});

Deno.test("cluster: applications never meet, whatever joins their names", async () => {
  const config = { auth: "on", apps: [{ id: "a", secret: "s" }, { id: "a:b", secret: "t" }] };
  await using cluster = await LoopbackCluster.start(2, { config });
  const login = async (i: number, app: string, secret: string) => {
    const client = await cluster.connect(i);
    await client.ask(`auth_server ${app} ${secret}`, `AUTHENTICATED ${app}`);
    return client;
  };
  using first = await login(0, "a", "s");
  using second = await login(0, "a:b", "t");
  using publisher = await login(1, "a", "s");
  await first.ask("sub b:c", "SUBSCRIBED b:c");
  await second.ask("sub c", "SUBSCRIBED c");
  const [, ts] = await publisher.ask("pub b:c for a", PUBLISHED);
  await first.expect(`MESSAGE b:c ${ts} for a`);
  using other = await login(1, "a:b", "t");
  const [, later] = await other.ask("pub c for a:b", PUBLISHED);
  await second.expect(`MESSAGE c ${later} for a:b`);
  await second.ask("his b:c 0", "HISTORY b:c []");
  await first.ask("his c 0", "HISTORY c []");
  await first.ask("ping", "PONG");
});

Deno.test("cluster: a node that is down makes history PARTIAL, and is back with its part", async () => {
  await using cluster = await LoopbackCluster.start(2);
  using a = await cluster.connect(0);
  {
    using b = await cluster.connect(1);
    await b.ask("pub c on b", PUBLISHED);
  }
  await a.ask("pub c on a", PUBLISHED);
  await a.ask("his c 0", /^HISTORY c \[.*on b.*on a.*\]$/);
  await cluster.nodes[1].kill();
  await cluster.until("n1 is down", async () => {
    const [peer] = await cluster.nodes[0].peers() ?? [];
    return peer?.state !== "up";
  });
  await a.ask("his c 0", /^HISTORY c PARTIAL \[[^b]*on a.*\]$/);
  await a.ask("sub c 1", "SUBSCRIBED c 1 PARTIAL");
  await a.expect(/^MESSAGE c \d{16} on a$/);
  const readiness = await (await cluster.nodes[0].get("/readyz"))?.json();
  assert.deepEqual(readiness, { ready: true, failing: ["s2s"] });
  assert.match(cluster.nodes[0].log(), /WARN .*without the part of some peers.*peers=n1/);
  // Under the same id, with what it kept: a new life, from which nothing is taken for seen.
  await cluster.nodes[1].start();
  await cluster.untilLinked();
  await a.ask("his c 0", /^HISTORY c \[.*on b.*on a.*\]$/);
  using b = await cluster.connect(1);
  for (let i = 0; i < 3; i++) {
    const [, ts] = await b.ask(`pub c back ${i}`, PUBLISHED);
    await a.expect(`MESSAGE c ${ts} back ${i}`);
  }
  assert.deepEqual(await (await cluster.nodes[0].get("/readyz"))?.json(), {
    ready: true,
    failing: [],
  });
});

Deno.test("cluster: a node comes and another goes while messages flow: none is missed", async () => {
  await using cluster = await LoopbackCluster.start(2, {}, 3);
  using subscriber = await cluster.connect(0);
  using publisher = await cluster.connect(1);
  await subscriber.ask("sub c", "SUBSCRIBED c");
  let sent = 0;
  const publish = async (count: number) => {
    for (let i = 0; i < count; i++) {
      const [, ts] = await publisher.ask(`pub c ${sent}`, PUBLISHED);
      await subscriber.expect(`MESSAGE c ${ts} ${sent}`);
      sent++;
    }
  };
  await publish(50);
  const third = await cluster.add();
  await Promise.all([third.start(), publish(200)]);
  await cluster.untilLinked();
  using newcomer = await cluster.connect(2);
  await newcomer.ask("sub c", "SUBSCRIBED c");
  await publish(50);
  for (let i = sent - 50; i < sent; i++) {
    await newcomer.expect(new RegExp(`^MESSAGE c \\d{16} ${i}$`));
  }
  const [ended] = await Promise.all([third.stop(), publish(200)]);
  assert.equal(ended.code, 0);
  await publish(50);
  assert.match(cluster.nodes[0].log(), /INFO .*a node has left peer=n2/);
});

Deno.test("cluster: a second node with a living one's id does not start, and names it", async () => {
  await using cluster = await LoopbackCluster.start(2, { own: { 2: { node_id: "n0" } } }, 3);
  const twin = await cluster.add();
  await assert.rejects(
    twin.start(),
    /node_id: .*same node_id "n0" is alive at 127\.\d+\.\d+\.1:2223/,
  );
  using a = await cluster.connect(0);
  using b = await cluster.connect(1);
  await a.ask("sub c", "SUBSCRIBED c");
  const [, ts] = await b.ask("pub c x", PUBLISHED);
  await a.expect(`MESSAGE c ${ts} x`);
});

Deno.test("cluster: what no node says at the door of nodes is cut off, and the others go on", async () => {
  await using cluster = await LoopbackCluster.start(2);
  const [{ hostname }] = cluster.nodes;
  const openTo = () => Deno.connect({ hostname, port: 2223 });
  const hello = (fields: Record<string, unknown>) => {
    const json = new TextEncoder().encode(JSON.stringify({
      protocol: "pushd-s2s",
      version: 1,
      min_version: 1,
      cluster: "pushd",
      id: "stranger",
      incarnation: 1,
      nonce: btoa("n".repeat(32)),
      capabilities: [],
      s2s_addr: "127.0.0.1:1",
      client_addr: "127.0.0.1:2",
      software: "x",
      to: "",
      ...fields,
    }));
    const frame = new Uint8Array(9 + json.length);
    const view = new DataView(frame.buffer);
    view.setUint32(0, 5 + json.length);
    frame[4] = 1;
    view.setUint32(5, json.length);
    frame.set(json, 9);
    return frame;
  };
  const text = (words: string) => new TextEncoder().encode(words);
  const cases: [string, Uint8Array][] = [
    ["telnet", text("sub > 90\r\n")],
    ["HTTP", text("GET / HTTP/1.1\r\nHost: x\r\n\r\n")],
    ["TLS", Uint8Array.of(0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3)],
    ["no length", new Uint8Array(5)],
    ["2^31", Uint8Array.of(0x80, 0, 0, 0, 1)],
    ["2^32 - 1", Uint8Array.of(255, 255, 255, 255, 1)],
    ["half a frame, and the end", Uint8Array.of(0, 0, 1, 0, 1, 7)],
    ["another cluster", hello({ cluster: "other" })],
    ["our id", hello({ id: "n0" })],
    ["version 99", hello({ version: 99, min_version: 99 })],
    ["no proof", new Uint8Array([...hello({}), 0, 0, 0, 33, 3, ...new Uint8Array(32)])],
    ["nothing", new Uint8Array(0)],
  ];
  const startMs = performance.now();
  await Promise.all(cases.map(async ([what, bytes]) => {
    using conn = await openTo();
    await conn.write(bytes);
    if (what.endsWith("the end")) await conn.closeWrite();
    try {
      while (await conn.read(new Uint8Array(4096)) !== null);
    } catch (error) {
      assert.ok(error instanceof Deno.errors.ConnectionReset, `${what}: ${error}`);
    }
    assert.ok(performance.now() - startMs < 10_000, `${what} was cut off after 10 s`);
  }));
  await cluster.until("all were counted", async () => {
    const response = await cluster.nodes[0].get("/s/stat");
    const { stats } = await response?.json() ?? { stats: {} };
    return stats.s2s_refused >= cases.length;
  });
  assert.match(cluster.nodes[0].log(), /WARN .*connection to the door for nodes was refused/);
  using a = await cluster.connect(0);
  using b = await cluster.connect(1);
  await a.ask("sub c", "SUBSCRIBED c");
  const [, ts] = await b.ask("pub c x", PUBLISHED);
  await a.expect(`MESSAGE c ${ts} x`);
});

Deno.test("cluster: with history off messages flow, and nothing is PARTIAL", async () => {
  await using cluster = await LoopbackCluster.start(2, { config: { msg_storage: "" } });
  using a: Client = await cluster.connect(0);
  using b = await cluster.connect(1);
  await a.ask("sub c", "SUBSCRIBED c");
  const [, ts] = await b.ask("pub c x", PUBLISHED);
  await a.expect(`MESSAGE c ${ts} x`);
  await a.ask("his c 0", errorLine("history-off"));
  await b.ask("sub c 1", errorLine("history-off"));
});
