// The clients' door on a free port, in the test's own process.

import assert from "node:assert/strict";
import { Clock } from "../src/core/clock.ts";
import { getLogger } from "../src/core/logger.ts";
import { runningTasks } from "../src/core/spawn.ts";
import { Turn } from "../src/core/turn.ts";
import { Auth, type AuthOptions } from "../src/engine/auth.ts";
import { Engine, type EngineOptions } from "../src/engine/engine.ts";
import { MemoryTokenStore } from "../src/storage/memory_tokens.ts";
import { type CommitLimits, CommitQueue } from "../src/storage/commit_queue.ts";
import type { ServLimits } from "../src/serv/limits.ts";
import { Server } from "../src/serv/server.ts";
import { goRound, pastTurnTimer } from "./go_round.ts";
import type { HeldStore } from "./held_store.ts";
import { LineClient } from "./load_client.ts";

const LIMITS: ServLimits = {
  maxConnections: 1000,
  maxFiles: 10_000,
  maxConnectionsPerAddress: 0,
  maxLineBytes: 65_536,
  maxPendingBytes: 8 * 1024 * 1024,
  writeTimeoutMs: 10_000,
  sessionTimeoutMs: 600_000,
  authTimeoutMs: 10_000,
  maxPublishesPerSecond: 0,
  maxChannelsPerConnection: 100,
};

const APPS = [{ id: "a", secret: "s3cret" }, { id: "b", secret: "other" }];

/** What differs from a server that allows about everything. */
export interface DoorOptions {
  limits?: Partial<ServLimits>;
  engine?: Partial<EngineOptions>;
  auth?: Partial<AuthOptions>;
  /** What keeps messages, with the real commit queue before it; memory alone where there is none. */
  store?: HeldStore;
  commit?: Partial<CommitLimits>;
}

/** A server on a free port of loopback, in this process. */
export class Door implements AsyncDisposable {
  readonly server: Server;
  readonly port: number;
  readonly queue: CommitQueue | null;
  #serving: Promise<void>;
  #opened: Promise<void>;

  constructor({ limits, engine, auth, store, commit }: DoorOptions = {}) {
    const turn = new Turn();
    const clock = new Clock();
    this.queue = store === undefined ? null : new CommitQueue({
      store,
      turn,
      limits: {
        flushPolicy: 0,
        maxMessages: 100_000,
        maxBytes: 1 << 28,
        maxBufferedMessages: 100_000,
        ...commit,
      },
      onOpened: (lastTs) => this.server.engine.storeOpened(lastTs),
      onFailed: (ranges) => this.server.engine.storeFailed(ranges),
    });
    this.queue?.startAt(clock.last);
    this.server = new Server({
      turn,
      engine: new Engine({
        clock,
        turn,
        node: "node-1",
        keepHistory: true,
        history: { maxMessagesPerChannel: 100_000, maxBytes: 1 << 28, maxIdleChannels: 1000 },
        maxChannelsPerConnection: 100,
        ...(store !== undefined && this.queue !== null
          ? { storage: { store, queue: this.queue } }
          : {}),
        ...engine,
      }),
      auth: new Auth({
        tokens: new MemoryTokenStore(),
        required: false,
        apps: APPS,
        tokenTtlMs: 600_000,
        maxUnusedTokens: 100,
        ...auth,
      }),
      limits: { ...LIMITS, ...limits },
      logger: getLogger("serv"),
    });
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.port = listener.addr.port;
    this.#serving = this.server.serve(listener);
    this.queue?.supervise();
    // The store of a test is there before the first client is.
    this.#opened = this.queue?.open() ?? Promise.resolve();
  }

  async connect(): Promise<LineClient> {
    await this.#opened;
    const client = await LineClient.connect(this.port);
    client.conn.setNoDelay(true);
    return client;
  }

  /** Waits until everything is as if nobody had been here. */
  async untilEmpty(): Promise<void> {
    while (this.server.connections.size > 0) await goRound();
    assert.equal(this.server.engine.counters.subscriptions, 0);
    for (const channel of this.server.engine.app("default").channels()) assert.ok(channel.isIdle);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    assert.equal(await this.server.stop(2000), 0);
    await this.#serving;
    await this.queue?.close(5000);
    while (runningTasks().length > 0) await goRound();
    await pastTurnTimer();
  }
}

/** Sends, shuts the sending side, and returns every line up to the end. */
export async function exchange(door: Door, text: string | Uint8Array): Promise<string[]> {
  using client = await door.connect();
  await client.send(text);
  await client.conn.closeWrite();
  return await client.rest();
}

/** A line with what differs from run to run taken out. */
export function generalized(line: string): string {
  return line.replace(/\b1[0-9]{15}\b/g, "<ts>").replace(/^(ERROR [a-z-]+) .*$/, "$1");
}
