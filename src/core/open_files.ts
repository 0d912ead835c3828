// How many files and sockets this process may have open.

import { getLogger } from "./logger.ts";

/** A limit and where it is from, for the log. */
export interface OpenFileLimit {
  /** Number of open files; Infinity where there is no limit. */
  readonly limit: number;
  /** How it was found: `getconf OPEN_MAX`, or that it is assumed. */
  readonly how: string;
}

/** What POSIX systems have used for decades where nobody said anything. */
const ASSUMED_LIMIT = 1024;

/**
 * Asks `getconf OPEN_MAX`, which inherits the limit of this process. (Reading /proc/self/limits would
 * need every permission there is.) Where that cannot be run, 1024 is assumed, and `how` says so.
 * `command` is for tests.
 */
export async function openFileLimit(command = "getconf"): Promise<OpenFileLimit> {
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
