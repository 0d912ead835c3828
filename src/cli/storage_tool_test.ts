// History as JSON lines: out of a store, into another, and what is refused on the way.

import assert from "node:assert/strict";
import fc from "fast-check";
import { MemoryStore } from "../../tests/memory_stores.ts";
import { LineFault, parseLine } from "./message_lines.ts";
import { exportHistory, importHistory } from "./storage_tool.ts";

const TS = 1_700_000_000_000_000;
const silent = () => {};

async function exported(store: MemoryStore): Promise<string> {
  let text = "";
  await exportHistory(store, {
    write: (part) => {
      text += part;
      return Promise.resolve();
    },
  }, silent);
  return text;
}

/** As a stream of pieces of `size` bytes. */
function streamOf(text: string | Uint8Array, size = 7): ReadableStream<Uint8Array> {
  const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
  return ReadableStream.from((function* () {
    for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
  })());
}

const name = fc.string({ unit: "grapheme", minLength: 1, maxLength: 8 })
  .filter((text) => /^[^\p{Cc}\s$@*-][^\p{Cc}\s*]*$/u.test(text));
const message = fc.record({
  app: name,
  channel: name,
  ts: fc.integer({ min: 0, max: 30 }).map((n) => TS + n),
  node: name,
  from: fc.option(name, { nil: undefined }),
  msg: fc.string({ unit: "binary", minLength: 1 })
    .filter((text) => !/\n|[\r\0]$/.test(text) && text.isWellFormed()),
});

Deno.test("what is imported is exported, each message once, in whatever order it came", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(message, { maxLength: 40 }), async (messages) => {
      const store = new MemoryStore();
      const lines = messages.map((one) => JSON.stringify(one));
      const count = await importHistory(streamOf(lines.join("\n")), store, silent);
      assert.equal(count, messages.length);
      const first = await exported(store);
      const key = ({ app, channel, ts, node }: typeof messages[0]) =>
        JSON.stringify([app, channel, ts, node]);
      const expected = new Map<string, unknown>();
      for (const one of messages) {
        if (!expected.has(key(one))) expected.set(key(one), JSON.parse(JSON.stringify(one)));
      }
      const got = first.trimEnd().split("\n").filter((line) => line !== "")
        .map((line) => JSON.parse(line));
      assert.deepEqual(new Set(got.map(key)), new Set(expected.keys()));
      assert.equal(got.length, expected.size);
      for (const one of got) assert.deepEqual(one, expected.get(key(one)));
      // Again changes nothing, and so does a round through another store.
      await importHistory(streamOf(first), store, silent);
      assert.equal(await exported(store), first);
      const other = new MemoryStore();
      await importHistory(streamOf(first, 4096), other, silent);
      assert.equal(await exported(other), first);
    }),
    { numRuns: 60 },
  );
});

Deno.test("a line that is no message is named, and what came before it is kept", async () => {
  const store = new MemoryStore();
  const good = JSON.stringify({ app: "a", channel: "c", ts: TS, node: "n", msg: "x" });
  await assert.rejects(
    () => importHistory(streamOf(`${good}\n\n{"app":"a"}\n${good}\n`), store, silent),
    (error) => error instanceof LineFault && /^line 3: ts: /.test(error.message),
  );
  assert.equal(await exported(store), `${good}\n`);
  await assert.rejects(
    () => importHistory(streamOf(Uint8Array.of(0x7b, 0xff)), store, silent),
    /not UTF-8/,
  );
});

Deno.test("each part of a message is checked", () => {
  const good = { app: "a", channel: "c", ts: TS, node: "n", msg: "x" };
  assert.deepEqual(parseLine(JSON.stringify(good)), good);
  assert.deepEqual(parseLine(JSON.stringify({ ...good, from: null, more: 1 })), good);
  const wrong: [Record<string, unknown>, RegExp][] = [
    [{ ts: "1700000000000000" }, /^ts: /],
    [{ ts: 1.5e15 + 0.5 }, /^ts: /],
    [{ ts: 17 }, /^ts: 17 .*16 digits/],
    [{ app: "" }, /^app: /],
    [{ channel: "a b" }, /^channel: /],
    [{ channel: "$x" }, /^channel: /],
    [{ channel: 5 }, /^channel: 5 /],
    [{ node: undefined }, /^node: nothing /],
    [{ from: "\ud800" }, /^from: /],
    [{ msg: "" }, /^msg: /],
    [{ msg: "a\nb" }, /^msg: /],
    [{ msg: "a\r" }, /^msg: /],
    [{ msg: "\udfff" }, /^msg: /],
  ];
  for (const [part, expected] of wrong) {
    assert.throws(() => parseLine(JSON.stringify({ ...good, ...part })), { message: expected });
  }
  for (const line of ["", "x", "[]", "null", "5"]) {
    assert.throws(() => parseLine(line), LineFault);
  }
});
