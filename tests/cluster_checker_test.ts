// The checker of fault runs: a clean log passes, and whatever is wrong in it is found.

import { strict as assert } from "node:assert";
import fc from "fast-check";
import { checkCluster, type Verdict } from "./cluster_checker.ts";
import { cleanLog, type WorldOptions } from "./cluster_clean_log.ts";
import { findingLines } from "./cluster_findings.ts";
import {
  type ClusterLog,
  type Fault,
  type FaultKind,
  Outcome,
  type Receipt,
  Receipts,
} from "./cluster_log.ts";

function fault(
  what: FaultKind,
  nodes: number[],
  fromMs: number,
  untilMs: number,
  backMs = untilMs + 500,
): Fault {
  return { what, nodes, fromMs, untilMs, backMs };
}

function kindsOf({ findings }: Verdict): string[] {
  return [...new Set(findings.map(({ kind }) => kind))].sort();
}

function assertClean(verdict: Verdict): void {
  assert.deepEqual(findingLines(verdict.findings), []);
}

/** The log with the receipts of one subscriber changed. */
function changed(
  log: ClusterLog,
  subscriber: number,
  change: (receipts: Receipt[]) => Receipt[],
): ClusterLog {
  const { receipts } = log.subscribers[subscriber];
  log.subscribers[subscriber].receipts = Receipts.of(change([...receipts]));
  return log;
}

function changedHistory(
  log: ClusterLog,
  node: number,
  change: (receipts: Receipt[]) => Receipt[],
): ClusterLog {
  const histories = log.histories.map((history) => {
    if (history.node !== node) return history;
    const receipts = change([...history.receipts]);
    const origins = receipts.map(({ publisher }) => log.nodes[log.publishers[publisher].node]);
    return { ...history, receipts: Receipts.of(receipts), origins };
  });
  return { ...log, histories };
}

function without(...at: number[]): (receipts: Receipt[]) => Receipt[] {
  return (receipts) => receipts.filter((_, i) => !at.includes(i));
}

function twice(at: number): (receipts: Receipt[]) => Receipt[] {
  return (receipts) => receipts.toSpliced(at, 0, receipts[at]);
}

function swapped(a: number, b: number): (receipts: Receipt[]) => Receipt[] {
  return (receipts) => receipts.with(a, receipts[b]).with(b, receipts[a]);
}

/** Index of a message of this publisher at or behind `at`, and of the next one of the same channel. */
function pairOf(receipts: Receipts, publisher: number, at: number): [number, number] {
  const list = [...receipts];
  const a = list.findIndex((receipt, i) => i >= at && receipt.publisher === publisher);
  const b = list.findIndex((receipt, i) =>
    i > a && receipt.publisher === publisher && receipt.channel === list[a].channel
  );
  assert.ok(a >= 0 && b > a);
  return [a, b];
}

const KILL_IN_CUT = [
  fault("cut", [0, 1], 3000, 6000),
  fault("kill", [0], 4000, 5000, 6400),
];

Deno.test("a clean log passes, and everything in it is looked at", () => {
  const verdict = checkCluster(cleanLog());
  assertClean(verdict);
  // Six publishers with 500 messages each, and six subscribers.
  assert.equal(verdict.received, 6 * 6 * 500);
  assert.equal(verdict.excused.size, 0);
});

Deno.test("a clean log with faults passes, and only kill -9 excuses anything", () => {
  const kinds: [FaultKind, number[]][] = [
    ["restart", [0]],
    ["freeze", [1]],
    ["cut", [0, 1]],
    ["cut one way", [0, 1]],
    ["cut node", [2]],
    ["slow", [0]],
    ["slow", [0, 2]],
    ["etc member", []],
    ["etc all", []],
  ];
  for (const [what, nodes] of kinds) {
    const verdict = checkCluster(cleanLog({ faults: [fault(what, nodes, 3000, 5000)] }));
    assertClean(verdict);
    const excuses = [...verdict.excused.keys()];
    // A node that ends has its subscribers sent away; what comes before it is linked, nobody knows.
    const expected = what === "restart" ? ["its node did not know yet that somebody listens"] : [];
    assert.deepEqual(excuses, expected, what);
  }
  const verdict = checkCluster(cleanLog({ faults: KILL_IN_CUT }));
  assertClean(verdict);
  assert.ok(verdict.excused.has("its node was killed before it was passed on"));
});

Deno.test("a seeded loss is found: in the middle, as the first, as the last", () => {
  const length = cleanLog().subscribers[3].receipts.length;
  for (const at of [0, 1, 1000, length - 2, length - 1]) {
    const verdict = checkCluster(changed(cleanLog(), 3, without(at)));
    assert.deepEqual(kindsOf(verdict), ["loss"]);
    assert.equal(verdict.findings[0].count, 1);
    assert.match(verdict.findings[0].where, /s3 on n1/);
  }
});

Deno.test("a subscriber that got nothing of a publisher, or nothing at all, has lost it", () => {
  const none = checkCluster(changed(cleanLog(), 3, () => []));
  assert.deepEqual(none.findings.map(({ kind, count }) => [kind, count]), [["loss", 3000]]);
  const one = (receipts: Receipt[]) => receipts.filter(({ publisher }) => publisher !== 4);
  const verdict = checkCluster(changed(cleanLog(), 3, one));
  assert.deepEqual(verdict.findings.map(({ kind, count }) => [kind, count]), [["loss", 500]]);
});

Deno.test("a seeded repetition is found, at once or later", () => {
  assert.deepEqual(kindsOf(checkCluster(changed(cleanLog(), 0, twice(700)))), ["repetition"]);
  const later = (receipts: Receipt[]) => [...receipts, receipts[0]];
  assert.ok(kindsOf(checkCluster(changed(cleanLog(), 0, later))).includes("repetition"));
});

Deno.test("a seeded swap is found: of one publisher, and of two", () => {
  const log = cleanLog({ subscribersPerNode: 1 });
  const [a, b] = pairOf(log.subscribers[0].receipts, 5, 300);
  assert.deepEqual(kindsOf(checkCluster(changed(log, 0, swapped(a, b)))), ["order"]);
  // Of two publishers either order is right, but it has to be the same for both subscribers of a node.
  const two = cleanLog();
  const list = [...two.subscribers[0].receipts];
  const i = list.findIndex(({ channel, publisher }, i) =>
    i > 300 && channel === list[i + 1].channel && publisher !== list[i + 1].publisher
  );
  const verdict = checkCluster(changed(two, 0, swapped(i, i + 1)));
  assert.deepEqual(kindsOf(verdict), ["different order"]);
});

Deno.test("what was never sent, sent elsewhere, or refused, is a stranger", () => {
  const cases: ((receipt: Receipt) => Partial<Receipt>)[] = [
    () => ({ publisher: 77 }),
    () => ({ n: 100_000 }),
    ({ channel }) => ({ channel: 1 - channel }),
  ];
  for (const part of cases) {
    const change = (receipts: Receipt[]) =>
      receipts.with(10, { ...receipts[10], ...part(receipts[10]) });
    const kinds = kindsOf(checkCluster(changed(cleanLog(), 0, change)));
    assert.ok(kinds.includes("stranger"), part.toString());
  }
  const refused = cleanLog();
  refused.publishers[0].answer(7, Outcome.refused, 150);
  assert.deepEqual(kindsOf(checkCluster(refused)), ["refusal", "stranger"]);
});

Deno.test("timestamps: other than PUBLISHED, falling, given twice", () => {
  const other = (receipts: Receipt[]) =>
    receipts.with(10, { ...receipts[10], ts: receipts[10].ts + 1 });
  assert.deepEqual(kindsOf(checkCluster(changed(cleanLog(), 0, other))), ["timestamp"]);
  const falling = cleanLog();
  falling.publishers[0].outcomes[7] = falling.publishers[0].outcomes[6] - 1;
  assert.ok(kindsOf(checkCluster(falling)).includes("timestamp"));
  const twice = cleanLog({ subscribersPerNode: 0 });
  twice.publishers[1].outcomes[7] = twice.publishers[0].outcomes[7];
  const { findings } = checkCluster({ ...twice, histories: [] });
  assert.deepEqual(findings.map(({ kind, where }) => [kind, where]), [["timestamp", "n0"]]);
});

Deno.test("connections that end, and requests that nobody answers", () => {
  const lost = cleanLog();
  lost.subscribers[2].end = "lost";
  lost.subscribers[2].endedMs = 5000;
  assert.ok(kindsOf(checkCluster(lost)).includes("disconnect"));
  const slow = cleanLog({ faults: [fault("kill", [1], 9000, 9100)] });
  slow.subscribers[2].end = "slow-consumer";
  assert.deepEqual(kindsOf(checkCluster(slow)), ["disconnect"]);
  const publisher = cleanLog();
  publisher.publishers[2].isComplete = false;
  assert.deepEqual(kindsOf(checkCluster(publisher)), ["disconnect"]);
  const silent = cleanLog({ subscribersPerNode: 0 });
  silent.publishers[2].answer(499, Outcome.unknown, Infinity);
  assert.deepEqual(kindsOf(checkCluster(silent)), ["no answer"]);
  const stray = cleanLog();
  stray.subscribers[2].strays.push("HELLO");
  assert.deepEqual(kindsOf(checkCluster(stray)), ["stray line"]);
});

Deno.test("history: a message missing, twice, out of order, refused; not the same everywhere", () => {
  const change = (by: (receipts: Receipt[]) => Receipt[]) =>
    kindsOf(checkCluster(changedHistory(cleanLog(), 1, by)));
  assert.deepEqual(change(without(500)), ["history difference", "history loss"]);
  assert.deepEqual(change(twice(500)), ["history difference", "history repetition"]);
  assert.deepEqual(change(swapped(500, 501)), ["history difference", "history order"]);
  const log = cleanLog();
  const [first, ...rest] = log.histories;
  const partial = { ...log, histories: [{ ...first, partial: ["c0"] }, ...rest] };
  assert.deepEqual(kindsOf(checkCluster(partial)), ["history partial"]);
  const origin = { ...first, origins: first.origins.with(3, "n2") };
  assert.ok(kindsOf(checkCluster({ ...log, histories: [origin] })).includes("timestamp"));
  const notStored = cleanLog({ subscribersPerNode: 0 });
  notStored.publishers[0].answer(7, Outcome.notStored, 150);
  assert.deepEqual(kindsOf(checkCluster(notStored)), ["refusal", "stranger"]);
});

/** Removes from the subscribers of n1 what n0 accepted in a time; returns what is found. */
function lossBetween(options: WorldOptions, fromMs: number, toMs: number): string[] {
  const log = cleanLog(options);
  for (const { id, node } of log.subscribers) {
    if (node !== 1) continue;
    changed(log, id, (receipts) =>
      receipts.filter(({ publisher, n }) => {
        const { node, sentMs } = log.publishers[publisher];
        return node !== 0 || sentMs[n] < fromMs || sentMs[n] >= toMs;
      }));
  }
  return kindsOf(checkCluster(log));
}

Deno.test("no fault excuses a loss that it has nothing to do with", () => {
  for (const what of ["cut", "cut one way", "slow"] as const) {
    // In the outage itself, before it and after it, and when another link was cut.
    const faults = [fault(what, [0, 1], 3000, 5000)];
    assert.deepEqual(lossBetween({ faults }, 3500, 4500), ["loss"], what);
    assert.deepEqual(lossBetween({ faults }, 2500, 9000), ["loss"], what);
    assert.deepEqual(lossBetween({ faults }, 7000, 10_000), ["loss"], what);
    const other = [fault(what, [0, 2], 3000, 5000)];
    assert.deepEqual(lossBetween({ faults: other }, 3500, 4500), ["loss"], what);
  }
  for (const node of [0, 1]) {
    const faults = [fault("freeze", [node], 3000, 8000)];
    assert.deepEqual(lossBetween({ faults }, 3500, 7000), ["loss"]);
    const cut = [fault("cut node", [node], 3000, 8000)];
    assert.deepEqual(lossBetween({ faults: cut }, 3500, 10_000), ["loss"]);
  }
  for (const what of ["etc member", "etc all"] as const) {
    assert.deepEqual(lossBetween({ faults: [fault(what, [], 1000, 9000)] }, 3500, 7000), ["loss"]);
  }
});

Deno.test("who comes in an outage may miss what the other node accepted before it had heard of it", () => {
  const cut = fault("cut", [0, 1], 3000, 5000, 5500);
  const lossOf = (sinceMs: number, fromMs: number, toMs: number) => {
    const log = cleanLog({ faults: [cut] });
    for (const { id, node, sinceMs: since } of log.subscribers) {
      if (node !== 1) continue;
      for (const channel of since.keys()) since.set(channel, sinceMs);
      changed(log, id, (receipts) =>
        receipts.filter(({ publisher, n }) => {
          const { node, sentMs } = log.publishers[publisher];
          return sentMs[n] > sinceMs && (node !== 0 || sentMs[n] < fromMs || sentMs[n] >= toMs);
        }));
    }
    return kindsOf(checkCluster(log));
  };
  // Until the links were back and what had gathered could flow; also where something had come before.
  assert.deepEqual(lossOf(4000, 4000, 8000), []);
  assert.deepEqual(lossOf(4000, 4500, 8000), []);
  assert.deepEqual(lossOf(6000, 6000, 8000), []);
  assert.deepEqual(lossOf(4000, 8500, 8600), ["loss"]);
  assert.deepEqual(lossOf(2500, 4000, 5000), ["loss"]);
  assert.deepEqual(lossOf(8600, 8600, 9000), ["loss"]);
});

Deno.test("kill -9 excuses what was on its way, and no more", () => {
  const faults = [fault("kill", [0], 5000, 6000, 7000)];
  // The last second before it, and what came before it was linked again.
  assert.deepEqual(lossBetween({ faults }, 4500, 7000), []);
  assert.deepEqual(lossBetween({ faults }, 3500, 5000), ["loss"]);
  assert.deepEqual(lossBetween({ faults }, 7100, 8000), ["loss"]);
  // A message behind it came: it was not on its way any more.
  assert.deepEqual(lossBetween({ faults }, 4500, 4600), ["loss"]);
  // That of another node than the publisher's.
  assert.deepEqual(lossBetween({ faults: [fault("kill", [2], 5000, 6000)] }, 4500, 5000), ["loss"]);
  // An orderly end passes everything on, unless it cannot reach the other.
  const restart = fault("restart", [0], 5000, 6000, 7000);
  assert.deepEqual(lossBetween({ faults: [restart] }, 4500, 5000), ["loss"]);
  const cut = fault("cut", [0, 1], 4000, 6500);
  assert.deepEqual(lossBetween({ faults: [cut, restart] }, 4500, 5000), []);
});

Deno.test("the replay bounds excuse what is beyond them", () => {
  const cut = [fault("cut", [0, 1], 3000, 5000)];
  // Of two publishers, a message each 20 ms.
  const bytes = { messageBytes: 100, replayBytes: 15_000 };
  assert.deepEqual(lossBetween({ faults: cut, bounds: bytes }, 3500, 4500), []);
  assert.deepEqual(lossBetween({ faults: cut, bounds: bytes }, 1500, 1600), ["loss"]);
  const enough = { messageBytes: 100, replayBytes: 30_000 };
  assert.deepEqual(lossBetween({ faults: cut, bounds: enough }, 3500, 4500), ["loss"]);
  assert.deepEqual(lossBetween({ faults: cut, bounds: { replayMs: 2000 } }, 3500, 4500), []);
  assert.deepEqual(lossBetween({ faults: cut, bounds: { replayMs: 3000 } }, 3500, 4500), ["loss"]);
});

const anyFault: fc.Arbitrary<Fault> = fc.tuple(
  fc.constantFrom<FaultKind>("kill", "freeze", "cut", "cut one way", "cut node", "slow", "etc all"),
  fc.nat(2),
  fc.integer({ min: 1, max: 2 }),
  fc.integer({ min: 500, max: 6000 }),
  fc.integer({ min: 100, max: 1500 }),
).map(([what, a, step, fromMs, ms]) => {
  const nodes = what.startsWith("cut") && what !== "cut node" ? [a, (a + step) % 3] : [a];
  return fault(what, what === "etc all" ? [] : nodes, fromMs, fromMs + ms);
});

/** One fault, or two behind one another. */
const anyFaults = fc.array(anyFault, { maxLength: 2 }).map(([first, second]) =>
  second === undefined ? [first].filter((it) => it !== undefined) : [first, {
    ...second,
    fromMs: first.backMs + 100 + (second.fromMs % 500),
    untilMs: first.backMs + 2000,
    backMs: first.backMs + 2100,
  }]
);

type Mutation = "lose" | "repeat" | "swap" | "lose stored" | "repeat stored" | "swap stored";
const KINDS: Record<Mutation, string> = {
  lose: "loss",
  repeat: "repetition",
  swap: "order",
  "lose stored": "history loss",
  "repeat stored": "history repetition",
  "swap stored": "history order",
};

Deno.test("property: whatever is changed in any clean log is found", () => {
  const mutation = fc.constantFrom(...Object.keys(KINDS) as Mutation[]);
  fc.assert(
    fc.property(anyFaults, mutation, fc.nat(), fc.nat(), (faults, what, who, where) => {
      const log = cleanLog({ faults, everyMs: 50, endMs: 9000 });
      assertClean(checkCluster(log));
      const verdict = checkCluster(mutate(log, what, who, where));
      assert.ok(kindsOf(verdict).includes(KINDS[what]), `${what}: ${kindsOf(verdict)}`);
    }),
    { numRuns: 150 },
  );
});

function mutate(log: ClusterLog, what: Mutation, who: number, where: number): ClusterLog {
  if (what.endsWith("stored")) {
    const node = who % log.nodes.length;
    const { receipts } = log.histories[node];
    let at = where % (receipts.length - 1);
    // Not the last of a channel: the next one is of another.
    if (receipts.channels[at] !== receipts.channels[at + 1]) at--;
    if (what === "lose stored") return changedHistory(log, node, without(at));
    if (what === "repeat stored") return changedHistory(log, node, twice(at));
    return changedHistory(log, node, swapped(at, at + 1));
  }
  // One that was there before anything was broken: who comes in an outage may not be known everywhere.
  const candidates = log.subscribers.filter(({ receipts, sinceMs }) =>
    receipts.length > 100 && Math.max(...sinceMs.values()) < 0
  );
  const { id, receipts } = candidates[who % candidates.length];
  // One that has others of its publisher and channel around it: nothing could excuse it.
  const list = [...receipts];
  const ofSame = Map.groupBy(list.keys(), (i) => `${list[i].publisher} ${list[i].channel}`);
  const series = [...ofSame.values()].filter(({ length }) => length >= 3);
  const chosen = series[where % series.length];
  const i = 1 + where % (chosen.length - 2);
  if (what === "lose") return changed(log, id, without(chosen[i]));
  if (what === "repeat") return changed(log, id, twice(chosen[i]));
  return changed(log, id, swapped(chosen[i], chosen[i + 1]));
}
