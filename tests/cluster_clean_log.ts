// Makes up the log of a cluster that keeps its promises, for the tests of the checker.

import {
  type Bounds,
  type ClusterLog,
  type Fault,
  type HistoryLog,
  Outcome,
  PublisherLog,
  type Receipt,
  Receipts,
  SubscriberLog,
} from "./cluster_log.ts";
import { Outages } from "./cluster_outages.ts";

export const BOUNDS: Bounds = {
  replayBytes: 2 ** 20,
  replayMs: 60_000,
  messageBytes: 100,
  forwardMs: 1000,
  drainMs: 3000,
  skewMs: 500,
};

/** How a log is made up. */
export interface WorldOptions {
  nodes?: number;
  channels?: number;
  publishersPerNode?: number;
  subscribersPerNode?: number;
  /** A publisher sends one message in so long, ms. */
  everyMs?: number;
  endMs?: number;
  faults?: Fault[];
  bounds?: Partial<Bounds>;
}

interface Accepted extends Receipt {
  readonly node: number;
}

/** A time of a node from a start to the kill that ends it, or the end of the run. */
interface Life {
  readonly fromMs: number;
  readonly toMs: number;
  readonly isKilled: boolean;
}

/** The log of a run in which nothing is wrong. */
export function cleanLog(options: WorldOptions = {}): ClusterLog {
  const { nodes = 3, channels = 2, everyMs = 20, endMs = 10_000, faults = [] } = options;
  const bounds = { ...BOUNDS, ...options.bounds };
  const lives = Array.from({ length: nodes }, (_, node) => livesOf(node, faults, endMs));
  const publishers: PublisherLog[] = [];
  const accepted: Accepted[] = [];
  lives.forEach((ofNode, node) => {
    for (const life of ofNode) {
      for (let i = 0; i < (options.publishersPerNode ?? 2); i++) {
        const publisher = new PublisherLog(publishers.length, node);
        publishers.push(publisher);
        publishInto(publisher, life, { everyMs, endMs, channels }, accepted);
      }
    }
  });
  const outages = new Outages(faults, publishers, bounds);
  const subscribers = lives.flatMap((ofNode, node) => {
    const arrivals = accepted.flatMap((message) => arrivalAt(node, message, outages, lives))
      .toSorted((a, b) => a.atMs - b.atMs || a.ts - b.ts);
    return ofNode.flatMap((life) =>
      Array.from({ length: options.subscribersPerNode ?? 2 }, () => ({ node, life, arrivals }))
    );
  }).map(({ node, life, arrivals }, id) => {
    const subscriber = new SubscriberLog(id, node);
    const sinceMs = life.fromMs === 0 ? -10 : life.fromMs;
    for (let channel = 0; channel < channels; channel++) subscriber.sinceMs.set(channel, sinceMs);
    subscriber.end = life.isKilled ? "lost" : "closed by the test";
    subscriber.endedMs = life.isKilled ? life.toMs : endMs + 20_000;
    subscriber.receipts = Receipts.of(
      arrivals.filter(({ atMs }) => sinceMs < atMs && atMs < subscriber.endedMs),
    );
    return subscriber;
  });
  const names = Array.from({ length: nodes }, (_, node) => `n${node}`);
  return {
    nodes: names,
    channels: Array.from({ length: channels }, (_, channel) => `c${channel}`),
    publishers,
    subscribers,
    faults,
    histories: names.map((_, node) => historyOf(node, accepted, publishers, names)),
    bounds,
  };
}

function livesOf(node: number, faults: readonly Fault[], endMs: number): Life[] {
  const lives: Life[] = [];
  let fromMs = 0;
  const stops = faults.filter(({ what, nodes: [killed] }) =>
    (what === "kill" || what === "restart") && killed === node
  );
  for (const stop of stops) {
    lives.push({ fromMs, toMs: stop.fromMs, isKilled: true });
    // Clients are there as soon as it is, and before its links are.
    fromMs = stop.untilMs;
  }
  return [...lives, { fromMs, toMs: endMs, isKilled: false }];
}

function publishInto(
  publisher: PublisherLog,
  { fromMs, toMs, isKilled }: Life,
  { everyMs, channels }: { everyMs: number; endMs: number; channels: number },
  accepted: Accepted[],
): void {
  const { id, node } = publisher;
  for (let at = fromMs + 1 + id; at < toMs; at += everyMs) {
    const n = publisher.send(publisher.length % channels, at);
    // The last one before a kill is taken, and nobody learns of it.
    if (isKilled && at + everyMs >= toMs) continue;
    const ts = (1_700_000_000_000 + at) * 1000 + id;
    publisher.answer(n, ts, at + 2);
    accepted.push({ channel: publisher.channels[n], publisher: id, n, ts, atMs: at, node });
  }
  publisher.endedMs = toMs;
  publisher.isComplete = !isKilled;
}

/** When a message comes to a node; nothing where it is lost rightly. */
function arrivalAt(
  node: number,
  message: Accepted,
  outages: Outages,
  lives: readonly Life[][],
): Accepted[] {
  if (message.node === node) return [{ ...message, atMs: message.atMs + 1 }];
  const { atMs } = message;
  // A node that has just come knows nobody.
  if (outages.isFresh(message.node, atMs)) return [];
  const linkedMs = outages.linkedFrom(message.node, node, atMs);
  const origin = lives[message.node].find(({ fromMs, toMs }) => fromMs <= atMs && atMs < toMs);
  if (origin === undefined || (origin.isKilled && linkedMs + 5 >= origin.toMs)) return [];
  // Nor does it pass on to one that came anew what was meant for the one before.
  const isReached = lives[node].some(({ fromMs, toMs, isKilled }) =>
    fromMs <= atMs && atMs < toMs && (!isKilled || linkedMs + 5 < toMs)
  );
  if (!isReached) return [];
  return [{ ...message, atMs: linkedMs + 5 }];
}

function historyOf(
  node: number,
  accepted: readonly Accepted[],
  publishers: readonly PublisherLog[],
  names: readonly string[],
): HistoryLog {
  const stored = accepted
    .filter(({ publisher, n }) => publishers[publisher].outcomes[n] !== Outcome.notStored)
    .toSorted((a, b) => a.channel - b.channel || a.ts - b.ts || a.node - b.node);
  return {
    node,
    receipts: Receipts.of(stored),
    origins: stored.map(({ node }) => names[node]),
    partial: [],
  };
}
