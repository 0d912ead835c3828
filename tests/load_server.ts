// A server under load or in trouble: the harness's, with what the system says about its process.

import { fail } from "node:assert/strict";
import { type Pushd, type PushdOptions, startPushd, within as harnessWithin } from "./harness.ts";

/** One server process, by default with its history in memory. */
export class LoadServer implements AsyncDisposable {
  #pushd: Pushd;

  private constructor(pushd: Pushd) {
    this.#pushd = pushd;
  }

  /** Starts one; `prefix` is a program that starts it, as `prlimit --nofile=256:256`. */
  static async start(
    { config = {}, prefix }: { config?: Record<string, unknown> } & Pick<PushdOptions, "prefix"> =
      {},
  ): Promise<LoadServer> {
    return new LoadServer(
      await startPushd({ config: { msg_storage: "memory", ...config }, prefix }),
    );
  }

  get pid(): number {
    return this.#pushd.pid;
  }

  get port(): number {
    return this.#pushd.port;
  }

  /** The counters of `/s/stat`. */
  async stats(): Promise<Record<string, number>> {
    return (await this.#pushd.stat()).stats;
  }

  /** Waits until a counter of `/s/stat` is `expected`. */
  async statsWhen(name: string, expected: number, timeoutMs = 15_000): Promise<void> {
    const untilMs = performance.now() + timeoutMs;
    while (true) {
      const value = (await this.stats())[name];
      if (value === expected) return;
      if (performance.now() > untilMs) {
        fail(`${name} is still ${value} and not ${expected} after ${timeoutMs} ms`);
      }
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

  /** What it has logged so far. */
  log(): string {
    return this.#pushd.log();
  }

  /** Log lines above INFO. */
  complaints(): string[] {
    return this.#pushd.log().split("\n").filter((line) => / (WARN|ERROR|FATAL) /.test(line));
  }

  /** Ends the server; throws where that does not go in order. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pushd[Symbol.asyncDispose]();
  }
}

/** Waits for `ms`; for polling what cannot be awaited. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** What `promise` gives, or an error that says what was waited for. */
export function within<T>(ms: number, what: string, promise: Promise<T>): Promise<T> {
  return harnessWithin(() => what, promise, { ms });
}
