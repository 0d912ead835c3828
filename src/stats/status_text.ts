// How the server is, as a screen of text for a person with curl.

import { recentLog } from "../core/recent_log.ts";
import type { LiveFeed } from "./live_feed.ts";
import type { NodesAnswer } from "./shapes.ts";
import type { Moment } from "./timeline.ts";

const TOP = 5;
const LOG_LINES = 5;

/** What the server does not do well, for people. */
const FAILINGS: Record<string, string> = {
  storage: "the store does not take messages",
  draining: "the server is stopping",
  etc: "ZooKeeper cannot be reached",
  s2s: "other nodes are missing",
};

/** A screen of text, the last line ended. */
export async function statusText({ source, sampler }: LiveFeed): Promise<string> {
  const { version, nodeId, uptimeS, stats } = source.snapshot();
  const { ready, failing } = source.readiness();
  const why = failing.length === 0
    ? ""
    : `: ${failing.map((what) => `${what} (${FAILINGS[what] ?? "see the log"})`).join(", ")}`;
  const channels = await source.lists.channels(TOP, "");
  const slowest = (await source.lists.connections(TOP, "pending"))
    .filter(({ pending }) => pending > 0);
  return [
    `${ready ? "ready" : "NOT READY"}${why}`,
    `pushd ${version}, node ${nodeId}, up ${duration(uptimeS)}`,
    "",
    ...numbers(sampler.latest, stats),
    "",
    ...cluster(source.nodes()),
    "",
    `channels: ${count(stats.pubsub_channel_count)}, ${count(stats.subscriptions)} subscriptions`,
    ...channels.map(({ channel, subscribers, published }) =>
      `  ${printable(channel)}  ${count(subscribers)} subscribers, ${count(published)} published`
    ),
    `slow consumers: ${count(slowest.length)} with something waiting, ` +
    `${count(stats.slow_consumers)} cut off since the start`,
    ...slowest.map(({ address, user, pending }) =>
      `  ${address}${user === null ? "" : ` ${printable(user)}`}  ${bytes(pending)} waiting`
    ),
    "",
    ...lastLog(),
    "",
  ].join("\n");
}

function numbers(moment: Moment | null, stats: Readonly<Record<string, number>>): string[] {
  const connections = `connections ${count(stats.connections)}`;
  if (moment === null) return [`${connections} (rates a second from now)`];
  const lines = [
    `${connections}, in ${count(moment.published)} messages/s ${bytes(moment.bytes_in)}/s, ` +
    `out ${count(moment.delivered)} messages/s ${bytes(moment.bytes_out)}/s`,
    `event loop ${ms(moment.lag_ms)} late, memory ${bytes(moment.resident_bytes)}, ` +
    `processor ${moment.cpu_percent.toFixed(0)} % of a core`,
  ];
  if (Number.isFinite(moment.publish_p99_ms)) {
    lines.push(
      `publish ${ms(moment.publish_p50_ms)}, 99 of 100 within ${ms(moment.publish_p99_ms)}`,
    );
  }
  if (Number.isFinite(moment.delivery_p99_ms)) {
    lines.push(
      `delivery ${ms(moment.delivery_p50_ms)}, 99 of 100 within ${ms(moment.delivery_p99_ms)}`,
    );
  }
  return lines;
}

function cluster({ cluster, nodes }: NodesAnswer): string[] {
  if (cluster === null) return ["cluster: none, this node stands alone"];
  const up = nodes.filter(({ state }) => state === "up").length;
  return [
    `cluster ${printable(cluster)}: ${up} of ${nodes.length} nodes up`,
    ...nodes.filter(({ self }) => !self).map((
      { id, s2s_addr, state, rtt_ms, replay_bytes, lost },
    ) =>
      `  ${printable(id ?? s2s_addr ?? "?")}  ${state}${
        rtt_ms === null ? "" : ` ${ms(rtt_ms)}`
      }, ` +
      `${bytes(replay_bytes)} waiting, ${count(lost)} messages lost`
    ),
  ];
}

function lastLog(): string[] {
  const records = recentLog.after(0).slice(-LOG_LINES);
  if (records.length === 0) return ["no warnings since the start"];
  return [
    "last warnings:",
    ...records.map(({ time, level, category, text }) => `  ${time} ${level} ${category} ${text}`),
  ];
}

/** As `toLocaleString` does, which takes 20 ms the first time. */
function count(n: number): string {
  return `${Math.round(n)}`.replaceAll(/\B(?=(\d{3})+$)/g, ",");
}

function ms(n: number): string {
  return `${n < 10 ? n.toFixed(1) : n.toFixed(0)} ms`;
}

function bytes(n: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = n;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 99.5 ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`;
}

function duration(s: number): string {
  const days = Math.floor(s / 86_400);
  const hours = Math.floor(s / 3600) % 24;
  const minutes = Math.floor(s / 60) % 60;
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min ${s % 60} s` : `${s} s`;
}

/** Nothing that a terminal would act on. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, "\u{fffd}");
}
