// Nodes for measurements: started on this machine without a history, asked for their numbers, ended.

import { Processes } from "../bench/processes.ts";
import { sourceArgs } from "../start_task.ts";

const START_MS = 30_000;
const LOOK_MS = 10;

/** One running node. */
export interface Node {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
}

/** Numbers of `/s/stat`. */
export type Stats = Readonly<Record<string, number>>;

/** Nodes at addresses of their own in 127.0.0.0/8, so that each has the usual ports. */
export class Nodes {
  readonly nodes: Node[] = [];
  #processes = new Processes();
  #folder: string;
  #config: Record<string, unknown>;

  private constructor(folder: string, config: Record<string, unknown>) {
    this.#folder = folder;
    this.#config = config;
  }

  static async open(config: Record<string, unknown> = {}): Promise<Nodes> {
    return new Nodes(await Deno.makeTempDir({ prefix: "pushd-figures-" }), config);
  }

  /** Starts one more, and waits until it serves and is linked to the others. */
  async start(): Promise<Node> {
    const i = this.nodes.length + 1;
    const host = `127.77.0.${i}`;
    const id = `n${i}`;
    const cwd = `${this.#folder}/${id}-${crypto.randomUUID().slice(0, 8)}`;
    await Deno.mkdir(cwd);
    const conf = `${cwd}/pushd.cf`;
    await Deno.writeTextFile(
      conf,
      JSON.stringify({
        node_id: id,
        tcp_listen_addr: `${host}:2222`,
        stats_listen_addr: `${host}:9020`,
        s2s_listen_addr: `${host}:2223`,
        s2s_peers: this.nodes.map((node) => `${node.host}:2223`),
        msg_storage: "",
        ...this.#config,
      }),
    );
    const run = await sourceArgs();
    const logPath = `${cwd}/log`;
    const args = [...run, "--conf", conf];
    const { pid } = this.#processes.start(Deno.execPath(), { args, cwd, logPath });
    await until(`${id} to serve`, async () => / ready: /.test(await Deno.readTextFile(logPath)));
    const node = { id, host, pid };
    this.nodes.push(node);
    await until(
      `${id} to be linked`,
      async () => (await this.stats(node)).s2s_links === this.nodes.length - 1,
    );
    return node;
  }

  /** Ends the last one, at once. */
  async killLast(): Promise<void> {
    const node = this.nodes.pop();
    if (node === undefined) return;
    Deno.kill(node.pid, "SIGKILL");
    for (const other of this.nodes) {
      await until(
        `${other.id} to miss it`,
        async () => (await this.stats(other)).s2s_links === this.nodes.length - 1,
      );
    }
  }

  async stats(node: Node): Promise<Stats> {
    const response = await fetch(`http://${node.host}:9020/s/stat`);
    const { stats } = await response.json();
    return stats;
  }

  /** The sum of a number over all nodes. */
  async sum(name: string): Promise<number> {
    const all = await Promise.all(this.nodes.map((node) => this.stats(node)));
    return all.reduce((sum, stats) => sum + stats[name], 0);
  }

  async close(): Promise<void> {
    await this.#processes.stop();
    await Deno.remove(this.#folder, { recursive: true });
  }
}

/** Resident memory, bytes. */
export function residentBytes({ pid }: Node): number {
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  return 1024 * Number(/^VmRSS:\s*(\d+) kB/m.exec(status)?.[1]);
}

/** Looks until it is true. */
export async function until(what: string, isTrue: () => Promise<boolean>): Promise<void> {
  const endMs = performance.now() + START_MS;
  while (!await isTrue().catch(() => false)) {
    if (performance.now() > endMs) throw new Error(`waited ${START_MS / 1000} s for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
