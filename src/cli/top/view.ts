// The picture of `pushd top`: lines of text that fit a terminal, out of what the server said.

import { channelKey, channelRates, type Rates, ratesBetween } from "./rates.ts";
import type { Node, Sample } from "./stats_client.ts";
import { type Cell, Painter, type Paper, tableRow } from "./table.ts";
import { cut, padded, shortBytes, shortCount, shortDuration } from "./text.ts";

/** What is shown. */
export interface TopState {
  readonly url: string;
  /** The sample before the last one, for rates; null where there is none. */
  readonly before: Sample | null;
  /** The last one. */
  readonly sample: Sample;
  /** The server does not answer any more: since when (wall clock), and why. */
  readonly lost: { readonly sinceMs: number; readonly reason: string } | null;
  /** The wall clock, ms. */
  readonly nowMs: number;
}

/** A row of a table where there is no bound of rows. */
const PLAIN_ITEMS = 10;
/** Where the title has no more than this, the time is left out. */
const MIN_TITLE = 20;
/** A label and its value in the grid, with what separates it from the next. */
const LABEL_WIDTH = 15;
const VALUE_WIDTH = 10;
const CELL_WIDTH = LABEL_WIDTH + VALUE_WIDTH + 1;

/** Rows of each table that a door has to be asked for, for so many lines. */
export function rowsWanted(rows: number): number {
  return Number.isFinite(rows) ? Math.min(200, Math.max(1, rows)) : PLAIN_ITEMS;
}

/** At most `paper.rows` lines, none wider than `paper.columns`. */
export function topLines(state: TopState, paper: Paper): string[] {
  const painter = new Painter(paper);
  const lines = [titleLine(state, paper, painter), statusLine(state, paper, painter)];
  lines.push(...gridLines(state, paper, painter));
  const nodes = nodeTable(state.sample, painter);
  const channels = channelTable(state, painter);
  const consumers = consumerTable(state.sample, painter);
  const room = paper.rows - lines.length;
  const shares = sharesOf(room, [nodes.length, channels.length, consumers.length]);
  [nodes, channels, consumers].forEach((table, i) => lines.push(...table.slice(0, shares[i])));
  return lines.slice(0, paper.rows);
}

/** How many lines each table gets: all it has where there is room, else as many as the others. */
function sharesOf(room: number, wanted: readonly number[]): number[] {
  const shares = wanted.map(() => 0);
  if (!Number.isFinite(room)) return [...wanted];
  for (let left = Math.max(0, room); left > 0;) {
    const open = shares.findIndex((share, i) =>
      share < wanted[i] && shares.every((other, j) => share <= other || other >= wanted[j])
    );
    if (open === -1) break;
    shares[open]++;
    left--;
  }
  // A headline alone says nothing.
  return shares.map((share, i) => share === 1 && wanted[i] > 1 ? 0 : share);
}

function titleLine({ url, sample, nowMs }: TopState, paper: Paper, painter: Painter): string {
  const { ver, node, uptime_s } = sample.stat;
  const clock = new Date(nowMs).toTimeString().slice(0, 8);
  const text = `pushd ${ver}  node ${node}  up ${shortDuration(uptime_s)}  ${url}`;
  const width = paper.columns - clock.length - 1;
  if (width < MIN_TITLE) return painter.bold(cut(text, paper.columns));
  return `${painter.bold(padded(text, width))} ${clock}`;
}

function statusLine({ sample, lost, nowMs }: TopState, paper: Paper, painter: Painter): string {
  if (lost !== null) {
    const since = shortDuration((nowMs - lost.sinceMs) / 1000);
    const text = `NO ANSWER for ${since}, still trying: ${lost.reason}`;
    return painter.red(cut(text, paper.columns));
  }
  const { ready, failing } = sample.ready;
  const { cluster, nodes } = sample.nodes;
  const up = nodes.filter(({ state }) => state === "up").length;
  const others = cluster === null ? "" : `   cluster ${cluster}: ${up} of ${nodes.length} nodes up`;
  const names = failing.join(", ");
  if (!ready) return painter.red(cut(`NOT READY: ${names}${others}`, paper.columns));
  if (names !== "") {
    return painter.yellow(cut(`ready, but failing: ${names}${others}`, paper.columns));
  }
  return painter.green(cut(`ready${others}`, paper.columns));
}

type Level = "normal" | "warning" | "alarm";

/** What stands in the grid: a name, a value, and whether it is worth a look. */
function gridItems(sample: Sample, rates: Rates | null): [string, string, Level?][] {
  const { stats } = sample.stat;
  const { memory, event_loop: { lag_ms, lag_max_15s_ms }, files } = sample.sys;
  const count = (value: number | undefined) => shortCount(value ?? NaN);
  const used = files.open ?? files.clients;
  const limit = files.limit === null ? "" : `/${shortCount(files.limit)}`;
  const isFull = files.limit !== null && used > 0.9 * files.limit;
  return [
    ["connections", count(stats.connections)],
    ["published/s", count(rates?.published)],
    ["in/s", shortBytes(rates?.bytes_in ?? NaN)],
    ["new/s", count(rates?.connections)],
    ["delivered/s", count(rates?.delivered)],
    ["out/s", shortBytes(rates?.bytes_out ?? NaN)],
    ["channels", count(stats.pubsub_channel_count)],
    ["subscriptions", count(stats.subscriptions)],
    ["cut off", count(stats.slow_consumers)],
    ["cpu", rates === null ? "-" : `${rates.cpu_percent.toFixed(0)} %`],
    ["memory", shortBytes(memory.resident_bytes)],
    [
      files.open === null ? "clients' files" : "files",
      `${shortCount(used)}${limit}`,
      isFull ? "alarm" : "normal",
    ],
    ["loop lag", `${lag_ms.toFixed(1)} ms`, levelOf(lag_ms, 100, 1000)],
    ["most in 15 s", `${lag_max_15s_ms.toFixed(1)} ms`, levelOf(lag_max_15s_ms, 250, 1000)],
    ["to be stored", count(stats.storage_pending)],
  ];
}

function levelOf(value: number, warning: number, alarm: number): Level {
  return value >= alarm ? "alarm" : value >= warning ? "warning" : "normal";
}

function gridLines({ before, sample, lost }: TopState, paper: Paper, painter: Painter): string[] {
  // What was per second is not any more.
  const rates = lost === null ? ratesBetween(before, sample) : null;
  const items = gridItems(sample, rates);
  const perLine = Math.max(1, Math.min(5, Math.floor((paper.columns + 1) / CELL_WIDTH)));
  const lines: string[] = [];
  for (let i = 0; i < items.length; i += perLine) {
    const cells = items.slice(i, i + perLine).map(([label, value, level]) => {
      const text = padded(label, LABEL_WIDTH) + value.padStart(VALUE_WIDTH);
      const shown = cut(text, paper.columns);
      return level === "alarm"
        ? painter.red(shown)
        : level === "warning"
        ? painter.yellow(shown)
        : shown;
    });
    lines.push(cells.join(" "));
  }
  return lines;
}

function nodeTable({ nodes: { nodes } }: Sample, painter: Painter): string[] {
  if (nodes.length < 2) return [];
  const ms = (value: number | null) => value === null ? "-" : `${value.toFixed(1)} ms`;
  const row = (
    { id, self, state, s2s_addr, rtt_ms, skew_ms, replay_bytes, lost }: Node,
  ): Cell[] => [
    { text: self ? "this" : state, width: 10 },
    { text: ms(rtt_ms), width: 9, right: true },
    { text: ms(skew_ms), width: 9, right: true },
    { text: shortBytes(replay_bytes), width: 8, right: true },
    { text: shortCount(lost), width: 6, right: true },
    { text: s2s_addr ?? "-", width: 21 },
    { text: id ?? "(not heard of yet)" },
  ];
  const head = ["NODES", "RTT", "SKEW", "WAITING", "LOST", "ADDRESS", "NAME"];
  const sorted = nodes.toSorted((a, b) => Number(a.state === "up") - Number(b.state === "up"));
  return table(head, sorted, row, painter, ({ state }) => state === "up" ? "normal" : "warning");
}

function channelTable({ before, sample }: TopState, painter: Painter): string[] {
  const rates = channelRates(before, sample);
  const head = ["FOLLOWERS", "MESSAGES", "PER SEC", "APP", "CHANNEL"];
  if (sample.channels.length === 0) return [painter.head("CHANNELS: none")];
  return table(head, sample.channels, (channel) => [
    { text: shortCount(channel.subscribers), width: 9, right: true },
    { text: shortCount(channel.published), width: 9, right: true },
    { text: shortCount(rates.get(channelKey(channel)) ?? NaN), width: 8, right: true },
    { text: channel.app, width: 12 },
    { text: channel.channel },
  ], painter);
}

function consumerTable({ connections }: Sample, painter: Painter): string[] {
  const slow = connections.filter(({ pending }) => pending > 0);
  if (slow.length === 0) return [painter.head("SLOW CONSUMERS: nothing waits for anybody")];
  const head = ["WAITING", "TAKEN", "SILENT", "CHANNELS", "ID", "APP", "ADDRESS", "USER"];
  return table(head, slow, (connection) => [
    { text: shortBytes(connection.pending), width: 9, right: true },
    { text: shortBytes(connection.bytes_out), width: 9, right: true },
    { text: shortDuration(connection.idle_s), width: 8, right: true },
    { text: shortCount(connection.channels), width: 8, right: true },
    { text: `${connection.id}`, width: 8, right: true },
    { text: connection.app, width: 8 },
    { text: connection.address, width: 15 },
    { text: connection.user ?? "-" },
  ], painter);
}

function table<T>(
  head: readonly string[],
  items: readonly T[],
  row: (item: T) => Cell[],
  painter: Painter,
  level: (item: T) => Level = () => "normal",
): string[] {
  const rows = items.map((item) => {
    const line = tableRow(row(item), painter.paper);
    return level(item) === "normal" ? line : painter.yellow(line);
  });
  const widths = items.length === 0 ? [] : row(items[0]);
  const cells = head.map((text, i) => ({ ...widths[i], text }));
  return [painter.head(tableRow(cells, painter.paper)), ...rows];
}
