// Plots of a run's results as SVG, to stand beside the tables.

import { type CrowdReport, formatKilobytes } from "./crowd_report.ts";
import { titleOf } from "./markdown.ts";
import { formatCount, formatMicros, type LatencyReport, loadOf, type RowReport } from "./report.ts";
import type { Results } from "./results.ts";
import { rowTitle } from "./rows.ts";

/** A value with its spread. */
interface Bar {
  server: string;
  value: number;
  low: number;
  high: number;
}

interface Group {
  title: string;
  bars: Bar[];
}

interface Plot {
  title: string;
  /** `value` is drawn on a scale of powers of ten. */
  groups: Group[];
  format: (value: number) => string;
}

/** Tell servers apart by lightness, too, for who sees no colours. */
const COLOURS: Readonly<Record<string, string>> = {
  pushd: "#0b5cad",
  binary: "#6aa7e0",
  nats: "#2a9d5b",
  redis: "#c8402f",
  mosquitto: "#8a5aa8",
};
const OTHER_COLOUR = "#777777";
const WIDTH = 760, LEFT = 12, RIGHT = 90, BAR = 13, HEAD = 16, GAP = 12, TOP = 58;

/** The plots that these results allow, by the name of their file. */
export function plotsOf({ rows }: Results): Map<string, string> {
  const throughput = rows.filter((row): row is RowReport => row.of === "throughput");
  const latency = rows.filter((row): row is LatencyReport => row.of === "latency");
  const crowds = rows.filter((row): row is CrowdReport => row.of === "crowd");
  const alone = throughput.filter(({ row }) => !row.linked && !row.json && !row.tls);
  const plots: [string, Plot][] = [
    ["performance-deliveries.svg", {
      title: "Deliveries per second (median, lowest and highest round)",
      groups: alone.map(deliveriesOf),
      format: formatCount,
    }],
    ["performance-links.svg", {
      title: "Deliveries per second across a link",
      groups: throughput.filter(({ row }) => row.linked).map(deliveriesOf),
      format: formatCount,
    }],
    ["performance-latency.svg", {
      title: "Latency: p50 to p99.9, the bar ends at p99",
      groups: latency.map(({ row, at, servers }) => ({
        title: `${rowTitle(row)}, ${loadOf(at)}`,
        bars: Object.entries(servers).map(([server, { latency_us: { p50, p99, p999 } }]) => ({
          server,
          value: p99,
          low: p50,
          high: p999,
        })),
      })),
      format: formatMicros,
    }],
    ["performance-memory.svg", {
      title: "Memory of the server's process for an idle connection",
      groups: crowds.filter(({ kind }) => kind === "idle").map(({ title, servers }) => ({
        title,
        bars: Object.entries(servers).map(([server, { process_bytes: { median, min, max } }]) => ({
          server,
          value: median,
          low: min,
          high: max,
        })),
      })),
      format: formatKilobytes,
    }],
  ];
  return new Map(
    plots.filter(([, { groups }]) => groups.length > 0).map(([name, plot]) => [name, draw(plot)]),
  );
}

function deliveriesOf({ row, servers }: RowReport): Group {
  return {
    title: rowTitle(row),
    bars: Object.entries(servers).map(([server, { deliveries_per_s: { median, min, max } }]) => ({
      server,
      value: median,
      low: min,
      high: max,
    })),
  };
}

/** Bars from left to right in groups under each other, on one scale of powers of ten. */
function draw({ title, groups, format }: Plot): string {
  const bars = groups.flatMap((group) => group.bars);
  const values = bars.flatMap(({ value, low, high }) => [value, low, high]).filter((v) => v > 0);
  const least = Math.floor(Math.log10(Math.min(...values)));
  const most = Math.max(Math.ceil(Math.log10(Math.max(...values))), least + 1);
  const xOf = (value: number) => {
    const share = (Math.log10(Math.max(value, 10 ** least)) - least) / (most - least);
    return Math.round((LEFT + share * (WIDTH - LEFT - RIGHT)) * 10) / 10;
  };
  const parts: string[] = [];
  let y = TOP;
  for (const group of groups) {
    parts.push(text(LEFT, y + 11, group.title));
    y += HEAD;
    for (const { server, value, low, high } of group.bars) {
      const colour = COLOURS[server] ?? OTHER_COLOUR;
      const middle = y + BAR / 2 - 0.5;
      parts.push(
        `<rect x="${LEFT}" y="${y}" width="${(xOf(value) - LEFT).toFixed(1)}" height="${
          BAR - 2
        }" fill="${colour}"/>`,
        `<path d="M${xOf(low)} ${middle}H${xOf(high)}" class="s"/>`,
        text(Math.max(xOf(high), xOf(value)) + 4, y + BAR - 3, format(value)),
      );
      y += BAR;
    }
    y += GAP;
  }
  const lines = Array.from({ length: most - least + 1 }, (_, i) => 10 ** (least + i)).map((value) =>
    `<path d="M${xOf(value)} ${TOP - 8}V${y - GAP + 4}" class="g"/>` +
    text(xOf(value), TOP - 12, format(value), value === 10 ** least ? undefined : "middle")
  );
  const servers = [...new Set(bars.map(({ server }) => server))];
  const legend = servers.map((server, i) => {
    const x = 12 + i * 135;
    return `<rect x="${x}" y="${y}" width="11" height="11" fill="${
      COLOURS[server] ?? OTHER_COLOUR
    }"/>${text(x + 16, y + 10, titleOf(server))}`;
  });
  const height = y + 24;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img">`,
    `<title>${escape(title)}</title>`,
    "<style>text{font:12px system-ui,sans-serif;fill:#222}.t{font-weight:600;font-size:14px}" +
    ".g{stroke:#ddd}.s{stroke:#222;stroke-opacity:.6}</style>",
    `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`,
    `<text x="12" y="20" class="t">${escape(title)}</text>`,
    ...lines,
    ...parts,
    ...legend,
    "</svg>",
    "",
  ].join("\n");
}

function text(x: number, y: number, content: string, anchor?: "middle"): string {
  const where = anchor === undefined ? "" : ` text-anchor="${anchor}"`;
  return `<text x="${Math.round(x * 10) / 10}" y="${y}"${where}>${escape(content)}</text>`;
}

function escape(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
