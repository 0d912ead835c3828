// Compiles the load generator and runs it.

import { compile } from "./compile.ts";
import type { Processes } from "./processes.ts";
import { isWide, type Row } from "./rows.ts";

/** What the generators speak; `pushd-json` is pushd's other form of deliveries. */
export const PROTOCOLS = ["pushd", "pushd-json", "nats", "redis", "mqtt"] as const;
export type Protocol = typeof PROTOCOLS[number];

export interface Latencies {
  p50: number;
  p90: number;
  p99: number;
  p999: number;
  max: number;
}

/** The line that the generator prints. Rates are those of the measured time, counts those of the whole run. */
export interface Run {
  published: number;
  deliveries: number;
  /** Measured time. */
  seconds: number;
  publishes_per_s: number;
  deliveries_per_s: number;
  /** Cores in use: 1 is one core all the time. */
  generator_cpu: number;
  server_cpu: number;
  /** Of that, by the subscribers' server where it is another one. */
  subscribers_cpu?: number;
  /** By neither of the two. */
  other_cpu: number;
  lost: number;
  duplicated: number;
  disordered: number;
  corrupt: number;
  /** Subscribers that the server disconnected. */
  cut: number;
  /** Error lines. */
  errors: number;
  /** Messages whose acknowledgement did not come. */
  unanswered: number;
  /** It ended because nothing came any more. */
  stalled: boolean;
  /** The first line that was not as it should be. */
  problem?: string;
  latency_us?: Latencies;
  /** How late the generator itself sent. */
  send_delay_us?: Latencies;
}

/** A server to be measured. */
export interface Endpoint {
  port: number;
  pid: number;
}

export interface RunOptions {
  protocol: Protocol;
  row: Row;
  seconds: number;
  warmupSeconds: number;
  /** Messages per second; without it as fast as the window allows. */
  rate?: number;
  /** Without it the generator's own null server, which tells the generator's ceiling. */
  server?: Endpoint & { subscribersAt?: Endpoint };
  /** Further arguments of the generator. */
  extra?: string[];
}

/** The generator could not run to its end. */
export class LoadgenError extends Error {
  override readonly name = "LoadgenError";
}

/**
 * Bytes on their way to all subscribers, where the usual 64 MiB would be seconds of work: publishing and delivering
 * would not be as fast as each other within a run.
 */
const SMALL_IN_FLIGHT = 4 << 20;

export class Loadgen {
  private constructor(
    readonly path: string,
    readonly processes: Processes,
    /** Connections are over TLS; the null server shows this certificate. */
    readonly tls?: { cert: string; key: string },
  ) {}

  /** Compiles into the folder. Throws a `CompileError`. */
  static async compile(
    folder: string,
    processes: Processes,
    tls?: { cert: string; key: string },
  ): Promise<Loadgen> {
    const sources = ["loadgen.c", "drive.c", "dial.c", "null_server.c"];
    if (tls === undefined) {
      return new Loadgen(await compile("loadgen", sources, folder, processes), processes);
    }
    const more = ["-DWITH_TLS", "-lssl", "-lcrypto"];
    const path = await compile("loadgen-tls", [...sources, "conn.c"], folder, processes, more);
    return new Loadgen(path, processes, tls);
  }

  /** One run. What went wrong with messages is in the result; a {@link LoadgenError} is thrown for the rest. */
  async run(options: RunOptions): Promise<Run> {
    const { protocol, row, seconds, warmupSeconds, rate, server, extra = [] } = options;
    const far = server?.subscribersAt;
    const values = {
      protocol,
      publishers: row.publishers,
      channels: row.channels,
      subscribers: row.subscribers,
      ...(row.connections === undefined ? {} : { lanes: row.connections }),
      size: row.size,
      seconds,
      warmup: warmupSeconds,
      ...(rate === undefined ? {} : { rate }),
      ...(server === undefined ? {} : { port: server.port, "server-pid": server.pid }),
      ...(far === undefined ? {} : { "subscribers-port": far.port, "subscribers-pid": far.pid }),
    };
    const args = Object.entries(values).flatMap(([name, value]) => [`--${name}`, String(value)]);
    if (server === undefined) args.push("--null");
    if (row.zipf) args.push("--zipf");
    if (this.tls !== undefined) args.push("--tls-cert", this.tls.cert, "--tls-key", this.tls.key);
    if (protocol === "mqtt" || isWide(row)) args.push("--in-flight", String(SMALL_IN_FLIGHT));
    const { code, stdout, stderr } = await this.processes.run(this.path, [...args, ...extra]);
    if (code > 1 || stdout.length === 0) {
      throw new LoadgenError(`${protocol} ${row.id}: ${new TextDecoder().decode(stderr).trim()}`);
    }
    return JSON.parse(new TextDecoder().decode(stdout)) as Run;
  }
}

/** What was wrong with a run, for people; empty when nothing was. */
export function faultsOf(run: Run): string {
  const counts = {
    lost: run.lost,
    "got twice": run.duplicated,
    "out of order": run.disordered,
    changed: run.corrupt,
    "subscribers cut off": run.cut,
    "error lines": run.errors,
    unanswered: run.unanswered,
  };
  const faults = Object.entries(counts).filter(([, n]) => n > 0).map(([what, n]) => `${n} ${what}`);
  if (run.stalled) faults.push("stalled");
  if (run.problem !== undefined) faults.push(`first: ${run.problem}`);
  return faults.join(", ");
}
