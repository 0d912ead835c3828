// What the process and its machine are doing, for operators; needs no permission.

import process from "node:process";
import { processUsage } from "./process_usage.ts";
import { runningTasks } from "./spawn.ts";
import { VERSION } from "./version.ts";

/** The answer of /s/sys. `openFiles` are those that clients hold. */
export function systemView(
  { eventLoopLagMs, clientFiles, fileLimit }: {
    eventLoopLagMs: number;
    clientFiles: number;
    fileLimit: number;
  },
) {
  const { rss, heapTotal, heapUsed, external } = Deno.memoryUsage();
  const usage = process.resourceUsage();
  const { startS } = processUsage();
  return {
    memory: {
      resident_bytes: rss,
      heap_total_bytes: heapTotal,
      heap_used_bytes: heapUsed,
      external_bytes: external,
      resident_most_bytes: usage.maxRSS * 1024,
    },
    rusage: {
      user_s: usage.userCPUTime / 1e6,
      system_s: usage.systemCPUTime / 1e6,
      minor_page_faults: usage.minorPageFault,
      major_page_faults: usage.majorPageFault,
      voluntary_context_switches: usage.voluntaryContextSwitches,
      involuntary_context_switches: usage.involuntaryContextSwitches,
      block_reads: usage.fsRead,
      block_writes: usage.fsWrite,
    },
    event_loop: { lag_ms: rounded(eventLoopLagMs) },
    files: {
      clients: clientFiles,
      limit: Number.isFinite(fileLimit) ? fileLimit : null,
    },
    started_at: new Date(startS * 1000).toISOString(),
    pid: Deno.pid,
    versions: { pushd: VERSION, ...Deno.version },
    platform: `${Deno.build.os} ${Deno.build.arch}`,
  };
}

/** The answer of /s/trace. */
export function traceView() {
  const resources: Record<string, number> = {};
  for (const kind of process.getActiveResourcesInfo()) resources[kind] = (resources[kind] ?? 0) + 1;
  return { tasks: runningTasks(), resources };
}

function rounded(ms: number): number {
  return Math.round(ms * 100) / 100;
}
