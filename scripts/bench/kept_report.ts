// Figures of the rows about messages that are kept, and their text for people.

import type { AskRun } from "./asker.ts";
import type { Latencies, Run } from "./loadgen.ts";
import { rowTitle, type WritingRow } from "./rows.ts";
import {
  type Cores,
  coresOf,
  countColumns,
  cpuPerMillion,
  doubtsOf,
  formatCount,
  formatCpu,
  formatMicros,
  formatRatio,
  isDisturbed,
  median,
  medianLatencies,
  ratio,
  ratioLines,
  ratiosOf,
  summarize,
  type Summary,
  widthOf,
} from "./report.ts";

export interface AnswerReport extends Cores {
  per_s: Summary;
  /** Processor time of the server for one answer. */
  server_us_per_answer: number;
  latency_us: Latencies;
  ceiling_per_s: number;
  runs: AskRun[];
}

export interface AskReport {
  of: "answers";
  row: string;
  title: string;
  /** Of `per_s`. */
  unit: string;
  servers: Record<string, AnswerReport>;
  /** pushd's figures divided by those of the other in the same round. */
  pushd_ratio: Record<string, Summary>;
}

export interface WritingReport {
  of: "writing";
  row: string;
  title: string;
  /** Deliveries per second that were asked for, or null: as many as it could. */
  deliveries_per_s: number | null;
  ways: Record<string, WritingFigures>;
}

export interface WritingFigures {
  deliveries_per_s: Summary;
  /** To the first way. */
  ratio: Summary;
  server_cpu: number;
  /** Seconds of the server's processor time for a million deliveries. */
  cpu_s_per_million: number;
  generator_cpu: number;
  other_cpu: number;
  latency_us?: Latencies;
  runs: Run[];
}

export function reportAnswers(row: {
  row: string;
  title: string;
  unit: string;
  /** What one answer counts for. */
  perAnswer: number;
  measured: readonly { name: string; runs: AskRun[]; ceiling: number }[];
}): AskReport {
  const { perAnswer, measured } = row;
  const figureOf = (run: AskRun) => run.answers_per_s * perAnswer;
  const report: AskReport = {
    of: "answers",
    row: row.row,
    title: row.title,
    unit: row.unit,
    servers: {},
    pushd_ratio: ratiosOf(measured, figureOf),
  };
  for (const { name, runs, ceiling } of measured) {
    const perS = summarize(runs.map(figureOf));
    report.servers[name] = {
      per_s: perS,
      ...coresOf(runs, perS.median, ceiling * perAnswer),
      server_us_per_answer: median(
        runs.map((run) => run.server_cpu * 1e6 / Math.max(run.answers_per_s, 1)),
      ),
      latency_us: medianLatencies(runs.map((run) => run.latency_us)),
      ceiling_per_s: ceiling * perAnswer,
      runs,
    };
  }
  return report;
}

export function formatAnswers(report: AskReport): string {
  const width = widthOf(report.servers);
  const lines = Object.entries(report.servers).map(([name, server]) => {
    const cpu = `cpu ${server.server_cpu.toFixed(2)}, ${
      formatMicros(server.server_us_per_answer)
    } each, generator ${server.generator_cpu.toFixed(2)}`;
    return [
      `  ${name.padEnd(width)}`,
      ...countColumns(server.per_s),
      `p50 ${formatMicros(server.latency_us.p50)}, p99 ${formatMicros(server.latency_us.p99)}`,
      cpu,
      `ceiling ${formatCount(server.ceiling_per_s).padStart(6)}`,
      ...doubtsOf(server),
    ].join("  ").trimEnd();
  });
  const head = `${report.title}: ${report.unit}`;
  return [head, ...ratioLines(report.pushd_ratio), ...lines, ""].join("\n");
}

export function reportWriting(
  { id, row }: WritingRow,
  runs: ReadonlyMap<string, Run[]>,
  deliveriesPerSecond: number | null,
): WritingReport {
  const report: WritingReport = {
    of: "writing",
    row: id,
    title: rowTitle(row),
    deliveries_per_s: deliveriesPerSecond,
    ways: {},
  };
  const figures = (list: readonly Run[]) => list.map((run) => run.deliveries_per_s);
  const [first = []] = runs.values();
  for (const [way, list] of runs) {
    const latencies = list.flatMap((run) => run.latency_us ?? []);
    report.ways[way] = {
      deliveries_per_s: summarize(figures(list)),
      ratio: ratio(figures(list), figures(first)),
      server_cpu: median(list.map((run) => run.server_cpu)),
      cpu_s_per_million: cpuPerMillion(list),
      generator_cpu: median(list.map((run) => run.generator_cpu)),
      other_cpu: median(list.map((run) => run.other_cpu)),
      ...(latencies.length > 0 ? { latency_us: medianLatencies(latencies) } : {}),
      runs: list,
    };
  }
  return report;
}

export function formatWriting(report: WritingReport): string {
  const { title, deliveries_per_s: rate, ways } = report;
  const width = widthOf(ways);
  const lines = Object.entries(ways).map(([way, figures], i) => {
    const latencies = figures.latency_us;
    return [
      `  ${way.padEnd(width)}`,
      i === 0 ? "".padEnd(18) : formatRatio(figures.ratio).padEnd(18),
      ...countColumns(figures.deliveries_per_s),
      latencies === undefined
        ? ""
        : `p50 ${formatMicros(latencies.p50)}, p99 ${formatMicros(latencies.p99)}`,
      `cpu ${figures.server_cpu.toFixed(2)}, ${formatCpu(figures.cpu_s_per_million)}`,
      `generator ${figures.generator_cpu.toFixed(2)}`,
      isDisturbed(figures.other_cpu)
        ? `(disturbed: other work took ${figures.other_cpu.toFixed(2)})`
        : "",
    ].filter((part) => part !== "").join("  ");
  });
  const at = rate === null ? "" : ` at ${formatCount(rate)} deliveries/s`;
  return `${title}, pushd beside writing${at}: deliveries/s\n${lines.join("\n")}\n`;
}
