// What has changed between two samples, per second; and what `pushd top --json` prints.

import type { Sample } from "./stats_client.ts";

/** Per second, between two samples of one run of the server. */
export interface Rates {
  /** Over how many seconds. */
  readonly seconds: number;
  readonly published: number;
  readonly delivered: number;
  readonly bytes_in: number;
  readonly bytes_out: number;
  /** Connections that came. */
  readonly connections: number;
  /** Of one core. */
  readonly cpu_percent: number;
}

/** Null where there is no earlier sample, or the server has been started anew between them. */
export function ratesBetween(before: Sample | null, after: Sample): Rates | null {
  if (before === null) return null;
  const seconds = (after.atMs - before.atMs) / 1000;
  const isAnother = after.stat.node !== before.stat.node ||
    after.stat.uptime_s < before.stat.uptime_s;
  if (isAnother || seconds <= 0) return null;
  const perSecond = (name: string) => {
    const change = (after.stat.stats[name] ?? 0) - (before.stat.stats[name] ?? 0);
    return rounded(Math.max(0, change) / seconds);
  };
  const cpuS = (sample: Sample) => sample.sys.rusage.user_s + sample.sys.rusage.system_s;
  return {
    seconds: Math.round(seconds * 1000) / 1000,
    published: perSecond("published"),
    delivered: perSecond("delivered"),
    bytes_in: perSecond("bytes_in"),
    bytes_out: perSecond("bytes_out"),
    connections: perSecond("connections_total"),
    cpu_percent: rounded(Math.max(0, cpuS(after) - cpuS(before)) / seconds * 100),
  };
}

/** Messages of each channel per second, by {@linkcode channelKey}, for those that are in both. */
export function channelRates(before: Sample | null, after: Sample): Map<string, number> {
  const rates = new Map<string, number>();
  if (before === null || ratesBetween(before, after) === null) return rates;
  const seconds = (after.atMs - before.atMs) / 1000;
  const earlier = new Map(before.channels.map((channel) => [channelKey(channel), channel]));
  for (const channel of after.channels) {
    const was = earlier.get(channelKey(channel));
    if (was === undefined) continue;
    const change = channel.published - was.published;
    if (change >= 0) rates.set(channelKey(channel), rounded(change / seconds));
  }
  return rates;
}

/** A line feed is in no name. */
export function channelKey({ app, channel }: { app: string; channel: string }): string {
  return `${app}\n${channel}`;
}

/** The object that is documented in docs/operations.md, under "pushd top". */
export function summaryOf(url: string, before: Sample | null, after: Sample) {
  const { stat, sys, ready, nodes, channels, connections } = after;
  const { stats } = stat;
  const rates = channelRates(before, after);
  return {
    at: new Date(after.wallMs).toISOString(),
    url,
    node: stat.node,
    version: stat.ver,
    uptime_s: stat.uptime_s,
    ready: ready.ready,
    failing: ready.failing,
    rates: ratesBetween(before, after),
    connections: stats.connections,
    channels: stats.pubsub_channel_count,
    subscriptions: stats.subscriptions,
    slow_consumers: stats.slow_consumers,
    storage_pending: stats.storage_pending,
    storage_errors: stats.storage_errors,
    memory: sys.memory,
    event_loop: sys.event_loop,
    files: sys.files,
    cluster: nodes.cluster,
    nodes: nodes.nodes,
    top_channels: channels.map((channel) => ({
      ...channel,
      published_per_s: rates.get(channelKey(channel)) ?? null,
    })),
    slowest_consumers: connections,
  };
}

function rounded(value: number): number {
  return Math.round(value * 10) / 10;
}
