// The tests' own network: whole at first, cut and slowed where it is told and nowhere else, gone afterwards.

import { strict as assert } from "node:assert";
import { ClusterNet, requireNetwork } from "./cluster_net.ts";
import { Station } from "./cluster_station.ts";

const network = requireNetwork();

/** A packet that does not come in so long does not come, ms. */
const LOST_MS = 300;

/** A network of three, and a station at each link address. */
async function threeStations(stack: AsyncDisposableStack): Promise<[ClusterNet, Station[]]> {
  const net = stack.use(await ClusterNet.create(3));
  const stations = await Promise.all(
    net.plan.nodes.map(({ linkAddr }, i) => Station.start(net.prefixOf(i), linkAddr)),
  );
  for (const station of stations) stack.use(station);
  return [net, stations];
}

/** Which ways are open: sends from each to each, and then looks at who got what. */
async function waysOf(net: ClusterNet, stations: readonly Station[]): Promise<string[]> {
  const { nodes } = net.plan;
  const pairs = nodes.flatMap((_, a) =>
    nodes.flatMap((_, b) => (a === b ? [] : [[a, b] as const]))
  );
  for (const [a, b] of pairs) await stations[a].send(nodes[b].linkAddr, `${a}→${b}`);
  // By then all have come that will: this one is sent last, to oneself.
  await new Promise((resolve) => setTimeout(resolve, LOST_MS));
  const ways: string[] = [];
  for (const [i, station] of stations.entries()) {
    await station.send(nodes[i].linkAddr, "end");
    for (let text = await station.hear(); text !== "end"; text = await station.hear()) {
      ways.push(text);
    }
  }
  return ways.sort();
}

const ALL = ["0→1", "0→2", "1→0", "1→2", "2→0", "2→1"];

function allBut(...cut: string[]): string[] {
  return ALL.filter((way) => !cut.includes(way));
}

async function namespaceNames(): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of Deno.readDir("/run/netns")) names.push(name);
  return names.filter((name) => name.startsWith(`pushd-test-${Deno.pid}-`));
}

Deno.test({
  name:
    `a network of the tests' own: links are cut, both ways and one way, and whole again${network.reason}`,
  ignore: network.ignore,
  async fn() {
    await using stack = new AsyncDisposableStack();
    const [net, stations] = await threeStations(stack);
    assert.deepEqual(await waysOf(net, stations), ALL);

    const healPair = await net.cut(0, 1);
    assert.deepEqual(await waysOf(net, stations), allBut("0→1", "1→0"));
    // Cuts overlap: the way is open again when both are healed.
    const healWay = await net.cutOneWay(0, 1);
    await healPair();
    assert.deepEqual(await waysOf(net, stations), allBut("0→1"));
    await healWay();
    await healWay();
    assert.deepEqual(await waysOf(net, stations), ALL);

    const healNode = await net.cutNode(2);
    assert.deepEqual(await waysOf(net, stations), allBut("0→2", "1→2", "2→0", "2→1"));
    await healNode();
    assert.deepEqual(await waysOf(net, stations), ALL);
  },
});

Deno.test({
  name: `a network of the tests' own: a slow link is slow, and no other${network.reason}`,
  ignore: network.ignore,
  async fn() {
    await using stack = new AsyncDisposableStack();
    const [net, stations] = await threeStations(stack);
    const { nodes } = net.plan;
    /** How long 30 KB need. */
    const timeOf = async (from: number, to: number) => {
      const startMs = performance.now();
      await stations[from].send(nodes[to].linkAddr, "x", 30, 1000);
      for (let i = 0; i < 30; i++) assert.equal(await stations[to].hear(), "x");
      return performance.now() - startMs;
    };
    // 16 KB pass at once, the rest needs 220 ms.
    const SLOW_MS = 150;
    const healLink = await net.slowLink(0, 1, "512kbit");
    assert.ok(await timeOf(0, 1) > SLOW_MS);
    assert.ok(await timeOf(1, 0) > SLOW_MS);
    assert.ok(await timeOf(0, 2) < SLOW_MS);
    assert.ok(await timeOf(2, 1) < SLOW_MS);
    await healLink();
    assert.ok(await timeOf(0, 1) < SLOW_MS);

    const healNode = await net.slow(0, "512kbit");
    assert.ok(await timeOf(0, 2) > SLOW_MS);
    assert.ok(await timeOf(1, 0) > SLOW_MS);
    assert.ok(await timeOf(1, 2) < SLOW_MS);
    await healNode();
    assert.ok(await timeOf(0, 2) < SLOW_MS);
  },
});

Deno.test({
  name:
    `a network of the tests' own: it is gone afterwards, also when a test fails${network.reason}`,
  ignore: network.ignore,
  async fn() {
    await assert.rejects(async () => {
      await using net = await ClusterNet.create(2);
      assert.equal((await namespaceNames()).length, 3);
      await net.cut(0, 1);
      await net.slow(0, "1mbit");
      throw new Error("a failed test");
    }, /a failed test/);
    assert.deepEqual(await namespaceNames(), []);
  },
});
