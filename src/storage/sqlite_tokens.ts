// Tokens in the worker: those that wait together are written in one transaction.

import type { StatementSync } from "node:sqlite";
import type { FoundToken } from "../engine/ports/token_store.ts";
import type { SqliteDatabase } from "./sqlite_database.ts";
import type { NewToken } from "./sqlite_messages.ts";

/** Expired tokens that are deleted at once. */
const EXPIRED_ROWS = 1000;

/**
 * Tokens of an open database; they expire by the wall clock, as they outlive the process. Methods that
 * write belong into a transaction, and throw what SQLite throws.
 */
export class TokenTable {
  readonly #db: SqliteDatabase;
  readonly #insert: StatementSync;
  readonly #find: StatementSync;
  readonly #take: StatementSync;
  readonly #expire: StatementSync;
  readonly #count: StatementSync;
  /** Tokens that are kept, by application; undefined where they have to be counted. */
  #unused: Map<string, number> | undefined;

  constructor(db: SqliteDatabase) {
    this.#db = db;
    this.#insert = db.prepare(
      "INSERT INTO tokens (hash, app, user, expires_ms) VALUES (?, ?, ?, ?)",
    );
    this.#find = db.prepare("SELECT app, user FROM tokens WHERE hash = ? AND expires_ms > ?");
    this.#take = db.prepare("DELETE FROM tokens WHERE hash = ? RETURNING app, expires_ms");
    this.#expire = db.prepare(
      `DELETE FROM tokens WHERE hash IN
         (SELECT hash FROM tokens WHERE expires_ms <= ? ORDER BY expires_ms LIMIT ${EXPIRED_ROWS})
       RETURNING app`,
    );
    this.#count = db.prepare("SELECT app, count(*) AS n FROM tokens GROUP BY app");
  }

  /** To be called when a transaction has failed: what it did is not there. */
  forgetCounts(): void {
    this.#unused = undefined;
  }

  put({ hash, app, user, ttlMs, maxUnused }: NewToken): boolean {
    const now = Date.now();
    this.#delete(hash);
    let expired = this.#deleteExpired(now);
    while (this.#unusedOf(app) >= maxUnused && expired === EXPIRED_ROWS) {
      expired = this.#deleteExpired(now);
    }
    if (this.#unusedOf(app) >= maxUnused) return false;
    this.#insert.run(hash, app, user, Math.ceil(now + ttlMs));
    this.#change(app, 1);
    return true;
  }

  /** Throws a StoreError. */
  find(hash: string): FoundToken | undefined {
    const row = this.#db.reading(() => this.#find.get(hash, Date.now()));
    return row && { app: String(row.app), user: String(row.user) };
  }

  take(hash: string): boolean {
    const expiresMs = this.#delete(hash);
    return expiresMs !== undefined && expiresMs > Date.now();
  }

  #delete(hash: string): number | undefined {
    // All of them: a statement that is not run to its end keeps the transaction from ending.
    const [row] = this.#take.all(hash);
    if (row === undefined) return undefined;
    this.#change(String(row.app), -1);
    return Number(row.expires_ms);
  }

  #deleteExpired(nowMs: number): number {
    const rows = this.#expire.all(nowMs);
    for (const { app } of rows) this.#change(String(app), -1);
    return rows.length;
  }

  #unusedOf(app: string): number {
    this.#unused ??= new Map(this.#count.all().map(({ app, n }) => [String(app), Number(n)]));
    return this.#unused.get(app) ?? 0;
  }

  #change(app: string, by: number): void {
    if (this.#unused === undefined) return;
    const count = (this.#unused.get(app) ?? 0) + by;
    if (count > 0) this.#unused.set(app, count);
    else this.#unused.delete(app);
  }
}
