// A consistent copy of an SQLite store's file, while a server goes on writing to it.

import * as sqlite from "node:sqlite";
import { dirname, resolve } from "node:path";
import { messageOf } from "../core/message_of.ts";
import { StoreError } from "../engine/ports/history_store.ts";
import { isSqliteError, toStoreError } from "./sqlite_faults.ts";
import { APPLICATION_ID, PAGE_BYTES, readVersion } from "./sqlite_schema.ts";

/** Pages between two calls of `onProgress`. */
const STEP_PAGES = 1000;
/** And rows, where there are no pages. */
const STEP_ROWS = 10_000;

/**
 * Copies the database at `from`, as it is at one moment, to the new file `to`. `to` appears only when it
 * is complete and on the disk. `onProgress` is told how far it has come, as a text. Meanwhile the server's write-ahead log grows, since the moment is held.
 *
 * Rejects with a StoreError "unusable" when `from` is missing or no database of this server, or `to`
 * exists already (so it does when both are the same file), and with what the disk says otherwise;
 * nothing is left behind then. Blocks the thread while pages are copied.
 */
export async function backupSqlite(
  from: string,
  to: string,
  onProgress?: (done: string) => void,
): Promise<void> {
  const source = resolve(from);
  const target = resolve(to);
  if (source === target) {
    throw unusable(target, "a backup cannot be its own source: name another file");
  }
  // Only looked at: closing a file that this process serves would take SQLite's locks away.
  if (!(await stat(source))?.isFile) {
    throw unusable(source, "there is no such file to back up: name the file of the server's store");
  }
  if (await stat(target) !== undefined) {
    throw unusable(target, "it exists already: name a new file, or remove this one");
  }
  const temporary = `${target}.${crypto.randomUUID()}.part`;
  try {
    await copy(source, temporary, onProgress);
    await syncToDisk(temporary);
    // Unlike rename, link refuses when somebody made the file meanwhile.
    await Deno.link(temporary, target);
    await Deno.remove(temporary);
    await syncToDisk(dirname(target));
  } catch (error) {
    for (const rest of ["", "-journal", "-wal", "-shm"]) {
      await Deno.remove(temporary + rest).catch(() => {});
    }
    if (error instanceof StoreError) throw error;
    if (isSqliteError(error)) throw toStoreError(error, `${source} (backup to ${target})`);
    const said = messageOf(error);
    const message =
      `the backup cannot be written: make its folder, give it space and make it writable (${said})`;
    throw unusable(target, message, { cause: error });
  }
}

async function copy(
  source: string,
  temporary: string,
  onProgress: ((done: string) => void) | undefined,
): Promise<void> {
  const db = new sqlite.DatabaseSync(source, { readOnly: true });
  try {
    db.exec("PRAGMA busy_timeout = 5000");
    // A transaction that stays open: without it each write of the server would begin the copy anew.
    db.exec("BEGIN");
    if (readVersion(db).applicationId !== APPLICATION_ID) {
      throw unusable(
        source,
        "it is not the database of a pushd: name the file of the server's store",
      );
    }
    db.prepare("SELECT count(*) FROM sqlite_master").get();
    // Deno 2.4 has none.
    if (sqlite.backup === undefined) return copyRows(db, temporary, onProgress);
    await sqlite.backup(db, temporary, {
      rate: STEP_PAGES,
      progress: ({ totalPages, remainingPages }) =>
        onProgress?.(`${totalPages - remainingPages} of ${totalPages} pages`),
    });
  } finally {
    db.close();
  }
}

/**
 * Copies the database row by row, in the transaction that is open. (VACUUM INTO would do it, but attaches
 * the new file, which Deno does not allow.)
 */
export function copyRows(
  db: sqlite.DatabaseSync,
  target: string,
  onProgress: ((done: string) => void) | undefined,
): void {
  const copy = new sqlite.DatabaseSync(target);
  try {
    const { applicationId, version } = readVersion(db);
    copy.exec(`PRAGMA page_size = ${PAGE_BYTES}`);
    copy.exec(`PRAGMA application_id = ${applicationId}; PRAGMA user_version = ${version}; BEGIN`);
    const made = db.prepare(
      "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'",
    )
      .all();
    let rows = 0;
    // Indexes last, which is faster.
    for (const { sql } of made.filter(({ type }) => type === "table")) copy.exec(`${sql}`);
    for (const { name } of made.filter(({ type }) => type === "table")) {
      let insert: sqlite.StatementSync | undefined;
      const select = db.prepare(`SELECT * FROM "${name}"`);
      select.setReadBigInts(true);
      for (const row of select.iterate()) {
        const values = Object.values(row);
        insert ??= copy.prepare(`INSERT INTO "${name}" VALUES (${values.map(() => "?").join()})`);
        insert.run(...values);
        if (++rows % STEP_ROWS === 0) onProgress?.(`${rows} rows`);
      }
    }
    for (const { sql } of made.filter(({ type }) => type !== "table")) copy.exec(`${sql}`);
    copy.exec("COMMIT");
  } finally {
    copy.close();
  }
}

async function stat(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw unusable(path, messageOf(error), { cause: error });
  }
}

/** A folder is synchronised for the names in it. */
async function syncToDisk(path: string): Promise<void> {
  using file = await Deno.open(path);
  await file.sync();
}

function unusable(file: string, message: string, options?: ErrorOptions): StoreError {
  return new StoreError("unusable", `SQLite ${file}: ${message}`, options);
}
