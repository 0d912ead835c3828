// A server process for the tests of load and faults, and what the system says about it.

import { fail } from "node:assert/strict";

const MAIN = new URL("../src/main.ts", import.meta.url).pathname;

/** How a {@link LoadServer} is started. */
export interface LoadServerOptions {
  /** Keys of the configuration; ports are chosen freely. */
  conf?: Record<string, unknown>;
  /** A program that starts the server, as `prlimit --nofile=256:256`. */
  prefix?: readonly string[];
}

/** One server process with free ports and its history in memory. */
export class LoadServer implements AsyncDisposable {
  readonly log: string[] = [];
  port = 0;
  statsPort = 0;

  #child: Deno.ChildProcess;
  #logEnded: Promise<void> = Promise.resolve();
  #conf: string;

  private constructor(child: Deno.ChildProcess, conf: string) {
    this.#child = child;
    this.#conf = conf;
  }

  static async start({ conf = {}, prefix = [] }: LoadServerOptions = {}): Promise<LoadServer> {
    const file = await Deno.makeTempFile({ prefix: "pushd-load-", suffix: ".cf" });
    await Deno.writeTextFile(
      file,
      JSON.stringify({
        tcp_listen_addr: "127.0.0.1:0",
        stats_listen_addr: "127.0.0.1:0",
        msg_storage: "memory",
        ...conf,
      }),
    );
    const [program, ...args] = [...prefix, Deno.execPath(), "run", "-A", MAIN, "--conf", file];
    const child = new Deno.Command(program, { args, stdout: "piped", stderr: "inherit" }).spawn();
    const server = new LoadServer(child, file);
    const ready = Promise.withResolvers<void>();
    server.#logEnded = server.#readLog(ready);
    await within(20_000, "the server to be ready", ready.promise);
    return server;
  }

  async #readLog(ready: PromiseWithResolvers<void>): Promise<void> {
    let rest = "";
    for await (const text of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      this.log.push(...lines);
      for (const line of lines) {
        this.port = Number(/ clients: 127\.0\.0\.1:(\d+)/.exec(line)?.[1] ?? this.port);
        this.statsPort = Number(/ stats: http:.*:(\d+)/.exec(line)?.[1] ?? this.statsPort);
        if (/ ready: /.test(line)) ready.resolve();
      }
    }
    ready.reject(new Error(`the server ended: ${this.log.join("\n")}`));
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** The counters of `/s/stat`. */
  async stats(): Promise<Record<string, number>> {
    const answer = await fetch(`http://127.0.0.1:${this.statsPort}/s/stat`);
    return (await answer.json()).stats;
  }

  /** Waits until a counter of `/s/stat` is what `isRight` wants, and returns it. */
  async statsWhen(
    name: string,
    isRight: (value: number) => boolean,
    timeoutMs = 15_000,
  ): Promise<number> {
    const untilMs = performance.now() + timeoutMs;
    while (true) {
      const value = (await this.stats())[name];
      if (isRight(value)) return value;
      if (performance.now() > untilMs) fail(`${name} is still ${value} after ${timeoutMs} ms`);
      await pause(20);
    }
  }

  /** Resident memory, in bytes. */
  rss(): number {
    return this.#status("VmRSS");
  }

  /** The most resident memory since {@link clearPeak}, in bytes. */
  peakRss(): number {
    return this.#status("VmHWM");
  }

  /** Lets {@link peakRss} count from now on. */
  clearPeak(): void {
    Deno.writeTextFileSync(`/proc/${this.pid}/clear_refs`, "5");
  }

  #status(key: string): number {
    const status = Deno.readTextFileSync(`/proc/${this.pid}/status`);
    const kilobytes = new RegExp(`^${key}:\\s*(\\d+) kB`, "m").exec(status)?.[1];
    return Number(kilobytes) * 1024;
  }

  /** Processor time used so far, in ms. */
  cpuMs(): number {
    const fields = Deno.readTextFileSync(`/proc/${this.pid}/stat`).split(") ")[1].split(" ");
    // utime and stime, in ticks of 10 ms.
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }

  /** How many sockets the process holds. */
  socketCount(): number {
    let count = 0;
    for (const { name } of Deno.readDirSync(`/proc/${this.pid}/fd`)) {
      try {
        if (Deno.readLinkSync(`/proc/${this.pid}/fd/${name}`).startsWith("socket:")) count++;
      } catch {
        // Closed meanwhile.
      }
    }
    return count;
  }

  /** Log lines above INFO. */
  complaints(): string[] {
    return this.log.filter((line) => / (WARN|ERROR|FATAL) /.test(line));
  }

  /** Ends the server with SIGTERM and checks that it went in order. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGTERM");
    } catch {
      // It has ended already, which its status shows.
    }
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 20_000);
    const { code, signal } = await this.#child.status;
    clearTimeout(timer);
    await this.#logEnded;
    await Deno.remove(this.#conf);
    if (code !== 0) {
      console.error("DISPOSE", code, signal, this.log.slice(-20).join("\n"));
      fail(`the server ended with ${signal ?? code}:\n${this.log.slice(-20).join("\n")}`);
    }
  }
}

/** Waits for `ms`; for polling what cannot be awaited. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** What `promise` gives, or an error that says what was waited for. */
export async function within<T>(ms: number, what: string, promise: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms} ms for ${what}`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
