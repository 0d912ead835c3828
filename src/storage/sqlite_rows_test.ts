// Queries that are iterated over again and again.

import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { prepareRows } from "./sqlite_rows.ts";

Deno.test("rows: a query gives its rows each time, also after it was left half way", () => {
  const db = new DatabaseSync(":memory:");
  db.exec("CREATE TABLE t (a INTEGER); INSERT INTO t VALUES (1), (2), (3)");
  const rows = prepareRows(db, "SELECT a FROM t WHERE a > ? ORDER BY a");
  const from = (after: number) => [...rows.iterate(after)].map(({ a }) => a);
  assert.deepEqual(from(0), [1, 2, 3]);
  assert.deepEqual(from(1), [2, 3]);
  for (const _ of rows.iterate(0)) break;
  // Nothing is held open by what was left.
  db.exec("DROP TABLE IF EXISTS u");
  assert.deepEqual(from(0), [1, 2, 3]);
  assert.deepEqual(from(3), []);
  db.close();
});
