// The rows about many connections: how fast a server takes them, and what one that is idle costs.

import { progress, type Settings } from "./bench.ts";
import { type Crowd, type CrowdRun } from "./crowd.ts";
import { type CrowdReport, reportCrowd } from "./crowd_report.ts";
import type { ServerName, ServerOptions } from "./known_servers.ts";
import { MissingError, PROTOCOL_OF } from "./known_servers.ts";
import type { CrowdRow } from "./rows.ts";
import { type Server, startServer } from "./servers.ts";
import { inTurns, leastDisturbed } from "./turns.ts";

/** What a server has made ready, and what it gives back, takes some time. */
const REST_SECONDS = 3;
const CEILING_RUNS = 3;

export interface CrowdRowsOptions {
  settings: Settings;
  crowd: Crowd;
  names: readonly ServerName[];
  serverOptions: Omit<ServerOptions, "folderName">;
  /** Told when a server is left out, and why. */
  leftOut: (what: string) => void;
}

export class CrowdRows {
  readonly faults: string[] = [];
  readonly versions: string[] = [];
  #options: CrowdRowsOptions;
  #started = 0;
  /** Those that showed that they are there, and had no crowd yet. */
  #fresh = new Map<ServerName, Server>();

  constructor(options: CrowdRowsOptions) {
    this.#options = options;
  }

  /** Every run has a server of its own: one that had a crowd before would have its memory already. */
  async measure(row: CrowdRow): Promise<CrowdReport | null> {
    const { settings: { rounds, retries } } = this.#options;
    const names = await this.#found();
    if (names.length === 0) return null;
    const runs = await inTurns(names, rounds, (name, round) => {
      progress(`${row.id}: round ${round}, ${name}`);
      return leastDisturbed(retries, () => this.#run(row, name));
    });
    const measured = [];
    for (const name of names) {
      const ceiling = row.kind === "idle" ? null : await this.#ceiling(row, name);
      measured.push({ name, runs: runs.get(name) ?? [], ceiling });
    }
    return reportCrowd(row, measured);
  }

  async #run(row: CrowdRow, name: ServerName): Promise<CrowdRun> {
    const { crowd } = this.#options;
    const { port, protocol, process } = this.#fresh.get(name) ?? await this.#start(name);
    this.#fresh.delete(name);
    const { connections, channels } = row;
    const restSeconds = row.kind === "idle" ? REST_SECONDS : 0;
    const server = { port, pid: process.pid };
    const run = await crowd.run({ protocol, connections, channels, restSeconds, server });
    await process.stop();
    if (run.cut > 0) this.faults.push(`${row.id}, ${name}: ${run.cut} connections cut off`);
    return run;
  }

  async #start(name: ServerName): Promise<Server> {
    const { serverOptions } = this.#options;
    const folderName = `crowd-${name}-${++this.#started}`;
    const server = await startServer(name, { ...serverOptions, folderName });
    if (!this.versions.includes(server.version)) this.versions.push(server.version);
    return server;
  }

  async #found(): Promise<ServerName[]> {
    const { names, leftOut } = this.#options;
    const found: ServerName[] = [];
    for (const name of names) {
      try {
        if (!this.#fresh.has(name)) this.#fresh.set(name, await this.#start(name));
        found.push(name);
      } catch (error) {
        if (!(error instanceof MissingError)) throw error;
        leftOut(`${name} is left out: ${error.message}`);
      }
    }
    return found;
  }

  async #ceiling({ connections, channels }: CrowdRow, name: ServerName): Promise<number> {
    const protocol = PROTOCOL_OF[name];
    progress(`the crowd's ceiling with ${protocol}'s protocol`);
    const figures = [];
    for (let i = 0; i < CEILING_RUNS; i++) {
      const run = await this.#options.crowd.run({
        protocol,
        connections,
        channels,
        restSeconds: 0,
      });
      figures.push(run.per_s);
    }
    return Math.max(...figures);
  }
}
