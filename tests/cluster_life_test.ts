// How a cluster is found, kept together and changed: ZooKeeper, reloads, TLS, clocks, other versions.

import assert from "node:assert/strict";
import { getAvailablePort } from "@std/net";
import { Authority, opensslRequirement } from "./certificates.ts";
import { LoopbackCluster } from "./cluster_loopback.ts";
import { OldPeer } from "./cluster_old_peer.ts";
import { DevCluster } from "./dev_cluster.ts";
import { fakeTimeEnv } from "./fake_time.ts";
import { Client, type Pushd, runPushd, serverDeno, startPushd } from "./harness.ts";
import { requireTool } from "./require.ts";
import { requireZooKeeper, startEnsemble, startZooKeeper } from "./zookeeper.ts";

const PUBLISHED = /^PUBLISHED (\d{16})$/;
const SECRET = "known-to-nodes-only";
const HELLO = JSON.parse(
  await Deno.readTextFile(new URL("fixtures/s2s_hello_v1.json", import.meta.url)),
);

/** Sees a message go each way between two nodes. */
async function talk(cluster: LoopbackCluster, channel: string, a = 0, b = 1): Promise<void> {
  using first = await cluster.connect(a);
  using second = await cluster.connect(b);
  await first.ask(`sub ${channel}`, `SUBSCRIBED ${channel}`);
  const [, ts] = await second.ask(`pub ${channel} there`, PUBLISHED);
  await first.expect(`MESSAGE ${channel} ${ts} there`);
  await second.ask(`sub ${channel}`, `SUBSCRIBED ${channel}`);
  await first.send(`pub ${channel} back\n`);
  await second.expect(new RegExp(`^MESSAGE ${channel} \\d{16} back$`));
}

async function failing(cluster: LoopbackCluster, i: number): Promise<string[] | undefined> {
  const response = await cluster.nodes[i].get("/readyz");
  if (response !== null) assert.equal(response.status, 200);
  return (await response?.json())?.failing;
}

const zooKeeper = requireZooKeeper();
Deno.test({
  name: `cluster: found by ZooKeeper; links and delivery outlive it${zooKeeper.reason}`,
  ignore: zooKeeper.ignore,
  async fn() {
    await using server = await startZooKeeper();
    const config = { s2s_session_timeout: "2s" };
    await using cluster = await LoopbackCluster.start(2, { etcServers: [server.addr], config }, 3);
    await talk(cluster, "before");
    await server.kill();
    for (const i of [0, 1]) {
      await cluster.until(
        `n${i} misses ZooKeeper`,
        async () => (await failing(cluster, i))?.join() === "etc",
      );
    }
    await talk(cluster, "without");
    await server.restart();
    for (const i of [0, 1]) {
      await cluster.until(
        `n${i} has ZooKeeper back`,
        async () => (await failing(cluster, i))?.length === 0,
      );
    }
    const third = await cluster.add();
    await third.start();
    await cluster.untilLinked();
    await talk(cluster, "after", 0, 2);
    // Who leaves in order disappears; nobody has to be told.
    await third.stop();
    await cluster.until(
      "n2 is gone",
      async () => (await cluster.nodes[0].peers())?.every(({ id }) => id !== "n2") ?? false,
    );
    assert.deepEqual(await failing(cluster, 0), []);
  },
});

Deno.test({
  name: `cluster: an ensemble of three that loses a member${zooKeeper.reason}`,
  ignore: zooKeeper.ignore,
  async fn() {
    await using ensemble = await startEnsemble(3);
    await ensemble.servers[0].kill();
    const config = { s2s_session_timeout: "2s" };
    await using cluster = await LoopbackCluster.start(2, { etcServers: ensemble.addrs, config });
    await talk(cluster, "c");
    // Killed and started at once: its old entry is waited out while its clients are served.
    await cluster.nodes[1].kill();
    await cluster.nodes[1].start();
    await cluster.untilLinked();
    await talk(cluster, "d");
  },
});

/** Two servers of their own files, the first of which names the second after a reload. */
async function startPair(): Promise<{ first: Pushd; second: Pushd; write(peers: string[]): void }> {
  const ports = [getAvailablePort(), getAvailablePort()];
  const configOf = (i: number, peers: string[]) => ({
    node_id: `n${i}`,
    tcp_listen_addr: "127.0.0.1:0",
    stats_listen_addr: "127.0.0.1:0",
    s2s_listen_addr: `127.0.0.1:${ports[i]}`,
    s2s_peers: peers,
    drain_timeout: "1s",
  });
  const first = await startPushd({ config: configOf(0, []) });
  const second = await startPushd({ config: configOf(1, []) });
  const write = (peers: string[]) =>
    Deno.writeTextFileSync(`${first.folder}/pushd.cf`, JSON.stringify(configOf(0, peers)));
  return {
    first,
    second,
    write: (peers) => write(peers.length === 0 ? [] : [`127.0.0.1:${ports[1]}`]),
  };
}

Deno.test("cluster: a reload links who is named then; who is named no more is not dialled again", async () => {
  const { first, second, write } = await startPair();
  await using _first = first;
  await using _second = second;
  assert.deepEqual((await (await first.get("/s/nodes")).json()).nodes.length, 1);
  write(["second"]);
  first.signal("SIGHUP");
  await first.waitForLog(/INFO .*linked peer=n1/);
  await second.waitForLog(/INFO .*linked peer=n0/);
  using subscriber = await Client.connect(second.port);
  using publisher = await Client.connect(first.port);
  await subscriber.ask("sub c", "SUBSCRIBED c");
  await publisher.ask("pub c x", PUBLISHED);
  await subscriber.expect(/^MESSAGE c \d{16} x$/);
  write([]);
  first.signal("SIGHUP");
  await first.waitForLog(/INFO .*nodes are named no more/);
  // What is linked stays linked.
  await publisher.ask("pub c y", PUBLISHED);
  await subscriber.expect(/^MESSAGE c \d{16} y$/);
  await second.stop();
  await first.waitForLog(/INFO .*a node has left peer=n1/);
  assert.deepEqual((await (await first.get("/s/nodes")).json()).nodes.length, 1);
});

Deno.test("cluster: a node that cannot pass on what it has accepted before it stops says so", async () => {
  const { first, second, write } = await startPair();
  await using _first = first;
  await using _second = second;
  write(["second"]);
  first.signal("SIGHUP");
  await second.waitForLog(/INFO .*linked peer=n0/);
  using subscriber = await Client.connect(second.port);
  using publisher = await Client.connect(first.port);
  await subscriber.ask("sub c", "SUBSCRIBED c");
  second.signal("SIGSTOP");
  for (let i = 0; i < 5; i++) await publisher.ask("pub c x", PUBLISHED);
  first.signal("SIGTERM");
  await first.waitForLog(/ERROR .*stops before a peer has got .*peer=n1 messages=5\n/);
  second.signal("SIGCONT");
});

Deno.test("cluster: a node that is listed under two names is linked once", async () => {
  const port = getAvailablePort();
  const node = (id: string, s2s: number, peers: string[]) => ({
    node_id: id,
    tcp_listen_addr: "127.0.0.1:0",
    stats_listen_addr: "127.0.0.1:0",
    s2s_listen_addr: `127.0.0.1:${s2s}`,
    s2s_peers: peers,
  });
  await using second = await startPushd({ config: node("n1", port, []) });
  const names = [`127.0.0.1:${port}`, `localhost:${port}`];
  await using first = await startPushd({ config: node("n0", getAvailablePort(), names) });
  await first.waitForLog(/INFO .*linked peer=n1/);
  await first.waitForLog(/INFO .*ready/);
  await second.stop();
  await first.waitForLog(/INFO .*a node has left peer=n1/);
  assert.doesNotMatch(first.log(), /a link is down/);
});

Deno.test("cluster: to stand alone or not needs a restart", async () => {
  await using pushd = await startPushd();
  const file = `${pushd.folder}/pushd.cf`;
  const config = JSON.parse(await Deno.readTextFile(file));
  await Deno.writeTextFile(file, JSON.stringify({ ...config, s2s_peers: ["127.0.0.1:9"] }));
  pushd.signal("SIGHUP");
  await pushd.waitForLog(/WARN .*a restart is needed for: s2s_peers/);
  const { node, cluster, nodes } = await (await pushd.get("/s/nodes")).json();
  assert.deepEqual([typeof node, cluster], ["string", null]);
  assert.deepEqual(nodes.map(({ id, self, state }: typeof nodes[0]) => ({ id, self, state })), [
    { id: node, self: true, state: "up" },
  ]);
});

const openssl = opensslRequirement;
Deno.test({
  name: `cluster: links over TLS, and who has no certificate is not linked${openssl.reason}`,
  ignore: openssl.ignore,
  async fn() {
    await using authority = await Authority.create();
    await using other = await Authority.create();
    const keysOf = async (of: Authority, name: string, ca = authority) => {
      const { cert, key } = await of.issue(name);
      return { s2s_tls_cert: cert, s2s_tls_key: key, s2s_tls_ca: ca.path("ca.crt") };
    };
    if ((await serverDeno()).startsWith("2.4.")) {
      const config = { s2s_listen_addr: "127.0.0.1:0", ...await keysOf(authority, "n0") };
      await assert.rejects(
        startPushd({ config }),
        /s2s_tls_cert: Deno 2\.4\S+, which .* cannot serve/,
      );
      return;
    }
    const own = {
      0: await keysOf(authority, "n0"),
      1: await keysOf(authority, "n1"),
      2: await keysOf(other, "n2", other),
    };
    await using cluster = await LoopbackCluster.start(2, { own }, 3);
    await talk(cluster, "c");
    assert.match(cluster.nodes[0].log(), /INFO .*a node of a cluster .*links="TLS \(.*n0/);
    const stranger = await cluster.add();
    await stranger.start();
    await cluster.until("n0 has refused it", async () => {
      const { stats } = await (await cluster.nodes[0].get("/s/stat"))?.json() ?? {};
      return stats?.s2s_refused > 0;
    });
    const states = (await stranger.peers())?.map(({ state }) => state);
    assert.ok(states?.every((state) => state !== "up"), `${states}`);
    await talk(cluster, "d");
    const files = { ...own[0], s2s_tls_ca: authority.path("missing.crt") };
    const config = { s2s_listen_addr: "127.0.0.1:0", ...files };
    await assert.rejects(startPushd({ config }), /s2s_tls_ca: .*missing\.crt/);
  },
});

const faketime = requireTool("faketime");
Deno.test({
  name: `cluster: a clock 5 s ahead moves ours, one 10 min ahead does not${faketime.reason}`,
  ignore: faketime.ignore,
  async fn() {
    const env = async (offset: string) => [
      "env",
      ...Object.entries(await fakeTimeEnv(offset)).map(([key, value]) => `${key}=${value}`),
    ];
    const prefix = { 1: await env("+5s"), 2: await env("+10m") };
    await using cluster = await LoopbackCluster.start(3, { prefix });
    const pubOn = async (i: number) => {
      using client = await cluster.connect(i);
      const [, ts] = await client.ask("pub c x", PUBLISHED);
      return Number(ts);
    };
    using watcher = await cluster.connect(0);
    await watcher.ask("sub c", "SUBSCRIBED c");
    const ahead = await pubOn(1);
    await watcher.expect(/^MESSAGE c /);
    const ours = await pubOn(0);
    assert.ok(ours > ahead, "an answer has the later timestamp");
    await watcher.expect(/^MESSAGE c /);
    const far = await pubOn(2);
    await watcher.expect(/^MESSAGE c /);
    assert.ok(far - Date.now() * 1000 > 500e6, "it goes by its own clock");
    assert.ok(await pubOn(0) < Date.now() * 1000 + 60e6, "ours stays");
    assert.match(cluster.nodes[0].log(), /WARN .*more than a minute ahead.*peer=n2/);
    await cluster.until(
      "the clocks are known to be apart",
      () =>
        Promise.resolve(/WARN .*clocks are further apart.*peer=n1/.test(cluster.nodes[0].log())),
    );
    const { nodes } = await (await cluster.nodes[0].get("/s/nodes"))?.json() ?? {};
    const skew = (id: string) => nodes.find((node: { id: string }) => node.id === id)?.skew_ms;
    assert.ok(Math.abs(skew("n1") - 5000) < 1500, `${skew("n1")} ms`);
    assert.ok(Math.abs(skew("n2") - 600_000) < 1500, `${skew("n2")} ms`);
  },
});

Deno.test("cluster: a node of the first version, and one of a later one, are understood", async () => {
  await using cluster = await LoopbackCluster.start(1);
  const [{ hostname }] = cluster.nodes;
  using client = await cluster.connect(0);
  {
    using old = await OldPeer.connect(hostname, SECRET, HELLO);
    await client.ask("pub nobody wants", PUBLISHED);
    await old.want(1, "default", "c");
    const [, ts] = await client.ask("pub c hello", PUBLISHED);
    assert.equal(await old.batch(), `MESSAGE c ${ts} hello\r\n`);
    const asked = client.send("sub d\n");
    await old.untilWanted("d");
    await old.acknowledge(1);
    await asked;
    await client.expect("SUBSCRIBED d");
    await old.publish(0, "d", 17, "from an old one");
    await client.expect("MESSAGE d 0000000000000017 from an old one");
    // The second time it is the same message.
    await old.publish(0, "d", 17, "from an old one");
    await old.publish(1, "d", 18, "and another");
    await client.expect("MESSAGE d 0000000000000018 and another");
  }
  const later = {
    ...HELLO,
    version: 7,
    capabilities: [...HELLO.capabilities, "teleport"],
    shoe_size: 43,
    id: "later",
  };
  using young = await OldPeer.connect(hostname, SECRET, later);
  await young.sendUnknown(200);
  await young.want(1, "default", "c");
  const [, ts] = await client.ask("pub c again", PUBLISHED);
  assert.equal(await young.batch(), `MESSAGE c ${ts} again\r\n`);
  await assert.rejects(
    OldPeer.connect(hostname, "another secret", { ...HELLO, id: "x" }),
    /refused: .*s2s_secret/,
  );
  await assert.rejects(
    OldPeer.connect(hostname, SECRET, { ...HELLO, id: "x", version: 9, min_version: 8 }),
    /refused: .*version 8 to 9/,
  );
});

Deno.test("cluster: what a node that has proved itself must not say ends its link, and no other", async () => {
  await using cluster = await LoopbackCluster.start(1);
  const [node] = cluster.nodes;
  using client = await cluster.connect(0);
  using good = await OldPeer.connect(node.hostname, SECRET, { ...HELLO, id: "good" });
  await good.want(1, "default", "c");
  const cases: [string, (peer: OldPeer) => Promise<void>][] = [
    ["a filter of 2^40 bits", (peer) => peer.beginFilter(2 ** 40)],
    ["a channel that is not UTF-8", (peer) => peer.addChannel(Uint8Array.of(0xff, 0xfe))],
    ["an unknown frame that has to be understood", (peer) => peer.sendUnknown(99)],
    ["a batch that ends within a line", (peer) => peer.publish(0, "c", 1, "x", "")],
    ["a channel with a space", (peer) => peer.publish(0, "c d", 1, "x")],
  ];
  for (const [i, [what, say]] of cases.entries()) {
    using bad = await OldPeer.connect(node.hostname, SECRET, { ...HELLO, id: `bad${i}` });
    await say(bad);
    await bad.untilClosed();
    await cluster.until(`${what} is counted`, async () => {
      const { stats } = await (await node.get("/s/stat"))?.json() ?? {};
      return stats?.s2s_nonsense === i + 1;
    });
    const [, ts] = await client.ask(`pub c ${i}`, PUBLISHED);
    assert.equal(await good.batch(), `MESSAGE c ${ts} ${i}\r\n`);
  }
  assert.match(node.log(), /WARN .*a link is down.*peer=bad0.*it sent nonsense/);
});

Deno.test("cluster: a node that dials anew takes the place of its link that looks alive", async () => {
  await using cluster = await LoopbackCluster.start(1);
  const [{ hostname }] = cluster.nodes;
  using client = await cluster.connect(0);
  using first = await OldPeer.connect(hostname, SECRET, HELLO);
  await first.want(1, "default", "c");
  using second = await OldPeer.connect(hostname, SECRET, HELLO);
  await first.untilClosed();
  await second.want(2, "default", "c");
  const [, ts] = await client.ask("pub c x", PUBLISHED);
  assert.equal(await second.batch(), `MESSAGE c ${ts} x\r\n`);
  // Started later: another life, or a double that wins.
  using third = await OldPeer.connect(hostname, SECRET, {
    ...HELLO,
    incarnation: HELLO.incarnation + 1,
  });
  await second.untilClosed();
  await third.want(1, "default", "d");
  await assert.rejects(
    OldPeer.connect(hostname, SECRET, HELLO),
    /refused: .*old.* that was started later is linked already/,
  );
  const [, later] = await client.ask("pub d y", PUBLISHED);
  assert.equal(await third.batch(), `MESSAGE d ${later} y\r\n`);
});

Deno.test("cluster: nodes find one another by those that they know, and tell of who is away", async () => {
  // Each names the first one only.
  const own: Record<number, Record<string, unknown>> = {};
  await using cluster = await LoopbackCluster.start(1, { own }, 3);
  const first = [`${cluster.addrs[0]}:2223`];
  own[1] = own[2] = { s2s_peers: first };
  for (let i = 0; i < 2; i++) await (await cluster.add()).start();
  await cluster.untilLinked();
  await talk(cluster, "c", 1, 2);
  {
    using client = await cluster.connect(2);
    await client.ask("pub kept on the third", PUBLISHED);
  }
  await cluster.nodes[2].kill();
  await cluster.nodes[1].kill();
  await cluster.nodes[1].start();
  await cluster.untilLinked();
  // In this life it has never seen the third.
  using client = await cluster.connect(1);
  await client.ask("his kept 0", "HISTORY kept PARTIAL []");
  const states = (await cluster.nodes[1].peers())?.map(({ id, state }) => `${id} ${state}`);
  assert.deepEqual(states?.sort(), ["n0 up", "n2 down"]);
  assert.deepEqual(await failing(cluster, 1), ["s2s"]);
  await cluster.nodes[2].start();
  await cluster.untilLinked();
  await client.ask("his kept 0", /^HISTORY kept \[.*on the third.*\]$/);
});

Deno.test("cluster: who does not answer is dialled once a second at most", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using _ = await startPushd({
    config: { s2s_listen_addr: "127.0.0.1:0", s2s_peers: [`127.0.0.1:${listener.addr.port}`] },
  });
  const times: number[] = [];
  while (times.length < 4) {
    const conn = await listener.accept();
    times.push(performance.now());
    conn.close();
  }
  listener.close();
  // The first only asks who is there.
  for (let i = 2; i < times.length; i++) {
    const gapMs = times[i] - times[i - 1];
    assert.ok(gapMs > 900, `${gapMs} ms between two`);
  }
});

Deno.test("dev-cluster: nodes that are linked, and nothing left of them at the end", async () => {
  await using cluster = await DevCluster.start(2);
  const { nodes: [a, b], folder } = cluster;
  using subscriber = await Client.connect(a.port);
  using publisher = await Client.connect(b.port);
  await subscriber.ask("sub channel1", "SUBSCRIBED channel1");
  await publisher.ask("pub channel1 hello", PUBLISHED);
  await subscriber.expect(/^MESSAGE channel1 \d{16} hello$/);
  assert.ok((await Deno.stat(folder)).isDirectory);
  assert.equal(await cluster.stop(), 0);
  await assert.rejects(Deno.stat(folder), Deno.errors.NotFound);
  const wrong = await runPushd(["dev-cluster", "0"]);
  assert.equal(wrong.code, 2);
  assert.match(wrong.stderr, /dev-cluster "0": write a number from 1 to 20/);
});

Deno.test("etc/cluster: three nodes from its files serve as one", async () => {
  const ports = new Map<string, number>();
  const portOf = (documented: string) => {
    if (!ports.has(documented)) ports.set(documented, getAvailablePort());
    return ports.get(documented);
  };
  const nodes: Pushd[] = [];
  try {
    for (const i of [1, 2, 3]) {
      const file = new URL(`../etc/cluster/node${i}.cf`, import.meta.url);
      const text = await Deno.readTextFile(file);
      const config = text.replace(/(?<=127\.0\.0\.1:)\d{4}/g, (port) => `${portOf(port)}`);
      nodes.push(await startPushd({ config }));
    }
    for (const [i, node] of nodes.entries()) {
      for (const other of [1, 2, 3].filter((n) => n !== i + 1)) {
        await node.waitForLog(new RegExp(`INFO .*linked peer=node${other} `));
      }
      const { conf } = await node.stat();
      assert.deepEqual(conf.sqlite, { path: `node${i + 1}.db` });
    }
    using subscriber = await Client.connect(nodes[0].port);
    using publisher = await Client.connect(nodes[2].port);
    await subscriber.ask("sub channel1", "SUBSCRIBED channel1");
    await publisher.ask("pub channel1 hello", PUBLISHED);
    await subscriber.expect(/^MESSAGE channel1 \d{16} hello$/);
  } finally {
    for (const node of nodes) await node[Symbol.asyncDispose]();
  }
});
