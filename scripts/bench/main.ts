// `deno task bench`: measures pushd and its peers side by side on this machine; see docs/performance.md.
// deno-lint-ignore-file no-console

import { parseArgs } from "node:util";
import { Asker } from "./asker.ts";
import { Bench, progress, type Settings } from "./bench.ts";
import { CompileError } from "./compile.ts";
import { Crowd } from "./crowd.ts";
import { formatCrowd } from "./crowd_report.ts";
import { startFleet } from "./fleet.ts";
import { CrowdRows } from "./crowd_rows.ts";
import { DiskError, diskLine, makeFolder } from "./disk.ts";
import { formatAnswers, formatWriting } from "./kept_report.ts";
import { reportWriting } from "./kept_report.ts";
import { KeptRows } from "./kept_rows.ts";
import { KeptServers } from "./kept_servers.ts";
import { type ServerName, SERVERS, type Storage, STORAGES } from "./known_servers.ts";
import { Loadgen, LoadgenError } from "./loadgen.ts";
import { machine } from "./machine.ts";
import { Processes } from "./processes.ts";
import { markdownOf } from "./markdown.ts";
import { formatLatency, formatRow } from "./report.ts";
import type { Report, Results } from "./results.ts";
import {
  type AnyRow,
  DEFAULT_ROWS,
  parseRows,
  type Row,
  RowError,
  type WritingRow,
} from "./rows.ts";
import { StartError } from "./servers.ts";

const USAGE = `deno task bench [options]

  --rounds N       runs of each row on each server, in turns (5)
  --rows LIST      which rows, or groups of them
                   (${DEFAULT_ROWS}):
                   1x100, 4x100x1, 1x1@1024: publishers x subscribers, or publishers x channels x
                   subscribers of each, and @bytes; zipf:4x100000: publishers x channels, some popular
                   link:1x100: the same with subscribers at another server than publishers, the two
                   being linked
                   json:1x1: pushd's JSON form beside its text form; tls:1x1: over TLS
                   at:20000:1x1, at:half:1x1: latencies at so many deliveries per second, or at half
                   of what each server can
                   durable:100, durable:100x32: publishers, each with so many unacknowledged, of
                   messages that are acknowledged when they are on the disk
                   his:cache:16, his:store:16: pages of history, so many at a time
                   writing:1x100: a fan-out of pushd beside each way to keep messages
                   connect:5000: how fast so many connections are taken
                   idle:10000: what each of so many costs in memory
  --servers LIST   of ${SERVERS.join(", ")} (all)
  --seconds S      measured time of a run (1.2)
  --warmup S       time before it that is not measured (0.3)
  --retries N      repeat a run that other work on the machine disturbed, at most N times, and keep
                   the least disturbed (0)
  --storage KIND   what pushd does beside delivering: ${STORAGES.join(", ")} (off; where messages
                   are to be kept, sqlite)
  --dir PATH       where the servers keep their files: a folder on a disk (the temporary folder)
  --latency N      measure latencies instead, at N deliveries per second or at "half" of what each
                   can; those across a link beside those without it
  --markdown FILE  write tables of the results there
  --json           one JSON object on standard output, progress on standard error

PUSHD_BIN=path names the compiled pushd (bin/pushd.linux), NATS_BIN=path the nats-server (that of
"go install", else that on PATH), CC=path the C compiler.
Exits with 1 when a message was lost, changed, or came twice or out of order, or was not acknowledged.`;

interface Options extends Settings {
  rows: AnyRow[];
  servers: ServerName[];
  storage: Storage;
  dir?: string;
  /** Deliveries per second. */
  latency: number | "half" | null;
  markdown?: string;
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
      servers: { type: "string", default: SERVERS.join(",") },
      seconds: { type: "string", default: "1.2" },
      warmup: { type: "string", default: "0.3" },
      retries: { type: "string", default: "0" },
      storage: { type: "string", default: "off" },
      dir: { type: "string" },
      latency: { type: "string" },
      markdown: { type: "string" },
      json: { type: "boolean", default: false },
    },
  });
  if (values.help) return null;
  return {
    rounds: wholeNumberOf("--rounds", values.rounds, 1, 1000),
    rows: parseRows(values.rows),
    servers: values.servers.split(",").map((name) => oneOf("--servers", name.trim(), SERVERS)),
    seconds: numberOf("--seconds", values.seconds, 0.05, 3600),
    warmupSeconds: numberOf("--warmup", values.warmup, 0, 3600),
    retries: wholeNumberOf("--retries", values.retries, 0, 1000),
    storage: oneOf("--storage", values.storage, STORAGES),
    dir: values.dir,
    latency: latencyOf(values.latency),
    markdown: values.markdown,
    json: values.json,
  };
}

function numberOf(name: string, text: string, least: number, most: number): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
  if (value >= least && value <= most) return value;
  throw new UsageError(`${name} wants a number from ${least} to ${most}, not "${text}"`);
}

function latencyOf(text: string | undefined): number | "half" | null {
  if (text === undefined) return null;
  return text === "half" ? text : numberOf("--latency", text, 1, 1e8);
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

const toldLeftOut = new Set<string>();

/** Says it once: several rows may miss the same server. */
function leftOut(why: string): void {
  if (toldLeftOut.has(why)) return;
  toldLeftOut.add(why);
  progress("");
  console.error(why);
}

/** The load at which latencies of the row are measured, or null: its throughput is. */
function loadOf(row: Row, { latency }: Options): number | "half" | null {
  return row.at ?? latency;
}

/** As {@link loadOf}. Half of what each can would be another load for each: there it is throughput. */
function writingLoadOf({ row }: WritingRow, options: Options): number | null {
  const load = loadOf(row, options);
  return load === "half" ? null : load;
}

/** What a row is measured with. */
interface Parts {
  options: Options;
  bench: Bench;
  kept: KeptRows;
  keptServers: KeptServers;
  crowds: CrowdRows;
}

/** Measures a row; the text is for people. Null when no server for it was found. */
async function measure(
  row: AnyRow,
  { options, bench, kept, keptServers, crowds }: Parts,
): Promise<{ report: Report; text: string } | null> {
  if (!("kind" in row)) {
    if (!bench.canMeasure(row)) return null;
    const load = loadOf(row, options);
    if (load === null) {
      const report = await bench.throughput(row);
      return { report, text: formatRow(report) };
    }
    const report = await bench.latency(row, load);
    return { report, text: formatLatency(report) };
  }
  if (row.kind === "durable") {
    const contenders = await keptServers.durable();
    if (contenders.length === 0) return null;
    const report = await kept.durable(row, contenders);
    return { report, text: formatAnswers(report) };
  }
  if (row.kind === "his") {
    const libraries = await keptServers.libraries(row.from);
    if (libraries.length === 0) return null;
    const report = await kept.history(row, libraries);
    return { report, text: formatAnswers(report) };
  }
  if (row.kind === "writing") {
    const servers = await keptServers.writing();
    if (servers.size === 0) return null;
    const load = writingLoadOf(row, options);
    const runs = await kept.writing(row, servers, load);
    const report = reportWriting(row, runs, load);
    return { report, text: formatWriting(report) };
  }
  const report = await crowds.measure(row);
  return report === null ? null : { report, text: formatCrowd(report) };
}

async function bench(options: Options, folder: string, processes: Processes): Promise<number> {
  const [loadgen, asker, crowd] = await Promise.all([
    Loadgen.compile(folder, processes),
    Asker.compile(folder, processes),
    Crowd.compile(folder, processes),
  ]);
  const { latency, rows, servers: names, storage } = options;
  const fleetOptions = { rows, latency, names, storage, folder, processes, leftOut };
  const { servers, pairs, secured } = await startFleet(fleetOptions);
  const bench = new Bench(options, loadgen, servers, pairs, secured);
  const kept = new KeptRows(options, asker, loadgen);
  const keptServers = new KeptServers({ folder, processes, names, storage, leftOut });
  const serverOptions = { folder, processes, storage };
  const crowds = new CrowdRows({ settings: options, crowd, names, serverOptions, leftOut });
  const setup = {
    command: ["deno task bench", ...Deno.args].join(" "),
    date: new Date().toISOString().slice(0, 10),
    machine: machine(),
    disk: await diskLine(folder),
    deno: Deno.version.deno,
    rounds: options.rounds,
    seconds: options.seconds,
    warmup_seconds: options.warmupSeconds,
  };
  progress("");
  const say = (text: string) => {
    if (!options.json) console.log(text);
  };
  const started = [...servers, ...pairs, ...secured?.servers ?? []];
  const versions = [...new Set(started.map(({ version }) => version))];
  say([...versions, `Deno ${setup.deno}`, setup.machine, setup.disk].join("; "));
  const rounds = options.rounds === 1 ? "1 round" : `${options.rounds} rounds`;
  say(`${rounds} of ${options.seconds} s after ${options.warmupSeconds} s of warm-up`);
  say(options.latency === null ? "median (min – max)\n" : "medians of the rounds\n");
  const reports: Report[] = [];
  const told = new Set(versions);
  for (const row of rows) {
    const measured = await measure(row, { options, bench, kept, keptServers, crowds })
      .catch((error) => {
        // The other rows have taken the better part of an hour.
        if (!(error instanceof LoadgenError)) throw error;
        leftOut(`${row.id} is left out: ${error.message}`);
        return null;
      });
    progress("");
    const added = [...keptServers.versions, ...crowds.versions].filter((version) =>
      !told.has(version)
    );
    if (added.length > 0) say(`${added.join(", ")}\n`);
    for (const version of added) told.add(version);
    if (measured === null) continue;
    say(measured.text);
    reports.push(measured.report);
  }
  const faults = [...bench.faults, ...kept.faults, ...crowds.faults];
  const silent = [...kept.silent];
  const results: Results = { ...setup, servers: [...told], rows: reports, faults, silent };
  if (options.json) console.log(JSON.stringify(results, null, 2));
  if (options.markdown !== undefined) {
    await Deno.writeTextFile(options.markdown, markdownOf(results));
  }
  for (const where of silent) console.error(`no answer for 5 s: ${where}`);
  for (const fault of faults) console.error(`WRONG: ${fault}`);
  return faults.length > 0 ? 1 : 0;
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
  let folder: string;
  try {
    folder = await makeFolder(options.dir);
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    console.error(error.message);
    return 2;
  }
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
