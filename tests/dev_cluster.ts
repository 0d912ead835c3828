// `pushd dev-cluster` under test: started, asked where its nodes are, and ended.

import { pushdCommand, pushdEnv } from "./harness.ts";
import { within } from "./harness_within.ts";

/** One run of it. */
export class DevCluster implements AsyncDisposable {
  /** Ports of each node, as it says. */
  readonly nodes: { port: number; statsPort: number }[] = [];
  /** Where it keeps its files. */
  folder = "";
  /** What it has printed. */
  text = "";

  #child: Deno.ChildProcess;
  #reading: Promise<void>;
  #ready = Promise.withResolvers<void>();

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#reading = this.#read();
  }

  /** Starts it, and waits until it says what to type. */
  static async start(count: number): Promise<DevCluster> {
    const [program, ...args] = pushdCommand();
    const child = new Deno.Command(program, {
      args: [...args, "dev-cluster", `${count}`],
      clearEnv: true,
      env: pushdEnv(),
      stdout: "piped",
    }).spawn();
    const cluster = new DevCluster(child);
    await within(() => `dev-cluster to be ready:\n${cluster.text}`, cluster.#ready.promise, {
      onLate: () => child.kill("SIGKILL"),
    });
    return cluster;
  }

  async #read(): Promise<void> {
    for await (const chunk of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      this.text += chunk;
      if (this.nodes.length > 0 || !this.text.includes("Ctrl-C ends them")) continue;
      this.folder = /files in (\S+)/.exec(this.text)?.[1] ?? "";
      const node = /telnet 127\.0\.0\.1 (\d+) {2}curl http:\/\/127\.0\.0\.1:(\d+)/g;
      for (const [, port, statsPort] of this.text.matchAll(node)) {
        this.nodes.push({ port: Number(port), statsPort: Number(statsPort) });
      }
      this.#ready.resolve();
    }
    this.#ready.reject(new Error(`dev-cluster has ended:\n${this.text}`));
  }

  /** Ctrl-C; resolves to the exit code. */
  async stop(): Promise<number> {
    this.#child.kill("SIGINT");
    return await this.#ended();
  }

  async #ended(): Promise<number> {
    const { code } = await within(() => `dev-cluster to end:\n${this.text}`, this.#child.status, {
      onLate: () => this.#child.kill("SIGKILL"),
    });
    // That it has ended is no failure any more.
    this.#ready.promise.catch(() => {});
    await this.#reading;
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGINT");
    } catch {
      // It has ended.
    }
    await this.#ended();
  }
}
