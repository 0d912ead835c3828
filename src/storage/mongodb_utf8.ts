// Keeps a byte order mark at the start of a text that MongoDB's library reads: where it does not know the
// runtime's Buffer (Deno 2.4), it decodes with a TextDecoder that drops one.

import { BSON } from "mongodb";

const MARK = [0xef, 0xbb, 0xbf];

/** Mends the library's decoding, for everybody who uses it, where that is needed. Idempotent. */
export function keepMarks(utils: Pick<BSON.ByteUtils, "toUTF8"> = BSON.ByteUtils): void {
  if (utils.toUTF8(Uint8Array.from(MARK), 0, MARK.length, false) !== "") return;
  const decode = utils.toUTF8.bind(utils);
  utils.toUTF8 = (bytes, start, end, fatal) => {
    let marks = "";
    let at = start;
    // Each call of `decode` drops one.
    while (end - at >= MARK.length && MARK.every((byte, i) => bytes[at + i] === byte)) {
      marks += "\ufeff";
      at += MARK.length;
    }
    return marks + decode(bytes, at, end, fatal);
  };
}
