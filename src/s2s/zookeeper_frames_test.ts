import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import {
  checkInnerLength,
  FrameReader,
  MAX_FRAME_BYTES,
  ProtocolError,
} from "./zookeeper_frames.ts";

function frameOf(length: number, fill = 7): Buffer {
  const bytes = Buffer.alloc(4 + length, fill);
  bytes.writeInt32BE(length);
  return bytes;
}

function readAll(reader: FrameReader, chunks: Iterable<Buffer>): Buffer[] {
  const frames: Buffer[] = [];
  for (const chunk of chunks) {
    reader.push(chunk);
    for (let frame = reader.next(); frame !== null; frame = reader.next()) {
      frames.push(Buffer.from(frame));
    }
  }
  return frames;
}

Deno.test("zookeeper frames: the same, however the stream is cut", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 16, max: 90 }), { minLength: 1, maxLength: 6 }),
      fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1 }),
      (lengths, cuts) => {
        const frames = lengths.map((length, i) => frameOf(length, i));
        const stream = Buffer.concat(frames);
        const chunks: Buffer[] = [];
        for (let at = 0, i = 0; at < stream.length; i++) {
          const end = at + cuts[i % cuts.length];
          chunks.push(stream.subarray(at, end));
          at = end;
        }
        assert.deepEqual(readAll(new FrameReader(), chunks), frames);
      },
    ),
  );
});

Deno.test("zookeeper frames: a length that cannot be is refused at once", () => {
  for (const length of [-1, -4, 0, 15, MAX_FRAME_BYTES + 1, 0x7fffffff, -0x80000000]) {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32BE(length);
    const reader = new FrameReader();
    reader.push(bytes);
    assert.throws(() => reader.next(), ProtocolError, `${length}`);
  }
});

Deno.test("zookeeper frames: half a frame is forgotten with its connection", () => {
  const reader = new FrameReader();
  assert.deepEqual(readAll(reader, [frameOf(40).subarray(0, 30)]), []);
  reader.reset();
  assert.deepEqual(readAll(reader, [frameOf(20)]), [frameOf(20)]);
});

Deno.test("zookeeper frames: no more bytes inside than the frame has", () => {
  const frame = frameOf(37);
  for (
    const [length, isRight] of [[17, true], [18, false], [-1, true], [1 << 30, false]] as const
  ) {
    frame.writeInt32BE(length, 20);
    if (isRight) checkInnerLength(frame);
    else assert.throws(() => checkInnerLength(frame), ProtocolError, `${length}`);
  }
  // An answer without anything: an error.
  checkInnerLength(frameOf(16));
});
