// Judges the logs of a fault run: what PROTOCOL, "What a subscriber can rely on", promises, and nothing less.

import { checkHistories } from "./cluster_checker_history.ts";
import { checkSameOrder } from "./cluster_checker_order.ts";
import { checkPublishers } from "./cluster_checker_publishers.ts";
import { checkResumptions } from "./cluster_checker_resumed.ts";
import { describe, ms, nameOf } from "./cluster_descriptions.ts";
import { type Excuse, type Finding, Findings, type MissedBy } from "./cluster_findings.ts";
import {
  type ClusterLog,
  Outcome,
  type PublisherLog,
  type Receipt,
  type SubscriberLog,
} from "./cluster_log.ts";
import { firstFrom, Outages, stopOf } from "./cluster_outages.ts";

/** What a checker says. */
export interface Verdict {
  readonly findings: Finding[];
  /** Messages that came and were right. */
  readonly received: number;
  /** Messages that did not come, by why that is right. */
  readonly excused: Map<Excuse, number>;
}

/** Judges a run. An empty list of findings is what is wanted. */
export function checkCluster(log: ClusterLog): Verdict {
  const findings = new Findings();
  const outages = new Outages(log.faults, log.publishers, log.bounds);
  const excused = new Map<Excuse, number>();
  checkPublishers(log, findings);
  const isContinued = new Set(log.subscribers.map(({ resumption }) => resumption?.of));
  const missed = new Map<number, MissedBy>();
  for (const subscriber of log.subscribers) {
    checkConnection(log, subscriber, findings);
    const check = new SubscriberCheck(log, outages, subscriber, findings, excused);
    check.run();
    if (isContinued.has(subscriber.id)) missed.set(subscriber.id, check.missed);
  }
  checkResumptions({ log, outages, missed, findings, excused });
  checkSameOrder(log, findings);
  checkHistories(log, findings);
  const received = log.subscribers.reduce((sum, { receipts }) => sum + receipts.length, 0);
  return { findings: findings.list, received, excused };
}

/** Nobody is sent away: every subscriber of a run reads all the time. */
function checkConnection(log: ClusterLog, subscriber: SubscriberLog, findings: Findings): void {
  const { askedMs, end, endedMs, node, sinceMs, strays } = subscriber;
  for (const line of strays) findings.add("stray line", nameOf(log, subscriber), () => line);
  if (end === "open" || end === "closed by the test") return;
  const beganMs = Math.min(askedMs, ...sinceMs.values());
  if (end === "lost" && stopOf(log, node, beganMs, endedMs) !== undefined) return;
  findings.add("disconnect", nameOf(log, subscriber), () => `${end} at ${ms(endedMs)}`);
}

/** What one subscriber got. */
class SubscriberCheck {
  #log: ClusterLog;
  #outages: Outages;
  #subscriber: SubscriberLog;
  #findings: Findings;
  #excused: Map<Excuse, number>;
  /** By publisher: which of its messages came. */
  #got: (Uint8Array | undefined)[];
  /**
   * By publisher and channel: the lowest number that came of what was sent after SUBSCRIBED, and the
   * highest of all; -1 where none did.
   */
  #first: Int32Array;
  #last: Int32Array;
  /** By publisher and number, what is missing rightly. */
  readonly missed: MissedBy = new Map();

  constructor(
    log: ClusterLog,
    outages: Outages,
    subscriber: SubscriberLog,
    findings: Findings,
    excused: Map<Excuse, number>,
  ) {
    this.#log = log;
    this.#outages = outages;
    this.#subscriber = subscriber;
    this.#findings = findings;
    this.#excused = excused;
    const pairs = log.publishers.length * log.channels.length;
    this.#got = new Array(log.publishers.length);
    this.#first = new Int32Array(pairs).fill(-1);
    this.#last = new Int32Array(pairs).fill(-1);
  }

  run(): void {
    for (const receipt of this.#subscriber.receipts) this.#take(receipt);
    for (const publisher of this.#log.publishers) this.#findMissing(publisher);
  }

  #take(receipt: Receipt): void {
    const { channel, publisher: id, n, ts, atMs } = receipt;
    const publisher = this.#log.publishers[id];
    const where = nameOf(this.#log, this.#subscriber);
    const isOwn = publisher !== undefined && n < publisher.length &&
      publisher.channels[n] === channel && this.#subscriber.sinceMs.has(channel);
    if (!isOwn) {
      const told = () => `p${id}.${n} on ${this.#log.channels[channel]} at ${ms(atMs)}`;
      this.#findings.add("stranger", where, told);
      return;
    }
    const told = () => `${describe(this.#log, publisher, n)}, came at ${ms(atMs)} as ${ts}`;
    const outcome = publisher.outcomes[n];
    if (outcome === Outcome.refused) this.#findings.add("stranger", where, told);
    if (outcome >= 0 && outcome !== ts) this.#findings.add("timestamp", where, told);
    const got = this.#got[id] ??= new Uint8Array(publisher.length);
    if (got[n] === 1) {
      this.#findings.add("repetition", where, told);
      return;
    }
    got[n] = 1;
    const pair = id * this.#log.channels.length + channel;
    // What was sent before, and comes all the same, tells nothing about what has to come.
    const since = this.#subscriber.sinceMs.get(channel) ?? 0;
    const isExpected = publisher.sentMs[n] > since;
    if (n < this.#last[pair]) {
      const last = this.#last[pair];
      this.#findings.add("order", where, () => `${told()} behind p${id}.${last}`);
    }
    if (isExpected && (this.#first[pair] < 0 || n < this.#first[pair])) this.#first[pair] = n;
    this.#last[pair] = Math.max(this.#last[pair], n);
  }

  #findMissing(publisher: PublisherLog): void {
    const { sinceMs, endedMs } = this.#subscriber;
    const got = this.#got[publisher.id];
    const pairs = publisher.id * this.#log.channels.length;
    const { length, sentMs } = publisher;
    for (let n = firstFrom(sentMs, length, Math.min(...sinceMs.values())); n < length; n++) {
      if (sentMs[n] >= endedMs) break;
      if (got?.[n] === 1) continue;
      const channel = publisher.channels[n];
      const since = sinceMs.get(channel);
      if (since === undefined || publisher.outcomes[n] === Outcome.refused) continue;
      const first = this.#first[pairs + channel];
      const last = this.#last[pairs + channel];
      if (sentMs[n] <= since) continue;
      const isBetween = first >= 0 && first < n && n < last;
      // Without an answer nobody knows whether it was taken at all; behind it something was.
      if (publisher.outcomes[n] === Outcome.unknown && !isBetween) continue;
      const excuse = this.#excuseOf(publisher, n, since, first, last);
      if (excuse !== null) {
        this.#excused.set(excuse, (this.#excused.get(excuse) ?? 0) + 1);
        const missed = this.missed.get(publisher.id) ?? new Map<number, Excuse>();
        this.missed.set(publisher.id, missed.set(n, excuse));
      } else {
        const where = nameOf(this.#log, this.#subscriber);
        this.#findings.add("loss", where, () => describe(this.#log, publisher, n));
      }
    }
  }

  /** Why message n may be missing, or null: `first` to `last` is what came of the same publisher and channel. */
  #excuseOf(
    publisher: PublisherLog,
    n: number,
    since: number,
    first: number,
    last: number,
  ): Excuse | null {
    const from = publisher.node;
    const to = this.#subscriber.node;
    const sentMs = publisher.sentMs[n];
    // It was taken in between; an answer that never came says no more than the sending.
    const takenMs = Number.isFinite(publisher.answeredMs[n]) ? publisher.answeredMs[n] : sentMs;
    const arrivedMs = this.#outages.arrivedBy(from, to, takenMs);

    // The publisher's node may not have heard of the subscription, if there was no link when SUBSCRIBED was
    // read: it does not wait for a node that is out of reach, or does not answer within a second because much
    // is on its way. What that node had heard before, of one who left and one who came, may still come to it.
    const isUnheard = this.#outages.heardFrom(from, to, since) > sentMs;
    // Nor has one that has been started anew. Once one message came, it knew.
    const isFresh = (first < 0 || n < first) && this.#outages.isFresh(from, sentMs);
    if (from !== to && (isUnheard || isFresh)) {
      return "its node did not know yet that somebody listens";
    }
    // What lies behind the last that came was on its way. A message behind it would have come behind it.
    if (last < 0 || n > last) {
      // The subscriber's own connection did not last until it had to be there.
      const isResumed = this.#subscriber.resumption !== null;
      const nodes = this.#log.nodes.length;
      const dueMs = isResumed
        ? Math.max(arrivedMs, this.#outages.caughtUpBy(to, since, nodes))
        : arrivedMs;
      if (this.#subscriber.endedMs < dueMs) return "left before it had to be there";
      // What a node has accepted is in its memory only until it is passed on; kill -9 takes it along.
      // (It stays in history, which is looked at for itself.)
      if (this.#outages.isLostWith(from, to, { fromMs: sentMs, toMs: arrivedMs })) {
        return "its node was killed before it was passed on";
      }
    }
    // PROTOCOL, "What a subscriber can rely on", 3.
    if (this.#outages.isBeyondBounds(from, to, { fromMs: sentMs, toMs: arrivedMs })) {
      return "the outage was beyond the replay bounds";
    }
    return null;
  }
}
