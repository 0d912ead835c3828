// The outgoing side, on a socket that takes as much as it is told to.

import assert from "node:assert/strict";
import fc from "fast-check";
import { anyText } from "../../tests/any_text.ts";
import { BufferLedger, bufferOf } from "../../tests/buffer_ledger.ts";
import { goRound } from "../../tests/go_round.ts";
import { buffers } from "../core/buffer_pool.ts";
import { countOf, Histogram } from "../core/histogram.ts";
import { Turn } from "../core/turn.ts";
import { decodeUtf8, encodeUtf8, LF } from "../proto/bytes.ts";
import { type Sink, Writer, type WriterOwner } from "./writer.ts";

const LAST = "ERROR slow-consumer é";
const DIGITS = encodeUtf8("1700000000123456");

/** A socket: each write waits until some of it is taken. */
class FakeSink implements Sink {
  readonly writes: number[] = [];
  #taken: number[] = [];
  #waiting: { bytes: Uint8Array; resolve(count: number): void; reject(error: Error): void } | null =
    null;

  write(bytes: Uint8Array): Promise<number> {
    assert.equal(this.#waiting, null, "two writes at once");
    assert.ok(bytes.length > 0, "a write of nothing");
    this.writes.push(bytes.length);
    return new Promise((resolve, reject) => this.#waiting = { bytes, resolve, reject });
  }

  /** Bytes of the write that waits. */
  get offered(): number {
    return this.#waiting?.bytes.length ?? 0;
  }

  get text(): string {
    return decodeUtf8(Uint8Array.from(this.#taken));
  }

  get takenBytes(): number {
    return this.#taken.length;
  }

  /** Takes at most `count` bytes and lets the writer see it. */
  async take(count: number): Promise<void> {
    const waiting = this.#waiting;
    if (waiting === null) return;
    this.#waiting = null;
    const taken = waiting.bytes.subarray(0, count);
    for (const byte of taken) this.#taken.push(byte);
    waiting.resolve(taken.length);
    await goRound();
  }

  async takeAll(): Promise<void> {
    while (this.#waiting !== null) await this.take(Infinity);
  }

  async fail(): Promise<void> {
    this.#waiting?.reject(new Error("broken pipe"));
    this.#waiting = null;
    await goRound();
  }
}

/** A writer with its surroundings; what it tells its connection is in `told`. */
class Bench implements WriterOwner, Disposable {
  readonly ledger = new BufferLedger();
  readonly sink = new FakeSink();
  readonly told: string[] = [];
  readonly writer: Writer;
  /** Bytes that it was told of. */
  wrote = 0;

  constructor(maxPendingBytes = 1 << 20) {
    this.writer = new Writer(this.sink, new Turn(), this, maxPendingBytes);
  }

  deliver(text: string): void {
    this.writer.deliver(bufferOf(buffers, text));
  }

  onWriteStarted(): void {
    this.told.push("started");
  }
  onWrote(count: number): void {
    this.wrote += count;
  }
  onDrained(): void {
    this.told.push("drained");
  }
  onOverflow(): void {
    this.told.push("overflow");
    this.writer.cut(LAST);
  }
  onFinished(): void {
    this.told.push("finished");
  }
  onWriteFailed(): void {
    this.told.push("failed");
  }

  /** How often it was told so. */
  times(what: string): number {
    return this.told.filter((other) => other === what).length;
  }

  [Symbol.dispose](): void {
    this.ledger[Symbol.dispose]();
  }
}

Deno.test("a turn's lines are one write, in the order in which they were queued", async () => {
  using b = new Bench();
  b.writer.queueLine("SUBSCRIBED é");
  b.deliver("MESSAGE c 1 a\r\nMESSAGE c 2 b\r\n");
  b.writer.queuePublished(DIGITS);
  b.writer.queueLine("PONG");
  b.deliver("MESSAGE c 3 c\r\n");
  assert.deepEqual(b.sink.writes, []);
  await goRound();
  assert.equal(b.sink.writes.length, 1);
  assert.ok(b.writer.stalledSinceMs > 0);
  await b.sink.takeAll();
  assert.equal(
    b.sink.text,
    "SUBSCRIBED é\r\nMESSAGE c 1 a\r\nMESSAGE c 2 b\r\nPUBLISHED 1700000000123456\r\nPONG\r\n" +
      "MESSAGE c 3 c\r\n",
  );
  assert.equal(b.writer.pending, 0);
  assert.equal(b.writer.written, b.sink.takenBytes);
  assert.equal(b.writer.stalledSinceMs, 0);
  assert.equal(b.ledger.owned, 0);
  assert.deepEqual(b.told, ["started", "drained"]);
});

Deno.test("what is queued while a write waits goes with the next one", async () => {
  using b = new Bench();
  b.writer.queueLine("1");
  await goRound();
  for (const line of ["2", "3", "4"]) {
    b.writer.queueLine(line);
    await goRound();
  }
  assert.equal(b.sink.writes.length, 1);
  await b.sink.take(1);
  assert.deepEqual(b.sink.writes, [3, 2]);
  await b.sink.takeAll();
  assert.deepEqual(b.sink.writes, [3, 2, 9]);
  assert.equal(b.sink.text, "1\r\n2\r\n3\r\n4\r\n");
});

Deno.test("small buffers are joined up to 64 KiB, a large one is written as it is", async () => {
  using b = new Bench(1 << 24);
  const line = (size: number, char: string) => `${char.repeat(size - 2)}\r\n`;
  const sizes = [...Array(40).fill(10_000), 70_000, 100, 300_000, 200, 200];
  const lines = sizes.map((size, i) => line(size, String.fromCharCode(0x41 + i)));
  for (const text of lines) b.deliver(text);
  await goRound();
  await b.sink.takeAll();
  assert.equal(b.sink.text, lines.join(""));
  assert.deepEqual(b.sink.writes, [
    ...Array(6).fill(60_000),
    40_000,
    70_000,
    100,
    300_000,
    400,
  ]);
  assert.equal(b.ledger.owned, 0);
});

Deno.test("thousands of buffers that wait are written in order, and all given back", async () => {
  using b = new Bench(1 << 24);
  const lines = Array.from({ length: 5000 }, (_, i) => `${i}`.padEnd(300, ".") + "\r\n");
  for (const text of lines) b.deliver(text);
  await goRound();
  // More comes while it is being written.
  for (const text of lines) {
    b.deliver(text);
    if (b.sink.writes.length < 5) await b.sink.take(Infinity);
  }
  await goRound();
  await b.sink.takeAll();
  assert.equal(b.sink.text, lines.join("") + lines.join(""));
  assert.equal(b.writer.pending, 0);
  assert.equal(b.ledger.owned, 0);
});

Deno.test("replies of every length and script", async () => {
  using b = new Bench(1 << 24);
  const lines = [0, 1, 80, 253, 254, 255, 256, 340, 1023, 1024, 1025, 70_000].flatMap((length) =>
    ["x", "é", "€", "🎉"].map((char) => char.repeat(length))
  );
  for (const line of lines) {
    b.writer.queueLine(line);
    b.writer.queuePublished(DIGITS);
  }
  for (let i = 0; i < 5000; i++) b.writer.queuePublished(DIGITS);
  await goRound();
  await b.sink.takeAll();
  const published = "PUBLISHED 1700000000123456\r\n";
  const expected = lines.map((line) => `${line}\r\n${published}`).join("");
  assert.equal(b.sink.text, expected + published.repeat(5000));
  assert.equal(b.writer.pending, 0);
  assert.equal(b.ledger.owned, 0);
});

Deno.test("more than the bound: overflow is told once, and nothing more is taken", async () => {
  using b = new Bench(100);
  b.writer.queueLine("x".repeat(98));
  assert.deepEqual(b.told, []);
  b.deliver("y\r\n");
  assert.deepEqual(b.told, ["overflow"]);
  for (let i = 0; i < 3; i++) {
    b.deliver("z\r\n");
    b.writer.queueLine("z");
    b.writer.queuePublished(DIGITS);
  }
  assert.ok(!b.writer.isOpen);
  await goRound();
  await b.sink.takeAll();
  assert.equal(b.sink.text, `${LAST}\r\n`);
  assert.deepEqual(b.told, ["overflow", "started", "finished"]);
  assert.equal(b.writer.pending, 0);
  assert.equal(b.ledger.owned, 0);
});

Deno.test("cut off with a write under way, whatever of it was and is taken: whole lines, the last one", async () => {
  const text = "aa\r\nb\r\ncécé\r\n\r\ndddd\r\n";
  const bytes = encodeUtf8(text);
  const { length } = bytes;
  for (let before = 0; before < length; before++) {
    for (const after of [1, 3, 4, Infinity]) {
      using b = new Bench();
      b.deliver(text);
      await goRound();
      if (before > 0) await b.sink.take(before);
      b.deliver("never\r\n");
      b.writer.queueLine("never");
      b.writer.cut(LAST);
      assert.equal(b.writer.pending, length - before + encodeUtf8(LAST).length + 2);
      await goRound();
      const taken = Math.min(before + after, length);
      await b.sink.take(after);
      const end = bytes[taken - 1] === LF ? taken : bytes.indexOf(LF, taken) + 1;
      const expected = decodeUtf8(bytes.subarray(0, end));
      while (b.sink.offered > 0) await b.sink.take(5);
      assert.equal(b.sink.text, `${expected}${LAST}\r\n`, `${before}, ${after}`);
      assert.equal(b.times("finished"), 1);
      assert.equal(b.writer.pending, 0);
      assert.equal(b.ledger.owned, 0);
      b.writer.close();
    }
  }
});

Deno.test("cut off while nothing is written, and after the end was asked for", async () => {
  for (const isEnding of [false, true]) {
    using b = new Bench();
    b.writer.queueLine("never");
    b.deliver("never\r\n");
    if (isEnding) b.writer.end();
    b.writer.cut(LAST);
    assert.equal(b.writer.pending, encodeUtf8(LAST).length + 2);
    await goRound();
    while (b.sink.offered > 0) await b.sink.take(1);
    assert.equal(b.sink.text, `${LAST}\r\n`);
    assert.equal(b.times("finished"), 1);
    assert.equal(b.ledger.owned, 0);
    b.writer.cut(LAST);
    b.writer.end();
    await goRound();
    assert.equal(b.sink.offered, 0);
    assert.equal(b.times("finished"), 1);
    assert.equal(b.ledger.owned, 0);
  }
});

Deno.test("end: what is queued is written, what comes later is not taken, and it is told once", async () => {
  for (const lines of [0, 1, 3]) {
    using b = new Bench();
    for (let i = 0; i < lines; i++) b.writer.queueLine(`${i}`);
    b.writer.end();
    b.writer.end();
    b.writer.queueLine("never");
    b.writer.queuePublished(DIGITS);
    b.deliver("never\r\n");
    await goRound();
    while (b.sink.offered > 0) {
      assert.equal(b.times("finished"), 0);
      await b.sink.take(2);
    }
    assert.equal(b.sink.text, ["0\r\n", "1\r\n", "2\r\n"].slice(0, lines).join(""));
    assert.equal(b.times("finished"), 1);
    assert.equal(b.times("drained"), 0);
    assert.equal(b.writer.pending, 0);
    assert.equal(b.ledger.owned, 0);
  }
});

Deno.test("close: everything is dropped, once, and the write under way is left alone", async () => {
  using b = new Bench();
  b.deliver("written\r\n");
  await goRound();
  b.deliver("queued\r\n");
  b.writer.queueLine("queued");
  const shared = bufferOf(buffers, "shared\r\n");
  shared.retain();
  b.writer.deliver(shared);
  b.writer.close();
  b.writer.close();
  b.writer.cut(LAST);
  b.writer.end();
  b.writer.queueLine("never");
  b.deliver("never\r\n");
  assert.equal(b.writer.pending, 0);
  assert.equal(b.writer.stalledSinceMs, 0);
  await goRound();
  await b.sink.takeAll();
  // The socket may still be reading those bytes: they must not be given to anybody else.
  assert.equal(b.sink.text, "written\r\n");
  assert.equal(b.ledger.ownerships, 2);
  shared.release();
  assert.equal(b.ledger.owned, 1);
  assert.deepEqual(b.told, ["started"]);
  assert.equal(b.writer.pending, 0);
});

Deno.test("a write that fails is told once; after close, none is", async () => {
  for (const isClosed of [false, true]) {
    using b = new Bench();
    b.deliver("x\r\n");
    await goRound();
    if (isClosed) b.writer.close();
    await b.sink.fail();
    assert.equal(b.times("failed"), isClosed ? 0 : 1);
    b.writer.close();
    await goRound();
    assert.equal(b.sink.offered, 0);
  }
});

Deno.test("a write that makes progress is not stalled", async () => {
  using b = new Bench();
  b.deliver("1234567\r\n");
  await goRound();
  const first = b.writer.stalledSinceMs;
  while (performance.now() <= first) await goRound();
  await b.sink.take(1);
  assert.ok(b.writer.stalledSinceMs > first);
  await b.sink.takeAll();
  assert.equal(b.writer.stalledSinceMs, 0);
});

Deno.test("a buffer shared by many writers is given back once all have written it", async () => {
  using b = new Bench();
  const others = Array.from({ length: 3 }, () => new FakeSink());
  const turn = new Turn();
  const writers = [b.writer, ...others.map((sink) => new Writer(sink, turn, b, 1000))];
  const shared = bufferOf(buffers, "to all\r\n");
  for (const writer of writers) {
    shared.retain();
    writer.deliver(shared);
  }
  shared.release();
  await goRound();
  for (const sink of [b.sink, ...others]) {
    assert.equal(b.ledger.owned, 1);
    await sink.take(3);
    await sink.takeAll();
    assert.equal(sink.text, "to all\r\n");
  }
  assert.equal(b.ledger.owned, 0);
});

Deno.test("any lines in any turns, taken in any pieces: the same bytes, and pending is what waits", async () => {
  type Step = (b: Bench) => void | Promise<void>;
  let expected = "";
  const text = anyText(0, 12).map((text) => text.replaceAll("\n", "_"));
  const step: fc.Arbitrary<Step> = fc.oneof(
    text.map((line): Step => (b) => {
      b.writer.queueLine(line);
      expected += `${line}\r\n`;
    }),
    fc.tuple(text, fc.integer({ min: 1, max: 4000 })).map(([line, times]): Step => (b) => {
      const lines = `${line}\r\n`.repeat(times);
      b.deliver(lines);
      expected += lines;
    }),
    fc.integer({ min: 1, max: 40 }).map((times): Step => (b) => {
      for (let i = 0; i < times; i++) b.writer.queuePublished(DIGITS);
      expected += "PUBLISHED 1700000000123456\r\n".repeat(times);
    }),
    fc.constant<Step>(() => goRound()),
    fc.oneof(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 400_000 })).map(
      (count): Step => (b) => b.sink.take(count),
    ),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.boolean(), async (steps, isCut) => {
      expected = "";
      using b = new Bench(1 << 30);
      for (const step of steps) {
        await step(b);
        assert.equal(b.writer.pending, encodeUtf8(expected).length - b.sink.takenBytes);
      }
      if (isCut) b.writer.cut(LAST);
      else b.writer.end();
      await goRound();
      await b.sink.takeAll();
      if (isCut) {
        const end = b.sink.text.length - LAST.length - 2;
        assert.equal(b.sink.text.slice(end), `${LAST}\r\n`);
        assert.ok(end === 0 || b.sink.text.slice(0, end).endsWith("\r\n"));
        assert.ok(expected.startsWith(b.sink.text.slice(0, end)));
      } else {
        assert.equal(b.sink.text, expected);
      }
      assert.equal(b.times("finished"), 1);
      assert.equal(b.writer.pending, 0);
      assert.equal(b.wrote, b.sink.takenBytes);
      assert.equal(b.ledger.owned, 0);
    }),
    { numRuns: 100 },
  );
});

Deno.test("a place in the stream is reached when the socket has taken everything up to it, once", async () => {
  using b = new Bench();
  const histogram = new Histogram();
  const count = () => countOf(histogram.snapshot());
  b.writer.queueLine("0123456789");
  b.writer.measure(histogram, performance.now() - 3000);
  // Another one meanwhile is not waited for.
  b.writer.measure(histogram, 0);
  b.writer.queueLine("behind it");
  await goRound();
  await b.sink.take(11);
  assert.equal(count(), 0);
  await b.sink.take(1);
  assert.equal(count(), 1);
  const { sum_s } = histogram.snapshot();
  assert.ok(sum_s >= 3 && sum_s < 60, `${sum_s} s`);
  await b.sink.takeAll();
  // The next one can be; what is cut off, or closed, is never reached.
  b.writer.queueLine("again");
  b.writer.measure(histogram, performance.now());
  await goRound();
  await b.sink.takeAll();
  assert.equal(count(), 2);
  b.writer.queueLine("cut");
  b.writer.measure(histogram, 0);
  b.writer.cut("ERROR slow-consumer it is long enough to pass that place");
  b.writer.measure(histogram, 0);
  await goRound();
  await b.sink.takeAll();
  b.writer.close();
  assert.equal(count(), 2);
});
