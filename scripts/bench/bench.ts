// A benchmark under way: the runs of each row on the servers that are up, and what went wrong in them.

import type { Endpoint, Loadgen, Protocol, Run, RunOptions } from "./loadgen.ts";
import { faultsOf } from "./loadgen.ts";
import { type LatencyReport, reportLatency, reportRow, type RowReport } from "./report.ts";
import { type Row, rowTitle, unlinked } from "./rows.ts";
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

/** A row on a server: what is measured in turns with others. */
interface Contender {
  server: Server;
  row: Row;
}

export class Bench {
  readonly faults: string[] = [];

  constructor(
    readonly settings: Settings,
    readonly loadgen: Loadgen,
    readonly servers: readonly Server[],
    /** For rows across a link. */
    readonly pairs: readonly Server[] = [],
  ) {}

  async throughput(row: Row): Promise<RowReport> {
    const contenders = this.#contenders(row);
    const runs = await this.#rounds(contenders);
    const measured = [];
    for (const contender of contenders) {
      const { protocol } = contender.server;
      const ceiling = await this.#ceiling(protocol, row);
      measured.push({ protocol, runs: runs.get(contender) ?? [], ceiling });
    }
    return reportRow(row, measured);
  }

  /** A row across a link is measured without it, too, in the same rounds. */
  async latency(row: Row, deliveriesPerSecond: number): Promise<LatencyReport> {
    const contenders = this.#contenders(row);
    const alone = row.linked ? this.#contenders(unlinked(row)) : [];
    const rate = deliveriesPerSecond / row.subscribers;
    const runs = await this.#rounds([...contenders, ...alone], rate);
    const measured = contenders.map((contender) => {
      const { protocol } = contender.server;
      const other = alone.find(({ server }) => server.protocol === protocol);
      const unlinkedRuns = other === undefined ? undefined : runs.get(other);
      return { protocol, runs: runs.get(contender) ?? [], unlinkedRuns };
    });
    return reportLatency(row, deliveriesPerSecond, measured);
  }

  #contenders(row: Row): Contender[] {
    return (row.linked ? this.pairs : this.servers).map((server) => ({ server, row }));
  }

  async #rounds(contenders: readonly Contender[], rate?: number): Promise<Map<Contender, Run[]>> {
    const { rounds, seconds, warmupSeconds } = this.settings;
    return await inTurns(contenders, rounds, ({ server, row }, round) => {
      const { protocol, version, subscribersAt: far } = server;
      progress(`${rowTitle(row)}: round ${round}, ${protocol}`);
      const subscribersAt = far === undefined ? undefined : endpointOf(far);
      const endpoint = { ...endpointOf(server), subscribersAt };
      const options = { protocol, row, seconds, warmupSeconds, rate, server: endpoint };
      return this.#run(options, version);
    });
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

function endpointOf({ port, process: { pid } }: Pick<Server, "port" | "process">): Endpoint {
  return { port, pid };
}

/** Shows what is being done where a person is looking; "" takes it away again. */
export function progress(text: string): void {
  if (!Deno.stderr.isTerminal()) return;
  Deno.stderr.writeSync(new TextEncoder().encode(`\r\x1b[K${text}`));
}
