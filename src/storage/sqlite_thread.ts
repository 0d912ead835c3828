// Where the thread comes from that SQLite works in.

/** One that was begun before anybody wanted it. */
let early: Worker | null = null;

/** Begins the thread that {@link takeSqliteThread} will be asked for: it takes a tenth of a second to come up. */
export function beginSqliteThread(): void {
  early ??= makeThread();
}

/** A thread that nobody else has. */
export function takeSqliteThread(): Worker {
  const thread = early ?? makeThread();
  early = null;
  return thread;
}

/** Ends the one that was begun, where it is not wanted. */
export function dropSqliteThread(): void {
  early?.terminate();
  early = null;
}

function makeThread(): Worker {
  return new Worker(new URL("./sqlite_worker.ts", import.meta.url), {
    type: "module",
    name: "sqlite",
  });
}
