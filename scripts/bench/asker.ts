// Compiles and runs the asker: the generator of requests whose answers are counted.

import { compile } from "./compile.ts";
import { type Latencies, LoadgenError } from "./loadgen.ts";
import type { Processes } from "./processes.ts";

/** What is asked for a page of messages that are kept. */
export const PAGE_QUESTIONS = ["his", "xrange"] as const;
/** Beside it: three ways to have a message kept and acknowledged, and one to have it kept only. */
export const QUESTIONS = ["pub", "xadd", "xadd-publish", "jetstream", ...PAGE_QUESTIONS] as const;
export type Question = typeof QUESTIONS[number];

/** The line that the asker prints. Rates are those of the measured time, counts those of the whole run. */
export interface AskRun {
  asked: number;
  answered: number;
  /** Measured time. */
  seconds: number;
  answers_per_s: number;
  /** Cores in use: 1 is one core all the time. */
  generator_cpu: number;
  server_cpu: number;
  /** By neither of the two. */
  other_cpu: number;
  /** Answers that were errors; the run ends at the first. */
  errors: number;
  /** Answers that were not understood, or not what they had to be. */
  odd: number;
  /** Answers whose id was not after that of the one before on the same connection. */
  disordered: number;
  unanswered: number;
  /** It ended because no answer came any more. */
  stalled: boolean;
  /** The first answer that was not as it should be. */
  problem?: string;
  /** From the request to its answer. */
  latency_us: Latencies;
}

export interface AskOptions {
  question: Question;
  connections: number;
  /** Requests that each of them may have outstanding. */
  window: number;
  /** Bytes of a message. */
  size: number;
  seconds: number;
  warmupSeconds: number;
  /** Without it the asker's own null server, which tells the asker's ceiling. */
  server?: { port: number; pid: number };
  /** Further arguments. */
  extra?: readonly string[];
}

export class Asker {
  private constructor(readonly path: string, readonly processes: Processes) {}

  /** Compiles into the folder. Throws a `CompileError`. */
  static async compile(folder: string, processes: Processes): Promise<Asker> {
    const path = await compile("asker", ["asker.c", "ask_null.c"], folder, processes);
    return new Asker(path, processes);
  }

  /** One run. What was wrong with answers is in the result; a {@link LoadgenError} is thrown for the rest. */
  async run(options: AskOptions): Promise<AskRun> {
    const { question, connections, window, size, seconds, warmupSeconds, server, extra = [] } =
      options;
    const values = {
      ask: question,
      connections,
      window,
      size,
      seconds,
      warmup: warmupSeconds,
      ...(server === undefined ? {} : { port: server.port, "server-pid": server.pid }),
    };
    const args = Object.entries(values).flatMap(([name, value]) => [`--${name}`, String(value)]);
    if (server === undefined) args.push("--null");
    const { code, stdout, stderr } = await this.processes.run(this.path, [...args, ...extra]);
    if (code > 1 || stdout.length === 0) {
      throw new LoadgenError(`${question}: ${new TextDecoder().decode(stderr).trim()}`);
    }
    return JSON.parse(new TextDecoder().decode(stdout)) as AskRun;
  }
}

/** Whether nothing was wrong but that no answer came any more: with a server that syncs for each message it may take long. */
export function isOnlySilent({ stalled, errors, odd, disordered }: AskRun): boolean {
  return stalled && errors + odd + disordered === 0;
}

/** What was wrong with a run, for people; empty when nothing was. */
export function askFaultsOf(run: AskRun): string {
  const counts = {
    refused: run.errors,
    "not understood": run.odd,
    "out of order": run.disordered,
    unanswered: run.unanswered,
  };
  const faults = Object.entries(counts).filter(([, n]) => n > 0).map(([what, n]) => `${n} ${what}`);
  if (run.stalled) faults.push("stalled");
  if (run.problem !== undefined) faults.push(`first: ${run.problem}`);
  return faults.join(", ");
}
