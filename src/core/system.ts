// What the process and its machine are doing, for operators; needs no permission.

import process from "node:process";
import type { EventLoopMonitor } from "./event_loop.ts";
import { openFileCount } from "./open_files.ts";
import { processUsage } from "./process_usage.ts";
import { runningTasks } from "./spawn.ts";
import { VERSION } from "./version.ts";

/** Over so long the greatest lag is shown, ms: nobody who looks every 15 s misses any. */
export const LAG_WINDOW_MS = 15_000;

/** The answer of /s/sys. `clientFiles` are those that clients hold. */
export function systemView(
  { eventLoop, clientFiles, fileLimit }: {
    eventLoop: EventLoopMonitor;
    clientFiles: number;
    fileLimit: number;
  },
) {
  const { rss, heapTotal, heapUsed, external } = Deno.memoryUsage();
  // Deno 2.4 has the processor's time only.
  const usage = "resourceUsage" in process ? process.resourceUsage() : null;
  const { user, system } = process.cpuUsage();
  const { startS } = processUsage();
  return {
    memory: {
      resident_bytes: rss,
      heap_total_bytes: heapTotal,
      heap_used_bytes: heapUsed,
      external_bytes: external,
      resident_most_bytes: usage === null ? null : usage.maxRSS * 1024,
    },
    rusage: {
      user_s: user / 1e6,
      system_s: system / 1e6,
      minor_page_faults: usage?.minorPageFault ?? null,
      major_page_faults: usage?.majorPageFault ?? null,
      voluntary_context_switches: usage?.voluntaryContextSwitches ?? null,
      involuntary_context_switches: usage?.involuntaryContextSwitches ?? null,
      block_reads: usage?.fsRead ?? null,
      block_writes: usage?.fsWrite ?? null,
    },
    event_loop: lagView(eventLoop),
    files: {
      open: openFileCount(),
      clients: clientFiles,
      limit: Number.isFinite(fileLimit) ? fileLimit : null,
    },
    started_at: new Date(startS * 1000).toISOString(),
    pid: Deno.pid,
    versions: { pushd: VERSION, ...Deno.version },
    platform: `${Deno.build.os} ${Deno.build.arch}`,
  };
}

/**
 * The answer of /s/trace. `resources`: how many there are of what, beside what the runtime counts;
 * `pending`: how much of what is under way. Both under the names that are shown.
 */
export function traceView(
  { eventLoop, resources, pending }: {
    eventLoop: EventLoopMonitor;
    resources: Readonly<Record<string, number>>;
    pending: Readonly<Record<string, number>>;
  },
) {
  const counts: Record<string, number> = { ...resources };
  // Not in Deno 2.4.
  const kinds = "getActiveResourcesInfo" in process ? process.getActiveResourcesInfo() : [];
  for (const kind of kinds) {
    const name = kind.toLowerCase();
    counts[name] = (counts[name] ?? 0) + 1;
  }
  const nowMs = Date.now();
  return {
    tasks: runningTasks().map(({ name, count, oldestMs, newestMs }) => ({
      name,
      count,
      oldest_at: isoTime(nowMs - oldestMs),
      newest_at: isoTime(nowMs - newestMs),
    })),
    resources: counts,
    pending,
    event_loop: {
      ...lagView(eventLoop),
      stalls: eventLoop.stalls().map(({ atMs, ms, cpuMs, turns }) => ({
        at: isoTime(atMs),
        ms: rounded(ms),
        cpu_ms: rounded(cpuMs),
        turns,
      })),
    },
  };
}

function lagView(eventLoop: EventLoopMonitor) {
  return {
    lag_ms: rounded(eventLoop.lagMs),
    lag_max_15s_ms: rounded(eventLoop.maxSince(LAG_WINDOW_MS)),
  };
}

function isoTime(ms: number): string {
  return new Date(ms).toISOString();
}

function rounded(ms: number): number {
  return Math.round(ms * 100) / 100;
}
