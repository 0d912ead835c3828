// Starts the real server as a process of its own, for tests, and ends it again.

import { AssertionError } from "node:assert/strict";
import { PATIENCE_MS, within } from "./harness_within.ts";

export { Client, errorLine } from "./harness_client.ts";
export { PATIENCE_MS, within } from "./harness_within.ts";

const ROOT = new URL("../", import.meta.url);

/** How {@link startPushd} and {@link runPushd} start a server. */
export interface PushdOptions {
  /** The configuration, as keys or as the text of a file; ports not given are free ones. */
  config?: Record<string, unknown> | string;
  /** Arguments behind those that name the file. */
  args?: readonly string[];
  /** Environment of the server, beside that of the tests without its `PUSHD_…`. */
  env?: Record<string, string>;
  /** A program that starts the server, with its arguments: `["prlimit", "--nofile=256:256"]`. */
  prefix?: readonly string[];
  /** Where the server runs; a folder of its own by default. */
  cwd?: string;
  /** Whether it is the source that runs, also where PUSHD_BIN names what was compiled. */
  fromSource?: boolean;
}

/** How a process ended. */
export interface Ended {
  code: number;
  signal: Deno.Signal | null;
}

/** How a process ended, and what it said. */
export interface Run extends Ended {
  stdout: string;
  stderr: string;
}

/**
 * The program and arguments that `deno task start` runs, with the same permissions; or the program in
 * PUSHD_BIN, so that the tests can run on what was compiled.
 */
export function pushdCommand(fromSource = false): string[] {
  const binary = Deno.env.get("PUSHD_BIN");
  if (binary !== undefined && binary !== "" && !fromSource) return [binary];
  const file = new URL("deno.json", ROOT);
  const start: string = JSON.parse(Deno.readTextFileSync(file)).tasks.start.command;
  const [deno, run, ...flags] = start.split(" ");
  const main = flags.pop();
  if (deno !== "deno" || run !== "run" || main === undefined || !flags.every(isFlag)) {
    throw new Error(`deno.json: the task "start" is not "deno run --flags… main": ${start}`);
  }
  // Elsewhere than in the project's folder, as where the server is started in a test.
  const config = `--config=${file.pathname}`;
  return [Deno.execPath(), "run", config, ...flags, new URL(main, ROOT).pathname];
}

/** The version of Deno that the server runs on: that of the tests, or the one inside of PUSHD_BIN. */
export async function serverDeno(): Promise<string> {
  const { stdout } = await runPushd(["--version"]);
  const [, version] = /, Deno (\S+),/.exec(stdout) ?? [];
  if (version === undefined) throw new Error(`pushd --version: ${stdout}`);
  return version;
}

function isFlag(word: string): boolean {
  return word.startsWith("-");
}

/** The environment of a server under test. */
export function pushdEnv(more: Record<string, string> = {}): Record<string, string> {
  const own = Object.entries(Deno.env.toObject()).filter(([name]) => !name.startsWith("PUSHD_"));
  return { ...Object.fromEntries(own), NO_COLOR: "1", ...more };
}

function commandOf(
  words: readonly string[],
  options: PushdOptions,
  cwd: string,
  hasInput = false,
): Deno.Command {
  const [program, ...args] = [
    ...options.prefix ?? [],
    ...pushdCommand(options.fromSource),
    ...words,
  ];
  return new Deno.Command(program, {
    args,
    cwd: options.cwd ?? cwd,
    clearEnv: true,
    env: pushdEnv(options.env),
    stdin: hasInput ? "piped" : "null",
    stdout: "piped",
    stderr: "piped",
  });
}

/**
 * Runs `pushd` with these arguments until it ends by itself: a start that fails, `check-config`. Unlike
 * {@link startPushd} it gives it no configuration.
 */
export async function runPushd(
  args: readonly string[],
  options: Omit<PushdOptions, "config" | "args"> & { stdin?: BlobPart } = {},
): Promise<Run> {
  const folder = await Deno.makeTempDir({ prefix: "pushd-run-" });
  try {
    const child = commandOf(args, options, folder, options.stdin !== undefined).spawn();
    running.add(child);
    const output = child.output();
    if (options.stdin !== undefined) {
      await new Blob([options.stdin]).stream().pipeTo(child.stdin);
    }
    const { code, signal, stdout, stderr } = await within(
      () => `pushd ${args.join(" ")} to end`,
      output,
      { onLate: () => child.kill("SIGKILL") },
    ).finally(() => running.delete(child));
    const decoder = new TextDecoder();
    return { code, signal, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Servers that have not ended; none of them is to outlive the tests. */
const running = new Set<Deno.ChildProcess>();
globalThis.addEventListener("unload", () => {
  for (const child of running) {
    try {
      child.kill("SIGKILL");
    } catch {
      // Ended meanwhile.
    }
  }
});

/** Starts a server and waits until it says that it is ready. */
export async function startPushd(options: PushdOptions = {}): Promise<Pushd> {
  const folder = await Deno.makeTempDir({ prefix: "pushd-test-" });
  try {
    const conf = `${folder}/pushd.cf`;
    await Deno.writeTextFile(conf, configText(options.config ?? {}));
    const child = commandOf(["--conf", conf, ...options.args ?? []], options, folder).spawn();
    running.add(child);
    const pushd = new Pushd(child, folder);
    try {
      await pushd.untilReady();
    } catch (error) {
      await pushd.kill();
      throw error;
    }
    return pushd;
  } catch (error) {
    await Deno.remove(folder, { recursive: true }).catch(() => {});
    throw error;
  }
}

function configText(config: Record<string, unknown> | string): string {
  if (typeof config === "string") return config;
  return JSON.stringify({
    tcp_listen_addr: "127.0.0.1:0",
    stats_listen_addr: "127.0.0.1:0",
    ...config,
  });
}

/** One server process. */
export class Pushd implements AsyncDisposable {
  /** Where clients come in. */
  port = 0;
  /** Where statistics are served; 0 when they are off. */
  statsPort = 0;
  /** What it wrote to standard error. */
  stderr = "";

  #child: Deno.ChildProcess;
  #folder: string;
  #stdout: ReadableStreamDefaultReader<Uint8Array>;
  #log = "";
  #watchers = new Set<() => void>();
  #reading: Promise<unknown>;
  #ending: Promise<Ended>;
  #hasEnded = false;
  #isAwaited = false;

  /** For {@link startPushd}. */
  constructor(child: Deno.ChildProcess, folder: string) {
    this.#child = child;
    this.#folder = folder;
    this.#stdout = child.stdout.getReader();
    this.#reading = Promise.all([
      this.#read(this.#stdout, (text) => this.#log += text),
      this.#read(child.stderr.getReader(), (text) => this.stderr += text),
    ]);
    this.#ending = this.#untilEnded();
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Its folder, where its configuration is `pushd.cf`; removed at the end. */
  get folder(): string {
    return this.#folder;
  }

  /** What it has logged so far. */
  log(): string {
    return this.#log;
  }

  /** Waits until the log holds a match, from the start of the server on, and returns it. */
  async waitForLog(pattern: RegExp, ms = PATIENCE_MS): Promise<RegExpExecArray> {
    let watcher = () => {};
    const found = new Promise<RegExpExecArray>((resolve, reject) => {
      watcher = () => {
        const match = pattern.exec(this.#log);
        if (match !== null) resolve(match);
        else if (this.#hasEnded) {
          reject(this.#failure(`the server ended before it logged ${pattern}`));
        }
      };
      this.#watchers.add(watcher);
      watcher();
    });
    try {
      return await within(() => `${pattern} in the log:\n${this.#output()}`, found, { ms });
    } finally {
      this.#watchers.delete(watcher);
    }
  }

  /** Reads its standard output no more and closes it, as a program behind a `|` does that ends. */
  async closeLog(): Promise<void> {
    await this.#stdout.cancel();
  }

  /** For {@link startPushd}. */
  async untilReady(): Promise<void> {
    await this.waitForLog(/\bready: telnet .*\n/);
    this.port = Number(/\bclients: .*?:(\d+),/.exec(this.#log)?.[1] ?? 0);
    this.statsPort = Number(/\bstats: http:\/\/\S*:(\d+)\b/.exec(this.#log)?.[1] ?? 0);
    if (this.port === 0) {
      throw this.#failure("the log does not say on which port clients are served");
    }
  }

  /** Resident memory, KiB. */
  rssKb(): number {
    const status = Deno.readTextFileSync(`/proc/${this.pid}/status`);
    return Number(/^VmRSS:\s*(\d+) kB/m.exec(status)?.[1]);
  }

  /** Asks the stats door. */
  async get(path: string, init?: RequestInit): Promise<Response> {
    return await fetch(`http://127.0.0.1:${this.statsPort}${path}`, init);
  }

  /** The answer of `/s/stat`. */
  async stat(): Promise<Stat> {
    const response = await this.get("/s/stat");
    return await response.json();
  }

  /** Polls `/s/stat` until a counter is `value`. */
  async untilStat(counter: string, value: number): Promise<void> {
    let last: number | undefined;
    let isLate = false;
    const polling = (async () => {
      while (!isLate && (last = (await this.stat()).stats[counter]) !== value);
    })();
    await within(() => `${counter} ${value} in /s/stat; it is ${last}`, polling, {
      onLate: () => isLate = true,
    });
  }

  signal(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  /** Waits for its end. */
  async ended(): Promise<Ended> {
    this.#isAwaited = true;
    return await within(() => `the server to end:\n${this.#output()}`, this.#ending);
  }

  /** SIGTERM, and waits for its end. */
  async stop(): Promise<Ended> {
    this.#signalIfRunning("SIGCONT");
    this.#signalIfRunning("SIGTERM");
    return await this.ended();
  }

  /** SIGKILL, and waits for its end. */
  async kill(): Promise<void> {
    this.#signalIfRunning("SIGKILL");
    this.#isAwaited = true;
    await this.#ending;
  }

  /** Stops it if need be; an end that no test asked for or saw must be an orderly one. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      const seen = this.#isAwaited;
      const { code, signal } = await this.stop();
      if (!seen && code !== 0) throw this.#failure(`the server ended with ${signal ?? code}`);
    } finally {
      await this.kill();
      await Deno.remove(this.#folder, { recursive: true });
    }
  }

  #signalIfRunning(signal: Deno.Signal): void {
    try {
      this.#child.kill(signal);
    } catch {
      // It has ended.
    }
  }

  async #read(
    reader: ReadableStreamDefaultReader<Uint8Array>,
    add: (text: string) => void,
  ): Promise<void> {
    const decoder = new TextDecoder();
    while (true) {
      const { value, done } = await reader.read();
      if (done) return;
      add(decoder.decode(value, { stream: true }));
      this.#notify();
    }
  }

  async #untilEnded(): Promise<Ended> {
    const { code, signal } = await this.#child.status;
    await this.#reading;
    this.#hasEnded = true;
    running.delete(this.#child);
    this.#notify();
    return { code, signal };
  }

  #notify(): void {
    for (const watcher of this.#watchers) watcher();
  }

  #failure(message: string): AssertionError {
    return new AssertionError({ message: `${message}:\n${this.#output()}` });
  }

  #output(): string {
    return `${this.#log}${this.stderr}`.slice(-20_000);
  }
}

/** The answer of `/s/stat`. */
export interface Stat {
  ver: string;
  build: string;
  node: string;
  uptime_s: number;
  stats: Record<string, number>;
  conf: Record<string, unknown>;
}
