// Lines from a stream of bytes, as many as each read brings.

/** A line longer than this ends the connection: a page of history is some 4 MiB, more when escaped. */
const MAX_LINE_BYTES = 64 * 1024 * 1024;
const LF = 0x0a;
const CR = 0x0d;

/** Puts reads together to lines. */
export class LineReader {
  #decoder = new TextDecoder();
  /** The beginning of a line, in the parts that came. */
  #parts: Uint8Array[] = [];
  #bytes = 0;

  /**
   * The lines that are complete with these bytes, without their line ends; the bytes are not kept. Throws
   * an Error where a line has no end.
   */
  push(bytes: Uint8Array): string[] {
    const end = bytes.lastIndexOf(LF) + 1;
    const lines = end === 0 ? [] : this.#lines(bytes, end);
    if (end < bytes.length) {
      this.#bytes += bytes.length - end;
      if (this.#bytes > MAX_LINE_BYTES) throw new Error("it sent a line without an end");
      this.#parts.push(bytes.slice(end));
    }
    return lines;
  }

  /** The lines up to `end`, which is behind the last of their ends; made text together, which is faster. */
  #lines(bytes: Uint8Array, end: number): string[] {
    const first = bytes.indexOf(LF);
    const lines = [this.#line(bytes.subarray(0, first))];
    if (first + 1 === end) return lines;
    const others = this.#decoder.decode(bytes.subarray(first + 1, end - 1)).split("\n");
    for (const line of others) lines.push(line.endsWith("\r") ? line.slice(0, -1) : line);
    return lines;
  }

  /** What has come of a line that has no end yet; empty where there is none. */
  rest(): string {
    return this.#line(new Uint8Array(0));
  }

  #line(last: Uint8Array): string {
    let bytes = last;
    if (this.#parts.length > 0) {
      bytes = new Uint8Array(this.#bytes + last.length);
      let at = 0;
      for (const part of [...this.#parts, last]) {
        bytes.set(part, at);
        at += part.length;
      }
      this.#parts = [];
      this.#bytes = 0;
    }
    const end = bytes.length > 0 && bytes[bytes.length - 1] === CR
      ? bytes.length - 1
      : bytes.length;
    return this.#decoder.decode(bytes.subarray(0, end));
  }
}
