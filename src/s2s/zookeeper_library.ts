// What is used of npm:node-zookeeper-client, which has no types, and of its inside, which has to be kept in check.

import type { Buffer } from "node:buffer";
import type { Socket } from "node:net";
import untyped from "node-zookeeper-client";

/** Of the `Stat` of a znode, what is looked at. 64-bit numbers are buffers of 8 bytes. */
export interface LibraryStat {
  /** The session whose end removes the znode; zero where it is persistent. */
  readonly ephemeralOwner: Buffer;
  /** The transaction that changed the list of children last. */
  readonly pzxid: Buffer;
}

/** The library's `Exception`. */
export interface LibraryError extends Error {
  getCode(): number;
}

export interface LibraryEvent {
  getPath(): string;
}

export type Watcher = (event: LibraryEvent) => void;

/** How every request ends: an error, or null or undefined and what there is to tell. */
export type Done<T extends unknown[]> = (
  error: LibraryError | null | undefined,
  ...values: T
) => void;

/** Several changes that happen together or not at all. */
export interface LibraryTransaction {
  remove(path: string): LibraryTransaction;
  create(path: string, data: Buffer, mode: number): LibraryTransaction;
  commit(done: Done<[unknown]>): void;
}

/** The library's client. It gives each request that is under way to `connectionManager`. */
export interface LibraryClient {
  readonly connectionManager: ConnectionManager;
  connect(): void;
  close(): void;
  on(event: "connected" | "disconnected" | "expired", listener: () => void): void;
  getSessionId(): Buffer;
  getSessionTimeout(): number;
  create(path: string, data: Buffer, mode: number, done: Done<[string]>): void;
  remove(path: string, done: Done<[]>): void;
  setData(path: string, data: Buffer, version: number, done: Done<[LibraryStat]>): void;
  exists(path: string, watcher: Watcher | undefined, done: Done<[LibraryStat | null]>): void;
  getChildren(
    path: string,
    watcher: Watcher,
    done: Done<[string[], LibraryStat]>,
  ): void;
  getData(
    path: string,
    watcher: Watcher | undefined,
    done: Done<[Buffer | undefined, LibraryStat]>,
  ): void;
  transaction(): LibraryTransaction;
}

/** One connection after the other, for one session: the part of the inside that we take in hand. */
export interface ConnectionManager {
  /** See {@linkcode ManagerState}. */
  state: number;
  socket?: Socket;
  connectTimeoutHandler: ReturnType<typeof setTimeout> | null;
  /** The newest transaction seen. */
  zxid: Buffer;
  pendingBuffer: Buffer | null;
  /** Requests that were sent and have no answer, in their order. */
  readonly pendingQueue: readonly { request: { header: { type: number } } }[];
  /** Lists by path. */
  readonly watcherManager: {
    dataWatchers: Record<string, unknown>;
    childWatchers: Record<string, unknown>;
    existenceWatchers: Record<string, unknown>;
  };
  findNextServer(connect: (server: { host: string; port: number }) => void): void;
  onSocketConnected(): void;
  onSocketData(bytes: Buffer): void;
  onSocketDrain(): void;
  onSocketTimeout(): void;
  onSocketError(error: Error): void;
  onSocketClosed(hadError: boolean): void;
}

/** States of a {@linkcode ConnectionManager}. */
export const ManagerState = { connecting: 1, connected: 2, closing: -1 } as const;

/** Types of requests. */
export const OpCode = { getData: 4 } as const;

interface Library {
  createClient(
    servers: string,
    options: { sessionTimeout: number; spinDelay: number; retries: number },
  ): LibraryClient;
  readonly CreateMode: { readonly PERSISTENT: number; readonly EPHEMERAL: number };
  readonly Exception: {
    readonly CONNECTION_LOSS: number;
    readonly NO_NODE: number;
    readonly NODE_EXISTS: number;
    readonly SESSION_EXPIRED: number;
  };
}

export const library: Library = untyped;
