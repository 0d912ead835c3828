// Background work under supervision: no promise floats, and a task that throws ends the process.

import { getLogger } from "./logger.ts";

/** Work that runs beside the caller; see {@linkcode spawn}. */
export interface Task {
  readonly name: string;
  /** Resolves when the work has ended, however it ended. Never rejects. */
  readonly done: Promise<void>;
  /** Aborts the signal the work was given. It ends in its own time; await `done`. */
  stop(reason?: unknown): void;
}

/** What the crash hook is told. */
export interface Crash {
  /** Name of the task that threw. */
  readonly name: string;
  readonly error: unknown;
}

const log = getLogger("core");

/** What stands among the running tasks of a name; the links are ours. */
export interface Enlisted {
  /** When it began: monotonic, whole ms. */
  readonly startedMs: number;
  older: Enlisted | null;
  newer: Enlisted | null;
}

/** The tasks of one name, in the order in which they began. */
interface Running {
  count: number;
  oldest: Enlisted | null;
  newest: Enlisted | null;
}

/** The tasks that are running, by name: linked with each other, as there is one for every connection. */
const running = new Map<string, Running>();

let crashHook: ((crash: Crash) => void) | null = null;

/**
 * Says what happens when a task throws: `main` logs what is queued and exits with 1. Without a hook
 * the error is thrown again outside of every promise, so that the process ends anyway.
 */
export function setCrashHook(onCrash: ((crash: Crash) => void) | null): void {
  crashHook = onCrash;
}

/**
 * Starts `fn` and looks after it. `name` is from a fixed set ("serv.accept", "storage.flush"): tasks
 * are counted by it.
 *
 * `fn` begins before `spawn` returns. It ends by returning; throwing what its signal was aborted with
 * is a return, too. Any other throw is a bug: it is logged as fatal under the name and reported to the
 * crash hook. A `fn` that declares no parameter gets no signal, which saves a connection's task the
 * AbortController; its `stop` does nothing.
 */
export function spawn(name: string, fn: (signal: AbortSignal) => Promise<void>): Task {
  return new SpawnedTask(name, fn);
}

class SpawnedTask implements Task {
  readonly done: Promise<void>;
  /** Monotonic, whole ms. */
  readonly startedMs: number = Math.round(performance.now());
  older: Enlisted | null = null;
  newer: Enlisted | null = null;
  #controller: AbortController | null;

  constructor(readonly name: string, fn: (signal: AbortSignal) => Promise<void>) {
    this.#controller = fn.length > 0 ? new AbortController() : null;
    enlist(name, this);
    this.done = supervise(name, fn, this.#controller).finally(() => delist(name, this));
  }

  stop(reason?: unknown): void {
    this.#controller?.abort(reason);
  }
}

/**
 * Counts something among the running tasks of a name that is not the work of one function: a connection
 * lives in the callbacks of its reads, as a promise and the frame of a function that waits would take a
 * kilobyte of each. Its promises are given to {@link watch}, and what its callbacks throw to {@link crash}.
 */
export function enlist(name: string, task: Enlisted): void {
  const tasks = running.get(name);
  if (tasks === undefined) {
    running.set(name, { count: 1, oldest: task, newest: task });
    return;
  }
  tasks.count++;
  task.older = tasks.newest;
  if (tasks.newest !== null) tasks.newest.newer = task;
  tasks.newest = task;
}

/** Its work is over; to be called once. */
export function delist(name: string, task: Enlisted): void {
  const { older, newer } = task;
  // Whoever keeps a task that has ended does not keep its neighbours.
  task.older = null;
  task.newer = null;
  const tasks = running.get(name);
  if (tasks === undefined) return;
  if (--tasks.count === 0) running.delete(name);
  if (older === null) tasks.oldest = newer;
  else older.newer = newer;
  if (newer === null) tasks.newest = older;
  else newer.older = older;
}

/** The running tasks of one name. */
export interface RunningTasks {
  readonly name: string;
  readonly count: number;
  /** For how long the one that began first, and the one that began last, has been running, ms. */
  readonly oldestMs: number;
  readonly newestMs: number;
}

/** What is running, by name, in alphabetical order. */
export function runningTasks(): RunningTasks[] {
  const nowMs = performance.now();
  const since = (task: Enlisted | null) => Math.max(0, nowMs - (task?.startedMs ?? nowMs));
  return [...running]
    .map(([name, { count, oldest, newest }]) => ({
      name,
      count,
      oldestMs: since(oldest),
      newestMs: since(newest),
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Used where nobody gave a signal to abort: it never fires. */
const neverAborted = new AbortController().signal;

async function supervise(
  name: string,
  fn: (signal: AbortSignal) => Promise<void>,
  controller: AbortController | null,
): Promise<void> {
  const signal = controller?.signal ?? neverAborted;
  try {
    await fn(signal);
  } catch (error) {
    if (signal.aborted && (error === signal.reason || isAbortError(error))) return;
    crash(name, error);
  }
}

/** Looks after a piece of work of something that is {@link enlist}ed: its failure is a bug. */
export function watch(name: string, work: Promise<void>): void {
  work.catch((error) => crash(name, error));
}

/** Ends the process as a task of this name does when it throws; for what fails outside of any task. */
export function crash(name: string, error: unknown): void {
  log.fatal("a task failed", { task: name, error });
  if (crashHook !== null) crashHook({ name, error });
  else reportError(error);
}

function isAbortError(error: unknown): boolean {
  return error instanceof Error && error.name === "AbortError";
}
