// A client that keeps count of what it sends and gets, to be held against what the server says it counted.

import { Client } from "./harness.ts";

/** What clients have sent and got. */
export class Tally {
  bytesIn = 0;
  bytesOut = 0;
  connections = 0;
  /** Lines that came, by their first word; `ERROR` by its code: `ERROR need-auth`. */
  readonly got = new Map<string, number>();
  /** Requests that were sent, by their first word. */
  readonly sent = new Map<string, number>();

  /** Connects a client whose traffic is counted; lines that are too long are no requests. */
  async connect(port: number, maxLineBytes: number): Promise<Client> {
    const conn = await Deno.connect({ hostname: "127.0.0.1", port });
    this.connections++;
    const { read, write } = conn;
    const requests = new Lines((line, length) => {
      if (length <= maxLineBytes) count(this.sent, line.split(" ")[0].toLowerCase());
    });
    const replies = new Lines((line) => {
      const [word, code] = line.split(" ");
      count(this.got, word === "ERROR" ? `${word} ${code}` : word);
    });
    conn.read = async (buffer) => {
      const length = await read.call(conn, buffer);
      this.bytesOut += length ?? 0;
      if (length !== null) replies.push(buffer.subarray(0, length));
      return length;
    };
    conn.write = async (bytes) => {
      const length = await write.call(conn, bytes);
      this.bytesIn += length;
      requests.push(bytes.subarray(0, length));
      return length;
    };
    return Client.over(conn);
  }
}

function count(counts: Map<string, number>, word: string): void {
  counts.set(word, (counts.get(word) ?? 0) + 1);
}

/** How much of a line is looked at. */
const SHOWN_BYTES = 64;

/** Tells of each line how it begins, and how long it is without its line end. */
class Lines {
  #beginning: number[] = [];
  #length = 0;
  #lastByte = 0;

  constructor(readonly onLine: (beginning: string, length: number) => void) {}

  push(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      const lf = bytes.indexOf(0x0a, at);
      const end = lf < 0 ? bytes.length : lf;
      const missing = Math.max(0, SHOWN_BYTES - this.#beginning.length);
      this.#beginning.push(...bytes.subarray(at, Math.min(end, at + missing)));
      this.#length += end - at;
      if (end > at) this.#lastByte = bytes[end - 1];
      if (lf < 0) return;
      const hasCr = this.#length > 0 && this.#lastByte === 0x0d;
      const beginning = new TextDecoder().decode(Uint8Array.from(this.#beginning)).trimEnd();
      this.onLine(beginning, this.#length - Number(hasCr));
      this.#beginning = [];
      this.#length = 0;
      at = lf + 1;
    }
  }
}
