// A client in a process of its own, so that it can be stopped, and is not disturbed by the test.

import { LineClient } from "./load_client.ts";

/** What `ping` found out. */
export interface PingReport {
  count: number;
  /** The longest time from a ping to its PONG, in ms. */
  worstMs: number;
}

/** What `follow` found out. */
export interface FollowReport {
  /** Numbers at the begin of the messages, in the order in which they came. */
  numbers: number[];
  /** Lines other than messages. */
  others: string[];
  /** What was wrong at the end; null where the server closed behind a whole line. */
  fault: string | null;
}

/** A running child; its standard input is what ends it. */
export class LoadChild implements AsyncDisposable {
  #child: Deno.ChildProcess;
  #lines: ReadableStreamDefaultReader<string>;
  #text = "";

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Starts `ping <port>` or `follow <port> <channel>`; resolves once it is connected. */
  static async start(...args: string[]): Promise<LoadChild> {
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--allow-net", import.meta.url, ...args],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const started = new LoadChild(child);
    await started.#line();
    return started;
  }

  async #line(): Promise<string> {
    while (!this.#text.includes("\n")) {
      const { value, done } = await this.#lines.read();
      if (done) throw new Error("the child ended without a word");
      this.#text += value;
    }
    const [line, ...rest] = this.#text.split("\n");
    this.#text = rest.join("\n");
    return line;
  }

  /** Sends a signal: SIGSTOP, SIGCONT. */
  kill(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  /** Ends a `ping`; waits for what it, or a `follow`, has to say. */
  async report<Report extends PingReport | FollowReport>(): Promise<Report> {
    await this.#child.stdin.close().catch(() => {});
    return JSON.parse(await this.#line());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.#child.stdin.close().catch(() => {});
    await this.#lines.cancel();
    await this.#child.status;
  }
}

/** Pings all the time until standard input ends. */
async function ping(port: number): Promise<PingReport> {
  using client = await LineClient.connect(port);
  say("connected");
  const report: PingReport = { count: 0, worstMs: 0 };
  let isOver = false;
  const over = (async () => {
    while (await Deno.stdin.read(new Uint8Array(16)) !== null);
    isOver = true;
  })();
  while (!isOver) {
    const startMs = performance.now();
    const answer = await client.ask("ping");
    if (answer !== "PONG") throw new Error(`PONG was expected, and not ${answer}`);
    report.count++;
    report.worstMs = Math.max(report.worstMs, performance.now() - startMs);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await over;
  return report;
}

/** Follows a channel until the server closes. */
async function follow(port: number, channel: string): Promise<FollowReport> {
  using client = await LineClient.connect(port);
  await client.ask(`sub ${channel}`);
  say("subscribed");
  const report: FollowReport = { numbers: [], others: [], fault: null };
  try {
    for (let line = await client.line(); line !== null; line = await client.line()) {
      const number = line.startsWith("MESSAGE ") ? line.split(" ")[3] : undefined;
      if (number === undefined) report.others.push(line);
      else report.numbers.push(Number(number));
    }
  } catch (error) {
    report.fault = String(error);
  }
  return report;
}

function say(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}

if (import.meta.main) {
  const [command, port, channel] = Deno.args;
  const report = command === "ping"
    ? await ping(Number(port))
    : await follow(Number(port), channel);
  say(JSON.stringify(report));
}
