// Compiles the crowd, which opens many connections, and runs it.

import { compile } from "./compile.ts";
import { type Latencies, LoadgenError, type Protocol } from "./loadgen.ts";
import type { Processes } from "./processes.ts";

/** The line that the crowd prints. */
export interface CrowdRun {
  connections: number;
  /** From the first connection to the answer to the last subscription. */
  seconds: number;
  per_s: number;
  /** Cores in use: 1 is one core all the time. */
  generator_cpu: number;
  server_cpu: number;
  /** By neither of the two. */
  other_cpu: number;
  /** Connections that the server had closed at the end. */
  cut: number;
  /** From connecting to the answer to the subscription. */
  wait_us: Latencies;
  /** What the server's process grew by for one connection, in bytes of resident memory. */
  process_bytes: number;
  /** The same for the kernel's objects and for what waits in sockets: of both ends, and of the whole machine. */
  slab_bytes: number;
  buffer_bytes: number;
}

export interface CrowdOptions {
  protocol: Protocol;
  connections: number;
  /** Each connection is subscribed to one of so many. */
  channels: number;
  /** How long memory comes to rest before it is looked at, before and after; 0 where it does not matter. */
  restSeconds: number;
  /** Without it the crowd's own null server, which tells the crowd's ceiling. */
  server?: { port: number; pid: number };
}

export class Crowd {
  private constructor(readonly path: string, readonly processes: Processes) {}

  /** Compiles into the folder. Throws a `CompileError`. */
  static async compile(folder: string, processes: Processes): Promise<Crowd> {
    return new Crowd(
      await compile("crowd", ["crowd.c", "crowd_null.c"], folder, processes),
      processes,
    );
  }

  /** One run. Throws a {@link LoadgenError} when a connection was refused or not answered. */
  async run(options: CrowdOptions): Promise<CrowdRun> {
    const { protocol, connections, channels, restSeconds: rest, server } = options;
    const values = { protocol, connections, channels, rest };
    const args = Object.entries(values).flatMap(([name, value]) => [`--${name}`, String(value)]);
    args.push(
      ...server === undefined
        ? ["--null"]
        : ["--port", String(server.port), "--server-pid", String(server.pid)],
    );
    const { code, stdout, stderr } = await this.processes.run(this.path, args);
    if (code > 1 || stdout.length === 0) {
      throw new LoadgenError(
        `${protocol}, ${connections} connections: ${new TextDecoder().decode(stderr).trim()}`,
      );
    }
    return JSON.parse(new TextDecoder().decode(stdout)) as CrowdRun;
  }
}
