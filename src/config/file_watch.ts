// Notices that files have changed, by looking at them again and again.

import { pause } from "../core/pause.ts";

/** Time between two looks, ms. */
const INTERVAL_MS = 500;

/** How long nothing may be at a path that is being replaced or written, ms. */
const EMPTY_WAIT_MS = 2000;

/** What {@link FileWatch} watches, and whom it tells. */
export interface FileWatchOptions {
  /** The files, asked anew for each look. One that is new among them is no change by itself. */
  readonly paths: () => readonly string[];
  /** 500 when left out. */
  readonly intervalMs?: number;
  /** 2000 when left out. */
  readonly emptyWaitMs?: number;
  /** Something has changed and is at rest. Awaited before the next look; what it throws ends the watch. */
  readonly onChange: () => void | Promise<void>;
  /** A file that was there has been missing or empty for `emptyWaitMs`; told once each time. */
  readonly onMissing: (path: string, state: "missing" | "empty") => void;
}

/** What a look at a path shows: what tells one content from another, or that there is none. */
type Look = Gone | `inode ${string}`;
type Gone = "missing" | "empty";

interface WatchedFile {
  /** What was told of by `onChange`, or was there at first. */
  inForce: Look;
  last: Look;
  /** When it was first seen to be gone, by the clock of performance.now(); null while it is there. */
  goneSinceMs: number | null;
  isReported: boolean;
}

/**
 * Watches a few files. A change is told once every file looks the same in two looks one after the other,
 * and one of them looks different from what was told before, so that several writes in a row are one
 * change. A file that is missing or of 0 bytes is about to be replaced or written, and is waited for; when
 * nothing comes, the others go on without it. A touch is a change, too: whoever is told has to compare.
 *
 * Not by Deno.watchFs: on a file it goes blind after a rename, on a folder it is flooded where the history
 * file lies beside, and on network file systems it does not hear of what other machines do.
 */
export class FileWatch {
  readonly #options: FileWatchOptions;
  #files = new Map<string, WatchedFile>();

  /** Takes the first look, at once: made before the files are read, the watch misses nothing. */
  constructor(options: FileWatchOptions) {
    this.#options = options;
    this.lookAtNew();
  }

  /** Looks at the paths that are new, at once, as the constructor does; for just before they are read. */
  lookAtNew(): void {
    for (const path of this.#options.paths()) {
      if (!this.#files.has(path)) this.#files.set(path, startFrom(lookSync(path)));
    }
  }

  /** Watches until `signal` is aborted; resolves then, after an `onChange` that is under way. */
  async run(signal: AbortSignal): Promise<void> {
    const { intervalMs = INTERVAL_MS, onChange } = this.#options;
    while (await pause(intervalMs, signal)) {
      if (await this.#lookAround() && !signal.aborted) await onChange();
    }
  }

  /** Looks at every file; whether there is a change to tell of, which is in force then. */
  async #lookAround(): Promise<boolean> {
    const files = new Map<string, WatchedFile>();
    let isAtRest = true;
    for (const path of new Set(this.#options.paths())) {
      const seen = await look(path);
      const file = this.#files.get(path) ?? startFrom(seen);
      files.set(path, file);
      if (isGone(seen)) {
        if (this.#isAwaited(file, path, seen)) isAtRest = false;
      } else {
        file.goneSinceMs = null;
        file.isReported = false;
        if (seen !== file.last) isAtRest = false;
      }
      file.last = seen;
    }
    // What is not among the paths any more is forgotten.
    this.#files = files;
    const changed = [...files.values()].filter(({ last, inForce }) =>
      !isGone(last) && last !== inForce
    );
    if (!isAtRest || changed.length === 0) return false;
    for (const file of changed) file.inForce = file.last;
    return true;
  }

  /** Whether something is still expected to come at a path where nothing is; says when no longer. */
  #isAwaited(file: WatchedFile, path: string, seen: Gone): boolean {
    // Nothing was there at first, either.
    if (isGone(file.inForce)) return false;
    file.goneSinceMs ??= performance.now();
    const { emptyWaitMs = EMPTY_WAIT_MS, onMissing } = this.#options;
    if (performance.now() - file.goneSinceMs < emptyWaitMs) return true;
    if (!file.isReported) onMissing(path, seen);
    file.isReported = true;
    return false;
  }
}

function startFrom(first: Look): WatchedFile {
  return { inForce: first, last: first, goneSinceMs: null, isReported: false };
}

function isGone(look: Look): look is Gone {
  return look === "missing" || look === "empty";
}

async function look(path: string): Promise<Look> {
  try {
    return lookOf(await Deno.stat(path));
  } catch {
    // For whatever reason: what cannot be looked at is not there.
    return "missing";
  }
}

function lookSync(path: string): Look {
  try {
    return lookOf(Deno.statSync(path));
  } catch {
    return "missing";
  }
}

/** Links have been followed, so that one that leads elsewhere now shows another inode. */
function lookOf({ dev, ino, size, mtime, ctime }: Deno.FileInfo): Look {
  if (size === 0) return "empty";
  return `inode ${[dev, ino, size, mtime?.getTime(), ctime?.getTime()].join(" ")}`;
}
