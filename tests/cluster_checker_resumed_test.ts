// The checker of fault runs, on subscribers that go on where they had been: a clean log passes, and the rest is found.

import { strict as assert } from "node:assert";
import { checkCluster } from "./cluster_checker.ts";
import { cleanLog } from "./cluster_clean_log.ts";
import { findingLines } from "./cluster_findings.ts";
import {
  type ClusterLog,
  type Fault,
  type Receipt,
  Receipts,
  SubscriberLog,
} from "./cluster_log.ts";

const LEFT_MS = 3000;
const ASKED_MS = 4000;
const BACK_MS = 4100;
const NODE = 1;

/** How a subscriber comes back. */
interface Return {
  faults?: Fault[];
  /** Changes what had come on its first connection. */
  changeBefore?: (receipts: Receipt[]) => Receipt[];
  /** Changes what comes on its second connection. */
  change?: (receipts: Receipt[], before: readonly Receipt[]) => Receipt[];
  partial?: number[];
  /** By how much it asks for more than it missed, ms. */
  reachBackMs?: number;
  /** When it leaves again, ms. */
  endedMs?: number;
}

/** A clean log with one subscriber a node, of which one is away for a second, and goes on. */
function resumedLog(options: Return = {}): ClusterLog {
  const { faults, changeBefore, change, partial, reachBackMs = 0, endedMs = 30_000 } = options;
  const log = cleanLog({ subscribersPerNode: 1, faults });
  // Where its node was killed it has two connections already, and the rest is on the second one.
  const [first, ...more] = log.subscribers.filter(({ node }) => node === NODE);
  const all = [first, ...more].flatMap(({ receipts }) => [...receipts]);
  const subscribers = log.subscribers.filter(({ node }) => node !== NODE);
  const there = all.filter(({ atMs }) => atMs < LEFT_MS);
  const before = new SubscriberLog(subscribers.length, NODE);
  const after = new SubscriberLog(subscribers.length + 1, NODE);
  for (const [channel, sinceMs] of first.sinceMs) {
    before.sinceMs.set(channel, sinceMs);
    after.sinceMs.set(channel, BACK_MS);
  }
  before.end = faults?.includes(KILL) ? "lost" : "closed by the test";
  before.endedMs = LEFT_MS;
  before.receipts = Receipts.of(changeBefore?.(there) ?? there);
  const afterTs = new Map(there.map(({ channel, ts }) => [channel, ts]));
  after.end = "closed by the test";
  after.endedMs = endedMs;
  after.askedMs = ASKED_MS;
  after.resumption = { of: before.id, afterTs, partial: new Set(partial) };
  const isMissed = ({ channel, ts }: Receipt) =>
    ts > (afterTs.get(channel) ?? 0) - 1000 * reachBackMs;
  const missed = published(log).filter(({ atMs }) => atMs <= BACK_MS).filter(isMissed);
  const live = published(log).filter(({ atMs }) => atMs > BACK_MS);
  const list = [...missed, ...live];
  after.receipts = Receipts.of(change?.(list, there) ?? list);
  const ids = [...subscribers, before, after].map(renumbered);
  return { ...log, subscribers: ids };
}

/** All that was acknowledged, by timestamp. */
function published({ publishers }: ClusterLog): Receipt[] {
  return publishers.flatMap(({ id, length, channels, outcomes, sentMs }) =>
    Array.from({ length }, (_, n) => ({
      channel: channels[n],
      publisher: id,
      n,
      ts: outcomes[n],
      atMs: sentMs[n],
    }))
  ).filter(({ ts }) => ts > 0).toSorted((a, b) => a.ts - b.ts);
}

function renumbered(subscriber: SubscriberLog, id: number): SubscriberLog {
  return Object.assign(new SubscriberLog(id, subscriber.node), {
    ...subscriber,
    id,
    resumption: subscriber.resumption === null ? null : { ...subscriber.resumption, of: id - 1 },
  });
}

function kindsOf(log: ClusterLog): string[] {
  return [...new Set(checkCluster(log).findings.map(({ kind }) => kind))].sort();
}

/** Its node was killed meanwhile. */
const KILL: Fault = { what: "kill", nodes: [NODE], fromMs: LEFT_MS, untilMs: 3500, backMs: 3900 };
const KILLED: Fault[] = [KILL];

Deno.test("a subscriber that goes on where it had been has missed nothing", () => {
  assert.deepEqual(findingLines(checkCluster(resumedLog()).findings), []);
  assert.deepEqual(findingLines(checkCluster(resumedLog({ faults: KILLED })).findings), []);
});

Deno.test("what was published in its absence has to come", () => {
  const lose = (atMs: number) => (receipts: Receipt[]) =>
    receipts.filter((receipt) => receipt !== receipts.find((other) => other.atMs >= atMs));
  for (const atMs of [LEFT_MS + 1, 3500, BACK_MS - 50, BACK_MS + 200]) {
    const verdict = checkCluster(resumedLog({ change: lose(atMs) }));
    assert.deepEqual(verdict.findings.map(({ kind, count }) => [kind, count]), [["loss", 1]]);
  }
  const none = (receipts: Receipt[]) => receipts.filter(({ atMs }) => atMs > BACK_MS);
  assert.deepEqual(kindsOf(resumedLog({ change: none })), ["loss"]);
  assert.deepEqual(kindsOf(resumedLog({ change: none, faults: KILLED })), ["loss"]);
});

Deno.test("what it has had does not come again, unless its node had to reach back", () => {
  const again = (receipts: Receipt[], before: readonly Receipt[]) => [
    ...before.slice(-1),
    ...receipts,
  ];
  assert.deepEqual(kindsOf(resumedLog({ change: again })), ["repetition"]);
  assert.deepEqual(kindsOf(resumedLog({ reachBackMs: 400 })), ["repetition"]);
  assert.deepEqual(kindsOf(resumedLog({ reachBackMs: 400, faults: KILLED })), []);
  assert.deepEqual(kindsOf(resumedLog({ reachBackMs: 600, faults: KILLED })), ["repetition"]);
});

Deno.test("what never came does not come where a message of the same node behind it had come", () => {
  // Neither node has heard for certain that the other has a subscriber.
  const cutOff = (other: number): Fault[] => [
    { what: "cut", nodes: [other, NODE], fromMs: -20, untilMs: 500, backMs: 600 },
    KILL,
  ];
  const { publishers } = resumedLog({ faults: KILLED });
  // The last to come before it left was of node 2.
  const without = (node: number) => (receipts: Receipt[]) =>
    receipts.filter(({ publisher, n }) => {
      const { node: from, sentMs } = publishers[publisher];
      return from !== node || sentMs[n] < LEFT_MS - 300 || sentMs[n] > LEFT_MS - 100;
    });
  const missing = (node: number) => ({
    faults: cutOff(node),
    changeBefore: without(node),
    change: without(node),
    reachBackMs: 400,
  });
  assert.deepEqual(kindsOf(resumedLog(missing(2))), []);
  assert.deepEqual(kindsOf(resumedLog(missing(0))), ["loss"]);
  // It would come with what is reached back for.
  assert.deepEqual(kindsOf(resumedLog({ ...missing(0), change: undefined })), []);
});

Deno.test("what is published later comes behind what was missed, of a node that stands still, too", () => {
  const freeze: Fault[] = [{
    what: "freeze",
    nodes: [2],
    fromMs: 3900,
    untilMs: 7000,
    backMs: 7100,
  }];
  const missedAlone = (receipts: Receipt[]) => receipts.filter(({ atMs }) => atMs <= BACK_MS);
  const gone = { change: missedAlone, endedMs: 9000 };
  assert.deepEqual(kindsOf(resumedLog({ ...gone, faults: freeze })), []);
  assert.deepEqual(kindsOf(resumedLog(gone)), ["loss"]);
  assert.deepEqual(kindsOf(resumedLog({ ...gone, faults: freeze, endedMs: 30_000 })), ["loss"]);
  // What came proves that what is before it came.
  const hole = (receipts: Receipt[]) =>
    receipts.filter(({ atMs }) => atMs <= BACK_MS || atMs > BACK_MS + 500);
  assert.deepEqual(kindsOf(resumedLog({ change: hole, faults: freeze })), ["loss"]);
});

Deno.test("PARTIAL excuses what is missing, and needs an excuse itself", () => {
  const without = (receipts: Receipt[]) =>
    receipts.filter(({ atMs, publisher }) => atMs > BACK_MS || publisher > 1);
  const cut: Fault[] = [{ what: "cut", nodes: [0, 1], fromMs: 3800, untilMs: 4200, backMs: 4300 }];
  assert.deepEqual(kindsOf(resumedLog({ partial: [0, 1] })), ["history partial"]);
  assert.deepEqual(kindsOf(resumedLog({ partial: [0, 1], change: without })), ["history partial"]);
  const withCut = { faults: cut, change: without };
  assert.deepEqual(kindsOf(resumedLog({ ...withCut, partial: [0] })), ["loss"]);
  assert.deepEqual(kindsOf(resumedLog({ ...withCut, partial: [0, 1] })), []);
});
