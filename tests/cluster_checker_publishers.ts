// Judges what publishers were answered: every message once, with timestamps that rise.

import type { Findings } from "./cluster_findings.ts";
import { type ClusterLog, Outcome, type PublisherLog } from "./cluster_log.ts";
import { stopOf } from "./cluster_outages.ts";

/** Looks at every publisher, and at the timestamps of each node. */
export function checkPublishers(log: ClusterLog, findings: Findings): void {
  for (const publisher of log.publishers) {
    const where = `publisher p${publisher.id} on ${log.nodes[publisher.node]}`;
    for (const line of publisher.strays) findings.add("stray line", where, () => line);
    checkEnd(log, publisher, where, findings);
    checkReplies(log, publisher, where, findings);
  }
  log.nodes.forEach((name, node) => checkNode(log, node, name, findings));
}

function checkEnd(
  log: ClusterLog,
  { node, sentMs, endedMs, isComplete }: PublisherLog,
  where: string,
  findings: Findings,
): void {
  if (isComplete || endedMs === Infinity) return;
  if (stopOf(log, node, sentMs[0], endedMs) !== undefined) return;
  findings.add("disconnect", where, () => `lost at ${Math.round(endedMs)} ms`);
}

function checkReplies(
  log: ClusterLog,
  publisher: PublisherLog,
  where: string,
  findings: Findings,
): void {
  const { node, length, outcomes, answeredMs, sentMs, endedMs, isComplete } = publisher;
  let lastTs = 0;
  for (let n = 0; n < length; n++) {
    const outcome = outcomes[n];
    if (outcome === Outcome.unknown) {
      if (isComplete || endedMs === Infinity) {
        findings.add("no answer", where, () => `p${publisher.id}.${n}, sent at ${sentMs[n]} ms`);
      }
    } else if (outcome < 0) {
      // A node that is told to end may refuse what comes then.
      const stop = stopOf(log, node, sentMs[0], answeredMs[n]);
      if (stop?.what !== "restart") {
        findings.add("refusal", where, () => `p${publisher.id}.${n} at ${answeredMs[n]} ms`);
      }
    } else {
      if (outcome <= lastTs) {
        findings.add("timestamp", where, () => `p${publisher.id}.${n}: ${outcome} <= ${lastTs}`);
      }
      lastTs = outcome;
    }
  }
}

/** A timestamp is a message's id on the node that accepted it, also across its restarts. */
function checkNode(log: ClusterLog, node: number, name: string, findings: Findings): void {
  const own = log.publishers.filter((publisher) => publisher.node === node);
  const timestamps = new Float64Array(own.reduce((sum, { length }) => sum + length, 0));
  let count = 0;
  for (const { length, outcomes } of own) {
    for (let n = 0; n < length; n++) if (outcomes[n] >= 0) timestamps[count++] = outcomes[n];
  }
  const given = timestamps.subarray(0, count).sort();
  for (let i = 1; i < given.length; i++) {
    if (given[i] === given[i - 1]) {
      findings.add("timestamp", name, () => `${given[i]} was given twice`);
    }
  }
}
