// A client for measurements: pipelines requests, counts the lines that come back, and looks at none of them.

const LF = 0x0a;
const BUFFER_BYTES = 256 * 1024;

/** One connection. */
export class CountingClient {
  /** Lines that have come. */
  lines = 0;
  #conn: Deno.TcpConn;
  #waits: { lines: number; resolve: () => void }[] = [];
  #isOpen = true;

  private constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
    this.#read();
  }

  static async connect(hostname: string): Promise<CountingClient> {
    return new CountingClient(await Deno.connect({ hostname, port: 2222 }));
  }

  async #read(): Promise<void> {
    const buffer = new Uint8Array(BUFFER_BYTES);
    while (this.#isOpen) {
      const count = await this.#conn.read(buffer).catch(() => null);
      if (count === null) break;
      for (let at = buffer.indexOf(LF); at >= 0 && at < count; at = buffer.indexOf(LF, at + 1)) {
        this.lines++;
      }
      this.#waits = this.#waits.filter(({ lines, resolve }) => {
        if (this.lines < lines) return true;
        resolve();
        return false;
      });
    }
  }

  async send(text: string): Promise<void> {
    const bytes = new TextEncoder().encode(text);
    for (let at = 0; at < bytes.length;) at += await this.#conn.write(bytes.subarray(at));
  }

  /** Until so many lines have come. */
  until(lines: number): Promise<void> {
    if (this.lines >= lines) return Promise.resolve();
    return new Promise((resolve) => this.#waits.push({ lines, resolve }));
  }

  close(): void {
    this.#isOpen = false;
    this.#conn.close();
  }
}
