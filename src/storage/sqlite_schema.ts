// The layout of the SQLite file, and how a file of an older layout becomes one of this.

import type { DatabaseSync } from "node:sqlite";

/** In the header of each of our files ("pshd"): tells them from other applications'. */
export const APPLICATION_ID = 0x70736864;

/**
 * Page size of a new file; one that is there keeps its own. Most of what is written are long blobs, each byte of
 * which goes into the WAL and then into the file, and with larger pages there are fewer of them: a
 * third more fits through than with SQLite's own 4096 (docs/performance.md).
 */
export const PAGE_BYTES = 8192;

/**
 * From an empty file on: each entry takes a file from the version that is its index to the next. An
 * entry never changes once it has been released.
 *
 * A row of `blocks` is a run of messages of one channel and one node. Rows of a channel do not overlap:
 * by (first_ts, node) each begins where the one before has ended, so that whatever a time touches is
 * found by one search. The node's name is in the key, not a number for it, because messages of one
 * microsecond are ordered by their node's name.
 *
 * A row of `journal` is an append as it came (`PackedBlocks`), until its messages have been folded into
 * `blocks`.
 *
 * The index stands apart from the bytes (no WITHOUT ROWID): new rows of a thousand channels lie on few
 * pages, one behind the other, and a search need not read whole blobs, as SQLite does in a tree whose
 * keys they belong to. It has all that counting and deleting ask for.
 */
export const MIGRATIONS: readonly string[] = [
  `CREATE TABLE channels (
     id INTEGER PRIMARY KEY,
     app TEXT NOT NULL,
     name TEXT NOT NULL,
     pruned_ts INTEGER NOT NULL DEFAULT 0,
     UNIQUE (app, name)
   ) STRICT;
   CREATE TABLE blocks (
     id INTEGER PRIMARY KEY,
     channel INTEGER NOT NULL,
     first_ts INTEGER NOT NULL,
     node TEXT NOT NULL,
     last_ts INTEGER NOT NULL,
     count INTEGER NOT NULL,
     froms TEXT,
     lines BLOB NOT NULL
   ) STRICT;
   CREATE UNIQUE INDEX blocks_by_time ON blocks (channel, first_ts, node, last_ts, count);
   CREATE TABLE journal (
     id INTEGER PRIMARY KEY,
     names TEXT NOT NULL,
     numbers BLOB NOT NULL,
     froms TEXT,
     lines BLOB NOT NULL
   ) STRICT;
   CREATE TABLE tokens (
     hash TEXT NOT NULL PRIMARY KEY,
     app TEXT NOT NULL,
     user TEXT NOT NULL,
     expires_ms INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID;
   CREATE INDEX tokens_by_expiry ON tokens (expires_ms, app);
   CREATE TABLE meta (
     key TEXT NOT NULL PRIMARY KEY,
     value ANY
   ) STRICT, WITHOUT ROWID;`,
];

/** Where a file stands: the header's two numbers. */
export function readVersion(db: DatabaseSync): { applicationId: number; version: number } {
  return {
    applicationId: Number(db.prepare("PRAGMA application_id").get()?.application_id),
    version: Number(db.prepare("PRAGMA user_version").get()?.user_version),
  };
}

/**
 * Brings the file to the newest version, all of the steps in one transaction or none. Throws what
 * SQLite says. The caller has made sure that the file is ours, or empty, and not newer.
 */
export function migrate(db: DatabaseSync, migrations: readonly string[] = MIGRATIONS): void {
  if (readVersion(db).version === migrations.length) return;
  db.exec("BEGIN IMMEDIATE");
  try {
    // Again, now that nobody else can write.
    const { version } = readVersion(db);
    for (const step of migrations.slice(version)) db.exec(step);
    db.exec(`PRAGMA application_id = ${APPLICATION_ID}`);
    db.exec(`PRAGMA user_version = ${migrations.length}`);
    db.exec("COMMIT");
  } catch (error) {
    try {
      db.exec("ROLLBACK");
    } catch {
      // SQLite has done so by itself.
    }
    throw error;
  }
}
