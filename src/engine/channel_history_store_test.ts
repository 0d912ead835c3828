// One channel's messages in front of a store: put in front, taken back, deleted and kept until they are settled.

import assert from "node:assert/strict";
import fc from "fast-check";
import { BufferLedger } from "../../tests/buffer_ledger.ts";
import { blockOf } from "../../tests/stored_bench.ts";
import { decodeUtf8, encodeUtf8 } from "../proto/bytes.ts";
import { messagePrefix } from "../proto/encoder.ts";
import { ChannelHistory, type Cursor } from "./channel_history.ts";

const CHANNEL = "c";
const PREFIX_LENGTH = messagePrefix(encodeUtf8(CHANNEL)).length;
const START_TS = 1_700_000_000_000_000;

interface Message {
  ts: number;
  msg: string;
  node: string;
  from: string | undefined;
  state: "kept" | "back" | "pruned";
}

/** A history, and every message that its store or it has ever had. */
class Pair {
  readonly all: Message[] = [];
  readonly real = new ChannelHistory({
    prefixLength: PREFIX_LENGTH,
    lostTs: START_TS,
    isOnlyCopy: false,
    node: "node-1",
  });
  /** Places, with the timestamp of the last message that was read or passed there. */
  readonly cursors: { cursor: Cursor; lastTs: number }[] = [];
  settledTs = START_TS;
  prunedTs = 0;
  lastTs = START_TS;

  /** `old`: messages in the store, from before the history began. */
  constructor(readonly old: number) {
    for (let i = 0; i < old; i++) {
      const node = i % 5 < 3 ? "node-1" : "node-2";
      const from = i % 2 === 0 ? `user${i}` : undefined;
      this.all.push({ ts: START_TS - old + i + 1, msg: `old ${i}`, node, from, state: "kept" });
    }
  }

  /** Messages that memory holds: those behind `lostTs` that are not gone. */
  get kept(): Message[] {
    const { lostTs } = this.real;
    return this.all.filter(({ ts, state }) => state === "kept" && ts > lostTs);
  }

  append(sizes: number[], max: number, isNamed: boolean): void {
    const batch = sizes.map((size): Message => {
      const msg = `${this.all.length}`.padEnd(size, "é");
      const from = isNamed ? `user${size}` : undefined;
      return { ts: this.lastTs += 2, msg, node: "node-1", from, state: "kept" };
    });
    this.all.push(...batch);
    this.real.append(
      encodeUtf8(batch.map(({ ts, msg }) => `MESSAGE ${CHANNEL} ${ts} ${msg}\r\n`).join("")),
      {
        count: batch.length,
        lastTs: this.lastTs,
        froms: isNamed ? batch.map(({ from }) => from) : null,
      },
      max,
      this.settledTs,
    );
  }

  /** The store's newest, up to `count` of them, come in front. */
  prepend(count: number): void {
    if (!this.real.isFresh) return;
    const { lostTs } = this.real;
    const older = this.all.filter(({ ts, state }) => state === "kept" && ts <= lostTs);
    const newest = older.slice(Math.max(0, older.length - count));
    const blocks = [];
    for (let i = 0; i < newest.length;) {
      let end = i + 1;
      while (end < newest.length && newest[end].node === newest[i].node) end++;
      blocks.push(blockOf(
        newest[i].node,
        CHANNEL,
        newest.slice(i, end).map(({ ts, msg, from }) => [ts, msg, from]),
      ));
      i = end;
    }
    const before = newest.length === older.length ? this.prunedTs : newest[0]?.ts - 1 || lostTs;
    this.real.prepend(blocks, Math.min(lostTs, before));
    assert.ok(!this.real.isFresh);
  }

  /** A commit has failed: all messages that were not settled are taken back, and settled by that. */
  takeBack(): void {
    this.#takeBackFrom(this.settledTs + 1);
    this.settledTs = this.lastTs;
  }

  /** The newest of them only, as when two groups fail one behind the other. */
  takeBackNewest(count: number): void {
    const waiting = this.all.filter(({ ts }) => ts > this.settledTs);
    if (waiting.length > 0) this.#takeBackFrom(waiting[Math.max(0, waiting.length - count)].ts);
  }

  #takeBackFrom(fromTs: number): void {
    this.real.takeBack(fromTs);
    for (const message of this.all) if (message.ts >= fromTs) message.state = "back";
  }

  settle(count: number): void {
    const waiting = this.all.filter(({ ts }) => ts > this.settledTs);
    this.settledTs = waiting[Math.min(count, waiting.length) - 1]?.ts ?? this.settledTs;
  }

  prune(place: number): void {
    const settled = this.all.filter(({ ts, state }) => ts <= this.settledTs && state === "kept");
    if (settled.length === 0) return;
    const { ts } = settled[place % settled.length];
    this.real.prune(ts);
    this.prunedTs = ts;
    for (const message of settled) if (message.ts <= ts) message.state = "pruned";
  }

  dropOldestBlock(): void {
    const { bytes } = this.real;
    const freed = this.real.dropOldestBlock(this.settledTs);
    assert.equal(bytes - this.real.bytes, freed);
  }

  seek(place: number): void {
    const afterTs = this.tsNear(place);
    const { cursor, count } = this.real.seek(afterTs);
    const behind = this.kept.filter(({ ts }) => ts > afterTs);
    assert.equal(count, behind.length);
    this.cursors.push({ cursor, lastTs: Math.max(afterTs, this.real.lostTs) });
  }

  read(which: number, maxBytes: number): void {
    const place = this.cursors[which % this.cursors.length];
    if (place === undefined) return;
    if (this.real.isLost(place.cursor)) {
      // Nothing behind what has been dropped was behind the cursor: then it is not lost.
      const { lostTs } = this.real;
      const dropped = this.all.some(({ ts }) => ts > place.lastTs && ts <= lostTs);
      // Behind lines that were taken back it may be, which costs a look at the store.
      const wasTakenBack = this.all.some(({ state }) => state === "back");
      assert.ok(dropped || wasTakenBack, "lost for nothing");
      return;
    }
    const expected = this.kept.filter(({ ts }) => ts > place.lastTs);
    const piece = this.real.next(place.cursor, maxBytes);
    const lines = decodeUtf8(piece?.lines ?? new Uint8Array()).split("\r\n").slice(0, -1);
    const got = lines.map((line) => {
      const [, , ts, ...words] = line.split(" ");
      return { ts: Number(ts), msg: words.join(" ") };
    });
    assert.equal(got.length, piece?.count ?? 0);
    for (const [i, { ts }] of got.entries()) {
      const known = this.all.find((one) => one.ts === ts);
      assert.deepEqual([piece?.node, piece?.froms?.[piece.line + i]], [known?.node, known?.from]);
    }
    if (got.length === 0) assert.deepEqual(expected, [], "the end, although more is kept");
    for (const { ts, msg } of got) {
      const known = this.all.find((one) => one.ts === ts);
      assert.equal(known?.msg, msg);
      assert.ok(ts > place.lastTs, "read twice");
      // Who was there before lines stopped counting may still read them, but never what was taken back.
      assert.notEqual(known?.state, "back");
      const passed = expected.filter((one) => one.ts > place.lastTs && one.ts < ts);
      assert.deepEqual(passed, [], "passed over");
      place.lastTs = ts;
    }
  }

  tsNear(place: number): number {
    if (this.all.length === 0) return START_TS;
    return this.all[place % this.all.length].ts + place % 3 - 1;
  }

  check(place: number): void {
    const { real, kept } = this;
    assert.equal(real.count, kept.length);
    assert.ok(real.bytes >= 0);
    assert.ok(real.lostTs <= Math.max(this.settledTs, START_TS), "dropped before it was settled");
    const afterTs = this.tsNear(place);
    const isThere = this.all.every(({ ts, state }) =>
      state !== "kept" || ts <= afterTs || ts > real.lostTs
    );
    // It need not know that nothing is missing, but where something is it must say so.
    if (!isThere) assert.ok(!real.covers(afterTs), "covers what it does not have");
    if (afterTs >= real.lostTs) assert.ok(real.covers(afterTs));
    assert.equal(real.isPartial(afterTs), this.prunedTs > afterTs);
    assert.equal(real.isPartial(0), false);
  }
}

type Step = (pair: Pair) => void;

const size = fc.oneof(
  { weight: 20, arbitrary: fc.integer({ min: 1, max: 60 }) },
  { weight: 1, arbitrary: fc.integer({ min: 5000, max: 20_000 }) },
);

function stepOf(max: number): fc.Arbitrary<Step> {
  const sizes = fc.array(size, { minLength: 1, maxLength: 5 });
  return fc.oneof(
    {
      weight: 6,
      arbitrary: fc.tuple(sizes, fc.boolean()).map(([sizes, isNamed]): Step => (pair) =>
        pair.append(sizes, max, isNamed)
      ),
    },
    {
      weight: 4,
      arbitrary: fc.integer({ min: 1, max: 9 }).map((n): Step => (pair) => pair.settle(n)),
    },
    { weight: 5, arbitrary: fc.nat(1000).map((place): Step => (pair) => pair.seek(place)) },
    {
      weight: 8,
      arbitrary: fc.tuple(fc.nat(100), fc.oneof(fc.constant(1), fc.nat(300))).map(
        ([which, bytes]): Step => (pair) => pair.read(which, bytes),
      ),
    },
    {
      weight: 2,
      arbitrary: fc.constantFrom(0, 1, 4, 1000).map((n): Step => (pair) => pair.prepend(n)),
    },
    { weight: 1, arbitrary: fc.constant<Step>((pair) => pair.takeBack()) },
    {
      weight: 1,
      arbitrary: fc.integer({ min: 1, max: 4 }).map((n): Step => (p) => p.takeBackNewest(n)),
    },
    { weight: 1, arbitrary: fc.nat(1000).map((place): Step => (pair) => pair.prune(place)) },
    { weight: 1, arbitrary: fc.constant<Step>((pair) => pair.dropOldestBlock()) },
    {
      weight: 1,
      arbitrary: fc.nat(10).map((max): Step => (pair) => pair.real.trim(max, pair.settledTs)),
    },
  );
}

Deno.test("whatever is kept, taken back, deleted, dropped and read: what a plain list says", () => {
  const plan = fc.tuple(
    fc.integer({ min: 0, max: 12 }),
    fc.constantFrom(0, 1, 3, 10, 1000).chain((max) => fc.array(stepOf(max), { maxLength: 60 })),
  );
  fc.assert(
    fc.property(plan, ([old, steps]) => {
      using ledger = new BufferLedger();
      const pair = new Pair(old);
      for (const [i, step] of steps.entries()) {
        step(pair);
        pair.check(i * 7);
      }
      for (let i = 0; i < pair.cursors.length; i++) {
        for (let n = 0; n < 20; n++) pair.read(i, 1000);
      }
      pair.real.clear();
      assert.deepEqual([pair.real.count, pair.real.bytes, ledger.owned], [0, 0, 0]);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("what one failure has emptied does not hide the messages before it from the next", () => {
  const pair = new Pair(0);
  pair.append([5, 5], 100, false);
  pair.append([40_000], 100, false);
  pair.takeBackNewest(1);
  assert.equal(pair.real.count, 2);
  pair.takeBack();
  assert.equal(pair.real.count, 0);
  pair.real.clear();
});

Deno.test("expiry of the only copy is PARTIAL for what it has deleted, not for its time", () => {
  const real = new ChannelHistory({
    prefixLength: PREFIX_LENGTH,
    lostTs: START_TS,
    isOnlyCopy: true,
    node: "node-1",
  });
  const lines = [1, 2, 3].map((n) => `MESSAGE ${CHANNEL} ${START_TS + n * 10} ${n}\r\n`).join("");
  real.append(encodeUtf8(lines), { count: 3, lastTs: START_TS + 30, froms: null }, 100);
  real.prune(START_TS + 25);
  assert.equal(real.count, 1);
  assert.ok(real.isPartial(START_TS + 19));
  assert.ok(!real.isPartial(START_TS + 20));
  real.prune(START_TS + 99);
  assert.equal(real.count, 0);
  assert.ok(real.isPartial(START_TS + 29));
  assert.ok(!real.isPartial(START_TS + 30));
});
