// `deno task bench`: measures pushd, NATS and Redis side by side on this machine; see docs/benchmarks.md.
// deno-lint-ignore-file no-console

import { parseArgs } from "node:util";
import { Bench, progress, type Settings } from "./bench.ts";
import { CompileError, Loadgen, LoadgenError, type Protocol, PROTOCOLS } from "./loadgen.ts";
import { machine } from "./machine.ts";
import { Processes } from "./processes.ts";
import { formatLatency, formatRow, type LatencyReport, type RowReport } from "./report.ts";
import { DEFAULT_ROWS, parseRows, type Row, RowError } from "./rows.ts";
import {
  MissingError,
  type Server,
  StartError,
  startServer,
  type Storage,
  STORAGES,
} from "./servers.ts";

const USAGE = `deno task bench [options]

  --rounds N       runs of each row on each server, in turns (5)
  --rows LIST      publishers x subscribers, or publishers x channels x subscribers of each, and
                   @bytes (${DEFAULT_ROWS})
  --servers LIST   of ${PROTOCOLS.join(", ")} (all)
  --seconds S      measured time of a run (1.2)
  --warmup S       time before it that is not measured (0.3)
  --retries N      repeat a run that other work on the machine disturbed, at most N times, and keep
                   the least disturbed (0)
  --storage KIND   what pushd does beside delivering: ${STORAGES.join(", ")} (off)
  --latency N      measure latencies instead, at N deliveries per second
  --json           one JSON object on standard output, progress on standard error

PUSHD_BIN=path measures a compiled pushd instead of src/main.ts. CC=path names the C compiler.
Exits with 1 when a message was lost, changed, or came twice or out of order.`;

interface Options extends Settings {
  rows: Row[];
  servers: Protocol[];
  storage: Storage;
  /** Deliveries per second. */
  latency: number | null;
  json: boolean;
}

class UsageError extends Error {
  override readonly name = "UsageError";
}

function parseOptions(args: string[]): Options | null {
  const { values } = parseArgs({
    args,
    options: {
      help: { type: "boolean", short: "h", default: false },
      rounds: { type: "string", default: "5" },
      rows: { type: "string", default: DEFAULT_ROWS },
      servers: { type: "string", default: PROTOCOLS.join(",") },
      seconds: { type: "string", default: "1.2" },
      warmup: { type: "string", default: "0.3" },
      retries: { type: "string", default: "0" },
      storage: { type: "string", default: "off" },
      latency: { type: "string" },
      json: { type: "boolean", default: false },
    },
  });
  if (values.help) return null;
  return {
    rounds: wholeNumberOf("--rounds", values.rounds, 1, 1000),
    rows: parseRows(values.rows),
    servers: values.servers.split(",").map((name) => oneOf("--servers", name.trim(), PROTOCOLS)),
    seconds: numberOf("--seconds", values.seconds, 0.05, 3600),
    warmupSeconds: numberOf("--warmup", values.warmup, 0, 3600),
    retries: wholeNumberOf("--retries", values.retries, 0, 1000),
    storage: oneOf("--storage", values.storage, STORAGES),
    latency: values.latency === undefined ? null : numberOf("--latency", values.latency, 1, 1e8),
    json: values.json,
  };
}

function numberOf(name: string, text: string, least: number, most: number): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
  if (value >= least && value <= most) return value;
  throw new UsageError(`${name} wants a number from ${least} to ${most}, not "${text}"`);
}

function wholeNumberOf(name: string, text: string, least: number, most: number): number {
  const value = numberOf(name, text, least, most);
  if (Number.isInteger(value)) return value;
  throw new UsageError(`${name} wants a whole number, not "${text}"`);
}

function oneOf<T extends string>(name: string, text: string, words: readonly T[]): T {
  const word = words.find((word) => word === text);
  if (word === undefined) throw new UsageError(`${name} knows ${words.join(", ")}, not "${text}"`);
  return word;
}

async function startServers(
  options: Options,
  folder: string,
  processes: Processes,
): Promise<Server[]> {
  const servers: Server[] = [];
  for (const protocol of options.servers) {
    progress(`starting ${protocol}`);
    try {
      servers.push(await startServer(protocol, { folder, storage: options.storage, processes }));
    } catch (error) {
      if (!(error instanceof MissingError)) throw error;
      progress("");
      console.error(`${protocol} is left out: ${error.message}`);
    }
  }
  return servers;
}

async function bench(options: Options, folder: string, processes: Processes): Promise<number> {
  const loadgen = await Loadgen.compile(folder, processes);
  const servers = await startServers(options, folder, processes);
  const bench = new Bench(options, loadgen, servers);
  const setup = {
    machine: machine(),
    servers: servers.map(({ version }) => version),
    deno: Deno.version.deno,
    rounds: options.rounds,
    seconds: options.seconds,
    warmup_seconds: options.warmupSeconds,
  };
  progress("");
  if (!options.json) {
    console.log(`${setup.servers.join(", ")}; Deno ${setup.deno}; ${setup.machine}`);
    console.log(
      `${
        options.rounds === 1 ? "1 round" : `${options.rounds} rounds`
      } of ${options.seconds} s after ${options.warmupSeconds} s of warm-up`,
    );
    console.log(
      options.latency === null ? "deliveries/s: median (min – max)\n" : "medians of the rounds\n",
    );
  }
  const rows: (RowReport | LatencyReport)[] = [];
  for (const row of options.rows) {
    const report = options.latency === null
      ? await bench.throughput(row)
      : await bench.latency(row, options.latency);
    progress("");
    if (!options.json) {
      console.log("pushd_ratio" in report ? formatRow(report) : formatLatency(report));
    }
    rows.push(report);
  }
  if (options.json) console.log(JSON.stringify({ ...setup, rows, faults: bench.faults }, null, 2));
  for (const fault of bench.faults) console.error(`WRONG: ${fault}`);
  return bench.faults.length > 0 ? 1 : 0;
}

async function main(args: string[]): Promise<number> {
  let options: Options | null;
  try {
    options = parseOptions(args);
  } catch (error) {
    // node:util reports an unknown option as a TypeError.
    if (!(error instanceof UsageError || error instanceof RowError || error instanceof TypeError)) {
      throw error;
    }
    console.error(`${error.message}\n\n${USAGE}`);
    return 2;
  }
  if (options === null) {
    console.log(USAGE);
    return 0;
  }
  const folder = await Deno.makeTempDir({ prefix: "pushd-bench-" });
  const processes = new Processes();
  let interrupted = false;
  const interrupt = () => {
    interrupted = true;
    processes.stop();
  };
  Deno.addSignalListener("SIGINT", interrupt);
  Deno.addSignalListener("SIGTERM", interrupt);
  try {
    return await bench(options, folder, processes);
  } catch (error) {
    if (interrupted) return 130;
    progress("");
    if (
      error instanceof CompileError || error instanceof StartError || error instanceof LoadgenError
    ) {
      console.error(error.message);
      return 1;
    }
    throw error;
  } finally {
    await processes.stop();
    await Deno.remove(folder, { recursive: true });
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
