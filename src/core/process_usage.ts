// What this process has used of the machine so far.

import process from "node:process";

/** See {@linkcode processUsage}. */
export interface ProcessUsage {
  /** Time on the processor, of the system for it included, seconds. */
  cpuS: number;
  /** Memory that it holds now. */
  residentBytes: number;
  /** When it started, seconds since the Unix epoch. */
  startS: number;
}

/** Asks the system; needs no permission. */
export function processUsage(): ProcessUsage {
  const { user, system } = process.cpuUsage();
  return {
    cpuS: (user + system) / 1e6,
    residentBytes: Deno.memoryUsage().rss,
    startS: performance.timeOrigin / 1000,
  };
}
