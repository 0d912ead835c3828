// Figures of the rows about many connections, and their text for people.

import type { CrowdRun } from "./crowd.ts";
import type { Latencies } from "./loadgen.ts";
import {
  type Cores,
  coresOf,
  countColumns,
  doubtsOf,
  formatCount,
  formatMicros,
  medianLatencies,
  ratioLines,
  ratiosOf,
  summarize,
  type Summary,
  widthOf,
} from "./report.ts";
import type { CrowdRow } from "./rows.ts";

export interface CrowdFigures extends Cores {
  per_s: Summary;
  /** Of the server's process, for one connection. */
  process_bytes: Summary;
  /** Of the kernel, for one connection: one end of it. */
  kernel_bytes: Summary;
  /** From connecting to the answer to the subscription. */
  wait_us: Latencies;
  /** Connections per second against the null server; null where speed was not the question. */
  ceiling_per_s: number | null;
  runs: CrowdRun[];
}

export interface CrowdReport {
  of: "crowd";
  row: string;
  kind: "connect" | "idle";
  title: string;
  servers: Record<string, CrowdFigures>;
  /** Of connections per second, or of bytes of the process; below 1 pushd has fewer. */
  pushd_ratio: Record<string, Summary>;
}

export function reportCrowd(
  { id, kind, connections, channels }: CrowdRow,
  measured: readonly { name: string; runs: CrowdRun[]; ceiling: number | null }[],
): CrowdReport {
  const where = channels === 1 ? "one channel" : `${formatCount(channels)} channels`;
  const title = `${formatCount(connections)} connections, each subscribed to ${where}`;
  const ratios = ratiosOf(measured, (run) => kind === "idle" ? run.process_bytes : run.per_s);
  const report: CrowdReport = {
    of: "crowd",
    row: id,
    kind,
    title,
    servers: {},
    pushd_ratio: ratios,
  };
  for (const { name, runs, ceiling } of measured) {
    const perS = summarize(runs.map((run) => run.per_s));
    report.servers[name] = {
      per_s: perS,
      process_bytes: summarize(runs.map((run) => run.process_bytes)),
      // The other end is the generator's, and like this one.
      kernel_bytes: summarize(runs.map((run) => (run.slab_bytes + run.buffer_bytes) / 2)),
      ...coresOf(runs, perS.median, ceiling),
      wait_us: medianLatencies(runs.map((run) => run.wait_us)),
      ceiling_per_s: ceiling,
      runs,
    };
  }
  return report;
}

export function formatCrowd(report: CrowdReport): string {
  const width = widthOf(report.servers);
  const isIdle = report.kind === "idle";
  const lines = Object.entries(report.servers).map(([name, server]) =>
    [`  ${name.padEnd(width)}`, ...isIdle ? memoryOf(server) : speedOf(server)].join("  ").trimEnd()
  );
  const what = isIdle ? "memory of one" : "connections/s";
  return [`${report.title}: ${what}`, ...ratioLines(report.pushd_ratio), ...lines, ""].join("\n");
}

function memoryOf({ process_bytes: process, kernel_bytes: kernel }: CrowdFigures): string[] {
  return [
    `process ${formatKilobytes(process.median).padStart(7)}`,
    `(${formatKilobytes(process.min)} – ${formatKilobytes(process.max)})`,
    `kernel ${formatKilobytes(kernel.median)}`,
  ];
}

function speedOf(figures: CrowdFigures): string[] {
  const { per_s, wait_us: wait, ceiling_per_s: ceiling } = figures;
  return [
    ...countColumns(per_s),
    `p50 ${formatMicros(wait.p50)}, p99 ${formatMicros(wait.p99)}`,
    `cpu ${figures.server_cpu.toFixed(2)}, ${
      formatMicros(figures.server_cpu * 1e6 / per_s.median)
    } each`,
    `generator ${figures.generator_cpu.toFixed(2)}`,
    ceiling === null ? "" : `ceiling ${formatCount(ceiling).padStart(6)}`,
    ...doubtsOf(figures),
  ];
}

/** `7.98 kB`, of 1000 bytes. */
export function formatKilobytes(bytes: number): string {
  return `${(bytes / 1000).toFixed(2)} kB`;
}
