// An engine with a store that does what the test says, and the real commit queue between them.

import assert from "node:assert/strict";
import { Clock } from "../src/core/clock.ts";
import { Turn } from "../src/core/turn.ts";
import { Engine, type HistoryPage, type ReplayStart } from "../src/engine/engine.ts";
import type { HistoryLimits } from "../src/engine/history_cache.ts";
import type { ChannelBlock } from "../src/engine/ports/history_store.ts";
import type { Session } from "../src/engine/session.ts";
import { decodeUtf8, encodeUtf8 } from "../src/proto/bytes.ts";
import { type CommitLimits, CommitQueue } from "../src/storage/commit_queue.ts";
import { arrayOf, Client, clientOf, FakeTime, type Got } from "./engine_bench.ts";
import { goRound } from "./go_round.ts";
import { HeldStore } from "./held_store.ts";

/** What differs from an engine that keeps about everything in memory, too. */
export interface StoredBenchOptions {
  store?: HeldStore;
  history?: Partial<HistoryLimits>;
  commit?: Partial<CommitLimits>;
  node?: string;
}

/** A message of `his`. */
export interface Kept extends Got {
  node: string;
}

/** An engine before a store; one after the other may stand before the same. */
export class StoredBench implements AsyncDisposable {
  readonly time = new FakeTime();
  readonly store: HeldStore;
  readonly queue: CommitQueue;
  readonly engine: Engine;

  private constructor(options: StoredBenchOptions, clock: Clock, turn: Turn, queue: CommitQueue) {
    this.store = options.store ?? new HeldStore();
    this.queue = queue;
    this.engine = new Engine({
      clock,
      turn,
      node: options.node ?? "node-1",
      keepHistory: true,
      history: {
        maxMessagesPerChannel: 3,
        maxBytes: 1 << 30,
        maxIdleChannels: 100,
        ...options.history,
      },
      storage: { store: this.store, queue },
      maxChannelsPerConnection: 10_000,
    });
  }

  static async open(given: StoredBenchOptions = {}): Promise<StoredBench> {
    const options = { store: new HeldStore(), ...given };
    const clock = new Clock(new FakeTime());
    const turn = new Turn();
    let bench: StoredBench | null = null;
    const queue = new CommitQueue({
      store: options.store,
      turn,
      limits: {
        flushPolicy: 0,
        maxMessages: 100_000,
        maxBytes: 1 << 30,
        maxBufferedMessages: 100_000,
        ...options.commit,
      },
      onOpened: (lastTs) =>
        bench === null ? clock.moveFrom(lastTs) : bench.engine.storeOpened(lastTs),
      onFailed: (ranges) => bench?.engine.storeFailed(ranges),
    });
    await queue.open();
    queue.startAt(clock.last);
    queue.supervise();
    bench = new StoredBench(options, clock, turn, queue);
    return bench;
  }

  connect(client: Client = new Client()): Session {
    return this.engine.openSession(client, "192.0.2.1");
  }

  /** Publishes; the turn ends by itself, behind what runs now. */
  pub(session: Session, name: string, msg: string): number {
    assert.equal(this.queue.admission, "open");
    const line = encodeUtf8(`${name} ${msg}`);
    const end = encodeUtf8(name).length;
    const channel = this.engine.channelFor(session, line, 0, end);
    const ts = this.engine.publish(session, channel, line, end + 1, line.length);
    assert.equal(decodeUtf8(this.engine.timestampDigits), String(ts));
    return ts;
  }

  /** Publishes each in a turn of its own, and returns the timestamps once all are kept. */
  async pubAll(name: string, messages: readonly string[]): Promise<number[]> {
    const session = this.connect();
    const stamps: number[] = [];
    for (const message of messages) {
      stamps.push(this.pub(session, name, message));
      await goRound();
    }
    await this.until(() => this.queue.messages === 0);
    return stamps;
  }

  async his(
    name: string,
    fromTs: number,
    limit = 1000,
  ): Promise<{ kept: Kept[]; partial: boolean }> {
    const session = this.connect();
    const page: HistoryPage = await this.engine.history(session, name, fromTs, limit);
    return { kept: JSON.parse(arrayOf(page)), partial: page.partial };
  }

  async texts(name: string, fromTs = 0): Promise<string[]> {
    return (await this.his(name, fromTs)).kept.map(({ msg }) => msg);
  }

  /** Subscribes from a timestamp and lets the messages flow. */
  async sub(session: Session, name: string, afterTs: number): Promise<ReplayStart> {
    const start = await this.engine.subscribeFrom(session, name, afterTs);
    assert.ok(start !== undefined, "subscribed already");
    start.start();
    return start;
  }

  /** Reads until all replays are over, and returns the messages that the session got in all. */
  async got(session: Session): Promise<string[]> {
    await goRound();
    while (session.replays.size > 0) await this.readOnce(session);
    await goRound();
    clientOf(session).read();
    return clientOf(session).got.map(({ msg }) => msg);
  }

  async readOnce(session: Session): Promise<void> {
    clientOf(session).read();
    this.engine.pumpReplays(session);
    await goRound();
  }

  /** One round of retention. */
  async prune(beforeTs: number, keepPerChannel = 0): Promise<void> {
    for (let cursor: unknown = undefined;;) {
      const step = await this.store.prune({ beforeTs, keepPerChannel, cursor });
      for (const { app, channel, prunedTs } of step.pruned) {
        this.engine.pruned(app, channel, prunedTs);
      }
      if (step.cursor === undefined) return;
      cursor = step.cursor;
    }
  }

  async until(isDone: () => boolean): Promise<void> {
    while (!isDone()) await goRound();
  }

  /** Nobody is subscribed, and nothing is left of anybody who was. */
  checkEmpty(): void {
    assert.equal(this.engine.counters.subscriptions, 0);
    for (const channel of this.engine.app("default").channels()) assert.ok(channel.isIdle);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.store.holdsReads = this.store.holdsAppends = this.store.isDown = false;
    this.store.releaseReads();
    this.store.endAppend();
    await this.queue.close(5000);
  }
}

/** A block as another node may have put it into the same store. */
export function blockOf(
  node: string,
  channel: string,
  messages: readonly (readonly [ts: number, msg: string, from?: string])[],
): ChannelBlock {
  return {
    app: "default",
    channel,
    node,
    lines: encodeUtf8(messages.map(([ts, msg]) => `MESSAGE ${channel} ${ts} ${msg}\r\n`).join("")),
    count: messages.length,
    firstTs: messages[0][0],
    lastTs: messages[messages.length - 1][0],
    froms: messages.some(([, , from]) => from !== undefined)
      ? messages.map(([, , from]) => from)
      : null,
  };
}
