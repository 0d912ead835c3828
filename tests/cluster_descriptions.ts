// How a fault run's messages, subscribers and times are told to a person.

import { type ClusterLog, Outcome, type PublisherLog, type SubscriberLog } from "./cluster_log.ts";

/** A message, for a person. */
export function describe(log: ClusterLog, publisher: PublisherLog, n: number): string {
  const outcome = publisher.outcomes[n];
  const became = outcome === Outcome.unknown
    ? "not answered"
    : outcome < 0
    ? "refused"
    : `PUBLISHED ${outcome} at ${ms(publisher.answeredMs[n])}`;
  return `p${publisher.id}.${n} on ${log.channels[publisher.channels[n]]}, ` +
    `sent to ${log.nodes[publisher.node]} at ${ms(publisher.sentMs[n])}, ${became}`;
}

/** A subscriber, for a person. */
export function nameOf(log: ClusterLog, { id, node }: SubscriberLog): string {
  return `subscriber s${id} on ${log.nodes[node]}`;
}

/** A time. */
export function ms(value: number): string {
  return `${Math.round(value)} ms`;
}
