// Several nodes, links that dawdle, clients that come and go: nothing is lost, and nothing comes twice.

import assert from "node:assert/strict";
import fc from "fast-check";
import { BufferLedger } from "../../tests/buffer_ledger.ts";
import { goRound } from "../../tests/go_round.ts";
import {
  type ClusterOptions,
  type Keeping,
  TestCluster,
  type TestNode,
  Visitor,
} from "../../tests/history_cluster.ts";

/** How far clocks may be apart, together with how long a message is under way, microseconds. */
const SKEW = 400_000;
const MAX_SKEW_OF_ONE = SKEW / 4;
const MAX_DELAY = SKEW / 4;
const MAX_STEP = SKEW / 16;

const RUNS = Number(Deno.env.get("CLUSTER_MODEL_RUNS") ?? 300);

function keyOf({ node, ts }: { node: string; ts: number }): string {
  return `${node} ${ts}`;
}

/** One who comes back again and again, to the same node. */
class Traveller {
  visitor: Visitor | null = null;
  /** What it has got at all, and what must not come again when it resumes exactly. */
  readonly had = new Set<string>();
  #known = new Set<string>();
  #session = new Set<string>();
  #checked = 0;
  #lastTs = 0;
  #askedTs = 0;
  #isCut = false;
  #cuts = 0;
  /** What it was told to expect, while that has still to come. */
  #expected: { count: number; least: ReadonlySet<string>; most: ReadonlySet<string> } | null = null;
  readonly #lastByNode = new Map<string, number>();
  partial = false;

  constructor(readonly node: TestNode, readonly room: number, readonly counts: Counts) {}

  join(): Promise<void> {
    if (this.visitor !== null) return Promise.resolve();
    const visitor = this.visitor = new Visitor(this.node, this.room);
    this.#askedTs = this.#lastTs;
    this.#expected = null;
    const { all: { published }, router: { down } } = this.node;
    const isCut = down.size > 0;
    this.#isCut = false;
    this.#cuts = this.node.all.cuts;
    const least = new Set(published.filter((one) => this.#isHere(one)).map(keyOf));
    return visitor.sub("c", this.#lastTs).then(
      ({ partial, count }) => {
        if (this.visitor !== visitor) return;
        // Those to whom there is no link do not know what is wanted from now on. What they had put into
        // the store of all has not arrived, and its place in the log is not known.
        this.#isCut ||= isCut || down.size > 0 || this.#cuts !== this.node.all.cuts;
        this.partial ||= partial || this.#isCut;
        this.counts[visitor.found]++;
        // What is missing may have been counted, where it has come to the log and is dropped there.
        if (!this.partial) this.#expected = { count, least, most: new Set(published.map(keyOf)) };
      },
    );
  }

  /** Whether a message has arrived, so that it has to be counted. */
  #isHere({ node, ts }: { node: string; ts: number }): boolean {
    return node === this.node.node || ts <= (this.node.router.watermarks.get(node) ?? 0);
  }

  /**
   * What was announced, and what has come of what there was then: not less, and not more. `isLax`: it
   * may have been more.
   */
  checkCount(isLax: boolean): void {
    const expected = this.#expected;
    if (expected === null) return;
    const { count, least, most } = expected;
    const got = [...this.#session];
    const min = got.filter((key) => least.has(key)).length;
    const max = got.filter((key) => most.has(key)).length;
    // Where a log begins, what was had may come again when the log ends.
    const isEnough = min <= count || isLax || this.visitor?.found === "at a begin";
    assert.ok(isEnough && count <= max, `${count} announced, ${min} to ${max} have come`);
  }

  read(): void {
    const { visitor } = this;
    if (visitor === null) return;
    visitor.read();
    const { got, nodes } = visitor.client;
    for (; this.#checked < got.length; this.#checked++) {
      const { ts, msg } = got[this.#checked];
      const node = nodes[this.#checked];
      const key = keyOf({ node, ts });
      assert.ok(!this.#session.has(key), `${msg} comes twice at once`);
      if (visitor.found === "exactly" && !this.#isAmbiguous && !this.#isCut) {
        assert.ok(!this.#known.has(key), `${msg} comes again`);
      }
      assert.ok(ts > (this.#lastByNode.get(node) ?? 0), `${msg} comes behind a later one`);
      this.#lastByNode.set(node, ts);
      this.#session.add(key);
      this.had.add(key);
      this.#lastTs = ts;
    }
  }

  /** Of two with the timestamp that was asked for it is not known which one was had last. */
  get #isAmbiguous(): boolean {
    return this.node.all.published.filter(({ ts }) => ts === this.#askedTs).length > 1;
  }

  leave(): void {
    const { visitor } = this;
    if (visitor === null) return;
    // What is still on its way to it is lost with the connection, as with a real one.
    visitor.leave();
    if (visitor.found !== "exactly" || this.#isAmbiguous) this.#known = new Set();
    if (this.#isCut || this.#cuts !== this.node.all.cuts) this.#known.clear();
    else for (const key of this.#session) this.#known.add(key);
    this.#session = new Set();
    this.#lastByNode.clear();
    this.#checked = 0;
    visitor.client.read();
    this.visitor = null;
  }
}

interface Counts {
  /** Travellers to whom it was said that something may be missing. */
  partial: number;
  exactly: number;
  "at a begin": number;
  "by time": number;
}

interface World {
  cluster: TestCluster;
  travellers: Traveller[];
  underWay: Promise<void>[];
}

/** Something that happens; its name tells what a counterexample is made of. */
class Step {
  constructor(readonly name: string, readonly run: (world: World) => void | Promise<void>) {}

  [fc.toStringMethod](): string {
    return this.name;
  }
}

function at<T>(items: readonly T[], place: number): T {
  return items[place % items.length];
}

function always(name: string, run: Step["run"]): fc.Arbitrary<Step> {
  return fc.constant(new Step(name, run));
}

/** A step with parameters. */
function any<T extends unknown[]>(
  name: string,
  arbitraries: { [K in keyof T]: fc.Arbitrary<T[K]> },
  run: (world: World, ...args: T) => void | Promise<void>,
): fc.Arbitrary<Step> {
  return fc.tuple<T>(...arbitraries).map((args) =>
    new Step(`${name} ${args.join(" ")}`, (world) => run(world, ...args))
  );
}

const place = fc.nat(11);
const few = fc.integer({ min: 1, max: 4 });

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 10,
    arbitrary: any("publish", [place, few], ({ cluster }, n, count) => {
      const node = at(cluster.nodes, n);
      for (let i = 0; i < count; i++) node.pub("c", `${cluster.published.length}`);
    }),
  },
  {
    weight: 6,
    arbitrary: any("later", [fc.integer({ min: 1, max: MAX_STEP })], ({ cluster }, micros) => {
      cluster.now += micros;
    }),
  },
  {
    weight: 10,
    arbitrary: any("arrive", [place, fc.boolean(), few], ({ cluster }, n, isFrames, count) => {
      const { ways } = cluster;
      if (ways.length === 0) return;
      const way = at(ways, n);
      const queue = isFrames ? way.frames : way.messages;
      for (const { arrive } of queue.splice(0, count)) arrive();
    }),
  },
  { weight: 3, arbitrary: always("all arrives", ({ cluster }) => cluster.arriveAll()) },
  {
    weight: 8,
    arbitrary: always("frames arrive", ({ cluster }) => {
      for (const { frames } of cluster.ways) for (const { arrive } of frames.splice(0)) arrive();
    }),
  },
  {
    weight: 3,
    arbitrary: any("clock", [place], ({ cluster }, n) => at(cluster.nodes, n).router.sayClock()),
  },
  {
    weight: 7,
    arbitrary: any("join", [place], ({ travellers, underWay }, n) => {
      underWay.push(at(travellers, n).join());
    }),
  },
  { weight: 2, arbitrary: any("leave", [place], ({ travellers }, n) => at(travellers, n).leave()) },
  {
    weight: 7,
    arbitrary: any("come back", [place], ({ travellers, underWay }, n) => {
      const traveller = at(travellers, n);
      traveller.leave();
      underWay.push(traveller.join());
    }),
  },
  {
    weight: 4,
    arbitrary: always("calm", async ({ cluster, travellers }) => {
      for (let i = 0; i < 3; i++) {
        for (const node of cluster.nodes) node.router.sayClock();
        cluster.arriveAll();
        for (let i = 0; i < 3; i++) await goRound();
        for (const traveller of travellers) traveller.read();
      }
    }),
  },
  { weight: 10, arbitrary: any("read", [place], ({ travellers }, n) => at(travellers, n).read()) },
  {
    weight: 1,
    arbitrary: any("interrupt", [place], ({ cluster }, n) => {
      at(cluster.nodes, n).cluster.logs.interrupt(null, -1);
    }),
  },
  {
    weight: 2,
    arbitrary: any("interrupt one", [place, place], ({ cluster }, n, m) => {
      at(cluster.nodes, n).cluster.logs.interrupt(at(cluster.nodes, m).node, -1);
    }),
  },
  {
    weight: 4,
    arbitrary: any("hold answers", [place, fc.boolean()], ({ cluster }, n, holds) => {
      const { router } = at(cluster.nodes, n);
      router.holds = holds;
      router.release();
    }),
  },
  {
    weight: 3,
    arbitrary: any("hold commits", [place, fc.boolean()], ({ cluster }, n, holds) => {
      const { store } = at(cluster.nodes, n);
      if (store === null) return;
      store.holds = holds;
      store.release();
    }),
  },
);

const anyFault: fc.Arbitrary<Step> = fc.oneof(
  any("silence", [place, place, fc.boolean()], ({ cluster }, n, m, isSilent) => {
    const { silent } = at(cluster.nodes, n).router;
    const { node } = at(cluster.nodes, m);
    if (isSilent) silent.add(node);
    else silent.delete(node);
  }),
  any("cut", [place, place], ({ cluster }, n, m) => {
    cluster.cut(at(cluster.nodes, n), at(cluster.nodes, m));
  }),
  always("mend", ({ cluster }) => cluster.mend()),
);

async function play(
  options: ClusterOptions,
  plan: {
    steps: Step[];
    skews: number[];
    rooms: number[];
    rounds: number;
    pace: number;
    pageMessages: number | undefined;
    hasFaults: boolean;
  },
  counts: Counts,
): Promise<void> {
  using _ledger = new BufferLedger();
  await using cluster = await TestCluster.open({ ...options, maxSkewMicros: SKEW });
  cluster.isPrompt = false;
  // What is reached back for lies behind the start, too.
  cluster.now += 10 * SKEW;
  cluster.nodes.forEach((node, i) => node.skew = plan.skews[i]);
  const travellers = plan.rooms.map((room, i) => new Traveller(cluster.nodes[i % 2], room, counts));
  const world: World = { cluster, travellers, underWay: [] };
  for (const step of plan.steps) {
    cluster.now += plan.pace;
    await step.run(world);
    // An outage is a delay, too.
    cluster.mend(cluster.now - MAX_DELAY);
    cluster.arriveAll(cluster.now - MAX_DELAY);
    for (let i = 0; i < plan.rounds; i++) await goRound();
  }
  for (const { router } of cluster.nodes) router.silent.clear();
  cluster.mend();
  for (const traveller of travellers) world.underWay.push(traveller.join());
  for (let i = 0; i < 3; i++) await cluster.settle();
  await Promise.all(world.underWay);
  for (const traveller of travellers) {
    for (let i = 0; i < 10_000 && (traveller.visitor?.replays.size ?? 0) > 0; i++) {
      traveller.read();
      await goRound();
    }
    traveller.read();
    assert.equal(traveller.visitor?.replays.size, 0, "a replay comes to no end");
    // What is put into the store of all at that moment may be left out where that is not read to its
    // end, and so may be what a peer has that does not answer when it is asked to count.
    traveller.checkCount(cluster.options.keeping === "one store" || plan.hasFaults);
    if (!plan.hasFaults) assert.equal(traveller.partial, false, "PARTIAL for nothing");
    if (traveller.partial) counts.partial++;
    for (const { ts, node, msg } of traveller.partial ? [] : cluster.published) {
      assert.ok(traveller.had.has(keyOf({ node, ts })), `${msg} is missing`);
    }
    traveller.leave();
  }
  for (const { world: app } of cluster.nodes) {
    for (const channel of app.channels()) assert.ok(channel.isIdle);
  }
}

function plans(hasFaults: boolean) {
  const step = hasFaults
    ? fc.oneof({ weight: 1, arbitrary: anyFault }, { weight: 15, arbitrary: anyStep })
    : anyStep;
  return fc.record({
    hasFaults: fc.constant(hasFaults),
    steps: fc.array(step, { maxLength: 200, size: "max" }),
    rounds: fc.integer({ min: 1, max: 5 }),
    pace: fc.constantFrom(0, SKEW / 100, MAX_STEP),
    pageMessages: fc.constantFrom(1, 2, 5, undefined, undefined),
    skews: fc.array(fc.integer({ min: -MAX_SKEW_OF_ONE, max: MAX_SKEW_OF_ONE }), {
      minLength: 3,
      maxLength: 3,
    }),
    rooms: fc.array(fc.constantFrom(1, 200, 1000, Infinity), { minLength: 2, maxLength: 4 }),
  });
}

const limits = fc.record({
  maxMessagesPerChannel: fc.constantFrom(0, 1, 3, 10, 30, 1000, 1000, 1000),
  maxBytes: fc.constantFrom(0, 3000, 1 << 30, 1 << 30, 1 << 30, 1 << 30),
});

async function playAny(keeping: Keeping, hasFaults: boolean): Promise<Counts> {
  const { setTimeout: original } = globalThis;
  // What is tried again after a second, or looked at after a while, does not wait here.
  globalThis.setTimeout = ((fn: () => void) => original(fn, 0)) as typeof setTimeout;
  const counts: Counts = { partial: 0, exactly: 0, "at a begin": 0, "by time": 0 };
  try {
    await fc.assert(
      fc.asyncProperty(plans(hasFaults), limits, async (plan, logs) => {
        const history = keeping === "own stores" ? { maxMessagesPerChannel: 3 } : {};
        const tellsOfAcknowledgements = plan.rounds > 1;
        const { pageMessages } = plan;
        await play(
          { nodes: 3, keeping, logs, history, tellsOfAcknowledgements, pageMessages },
          plan,
          counts,
        );
      }),
      { numRuns: RUNS },
    );
  } finally {
    globalThis.setTimeout = original;
  }
  return counts;
}

for (const keeping of ["memory", "own stores", "one store"] satisfies Keeping[]) {
  Deno.test(`any order of events in a cluster, ${keeping}: nothing is lost, nothing comes twice`, async () => {
    const counts = await playAny(keeping, false);
    // Each way has been gone.
    assert.ok(counts.exactly > RUNS / 2 && counts["by time"] > RUNS / 2, JSON.stringify(counts));
  });

  Deno.test(`peers that are away or do not answer, ${keeping}: what is missing is said`, async () => {
    const { partial } = await playAny(keeping, true);
    assert.ok(partial > RUNS / 20 && partial < RUNS * 2, `${partial} were told of it`);
  });
}
