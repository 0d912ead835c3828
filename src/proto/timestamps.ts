// Timestamps in requests: decimal digits whose unit is read from their magnitude.

import { WireError } from "./errors.ts";
import { shorten } from "./request.ts";

/** Beyond every timestamp that a message can have, and still exact as a number. */
export const MAX_TIMESTAMP = Number.MAX_SAFE_INTEGER;

/**
 * Microseconds since the Unix epoch for the timestamp `word` of a request.
 *
 * Leading zeros aside: up to 11 digits are seconds, 12–14 milliseconds, 15–17 microseconds, 18–19
 * nanoseconds, rounded up to a whole microsecond. What lies beyond {@link MAX_TIMESTAMP} (the year
 * 2255) becomes that: no message is as late. Throws `bad-argument` for anything but digits and for
 * more than 19 of them.
 */
export function parseTimestamp(word: string): number {
  if (!/^[0-9]+$/.test(word)) throw bad(word, "is not made of decimal digits");
  const digits = word.replace(/^0+/, "");
  if (digits.length === 0) return 0;
  if (digits.length <= 11) return clamp(BigInt(digits) * 1_000_000n);
  if (digits.length <= 14) return clamp(BigInt(digits) * 1_000n);
  if (digits.length <= 17) return clamp(BigInt(digits));
  if (digits.length <= 19) return clamp((BigInt(digits) + 999n) / 1_000n);
  throw bad(word, `has ${digits.length} digits`);
}

function clamp(micros: bigint): number {
  return micros > BigInt(MAX_TIMESTAMP) ? MAX_TIMESTAMP : Number(micros);
}

function bad(word: string, why: string): WireError {
  return new WireError(
    "bad-argument",
    `the timestamp "${
      shorten(word)
    }" ${why}; give seconds, milliseconds, microseconds or nanoseconds ` +
      `since 1970 (up to 11, 14, 17 or 19 digits), or 0 for the beginning`,
  );
}
