// What watching a server costs it: throughput with the stats door scraped every second, a live page open
// and the metrics log written, against a server without any of it. See docs/operations.md.
// deno-lint-ignore-file no-console

import { chromium } from "playwright-core";
import { makeFolder } from "./disk.ts";
import { faultsOf, Loadgen } from "./loadgen.ts";
import { Processes } from "./processes.ts";
import { parseRows, type Row } from "./rows.ts";
import { freePorts, type Server, startServer } from "./servers.ts";

const ROUNDS = Number(Deno.args[0] ?? 11);
const ROWS = "1x1,1x100";
const SECONDS = 2;
const SCRAPE_MS = 1000;

/** Asks for /metrics every second until it is told to stop. */
function scrape(port: number): { stop(): void; count(): number } {
  let scrapes = 0;
  const timer = setInterval(async () => {
    const response = await fetch(`http://127.0.0.1:${port}/metrics`);
    await response.text();
    scrapes++;
  }, SCRAPE_MS);
  return { stop: () => clearInterval(timer), count: () => scrapes };
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

async function main(): Promise<void> {
  const processes = new Processes();
  const folder = await makeFolder(undefined);
  const [statsPort] = freePorts(1);
  try {
    const loadgen = await Loadgen.compile(folder, processes);
    const start = (name: string, config: Record<string, unknown>) =>
      startServer("pushd", { folder, processes, storage: "off", folderName: name, config });
    const plain = await start("plain", { stats_listen_addr: "" });
    const watched = await start("watched", {
      stats_listen_addr: `127.0.0.1:${statsPort}`,
      metrics_logfile: "metrics.log",
      stats_output_interval: "1s",
    });
    const browser = await chromium.launch({
      executablePath: "/usr/bin/chromium",
      args: ["--no-sandbox", "--disable-gpu"],
    });
    const scraper = scrape(statsPort);
    try {
      const page = await browser.newPage();
      await page.goto(`http://127.0.0.1:${statsPort}/`);
      for (const row of parseRows(ROWS) as Row[]) {
        const runs = new Map<Server, number[]>([[plain, []], [watched, []]]);
        const cores = new Map<Server, number[]>([[plain, []], [watched, []]]);
        for (let round = 0; round < ROUNDS; round++) {
          // Who begins changes, so that what drifts falls on both.
          const order = round % 2 === 0 ? [plain, watched] : [watched, plain];
          for (const server of order) {
            const run = await loadgen.run({
              protocol: "pushd",
              row,
              seconds: SECONDS,
              warmupSeconds: 0.5,
              server: { port: server.port, pid: server.process.pid },
            });
            const faults = faultsOf(run);
            if (faults !== "") throw new Error(`${row.id}: ${faults}`);
            runs.get(server)?.push(run.deliveries_per_s);
            cores.get(server)?.push(1e6 * run.server_cpu / run.deliveries_per_s);
          }
        }
        const of = (figures: Map<Server, number[]>, server: Server) =>
          median(figures.get(server) ?? []);
        const ratio = of(runs, watched) / of(runs, plain);
        const cost = of(cores, watched) / of(cores, plain);
        console.log(
          `${row.id}: ${Math.round(of(runs, plain)).toLocaleString("en")} deliveries/s plain, ` +
            `${Math.round(of(runs, watched)).toLocaleString("en")} watched: ${ratio.toFixed(3)}; ` +
            `processor time for each ${cost.toFixed(3)}`,
        );
      }
      console.log(`${scraper.count()} scrapes, ${ROUNDS} rounds, medians`);
    } finally {
      scraper.stop();
      await browser.close();
    }
  } finally {
    await processes.stop();
    await Deno.remove(folder, { recursive: true });
  }
}

if (import.meta.main) await main();
