// Any text that UTF-8 can carry, for fast-check (its own strings of every plane are slow to make).

import fc from "fast-check";

const CODE_POINT = fc.oneof(
  fc.integer({ min: 0, max: 0x7f }),
  fc.integer({ min: 0x80, max: 0xff }),
  fc.integer({ min: 0x100, max: 0xd7ff }),
  fc.integer({ min: 0xe000, max: 0x10ffff }),
);

/** Text of code points from every plane, control characters included, no lone surrogates. */
export function anyText(minLength = 0, maxLength = 40): fc.Arbitrary<string> {
  return fc.array(CODE_POINT, { minLength, maxLength }).map((codes) =>
    String.fromCodePoint(...codes)
  );
}
