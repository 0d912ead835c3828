// How many files and sockets this process may have open.

import { fileLimits, type Libc, openLibc, raiseFileLimit } from "./libc.ts";
import { getLogger } from "./logger.ts";

/** A limit and where it is from, for the log. */
export interface OpenFileLimit {
  /** Number of open files; Infinity where there is no limit. */
  readonly limit: number;
  /** How it was found: `raised from 1024`, `getrlimit`, `getconf OPEN_MAX`, or that it is assumed. */
  readonly how: string;
}

/** What POSIX systems have used for decades where nobody said anything. */
const ASSUMED_LIMIT = 1024;

/**
 * Raises the limit as far as this process may, where it may load the C library: a compiled program, as
 * `deno run` has done it before. Otherwise asks `getconf OPEN_MAX`, which inherits the limit. (Reading
 * /proc/self/limits would need every permission there is.) Where that cannot be run either, 1024 is
 * assumed, and `how` says so. Both arguments are for tests.
 */
export async function openFileLimit(
  libc: Libc | null = openLibc(),
  command = "getconf",
): Promise<OpenFileLimit> {
  const raised = libc === null ? null : raisedLimit(libc);
  return raised ?? await askedLimit(command);
}

function raisedLimit(libc: Libc): OpenFileLimit | null {
  try {
    const before = fileLimits(libc);
    raiseFileLimit(libc);
    const now = fileLimits(libc);
    if (before === null || now === null) return null;
    const how = now.soft > before.soft ? `raised from ${before.soft}` : "getrlimit";
    return { limit: now.soft, how };
  } finally {
    libc.close();
  }
}

async function askedLimit(command: string): Promise<OpenFileLimit> {
  try {
    const { success, stdout } = await new Deno.Command(command, {
      args: ["OPEN_MAX"],
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).output();
    const answer = new TextDecoder().decode(stdout).trim();
    if (success && /^[1-9]\d*$/.test(answer)) {
      return { limit: Number(answer), how: "getconf OPEN_MAX" };
    }
    if (success && answer === "undefined") return { limit: Infinity, how: "getconf OPEN_MAX" };
  } catch (error) {
    getLogger("core").debug("the open-file limit could not be asked for", { error });
  }
  return { limit: ASSUMED_LIMIT, how: "assumed, as getconf gave no answer" };
}

const OWN_FILES = "/proc/self/fd";

/**
 * How many files and sockets this process has open; null where that cannot be known. Deno 2.9.6 lets
 * nobody look into /proc without every permission there is, and not all systems have one.
 */
export function openFileCount(): number | null {
  try {
    // The size of that folder is their number, since Linux 6.2; before it was 0.
    const { size } = Deno.statSync(OWN_FILES);
    // Listing them takes one more.
    return size > 0 ? size : [...Deno.readDirSync(OWN_FILES)].length - 1;
  } catch {
    return null;
  }
}
