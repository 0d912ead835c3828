import assert from "node:assert/strict";
import { encodeUtf8 } from "../proto/bytes.ts";
import { PeerError } from "../engine/ports/router.ts";
import { FrameError, FrameReader, MAX_FRAME_BYTES, type PayloadReader } from "./frame.ts";
import { answerFrame, describeBlocks, Questions, readBlocks } from "./questions.ts";

function payloadOf(frame: Uint8Array): PayloadReader {
  const reader = new FrameReader();
  reader.maxBytes = MAX_FRAME_BYTES;
  reader.room(frame.length).set(frame);
  reader.filled(frame.length);
  const next = reader.next();
  assert.ok(next !== undefined);
  return next.payload;
}

const BLOCK = {
  node: "a",
  count: 2,
  firstTs: 1_700_000_000_000_000,
  lastTs: 1_700_000_000_000_001,
  froms: ["u", undefined],
  lines: encodeUtf8("MESSAGE c 1700000000000000 x\r\nMESSAGE c 1700000000000001 y\r\n"),
};

Deno.test("questions: answers find their questions, in any order", async () => {
  const questions = new Questions();
  const ids: number[] = [];
  const send = (frame: Uint8Array) => void ids.push(payloadOf(frame).u32());
  const first = questions.ask("first", send);
  const second = questions.ask("second", send);
  const described = describeBlocks([BLOCK]);
  questions.processAnswer(payloadOf(answerFrame(ids[1], true, described, [BLOCK])));
  questions.processAnswer(payloadOf(answerFrame(ids[0], false, "it cannot")));
  const { value, bytes } = await second;
  assert.deepEqual(readBlocks(value, bytes), [BLOCK]);
  await assert.rejects(
    first,
    (error) => error instanceof PeerError && /cannot/.test(error.message),
  );
  // Nobody waits for it any more.
  questions.processAnswer(payloadOf(answerFrame(ids[1], true, [])));
});

Deno.test("questions: a link that ends fails them all", async () => {
  const questions = new Questions();
  const asked = questions.ask("x", () => {});
  questions.failAll("the link is down");
  await assert.rejects(asked, PeerError);
});

Deno.test("questions: blocks that cannot be are refused", () => {
  const [good] = describeBlocks([BLOCK]) as Record<string, unknown>[];
  const { lines } = BLOCK;
  assert.throws(() => readBlocks({}, lines), FrameError);
  for (
    const wrong of [
      { bytes: lines.length + 1 },
      { bytes: -1 },
      { count: 0 },
      { count: 1.5 },
      { froms: ["u"] },
      { node: 1 },
      { lastTs: 2 ** 60 },
    ]
  ) {
    assert.throws(() => readBlocks([{ ...good, ...wrong }], lines), FrameError);
  }
});
