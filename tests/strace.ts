// Follows the system calls of a server under test, and has some of them fail or take long.

import { PATIENCE_MS, within } from "./harness_within.ts";

/** `strace`, attached to a process that runs. */
export class Strace implements AsyncDisposable {
  /** What it has seen: a line for each system call, in their order. */
  text = "";

  #child: Deno.ChildProcess;
  #watchers = new Set<() => void>();
  #reading: Promise<void>;

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#reading = this.#read();
  }

  /** Attaches to every thread of the process; from then on `args` are in force. */
  static async attach(pid: number, ...args: string[]): Promise<Strace> {
    const child = new Deno.Command("strace", {
      args: ["-f", "-y", ...args, "-p", `${pid}`],
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const strace = new Strace(child);
    try {
      await strace.waitFor(/Process \d+ attached/);
    } catch (error) {
      await strace.detach();
      throw error;
    }
    return strace;
  }

  /** Waits until what it has seen holds a match, and returns it. */
  async waitFor(pattern: RegExp, ms = PATIENCE_MS): Promise<RegExpExecArray> {
    let watcher = () => {};
    const found = new Promise<RegExpExecArray>((resolve) => {
      watcher = () => {
        const match = pattern.exec(this.text);
        if (match !== null) resolve(match);
      };
      this.#watchers.add(watcher);
      watcher();
    });
    try {
      return await within(() => `${pattern} from strace:\n${this.text.slice(-5000)}`, found, {
        ms,
      });
    } finally {
      this.#watchers.delete(watcher);
    }
  }

  /** Lets the process go on without it. Idempotent. */
  async detach(): Promise<void> {
    try {
      this.#child.kill("SIGINT");
    } catch {
      // It has ended: so has the process.
    }
    const ended = Promise.all([this.#child.status, this.#reading]);
    await within(() => "strace to end", ended, { onLate: () => this.#child.kill("SIGKILL") });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.detach();
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of this.#child.stderr) {
      this.text += decoder.decode(chunk, { stream: true });
      for (const watcher of this.#watchers) watcher();
    }
  }
}

/** Arguments that do something to the syncs of a database's write-ahead log, which every commit makes. */
export function syncs(database: string, inject: string): string[] {
  return ["-P", `${database}-wal`, "-e", "trace=fsync,fdatasync", "-e", `inject=fsync:${inject}`];
}
