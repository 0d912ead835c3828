// Text for a terminal: what names become, and numbers.

import assert from "node:assert/strict";
import { eastAsianWidth } from "get-east-asian-width";
import fc from "fast-check";
import { cut, harmless, padded, shortBytes, shortCount, shortDuration } from "./text.ts";

/** Cells, counted by another way than the one that is tested. */
function cells(text: string): number {
  return [...text.replaceAll(/\p{M}/gu, "")]
    .reduce((sum, character) => sum + eastAsianWidth(character.codePointAt(0) ?? 0), 0);
}

const names = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({
    unit: fc.constantFrom("a", "\u623f", "\u0301", "\u{1f600}", "\x1b", "\u202e", "\t"),
  }),
);

Deno.test("text: whatever a name holds, it takes the cells it may and steers nothing", () => {
  fc.assert(fc.property(names, fc.nat(40), (name, width) => {
    assert.ok(cells(cut(name, width)) <= width);
    assert.equal(cells(padded(name, width)), width);
    assert.doesNotMatch(padded(name, width), /[\p{C}\p{Zl}\p{Zp}]|\p{M}{3}/u);
  }));
});

Deno.test("text: a name is cut where it is too long, and left alone where it is not", () => {
  const cases: [string, number, string][] = [
    ["abc", 3, "abc"],
    ["abcd", 3, "ab\u2026"],
    ["\u623f\u95f4", 4, "\u623f\u95f4"],
    ["\u623f\u95f4a", 4, "\u623f\u2026"],
    ["\u623f", 1, "\u2026"],
    ["abc", 0, ""],
    ["a\x1b[2Jb", 9, "a\u00b7[2Jb"],
    ["a\u202eb\u200dc\ud800", 9, "a\u00b7b\u00b7c\ufffd"],
    ["e\u0301e\u0301", 2, "e\u0301e\u0301"],
  ];
  for (const [name, width, shown] of cases) assert.equal(cut(name, width), shown);
  assert.equal(harmless("a\r\nb"), "a\u00b7\u00b7b");
});

Deno.test("text: numbers are short", () => {
  const counts = [0, 0.44, 9.96, 12, 9999, 10_000, 999_949, 1e6, 123_456_789, 4e9, 5e12, NaN];
  assert.deepEqual(counts.map(shortCount), [
    ...["0", "0.4", "10.0", "12", "9999", "10.0k", "1000k", "1.0M", "123M", "4.0G", "5.0T", "-"],
  ]);
  const sizes = [0, 1023, 1024, 102_400, 5 * 2 ** 20, 1.5 * 2 ** 30, 2 ** 50, NaN];
  assert.deepEqual(sizes.map(shortBytes), [
    ...["0 B", "1023 B", "1.0 KiB", "100 KiB", "5.0 MiB", "1.5 GiB", "1024 TiB", "-"],
  ]);
  const times = [-1, 0, 59.9, 60, 3725, 90_000];
  assert.deepEqual(times.map(shortDuration), ["0s", "0s", "59s", "1m 0s", "1h 2m", "1d 1h"]);
});
