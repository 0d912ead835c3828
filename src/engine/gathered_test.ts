import assert from "node:assert/strict";
import { BufferLedger } from "../../tests/buffer_ledger.ts";
import { decodeUtf8, encodeUtf8 } from "../proto/bytes.ts";
import type { Stretch } from "../proto/event_lines.ts";
import { Gathered } from "./gathered.ts";

const TS = 1_700_000_000_000_000;
const PREFIX = "MESSAGE é ";

function stretchOf(
  node: string,
  texts: string[],
  froms: Stretch["froms"] = null,
  line = 0,
): Stretch & { count: number } {
  const lines = encodeUtf8(texts.map((text) => `${PREFIX}${TS} ${text}\r\n`).join(""));
  return { node, lines, count: texts.length, froms, line };
}

Deno.test("gathered: lines as they are, and begins anew", () => {
  using ledger = new BufferLedger();
  const gathered = new Gathered("text", "é", encodeUtf8(PREFIX).length);
  gathered.add(stretchOf("a", ["1", "2"]));
  gathered.add(stretchOf("b", ["ü"]));
  assert.equal(gathered.count, 3);
  const buffer = gathered.take();
  const expected = ["1", "2", "ü"].map((text) => `${PREFIX}${TS} ${text}\r\n`).join("");
  assert.equal(decodeUtf8(buffer.view), expected);
  assert.deepEqual([gathered.count, gathered.size], [0, 0]);
  buffer.release();
  assert.equal(ledger.owned, 0);
});

Deno.test("gathered: events, each with its node and its publisher", () => {
  using ledger = new BufferLedger();
  const gathered = new Gathered("json", "é", encodeUtf8(PREFIX).length);
  gathered.add(stretchOf("a", ["1", "2"], [undefined, "anna", "bert"], 1));
  gathered.add(stretchOf("b", ["ü"]));
  const buffer = gathered.take();
  const events = decodeUtf8(buffer.view).trimEnd().split("\r\n").map((line) => {
    assert.match(line, /^EVENT /);
    return JSON.parse(line.slice(6));
  });
  const event = { op: "msg", channel: "é", ts: TS };
  assert.deepEqual(events, [
    { ...event, node: "a", from: "anna", msg: "1" },
    { ...event, node: "a", from: "bert", msg: "2" },
    { ...event, node: "b", msg: "ü" },
  ]);
  assert.deepEqual([gathered.count, gathered.size], [0, 0]);
  buffer.release();
  assert.equal(ledger.owned, 0);
});
