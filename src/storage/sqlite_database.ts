// The open database in the worker: how it is opened, how a transaction ends, and how the WAL stays small.

import { DatabaseSync, type StatementSync } from "node:sqlite";
import { StoreError } from "../engine/ports/history_store.ts";
import { toStoreError } from "./sqlite_faults.ts";
import { APPLICATION_ID, migrate, MIGRATIONS, PAGE_BYTES, readVersion } from "./sqlite_schema.ts";

/** What is left of the WAL after it has been emptied. */
const WAL_KEPT_BYTES = 32 * 1024 * 1024;
/** A WAL beyond this is brought down, or somebody is told why it cannot be. */
const WAL_LARGE_BYTES = 64 * 1024 * 1024;
/** 16 MiB, more than SQLite does by itself: what is written to often is brought into the file less often. */
const CHECKPOINT_PAGES = 2000;
const WAL_CHECK_MS = 250;
const WAL_RETRY_MS = 2000;
const BUSY_TIMEOUT_MS = 5000;
const CACHE_KIB = 16 * 1024;
const PROBE_BYTES = 64 * 1024;

/** A database that is open; a failed commit makes it refuse writes until it is opened anew. */
export class SqliteDatabase {
  readonly #db: DatabaseSync;
  readonly #begin: StatementSync;
  readonly #commit: StatementSync;
  /** Why nothing is written any more. */
  #failure: StoreError | undefined;
  #walCheckedMs = 0;
  #walSaid = false;
  #walUnchecked = false;

  /**
   * Opens `file` and proves that it can be written. Throws a StoreError.
   * `onPinned` is told, once each time, when a reader keeps the WAL large.
   */
  constructor(readonly file: string, readonly onPinned: (bytes: number) => void) {
    let db: DatabaseSync | undefined;
    try {
      db = new DatabaseSync(file);
      prepareFile(db, file);
      this.#begin = db.prepare("BEGIN IMMEDIATE");
      this.#commit = db.prepare("COMMIT");
    } catch (error) {
      closeQuietly(db);
      throw toStoreError(error, file);
    }
    this.#db = db;
  }

  prepare(sql: string): StatementSync {
    return this.#db.prepare(sql);
  }

  /** Runs `work` and commits it durably, or none of it: then it throws a StoreError, as from then on. */
  transaction<R>(work: () => R): R {
    if (this.#failure !== undefined) {
      throw new StoreError(
        "unavailable",
        `nothing is written until the store has been opened anew: ${this.#failure.message}`,
        { cause: this.#failure },
      );
    }
    try {
      this.#begin.run();
      const result = work();
      this.#commit.run();
      return result;
    } catch (error) {
      this.#rollBack();
      this.#overwriteFailed();
      throw this.#failure = toStoreError(error, this.file);
    }
  }

  /** As {@link transaction}, but what it does may be lost with a power cut, while nothing after it is kept. */
  unsyncedTransaction<R>(work: () => R): R {
    this.#db.exec("PRAGMA synchronous = NORMAL");
    try {
      return this.transaction(work);
    } finally {
      this.#db.exec("PRAGMA synchronous = FULL");
    }
  }

  /** Runs `work`, which only reads. Throws a StoreError. */
  reading<R>(work: () => R): R {
    try {
      return work();
    } catch (error) {
      throw toStoreError(error, this.file);
    }
  }

  /** To be called after writes, and now and then: looks after the size of the WAL. */
  tendWal(nowMs: number): void {
    this.#walUnchecked = nowMs - this.#walCheckedMs < (this.#walSaid ? WAL_RETRY_MS : WAL_CHECK_MS);
    if (this.#walUnchecked) return;
    this.#walCheckedMs = nowMs;
    if (this.#walBytes() <= WAL_LARGE_BYTES || this.#truncateWal()) {
      this.#walSaid = false;
    } else if (!this.#walSaid) {
      this.#walSaid = true;
      this.onPinned(this.#walBytes());
    }
  }

  /** Whether {@link tendWal} has to be called again even when nothing more is written. */
  get needsTending(): boolean {
    return this.#walSaid || this.#walUnchecked;
  }

  /** Writes the WAL back into the file, as far as that can be done, and closes. */
  close(): void {
    closeQuietly(this.#db);
  }

  #rollBack(): void {
    try {
      this.#db.exec("ROLLBACK");
    } catch {
      // SQLite has rolled back by itself, or not begun; and the connection is not written with again anyway.
    }
  }

  /**
   * What a commit wrote before its sync failed stands in the WAL, whole, and would be taken for kept
   * when the file is opened next, perhaps by a process that knows nothing of it. Another commit is
   * written over its first pages, without a sync, which could only fail as well.
   */
  #overwriteFailed(): void {
    try {
      this.#db.exec("PRAGMA synchronous = OFF");
      this.#db.exec("INSERT OR REPLACE INTO meta (key, value) VALUES ('probe', NULL)");
    } catch {
      // Nothing can be written, as nothing could before.
    } finally {
      this.#db.exec("PRAGMA synchronous = FULL");
    }
  }

  #walBytes(): number {
    try {
      return Deno.statSync(`${this.file}-wal`).size;
    } catch {
      return 0;
    }
  }

  /** Whether nobody kept it from that. */
  #truncateWal(): boolean {
    try {
      // Without waiting: writes are worth more than a small file.
      this.#db.exec("PRAGMA busy_timeout = 0");
      return this.#db.prepare("PRAGMA wal_checkpoint(TRUNCATE)").get()?.busy === 0;
    } catch {
      // A full or failing disk: the next write says so.
      return false;
    } finally {
      this.#db.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    }
  }
}

function prepareFile(db: DatabaseSync, file: string): void {
  db.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
  const { applicationId, version } = readVersion(db);
  const tables = Number(db.prepare("SELECT count(*) AS n FROM sqlite_master").get()?.n);
  if (applicationId !== APPLICATION_ID && (applicationId !== 0 || version !== 0 || tables > 0)) {
    throw foreignFile(file);
  }
  if (version > MIGRATIONS.length) throw newerFile(file, version);
  db.exec(`PRAGMA page_size = ${PAGE_BYTES}`);
  db.exec(`PRAGMA cache_size = -${CACHE_KIB}`);
  // FULL: an fsync for each commit. Set before the first write, which makes the file ours.
  db.exec("PRAGMA synchronous = FULL");
  migrate(db);
  // Only now: without the WAL the header was written to the file itself, where it can be looked at
  // without SQLite.
  const mode = db.prepare("PRAGMA journal_mode = WAL").get()?.journal_mode;
  if (mode !== "wal") {
    throw new StoreError(
      "unusable",
      `SQLite ${file}: its file system cannot hold a write-ahead log (network or shared folder?): put it on a local disk`,
    );
  }
  db.exec(`PRAGMA wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
  db.exec(`PRAGMA journal_size_limit = ${WAL_KEPT_BYTES}`);
  proveWritable(db);
  // What is damaged is found at the start where it can be.
  for (const table of ["channels", "blocks", "tokens"]) {
    db.prepare(`SELECT * FROM ${table} LIMIT 1`).get();
  }
}

/** About as much as a small batch, so that the last free page of a disk is not taken for space. */
function proveWritable(db: DatabaseSync): void {
  db.prepare("INSERT OR REPLACE INTO meta (key, value) VALUES ('probe', zeroblob(?))")
    .run(PROBE_BYTES);
  db.exec("DELETE FROM meta WHERE key = 'probe'");
}

/** For a file with somebody else's tables. */
export function foreignFile(file: string): StoreError {
  return new StoreError(
    "unusable",
    `SQLite ${file}: it is the database of another application: name another file, or move this one away`,
  );
}

/** For a file that a newer version of this server has written. */
export function newerFile(file: string, version: number): StoreError {
  return new StoreError(
    "unusable",
    `SQLite ${file}: it was written by a newer version of pushd (layout ${version}, this one knows ${MIGRATIONS.length}): start that version, or name another file`,
  );
}

function closeQuietly(db: DatabaseSync | undefined): void {
  try {
    db?.close();
  } catch {
    // Whatever was committed is safe in the WAL.
  }
}
