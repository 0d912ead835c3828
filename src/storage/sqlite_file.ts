// What the main thread does about the SQLite file: looks at it before SQLite does, and keeps others out.

import { dirname, resolve } from "node:path";
import { messageOf } from "../core/message_of.ts";
import { StoreError } from "../engine/ports/history_store.ts";
import { foreignFile, newerFile } from "./sqlite_database.ts";
import { APPLICATION_ID, MIGRATIONS } from "./sqlite_schema.ts";

/** An SQLite file begins with this (https://www.sqlite.org/fileformat.html). */
const MAGIC = "SQLite format 3\0";
const HEADER_BYTES = 100;
const VERSION_AT = 60;
const APPLICATION_ID_AT = 68;
/** A lock that is not there after so long is another process's, ms; see {@link tryLock}. */
const LOCK_WAIT_MS = 500;

/**
 * Files that are open in this process. Closing any descriptor of a file drops all of the process's
 * fcntl locks on it, SQLite's among them: so a second one may not even be opened.
 */
const inUse = new Set<string>();

/** The file of a store, locked for this process until {@link release}. */
export class LockedFile {
  private constructor(
    /** Its absolute path. */
    readonly path: string,
    readonly identity: string,
    readonly lock: Deno.FsFile,
  ) {}

  /**
   * Looks at the file, or makes it, and locks it (flock: it ends with the process, however that ends).
   * Throws a StoreError "unusable" that names the file, which is then as it was.
   */
  static async acquire(path: string): Promise<LockedFile> {
    const file = resolve(path);
    const known = await look(file);
    if (known !== undefined && inUse.has(known)) throw inUseAlready(file);
    let lock: Deno.FsFile;
    try {
      lock = await Deno.open(file, { read: true, write: true, create: true });
    } catch (error) {
      throw cannotOpen(file, error);
    }
    let identity: string | undefined;
    try {
      identity = identityOf(await lock.stat());
      if (inUse.has(identity) || !await tryLock(lock)) throw inUseAlready(file);
      await checkHeader(file, lock);
      inUse.add(identity);
      return new LockedFile(file, identity, lock);
    } catch (error) {
      lock.close();
      throw error instanceof StoreError ? error : cannotOpen(file, error);
    }
  }

  /** Throws a StoreError when there is another file by this name now, or none. */
  async checkSame(): Promise<void> {
    if (await look(this.path) === this.identity) return;
    throw unusable(
      this.path,
      "it was moved away or replaced while it was in use: put it back, or start the server anew",
    );
  }

  /** Only after SQLite has closed the file. */
  release(): void {
    inUse.delete(this.identity);
    this.lock.close();
  }
}

async function tryLock(file: Deno.FsFile): Promise<boolean> {
  // Deno 2.4 can only wait for a lock.
  if (file.tryLockSync !== undefined) return file.tryLockSync(true);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), LOCK_WAIT_MS);
  });
  const locked = file.lock(true).then(() => true);
  return await Promise.race([locked, late]).finally(() => clearTimeout(timer));
}

/** Identity of the regular file at `file`; undefined where nothing is. Throws a StoreError. */
async function look(file: string): Promise<string | undefined> {
  let info: Deno.FileInfo;
  try {
    info = await Deno.stat(file);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw cannotOpen(file, error);
    const folder = await Deno.stat(dirname(file)).catch(() => undefined);
    if (folder?.isDirectory) return undefined;
    throw unusable(file, `its folder does not exist: make ${dirname(file)}, or name another file`);
  }
  if (info.isDirectory) throw unusable(file, "it is a folder: name a file");
  // Opening a pipe would wait for ever.
  if (!info.isFile) throw unusable(file, "it is not a regular file: name another one");
  return identityOf(info);
}

function identityOf({ dev, ino }: Deno.FileInfo): string {
  return `${dev}:${ino}`;
}

async function checkHeader(file: string, lock: Deno.FsFile): Promise<void> {
  const header = new Uint8Array(HEADER_BYTES);
  let size = 0;
  while (size < HEADER_BYTES) {
    const read = await lock.read(header.subarray(size));
    if (read === null) break;
    size += read;
  }
  if (size === 0) return;
  const magic = new TextDecoder("latin1").decode(header.subarray(0, MAGIC.length));
  if (size < HEADER_BYTES || magic !== MAGIC) {
    throw unusable(
      file,
      "it is not an SQLite database: name another file, or move this one away",
    );
  }
  const view = new DataView(header.buffer);
  if (view.getUint32(APPLICATION_ID_AT) !== APPLICATION_ID) throw foreignFile(file);
  const version = view.getUint32(VERSION_AT);
  if (version > MIGRATIONS.length) throw newerFile(file, version);
}

function inUseAlready(file: string): StoreError {
  return unusable(
    file,
    "another pushd is using it: stop that one, or name another file for this one",
  );
}

function cannotOpen(file: string, error: unknown): StoreError {
  const said = messageOf(error);
  return unusable(
    file,
    `it cannot be opened: make the file and its folder readable and writable for the server's user (${said})`,
    { cause: error },
  );
}

function unusable(file: string, message: string, options?: ErrorOptions): StoreError {
  return new StoreError("unusable", `SQLite ${file}: ${message}`, options);
}
