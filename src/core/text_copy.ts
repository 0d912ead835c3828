// Copies of texts: a native copy costs as much as a kilobyte of one in words.

/** From this length on a native copy is cheaper. */
const NATIVE_COPY_BYTES = 1024;

/**
 * Copies `from[start, end)` to `out` at `at`, a short one eight bytes at a time, and returns the offset
 * behind the copy.
 *
 * The bytes must be those of valid UTF-8: they go through a float, and a NaN may come out as another one.
 * No text holds the bytes of a NaN, in which 0x7F or 0xFF stands behind a byte of 0xF0 or more: 0xFF is in
 * no text, and what follows 0xF0 to 0xF4 is 0x80 or more (RFC 3629).
 */
export function copyText(
  out: DataView,
  at: number,
  from: DataView,
  start: number,
  end: number,
): number {
  if (end - start >= NATIVE_COPY_BYTES) return copyNatively(out, at, from, start, end);
  let i = start;
  let o = at;
  for (; i + 8 <= end; i += 8, o += 8) out.setFloat64(o, from.getFloat64(i, true), true);
  if (i + 4 <= end) {
    out.setUint32(o, from.getUint32(i, true), true);
    i += 4;
    o += 4;
  }
  for (; i < end; i++, o++) out.setUint8(o, from.getUint8(i));
  return o;
}

/** Apart, so that the above is small enough to be compiled into its callers. */
function copyNatively(
  out: DataView,
  at: number,
  from: DataView,
  start: number,
  end: number,
): number {
  const source = new Uint8Array(from.buffer, from.byteOffset + start, end - start);
  new Uint8Array(out.buffer, out.byteOffset + at, end - start).set(source);
  return at + end - start;
}

/** A view of all these bytes. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A view for each of the last bytes that were asked for: for those that are used many times in a row. */
export class LastView {
  #bytes: Uint8Array = new Uint8Array(0);
  #data = viewOf(this.#bytes);

  of(bytes: Uint8Array): DataView {
    if (bytes !== this.#bytes) {
      this.#bytes = bytes;
      this.#data = viewOf(bytes);
    }
    return this.#data;
  }
}
