// Keeps messages and tokens in an SQLite file, which a thread of its own works on.

import { messageOf } from "../core/message_of.ts";
import { getLogger } from "../core/logger.ts";
import {
  type ChannelBlock,
  type HistoryStore,
  type MessageRange,
  type NewestRequest,
  type Page,
  type PruneRequest,
  type PruneStep,
  type ReadRequest,
  StoreError,
  type StoreInfo,
} from "../engine/ports/history_store.ts";
import type { FoundToken, TokenStore } from "../engine/ports/token_store.ts";
import { LockedFile } from "./sqlite_file.ts";
import {
  type Operation,
  type Operations,
  packBlocks,
  type Reply,
  type ScanCursor,
} from "./sqlite_messages.ts";
import { takeSqliteThread } from "./sqlite_thread.ts";

/** What {@link SqliteStore} takes. */
export interface SqliteOptions {
  /** The file; it is made where it does not exist, its folder is not. */
  readonly path: string;
  /** Told once when the thread has died: nothing will ever be kept again, so the process had better end. */
  readonly onDeath?: (error: StoreError) => void;
  /** Makes the thread; for tests. */
  readonly makeWorker?: () => Worker;
}

interface Waiting {
  resolve(output: unknown): void;
  reject(error: StoreError): void;
}

const log = getLogger("storage");

/**
 * History in one SQLite file, for this process alone, and the tokens beside it. Every append is one
 * transaction, on the disk when it resolves.
 */
export class SqliteStore implements HistoryStore {
  readonly description: string;
  /** The second waits in the thread's hands, which then does not wait for the main thread. */
  readonly appendsAtOnce = 2;
  /** Tokens in the same file; usable while this store is open. */
  readonly tokens: TokenStore = new SqliteTokenStore((op, input) => this.#call(op, input));
  readonly #options: SqliteOptions;
  readonly #waiting = new Map<number, Waiting>();
  #nextId = 1;
  #file: LockedFile | undefined;
  #worker: Worker | undefined;
  /** Why nothing can be asked for any more. */
  #end: StoreError | undefined;
  #opening: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | undefined;

  constructor(options: SqliteOptions) {
    this.#options = options;
    this.description = `SQLite ${options.path}`;
  }

  open(): Promise<StoreInfo> {
    const opening = this.#opening.then(() => this.#open());
    this.#opening = opening.catch(() => {});
    return opening;
  }

  async append(blocks: readonly ChannelBlock[]): Promise<void> {
    const packed = packBlocks(blocks);
    await this.#call("append", packed, [packed.bytes, packed.numbers.buffer]);
  }

  forget(ranges: readonly MessageRange[]): Promise<void> {
    return this.#call("forget", ranges);
  }

  read(request: ReadRequest): Promise<Page> {
    return this.#call("read", request);
  }

  readNewest(request: NewestRequest): Promise<Page> {
    return this.#call("readNewest", request);
  }

  count(app: string, channel: string, afterTs: number, throughTs: number): Promise<number> {
    return this.#call("count", { app, channel, afterTs, throughTs });
  }

  prune(request: PruneRequest): Promise<PruneStep> {
    return this.#call("prune", request);
  }

  async *scan(): AsyncIterable<ChannelBlock> {
    let cursor: ScanCursor | null = { app: "", channel: "", afterTs: 0 };
    while (cursor !== null) {
      const page: Operations["scan"]["out"] = await this.#call("scan", cursor);
      yield* page.blocks;
      cursor = page.cursor;
    }
  }

  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #open(): Promise<StoreInfo> {
    if (this.#end !== undefined) throw this.#end;
    if (this.#worker !== undefined) {
      await this.#file?.checkSame();
      return await this.#call("open", this.#file?.path ?? "");
    }
    this.#file = await LockedFile.acquire(this.#options.path);
    this.#worker = this.#startWorker();
    try {
      return await this.#call("open", this.#file.path);
    } catch (error) {
      this.#letGo();
      // At the start a person has to act in any case.
      const message = messageOf(error);
      throw new StoreError("unusable", message, { cause: error });
    }
  }

  async #close(): Promise<void> {
    await this.#opening;
    if (this.#worker !== undefined && this.#end === undefined) {
      const closed = this.#call("close", undefined);
      this.#end = new StoreError("unavailable", `${this.description} is closed`);
      // A thread that dies now has been reported, and there is nothing more to finish.
      await closed.catch(() => {});
    }
    this.#end ??= new StoreError("unavailable", `${this.description} is closed`);
    this.#letGo();
  }

  /** Ends the thread, and then the lock: closing that first would take SQLite's locks away. */
  #letGo(): void {
    this.#worker?.terminate();
    this.#worker = undefined;
    this.#file?.release();
    this.#file = undefined;
  }

  #startWorker(): Worker {
    const worker = this.#options.makeWorker?.() ?? takeSqliteThread();
    worker.onmessage = ({ data }: MessageEvent<Reply>) => this.#receive(data);
    worker.onerror = (event) => {
      event.preventDefault();
      this.#die(event.message);
    };
    worker.onmessageerror = () => this.#die("a message could not be read");
    return worker;
  }

  #receive(reply: Reply): void {
    if ("pinnedWal" in reply) {
      log.warn(
        "a reader keeps the write-ahead log from being emptied: end its transaction (a sqlite3 shell or a backup?)",
        { file: `${reply.pinnedWal}-wal`, bytes: reply.bytes },
      );
      return;
    }
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if ("fault" in reply) waiting?.reject(new StoreError(reply.fault, reply.message));
    else waiting?.resolve(reply.output);
  }

  #die(reason: string): void {
    if (this.#worker === undefined) return;
    const wasClosing = this.#end !== undefined;
    const error = new StoreError(
      "unavailable",
      `${this.description}: its thread has died, start the server anew: ${reason}`,
    );
    this.#end = error;
    this.#letGo();
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
    if (!wasClosing) this.#options.onDeath?.(error);
  }

  #call<K extends Operation>(
    op: K,
    input: Operations[K]["in"],
    transfer: Transferable[] = [],
  ): Promise<Operations[K]["out"]> {
    const worker = this.#worker;
    if (this.#end !== undefined) return Promise.reject(this.#end);
    if (worker === undefined) {
      return Promise.reject(new StoreError("unavailable", `${this.description} is not open`));
    }
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, {
        resolve: (output) => resolve(output as Operations[K]["out"]),
        reject,
      });
      worker.postMessage({ id, op, input }, transfer);
    });
  }
}

type TokenCall = <K extends "put" | "find" | "take">(
  op: K,
  input: Operations[K]["in"],
) => Promise<Operations[K]["out"]>;

/** Tokens in a {@link SqliteStore}'s file. */
class SqliteTokenStore implements TokenStore {
  constructor(readonly call: TokenCall) {}

  put(
    token: { hash: string; app: string; user: string; ttlMs: number },
    maxUnused: number,
  ): Promise<boolean> {
    const { hash, app, user, ttlMs } = token;
    return this.call("put", { hash, app, user, ttlMs, maxUnused });
  }

  find(hash: string): Promise<FoundToken | undefined> {
    return this.call("find", hash);
  }

  take(hash: string): Promise<boolean> {
    return this.call("take", hash);
  }
}
