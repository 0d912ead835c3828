// The results of a run as tables in Markdown, ratios first.

import { formatKilobytes } from "./crowd_report.ts";
import type { CrowdReport } from "./crowd_report.ts";
import type { AskReport, WritingReport } from "./kept_report.ts";
import {
  formatCount,
  formatMicros,
  type LatencyReport,
  loadOf,
  type RowReport,
  type Summary,
  threeDigits,
} from "./report.ts";
import type { Report, Results } from "./results.ts";
import { rowTitle } from "./rows.ts";

/** How servers are written; what is not here is written as it is. */
const TITLES: Readonly<Record<string, string>> = {
  pushd: "pushd",
  binary: "pushd, one file",
  nats: "NATS",
  redis: "Redis",
  mosquitto: "Mosquitto",
  jetstream: "JetStream",
};

const NOTES =
  "A figure is the median of the rounds (lowest – highest). With * it is a lower bound: " +
  "the generator was the limit. With † other work disturbed it.";

export function titleOf(server: string): string {
  return TITLES[server] ?? server;
}

/** Everything: what was measured on, then a table for each kind of row. */
export function markdownOf(results: Results): string {
  const { rows, faults } = results;
  const parts = [
    setupOf(results),
    ...section("Deliveries per second", throughputTables(select(rows, "throughput"))),
    ...section("Latency", latencyTables(select(rows, "latency"))),
    ...section("Acknowledged, and history", answerTables(select(rows, "answers"))),
    ...section("Beside writing", writingTables(select(rows, "writing"))),
    ...section("Many connections", crowdTables(select(rows, "crowd"))),
  ];
  if (faults.length > 0) {
    parts.push("### Wrong", faults.map((fault) => `- ${fault}`).join("\n"));
  }
  return parts.join("\n\n") + "\n";
}

function setupOf(results: Results): string {
  const { command, date, machine, disk, deno, servers, rounds, seconds, warmup_seconds } = results;
  return [
    `\`${command}\`, ${date}: ${rounds} rounds of ${seconds} s after ${warmup_seconds} s of warm-up.`,
    `${machine}; ${disk}; Deno ${deno}; ${servers.join(", ")}.`,
    results.faults.length === 0
      ? "Nothing was lost, changed, had twice or out of order in any run."
      : "**Not everything came as it should**, see the end.",
    ...results.silent.length === 0 ? [] : [`No answer for 5 s: ${results.silent.join("; ")}.`],
    NOTES,
  ].join("\n\n");
}

function section(title: string, tables: readonly string[]): string[] {
  return tables.length === 0 ? [] : [`### ${title}`, ...tables];
}

function select<K extends Report["of"]>(rows: readonly Report[], of: K) {
  return rows.filter((row): row is Extract<Report, { of: K }> => row.of === of);
}

/** Those of the same servers stand in one table. */
function inGroups<T>(reports: readonly T[], keyOf: (report: T) => string): T[][] {
  return [...Map.groupBy(reports, keyOf).values()];
}

function namesOf(report: { servers: Readonly<Record<string, unknown>> }): string[] {
  return Object.keys(report.servers);
}

function table(head: readonly string[], lines: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...lines.map(line)].join("\n");
}

function ratioCell(ratio: Summary | undefined): string {
  if (ratio === undefined) return "";
  return `**${threeDigits(ratio.median)}** (${threeDigits(ratio.min)} – ${threeDigits(ratio.max)})`;
}

/** pushd's ratio to each other server, in their order; none where pushd was not measured. */
function ratioCells(
  ratios: Readonly<Record<string, Summary | undefined>>,
  names: readonly string[],
): string[] {
  return names.includes("pushd") ? othersOf(names).map((name) => ratioCell(ratios[name])) : [];
}

function countCell(
  { median, min, max }: Summary,
  marks: { generator_limited?: boolean; disturbed?: boolean } = {},
): string {
  const mark = (marks.generator_limited ? "*" : "") + (marks.disturbed ? "†" : "");
  return `${formatCount(median)}${mark} (${formatCount(min)} – ${formatCount(max)})`;
}

function ratioHeads(names: readonly string[]): string[] {
  return names.includes("pushd") ? othersOf(names).map((name) => `pushd ÷ ${titleOf(name)}`) : [];
}

function othersOf(names: readonly string[]): string[] {
  return names.filter((name) => name !== "pushd");
}

function throughputTables(reports: readonly RowReport[]): string[] {
  return inGroups(reports, (report) => namesOf(report).join()).flatMap((group) => {
    const names = namesOf(group[0]);
    const speeds = group.map(({ row, servers, pushd_ratio: ratios }) => [
      rowTitle(row),
      ...ratioCells(ratios, names),
      ...names.map((name) => countCell(servers[name].deliveries_per_s, servers[name])),
      formatCount(Math.max(...names.map((name) => servers[name].ceiling_deliveries_per_s))),
    ]);
    const costs = group.map(({ row, servers }) => [
      rowTitle(row),
      ...names.map((name) => threeDigits(servers[name].cpu_s_per_million)),
    ]);
    return [
      table(["row", ...ratioHeads(names), ...names.map(titleOf), "highest ceiling"], speeds),
      "Seconds of the server's processor time for a million deliveries:",
      table(["row", ...names.map(titleOf)], costs),
    ];
  });
}

function latencyTables(reports: readonly LatencyReport[]): string[] {
  return inGroups(reports, (report) => namesOf(report).join()).map((group) => {
    const names = namesOf(group[0]);
    const lines = group.map(({ row, at, servers, pushd_ratio: ratios }) => [
      `${rowTitle(row)}, ${loadOf(at)}`,
      ...ratioHeads(names).map((_, i) => {
        const ratio = ratios[othersOf(names)[i]];
        return ratio === undefined
          ? ""
          : `**${threeDigits(ratio.p99)}** (p50 ${threeDigits(ratio.p50)})`;
      }),
      ...names.map((name) => {
        const { latency_us: { p50, p99, p999 }, deliveries_per_s: rate } = servers[name];
        const load = at === "half" ? ` at ${formatCount(rate)}` : "";
        return [p50, p99, p999].map(formatMicros).join(" / ") + load;
      }),
    ]);
    const heads = ratioHeads(names).map((head) => `p99: ${head}`);
    return table(
      ["row", ...heads, ...names.map((name) => `${titleOf(name)}: p50 / p99 / p99.9`)],
      lines,
    );
  });
}

function answerTables(reports: readonly AskReport[]): string[] {
  return inGroups(reports, (report) => report.unit + namesOf(report).join()).map((group) => {
    return comparison(group[0].unit, group, (server) => {
      const cost = `${formatMicros(server.server_us_per_answer)} each`;
      return `${countCell(server.per_s, server)}, p99 ${
        formatMicros(server.latency_us.p99)
      }, ${cost}`;
    });
  });
}

/** A table of reports on the same servers: pushd's ratios to the others, then a cell for each server. */
function comparison<S>(
  what: string,
  group: readonly {
    title: string;
    servers: Readonly<Record<string, S>>;
    pushd_ratio: Readonly<Record<string, Summary | undefined>>;
  }[],
  cell: (server: S) => string,
): string {
  const names = namesOf(group[0]);
  const lines = group.map(({ title, servers, pushd_ratio: ratios }) => [
    title,
    ...ratioCells(ratios, names),
    ...names.map((name) => cell(servers[name])),
  ]);
  return table([what, ...ratioHeads(names), ...names.map(titleOf)], lines);
}

function writingTables(reports: readonly WritingReport[]): string[] {
  return reports.map(({ title, ways, deliveries_per_s: at }) => {
    const lines = Object.entries(ways).map(([way, figures], i) => [
      way,
      i === 0 ? "" : ratioCell(figures.ratio),
      countCell(figures.deliveries_per_s),
      threeDigits(figures.cpu_s_per_million),
      figures.latency_us === undefined ? "" : formatMicros(figures.latency_us.p99),
    ]);
    const load = at === null ? "" : ` ${loadOf(at)}`;
    return table(
      [`${title}${load}`, "ratio", "deliveries/s", "s of processor / million", "p99"],
      lines,
    );
  });
}

function crowdTables(reports: readonly CrowdReport[]): string[] {
  return inGroups(reports, (report) => report.kind + namesOf(report).join()).map((group) => {
    const isConnect = group[0].kind === "connect";
    const what = isConnect ? "connections per second" : "memory of an idle connection";
    return comparison(what, group, (server) => {
      if (isConnect) return countCell(server.per_s, server);
      const { process_bytes: process, kernel_bytes: kernel } = server;
      return `${formatKilobytes(process.median)} + kernel ${formatKilobytes(kernel.median)}`;
    });
  });
}
