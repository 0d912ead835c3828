// What a whole run of the benchmark found: the object that --json prints, and others read.

import type { CrowdReport } from "./crowd_report.ts";
import type { AskReport, WritingReport } from "./kept_report.ts";
import type { LatencyReport, RowReport } from "./report.ts";

export type Report = RowReport | LatencyReport | AskReport | WritingReport | CrowdReport;

export interface Results {
  /** As it was called. */
  command: string;
  /** `2026-01-31`, in UTC. */
  date: string;
  machine: string;
  disk: string;
  deno: string;
  rounds: number;
  /** Measured time of a run, and the time before it. */
  seconds: number;
  warmup_seconds: number;
  /** Names and versions. */
  servers: string[];
  rows: Report[];
  /** What was lost, changed, or came twice or out of order, in words. */
  faults: string[];
  /** Rows in which another server did not answer in time; its figure is what it did until then. */
  silent: string[];
}
