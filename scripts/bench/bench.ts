// A benchmark under way: the runs of each row on the servers that are up, and what went wrong in them.

import type { Endpoint, Loadgen, Protocol, Run, RunOptions } from "./loadgen.ts";
import { faultsOf } from "./loadgen.ts";
import { type LatencyReport, reportLatency, reportRow, type RowReport } from "./report.ts";
import { isWide, type Row, rowTitle, unlinked } from "./rows.ts";
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
const CEILING_RUNS = 3, CEILING_SECONDS = 0.4;
/** A wide row's warm-up is so many times as long. */
const WIDE_WARMUP = 5;
/** From so many runs it is found out what half of the maximum is. */
const HALF_ROUNDS = 2;

/** What is measured in turns with others. */
interface Contender {
  /** As it stands in the report. */
  name: string;
  server: Server;
  protocol: Protocol;
  row: Row;
  /** Deliveries per second; without it as fast as it can. */
  rate?: number;
}

export class Bench {
  readonly faults: string[] = [];

  constructor(
    readonly settings: Settings,
    readonly loadgen: Loadgen,
    readonly servers: readonly Server[],
    /** For rows across a link. */
    readonly pairs: readonly Server[] = [],
    /** For rows over TLS. */
    readonly secured: { loadgen: Loadgen; servers: readonly Server[] } | null = null,
  ) {}

  /** Whether there is any server for the row. */
  canMeasure(row: Row): boolean {
    return this.#contenders(row).length > 0;
  }

  async throughput(row: Row): Promise<RowReport> {
    const contenders = this.#contenders(row);
    const runs = await this.#rounds(contenders);
    const measured = [];
    for (const contender of contenders) {
      const { name, protocol } = contender;
      const ceiling = await this.#ceiling(protocol, row);
      measured.push({ name, runs: runs.get(contender) ?? [], ceiling });
    }
    return reportRow(row, measured);
  }

  /** A row across a link is measured without it, too, in the same rounds. */
  async latency(row: Row, at: number | "half"): Promise<LatencyReport> {
    const rates = at === "half" ? await this.#halves(row) : null;
    const withRate = (contender: Contender): Contender => ({
      ...contender,
      rate: typeof at === "number" ? at : rates?.get(contender.name),
    });
    const contenders = this.#contenders(row).map(withRate);
    const alone = row.linked ? this.#contenders(unlinked(row)).map(withRate) : [];
    const runs = await this.#rounds([...contenders, ...alone]);
    const measured = contenders.map((contender) => {
      const { name, rate = 0 } = contender;
      const other = alone.find((other) => other.name === name);
      const unlinkedRuns = other === undefined ? undefined : runs.get(other);
      return { name, rate, runs: runs.get(contender) ?? [], unlinkedRuns };
    });
    return reportLatency(row, at, measured);
  }

  /** Half of the most that each of them was seen to do. */
  async #halves(row: Row): Promise<Map<string, number>> {
    const contenders = this.#contenders(row);
    const runs = await this.#rounds(contenders, HALF_ROUNDS);
    return new Map(contenders.map((contender) => {
      const figures = (runs.get(contender) ?? []).map((run) => run.deliveries_per_s);
      return [contender.name, Math.round(Math.max(...figures) / 2)];
    }));
  }

  #contenders(row: Row): Contender[] {
    const alone = row.tls ? this.secured?.servers ?? [] : this.servers;
    const servers = row.linked ? this.pairs : alone;
    if (!row.json) {
      return servers.map((server) => ({
        name: server.name,
        server,
        protocol: server.protocol,
        row,
      }));
    }
    return servers.filter(({ protocol }) => protocol === "pushd").flatMap((server) => [
      { name: server.name, server, protocol: "pushd" as const, row },
      { name: `${server.name} json`, server, protocol: "pushd-json" as const, row },
    ]);
  }

  async #rounds(
    contenders: readonly Contender[],
    rounds = this.settings.rounds,
  ): Promise<Map<Contender, Run[]>> {
    const { seconds, warmupSeconds: usualWarmup } = this.settings;
    return await inTurns(contenders, rounds, (contender, round) => {
      const { name, server, protocol, row, rate } = contender;
      progress(`${rowTitle(row)}: round ${round}, ${name}`);
      const { version, subscribersAt: far } = server;
      const subscribersAt = far === undefined ? undefined : endpointOf(far);
      const endpoint = { ...endpointOf(server), subscribersAt };
      const messages = rate === undefined ? undefined : rate / row.subscribers;
      const warmupSeconds = usualWarmup * (isWide(row) ? WIDE_WARMUP : 1);
      const options = { protocol, row, seconds, warmupSeconds, rate: messages, server: endpoint };
      return this.#run(options, version);
    });
  }

  async #ceiling(protocol: Protocol, row: Row): Promise<number> {
    progress(`${rowTitle(row)}: the generator's ceiling with ${protocol}'s protocol`);
    const figures = [];
    for (let i = 0; i < CEILING_RUNS; i++) {
      const seconds = Math.min(CEILING_SECONDS, this.settings.seconds);
      const options = { protocol, row, seconds, warmupSeconds: seconds / 2 };
      figures.push((await this.#run(options, "the null server")).deliveries_per_s);
    }
    return Math.max(...figures);
  }

  #run(options: RunOptions, serverName: string): Promise<Run> {
    return leastDisturbed(this.settings.retries, async () => {
      const loadgen = options.row.tls ? this.secured?.loadgen : this.loadgen;
      if (loadgen === undefined) throw new Error(`${options.row.id} has no generator`);
      const run = await loadgen.run(options);
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
