import assert from "node:assert/strict";
import { encodeUtf8 } from "../proto/bytes.ts";
import { PeerError } from "../engine/ports/router.ts";
import { FrameError, FrameReader, MAX_FRAME_BYTES, PayloadReader } from "./frame.ts";
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

Deno.test("questions: large answers come a few at a time, and small ones are not behind them", async () => {
  const questions = new Questions();
  const asked: number[] = [];
  const send = (frame: Uint8Array) => asked.push(new DataView(frame.buffer).getUint32(5));
  const large = Array.from({ length: 200 }, (_, i) => questions.ask({ i }, send, true));
  assert.equal(asked.length, 64);
  const small = questions.ask("small", send);
  assert.equal(asked.length, 65);
  const answer = (id: number) => {
    const frame = answerFrame(id, true, id);
    questions.processAnswer(new PayloadReader(frame, 5, frame.length));
  };
  answer(asked[64]);
  await small;
  for (let i = 0; i < asked.length; i++) if (i !== 64) answer(asked[i]);
  const values = (await Promise.all(large)).map(({ value }) => value);
  assert.deepEqual(values, asked.filter((_, i) => i !== 64));
  const left = [
    ...Array.from({ length: 100 }, () => questions.ask("more", send, true)),
    questions.ask("and more", send),
  ];
  questions.failAll("the link is down");
  for (const question of left) await assert.rejects(question, /the link is down/);
  const after = questions.ask("again", send, true);
  answer(asked[asked.length - 1]);
  await after;
});
