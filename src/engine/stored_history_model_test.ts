// Whatever is published, kept, failed, pruned, evicted and read in whatever order: what a plain list says.

import assert from "node:assert/strict";
import fc from "fast-check";
import { Client, clientOf } from "../../tests/engine_bench.ts";
import { goRound } from "../../tests/go_round.ts";
import { HeldStore, type Outcome } from "../../tests/held_store.ts";
import { StoredBench } from "../../tests/stored_bench.ts";
import { WireError } from "../proto/errors.ts";
import type { Session } from "./session.ts";

const CHANNELS = ["c", "d", "e"];

interface Message {
  channel: string;
  ts: number;
  msg: string;
  /** When it was published, failed and pruned, as the number of a step. */
  at: number;
  failedAt: number;
  prunedAt: number;
}

interface Reader {
  session: Session;
  channel: string;
  afterTs: number;
  /** When it asked, and left. */
  askedAt: number;
  leftAt: number;
  isRefused: boolean;
}

/** An engine and a store, and a plain list of everything that was published. */
class Pair {
  readonly all: Message[] = [];
  readonly readers: Reader[] = [];
  readonly underWay: Promise<void>[] = [];
  /** Made when all is over, and it is known what became of each message. */
  readonly checks: (() => void)[] = [];
  now = 0;
  #publisher: Session;

  constructor(readonly bench: StoredBench, old: readonly Message[]) {
    this.all.push(...old);
    this.#publisher = bench.connect();
  }

  publish(channel: string, count: number): void {
    for (let i = 0; i < count; i++) {
      if (this.bench.queue.admission !== "open") return;
      const msg = `${this.all.length}`;
      const ts = this.bench.pub(this.#publisher, channel, msg);
      this.all.push({ channel, ts, msg, at: this.now, failedAt: Infinity, prunedAt: Infinity });
    }
  }

  /** Ends the commit under way; after a failure the store is soon up again. */
  async commit(outcome: Outcome): Promise<void> {
    const { bench } = this;
    if (!bench.store.isAppending) return;
    const { errors } = bench.queue.counters;
    bench.store.endAppend(outcome);
    if (outcome === "kept") return;
    await bench.until(() => bench.queue.counters.errors > errors && bench.queue.messages === 0);
    const { settledTs } = bench.queue;
    for (const message of this.all) {
      if (message.prunedAt !== Infinity || this.#kept.has(message.ts)) continue;
      if (message.ts <= settledTs) message.failedAt = Math.min(message.failedAt, this.now);
    }
    bench.queue.suspect();
    await bench.until(() => bench.queue.isUp);
  }

  #kept = new Set<number>();

  /** Notes what has been kept by now. */
  async noteKept(): Promise<void> {
    for await (const { lines } of this.bench.store.scan()) {
      const text = new TextDecoder().decode(lines);
      for (const line of text.trimEnd().split("\r\n")) this.#kept.add(Number(line.split(" ")[2]));
    }
  }

  async prune(keep: number): Promise<void> {
    const before = await this.#stamps();
    await this.bench.prune(0, keep);
    const after = await this.#stamps();
    for (const message of this.all) {
      if (before.has(message.ts) && !after.has(message.ts)) message.prunedAt = this.now;
    }
  }

  async #stamps(): Promise<Set<number>> {
    this.#kept.clear();
    await this.noteKept();
    return new Set(this.#kept);
  }

  /** A timestamp beside that of some message, not in the future; 0 now and then. */
  ts(place: number): number {
    if (this.all.length === 0 || place % 7 === 0) return 0;
    const newestTs = Math.max(...this.all.map(({ ts }) => ts));
    return Math.min(newestTs, this.all[place % this.all.length].ts + place % 3 - 1);
  }

  subscribe(channel: string, afterTs: number, room: number, form: "text" | "json"): void {
    const session = this.bench.connect(new Client(room));
    session.form = form;
    const reader: Reader = {
      session,
      channel,
      afterTs,
      askedAt: this.now,
      leftAt: Infinity,
      isRefused: false,
    };
    this.readers.push(reader);
    this.underWay.push((async () => {
      try {
        const { count, partial } = await this.bench.sub(session, channel, afterTs);
        if (reader.leftAt !== Infinity) return;
        const answeredAt = this.now;
        this.checks.push(() => {
          this.#checkPartial(reader, afterTs, partial, answeredAt);
          const { least, most } = this.#counts(channel, afterTs, reader.askedAt, answeredAt);
          assert.ok(least <= count && count <= most, `n is ${count}, not ${least} to ${most}`);
        });
      } catch (error) {
        if (!isUnavailable(error)) return void this.checks.push(() => assert.fail(`${error}`));
        reader.isRefused = true;
      }
    })());
  }

  history(channel: string, fromTs: number, limit: number): void {
    const askedAt = this.now;
    this.underWay.push((async () => {
      try {
        const { kept, partial } = await this.bench.his(channel, fromTs, limit);
        const afterTs = Math.max(0, fromTs - 1);
        const asked = { channel, askedAt };
        const answeredAt = this.now;
        this.checks.push(() => {
          this.#checkPartial(asked, afterTs, partial, answeredAt);
          const endTs = kept.length < limit ? Infinity : kept[kept.length - 1].ts;
          this.#check(asked, afterTs, kept, endTs, false);
          assert.ok(kept.length <= limit);
        });
      } catch (error) {
        if (!isUnavailable(error)) this.checks.push(() => assert.fail(`${error}`));
      }
    })());
  }

  #counts(channel: string, afterTs: number, askedAt: number, answeredAt: number): {
    least: number;
    most: number;
  } {
    const of = this.all.filter((one) => one.channel === channel && one.ts > afterTs);
    return {
      least:
        of.filter(({ at, failedAt, prunedAt }) =>
          at <= askedAt && failedAt === Infinity && prunedAt === Infinity
        ).length,
      most:
        of.filter(({ at, failedAt, prunedAt }) =>
          at <= answeredAt && failedAt >= askedAt && prunedAt >= askedAt
        ).length,
    };
  }

  #checkPartial(
    { channel, askedAt }: { channel: string; askedAt: number },
    afterTs: number,
    partial: boolean,
    answeredAt: number,
  ): void {
    const gone = this.all.filter((one) =>
      one.channel === channel && one.ts > afterTs && one.prunedAt <= answeredAt
    );
    if (afterTs === 0 || gone.length === 0) assert.equal(partial, false, "PARTIAL for nothing");
    else if (gone.some(({ prunedAt }) => prunedAt < askedAt)) assert.ok(partial, "not PARTIAL");
  }

  /** What somebody got who asked for a channel's messages up to `endTs`, and maybe goes on with live ones. */
  #check(
    { channel, askedAt }: { channel: string; askedAt: number },
    afterTs: number,
    got: readonly { ts: number; msg: string }[],
    endTs: number,
    isLive: boolean,
  ): void {
    const of = new Map(
      this.all.filter((one) => one.channel === channel).map((one) => [one.ts, one]),
    );
    let lastTs = afterTs;
    const stamps = new Set<number>();
    for (const { ts, msg } of got) {
      const message = of.get(ts);
      assert.ok(message !== undefined && message.msg === msg, `${msg} was never published`);
      assert.ok(ts > lastTs, `${msg} comes twice, or too late`);
      assert.ok(message.failedAt >= askedAt, `${msg} had failed before`);
      assert.ok(message.prunedAt >= askedAt, `${msg} had been deleted before`);
      lastTs = ts;
      stamps.add(ts);
    }
    for (const { ts, msg, at, failedAt, prunedAt } of of.values()) {
      if (ts <= afterTs || ts > endTs || prunedAt !== Infinity || failedAt !== Infinity) continue;
      // Within one step nobody knows which was first.
      if (at < askedAt || isLive) assert.ok(stamps.has(ts), `${msg} is missing`);
    }
  }

  leave(which: number): void {
    const reader = this.readers[which % this.readers.length];
    if (reader === undefined || reader.leftAt !== Infinity) return;
    if (which % 2 === 0) this.bench.engine.closeSession(reader.session);
    else this.bench.engine.unsubscribe(reader.session, reader.channel);
    reader.leftAt = this.now;
  }

  read(which: number): void {
    const reader = this.readers[which % this.readers.length];
    if (reader === undefined) return;
    clientOf(reader.session).read();
    this.bench.engine.pumpReplays(reader.session);
  }

  /** Lets everything come to its end, and looks at what everybody got. */
  async finish(): Promise<void> {
    const { bench } = this;
    bench.store.holdsReads = bench.store.holdsAppends = false;
    bench.store.releaseReads();
    bench.store.endAppend();
    await Promise.all(this.underWay);
    await bench.until(() => bench.queue.messages === 0);
    for (const check of this.checks) check();
    for (const reader of this.readers) {
      if (reader.leftAt === Infinity) await bench.got(reader.session);
      else clientOf(reader.session).read();
      if (reader.isRefused) {
        assert.equal(clientOf(reader.session).got.length, 0);
        continue;
      }
      const { got } = clientOf(reader.session);
      if (reader.leftAt === Infinity) {
        this.#check(reader, reader.afterTs, got, Infinity, true);
      } else {
        // As far as it came nothing is missing.
        this.#check(reader, reader.afterTs, got, got.at(-1)?.ts ?? 0, true);
      }
      bench.engine.closeSession(reader.session);
    }
    bench.checkEmpty();
    for (const channel of CHANNELS) {
      const left = this.all.filter((one) =>
        one.channel === channel && one.failedAt === Infinity && one.prunedAt === Infinity
      );
      assert.deepEqual(await bench.texts(channel), left.map(({ msg }) => msg));
    }
  }
}

function isUnavailable(error: unknown): boolean {
  return error instanceof WireError && error.code === "storage-unavailable";
}

type Step = (pair: Pair) => void | Promise<void>;

const channel = fc.constantFrom("c", "c", "c", "d", "e");
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.tuple(channel, fc.integer({ min: 1, max: 5 })).map(
      ([channel, count]): Step => (pair) => pair.publish(channel, count),
    ),
  },
  { weight: 6, arbitrary: fc.constant<Step>((pair) => pair.commit("kept")) },
  {
    weight: 1,
    arbitrary: fc.constantFrom<Outcome>("failed", "half").map((outcome): Step => (pair) =>
      pair.commit(outcome)
    ),
  },
  {
    weight: 5,
    arbitrary: fc.tuple(
      channel,
      fc.nat(1000),
      fc.constantFrom(1, 40, 120, Infinity),
      fc.constantFrom("text" as const, "json" as const),
    ).map(([channel, place, room, form]): Step => (pair) =>
      pair.subscribe(channel, pair.ts(place), room, form)
    ),
  },
  {
    weight: 4,
    arbitrary: fc.tuple(channel, fc.nat(1000), fc.constantFrom(1, 2, 5, 1000)).map(
      ([channel, place, limit]): Step => (pair) => pair.history(channel, pair.ts(place), limit),
    ),
  },
  { weight: 5, arbitrary: fc.nat(100).map((which): Step => (pair) => pair.read(which)) },
  { weight: 2, arbitrary: fc.nat(100).map((which): Step => (pair) => pair.leave(which)) },
  {
    weight: 1,
    arbitrary: fc.integer({ min: 1, max: 6 }).map((keep): Step => (p) => p.prune(keep)),
  },
  {
    weight: 6,
    arbitrary: fc.integer({ min: 1, max: 3 }).map((count): Step => (pair) =>
      pair.bench.store.releaseReads(count)
    ),
  },
);

Deno.test("any order of events: nothing is lost, nothing comes twice, and what is gone is said", async () => {
  // What waits for a second in the queue and in a replay does not wait here.
  const { setTimeout: original } = globalThis;
  const plan = fc.record({
    old: fc.integer({ min: 0, max: 12 }),
    steps: fc.array(step, { maxLength: 60 }),
    history: fc.record({
      maxMessagesPerChannel: fc.constantFrom(0, 1, 2, 3, 1000),
      maxIdleChannels: fc.constantFrom(0, 1, 100),
      maxBytes: fc.constantFrom(0, 2500, 1 << 30),
    }),
    holdsReads: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(plan, async ({ old, steps, history, holdsReads }) => {
      const store = new HeldStore();
      const before: Message[] = [];
      {
        await using bench = await StoredBench.open({ store });
        const texts = Array.from({ length: old }, (_, i) => `old ${i}`);
        for (const [i, ts] of (await bench.pubAll("c", texts)).entries()) {
          const msg = texts[i];
          before.push({ channel: "c", ts, msg, at: -1, failedAt: Infinity, prunedAt: Infinity });
        }
      }
      await using bench = await StoredBench.open({ store, history });
      store.holdsReads = holdsReads;
      store.holdsAppends = true;
      const pair = new Pair(bench, before);
      globalThis.setTimeout = ((fn: () => void) => original(fn, 0)) as typeof setTimeout;
      try {
        for (const step of steps) {
          pair.now++;
          await step(pair);
          await goRound();
          await pair.noteKept();
        }
        pair.now++;
        await pair.finish();
      } finally {
        globalThis.setTimeout = original;
      }
    }),
    { numRuns: 500 },
  );
});
