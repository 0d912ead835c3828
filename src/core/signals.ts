// The signals of the system: those that end the process, and those that ask for something else.

import * as inspector from "node:inspector";

/** Signals that come this close together are one, ms. */
const SAME_SIGNAL_MS = 50;

/** Resolves at the first SIGINT or SIGTERM; at a further one `onSecond` is called. */
export function untilStopSignal(onSecond: () => void): Promise<void> {
  return new Promise((resolve) => {
    let firstMs: number | null = null;
    const onSignal = () => {
      firstMs ??= performance.now();
      // Ctrl-C reaches a whole process group, and `deno task` passes it on once more: that is one.
      if (performance.now() - firstMs > SAME_SIGNAL_MS) onSecond();
      resolve();
    };
    Deno.addSignalListener("SIGINT", onSignal);
    Deno.addSignalListener("SIGTERM", onSignal);
  });
}

/** How often, and for how long, it is looked whether the runtime has opened its debugger, ms. */
const DEBUGGER_LOOK_MS = 1;
const DEBUGGER_WATCH_MS = 2000;

/**
 * Keeps the runtime from being debugged by whoever reaches loopback: Deno from 2.9.2 on opens a debugger,
 * which can do everything, at SIGUSR1, which has asked servers for other things for decades. It cannot be
 * told not to, so it is closed as soon as it is open.
 */
export function closeDebuggerAtSignal(): void {
  if (Deno.build.os === "windows") return;
  Deno.addSignalListener("SIGUSR1", () => {
    const untilMs = performance.now() + DEBUGGER_WATCH_MS;
    const look = () => {
      if (isDebuggerOpen()) inspector.close();
      // It may be opened a moment later than the signal is told here.
      else if (performance.now() < untilMs) setTimeout(look, DEBUGGER_LOOK_MS);
    };
    look();
  });
}

function isDebuggerOpen(): boolean {
  try {
    return inspector.url() !== undefined;
  } catch {
    // Older ones have none.
    return false;
  }
}
