// Judges whether subscribers of one node saw one order: PROTOCOL, "What a subscriber can rely on", 2.

import { describe, ms, nameOf } from "./cluster_descriptions.ts";
import type { Findings } from "./cluster_findings.ts";
import type { ClusterLog, Receipt, SubscriberLog } from "./cluster_log.ts";

/** Two subscribers of one channel on one node, at the same time, saw the same order. */
export function checkSameOrder(log: ClusterLog, findings: Findings): void {
  const offsets: number[] = [];
  let total = 0;
  for (const { length } of log.publishers) {
    offsets.push(total);
    total += length;
  }
  const positions = new Int32Array(total).fill(-1);
  // Whoever got less is looked for in whoever got more.
  const byLength = log.subscribers.toSorted((a, b) => b.receipts.length - a.receipts.length);
  const counts = (subscriber: SubscriberLog, receipt: Receipt) => {
    const { publisher: id, n, channel } = receipt;
    const publisher = log.publishers[id];
    if (publisher === undefined || n >= publisher.length) return false;
    // What came out of history is in the order of its timestamps where it did not arrive here.
    return subscriber.resumption === null ||
      publisher.sentMs[n] > (subscriber.sinceMs.get(channel) ?? Infinity);
  };
  for (const [i, one] of byLength.entries()) {
    const others = byLength.slice(i + 1).filter((other) =>
      other.node === one.node && other.receipts.length > 0 &&
      beganMs(other) < one.endedMs && beganMs(one) < other.endedMs
    );
    if (others.length === 0) continue;
    let at = 0;
    for (const receipt of one.receipts) {
      if (counts(one, receipt)) positions[offsets[receipt.publisher] + receipt.n] = at++;
    }
    for (const other of others) {
      const latest = new Int32Array(log.channels.length).fill(-1);
      const before = new Map<number, Receipt>();
      for (const receipt of other.receipts) {
        if (!counts(other, receipt)) continue;
        const { channel, publisher, n } = receipt;
        const position = positions[offsets[publisher] + n];
        if (position < 0) continue;
        if (position < latest[channel]) {
          const where = `${nameOf(log, one)} and s${other.id}`;
          findings.add("different order", where, () => {
            const [first, second] = [before.get(channel) ?? receipt, receipt].map((shown) =>
              describe(log, log.publishers[shown.publisher], shown.n)
            );
            const told = [one, other].map((subscriber) => toldOf(subscriber, channel)).join(", ");
            return `s${other.id} got ${first}; and then, at ${
              ms(receipt.atMs)
            }, ${second}; ${told}`;
          });
        }
        latest[channel] = position;
        before.set(channel, receipt);
      }
    }
    for (const receipt of one.receipts) {
      if (counts(one, receipt)) positions[offsets[receipt.publisher] + receipt.n] = -1;
    }
  }
}

function beganMs({ sinceMs }: SubscriberLog): number {
  return Math.min(...sinceMs.values());
}

/** When a subscriber came to a channel, for a person. */
function toldOf({ id, resumption, sinceMs }: SubscriberLog, channel: number): string {
  const how = resumption === null ? "came" : "came back";
  return `s${id} ${how} at ${ms(sinceMs.get(channel) ?? NaN)}`;
}
