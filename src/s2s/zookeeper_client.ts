// One session with ZooKeeper: npm:node-zookeeper-client with what it needs to be left alone with strangers.

import { Buffer } from "node:buffer";
import { messageOf } from "../core/message_of.ts";
import { checkInnerLength, FrameReader, ProtocolError } from "./zookeeper_frames.ts";
import {
  type ConnectionManager,
  type Done,
  library,
  type LibraryClient,
  type LibraryError,
  type LibraryStat,
  ManagerState,
  OpCode,
  type Watcher,
} from "./zookeeper_library.ts";
import type { ServerRing } from "./zookeeper_servers.ts";

/** Why a request has failed. "connection" is one that may have been carried out all the same. */
export type ZooKeeperErrorCode = "no-node" | "node-exists" | "session" | "connection" | "other";

/** A request to ZooKeeper has failed. */
export class ZooKeeperError extends Error {
  override readonly name = "ZooKeeperError";

  constructor(readonly code: ZooKeeperErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
  }
}

/** What is known of a znode beside its data. */
export interface Stat {
  /** The session it ends with, as 16 hex digits; all zeros where it is persistent. */
  readonly owner: string;
  /** Changes with the list of its children. */
  readonly childrenAt: string;
}

/** What a {@link ZooKeeperClient} tells. Nothing after its end. */
export interface ClientEvents {
  /** A connection with the session is there; no watch is left of the one before. */
  onConnected(): void;
  /** Every server was tried, or there was no answer for too long. Told once for each time it is so. */
  onUnreachable(reason: string): void;
  /** Something has changed at a path that was read with a watch; the watch is used up. */
  onChange(path: string): void;
  /** The session is over and with it the client; the one thing that a new client is needed for. */
  onOver(): void;
}

export interface ClientOptions {
  readonly servers: ServerRing;
  /** Asked of the server, which may decide on another one. */
  readonly sessionTimeoutMs: number;
}

/** A connection that held for so long was a good one, ms. */
const STEADY_MS = 5000;
/** How long a server may take for its first answer, at most, ms. */
const MAX_ATTEMPT_MS = 5000;

/**
 * A session and, one after the other, the connections that carry it. The library connects again by itself and
 * takes the session along; what is taken out of its hands is what it is not fit for:
 *
 * - when and where it connects (it has no back-off, and no deadline for the first answer);
 * - the cutting of frames (garbage throws in its handlers, which would end the process; half a frame is kept
 *   for the next connection; a large length is waited for without end);
 * - the transaction seen last (a ZooKeeper that came back empty closes on who has seen more; everything is
 *   read anew on each connection, so nothing depends on it) and its watches (for the same reason);
 * - silence: a server that was stopped keeps its connections;
 * - its end: nothing of it goes on afterwards.
 */
export class ZooKeeperClient {
  readonly #events: ClientEvents;
  readonly #ring: ServerRing;
  readonly #client: LibraryClient;
  readonly #manager: ConnectionManager;
  readonly #frames = new FrameReader();
  /** How long silence is taken for a pause, ms. */
  readonly #silenceMs: number;
  #isOver = false;
  #isConnected = false;
  #hasSaidUnreachable = false;
  #heardMs = performance.now();
  #connectedMs = 0;
  #reason = "no answer";
  #attemptTimer: ReturnType<typeof setTimeout> | undefined;
  #watchdog: ReturnType<typeof setInterval> | undefined;
  /** Fail the requests that are under way: an error inside the library can make it forget one. */
  readonly #asked = new Set<(error: ZooKeeperError) => void>();
  /** Resolved when the connection that carries the farewell is closed. */
  #onClosed: (() => void) | undefined;
  #closing: Promise<void> | undefined;
  readonly #onEvent: Watcher = (event) => this.#tell(() => this.#events.onChange(event.getPath()));

  constructor({ servers, sessionTimeoutMs }: ClientOptions, events: ClientEvents) {
    this.#events = events;
    this.#ring = servers;
    this.#silenceMs = sessionTimeoutMs;
    // The servers it is given it never asks for: findNextServer is ours.
    this.#client = library.createClient("none:1", {
      sessionTimeout: sessionTimeoutMs,
      spinDelay: 0,
      retries: 0,
    });
    this.#manager = this.#client.connectionManager;
    this.#takeOver(this.#manager);
    this.#client.on("connected", () => this.#onConnected());
    this.#client.on("expired", () => {
      this.end();
      this.#events.onOver();
    });
  }

  /** Begins. Called once. */
  connect(): void {
    this.#heardMs = performance.now();
    this.#watchdog = setInterval(() => this.#watch(), Math.max(this.#silenceMs / 6, 20));
    this.#client.connect();
  }

  /** Whether there is a connection that carries the session. */
  get isConnected(): boolean {
    return this.#isConnected;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** 16 hex digits; before the first connection all zeros. */
  get sessionId(): string {
    return this.#client.getSessionId().toString("hex");
  }

  /** How long the server keeps the session without hearing of us, ms, as it said. */
  get sessionTimeoutMs(): number {
    return this.#client.getSessionTimeout();
  }

  /** Makes a znode. Rejects with a ZooKeeperError, as all of these do. */
  async create(path: string, data: Uint8Array, kind: "persistent" | "ephemeral"): Promise<void> {
    const { PERSISTENT, EPHEMERAL } = library.CreateMode;
    const mode = kind === "ephemeral" ? EPHEMERAL : PERSISTENT;
    await this.#ask<[string]>((done) => this.#client.create(path, Buffer.from(data), mode, done));
  }

  /** Puts an ephemeral znode of this session in the place of one of another; nobody sees neither. */
  async replace(path: string, data: Uint8Array): Promise<void> {
    await this.#ask<[unknown]>((done) =>
      this.#client.transaction().remove(path)
        .create(path, Buffer.from(data), library.CreateMode.EPHEMERAL).commit(done)
    );
  }

  async setData(path: string, data: Uint8Array): Promise<void> {
    await this.#ask<[LibraryStat]>((done) =>
      this.#client.setData(path, Buffer.from(data), -1, done)
    );
  }

  /** Null where there is no such znode; with `watch` its coming, going and changing is told once. */
  async exists(path: string, watch: boolean): Promise<Stat | null> {
    const watcher = watch ? this.#onEvent : undefined;
    const [stat] = await this.#ask<[LibraryStat | null]>((done) =>
      this.#client.exists(path, watcher, done)
    );
    return stat === null ? null : statOf(stat);
  }

  /** The names below a znode, with a watch on the list. */
  async children(path: string): Promise<{ names: string[]; stat: Stat }> {
    const [names, stat] = await this.#ask<[string[], LibraryStat]>((done) =>
      this.#client.getChildren(path, this.#onEvent, done)
    );
    return { names: names ?? [], stat: statOf(stat) };
  }

  /** The data of a znode, with a watch on it. */
  async data(path: string): Promise<{ data: Uint8Array; stat: Stat }> {
    const [data, stat] = await this.#ask<[Buffer | undefined, LibraryStat]>((done) =>
      this.#client.getData(path, this.#onEvent, done)
    );
    return { data: data ?? new Uint8Array(), stat: statOf(stat) };
  }

  /** Ends the session where it can be said to the server within `timeoutMs`, and the client in any case. Idempotent. */
  close(timeoutMs: number): Promise<void> {
    return this.#closing ??= this.#close(timeoutMs);
  }

  async #close(timeoutMs: number): Promise<void> {
    if (!this.#isConnected || this.#isOver) return this.end();
    this.#isConnected = false;
    clearInterval(this.#watchdog);
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#onClosed = () => {
        clearTimeout(timer);
        resolve();
      };
      // The last request; the server answers it and closes.
      this.#guard(() => this.#client.close());
    });
    this.end();
  }

  /** Ends the client and leaves its session, if any, to the server. Idempotent. */
  end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#isConnected = false;
    clearTimeout(this.#attemptTimer);
    clearInterval(this.#watchdog);
    clearTimeout(this.#manager.connectTimeoutHandler ?? undefined);
    // In this state it does not connect again when the socket has closed.
    this.#manager.state = ManagerState.closing;
    this.#manager.socket?.destroy();
    this.#failAsked("the client has ended");
    this.#onClosed?.();
  }

  /** Puts ours in the place of some methods of the library's connections; each is looked up when used. */
  #takeOver(manager: ConnectionManager): void {
    const { onSocketConnected, onSocketData, onSocketDrain, onSocketTimeout } = manager;
    const { onSocketError, onSocketClosed } = manager;
    manager.findNextServer = (connect) => this.#findNextServer(connect);
    manager.onSocketConnected = () =>
      this.#guard(() => {
        this.#frames.reset();
        manager.pendingBuffer = null;
        manager.zxid = Buffer.alloc(8);
        const { watcherManager } = manager;
        watcherManager.dataWatchers = {};
        watcherManager.childWatchers = {};
        watcherManager.existenceWatchers = {};
        onSocketConnected.call(manager);
      });
    manager.onSocketData = (bytes) =>
      this.#guard(() => {
        this.#frames.push(bytes);
        for (let frame = this.#frames.next(); frame !== null; frame = this.#frames.next()) {
          if (this.#isOver) return;
          const [asked] = manager.pendingQueue;
          if (
            manager.state === ManagerState.connecting ||
            asked?.request.header.type === OpCode.getData
          ) checkInnerLength(frame);
          onSocketData.call(manager, frame);
          this.#heardMs = performance.now();
        }
      });
    manager.onSocketDrain = () => this.#guard(() => onSocketDrain.call(manager));
    manager.onSocketTimeout = () => this.#guard(() => onSocketTimeout.call(manager));
    manager.onSocketError = (error) => {
      this.#reason = error.message;
      this.#guard(() => onSocketError.call(manager, error));
    };
    manager.onSocketClosed = (hadError) => {
      clearTimeout(this.#attemptTimer);
      clearTimeout(manager.connectTimeoutHandler ?? undefined);
      if (this.#isConnected) {
        this.#isConnected = false;
        this.#reason = "it closed the connection";
        if (performance.now() - this.#connectedMs >= STEADY_MS) this.#ring.reset();
      }
      this.#guard(() => onSocketClosed.call(manager, hadError));
      this.#failAsked(this.#reason);
      this.#onClosed?.();
    };
  }

  #findNextServer(connect: (server: { host: string; port: number }) => void): void {
    if (this.#isOver) return;
    if (this.#ring.isExhausted) this.#sayUnreachable();
    const { hostname: host, port, pauseMs } = this.#ring.next();
    this.#attemptTimer = setTimeout(() => {
      this.#attemptTimer = setTimeout(
        () => this.#drop("it does not answer"),
        Math.min(MAX_ATTEMPT_MS, this.#silenceMs / 2),
      );
      this.#reason = "it closed the connection";
      this.#guard(() => connect({ host, port }));
    }, pauseMs);
  }

  #onConnected(): void {
    clearTimeout(this.#attemptTimer);
    this.#isConnected = true;
    this.#hasSaidUnreachable = false;
    this.#connectedMs = this.#heardMs = performance.now();
    this.#tell(() => this.#events.onConnected());
  }

  #watch(): void {
    const silentMs = performance.now() - this.#heardMs;
    if (this.#isConnected && silentMs > this.#silenceMs * 2 / 3) this.#drop("it does not answer");
    if (silentMs > this.#silenceMs) this.#sayUnreachable();
  }

  #sayUnreachable(): void {
    if (this.#hasSaidUnreachable) return;
    this.#hasSaidUnreachable = true;
    this.#tell(() => this.#events.onUnreachable(this.#reason));
  }

  #tell(event: () => void): void {
    if (!this.#isOver) event();
  }

  /** Runs a piece of the library, whose errors would end the process: the connection ends instead. */
  #guard(run: () => void): void {
    try {
      run();
    } catch (error) {
      const text = messageOf(error);
      const said = error instanceof ProtocolError || error instanceof RangeError;
      this.#drop(said ? `what it sends is not ZooKeeper's protocol (${text})` : text);
    }
  }

  /** Gives a connection up; the library then asks for the next server. */
  #drop(reason: string): void {
    this.#manager.socket?.destroy();
    if (this.#isConnected && performance.now() - this.#connectedMs >= STEADY_MS) this.#ring.reset();
    this.#isConnected = false;
    this.#reason = reason;
    this.#failAsked(reason);
  }

  #failAsked(reason: string): void {
    for (const fail of this.#asked) fail(new ZooKeeperError("connection", reason));
  }

  #ask<T extends unknown[]>(start: (done: Done<T>) => void): Promise<T> {
    if (!this.#isConnected) {
      return Promise.reject(new ZooKeeperError("connection", `not connected: ${this.#reason}`));
    }
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const timer = setTimeout(() => this.#drop("it does not answer"), this.#silenceMs);
    this.#asked.add(reject);
    try {
      start((error, ...values) => {
        if (error === null || error === undefined) resolve(values);
        else reject(wrap(error));
      });
    } catch (error) {
      reject(new ZooKeeperError("other", `the request failed: ${error}`, { cause: error }));
      this.#drop(String(error));
    }
    return promise.finally(() => {
      clearTimeout(timer);
      this.#asked.delete(reject);
    });
  }
}

function statOf(stat: LibraryStat): Stat {
  return {
    owner: stat.ephemeralOwner.toString("hex"),
    childrenAt: stat.pzxid.toString("hex"),
  };
}

function wrap(error: LibraryError): ZooKeeperError {
  const { NO_NODE, NODE_EXISTS, SESSION_EXPIRED, CONNECTION_LOSS } = library.Exception;
  const codes: Record<number, ZooKeeperErrorCode> = {
    [NO_NODE]: "no-node",
    [NODE_EXISTS]: "node-exists",
    [SESSION_EXPIRED]: "session",
    [CONNECTION_LOSS]: "connection",
  };
  return new ZooKeeperError(codes[error.getCode()] ?? "other", error.message, { cause: error });
}
