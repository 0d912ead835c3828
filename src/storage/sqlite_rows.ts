// Queries whose rows are taken one by one, also where the runtime's own statements can do that only once.

import { DatabaseSync, type StatementSync } from "node:sqlite";

/** A prepared query. */
export interface Rows {
  /** The rows for these values, lazily: to be finished, or left, before anything else is done. */
  iterate(...values: (number | string)[]): Iterable<Record<string, unknown>>;
}

/** Prepares a query for {@link Rows.iterate}, as often as it is wanted. */
export function prepareRows(db: { prepare(sql: string): StatementSync }, sql: string): Rows {
  const statement = db.prepare(sql);
  if (!iteratesOnce()) return statement;
  return { iterate: (...values) => db.prepare(sql).iterate(...values) };
}

let found: boolean | undefined;

/** In Deno 2.4 a statement that has been iterated over gives no row any more, and says nothing of it. */
function iteratesOnce(): boolean {
  if (found !== undefined) return found;
  const db = new DatabaseSync(":memory:");
  try {
    const statement = db.prepare("SELECT 1");
    const count = () => [...statement.iterate()].length;
    return found = count() !== 1 || count() !== 1;
  } finally {
    db.close();
  }
}
