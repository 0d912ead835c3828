// Servers that are no ZooKeeper, or a broken one.

/** What a {@link FakeZooKeeper} does with a connection. */
export type FakeKind = keyof typeof BEHAVIOURS;

const HEADER_BYTES = 4;

/** A frame of these bytes. */
function frame(bytes: Uint8Array): Uint8Array {
  const result = new Uint8Array(HEADER_BYTES + bytes.length);
  new DataView(result.buffer).setInt32(0, bytes.length);
  result.set(bytes, HEADER_BYTES);
  return result;
}

/** The answer to the first request: a session of so many ms; 0 says that it is over. */
function session(timeoutMs: number): Uint8Array {
  const bytes = new Uint8Array(37);
  const view = new DataView(bytes.buffer);
  view.setInt32(4, timeoutMs);
  view.setBigInt64(8, 0x1234n);
  view.setInt32(16, 16);
  return frame(bytes);
}

/** The answer to a request. */
function reply(xid: number, error: number, rest: number[] = []): Uint8Array {
  const bytes = new Uint8Array(16 + rest.length);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, xid);
  view.setInt32(12, error);
  bytes.set(rest, 16);
  return frame(bytes);
}

/** Reads once: what is asked is not looked at. */
async function hear(conn: Deno.Conn): Promise<boolean> {
  return await conn.read(new Uint8Array(4096)) !== null;
}

async function untilGone(conn: Deno.Conn): Promise<void> {
  while (await hear(conn));
}

async function write(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
}

const text = (value: string) => new TextEncoder().encode(value);

/** Each returns when the connection is to be closed. */
const BEHAVIOURS = {
  "closes at once": () => Promise.resolve(),
  "is silent": untilGone,
  "speaks HTTP": async (conn: Deno.Conn) => {
    await write(conn, text("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"));
    await untilGone(conn);
  },
  "sends empty frames": async (conn: Deno.Conn) => {
    await write(conn, new Uint8Array(4000));
    await untilGone(conn);
  },
  "sends a frame of noise": async (conn: Deno.Conn) => {
    await write(conn, frame(new Uint8Array(37).fill(0x7f)));
    await untilGone(conn);
  },
  "begins a huge frame": async (conn: Deno.Conn) => {
    await write(conn, Uint8Array.of(0x7f, 0xff, 0xff, 0xff, 1, 2, 3));
    await untilGone(conn);
  },
  "sends half a frame and closes": async (conn: Deno.Conn) => {
    await write(conn, session(10_000).subarray(0, 20));
  },
  "says the session is over": async (conn: Deno.Conn) => {
    await hear(conn);
    await write(conn, session(0));
    await untilGone(conn);
  },
  "gives a session and closes": async (conn: Deno.Conn) => {
    await hear(conn);
    await write(conn, session(10_000));
  },
  "answers what was not asked": async (conn: Deno.Conn) => {
    await hear(conn);
    await write(conn, session(10_000));
    await hear(conn);
    await write(conn, reply(4711, 0));
    await untilGone(conn);
  },
  "answers with an unknown error": async (conn: Deno.Conn) => {
    await hear(conn);
    await write(conn, session(10_000));
    await hear(conn);
    await write(conn, reply(0, -4711));
    await untilGone(conn);
  },
  "tells of an unknown event": async (conn: Deno.Conn) => {
    await hear(conn);
    await write(conn, session(10_000));
    await hear(conn);
    await write(conn, reply(-1, 0, [0, 0, 0, 99, 0, 0, 0, 3, 0, 0, 0, 1, 0x2f]));
    await untilGone(conn);
  },
  "answers with less than it should": async (conn: Deno.Conn) => {
    await hear(conn);
    await write(conn, session(10_000));
    await hear(conn);
    await write(conn, reply(0, 0, [1, 2, 3]));
    await untilGone(conn);
  },
} satisfies Record<string, (conn: Deno.Conn) => Promise<void>>;

export const FAKE_KINDS = Object.keys(BEHAVIOURS).filter((key): key is FakeKind =>
  key in BEHAVIOURS
);

/** Listens, and does the same with every connection. */
export class FakeZooKeeper implements Disposable {
  readonly addr: string;
  /** Connections so far. */
  count = 0;
  readonly #listener: Deno.TcpListener;
  readonly #open = new Set<Deno.Conn>();

  constructor(readonly kind: FakeKind) {
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.addr = `127.0.0.1:${this.#listener.addr.port}`;
    this.#accept();
  }

  /** Connections that are open. */
  get openCount(): number {
    return this.#open.size;
  }

  [Symbol.dispose](): void {
    this.#listener.close();
    for (const conn of this.#open) conn.close();
  }

  async #accept(): Promise<void> {
    try {
      for await (const conn of this.#listener) {
        this.count++;
        this.#serve(conn);
      }
    } catch {
      // Closed.
    }
  }

  async #serve(conn: Deno.Conn): Promise<void> {
    this.#open.add(conn);
    try {
      await BEHAVIOURS[this.kind](conn);
    } catch {
      // The client was faster.
    }
    if (!this.#open.delete(conn)) return;
    try {
      conn.close();
    } catch {
      // Closed by the end of the test.
    }
  }
}
