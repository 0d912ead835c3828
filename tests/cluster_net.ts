// A network of the tests' own, in namespaces, whose links can be cut and slowed down; the host's is not touched.

import { findTool, type Requirement } from "./require.ts";

/** Where one program comes in: its namespace, and its addresses on the two networks. */
export interface NetNode {
  /** Name of its namespace. */
  readonly namespace: string;
  /** On the network between the nodes, whose links are cut. */
  readonly linkAddr: string;
  /** On the network of clients and operators, which is never cut. */
  readonly doorAddr: string;
}

/** What a process in the hub has to know of a network that another one has made. */
export interface NetPlan {
  readonly hub: string;
  readonly nodes: readonly NetNode[];
}

/** Undoes what was broken. Idempotent. */
export type Heal = () => Promise<void>;

/** Interfaces of a node, and bridges of the hub: between nodes, and to clients. */
const LINKS = "links";
const DOORS = "doors";
/** The hub's own address on both; where ZooKeeper and the clients are. */
export const HUB_LINK_ADDR = "10.91.0.254";
const HUB_DOOR_ADDR = "10.92.0.254";
const PREFIX = "pushd-test-";
/** What a slow link holds back at most, before it drops: as a cheap router would. */
const SLOW_LATENCY = "400ms";
const SLOW_BURST = "16kb";

/** What every node has from the start: a list of those from whom nothing arrives. */
const CUT_TABLE = `add table ip cut
add set ip cut from { type ipv4_addr; }
add chain ip cut in { type filter hook input priority 0; }
add rule ip cut in ip saddr @from drop
`;

/** Says whether a test that needs a network of its own can run here, as `requireTool` does for programs. */
export function requireNetwork(): Requirement {
  const reason = whyNoNetwork();
  if (reason === null) return { ignore: false, reason: "" };
  if (Deno.env.get("PUSHD_TEST_REQUIRE") === "all") {
    Deno.test(reason, () => {
      throw new Error(reason);
    });
  }
  return { ignore: true, reason: ` (${reason})` };
}

function whyNoNetwork(): string | null {
  if (Deno.build.os !== "linux") return "network namespaces are Linux's";
  const missing = ["ip", "tc", "nft"].filter((name) => findTool(name) === null);
  if (missing.length > 0) {
    return `${missing.join(", ")} missing: apt-get install iproute2 nftables`;
  }
  const name = `${PREFIX}${Deno.pid}-try`;
  const made = new Deno.Command(toolPath("ip"), { args: ["netns", "add", name], stderr: "piped" })
    .outputSync();
  if (!made.success) {
    const said = new TextDecoder().decode(made.stderr).trim().split("\n")[0];
    return `no network namespaces here (${said}): run it as root, in a container with NET_ADMIN and SYS_ADMIN`;
  }
  new Deno.Command(toolPath("ip"), { args: ["netns", "del", name] }).outputSync();
  return null;
}

let networks = 0;

/**
 * Nodes in a namespace each, joined by two bridges in another one, the hub: `links` between the nodes, and
 * `doors` for clients, who run in the hub. What happens to the links happens to `links` only.
 */
export class ClusterNet implements AsyncDisposable {
  readonly plan: NetPlan;
  /** How often it was cut from there to there: cuts overlap. */
  #cuts = new Map<string, number>();
  #slow = new Set<number>();

  private constructor(plan: NetPlan) {
    this.plan = plan;
  }

  /** Makes a network; also removes what tests that were killed have left. */
  static async create(size: number): Promise<ClusterNet> {
    await removeOrphans();
    const name = `${PREFIX}${Deno.pid}-${++networks}`;
    const net = new ClusterNet({
      hub: `${name}-hub`,
      nodes: Array.from({ length: size }, (_, i) => ({
        namespace: `${name}-${i}`,
        linkAddr: `10.91.0.${i + 1}`,
        doorAddr: `10.92.0.${i + 1}`,
      })),
    });
    try {
      await net.#build();
    } catch (error) {
      await net[Symbol.asyncDispose]();
      throw error;
    }
    return net;
  }

  /** The network of another process; it is not removed here. */
  static of(plan: NetPlan): ClusterNet {
    return new ClusterNet(plan);
  }

  /** What starts a program as this node. */
  prefixOf(node: number): string[] {
    return inNamespace(this.plan.nodes[node].namespace);
  }

  /** What starts a program in the hub, from where all doors are reached. */
  get hubPrefix(): string[] {
    return inNamespace(this.plan.hub);
  }

  async #build(): Promise<void> {
    const { hub, nodes } = this.plan;
    await run("ip", "netns", "add", hub);
    await ipBatch(hub, [
      "link set lo up",
      ...[LINKS, DOORS].flatMap((bridge) => [
        `link add ${bridge} type bridge`,
        `link set ${bridge} up`,
      ]),
      `addr add ${HUB_LINK_ADDR}/24 dev ${LINKS}`,
      `addr add ${HUB_DOOR_ADDR}/24 dev ${DOORS}`,
    ]);
    for (const [i, { namespace, linkAddr, doorAddr }] of nodes.entries()) {
      await run("ip", "netns", "add", namespace);
      await ipBatch(
        hub,
        [LINKS, DOORS].flatMap((bridge) => [
          `link add ${portOf(bridge, i)} type veth peer name ${bridge} netns ${namespace}`,
          `link set ${portOf(bridge, i)} master ${bridge} up`,
        ]),
      );
      await ipBatch(namespace, [
        "link set lo up",
        `addr add ${linkAddr}/24 dev ${LINKS}`,
        `addr add ${doorAddr}/24 dev ${DOORS}`,
        `link set ${LINKS} up`,
        `link set ${DOORS} up`,
      ]);
      await this.#nft(i, CUT_TABLE);
    }
  }

  /** Nothing passes between the two, neither way; who waits for an answer gets none. */
  async cut(a: number, b: number): Promise<Heal> {
    const heals = [await this.cutOneWay(a, b), await this.cutOneWay(b, a)];
    return once(async () => {
      for (const heal of heals) await heal();
    });
  }

  /** What the one sends to the other does not arrive; the other way all is well. */
  async cutOneWay(from: number, to: number): Promise<Heal> {
    const key = `${from} ${to}`;
    const { linkAddr } = this.plan.nodes[from];
    const count = (this.#cuts.get(key) ?? 0) + 1;
    this.#cuts.set(key, count);
    if (count === 1) await this.#nft(to, `add element ip cut from { ${linkAddr} }`);
    return once(async () => {
      const left = (this.#cuts.get(key) ?? 0) - 1;
      this.#cuts.set(key, left);
      if (left === 0) await this.#nft(to, `delete element ip cut from { ${linkAddr} }`);
    });
  }

  /** Pulls the node's cable: it reaches nobody, ZooKeeper neither, but its clients. */
  async cutNode(node: number): Promise<Heal> {
    const { hub, nodes } = this.plan;
    const port = portOf(LINKS, node);
    const set = async (state: "up" | "down") => {
      await run("ip", "-n", hub, "link", "set", port, state);
      // Both ends notice within a second; before, nothing is sent, or passed on.
      for (const [namespace, dev] of [[nodes[node].namespace, LINKS], [hub, port]]) {
        while (await operState(namespace, dev) !== state.toUpperCase()) {
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      }
    };
    await set("down");
    return once(async () => {
      await set("up");
      // Whom it asked for in vain it would otherwise ask for again only in a second.
      await run("ip", "-n", nodes[node].namespace, "neigh", "flush", "dev", LINKS);
    });
  }

  /** All that the node sends to others, and they to it, passes at this rate only (as `1mbit`). */
  async slow(node: number, rate: string): Promise<Heal> {
    const { hub, nodes } = this.plan;
    this.#beginSlow(node);
    const places: [string, string][] = [[nodes[node].namespace, LINKS], [hub, portOf(LINKS, node)]];
    for (const [namespace, dev] of places) {
      await run("tc", "-n", namespace, "qdisc", "add", "dev", dev, "root", ...tbf(rate));
    }
    return once(async () => {
      for (const [namespace, dev] of places) await removeQdisc(namespace, dev);
      this.#slow.delete(node);
    });
  }

  /** What these two send each other passes at this rate only; what they send to others is not slowed. */
  async slowLink(a: number, b: number, rate: string): Promise<Heal> {
    for (const node of [a, b]) this.#beginSlow(node);
    const { nodes } = this.plan;
    for (const [from, to] of [[nodes[a], nodes[b]], [nodes[b], nodes[a]]]) {
      const tc = (...args: string[]) => run("tc", "-n", from.namespace, ...args);
      // What no filter names passes unhindered.
      await tc("qdisc", "add", "dev", LINKS, "root", "handle", "1:", "htb");
      const unlimited = ["htb", "rate", "10gbit", "quantum", "60000"];
      await tc("class", "add", "dev", LINKS, "parent", "1:", "classid", "1:1", ...unlimited);
      await tc("qdisc", "add", "dev", LINKS, "parent", "1:1", "handle", "11:", ...tbf(rate));
      const match = ["match", "ip", "dst", `${to.linkAddr}/32`];
      const filter = ["protocol", "ip", "u32", ...match, "flowid", "1:1"];
      await tc("filter", "add", "dev", LINKS, "parent", "1:", ...filter);
    }
    return once(async () => {
      for (const node of [a, b]) {
        await removeQdisc(nodes[node].namespace, LINKS);
        this.#slow.delete(node);
      }
    });
  }

  #beginSlow(node: number): void {
    if (this.#slow.has(node)) throw new Error(`node ${node} is slow already`);
    this.#slow.add(node);
  }

  async #nft(node: number, rules: string): Promise<void> {
    const [program, ...args] = [...this.prefixOf(node), toolPath("nft"), "-f", "-"];
    await runWith(rules, program, args);
  }

  /** Removes it, also what was only half made. The programs in it have to have ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { hub, nodes } = this.plan;
    for (const name of [...nodes.map(({ namespace }) => namespace), hub]) {
      await removeNamespace(name);
    }
  }
}

function inNamespace(name: string): string[] {
  return [toolPath("ip"), "netns", "exec", name];
}

function portOf(bridge: string, node: number): string {
  return `${bridge}-${node}`;
}

function tbf(rate: string): string[] {
  return ["tbf", "rate", rate, "burst", SLOW_BURST, "latency", SLOW_LATENCY];
}

async function removeQdisc(namespace: string, dev: string): Promise<void> {
  await run("tc", "-n", namespace, "qdisc", "del", "dev", dev, "root");
}

/** What the kernel says of an interface: UP, or why not. */
async function operState(namespace: string, dev: string): Promise<string> {
  const { stdout } = await new Deno.Command(toolPath("ip"), {
    args: ["-n", namespace, "-j", "link", "show", "dev", dev],
  }).output();
  const [{ operstate }] = JSON.parse(new TextDecoder().decode(stdout));
  // Without a carrier the state of the lower layer counts.
  return operstate === "LOWERLAYERDOWN" ? "DOWN" : operstate;
}

function once(heal: Heal): Heal {
  let healing: Promise<void> | undefined;
  return () => healing ??= heal();
}

/** Namespaces of test processes that do not live any more. */
async function removeOrphans(): Promise<void> {
  for await (const name of namespaces()) {
    const pid = new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1];
    if (pid !== undefined && !await exists(`/proc/${pid}`)) await removeNamespace(name);
  }
}

async function* namespaces(): AsyncGenerator<string> {
  if (!await exists("/run/netns")) return;
  for await (const { name } of Deno.readDir("/run/netns")) yield name;
}

async function removeNamespace(name: string): Promise<void> {
  if (await exists(`/run/netns/${name}`)) await run("ip", "netns", "del", name);
}

function exists(path: string): Promise<boolean> {
  return Deno.lstat(path).then(() => true, () => false);
}

function toolPath(name: string): string {
  const path = findTool(name);
  if (path === null) throw new Error(`${name} is missing`);
  return path;
}

async function ipBatch(namespace: string, lines: readonly string[]): Promise<void> {
  await runWith(`${lines.join("\n")}\n`, toolPath("ip"), ["-n", namespace, "-batch", "-"]);
}

async function run(program: string, ...args: string[]): Promise<void> {
  await runWith("", toolPath(program), args);
}

async function runWith(input: string, program: string, args: readonly string[]): Promise<void> {
  const child = new Deno.Command(program, {
    args: [...args],
    stdin: "piped",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const [{ success, stderr }] = await Promise.all([
    child.output(),
    new Blob([input]).stream().pipeTo(child.stdin),
  ]);
  if (success) return;
  const said = new TextDecoder().decode(stderr).trim();
  throw new Error(`${program} ${args.join(" ")}: ${said}\n${input}`);
}
