// A crowd of clients in a process of its own, so that the test has time for those who stand beside it.

import { within } from "./harness_within.ts";
import { LineClient } from "./load_client.ts";

/** Connects under way at one time: less than the shortest backlog, which is that of Deno 2.4. */
const AT_ONCE = 100;
/** How long a whole crowd may take to come in, or to be sent away, ms. */
const DEADLINE_MS = 30_000;

/** What became of a crowd. */
export interface CrowdReport {
  /** The lines that came before the last one, each with how many got it. */
  earlier: Record<string, number>;
  /** The last lines before the server closed. */
  last: Record<string, number>;
  /** From when a client began to connect until the server closed: the shortest and the longest, ms. */
  shortestMs: number;
  longestMs: number;
}

/** Clients that connect, send one text each, and then do nothing but read until the server closes. */
export class Crowd implements AsyncDisposable {
  #child: Deno.ChildProcess;
  #lines: ReadableStreamDefaultReader<string>;
  #text = "";

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Resolves once all are connected and have sent theirs; `texts` are sent in turn. */
  static async gather(port: number, count: number, texts: readonly string[]): Promise<Crowd> {
    const child = new Deno.Command(Deno.execPath(), {
      // Deno lets nobody else look into /proc.
      args: ["run", "--allow-all", import.meta.url, `${port}`, `${count}`, JSON.stringify(texts)],
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const crowd = new Crowd(child);
    await crowd.#line("the crowd to come in");
    return crowd;
  }

  /** Waits until the server has closed all of them. */
  async report(): Promise<CrowdReport> {
    return JSON.parse(await this.#line("the server to close all of the crowd"));
  }

  async #line(what: string): Promise<string> {
    const reading = (async () => {
      while (!this.#text.includes("\n")) {
        const { value, done } = await this.#lines.read();
        if (done) throw new Error("the crowd ended without a word");
        this.#text += value;
      }
    })();
    await within(() => what, reading, { ms: DEADLINE_MS });
    const [line, ...rest] = this.#text.split("\n");
    this.#text = rest.join("\n");
    return line;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.#lines.cancel();
    await this.#child.status;
  }
}

if (import.meta.main) {
  const [port, count, texts] = Deno.args;
  const report: CrowdReport = { earlier: {}, last: {}, shortestMs: Infinity, longestMs: 0 };
  const ending = await comeIn(Number(port), Number(count), JSON.parse(texts), report);
  say("connected");
  await Promise.all(ending);
  say(JSON.stringify(report));
}

async function comeIn(
  port: number,
  count: number,
  texts: readonly string[],
  report: CrowdReport,
): Promise<Promise<void>[]> {
  const ending: Promise<void>[] = [];
  while (ending.length < count) {
    const some = Array.from({ length: Math.min(AT_ONCE, count - ending.length) }, async (_, i) => {
      const startMs = performance.now();
      const client = await LineClient.connect(port, 512);
      await client.send(texts[i % texts.length]);
      return { client, startMs };
    });
    for (const { client, startMs } of await Promise.all(some)) {
      ending.push(untilClosed(client, startMs, report));
    }
    // The kernel connects them before the server knows of any, and forgets those beyond the backlog.
    while (acceptQueue(port) > 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return ending;
}

/** How many connections wait to be accepted on a port of IPv4. */
function acceptQueue(port: number): number {
  using table = Deno.openSync("/proc/net/tcp");
  const bytes = new Uint8Array(4096);
  let text = "";
  // Those that listen (0A) come first, and behind them there can be very many.
  for (let count = table.readSync(bytes); count !== null; count = table.readSync(bytes)) {
    text += new TextDecoder().decode(bytes.subarray(0, count));
    const hex = port.toString(16).toUpperCase().padStart(4, "0");
    const found = new RegExp(`: \\w+:${hex} \\w+:0000 0A \\w+:(\\w+) `).exec(text);
    if (found !== null) return Number.parseInt(found[1], 16);
  }
  throw new Error(`nobody listens on ${port}`);
}

async function untilClosed(
  client: LineClient,
  startMs: number,
  report: CrowdReport,
): Promise<void> {
  const lines = await client.rest().catch((error) => [`${error}`]);
  const ms = performance.now() - startMs;
  client.close();
  const last = lines.pop() ?? "";
  report.last[last] = (report.last[last] ?? 0) + 1;
  for (const line of lines) report.earlier[line] = (report.earlier[line] ?? 0) + 1;
  report.shortestMs = Math.min(report.shortestMs, ms);
  report.longestMs = Math.max(report.longestMs, ms);
}

function say(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}
