// The signals of the system: those that end the process, and those that ask for something else.

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
