// The nodes of a cluster for tests: real servers, started, killed, frozen and started again with what they kept.

import type { ClusterNet } from "./cluster_net.ts";
import { type Ended, type Pushd, startPushd } from "./harness.ts";

/** So long a node may take for an answer, ms; one that is frozen never gives any. */
const ANSWER_MS = 500;

/** Where clients and operators come in. */
const CLIENT_PORT = 2222;
const STATS_PORT = 9020;
/** Where the other nodes do. */
const S2S_PORT = 2223;

/** One node, as it is started each time. */
export interface NodeSettings {
  readonly id: string;
  /** What starts a program where the node is at home. */
  readonly prefix: readonly string[];
  /** Its addresses for clients and for other nodes, which have to be its own: its ports are the usual ones. */
  readonly doorAddr: string;
  readonly linkAddr: string;
  /** Further keys of its configuration. */
  readonly config?: Record<string, unknown>;
}

/** A line of `/s/nodes`; what a test looks at. */
export interface PeerLine {
  readonly id: string;
  readonly self: boolean;
  readonly state: "up" | "connecting" | "down";
  readonly replay_bytes: number;
  readonly lost: number;
}

/** A node over all its lives. */
export class ClusterNode implements AsyncDisposable {
  readonly id: string;
  readonly hostname: string;
  readonly port = CLIENT_PORT;

  readonly #settings: NodeSettings;
  /** Keeps its history from one life to the next. */
  readonly #folder: string;
  #pushd: Pushd | null = null;
  #isFrozen = false;
  /** What it logged in earlier lives. */
  #logs: string[] = [];

  private constructor(settings: NodeSettings, folder: string) {
    this.#settings = settings;
    this.#folder = folder;
    this.id = settings.id;
    this.hostname = settings.doorAddr;
  }

  /** Makes a node, which does not run yet. */
  static async create(settings: NodeSettings): Promise<ClusterNode> {
    return new ClusterNode(settings, await Deno.makeTempDir({ prefix: "pushd-node-" }));
  }

  /** A node at each place of the net, which does not run yet; the stack disposes of it. */
  static async createAll(
    net: ClusterNet,
    stack: AsyncDisposableStack,
    configOf: (place: number) => Record<string, unknown>,
  ): Promise<ClusterNode[]> {
    const nodes: ClusterNode[] = [];
    for (const [i, { doorAddr, linkAddr }] of net.plan.nodes.entries()) {
      const settings = { id: `n${i}`, prefix: net.prefixOf(i), doorAddr, linkAddr };
      nodes.push(stack.use(await ClusterNode.create({ ...settings, config: configOf(i) })));
    }
    return nodes;
  }

  /** Where the other nodes dial a node at this address. */
  static s2sAddr(linkAddr: string): string {
    return `${linkAddr}:${S2S_PORT}`;
  }

  /** Begins a life, and waits until clients are served; its links may come later. */
  async start(): Promise<void> {
    if (this.#pushd !== null) throw new Error(`${this.id} runs already`);
    const { id, prefix, doorAddr, linkAddr, config } = this.#settings;
    this.#pushd = await startPushd({
      prefix,
      cwd: this.#folder,
      config: {
        node_id: id,
        tcp_listen_addr: `${doorAddr}:${CLIENT_PORT}`,
        stats_listen_addr: `${doorAddr}:${STATS_PORT}`,
        s2s_listen_addr: `${linkAddr}:${S2S_PORT}`,
        s2s_advertise_addr: `${linkAddr}:${S2S_PORT}`,
        s2s_secret: "known-to-nodes-only",
        ...config,
      },
    });
    this.#isFrozen = false;
  }

  get isRunning(): boolean {
    return this.#pushd !== null;
  }

  get pid(): number {
    return this.#running.pid;
  }

  get #running(): Pushd {
    if (this.#pushd === null) throw new Error(`${this.id} does not run`);
    return this.#pushd;
  }

  /** SIGKILL, and waits for its end. */
  async kill(): Promise<void> {
    const pushd = this.#running;
    await pushd.kill();
    await this.#bury(pushd);
  }

  /** SIGTERM, and waits for its end. */
  async stop(): Promise<Ended> {
    const pushd = this.#running;
    try {
      return await pushd.stop();
    } finally {
      await this.#bury(pushd);
    }
  }

  async #bury(pushd: Pushd): Promise<void> {
    this.#pushd = null;
    this.#logs.push(pushd.log() + pushd.stderr);
    // It was waited for: how it ended is its caller's to judge.
    await pushd[Symbol.asyncDispose]();
  }

  /** SIGSTOP: its sockets stay as they are, and nobody reads or writes. */
  freeze(): void {
    this.#running.signal("SIGSTOP");
    this.#isFrozen = true;
  }

  /** SIGCONT. */
  thaw(): void {
    this.#running.signal("SIGCONT");
    this.#isFrozen = false;
  }

  /** What it has logged, in all its lives. */
  log(): string {
    const present = this.#pushd === null ? [] : [this.#pushd.log() + this.#pushd.stderr];
    return [...this.#logs, ...present].join("--- started anew ---\n");
  }

  /** Resident memory, KiB; 0 while it does not run. */
  rssKb(): number {
    return this.#pushd?.rssKb() ?? 0;
  }

  /** Asks its door for operators; null where it does not answer. */
  async get(path: string): Promise<Response | null> {
    if (this.#pushd === null || this.#isFrozen) return null;
    try {
      const response = await fetch(`http://${this.hostname}:${STATS_PORT}${path}`, {
        signal: AbortSignal.timeout(ANSWER_MS),
      });
      // The body has to come in time, too.
      return new Response(await response.text(), { status: response.status });
    } catch {
      return null;
    }
  }

  /** The other nodes in `/s/nodes`; null where it does not answer, or stands alone. */
  async peers(): Promise<PeerLine[] | null> {
    const response = await this.get("/s/nodes");
    if (response === null || !response.ok) return null;
    const { nodes }: { nodes: PeerLine[] } = await response.json();
    return nodes.filter(({ self }) => !self);
  }

  /** The sum of a metric over its labels. */
  async metric(name: string): Promise<number> {
    const response = await this.get("/metrics");
    if (response === null) throw new Error(`${this.id} does not show its metrics`);
    const lines = (await response.text()).split("\n").filter((line) =>
      line.startsWith(`${name} `) || line.startsWith(`${name}{`)
    );
    if (lines.length === 0) throw new Error(`${this.id} has no metric ${name}`);
    return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
  }

  /** Kills it where it runs, and removes what it kept. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#pushd !== null) await this.kill();
    await Deno.remove(this.#folder, { recursive: true });
  }
}
