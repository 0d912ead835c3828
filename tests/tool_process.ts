// A client command of pushd as a process: `pushd sub`, while it runs.

import { PATIENCE_MS, pushdCommand, pushdEnv, within } from "./harness.ts";

/** A running command and what it has printed. */
export class ToolProcess implements AsyncDisposable {
  stdout = "";
  stderr = "";

  #child: Deno.ChildProcess;
  #watchers = new Set<() => void>();
  #ended: Promise<number>;
  #hasEnded = false;

  /** Starts `pushd` with these arguments. */
  constructor(readonly args: readonly string[], env: Record<string, string> = {}) {
    const [program, ...first] = pushdCommand();
    this.#child = new Deno.Command(program, {
      args: [...first, ...args],
      clearEnv: true,
      env: pushdEnv(env),
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#ended = this.#run();
  }

  /** The lines it has printed, whole ones. */
  lines(): string[] {
    return this.stdout.split("\n").slice(0, -1);
  }

  /** Waits until what it has printed is as wanted; `what` names that. */
  async until(what: string, isSo: () => boolean, ms = PATIENCE_MS): Promise<void> {
    let watcher = () => {};
    const found = new Promise<void>((resolve, reject) => {
      watcher = () => {
        if (isSo()) resolve();
        else if (this.#hasEnded) reject(new Error(`it ended before ${what}: ${this.#said()}`));
      };
      this.#watchers.add(watcher);
      watcher();
    });
    try {
      await within(() => `${what}: ${this.#said()}`, found, { ms });
    } finally {
      this.#watchers.delete(watcher);
    }
  }

  /** Sends a signal and waits for the end; resolves to the exit code. */
  async end(signal: Deno.Signal = "SIGINT"): Promise<number> {
    this.#child.kill(signal);
    return await this.ended();
  }

  /** Waits for the end. */
  async ended(): Promise<number> {
    return await within(() => `${this.args} to end: ${this.#said()}`, this.#ended);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#hasEnded) this.#child.kill("SIGKILL");
    await this.#ended;
  }

  #said(): string {
    return `${this.stdout.slice(-2000)}\n${this.stderr.slice(-2000)}`;
  }

  async #run(): Promise<number> {
    const read = async (stream: ReadableStream<Uint8Array>, add: (text: string) => void) => {
      for await (const text of stream.pipeThrough(new TextDecoderStream())) {
        add(text);
        this.#notify();
      }
    };
    await Promise.all([
      read(this.#child.stdout, (text) => this.stdout += text),
      read(this.#child.stderr, (text) => this.stderr += text),
    ]);
    const { code } = await this.#child.status;
    this.#hasEnded = true;
    this.#notify();
    return code;
  }

  #notify(): void {
    for (const watcher of this.#watchers) watcher();
  }
}
