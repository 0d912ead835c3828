// A cluster on this machine for tests: each node at an address of its own in 127.0.0.0/8.

import { pause } from "../src/core/pause.ts";
import { ClusterNode } from "./cluster_nodes.ts";
import { Client } from "./harness.ts";
import { within } from "./harness_within.ts";

const NEVER = new AbortController().signal;
/** Between two looks at `/s/nodes`, ms: nothing tells when a link is up. */
const LOOK_MS = 20;

/** How a cluster is made. */
export interface LoopbackOptions {
  /** Keys of every node's configuration. */
  readonly config?: Record<string, unknown>;
  /** Keys of one, by its index. */
  readonly own?: Record<number, Record<string, unknown>>;
  /** ZooKeeper servers; without them the nodes name one another in `s2s_peers`. */
  readonly etcServers?: readonly string[];
  /** What starts the program of a node, by its index. */
  readonly prefix?: Record<number, readonly string[]>;
}

/** Nodes `n0`, `n1`, … */
export class LoopbackCluster implements AsyncDisposable {
  readonly nodes: ClusterNode[] = [];
  readonly addrs: readonly string[];
  readonly #options: LoopbackOptions;

  private constructor(readonly most: number, options: LoopbackOptions) {
    this.#options = options;
    const random = () => 1 + Math.floor(Math.random() * 250);
    const net = `127.${random()}.${random()}`;
    this.addrs = Array.from({ length: most }, (_, i) => `${net}.${i + 1}`);
  }

  /** Starts `count` nodes of `most` that name one another, and waits until they are linked. */
  static async start(
    count: number,
    options: LoopbackOptions = {},
    most = count,
  ): Promise<LoopbackCluster> {
    const cluster = new LoopbackCluster(most, options);
    try {
      for (let i = 0; i < count; i++) await cluster.add();
      await Promise.all(cluster.nodes.map((node) => node.start()));
      await cluster.untilLinked();
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
    return cluster;
  }

  /** Makes one more node, which does not run yet. */
  async add(): Promise<ClusterNode> {
    const { config, own, etcServers, prefix } = this.#options;
    const i = this.nodes.length;
    const found = etcServers === undefined
      ? { s2s_peers: this.addrs.map((addr) => ClusterNode.s2sAddr(addr)) }
      : { etc_servers: etcServers };
    const node = await ClusterNode.create({
      id: `n${i}`,
      prefix: prefix?.[i] ?? [],
      doorAddr: this.addrs[i],
      linkAddr: this.addrs[i],
      config: { ...found, ...config, ...own?.[i] },
    });
    this.nodes.push(node);
    return node;
  }

  /** Until each of these nodes, or of all that run, is linked to every other. */
  async untilLinked(nodes: readonly ClusterNode[] = this.#running): Promise<void> {
    for (const node of nodes) {
      const others = nodes.filter((other) => other !== node).map(({ id }) => id);
      await this.until(`${node.id} is linked to ${others}`, async () => {
        const peers = await node.peers() ?? [];
        return others.every((id) => peers.some((peer) => peer.id === id && peer.state === "up"));
      });
    }
  }

  get #running(): ClusterNode[] {
    return this.nodes.filter(({ isRunning }) => isRunning);
  }

  /** Until `isTrue`, which is looked at over and over. */
  async until(what: string, isTrue: () => Promise<boolean>, ms?: number): Promise<void> {
    let isLate = false;
    const looking = (async () => {
      while (!isLate && !await isTrue()) await pause(LOOK_MS, NEVER);
    })();
    const shown = () => `${what}; the logs:\n${this.nodes.map((node) => node.log()).join("\n\n")}`;
    await within(shown, looking, { ms, onLate: () => isLate = true });
  }

  /** A client of a node. */
  connect(i: number): Promise<Client> {
    return Client.connect(this.nodes[i].port, this.nodes[i].hostname);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.nodes.map((node) => node[Symbol.asyncDispose]()));
  }
}
