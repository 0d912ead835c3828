// A link that flaps under load, in the hub of its network: two nodes, a publisher and a subscriber at each.
// deno-lint-ignore-file no-console

import { pause } from "../src/core/pause.ts";
import { checkCluster } from "./cluster_checker.ts";
import { findingLines } from "./cluster_findings.ts";
import { hubTask } from "./cluster_hub.ts";
import { LinkWatch } from "./cluster_links.ts";
import { channelNames, LoadPublisher, LoadSubscriber } from "./cluster_load.ts";
import { DEFAULT_BOUNDS, type Fault, PublisherLog, SubscriberLog } from "./cluster_log.ts";
import type { ClusterNet } from "./cluster_net.ts";
import { ClusterNode } from "./cluster_nodes.ts";

/** What a run is told. */
export interface FlapRunOptions {
  /** How often the link is cut. */
  readonly times: number;
  /** For how long, and how long it is whole then, ms. */
  readonly cutMs: number;
  readonly wholeMs: number;
  /** Messages a second of each publisher. */
  readonly rate: number;
  /** Of each node, so that less can be asked for than is needed, to see that losses are noticed. */
  readonly replayBytes: string;
}

/** `s2s_session_timeout`: less than a cut, so that each one ends the link. */
const SESSION_MS = 1000;
/** How long links may take to come up, ms. */
const HEALING_MS = 30_000;
/** Nothing comes any more when nothing has come for so long, ms. */
const QUIET_MS = 2000;
const LOOK_MS = 50;

/** What was found; nothing where all is well. */
async function runFlaps(net: ClusterNet, options: FlapRunOptions): Promise<string[]> {
  const { times, cutMs, wholeMs, rate, replayBytes } = options;
  await using stack = new AsyncDisposableStack();
  const peers = net.plan.nodes.map(({ linkAddr }) => ClusterNode.s2sAddr(linkAddr));
  const nodes = await ClusterNode.createAll(net, stack, () => ({
    s2s_peers: peers,
    s2s_session_timeout: `${SESSION_MS}ms`,
    s2s_replay_bytes: replayBytes,
    msg_storage: "memory",
    session_timeout: "10h",
  }));
  await Promise.all(nodes.map((node) => node.start()));
  const startMs = performance.now();
  const now = () => performance.now() - startMs;
  const links = stack.use(new LinkWatch(nodes, now));
  await links.untilAllLinked(0, HEALING_MS);

  // Each node's publisher has a channel of its own, that the other node's subscriber follows.
  const channels = channelNames(nodes.length);
  const publisherLogs = nodes.map((_, node) => new PublisherLog(node, node));
  const subscriberLogs = nodes.map((_, node) => new SubscriberLog(node, node));
  const subscribers = await Promise.all(
    nodes.map((node, i) =>
      LoadSubscriber.connect(() => subscriberLogs[i], {
        door: node,
        now,
        channels: [nodes.length - 1 - i],
      })
    ),
  );
  await Promise.all(subscribers.map(({ subscribed }) => subscribed));
  const publishers = await Promise.all(
    nodes.map((node, i) =>
      LoadPublisher.connect(() => publisherLogs[i], { door: node, now, rate, nextChannel: () => i })
    ),
  );

  const faults: Omit<Fault, "backMs">[] = [];
  const never = new AbortController().signal;
  for (let i = 0; i < times; i++) {
    await pause(wholeMs, never);
    const fromMs = now();
    const heal = await net.cut(0, 1);
    await pause(cutMs, never);
    await heal();
    faults.push({ what: "cut", nodes: [0, 1], fromMs, untilMs: now() });
  }
  await links.untilAllLinked(SESSION_MS, HEALING_MS);
  for (const publisher of publishers) publisher.stop();
  await Promise.all(publishers.map(({ done }) => done));
  const problems: string[] = [];
  const sent = publisherLogs.map(({ length }) => length);
  const received = () => subscriberLogs.map(({ receipts: { length } }) => length).toReversed();
  // Until nothing comes any more: whatever comes twice is there soon.
  let count = -1;
  for (let sinceMs = now(); now() - sinceMs < QUIET_MS; await pause(LOOK_MS, never)) {
    const before = count;
    count = received().reduce((sum, length) => sum + length);
    if (count !== before) sinceMs = now();
  }
  for (const subscriber of subscribers) subscriber.close();
  console.log(
    `${sent} messages sent, ${received()} received; the link went down ${links.breaks} times`,
  );
  if (links.breaks < times) problems.push(`the link went down ${links.breaks} times only`);

  for (const node of nodes) {
    const lost = await node.metric("pushd_s2s_lost_total");
    if (lost !== 0) problems.push(`${node.id} says that it has lost ${lost} messages`);
  }
  const { findings, excused } = checkCluster({
    nodes: nodes.map(({ id }) => id),
    channels,
    publishers: publisherLogs,
    subscribers: subscriberLogs,
    faults: faults.map((fault) => ({
      ...fault,
      backMs: links.linkedFrom(0, 1, fault.untilMs, SESSION_MS),
    })),
    histories: [],
    bounds: DEFAULT_BOUNDS,
  });
  for (const [why, count] of excused) problems.push(`${count} messages are missing: ${why}`);
  return [...problems, ...findingLines(findings)];
}

if (import.meta.main) await hubTask(runFlaps);
