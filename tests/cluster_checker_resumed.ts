// Judges subscribers that went on by `sub <channel> <timestamp>`: PROTOCOL, "What a subscriber can rely on", 5.

import { describe, ms, nameOf } from "./cluster_descriptions.ts";
import type { Excuse, Findings, MissedBy } from "./cluster_findings.ts";
import type {
  ClusterLog,
  PublisherLog,
  Receipt,
  Resumption,
  SubscriberLog,
} from "./cluster_log.ts";
import { firstFrom, type Outages } from "./cluster_outages.ts";

/** What is looked at, and where it is told. */
export interface ResumptionCheck {
  readonly log: ClusterLog;
  readonly outages: Outages;
  /** By the number of a subscriber that is gone on with, what it missed and why. */
  readonly missed: ReadonlyMap<number, MissedBy>;
  readonly findings: Findings;
  readonly excused: Map<Excuse, number>;
}

/** What a subscriber has had, on all its connections so far. */
interface Chain {
  /** By publisher, which of its messages. */
  readonly had: (Uint8Array | undefined)[];
  /** By channel, the last of these connections on which it was subscribed. */
  readonly last: Map<number, SubscriberLog>;
  /** By channel, the last message that came. */
  readonly lastReceipts: Map<number, Receipt>;
}

/** Judges every connection that goes on with another one. */
export function checkResumptions(check: ResumptionCheck): void {
  const { log } = check;
  const chains = new Map<number, Chain>();
  // A connection comes behind the one that it goes on with.
  for (const subscriber of log.subscribers) {
    const { id, resumption, sinceMs } = subscriber;
    let chain: Chain = { had: [], last: new Map(), lastReceipts: new Map() };
    if (resumption !== null) {
      chain = chains.get(resumption.of) ?? chain;
      chains.delete(resumption.of);
      new Resumed(check, subscriber, resumption, chain).run();
    } else if (!check.missed.has(id)) {
      continue;
    }
    for (const channel of sinceMs.keys()) chain.last.set(channel, subscriber);
    for (const receipt of subscriber.receipts) {
      const { publisher, n, channel } = receipt;
      const length = log.publishers[publisher]?.length ?? 0;
      if (n >= length) continue;
      (chain.had[publisher] ??= new Uint8Array(length))[n] = 1;
      chain.lastReceipts.set(channel, receipt);
    }
    chains.set(id, chain);
  }
}

/** One connection that goes on with another one. */
class Resumed {
  readonly #check: ResumptionCheck;
  readonly #subscriber: SubscriberLog;
  readonly #resumption: Resumption;
  readonly #chain: Chain;
  /** Channels where "after the timestamp" means what arrived here after it, exactly. */
  readonly #exact: ReadonlySet<number>;
  readonly #skewMicros: number;

  constructor(
    check: ResumptionCheck,
    subscriber: SubscriberLog,
    resumption: Resumption,
    chain: Chain,
  ) {
    this.#check = check;
    this.#subscriber = subscriber;
    this.#resumption = resumption;
    this.#chain = chain;
    this.#skewMicros = check.log.bounds.skewMs * 1000;
    this.#exact = this.#findExact();
  }

  run(): void {
    const { log } = this.#check;
    this.#findRepeated();
    this.#findNeedless();
    const got = log.publishers.map(({ length }) => new Uint8Array(length));
    for (const { publisher, n } of this.#subscriber.receipts) {
      if (got[publisher] !== undefined) got[publisher][n] = 1;
    }
    for (const publisher of log.publishers) this.#findMissing(publisher, got[publisher.id]);
  }

  /**
   * The node has the channel's messages in the order of their arrival, if it has run since, and the last
   * one that the client had came to it in that order: live, not out of history.
   */
  #findExact(): Set<number> {
    const { log, outages } = this.#check;
    const { last, lastReceipts } = this.#chain;
    const exact = new Set<number>();
    for (const [channel, { publisher, n, atMs }] of lastReceipts) {
      const before = last.get(channel);
      const fromMs = before?.sinceMs.get(channel);
      if (before === undefined || fromMs === undefined) continue;
      const isLive = log.publishers[publisher].sentMs[n] > fromMs && atMs >= fromMs;
      const toMs = this.#subscriber.sinceMs.get(channel) ?? this.#subscriber.endedMs;
      if (isLive && outages.isSameLife(before.node, fromMs, toMs)) exact.add(channel);
    }
    return exact;
  }

  #findRepeated(): void {
    const { log, findings } = this.#check;
    for (const { channel, publisher, n, ts } of this.#subscriber.receipts) {
      if (this.#chain.had[publisher]?.[n] !== 1) continue;
      const afterTs = this.#resumption.afterTs.get(channel) ?? 0;
      if (!this.#exact.has(channel) && ts > afterTs - this.#skewMicros) continue;
      findings.add(
        "repetition",
        nameOf(log, this.#subscriber),
        () =>
          `${describe(log, log.publishers[publisher], n)}; it was there before; ${
            this.#told(channel)
          }`,
      );
    }
  }

  /** PARTIAL is for a peer that cannot be asked. */
  #findNeedless(): void {
    const { log, outages, findings } = this.#check;
    const { askedMs, sinceMs, node } = this.#subscriber;
    for (const channel of this.#resumption.partial) {
      const toMs = sinceMs.get(channel) ?? askedMs;
      const fromMs = askedMs - log.bounds.forwardMs;
      const isDue = log.nodes.some((_, other) =>
        other !== node && outages.isBroken(other, node, { fromMs, toMs })
      );
      if (isDue) continue;
      const told = () => `${log.channels[channel]}, asked at ${ms(askedMs)}, told at ${ms(toMs)}`;
      findings.add("history partial", nameOf(log, this.#subscriber), told);
    }
  }

  #findMissing(publisher: PublisherLog, got: Uint8Array): void {
    const { log, findings, excused } = this.#check;
    const { id, length, channels, sentMs, outcomes } = publisher;
    const { last, had } = this.#chain;
    const { sinceMs } = this.#subscriber;
    // What was sent before it had been there last has been judged then.
    const judgedMs = (channel: number) => last.get(channel)?.sinceMs.get(channel) ?? Infinity;
    const fromMs = Math.min(...sinceMs.keys().map(judgedMs));
    const toMs = Math.max(...sinceMs.values());
    for (let n = firstFrom(sentMs, length, fromMs); n < length; n++) {
      if (sentMs[n] > toMs) break;
      if (outcomes[n] < 0 || got[n] === 1 || had[id]?.[n] === 1) continue;
      const channel = channels[n];
      const since = sinceMs.get(channel);
      if (since === undefined) continue;
      // A channel of which nothing had come was begun anew.
      if (!this.#resumption.afterTs.has(channel)) continue;
      if (sentMs[n] <= judgedMs(channel) || sentMs[n] > since) continue;
      const excuse = this.#excuseOf(publisher, n, since);
      if (excuse === "judged") continue;
      if (excuse !== null) excused.set(excuse, (excused.get(excuse) ?? 0) + 1);
      else {
        const told = () => `${describe(log, publisher, n)}; ${this.#told(channel)}`;
        findings.add("loss", nameOf(log, this.#subscriber), told);
      }
    }
  }

  /** Why message n may be missing, or null; "judged" where that was told of the connection before. */
  #excuseOf(publisher: PublisherLog, n: number, sinceMs: number): Excuse | "judged" | null {
    const { log, outages, missed } = this.#check;
    const { endedMs, node } = this.#subscriber;
    const channel = publisher.channels[n];
    if (this.#resumption.partial.has(channel)) return "its history was said to be PARTIAL";
    // It did not stay until what was missing had been read.
    const readMs = outages.caughtUpBy(node, sinceMs, log.nodes.length);
    if (endedMs < readMs) return "left before it had to be there";

    // What was accepted only when history was being read comes live, and can be lost as what does.
    const { node: from, sentMs, answeredMs } = publisher;
    if (answeredMs[n] > this.#subscriber.askedMs) {
      const isUnheard = from !== node && outages.heardFrom(from, node, sinceMs) > sinceMs;
      if (isUnheard) return "its node did not know yet that somebody listens";
      return this.#lostOnItsWay(publisher, n);
    }

    const last = this.#chain.last.get(channel);
    const lastSinceMs = last?.sinceMs.get(channel);
    // Nobody was there to get it: history has it.
    if (last === undefined || lastSinceMs === undefined) return null;
    if (sentMs[n] <= lastSinceMs || sentMs[n] >= last.endedMs) return null;
    const before = missed.get(last.id)?.get(publisher.id)?.get(n);
    if (before === undefined) return "judged";
    const afterTs = this.#resumption.afterTs.get(channel) ?? 0;
    if (!this.#exact.has(channel)) {
      // By timestamp: of the node that accepted the message which is gone on from, what came after it; of
      // others, some way back.
      const receipt = this.#chain.lastReceipts.get(channel);
      const isOfSameNode = receipt?.ts === afterTs &&
        log.publishers[receipt.publisher].node === publisher.node;
      const reachedMicros = isOfSameNode ? 0 : this.#skewMicros;
      if (publisher.outcomes[n] > afterTs - reachedMicros) return null;
      return "it was older than what is reached back for";
    }
    // What arrived after that message arrived is shown; what never did is not, if it was lost rightly.
    if (before !== "left before it had to be there") return before;
    return this.#lostOnItsWay(publisher, n);
  }

  #lostOnItsWay({ node: from, sentMs, answeredMs }: PublisherLog, n: number): Excuse | null {
    const { outages } = this.#check;
    const { node } = this.#subscriber;
    const interval = { fromMs: sentMs[n], toMs: outages.arrivedBy(from, node, answeredMs[n]) };
    if (outages.isLostWith(from, node, interval)) {
      return "its node was killed before it was passed on";
    }
    if (outages.isBeyondBounds(from, node, interval)) {
      return "the outage was beyond the replay bounds";
    }
    return null;
  }

  /** How it came back to a channel, for a person. */
  #told(channel: number): string {
    const { log } = this.#check;
    const { id, askedMs, sinceMs } = this.#subscriber;
    const last = this.#chain.last.get(channel);
    const receipt = this.#chain.lastReceipts.get(channel);
    const had = receipt === undefined
      ? "nothing"
      : `${receipt.ts} of ${log.nodes[log.publishers[receipt.publisher].node]}, ` +
        `which had come at ${ms(receipt.atMs)}`;
    const exactly = this.#exact.has(channel) ? "exactly " : "";
    return `s${last?.id ?? this.#resumption.of} was there until ${ms(last?.endedMs ?? NaN)}, ` +
      `s${id} asked at ${ms(askedMs)} and was told at ${ms(sinceMs.get(channel) ?? NaN)} ` +
      `what comes ${exactly}after ${this.#resumption.afterTs.get(channel)}; it had had ${had}`;
  }
}
