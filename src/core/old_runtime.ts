// What an older runtime keeps a server from doing, for the log: a compiled program holds the one of the
// Deno that has compiled it.

/** The backlog of every listener of a runtime that does not look at `tcpBacklog`. */
const FIXED_BACKLOG = 128;

/**
 * What clients will notice of an old runtime (Deno 2.4), as a sentence for the log; null on one that has it
 * all. docs/operations.md lists what operators will.
 */
export function oldRuntimeNote(): string | null {
  if (heedsBacklog()) return null;
  return `Deno ${Deno.version.deno} is old: tcp_backlog has no effect (${FIXED_BACKLOG} connections wait), ` +
    "and a client that stops reading holds its file until it leaves; docs/operations.md says what else " +
    "differs, and a program compiled with 2.9 has all of it";
}

/**
 * Whether `setImmediate` takes a millisecond and not some microseconds: it does where timers are numbers
 * (Deno 2.4). Not measured, since a server that starts on a busy machine would measure that.
 */
export function isImmediateSlow(): boolean {
  const timer: unknown = setTimeout(() => {}, 0);
  clearTimeout(timer as number);
  return typeof timer === "number";
}

/** Says nothing of itself where it does not: whether the option is read at all. */
function heedsBacklog(): boolean {
  let isRead = false;
  const options = {
    hostname: "127.0.0.1",
    port: 0,
    get tcpBacklog() {
      isRead = true;
      return FIXED_BACKLOG;
    },
  };
  try {
    Deno.listen(options).close();
  } catch {
    // No loopback, or no file left: where it is read at all, it has been.
  }
  return isRead;
}
