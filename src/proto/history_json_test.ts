// The JSON of `his` made of MESSAGE lines, against that of whole messages.

import assert from "node:assert/strict";
import fc from "fast-check";
import { anyText } from "../../tests/any_text.ts";
import { decodeUtf8, encodeUtf8 } from "./bytes.ts";
import { HistoryLine } from "./history_json.ts";

interface Line {
  msg: string;
  from: string | undefined;
  node: string;
}

const TS = 1_700_000_000_123_456;

/** The array of these messages, which is checked. */
function made(channel: string, messages: readonly Line[]): string {
  const prefix = `MESSAGE ${channel} `;
  const array = new HistoryLine(channel, encodeUtf8(prefix).length, messages.length);
  messages.forEach(({ msg, from, node }, i) => {
    // Somewhere in others' lines.
    const before = i % 2 === 0 ? "" : `${prefix}${TS} "before\r\n`;
    const line = `${prefix}${TS + i} ${msg}\r\n`;
    const lines = encodeUtf8(`${before}${line}${before}`);
    const at = encodeUtf8(before).length;
    array.from(lines, node);
    assert.equal(array.add(at, from), at + encodeUtf8(line).length);
  });
  assert.equal(array.count, messages.length);
  const { bytes } = array;
  const isPartial = messages.length % 2 === 1;
  const buffer = array.finish(isPartial);
  const line = decodeUtf8(buffer.view);
  buffer.release();
  const head = `HISTORY ${channel} ${isPartial ? "PARTIAL " : ""}`;
  assert.ok(line.startsWith(`${head}[`) && line.endsWith("]\r\n"), line);
  const json = line.slice(head.length, -2);
  assert.equal(bytes, encodeUtf8(json).length - 1);
  const expected = messages.map(({ msg, from, node }, i) =>
    JSON.stringify({ channel, msg, ts: TS + i, from, node })
  );
  assert.equal(json, `[${expected.join(",")}]`);
  return json;
}

Deno.test("an array is the one that JSON.stringify makes, whatever has to be escaped", () => {
  assert.equal(made("c", []), "[]");
  const texts = ["x", '"', "\\", "a\rb", "a\0b\x1f", "\x7f\x80", "\u2028", "\ufeffa", "🎉é日"];
  const long = ["y".repeat(1023), "z".repeat(70_000), `${"q".repeat(3000)}"`];
  for (const channel of ["c", "é", 'q"\\', "__proto__"]) {
    made(
      channel,
      [...texts, ...long].map((msg, i) => ({
        msg,
        from: [undefined, "u", "u", 'ü"'][i % 4],
        node: ["n", 'n"1', "n"][i % 3],
      })),
    );
  }
});

Deno.test("any messages of any channel", () => {
  const msg = anyText(1).map((text) => text.replaceAll("\n", "\r").replace(/\r$/, "."));
  const from = fc.option(fc.constantFrom("ann", "bob", "é"), { nil: undefined });
  const line = fc.record({ msg, from, node: fc.constantFrom("node-1", "node-2") });
  fc.assert(fc.property(fc.array(line), (lines) => void made("c", lines)), { numRuns: 300 });
});
