// A proxy before a server that changes the lines that clients get: for what checks them.

import { LineReader } from "../src/cli/client/line_reader.ts";

/** Carries bytes to the server as they are, and lines back by way of `change`. */
export class LineProxy implements AsyncDisposable {
  #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  #conns = new Set<Deno.Conn>();
  #done: Promise<void>;

  /** `change` is given each line of a connection and answers with the lines to pass on instead. */
  constructor(serverPort: number, newChange: () => (line: string) => string[]) {
    this.#done = this.#serve(serverPort, newChange);
  }

  get port(): number {
    return this.#listener.addr.port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const conn of this.#conns) close(conn);
    await this.#done;
  }

  async #serve(port: number, newChange: () => (line: string) => string[]): Promise<void> {
    const links: Promise<void>[] = [];
    try {
      for await (const client of this.#listener) {
        const server = await Deno.connect({ hostname: "127.0.0.1", port });
        this.#conns.add(client).add(server);
        links.push(carry(client, server), change(server, client, newChange()));
      }
    } catch {
      // Closed.
    }
    await Promise.all(links);
  }
}

async function carry(from: Deno.Conn, to: Deno.Conn): Promise<void> {
  await from.readable.pipeTo(to.writable).catch(() => {});
  close(to);
}

async function change(
  from: Deno.Conn,
  to: Deno.Conn,
  change: (line: string) => string[],
): Promise<void> {
  const reader = new LineReader();
  const changing = new TransformStream<Uint8Array, Uint8Array>({
    transform(bytes, controller) {
      const lines = reader.push(bytes).flatMap(change).map((line) => `${line}\r\n`);
      if (lines.length > 0) controller.enqueue(new TextEncoder().encode(lines.join("")));
    },
  });
  await from.readable.pipeThrough(changing).pipeTo(to.writable).catch(() => {});
  close(to);
}

function close(conn: Deno.Conn): void {
  try {
    conn.close();
  } catch {
    // Closed already.
  }
}
