// What a channel or a user may be called.

import assert from "node:assert/strict";
import fc from "fast-check";
import { anyText } from "../../tests/any_text.ts";
import { encodeUtf8 } from "./bytes.ts";
import { WireError } from "./errors.ts";
import { checkName, nameBytes } from "./names.ts";

/** The code with which a name is refused, or "ok". */
function verdict(name: string | Uint8Array): string {
  const bytes = typeof name === "string" ? encodeUtf8(name) : name;
  try {
    // In the middle of other bytes: nothing around the name may count.
    const line = Uint8Array.of(0x2a, 0xc2, ...bytes, 0x85, 0x20);
    checkName(line, 2, 2 + bytes.length, "channel");
    return "ok";
  } catch (error) {
    assert.ok(error instanceof WireError);
    assert.match(error.message, /channel/);
    return error.code;
  }
}

function verdicts(names: string[]): string[] {
  return names.map(verdict);
}

function all(code: string, names: string[]): void {
  assert.deepEqual(verdicts(names), names.map(() => code), names.join(" "));
}

Deno.test("ordinary names", () => {
  all("ok", [
    "a",
    "channel1",
    "Ünïcode/日本語",
    "🎉",
    "__proto__",
    "constructor",
    "toString",
    "a-b",
    "a$b",
    "a@b",
    "user@example.org",
    "#",
    ">",
    "%ff",
    "<img/src=x/onerror=alert(1)>",
    "a:b",
    "\ufeffa",
    "a\u2028b",
    "\u00a0",
    "\u00a9",
    "à",
  ]);
});

Deno.test("the bound is 255 bytes, not characters", () => {
  assert.deepEqual(verdicts(["a".repeat(255), "a".repeat(256)]), ["ok", "bad-argument"]);
  assert.deepEqual(verdicts(["€".repeat(85), "€".repeat(86)]), ["ok", "bad-argument"]);
  assert.deepEqual(verdicts(["🎉".repeat(63), "🎉".repeat(64)]), ["ok", "bad-argument"]);
  all("bad-argument", [""]);
});

Deno.test("é as one and as two code points are two names", () => {
  assert.deepEqual(verdicts(["\u00e9", "e\u0301"]), ["ok", "ok"]);
  assert.notDeepEqual(nameBytes("\u00e9", "channel"), nameBytes("e\u0301", "channel"));
});

Deno.test("spaces and control characters, wherever they stand", () => {
  const controls = [
    ...Array.from({ length: 0x21 }, (_, i) => i),
    ...Array.from({ length: 0x21 }, (_, i) => 0x7f + i),
  ].map((code) => String.fromCodePoint(code));
  for (const char of controls) all("bad-argument", [char, `${char}a`, `a${char}`, `a${char}b`]);
  // The characters around the ranges, some of which share a byte with one in them.
  all("ok", ["!", "~", "\u00a0", "\u00bf", "\u00c0", "\u0080".replace("\u0080", "Â"), "\u07ff"]);
});

Deno.test("reserved names, and names that begin like an option", () => {
  all("reserved-name", ["$", "$s", "@", "@x", "*", "a*", "*a", "a*b", "$*"]);
  all("bad-argument", ["-", "-a", "-id=1", "-*"]);
});

Deno.test("bytes that are not UTF-8", () => {
  for (
    const bytes of [[0xff], [0x80], [0xc3], [0xc0, 0xaf], [0xed, 0xa0, 0x80], [
      0xf4,
      0x90,
      0x80,
      0x80,
    ]]
  ) {
    assert.equal(verdict(Uint8Array.from(bytes)), "bad-argument");
    assert.equal(verdict(Uint8Array.of(0x61, ...bytes, 0x61)), "bad-argument");
  }
});

Deno.test("any text: refused exactly when the rules say so", () => {
  const text = fc.array(fc.oneof(fc.constantFrom(..."$@*- \x7f\x85a"), anyText(1, 1)), {
    maxLength: 90,
  }).map((chars) => chars.join(""));
  fc.assert(
    fc.property(text, (name) => {
      const bytes = encodeUtf8(name).length;
      // deno-lint-ignore no-control-regex
      const bad = bytes === 0 || bytes > 255 || /[\u0000-\u0020\u007f-\u009f]|^-/u.test(name);
      const reserved = /^[$@]|\*/.test(name);
      assert.equal(verdict(name), bad ? "bad-argument" : reserved ? "reserved-name" : "ok");
    }),
    { numRuns: 1000 },
  );
});

Deno.test("nameBytes gives the bytes, and says whose name it is that will not do", () => {
  assert.deepEqual(nameBytes("é", "user name"), Uint8Array.of(0xc3, 0xa9));
  assert.throws(() => nameBytes("", "user name"), /the user name is empty/);
});
