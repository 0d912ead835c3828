// One channel's kept messages, against a plain list of them.

import assert from "node:assert/strict";
import fc from "fast-check";
import { BufferLedger } from "../../tests/buffer_ledger.ts";
import { decodeUtf8, encodeUtf8 } from "../proto/bytes.ts";
import { messagePrefix } from "../proto/encoder.ts";
import { ChannelHistory, type Cursor } from "./channel_history.ts";

const CHANNEL = "é1";
const PREFIX_LENGTH = messagePrefix(encodeUtf8(CHANNEL)).length;
const START_TS = 1_700_000_000_000_000;

interface Kept {
  ts: number;
  msg: string;
  from: string | undefined;
}

function lineOf({ ts, msg }: Kept): string {
  return `MESSAGE ${CHANNEL} ${ts} ${msg}\r\n`;
}

/** A history, and everything that was ever appended to it. */
class Pair {
  readonly all: Kept[] = [];
  readonly real: ChannelHistory;
  readonly cursors: { cursor: Cursor; at: number }[] = [];

  constructor(readonly lostTs = START_TS) {
    this.real = new ChannelHistory({
      prefixLength: PREFIX_LENGTH,
      lostTs,
      isOnlyCopy: true,
      node: "node-1",
    });
  }

  /** Index of the oldest message that is kept. */
  get first(): number {
    return this.all.length - this.real.count;
  }

  append(sizes: number[], gap: number, max: number, from?: (line: number) => string | undefined) {
    const batch = sizes.map((size, i): Kept => {
      const ts = (this.all.at(-1)?.ts ?? START_TS) + (i === 0 ? gap : 1);
      const message = { ts, msg: `${this.all.length}`.padEnd(size, "é"), from: from?.(i) };
      this.all.push(message);
      return message;
    });
    const kept = Math.min(max, this.real.count + sizes.length);
    this.real.append(encodeUtf8(batch.map(lineOf).join("")), {
      count: batch.length,
      lastTs: batch.at(-1)?.ts ?? 0,
      froms: from === undefined ? null : batch.map((message) => message.from),
    }, max);
    assert.equal(this.real.count, kept);
  }

  seek(ts: number, inclusive: boolean): void {
    const { cursor, count } = this.real.seek(inclusive ? ts - 1 : ts);
    const found = this.all.findIndex((message, i) =>
      i >= this.first && (inclusive ? message.ts >= ts : message.ts > ts)
    );
    const at = found < 0 ? this.all.length : found;
    assert.equal(count, this.all.length - at);
    this.cursors.push({ cursor, at });
  }

  /** Whether the cursor can still be read from: exactly as long as nothing behind it was dropped. */
  isReadable({ cursor, at }: { cursor: Cursor; at: number }): boolean {
    if (!this.real.isLost(cursor)) return true;
    assert.ok(at < this.first, "lost although everything behind it is kept");
    return false;
  }

  next(which: { cursor: Cursor; at: number }, maxBytes: number): void {
    if (!this.isReadable(which)) return;
    const piece = this.real.next(which.cursor, maxBytes);
    if (piece === undefined) return assert.equal(which.at, this.all.length);
    assert.ok(piece.count >= 1);
    assert.ok(piece.lines.length <= maxBytes || piece.count === 1, `${piece.lines.length} bytes`);
    const expected = this.all.slice(which.at, which.at + piece.count);
    assert.equal(decodeUtf8(piece.lines), expected.map(lineOf).join(""));
    const { node, froms, line } = piece;
    assert.equal(node, "node-1");
    assert.deepEqual(expected.map((_, i) => froms?.[line + i]), expected.map(({ from }) => from));
    which.at += piece.count;
  }

  dropOldestBlock(): void {
    const { count, bytes } = this.real;
    const freed = this.real.dropOldestBlock();
    assert.equal(bytes - this.real.bytes, freed);
    // A block whose messages were all trimmed away is gone already.
    assert.equal(freed > 0, this.real.count < count);
  }

  checkPartial(ts: number): void {
    const lostTs = this.first > 0 ? this.all[this.first - 1].ts : this.lostTs;
    assert.equal(this.real.isPartial(ts), ts !== 0 && lostTs > ts);
    assert.equal(this.real.isPartial(Math.max(0, ts - 1)), ts > 1 && lostTs >= ts);
  }

  /** A timestamp of interest: of a message, or beside one. */
  tsNear(place: number, offset: number): number {
    if (this.all.length === 0) return START_TS + offset;
    return this.all[place % this.all.length].ts + offset;
  }
}

type Step = (pair: Pair) => void;

const size = fc.oneof(
  { weight: 20, arbitrary: fc.integer({ min: 1, max: 60 }) },
  { weight: 3, arbitrary: fc.integer({ min: 1000, max: 8000 }) },
  { weight: 1, arbitrary: fc.integer({ min: 20_000, max: 40_000 }) },
);
const maxMessages = fc.oneof(fc.integer({ min: 0, max: 12 }), fc.constant(1000));
const offset = fc.integer({ min: -2, max: 2 });

function stepOf(max: number): fc.Arbitrary<Step> {
  const cursor = (pair: Pair, which: number) => pair.cursors[which % pair.cursors.length];
  return fc.oneof(
    {
      weight: 4,
      arbitrary: fc.tuple(
        fc.array(size, { minLength: 1, maxLength: 8 }),
        fc.integer({ min: 1, max: 5 }),
        fc.option(fc.integer({ min: 1, max: 3 })),
      ).map(([sizes, gap, every]): Step => (pair) =>
        pair.append(
          sizes,
          gap,
          max,
          every === null ? undefined : (i) => i % every === 0 ? `user${i}` : undefined,
        )
      ),
    },
    {
      weight: 3,
      arbitrary: fc.tuple(fc.nat(), offset, fc.boolean()).map(
        ([place, offset, inclusive]): Step => (pair) =>
          pair.seek(pair.tsNear(place, offset), inclusive),
      ),
    },
    {
      weight: 6,
      arbitrary: fc.tuple(fc.nat(), fc.oneof(fc.nat(200), fc.nat(70_000))).map(
        ([which, bytes]): Step => (pair) => {
          if (pair.cursors.length > 0) pair.next(cursor(pair, which), bytes);
        },
      ),
    },
    {
      weight: 4,
      arbitrary: fc.nat().map((which): Step => (pair) => {
        if (pair.cursors.length > 0) pair.next(cursor(pair, which), 1);
      }),
    },
    {
      weight: 2,
      arbitrary: fc.tuple(fc.nat(), offset).map(([place, offset]): Step => (pair) =>
        pair.checkPartial(pair.tsNear(place, offset))
      ),
    },
    { weight: 1, arbitrary: fc.constant<Step>((pair) => pair.dropOldestBlock()) },
    {
      weight: 1,
      arbitrary: fc.nat(20).map((max): Step => (pair) => {
        const kept = Math.min(max, pair.real.count);
        pair.real.trim(max);
        assert.equal(pair.real.count, kept);
      }),
    },
  );
}

Deno.test("whatever is appended, dropped and read in whatever order: what a plain list says", () => {
  const plan = maxMessages.chain((max) => fc.array(stepOf(max), { maxLength: 80 }));
  fc.assert(
    fc.property(plan, (steps) => {
      using ledger = new BufferLedger();
      const pair = new Pair();
      for (const step of steps) {
        step(pair);
        assert.ok(pair.real.bytes >= 0);
      }
      pair.checkPartial(0);
      pair.seek(0, false);
      for (const which of pair.cursors) {
        while (pair.isReadable(which) && which.at < pair.all.length) pair.next(which, 5000);
      }
      pair.real.clear();
      assert.equal(pair.real.count, 0);
      assert.equal(pair.real.bytes, 0);
      assert.equal(ledger.owned, 0);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("a place behind the newest message is the place of what comes next", () => {
  const pair = new Pair();
  pair.seek(0, false);
  pair.append([5, 5], 1, 100);
  pair.seek(pair.all[1].ts, false);
  pair.append([5], 1, 100);
  // The second batch lies in the first one's block.
  for (const which of pair.cursors) {
    while (which.at < 3) pair.next(which, 1);
    pair.next(which, 1);
  }
  pair.real.clear();
});

Deno.test("a place behind the newest message outlives that message", () => {
  const pair = new Pair();
  pair.append([5, 5], 1, 100);
  pair.seek(pair.all[1].ts, false);
  pair.real.clear();
  const [which] = pair.cursors;
  assert.ok(!pair.real.isLost(which.cursor));
  pair.append([5, 5], 1, 100);
  pair.next(which, 1);
  assert.equal(which.at, 3);
  pair.dropOldestBlock();
  assert.ok(pair.real.isLost(which.cursor));
});

Deno.test("lines that no longer count can be read to the end by who was there before", () => {
  const pair = new Pair();
  pair.append([5, 5, 5], 1, 100);
  pair.seek(0, false);
  pair.append([5], 1, 2);
  assert.equal(pair.real.count, 2);
  const [which] = pair.cursors;
  assert.ok(!pair.real.isLost(which.cursor));
  pair.next(which, 1000);
  assert.equal(which.at, 4);
  pair.seek(0, false);
  assert.equal(pair.cursors[1].at, 2);
  pair.real.clear();
});

Deno.test("many small batches share a block; bytes are what the blocks take", () => {
  const pair = new Pair();
  for (let i = 0; i < 1000; i++) pair.append([20], 1, 10_000);
  const payload = pair.all.map(lineOf).join("").length;
  assert.ok(pair.real.bytes < 3 * payload, `${pair.real.bytes} for ${payload}`);
  assert.ok(pair.real.bytes >= payload);
  pair.real.clear();
});

Deno.test("with no messages allowed none is kept, and that is known", () => {
  const pair = new Pair();
  pair.append([5, 5], 1, 0);
  assert.equal(pair.real.bytes, 0);
  pair.checkPartial(START_TS + 1);
  pair.checkPartial(START_TS + 2);
  pair.seek(0, true);
});
