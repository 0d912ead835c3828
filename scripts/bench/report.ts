// From the figures of single runs to medians, spreads, ratios, and a text for people.

import type { Latencies, Run } from "./loadgen.ts";
import { type Row, rowTitle } from "./rows.ts";

export interface Summary {
  median: number;
  min: number;
  max: number;
}

export interface ServerReport extends Cores {
  deliveries_per_s: Summary;
  /** Seconds of the server's processor time for a million deliveries. */
  cpu_s_per_million: number;
  /** Of the cores, those of the server that subscribers are at, where it is another one. */
  subscribers_cpu?: number;
  /** What the generator reaches against a server that does nothing else than its part of the protocol. */
  ceiling_deliveries_per_s: number;
  runs: Run[];
}

export interface RowReport {
  of: "throughput";
  row: Row;
  /** By what stands in the report: a server, or one of the ways to use it. */
  servers: Record<string, ServerReport>;
  /** pushd's deliveries divided by those of the other in the same round. */
  pushd_ratio: Record<string, Summary>;
}

export interface LatencyReport {
  of: "latency";
  row: Row;
  /** What was asked for. */
  at: number | "half";
  servers: Record<string, ServerLatency>;
  /** pushd's latencies divided by those of the other: below 1 it is ahead. */
  pushd_ratio: Record<string, { p50: number; p99: number; p999: number }>;
}

export interface ServerLatency {
  /** What that comes to. */
  deliveries_per_s: number;
  /** Seconds of the server's processor time for a million deliveries. */
  cpu_s_per_million: number;
  latency_us: Latencies;
  send_delay_us: Latencies;
  runs: Run[];
  /** The same without a link, and what the link adds: the median of the rounds' differences. */
  unlinked?: { latency_us: Latencies; added_us: Latencies; runs: Run[] };
}

/** Above these the generator had too little left for the server to be what was measured. */
const MAX_GENERATOR_CPU = 0.85, MAX_SHARE_OF_CEILING = 0.85;
/** Cores that other work may use before a run counts as disturbed. */
export const MAX_OTHER_CPU = 0.2;

export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError("there is no median of nothing");
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

export function summarize(values: readonly number[]): Summary {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

/**
 * The ratio of the medians, and the extremes of the ratios within one round: runs of one round stand next
 * to each other in time, so what slowed the whole machine down slowed both.
 */
export function ratio(ours: readonly number[], theirs: readonly number[]): Summary {
  if (ours.length !== theirs.length) throw new RangeError("a ratio needs as many runs of both");
  const rounds = ours.map((figure, i) => figure / theirs[i]);
  return { ...summarize(rounds), median: median(ours) / median(theirs) };
}

/** pushd's {@link ratio} to each of the others; none to one that had nothing in one of the rounds. */
export function ratiosOf<R>(
  measured: readonly { name: string; runs: readonly R[] }[],
  figureOf: (run: R) => number,
): Record<string, Summary> {
  const ratios: Record<string, Summary> = {};
  const ours = measured.find(({ name }) => name === "pushd")?.runs.map(figureOf);
  for (const { name, runs } of measured) {
    const theirs = runs.map(figureOf);
    if (ours === undefined || name === "pushd" || theirs.some((figure) => figure <= 0)) continue;
    ratios[name] = ratio(ours, theirs);
  }
  return ratios;
}

/** Cores in use, and whether they say that it was not the server that was measured. */
export interface Cores {
  server_cpu: number;
  generator_cpu: number;
  other_cpu: number;
  /** The generator, not the server, may have been what was measured. */
  generator_limited: boolean;
  /** Other work on the machine took part of what the server or the generator could have used. */
  disturbed: boolean;
}

/** The medians of the runs. `figure` is what the server reached, `ceiling` what the generator can; null: not looked for. */
export function coresOf(
  runs: readonly Pick<Cores, "server_cpu" | "generator_cpu" | "other_cpu">[],
  figure: number,
  ceiling: number | null,
): Cores {
  const generatorCpu = median(runs.map((run) => run.generator_cpu));
  const otherCpu = median(runs.map((run) => run.other_cpu));
  return {
    server_cpu: median(runs.map((run) => run.server_cpu)),
    generator_cpu: generatorCpu,
    other_cpu: otherCpu,
    generator_limited: ceiling !== null &&
      (generatorCpu > MAX_GENERATOR_CPU || figure > MAX_SHARE_OF_CEILING * ceiling),
    disturbed: isDisturbed(otherCpu),
  };
}

export function isDisturbed(otherCpu: number): boolean {
  return otherCpu > MAX_OTHER_CPU;
}

/** Seconds of the server's processor time for a million deliveries, the median of the runs. */
export function cpuPerMillion(runs: readonly Run[]): number {
  return median(runs.map((run) => run.server_cpu * 1e6 / Math.max(run.deliveries_per_s, 1)));
}

export function reportServer(runs: Run[], ceiling: number): ServerReport {
  const deliveries = summarize(runs.map((run) => run.deliveries_per_s));
  const subscribersCpu = runs.flatMap(({ subscribers_cpu: cpu }) => cpu === undefined ? [] : [cpu]);
  return {
    deliveries_per_s: deliveries,
    ...coresOf(runs, deliveries.median, ceiling),
    cpu_s_per_million: cpuPerMillion(runs),
    ...(subscribersCpu.length === 0 ? {} : { subscribers_cpu: median(subscribersCpu) }),
    ceiling_deliveries_per_s: ceiling,
    runs,
  };
}

export function reportRow(
  row: Row,
  measured: readonly { name: string; runs: Run[]; ceiling: number }[],
): RowReport {
  const servers = measured.map(({ name, runs, ceiling }) => [name, reportServer(runs, ceiling)]);
  return {
    of: "throughput",
    row,
    servers: Object.fromEntries(servers),
    pushd_ratio: ratiosOf(measured, (run) => run.deliveries_per_s),
  };
}

/** Three significant digits: `19.2 M`, `961 k`, `52.0 k`. */
export function formatCount(value: number): string {
  for (const [unit, size] of [[" M", 1e6], [" k", 1e3]] as const) {
    // From where three digits would be rounded up to this unit.
    if (value >= size * 0.9995) return threeDigits(value / size) + unit;
  }
  return String(Math.round(value));
}

export function threeDigits(value: number): string {
  return value.toFixed(value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2);
}

export function formatRatio({ median, min, max }: Summary): string {
  return `${threeDigits(median)}× (${threeDigits(min)}–${threeDigits(max)})`;
}

export function formatRow(report: RowReport): string {
  const width = widthOf(report.servers);
  const lines = Object.entries(report.servers).map(([name, server]) => {
    return [
      `  ${name.padEnd(width)}`,
      ...countColumns(server.deliveries_per_s),
      `cpu ${formatCores(server)}, ${formatCpu(server.cpu_s_per_million)}`,
      `generator ${server.generator_cpu.toFixed(2)}`,
      `ceiling ${formatCount(server.ceiling_deliveries_per_s).padStart(6)}`,
      ...doubtsOf(server),
    ].join("  ").trimEnd();
  });
  return [rowTitle(report.row), ...ratioLines(report.pushd_ratio), ...lines, ""].join("\n");
}

export function countColumns({ median, min, max }: Summary): [string, string] {
  return [
    formatCount(median).padStart(7),
    `(${formatCount(min)} – ${formatCount(max)})`.padEnd(19),
  ];
}

/** Why a figure may not be the server's. */
export function doubtsOf({ generator_limited, disturbed, other_cpu }: Cores): [string, string] {
  return [
    generator_limited ? "(the generator was the limit)" : "",
    disturbed ? `(disturbed: other work took ${other_cpu.toFixed(2)})` : "",
  ];
}

/** What matters most, in a line of its own; none without another server. */
export function ratioLines(ratios: Readonly<Record<string, Summary>>): string[] {
  const texts = Object.entries(ratios).map(([name, summary]) => `${formatRatio(summary)} ${name}`);
  return texts.length === 0 ? [] : [`  pushd is ${texts.join(", ")}`];
}

export function widthOf(servers: Readonly<Record<string, unknown>>): number {
  return Math.max(...Object.keys(servers).map((name) => name.length), 5);
}

/** `1.23 s/M`: processor time of the server for a million deliveries. */
export function formatCpu(secondsPerMillion: number): string {
  return `${threeDigits(secondsPerMillion)} s/M`;
}

/** Publishers' server first, where there are two. */
function formatCores({ server_cpu: cpu, subscribers_cpu: far }: ServerReport): string {
  return far === undefined ? cpu.toFixed(2) : `${(cpu - far).toFixed(2)} + ${far.toFixed(2)}`;
}

export function reportLatency(
  row: Row,
  at: number | "half",
  measured: readonly { name: string; rate: number; runs: Run[]; unlinkedRuns?: Run[] }[],
): LatencyReport {
  const report: LatencyReport = { of: "latency", row, at, servers: {}, pushd_ratio: {} };
  for (const { name, rate, runs, unlinkedRuns } of measured) {
    const latencies = latenciesOf(runs);
    const server: ServerLatency = {
      deliveries_per_s: rate,
      cpu_s_per_million: cpuPerMillion(runs),
      latency_us: medianLatencies(latencies),
      send_delay_us: medianLatencies(runs.flatMap((run) => run.send_delay_us ?? [])),
      runs,
    };
    report.servers[name] = server;
    if (unlinkedRuns === undefined) continue;
    const without = latenciesOf(unlinkedRuns);
    server.unlinked = {
      latency_us: medianLatencies(without),
      added_us: medianLatencies(latencies.map((linked, i) => difference(linked, without[i]))),
      runs: unlinkedRuns,
    };
  }
  const ours = report.servers.pushd?.latency_us;
  for (const [name, { latency_us: theirs }] of Object.entries(report.servers)) {
    if (ours === undefined || name === "pushd") continue;
    const { p50, p99, p999 } = theirs;
    report.pushd_ratio[name] = {
      p50: ours.p50 / p50,
      p99: ours.p99 / p99,
      p999: ours.p999 / p999,
    };
  }
  return report;
}

function latenciesOf(runs: readonly Run[]): Latencies[] {
  return runs.flatMap((run) => run.latency_us ?? []);
}

function difference(a: Latencies, b: Latencies): Latencies {
  const of = (key: keyof Latencies) => a[key] - b[key];
  return { p50: of("p50"), p90: of("p90"), p99: of("p99"), p999: of("p999"), max: of("max") };
}

export function formatLatency(report: LatencyReport): string {
  const width = widthOf(report.servers);
  const lines = Object.entries(report.servers).flatMap(([name, server]) => {
    const { latency_us, send_delay_us, unlinked, cpu_s_per_million, deliveries_per_s } = server;
    const notes = [
      report.at === "half" ? `at ${formatCount(deliveries_per_s)}/s` : "",
      formatCpu(cpu_s_per_million),
      `generator late by p99 ${formatMicros(send_delay_us.p99)}`,
    ].filter((note) => note !== "").join(", ");
    const lines = [`  ${name.padEnd(width)}  ${formatPercentiles(latency_us)}  (${notes})`];
    if (unlinked === undefined) return lines;
    const indent = " ".repeat(width + 4);
    return [
      ...lines,
      `${indent}${formatPercentiles(unlinked.latency_us)}  without the link`,
      `${indent}${formatPercentiles(unlinked.added_us)}  added by it`,
    ];
  });
  const ratios = Object.entries(report.pushd_ratio).map(([name, { p50, p99 }]) =>
    `${threeDigits(p50)}× and ${threeDigits(p99)}× ${name}`
  );
  if (ratios.length > 0) lines.unshift(`  pushd's p50 and p99 are ${ratios.join(", ")}`);
  return `${rowTitle(report.row)} ${loadOf(report.at)}\n${lines.join("\n")}\n`;
}

/** `at 20.0 k deliveries/s`. */
export function loadOf(at: number | "half"): string {
  return at === "half" ? "at half of what each can" : `at ${formatCount(at)} deliveries/s`;
}

function formatPercentiles({ p50, p90, p99, p999, max }: Latencies): string {
  return Object.entries({ p50, p90, p99, "p99.9": p999, max })
    .map(([name, us]) => `${name} ${formatMicros(us).padStart(7)}`).join("  ");
}

export function formatMicros(us: number): string {
  if (us < 0) return `−${formatMicros(-us)}`;
  if (us < 10) return `${us.toFixed(1)} µs`;
  return us >= 999.5 ? `${threeDigits(us / 1000)} ms` : `${us.toFixed(0)} µs`;
}

/** The median of each percentile over several runs. */
export function medianLatencies(runs: readonly Latencies[]): Latencies {
  const of = (key: keyof Latencies) => median(runs.map((run) => run[key]));
  return { p50: of("p50"), p90: of("p90"), p99: of("p99"), p999: of("p999"), max: of("max") };
}
