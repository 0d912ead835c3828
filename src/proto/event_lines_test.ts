// EVENT lines made of MESSAGE lines, against those that are made of messages.

import assert from "node:assert/strict";
import fc from "fast-check";
import { anyText } from "../../tests/any_text.ts";
import { decodeUtf8, encodeUtf8 } from "./bytes.ts";
import { eventLine } from "./encoder.ts";
import { eventLines } from "./event_lines.ts";

interface Line {
  msg: string;
  from: string | undefined;
}

function made(channel: string, node: string, list: readonly Line[], froms: boolean): string {
  const ts = 1_700_000_000_123_456;
  const text = list.map(({ msg }, i) => `MESSAGE ${channel} ${ts + i} ${msg}\r\n`).join("");
  const buffer = eventLines(channel, encodeUtf8(`MESSAGE ${channel} `).length, {
    lines: encodeUtf8(text),
    node,
    // Two lines before these belong to the same block.
    froms: froms ? [undefined, "other", ...list.map(({ from }) => from)] : null,
    line: froms ? 2 : 0,
  });
  const got = decodeUtf8(buffer.view);
  buffer.release();
  const expected = list.map(({ msg, from }, i) =>
    eventLine({ channel, ts: ts + i, node, from: froms ? from : undefined, msg })
  );
  assert.equal(got, expected.join(""));
  return got;
}

const AWKWARD = [
  "x",
  '"',
  "\\",
  'ends in "',
  "a\rb",
  "\r\rb",
  "a\0b\x1f",
  "\x7f\x80",
  "\u2028\u2029",
  "\ufeffa",
  "🎉é日",
  "y".repeat(1023),
  "z".repeat(5000),
  `${"q".repeat(3000)}"`,
];

Deno.test("each line is the one that a message is made into, whatever has to be escaped", () => {
  for (const froms of [false, true]) {
    made(
      "c",
      "n",
      AWKWARD.map((msg, i) => ({ msg, from: ["u", "u", undefined, 'ü"'][i % 4] })),
      froms,
    );
    made('q"\\', "node:1", [{ msg: "x", from: "é" }], froms);
  }
  assert.equal(made("c", "n", [], false), "");
});

Deno.test("property: any texts, one behind the other", () => {
  // As a message can be: not empty, without LF, and not ending in CR.
  const msg = fc.oneof(fc.constantFrom(...AWKWARD), anyText(1)).map((text) =>
    `${text.replaceAll("\n", "")}.`
  );
  const from = fc.option(fc.constantFrom("a", "b", 'c"'), { nil: undefined });
  const lines = fc.array(fc.record({ msg, from }), { maxLength: 20 });
  fc.assert(fc.property(lines, fc.boolean(), (list, froms) => void made("c-é", "n", list, froms)));
});
