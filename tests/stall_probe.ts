// Loaded into a server under test before its own code: sees how long its event loop does not turn.
//
// A timer of 2 ms looks how late it is. At the port PUSHD_TEST_STALLS whoever connects gets the longest
// stall since the last one who did, as the JSON of a ProbedStall.

import process from "node:process";

/** The longest time in which the event loop did not turn. */
export interface ProbedStall {
  ms: number;
  /**
   * Processor time that all threads of the server used meanwhile, ms: less than `ms` where the machine
   * was busy with others, so that the smaller of both is what was our own.
   */
  cpuMs: number;
}

const PERIOD_MS = 2;

if (Deno.env.has("PUSHD_TEST_STALLS")) watch(Number(Deno.env.get("PUSHD_TEST_STALLS")));

function watch(port: number): void {
  let longest: ProbedStall = { ms: 0, cpuMs: 0 };
  let lastMs = performance.now();
  let lastCpuMs = cpuMs();
  const look = () => {
    const nowMs = performance.now();
    const nowCpuMs = cpuMs();
    const stall = { ms: nowMs - lastMs - PERIOD_MS, cpuMs: nowCpuMs - lastCpuMs };
    if (ownMs(stall) > ownMs(longest)) longest = stall;
    lastMs = nowMs;
    lastCpuMs = nowCpuMs;
  };
  // Nothing here keeps the process alive: the server is not begun before what is loaded first is idle.
  Deno.unrefTimer(setInterval(look, PERIOD_MS));
  const listener = Deno.listen({ hostname: "127.0.0.1", port });
  listener.unref();
  (async () => {
    for await (const conn of listener) {
      look();
      const bytes = new TextEncoder().encode(`${JSON.stringify(longest)}\n`);
      longest = { ms: 0, cpuMs: 0 };
      await conn.write(bytes);
      conn.close();
    }
  })();
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** What of a stall was the server's own work, ms. */
export function ownMs({ ms, cpuMs }: ProbedStall): number {
  return Math.min(ms, cpuMs);
}
