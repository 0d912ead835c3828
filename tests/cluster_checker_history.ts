// Judges what `his` shows at the end of a fault run: everything acknowledged, once, in one order everywhere.

import type { Findings } from "./cluster_findings.ts";
import { type ClusterLog, type HistoryLog, Outcome, type Receipt } from "./cluster_log.ts";

/** Looks at the history of each node that was asked, and compares them. */
export function checkHistories(log: ClusterLog, findings: Findings): void {
  for (const history of log.histories) {
    const where = `history of ${log.nodes[history.node]}`;
    for (const channel of history.partial) findings.add("history partial", where, () => channel);
    checkOne(log, history, where, findings);
  }
  const [first, ...others] = log.histories;
  for (const other of others) checkSame(log, first, other, findings);
}

function checkOne(log: ClusterLog, history: HistoryLog, where: string, findings: Findings): void {
  const there = log.publishers.map(({ length }) => new Uint8Array(length));
  const latest: (string | undefined)[] = new Array(log.channels.length);
  let index = 0;
  for (const receipt of history.receipts) {
    const { channel, publisher: id, n, ts } = receipt;
    const origin = history.origins[index++];
    const told = () => `p${id}.${n} on ${log.channels[channel]}, ${ts} of ${origin}`;
    const publisher = log.publishers[id];
    if (publisher === undefined || n >= publisher.length || publisher.channels[n] !== channel) {
      findings.add("stranger", where, told);
      continue;
    }
    const outcome = publisher.outcomes[n];
    // What was refused is not there, nor what was delivered and could not be stored.
    if (outcome === Outcome.refused || outcome === Outcome.notStored) {
      findings.add("stranger", where, told);
    }
    const isItsOwn = outcome < 0 || outcome === ts;
    if (!isItsOwn || origin !== log.nodes[publisher.node]) findings.add("timestamp", where, told);
    if (there[id][n] === 1) findings.add("history repetition", where, told);
    there[id][n] = 1;
    // Timestamps have 16 digits: they compare as text.
    const place = `${ts} ${origin}`;
    const before = latest[channel];
    if (before !== undefined && place < before) findings.add("history order", where, told);
    latest[channel] = place;
  }
  for (const publisher of log.publishers) {
    for (let n = 0; n < publisher.length; n++) {
      if (publisher.outcomes[n] < 0 || there[publisher.id][n] === 1) continue;
      findings.add(
        "history loss",
        where,
        () =>
          `p${publisher.id}.${n} on ${log.channels[publisher.channels[n]]}, ` +
          `PUBLISHED ${publisher.outcomes[n]} by ${log.nodes[publisher.node]}`,
      );
    }
  }
}

/** `his` gives everybody the same order, and the same messages. */
function checkSame(log: ClusterLog, a: HistoryLog, b: HistoryLog, findings: Findings): void {
  const where = `${log.nodes[a.node]} and ${log.nodes[b.node]}`;
  for (let channel = 0; channel < log.channels.length; channel++) {
    const here = messagesOf(a, channel);
    const there = messagesOf(b, channel);
    const at = here.findIndex((message, i) => message !== there[i]);
    if (at < 0 && here.length === there.length) continue;
    const i = at < 0 ? here.length : at;
    findings.add(
      "history difference",
      where,
      () =>
        `${log.channels[channel]}: ${here.length} and ${there.length} messages, ` +
        `the first that differ are ${here[i]} and ${there[i]}`,
    );
  }
}

function messagesOf({ receipts }: HistoryLog, channel: number): string[] {
  const messages: string[] = [];
  const add = ({ publisher, n }: Receipt) => messages.push(`p${publisher}.${n}`);
  for (const receipt of receipts) if (receipt.channel === channel) add(receipt);
  return messages;
}
