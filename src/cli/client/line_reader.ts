// Lines from a stream of bytes, as many as each read brings.

/** A line longer than this is an error: a page of history is some 4 MiB, more when escaped. */
const MAX_LINE_BYTES = 64 * 1024 * 1024;
const LF = 0x0a;
const CR = 0x0d;

/** Puts reads together to lines of bytes. */
export class ByteLines {
  /** The beginning of a line, in the parts that came. */
  #parts: Uint8Array[] = [];
  #bytes = 0;

  /**
   * The lines that are complete with these bytes, without their line ends. They may lie in `bytes`; what is
   * kept for the next time is copied. Throws an Error where a line has no end.
   */
  push(bytes: Uint8Array): Uint8Array[] {
    const lines: Uint8Array[] = [];
    let start = 0;
    for (let lf = bytes.indexOf(LF); lf !== -1; lf = bytes.indexOf(LF, start)) {
      lines.push(this.#line(bytes.subarray(start, lf)));
      start = lf + 1;
    }
    if (start < bytes.length) {
      this.#bytes += bytes.length - start;
      if (this.#bytes > MAX_LINE_BYTES) throw new Error("it sent a line without an end");
      this.#parts.push(bytes.slice(start));
    }
    return lines;
  }

  /** What has come of a line that has no end; empty where there is none. */
  rest(): Uint8Array {
    return this.#line(new Uint8Array(0));
  }

  #line(last: Uint8Array): Uint8Array {
    let line = last;
    if (this.#parts.length > 0) {
      line = new Uint8Array(this.#bytes + last.length);
      let at = 0;
      for (const part of [...this.#parts, last]) {
        line.set(part, at);
        at += part.length;
      }
      this.#parts = [];
      this.#bytes = 0;
    }
    return line.at(-1) === CR ? line.subarray(0, -1) : line;
  }
}

/** The same as text; what is no UTF-8 becomes U+FFFD. */
export class LineReader {
  // The first character of a line may be U+FEFF, and is not to be taken away.
  #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #lines = new ByteLines();

  /** As {@link ByteLines.push}. */
  push(bytes: Uint8Array): string[] {
    const first = bytes.indexOf(LF) + 1;
    const end = bytes.lastIndexOf(LF) + 1;
    if (first === end) return this.#lines.push(bytes).map((line) => this.#decoder.decode(line));
    const lines = [this.#decoder.decode(this.#lines.push(bytes.subarray(0, first))[0])];
    // Made text together, which is much faster.
    const others = this.#decoder.decode(bytes.subarray(first, end - 1)).split("\n");
    for (const line of others) lines.push(line.endsWith("\r") ? line.slice(0, -1) : line);
    this.#lines.push(bytes.subarray(end));
    return lines;
  }

  /** As {@link ByteLines.rest}. */
  rest(): string {
    return this.#decoder.decode(this.#lines.rest());
  }
}
