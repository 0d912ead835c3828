// The rules for channel and user names (docs/protocol.md, "Names, messages, timestamps, options").

import { encodeUtf8, isUtf8 } from "./bytes.ts";
import { WireError } from "./errors.ts";

/** Longest name, in bytes of UTF-8. */
const MAX_NAME_BYTES = 255;

const DASH = 0x2d;
const DOLLAR = 0x24;
const AT = 0x40;
const STAR = 0x2a;

/**
 * Checks the name in `bytes[start, end)`; `what` names it in the explanation ("channel", "user").
 *
 * Throws a WireError: `bad-argument` for a name that cannot be (empty, longer than 255 bytes, not
 * UTF-8, with a space or a control character U+0000–001F or U+007F–009F, or beginning with `-`,
 * which would be an option), `reserved-name` for one that begins with `$` or `@` or holds `*`.
 */
export function checkName(
  bytes: Uint8Array,
  start: number,
  end: number,
  what: string,
): void {
  const length = end - start;
  if (length === 0) throw new WireError("bad-argument", `the ${what} is empty`);
  if (length > MAX_NAME_BYTES) {
    throw new WireError(
      "bad-argument",
      `the ${what} has ${length} bytes; at most ${MAX_NAME_BYTES} are allowed`,
    );
  }
  if (!isUtf8(bytes, start, end)) {
    throw new WireError("bad-argument", `the ${what} is not valid UTF-8`);
  }
  let star = false;
  for (let i = start; i < end; i++) {
    const b = bytes[i];
    // U+0080–009F are C2 80–9F in UTF-8, and nothing else begins with C2 80–9F.
    if (b <= 0x20 || b === 0x7f || (b === 0xc2 && bytes[i + 1] <= 0x9f)) {
      throw new WireError(
        "bad-argument",
        `the ${what} holds a space or a control character (byte ${i - start + 1})`,
      );
    }
    if (b === STAR) star = true;
  }
  const first = bytes[start];
  if (first === DASH) {
    throw new WireError("bad-argument", `a ${what} cannot begin with "-"`);
  }
  if (first === DOLLAR || first === AT || star) {
    throw new WireError(
      "reserved-name",
      `names that begin with "$" or "@" or hold "*" are reserved; choose another ${what}`,
    );
  }
}

/** Checks a name given as text and returns its bytes. Throws as {@link checkName} does. */
export function nameBytes(name: string, what: string): Uint8Array<ArrayBuffer> {
  const bytes = encodeUtf8(name);
  checkName(bytes, 0, bytes.length, what);
  return bytes;
}
