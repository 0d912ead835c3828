// The two forms of a message on the wire, and what is read back from a kept line.

import assert from "node:assert/strict";
import fc from "fast-check";
import { anyText } from "../../tests/any_text.ts";
import { viewOf } from "../core/text_copy.ts";
import { decodeUtf8, encodeUtf8 } from "./bytes.ts";
import {
  eventLine,
  isPrefixOf,
  lineText,
  lineTimestamp,
  MESSAGE_LINE_EXTRA,
  messagePrefix,
  prefixName,
  writeMessageLine,
} from "./encoder.ts";

const AWKWARD = [
  "x",
  " ",
  '"\\"',
  "a\u2028b\u2029c",
  "\ufeffwith a BOM",
  "a\rb",
  "a\0b",
  "\u0001\u001f\u007f\u0085",
  "🎉é日",
  "{}",
  "x".repeat(79),
  "x".repeat(80),
  "x".repeat(81),
  "é".repeat(5000),
];
const NAMES = ["c", "é", "n".repeat(54), "n".repeat(55), "n".repeat(56), "n".repeat(255)];

/** One line, written behind three bytes that must stay. */
function line(name: string, ts: number, msg: string): Uint8Array {
  const prefix = messagePrefix(encodeUtf8(name));
  const src = encodeUtf8(`<${msg}>`);
  const out = new Uint8Array(3 + prefix.length + src.length - 2 + MESSAGE_LINE_EXTRA).fill(7);
  const digits = encodeUtf8(String(ts).padStart(16, "0"));
  const end = writeMessageLine(
    { bytes: out, data: viewOf(out) },
    3,
    prefix,
    digits,
    src,
    1,
    src.length - 1,
  );
  assert.equal(end, out.length);
  assert.deepEqual([...out.subarray(0, 3)], [7, 7, 7]);
  return out;
}

Deno.test("a MESSAGE line holds channel, timestamp and message as they are", () => {
  for (const name of NAMES) {
    for (const msg of AWKWARD) {
      const ts = 1_700_000_000_123_456;
      assert.equal(decodeUtf8(line(name, ts, msg).subarray(3)), `MESSAGE ${name} ${ts} ${msg}\r\n`);
    }
  }
});

Deno.test("timestamp and text are read back from a line", () => {
  const text = fc.oneof(fc.constantFrom(...AWKWARD), anyText(1));
  const ts = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
  fc.assert(fc.property(fc.constantFrom(...NAMES), ts, text, (name, ts, msg) => {
    const bytes = line(name, ts, msg);
    const prefixLength = messagePrefix(encodeUtf8(name)).length;
    assert.equal(lineTimestamp(bytes, 3, prefixLength), ts);
    assert.equal(lineText(bytes, 3, bytes.length - 1, prefixLength), msg);
  }));
});

Deno.test("a prefix holds the channel's name, and is that of no other", () => {
  for (const name of NAMES) {
    const prefix = messagePrefix(encodeUtf8(name));
    assert.equal(prefixName(prefix), name);
    for (const other of [...NAMES, "", "cc", "e\u0301"]) {
      const bytes = encodeUtf8(`c${other}c`);
      assert.equal(isPrefixOf(prefix, bytes, 1, bytes.length - 1), other === name);
    }
  }
  assert.equal(prefixName(messagePrefix(encodeUtf8("\ufeffa"))), "\ufeffa");
});

Deno.test("an EVENT is one line of JSON that parses back to the same, `from` only where known", () => {
  const ts = 1_700_000_000_123_456;
  for (const msg of AWKWARD) {
    for (const from of [undefined, "ann", '"\u2028']) {
      const event = eventLine({ channel: "__proto__", ts, msg, from, node: "node-1" });
      assert.match(event, /^EVENT \{[^\r\n]*\}\r\n$/);
      const parsed = JSON.parse(event.slice(6));
      const expected = { op: "msg", channel: "__proto__", ts, node: "node-1", msg };
      assert.deepEqual(parsed, from === undefined ? expected : { ...expected, from });
    }
  }
});
