// A client for tests that look at many connections or many bytes: raw TCP, lines as bytes or text.

const LF = 0x0a;
const CR = 0x0d;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** One connection. Not for concurrent reads. */
export class LineClient implements Disposable {
  #chunk = new Uint8Array(0);
  #at = 0;
  #readBytes: number;

  private constructor(readonly conn: Deno.TcpConn, readBytes: number) {
    this.#readBytes = readBytes;
  }

  /** Connects; `readBytes` is the size of one read (small where there are thousands of clients). */
  static async connect(port: number, readBytes = 64 * 1024): Promise<LineClient> {
    return new LineClient(await Deno.connect({ hostname: "127.0.0.1", port }), readBytes);
  }

  /** Writes all of it. Throws where the server has closed. */
  async send(data: string | Uint8Array): Promise<void> {
    let rest = typeof data === "string" ? encoder.encode(data) : data;
    while (rest.length > 0) rest = rest.subarray(await this.conn.write(rest));
  }

  /** The next line without its CR LF; null at the end. Throws where it is not UTF-8 or has no CR. */
  async line(): Promise<string | null> {
    let found: string | null = null;
    await this.eachLine((bytes, start, end) => {
      found = decoder.decode(bytes.subarray(start, end));
      return true;
    });
    return found;
  }

  /** Sends one request and returns the next line. */
  async ask(request: string): Promise<string | null> {
    await this.send(`${request}\n`);
    return await this.line();
  }

  /** Every line that is left. */
  async rest(): Promise<string[]> {
    const lines: string[] = [];
    for (let line = await this.line(); line !== null; line = await this.line()) lines.push(line);
    return lines;
  }

  /**
   * Calls `onLine` with each line, `bytes[start, end)` without its CR LF, until that returns true
   * or the server closes; returns which: false at the end. Throws where a line has no CR, or the end
   * comes in the middle of one.
   */
  async eachLine(
    onLine: (bytes: Uint8Array, start: number, end: number) => boolean | void,
  ): Promise<boolean> {
    while (true) {
      while (this.#at < this.#chunk.length) {
        const lf = this.#chunk.indexOf(LF, this.#at);
        if (lf < 0) break;
        const start = this.#at;
        if (lf === start || this.#chunk[lf - 1] !== CR) throw new Error("a line without CR LF");
        this.#at = lf + 1;
        if (onLine(this.#chunk, start, lf - 1) === true) return true;
      }
      const left = this.#chunk.length - this.#at;
      const next = new Uint8Array(left + Math.max(this.#readBytes, left));
      next.set(this.#chunk.subarray(this.#at));
      const count = await this.conn.read(next.subarray(left));
      if (count === null) {
        if (left > 0) throw new Error(`${left} bytes of a line that does not end`);
        return false;
      }
      this.#chunk = next.subarray(0, left + count);
      this.#at = 0;
    }
  }

  /** Closes at once; where bytes wait unread, that resets the connection. Idempotent. */
  close(): void {
    try {
      this.conn.close();
    } catch (error) {
      if (!(error instanceof Deno.errors.BadResource)) throw error;
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Connects `count` clients, some at a time, each with small reads. */
export async function connectMany(port: number, count: number): Promise<LineClient[]> {
  const clients: LineClient[] = [];
  while (clients.length < count) {
    const some = Math.min(200, count - clients.length);
    const made = await Promise.all(
      Array.from({ length: some }, () => LineClient.connect(port, 512)),
    );
    clients.push(...made);
  }
  return clients;
}

/** `text` as bytes. */
export function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  return encoder.encode(text);
}

/** Whether `bytes[at, …)` begins with `head`. */
export function startsAt(bytes: Uint8Array, at: number, head: Uint8Array): boolean {
  for (let i = 0; i < head.length; i++) if (bytes[at + i] !== head[i]) return false;
  return true;
}

/** The decimal number in `bytes[start, end)`. */
export function numberAt(bytes: Uint8Array, start: number, end: number): number {
  let value = 0;
  for (let i = start; i < end; i++) value = value * 10 + (bytes[i] - 0x30);
  return value;
}
