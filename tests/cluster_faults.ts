// Breaks a cluster in every way, by chance, and mends it again.

import { pause } from "../src/core/pause.ts";
import type { LinkWatch } from "./cluster_links.ts";
import { type Fault, FAULT_KINDS, type FaultKind } from "./cluster_log.ts";
import type { ClusterNet, Heal } from "./cluster_net.ts";
import type { ClusterNode } from "./cluster_nodes.ts";
import type { Random } from "./cluster_random.ts";
import type { Ensemble } from "./zookeeper.ts";

/** How often a node that did not start is tried again, and how soon, ms. */
const START_TRIES = 5;
const START_RETRY_MS = 1000;
/** Rates below what the nodes have to say to each other, and a little above. */
const SLOW_RATES = ["256kbit", "512kbit", "2mbit"];
/** So many faults at a time. */
const LANES = 2;

/** What is broken, and how long at most. */
export interface FaultOptions {
  readonly net: ClusterNet;
  readonly nodes: readonly ClusterNode[];
  readonly ensemble: Ensemble;
  readonly random: Random;
  readonly now: () => number;
  /** Of a node that is frozen or a link that is cut, ms. */
  readonly maxOutageMs: number;
  /** Tells a person what is done. */
  readonly say: (line: string) => void;
}

/** A fault, before it is known when links were back. */
type Done = Omit<Fault, "backMs">;

/** Does, and undoes, one kind of fault to these nodes; null where none can be had now. */
interface Choice {
  readonly nodes: readonly number[];
  /** What nobody else may break meanwhile. */
  readonly holds: readonly string[];
  readonly ms: number;
  break(): Promise<Heal>;
}

/** The faults of one run. */
export class ClusterFaults {
  /** What went wrong that no fault explains: a node that did not start, or did not end well. */
  readonly problems: string[] = [];

  readonly #options: FaultOptions;
  readonly #done: Done[] = [];
  readonly #held = new Set<string>();
  /** Kinds that are still to come before all have been there; in no order. */
  #deck: FaultKind[] = [];

  constructor(options: FaultOptions) {
    this.#options = options;
  }

  /** Breaks and mends until the signal comes, and then mends what is broken. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all(Array.from({ length: LANES }, () => this.#lane(signal)));
  }

  /** Everything that was done, with when the links were back. */
  faults(links: LinkWatch, stableMs: number): Fault[] {
    const { nodes } = this.#options;
    return this.#done.map((fault) => {
      const pairs = pairsOf(fault, nodes.length);
      const back = pairs.map(([a, b]) => links.linkedFrom(a, b, fault.untilMs, stableMs));
      return { ...fault, backMs: Math.max(fault.untilMs, ...back) };
    });
  }

  async #lane(signal: AbortSignal): Promise<void> {
    const { random, now, say, nodes } = this.#options;
    while (await pause(random.between(0, 2500), signal)) {
      const what = this.#draw();
      const choice = this.#choose(what);
      if (choice.holds.some((held) => this.#held.has(held))) {
        // Another time.
        this.#deck.unshift(what);
        continue;
      }
      for (const held of choice.holds) this.#held.add(held);
      const names = choice.nodes.map((node) => nodes[node].id).join(" ");
      const fromMs = now();
      say(`${told(fromMs)} ${what} ${names}`);
      const heal = await choice.break();
      await pause(choice.ms, signal);
      await heal();
      const untilMs = now();
      say(`${told(untilMs)} ${what} ${names}: over`);
      this.#done.push({ what, nodes: choice.nodes, fromMs, untilMs });
      for (const held of choice.holds) this.#held.delete(held);
    }
  }

  #draw(): FaultKind {
    if (this.#deck.length === 0) this.#deck = this.#options.random.shuffled(FAULT_KINDS);
    return this.#deck.pop() ?? FAULT_KINDS[0];
  }

  #choose(what: FaultKind): Choice {
    const { random, nodes, net, maxOutageMs, ensemble } = this.#options;
    const [a, b] = random.shuffled([...nodes.keys()]);
    const process = `process ${a}`;
    const outageMs = random.between(1000, maxOutageMs);
    switch (what) {
      case "kill": {
        const doing = () => this.#kill(nodes[a]);
        return { nodes: [a], holds: [process], ms: random.between(0, 3000), break: doing };
      }
      case "restart": {
        const doing = () => this.#stop(nodes[a]);
        return { nodes: [a], holds: [process], ms: random.between(0, 1000), break: doing };
      }
      case "freeze":
        return { nodes: [a], holds: [process], ms: outageMs, break: () => freeze(nodes[a]) };
      case "cut":
        return { nodes: [a, b], holds: [], ms: outageMs, break: () => net.cut(a, b) };
      case "cut one way":
        return { nodes: [a, b], holds: [], ms: outageMs, break: () => net.cutOneWay(a, b) };
      case "cut node":
        return { nodes: [a], holds: [`cable ${a}`], ms: outageMs, break: () => net.cutNode(a) };
      case "slow": {
        const rate = random.pick(SLOW_RATES);
        const ms = random.between(2000, 8000);
        const pair = [a, b];
        const holds = pair.map((node) => `rate ${node}`);
        if (random.below(2) === 0) {
          return { nodes: pair, holds, ms, break: () => net.slowLink(a, b, rate) };
        }
        return { nodes: [a], holds: holds.slice(0, 1), ms, break: () => net.slow(a, rate) };
      }
      case "etc member":
      case "etc all": {
        const { servers } = ensemble;
        const killed = what === "etc all" ? servers : [random.pick(servers)];
        const ms = random.between(2000, 6000);
        const doing = async () => {
          await Promise.all(killed.map((server) => server.kill()));
          return async () => {
            await Promise.all(killed.map((server) => server.restart()));
          };
        };
        return { nodes: [], holds: ["etc"], ms, break: doing };
      }
    }
  }

  async #kill(node: ClusterNode): Promise<Heal> {
    await node.kill();
    return () => this.#start(node);
  }

  async #stop(node: ClusterNode): Promise<Heal> {
    const { code, signal } = await node.stop();
    if (code !== 0) {
      this.problems.push(`${node.id} was told to end, and did so with ${signal ?? code}`);
    }
    return () => this.#start(node);
  }

  async #start(node: ClusterNode): Promise<void> {
    for (let tries = 1;; tries++) {
      try {
        await node.start();
        return;
      } catch (error) {
        this.problems.push(`${node.id} did not start: ${error}`);
        if (tries === START_TRIES) throw error;
        await new Promise((resolve) => setTimeout(resolve, START_RETRY_MS));
      }
    }
  }
}

function freeze(node: ClusterNode): Promise<Heal> {
  node.freeze();
  return Promise.resolve(() => {
    node.thaw();
    return Promise.resolve();
  });
}

/** The links that a fault stands between. */
function pairsOf({ nodes }: Done, count: number): [number, number][] {
  if (nodes.length === 0) return [];
  if (nodes.length === 2) return [[nodes[0], nodes[1]]];
  const [node] = nodes;
  return Array.from({ length: count }, (_, other): [number, number] => [node, other])
    .filter(([, other]) => other !== node);
}

function told(ms: number): string {
  return `${(ms / 1000).toFixed(1).padStart(6)} s:`;
}
