// Text with byte order marks, as a library decodes it that drops one.

import assert from "node:assert/strict";
import { keepMarks } from "./mongodb_utf8.ts";

Deno.test("byte order marks stay where the library's decoder drops them", () => {
  const utils = {
    toUTF8: (bytes: Uint8Array, start: number, end: number, fatal: boolean) =>
      new TextDecoder("utf-8", { fatal }).decode(bytes.subarray(start, end)),
  };
  keepMarks(utils);
  keepMarks(utils);
  for (const text of ["", "a", "\ufeff", "\ufeff\ufeffé", "\ufeffa\ufeff", "a\ufeff"]) {
    const bytes = new TextEncoder().encode(`..${text}.`);
    assert.equal(utils.toUTF8(bytes, 2, bytes.length - 1, true), text);
  }
  assert.throws(() => utils.toUTF8(Uint8Array.of(0xef, 0xbb, 0xbf, 0xff), 0, 4, true), TypeError);
});
