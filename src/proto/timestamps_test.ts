// Timestamps in requests, at the edges of every magnitude.

import assert from "node:assert/strict";
import fc from "fast-check";
import { WireError } from "./errors.ts";
import { MAX_TIMESTAMP, parseTimestamp } from "./timestamps.ts";

function refused(word: string): WireError {
  try {
    parseTimestamp(word);
  } catch (error) {
    assert.ok(error instanceof WireError);
    assert.equal(error.code, "bad-argument");
    return error;
  }
  assert.fail(`"${word}" was taken`);
}

Deno.test("the unit is read from the number of digits", () => {
  const cases: [string, number][] = [
    ["0", 0],
    ["1", 1_000_000],
    ["1700000000", 1_700_000_000_000_000],
    ["99999999", 99_999_999_000_000],
    // 11 digits are seconds, and mostly beyond the last timestamp that there can be.
    ["99999999999", MAX_TIMESTAMP],
    ["10000000000", MAX_TIMESTAMP],
    ["9007199254", 9_007_199_254_000_000],
    ["9007199255", MAX_TIMESTAMP],
    ["100000000000", 100_000_000_000_000],
    ["1700000000123", 1_700_000_000_123_000],
    ["99999999999999", MAX_TIMESTAMP],
    ["100000000000000", 100_000_000_000_000],
    ["1700000000123456", 1_700_000_000_123_456],
    ["9007199254740991", MAX_TIMESTAMP],
    ["9007199254740992", MAX_TIMESTAMP],
    ["99999999999999999", MAX_TIMESTAMP],
    ["100000000000000000", 100_000_000_000_000],
    ["1700000000123456789", 1_700_000_000_123_457],
    ["9999999999999999999", MAX_TIMESTAMP],
  ];
  for (const [word, micros] of cases) assert.equal(parseTimestamp(word), micros, word);
});

Deno.test("nanoseconds are rounded up, without a float in between", () => {
  for (const [end, up] of [["000", 0], ["001", 1], ["500", 1], ["999", 1]] as const) {
    assert.equal(parseTimestamp(`1700000000123456${end}`), 1_700_000_000_123_456 + up, end);
  }
});

Deno.test("leading zeros do not count, however many", () => {
  for (const zeros of ["0", "0".repeat(19), "0".repeat(60_000)]) {
    assert.equal(parseTimestamp(zeros), 0);
    assert.equal(parseTimestamp(`${zeros}12`), 12_000_000);
    assert.equal(parseTimestamp(`${zeros}1700000000123456`), 1_700_000_000_123_456);
    assert.equal(parseTimestamp(`${zeros}1700000000123456789`), 1_700_000_000_123_457);
  }
});

Deno.test("what is not made of decimal digits, and what has too many", () => {
  const words = [
    "",
    "-1",
    "+5",
    "1e3",
    "0x10",
    "1.5",
    "1_000",
    " 1",
    "1 ",
    "1\n",
    "\u0663",
    "１",
    "NaN",
    "Infinity",
  ];
  for (const word of words) assert.match(refused(word).message, /not made of decimal digits/);
  assert.match(refused("1".repeat(20)).message, /has 20 digits/);
  assert.match(refused(`000${"9".repeat(25)}`).message, /has 25 digits/);
});

Deno.test("a refusal shows no more of the word than fits, and no control character", () => {
  const { message } = refused(`\u0000\r\u0085${"x".repeat(60_000)}`);
  assert.ok(message.length < 300);
  // deno-lint-ignore no-control-regex
  assert.doesNotMatch(message, /[\u0000-\u001f\u007f-\u009f]/);
});

Deno.test("a message's own timestamp comes back as it is, in each unit", () => {
  // From 2001 on, microseconds have 16 digits.
  const micros = fc.integer({ min: 1_000_000_000_000_000, max: MAX_TIMESTAMP });
  fc.assert(fc.property(micros, fc.integer({ min: 1, max: 999 }), (ts, ns) => {
    assert.equal(parseTimestamp(String(ts)), ts);
    assert.equal(parseTimestamp(`${ts}000`), ts);
    assert.equal(
      parseTimestamp(`${ts}${String(ns).padStart(3, "0")}`),
      Math.min(ts + 1, MAX_TIMESTAMP),
    );
    assert.equal(parseTimestamp(String(Math.floor(ts / 1000))), Math.floor(ts / 1000) * 1000);
    assert.equal(parseTimestamp(String(Math.floor(ts / 1e6))), Math.floor(ts / 1e6) * 1e6);
  }));
});
