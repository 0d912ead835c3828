// A client that only listens, to very much: keeps every byte it gets and looks at them at the end.

/** How a {@link Collector} reads. */
export interface CollectorOptions {
  /** Bytes a read takes at most. Default 64 KiB. */
  readBytes?: number;
  /** Pause between two reads, ms: a client that is slow, but reads. Default none. */
  pauseMs?: number;
}

/** Reads one connection to its end, as fast as it comes or slowly. */
export class Collector {
  /** Bytes that have come so far. */
  received = 0;
  /** See {@link CollectorOptions}; may be changed at any time. */
  pauseMs: number;
  /** Resolves when the server has closed, to whole lines without their CR LF. */
  readonly lines: Promise<string[]>;

  #chunks: Uint8Array[] = [];
  #watchers: { bytes: number; resolve: () => void; reject: (error: Error) => void }[] = [];

  /** Sends `requests`, and reads what comes. */
  static async start(
    port: number,
    requests: string,
    options: CollectorOptions = {},
  ): Promise<Collector> {
    const conn = await Deno.connect({ hostname: "127.0.0.1", port });
    await conn.write(new TextEncoder().encode(requests));
    return new Collector(conn, options);
  }

  private constructor(
    conn: Deno.TcpConn,
    { readBytes = 64 * 1024, pauseMs = 0 }: CollectorOptions,
  ) {
    this.pauseMs = pauseMs;
    this.lines = this.#read(conn, readBytes).finally(() => {
      conn.close();
      for (const { bytes, reject } of this.#watchers) {
        reject(new Error(`the server closed after ${this.received} bytes, before ${bytes}`));
      }
    });
    // Whoever awaits it sees it, which may be later.
    this.lines.catch(() => {});
  }

  /** Resolves when so many bytes have come. */
  until(bytes: number): Promise<void> {
    if (this.received >= bytes) return Promise.resolve();
    return new Promise((resolve, reject) => this.#watchers.push({ bytes, resolve, reject }));
  }

  async #read(conn: Deno.TcpConn, readBytes: number): Promise<string[]> {
    const buffer = new Uint8Array(readBytes);
    for (let n = await conn.read(buffer); n !== null; n = await conn.read(buffer)) {
      this.#chunks.push(buffer.slice(0, n));
      this.received += n;
      for (const { bytes, resolve } of this.#watchers) if (bytes <= this.received) resolve();
      this.#watchers = this.#watchers.filter(({ bytes }) => bytes > this.received);
      if (this.pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, this.pauseMs));
    }
    const text = await new Blob(this.#chunks as BlobPart[]).text();
    this.#chunks = [];
    const lines = text.split("\r\n");
    const rest = lines.pop();
    if (rest !== "") throw new Error(`the server closed within a line: ${rest?.slice(0, 300)}`);
    return lines;
  }
}
