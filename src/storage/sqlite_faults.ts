// What SQLite's errors mean to whoever runs the server.

import { StoreError, type StoreFault } from "../engine/ports/history_store.ts";

const FULL = 13;
/** The file beside the WAL could not be made larger, which only a full disk refuses. */
const IOERR_SHMSIZE = 4874;

/** SQLite's primary result codes (https://www.sqlite.org/rescode.html) that say something of their own. */
const MEANINGS: Record<number, [StoreFault, string]> = {
  5: [
    "unavailable",
    "another program has locked it: end that program's transaction (a sqlite3 shell or a backup?)",
  ],
  6: [
    "unavailable",
    "another program has locked it: end that program's transaction (a sqlite3 shell or a backup?)",
  ],
  8: [
    "unavailable",
    "it cannot be written: make the file and its folder writable for the server's user",
  ],
  10: [
    "unavailable",
    "the disk reported an error: look into the system's log, and check the disk",
  ],
  11: [
    "unusable",
    "the file is damaged: put a backup in its place, or save what is readable with `sqlite3 FILE .recover`",
  ],
  13: ["unavailable", "the disk is full: free space"],
  14: [
    "unavailable",
    "it cannot be opened: make the file and its folder readable and writable for the server's user, and see that the disk is not full",
  ],
  26: ["unusable", "it is not an SQLite database: name another file, or move this one away"],
};

/** Whether `error` was thrown by SQLite, and is no bug of ours. */
export function isSqliteError(error: unknown): error is Error {
  return error instanceof Error && "code" in error && error.code === "ERR_SQLITE_ERROR";
}

/** `error` of SQLite as a StoreError that names `file`; what SQLite did not throw is thrown again. */
export function toStoreError(error: unknown, file: string): StoreError {
  if (error instanceof StoreError) return error;
  if (!isSqliteError(error)) throw error;
  const errcode = "errcode" in error ? Number(error.errcode) : codeByText(error.message);
  const [fault, meaning] = MEANINGS[errcode === IOERR_SHMSIZE ? FULL : errcode & 0xff] ??
    ["unavailable", "SQLite reported an error that is not expected"] as const;
  const said = errcode > 0 ? `${error.message}, code ${errcode}` : error.message;
  return new StoreError(fault, `SQLite ${file}: ${meaning} (${said})`, { cause: error });
}

/** Opening a database throws without a code. */
function codeByText(message: string): number {
  return message.startsWith("unable to open database file") ? 14 : 0;
}
