// Opens what the configuration names for history, and puts the commit queue before it.

import { resolve } from "node:path";
import type { Config } from "./config/schema.ts";
import type { Clock } from "./core/clock.ts";
import { getLogger } from "./core/logger.ts";
import { crash } from "./core/spawn.ts";
import type { Turn } from "./core/turn.ts";
import type { Engine } from "./engine/engine.ts";
import { type HistoryStore, StoreError } from "./engine/ports/history_store.ts";
import type { TokenStore } from "./engine/ports/token_store.ts";
import { commitLimits } from "./settings.ts";
import { StartError } from "./start_error.ts";
import { CommitQueue } from "./storage/commit_queue.ts";
import { SqliteStore } from "./storage/sqlite.ts";
import { dropSqliteThread } from "./storage/sqlite_thread.ts";

/** How long a start waits for a database server before it goes on without, ms. */
const DATABASE_START_MS = 3000;
/** How often a database server that has nothing to do is asked how it is, ms. */
const DATABASE_CHECK_MS = 5000;

const log = getLogger("main");

/** The store of the configuration, what stands before it, and the tokens that it keeps. */
export interface OpenStorage {
  store: HistoryStore;
  queue: CommitQueue;
  tokens: TokenStore;
  /** The engine that is told what becomes of messages; called once, before anything is published. */
  bind(engine: Engine): void;
}

/** Opens the store; null where there is none. Throws a {@link StartError} where it can never be used. */
export async function openStorage(
  config: Config,
  clock: Clock,
  turn: Turn,
  node: string,
): Promise<OpenStorage | null> {
  const isSqlite = config.msg_storage === "sqlite";
  if (!isSqlite) dropSqliteThread();
  if (!isSqlite && config.msg_storage !== "mongodb") return null;
  const { store, tokens } = await unopenedStore(config, node);
  let engine: Engine | null = null;
  const queue = new CommitQueue({
    store,
    turn,
    limits: commitLimits(config),
    onOpened: (lastTs) => engine === null ? clock.moveFrom(lastTs) : engine.storeOpened(lastTs),
    onFailed: (ranges) => engine?.storeFailed(ranges),
    checkIntervalMs: isSqlite ? 0 : DATABASE_CHECK_MS,
  });
  const opened = queue.open();
  try {
    await (isSqlite ? opened : withinMs(opened, DATABASE_START_MS));
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    if (isSqlite) {
      await store.close();
      throw new StartError(`sqlite.path: ${error.message}`, { cause: error });
    }
    // The queue goes on trying.
    log.warn(`${store.description} cannot be used yet: ${error.message}`);
  }
  queue.startAt(clock.last);
  return { store, queue, tokens, bind: (bound) => engine = bound };
}

/** A store that has not been opened yet, and the tokens that it keeps. */
export interface UnopenedStore {
  store: HistoryStore;
  tokens: TokenStore;
}

/** The store that the configuration names, which is `"sqlite"` or `"mongodb"`. */
export async function unopenedStore(config: Config, node: string): Promise<UnopenedStore> {
  return config.msg_storage === "sqlite" ? sqliteStore(config) : await mongoStore(config, node);
}

function sqliteStore(config: Config): UnopenedStore {
  const store = new SqliteStore({
    path: resolve(config.sqlite.path),
    // Half a server is worse than none: what looks after it starts it again.
    onDeath: (error) => crash("storage.sqlite", error),
  });
  return { store, tokens: store.tokens };
}

async function mongoStore(config: Config, node: string): Promise<UnopenedStore> {
  // Not before it is wanted: the driver is large.
  const { MongoConnection, MongoStore, MongoTokenStore, mongoUrl } = await import(
    "./storage/mongodb.ts"
  );
  const { addr, database, username, password, url } = config.mongodb;
  const connection = new MongoConnection({
    url: url !== "" ? url : mongoUrl({ addr: addr.text, username, password }),
    database,
    node,
    connTimeoutMs: config.mongodb.conn_timeout,
    syncTimeoutMs: config.mongodb.sync_timeout,
    operationTimeoutMs: config.mongodb.operation_timeout,
  });
  return { store: new MongoStore(connection), tokens: new MongoTokenStore(connection) };
}

/** Resolves or rejects as `promise` does; rejects with a StoreError when that takes longer than `ms`. */
function withinMs(promise: Promise<void>, ms: number): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<void>((_, reject) => {
    timer = setTimeout(() => reject(new StoreError("unavailable", "it does not answer yet")), ms);
  });
  promise.catch(() => {});
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
