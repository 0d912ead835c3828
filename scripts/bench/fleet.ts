// The servers that the rows of a fan-out are measured on: single ones, linked pairs, and those over TLS.

import { progress } from "./bench.ts";
import { MissingError, type ServerName, type ServerOptions } from "./known_servers.ts";
import type { Loadgen } from "./loadgen.ts";
import { startPair } from "./pairs.ts";
import type { AnyRow, Row } from "./rows.ts";
import { type Server, startServer } from "./servers.ts";
import { compileTls, makeCertificate } from "./tls.ts";

export interface Fleet {
  servers: Server[];
  pairs: Server[];
  /** Null where no row is over TLS, or something for it is missing. */
  secured: { loadgen: Loadgen; servers: Server[] } | null;
}

export interface FleetOptions extends Pick<ServerOptions, "folder" | "processes" | "storage"> {
  rows: readonly AnyRow[];
  names: readonly ServerName[];
  /** Latencies are measured in rows that do not say so themselves. */
  latency: number | "half" | null;
  /** Told when a server is left out, and why. */
  leftOut: (what: string) => void;
}

/** Starts what the rows need. Throws a `StartError`. */
export async function startFleet(options: FleetOptions): Promise<Fleet> {
  const { folder, processes, storage, latency } = options;
  const settings = { folder, processes, storage };
  const rows = options.rows.filter((row): row is Row => !("kind" in row));
  // Latencies across a link stand beside those without it.
  const isAlone = (row: Row) => !row.tls && (!row.linked || (row.at ?? latency) !== null);
  const fleet: Fleet = { servers: [], pairs: [], secured: null };
  if (rows.some(isAlone)) {
    fleet.servers = await startEach(options, (name) => startServer(name, settings));
  }
  if (rows.some(({ linked }) => linked)) {
    fleet.pairs = await startEach(options, (name) => startPair(name, settings));
  }
  if (rows.some(({ tls }) => tls)) fleet.secured = await startSecured(options);
  return fleet;
}

async function startSecured(options: FleetOptions): Promise<Fleet["secured"]> {
  const { folder, processes, storage, leftOut } = options;
  try {
    const tls = await makeCertificate(folder, processes);
    const loadgen = await compileTls(folder, processes, tls);
    const servers = await startEach(options, (name) => {
      return startServer(name, { folder, processes, storage, tls, folderName: `tls-${name}` });
    });
    return { loadgen, servers };
  } catch (error) {
    if (!(error instanceof MissingError)) throw error;
    leftOut(`rows over TLS are left out: ${error.message}`);
    return null;
  }
}

async function startEach(
  { names, leftOut }: FleetOptions,
  start: (name: ServerName) => Promise<Server>,
): Promise<Server[]> {
  const servers: Server[] = [];
  for (const name of names) {
    progress(`starting ${name}`);
    try {
      servers.push(await start(name));
    } catch (error) {
      if (!(error instanceof MissingError)) throw error;
      leftOut(`${name} is left out: ${error.message}`);
    }
  }
  return servers;
}
