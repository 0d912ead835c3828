// A benchmark under way: the runs of each row on the servers that are up, and what went wrong in them.

import { faultsOf, type Loadgen, type Protocol, type Run, type RunOptions } from "./loadgen.ts";
import { medianLatencies, reportRow } from "./report.ts";
import type { LatencyReport, RowReport } from "./report.ts";
import { type Row, rowTitle } from "./rows.ts";
import type { Server } from "./servers.ts";
import { inTurns, leastDisturbed } from "./turns.ts";

export interface Settings {
  rounds: number;
  /** Measured time of a run. */
  seconds: number;
  warmupSeconds: number;
  /** How often a run that other work disturbed is repeated. */
  retries: number;
}

/** The best of so many is the ceiling: what disturbs a run can only make it slower. */
const CEILING_RUNS = 3;

export class Bench {
  readonly faults: string[] = [];

  constructor(
    readonly settings: Settings,
    readonly loadgen: Loadgen,
    readonly servers: readonly Server[],
  ) {}

  async throughput(row: Row): Promise<RowReport> {
    const runs = await this.#rounds(row);
    const measured = [];
    for (const { protocol } of this.servers) {
      const ceiling = await this.#ceiling(protocol, row);
      measured.push({ protocol, runs: runs.get(protocol) ?? [], ceiling });
    }
    return reportRow(row, measured);
  }

  async latency(row: Row, deliveriesPerSecond: number): Promise<LatencyReport> {
    const report: LatencyReport = { row, deliveries_per_s: deliveriesPerSecond, servers: {} };
    for (const [protocol, runs] of await this.#rounds(row, deliveriesPerSecond / row.subscribers)) {
      report.servers[protocol] = {
        latency_us: medianLatencies(runs.flatMap((run) => run.latency_us ?? [])),
        send_delay_us: medianLatencies(runs.flatMap((run) => run.send_delay_us ?? [])),
        runs,
      };
    }
    return report;
  }

  async #rounds(row: Row, rate?: number): Promise<Map<Protocol, Run[]>> {
    const { rounds, seconds, warmupSeconds } = this.settings;
    const runs = await inTurns(this.servers, rounds, (contender, round) => {
      const { protocol, version, port, process: { pid } } = contender;
      progress(`${rowTitle(row)}: round ${round}, ${protocol}`);
      const server = { port, pid };
      return this.#run({ protocol, row, seconds, warmupSeconds, rate, server }, version);
    });
    return new Map([...runs].map(([{ protocol }, list]) => [protocol, list]));
  }

  async #ceiling(protocol: Protocol, row: Row): Promise<number> {
    progress(`${rowTitle(row)}: the generator's ceiling with ${protocol}'s protocol`);
    const figures = [];
    for (let i = 0; i < CEILING_RUNS; i++) {
      const options = { protocol, row, seconds: 0.4, warmupSeconds: 0.2 };
      figures.push((await this.#run(options, "the null server")).deliveries_per_s);
    }
    return Math.max(...figures);
  }

  #run(options: RunOptions, serverName: string): Promise<Run> {
    return leastDisturbed(this.settings.retries, async () => {
      const run = await this.loadgen.run(options);
      const faults = faultsOf(run);
      if (faults !== "") this.faults.push(`${serverName}, ${rowTitle(options.row)}: ${faults}`);
      return run;
    });
  }
}

/** Shows what is being done where a person is looking; "" takes it away again. */
export function progress(text: string): void {
  if (!Deno.stderr.isTerminal()) return;
  Deno.stderr.writeSync(new TextEncoder().encode(`\r\x1b[K${text}`));
}
