import assert from "node:assert/strict";
import fc from "fast-check";
import { encodeUtf8 } from "../proto/bytes.ts";
import { FrameReader, FrameType, MAX_FRAME_BYTES } from "./frame.ts";
import { Outbox, pubHead } from "./outbox.ts";

const HEAD = pubHead("default", "c");

function put(outbox: Outbox, text: string, count = 1): void {
  const view = encodeUtf8(text);
  outbox.append(HEAD, { lines: { view }, count, firstTs: 1, lastTs: 1, froms: null });
}

/** The numbers of the messages that are sent now, in order. */
function send(outbox: Outbox, maxBytes = 1 << 20): number[] {
  const reader = new FrameReader();
  reader.maxBytes = MAX_FRAME_BYTES;
  const numbers: number[] = [];
  for (let bytes = outbox.take(maxBytes); bytes !== undefined; bytes = outbox.take(maxBytes)) {
    reader.room(bytes.length).set(bytes);
    reader.filled(bytes.length);
    for (let frame = reader.next(); frame !== undefined; frame = reader.next()) {
      if (frame.type !== FrameType.pub) continue;
      const seq = frame.payload.u53();
      const count = frame.payload.u32();
      for (let i = 0; i < count; i++) numbers.push(seq + i);
    }
  }
  assert.equal(reader.pending, 0, "whole frames");
  return numbers;
}

Deno.test("outbox: sends each message once, in pieces of any size", () => {
  const outbox = new Outbox(1 << 20);
  put(outbox, "a");
  put(outbox, "bb", 2);
  assert.deepEqual(send(outbox, 7), [0, 1, 2]);
  put(outbox, "c");
  assert.deepEqual(send(outbox, 3), [3]);
  assert.deepEqual(send(outbox), []);
});

Deno.test("outbox: goes on from where the peer is, in the middle of a chunk", () => {
  const outbox = new Outbox(1 << 20);
  for (let i = 0; i < 10; i++) put(outbox, `m${i}`);
  assert.equal(send(outbox).length, 10);
  assert.equal(outbox.acknowledge(4), true);
  assert.equal(outbox.resume(6), true);
  assert.deepEqual(send(outbox), [6, 7, 8, 9]);
  assert.equal(outbox.lost, 0);
});

Deno.test("outbox: refuses a number that was never given", () => {
  const outbox = new Outbox(1 << 20);
  put(outbox, "a");
  assert.equal(outbox.acknowledge(2), false);
  assert.equal(outbox.resume(2), false);
});

Deno.test("outbox: over the bound the oldest goes and is counted, and the rest is whole", () => {
  const outbox = new Outbox(1 << 20);
  const text = "x".repeat(60_000);
  for (let i = 0; i < 100; i++) put(outbox, text);
  assert.ok(outbox.bytes <= 1 << 20, `${outbox.bytes} bytes are kept`);
  assert.equal(outbox.resume(0), true);
  const sent = send(outbox);
  assert.equal(sent.at(-1), 99);
  assert.equal(outbox.lost, sent[0]);
  assert.equal(sent.length, 100 - outbox.lost);
});

Deno.test("outbox: what was sent and dropped is lost only where the peer has not got it", () => {
  for (const got of [0, 50, 100]) {
    const outbox = new Outbox(1 << 20);
    const text = "x".repeat(60_000);
    for (let i = 0; i < 100; i++) {
      put(outbox, text);
      send(outbox);
    }
    assert.equal(outbox.lost, 0, "everything was on its way");
    assert.equal(outbox.resume(got), true);
    const sent = send(outbox);
    assert.equal(got + outbox.lost + sent.length, 100);
  }
});

Deno.test("outbox: acknowledged chunks are let go", () => {
  const outbox = new Outbox(1 << 30);
  for (let i = 0; i < 100; i++) put(outbox, "x".repeat(60_000));
  send(outbox);
  outbox.acknowledge(100);
  assert.ok(outbox.isEmpty);
  assert.ok(outbox.bytes < 200_000, `${outbox.bytes} bytes are kept`);
});

/** The way to a peer: what is sent arrives in pieces, or not at all when the link goes down. */
class Way {
  readonly outbox: Outbox;
  appended = 0;
  received = 0;
  /** The number that the peer expects next. */
  expected = 0;
  /** Messages that were given up although the peer had them: it had not yet said so. */
  mistaken = 0;
  #acked = 0;
  #isUp = true;
  #reader = new FrameReader();
  #sent: Uint8Array[] = [];

  constructor(maxBytes: number) {
    this.outbox = new Outbox(maxBytes);
  }

  append(bytes: number, count: number): void {
    put(this.outbox, "x".repeat(bytes), count);
    this.appended += count;
  }

  send(maxBytes: number): void {
    const bytes = this.#isUp ? this.outbox.take(maxBytes) : undefined;
    if (bytes !== undefined) this.#sent.push(bytes.slice());
  }

  arrive(pieces: number): void {
    for (const bytes of this.#sent.splice(0, pieces)) {
      this.#reader.maxBytes = MAX_FRAME_BYTES;
      this.#reader.room(bytes.length).set(bytes);
      this.#reader.filled(bytes.length);
      for (let frame = this.#reader.next(); frame !== undefined; frame = this.#reader.next()) {
        if (frame.type !== FrameType.pub) continue;
        const seq = frame.payload.u53();
        const count = frame.payload.u32();
        if (seq < this.expected) continue;
        this.expected = seq + count;
        this.received += count;
      }
    }
  }

  acknowledge(): void {
    if (!this.#isUp) return;
    assert.ok(this.outbox.acknowledge(this.expected));
    this.#acked = this.expected;
  }

  /** The peer has been down for too long; what is published from here on is for it all the same. */
  giveUp(): void {
    if (this.#isUp) return;
    this.outbox.giveUp();
    this.mistaken += Math.max(0, this.expected - this.#acked);
    this.#acked = this.appended;
  }

  down(): void {
    this.#isUp = false;
    this.#sent = [];
    this.#reader = new FrameReader();
  }

  up(): void {
    if (this.#isUp) return;
    this.#isUp = true;
    assert.ok(this.outbox.resume(this.expected));
    this.#acked = Math.max(this.#acked, this.expected);
  }

  /** Lets everything arrive that still can. */
  finish(): void {
    this.down();
    this.up();
    for (let left = -1; left !== this.expected;) {
      left = this.expected;
      for (let i = 0; i < 100; i++) this.send(1 << 20);
      this.arrive(Infinity);
    }
  }
}

Deno.test("outbox: what is counted as lost is what does not arrive, whatever happens to links", () => {
  const step = fc.oneof(
    { weight: 8, arbitrary: fc.tuple(fc.constant("append"), fc.nat(60_000), fc.nat(4)) },
    { weight: 3, arbitrary: fc.tuple(fc.constant("send"), fc.nat(300_000), fc.nat()) },
    { weight: 2, arbitrary: fc.tuple(fc.constant("arrive"), fc.nat(3), fc.nat()) },
    fc.tuple(fc.constant("acknowledge"), fc.nat(), fc.nat()),
    fc.tuple(fc.constantFrom("down", "up", "give up"), fc.nat(), fc.nat()),
  );
  const bounds = fc.constantFrom(65_536, 200_000, 400_000, 1 << 30);
  fc.assert(
    fc.property(
      bounds,
      fc.array(step, { maxLength: 30 }),
      (maxBytes, steps) => {
        const way = new Way(maxBytes);
        for (const [what, a, b] of steps) {
          if (what === "append") way.append(a + 1, b + 1);
          else if (what === "send") way.send(a + 1);
          else if (what === "arrive") way.arrive(a + 1);
          else if (what === "acknowledge") way.acknowledge();
          else if (what === "down") way.down();
          else if (what === "give up") way.giveUp();
          else way.up();
        }
        way.finish();
        assert.equal(way.outbox.unsentBytes, 0);
        assert.equal(way.outbox.lost, way.appended - way.received + way.mistaken);
      },
    ),
    { numRuns: 2000 },
  );
});

Deno.test("outbox: given up, everything that was not acknowledged is lost, and counted once", () => {
  const outbox = new Outbox(1 << 20);
  for (let i = 0; i < 10; i++) put(outbox, "x".repeat(60_000));
  send(outbox);
  outbox.acknowledge(10);
  for (let i = 0; i < 100; i++) put(outbox, "x".repeat(60_000));
  assert.ok(outbox.lost > 0, "some are lost already");
  outbox.giveUp();
  assert.equal(outbox.lost, 100);
  assert.deepEqual([outbox.bytes, outbox.unsentBytes], [0, 0]);
});
