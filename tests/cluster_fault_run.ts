// The fault run itself, in the hub of its network: three nodes, everybody busy, everything broken in turn.
// deno-lint-ignore-file no-console

import { pause } from "../src/core/pause.ts";
import { checkCluster } from "./cluster_checker.ts";
import { ClusterFaults } from "./cluster_faults.ts";
import { findingLines } from "./cluster_findings.ts";
import { readHistory } from "./cluster_history_reader.ts";
import { hubTask } from "./cluster_hub.ts";
import { LinkWatch } from "./cluster_links.ts";
import { channelNames } from "./cluster_load.ts";
import { type ClusterLog, DEFAULT_BOUNDS } from "./cluster_log.ts";
import { type ClusterNet, HUB_LINK_ADDR } from "./cluster_net.ts";
import { ClusterNode } from "./cluster_nodes.ts";
import { Random } from "./cluster_random.ts";
import { ClusterTraffic } from "./cluster_traffic.ts";
import { startEnsemble } from "./zookeeper.ts";

/** What a run is told. */
export interface FaultRunOptions {
  readonly seed: number;
  /** How long things are broken, ms. */
  readonly ms: number;
  /** Of a node that is frozen or a link that is cut, ms. */
  readonly maxOutageMs: number;
  /** Messages a second, of all publishers. */
  readonly rate: number;
  /** Where the logs of the nodes are left; none where it is empty. */
  readonly logFolder: string;
  /** The nodes know nothing of each other, and nothing is broken: all that is there to see is found. */
  readonly isApart: boolean;
}

const BUSY_CHANNELS = 8;
const RARE_CHANNELS = 4;
/** `s2s_session_timeout`. A link that was up so long after it had been cut stays up. */
const SESSION_MS = 2000;
const STABLE_MS = SESSION_MS + 500;
/** How long everything may take to heal, and to arrive, when nothing is broken any more, ms. */
const HEALING_MS = 40_000;
/** Nothing comes any more when nothing has come for so long, ms. */
const QUIET_MS = 2000;

/** What was found; nothing where all is well. */
async function runFaults(net: ClusterNet, options: FaultRunOptions): Promise<string[]> {
  const { seed, ms, maxOutageMs, rate, logFolder, isApart } = options;
  await using stack = new AsyncDisposableStack();
  const members = isApart ? 1 : 3;
  const ensemble = stack.use(await startEnsemble(members, { hostname: HUB_LINK_ADDR }));
  const nodes = await ClusterNode.createAll(net, stack, (i) => ({
    // Each in a cluster of its own, it finds nobody.
    cluster: isApart ? `apart-${i}` : "faults",
    etc_servers: ensemble.addrs,
    s2s_session_timeout: `${SESSION_MS}ms`,
    // Subscribers send nothing, for as long as the run takes.
    session_timeout: "10h",
    drain_timeout: "5s",
    // A resumed subscriber has not been away for so many.
    max_cache_msgs_every_channel: 20_000,
    sqlite: { path: "history.db" },
  }));
  await Promise.all(nodes.map((node) => node.start()));
  const startMs = performance.now();
  const now = () => performance.now() - startMs;
  const links = stack.use(new LinkWatch(nodes, now));
  if (!isApart) await links.untilAllLinked(0, HEALING_MS);
  console.log(`linked after ${Math.round(now())} ms`);

  const traffic = new ClusterTraffic({
    doors: nodes,
    now,
    random: new Random(seed),
    busyChannels: BUSY_CHANNELS,
    rareChannels: RARE_CHANNELS,
    rate,
  });
  traffic.start();
  const faults = new ClusterFaults({
    net,
    nodes,
    ensemble,
    random: new Random(seed + 1),
    now,
    maxOutageMs,
    say: (line) => console.log(line),
  });
  const problems = faults.problems;
  const over = AbortSignal.timeout(ms);
  if (isApart) await pause(ms, over);
  else await faults.run(over);
  const healedMs = now();
  if (!isApart) {
    await links.untilAllLinked(STABLE_MS, HEALING_MS).catch((error) => problems.push(`${error}`));
  }
  await traffic.stopPublishing();
  const isQuiet = await traffic.untilQuiet(QUIET_MS, HEALING_MS);
  if (!isQuiet) problems.push("messages still come although nobody sends any");
  console.log(`healed at ${Math.round(healedMs)} ms, quiet at ${Math.round(now())} ms`);

  const channels = channelNames(BUSY_CHANNELS + RARE_CHANNELS);
  const histories = await Promise.all(nodes.map((node, i) => readHistory(node, i, channels)));
  const lost = await Promise.all(nodes.map((node) => lostBy(node)));
  await traffic.stopSubscribing();
  const log: ClusterLog = {
    nodes: nodes.map(({ id }) => id),
    channels,
    publishers: traffic.publishers,
    subscribers: traffic.subscribers,
    faults: faults.faults(links, STABLE_MS),
    histories,
    bounds: DEFAULT_BOUNDS,
  };
  const checkMs = performance.now();
  const { findings, received, excused } = checkCluster(log);
  const sent = log.publishers.reduce((sum, { length }) => sum + length, 0);
  console.log(
    `${sent} messages sent, ${received} received by ${log.subscribers.length} connections, ` +
      `${histories.map(({ receipts }) => receipts.length)} in history; ` +
      `${log.faults.length} faults, links went down ${links.breaks} times; ` +
      `checked in ${Math.round(performance.now() - checkMs)} ms; ` +
      `counted as lost: ${lost}; resident: ${nodes.map((node) => node.rssKb() >> 10)} MiB`,
  );
  for (const [why, count] of excused) console.log(`rightly missing, ${count}: ${why}`);
  if (logFolder !== "") await leaveLogs(logFolder, nodes);
  return [...problems, ...findingLines(findings)];
}

/** What a node says to have lost, in its present life; nothing where it stands alone. */
async function lostBy(node: ClusterNode): Promise<number> {
  const peers = await node.peers();
  return (peers ?? []).reduce((sum, { lost }) => sum + lost, 0);
}

async function leaveLogs(folder: string, nodes: readonly ClusterNode[]): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  for (const node of nodes) await Deno.writeTextFile(`${folder}/${node.id}.log`, node.log());
}

if (import.meta.main) await hubTask(runFaults);
