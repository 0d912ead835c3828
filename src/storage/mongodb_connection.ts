// The connection to MongoDB that the history and the tokens share: opened, bounded in time, and let go.

import {
  type Db,
  MongoClient,
  MongoServerError,
  ReadConcern,
  type ReadConcernLevel,
} from "mongodb";
import { messageOf } from "../core/message_of.ts";
import { StoreError } from "../engine/ports/history_store.ts";
import { mongoHosts, secretMask } from "./mongodb_url.ts";
import { keepMarks } from "./mongodb_utf8.ts";

/** Where MongoDB is and how long to wait for it. */
export interface MongoOptions {
  /** A full connection string; TLS and the like are parameters of it. */
  readonly url: string;
  /** Name of the database. */
  readonly database: string;
  /** The name of this node. */
  readonly node: string;
  /** How long connecting to one server may take, ms. */
  readonly connTimeoutMs: number;
  /** How long to look for a server that can be used, ms. */
  readonly syncTimeoutMs: number;
  /** How long one method of a store, or one command of an append, may take, ms. */
  readonly operationTimeoutMs: number;
}

/** One attempt to do something, which has to be over in time. */
export interface Attempt {
  readonly db: Db;
  /** Aborts when the time is over; nobody waits for the work any more then. */
  readonly signal: AbortSignal;
  /** Milliseconds that are left. */
  leftMs(): number;
}

/** How long {@linkcode MongoConnection.close} waits for a server to say good-bye, ms. */
const CLOSE_TIMEOUT_MS = 1000;

/** The error codes of MongoDB for a user that is not let in, and one that may not do what it does. */
const AUTHENTICATION_FAILED = 18;
const UNAUTHORIZED = 13;
const ATLAS_AUTHENTICATION_FAILED = 8000;

/**
 * A client of one database. Every failure comes out as a StoreError "unavailable" that names the
 * server and says what to do, without the secrets of the connection string.
 */
export class MongoConnection {
  /** The hosts and the database: `127.0.0.1:27017/pushd`. */
  readonly place: string;
  readonly options: MongoOptions;

  #mask: (text: string) => string;
  #hosts: string;
  #client: MongoClient | undefined;
  /** What a replica set may still take back is not read; a single server knows only what it has. */
  #readConcern: ReadConcernLevel = "local";
  /** One that is being opened, so that a close meanwhile finds it. */
  #opening: MongoClient | undefined;
  #isClosed = false;
  /** Clients on their way out, which {@link close} waits for. */
  #closing = new Set<Promise<void>>();

  constructor(options: MongoOptions) {
    keepMarks();
    this.options = options;
    this.#hosts = mongoHosts(options.url);
    this.#mask = secretMask(options.url);
    this.place = `${this.#hosts}/${options.database}`;
  }

  /**
   * Connects where that is to do, and runs `prepare`, which has `operationTimeoutMs` for itself. When
   * either fails the client is given up, so that the next call begins with a new one.
   */
  async open<T>(prepare: (attempt: Attempt) => Promise<T>): Promise<T> {
    let client = this.#client;
    try {
      if (client === undefined) {
        client = this.#newClient();
        this.#opening = client;
        const { connTimeoutMs, syncTimeoutMs } = this.options;
        const connecting = client.connect();
        await this.#inTime(Math.max(connTimeoutMs, syncTimeoutMs), () => connecting);
        // Closed meanwhile: then this one is not to be forgotten.
        if (this.#isClosed) throw new Error("the store has been closed");
        const hello = await this.#attempt(
          client,
          ({ db, signal }) => db.command({ hello: 1 }, { signal }),
        );
        const isMember = hello.setName !== undefined || hello.msg === "isdbgrid";
        this.#readConcern = isMember ? "majority" : "local";
        this.#client = client;
      }
      return await this.#attempt(client, prepare);
    } catch (error) {
      this.#client = undefined;
      if (client !== undefined) this.#letGo(client);
      throw this.failure(error);
    } finally {
      this.#opening = undefined;
    }
  }

  /** Runs `work`, at most for `operationTimeoutMs`. Rejects with a StoreError, always. */
  async run<T>(work: (attempt: Attempt) => Promise<T>): Promise<T> {
    if (this.#client === undefined) {
      throw new StoreError("unavailable", `MongoDB at ${this.#hosts} is not connected`);
    }
    try {
      return await this.#attempt(this.#client, work);
    } catch (error) {
      throw this.failure(error);
    }
  }

  /** What is to be said about an error. */
  failure(error: unknown): StoreError {
    if (error instanceof StoreError) return error;
    const reason = this.#mask(messageOf(error));
    const message = `MongoDB at ${this.#hosts}: ${reason}; ${this.#advice(error)}`;
    // The cause is for a log, which must not get what the mask has taken out.
    const seen = error instanceof Error ? `${error.stack}` : "";
    const cause = seen === this.#mask(seen) ? error : undefined;
    return new StoreError("unavailable", message, { cause });
  }

  /** Closes every connection; a server that hangs is not waited for. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const client of new Set([this.#client, this.#opening])) {
      if (client !== undefined) this.#letGo(client);
    }
    this.#client = undefined;
    await Promise.all(this.#closing);
  }

  #newClient(): MongoClient {
    if (this.#isClosed) throw new Error("the store has been closed");
    const { url, connTimeoutMs, syncTimeoutMs, operationTimeoutMs } = this.options;
    return new MongoClient(url, {
      appName: "pushd",
      connectTimeoutMS: connTimeoutMs,
      serverSelectionTimeoutMS: syncTimeoutMs,
      // Ends what hangs on the driver's side too, some time after nobody waits for it any more.
      socketTimeoutMS: operationTimeoutMs + 1000,
      waitQueueTimeoutMS: operationTimeoutMs,
      writeConcern: { w: "majority", journal: true },
      // What has been appended is to be seen, whatever the connection string prefers.
      readPreference: "primary",
      ignoreUndefined: true,
    });
  }

  async #attempt<T>(client: MongoClient, work: (attempt: Attempt) => Promise<T>): Promise<T> {
    const { database, operationTimeoutMs } = this.options;
    const end = performance.now() + operationTimeoutMs;
    const db = client.db(database, { readConcern: new ReadConcern(this.#readConcern) });
    const leftMs = () => Math.max(0, end - performance.now());
    return await this.#inTime(operationTimeoutMs, (signal) => work({ db, signal, leftMs }));
  }

  /** What `work` gives; when the time is over an error, however long the driver goes on waiting. */
  async #inTime<T>(ms: number, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const controller = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const error = new Error(`no answer within ${ms} ms`);
        reject(error);
        controller.abort(error);
      }, ms);
    });
    try {
      const working = work(controller.signal);
      // Where the time wins, its failure comes when nobody listens.
      working.catch(() => {});
      return await Promise.race([working, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #letGo(client: MongoClient): void {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<void>((resolve) => timer = setTimeout(resolve, CLOSE_TIMEOUT_MS));
    const closing = Promise.race([client.close().catch(() => {}), late]).finally(() => {
      clearTimeout(timer);
      this.#closing.delete(closing);
    });
    this.#closing.add(closing);
  }

  #advice(error: unknown): string {
    const code = error instanceof MongoServerError ? error.code : undefined;
    if (code === AUTHENTICATION_FAILED || code === ATLAS_AUTHENTICATION_FAILED) {
      return "check mongodb.username and mongodb.password, or mongodb.url and its authSource";
    }
    if (code === UNAUTHORIZED) {
      return `give the user the role readWrite on the database ${this.options.database}`;
    }
    if (code !== undefined) return "see the log of the database server";
    return "see that it runs and can be reached, and check mongodb.addr or mongodb.url";
  }
}
