import assert from "node:assert/strict";
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
