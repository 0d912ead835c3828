// An engine with clients in memory, for tests: they read when they are told to.

import assert from "node:assert/strict";
import type { PooledBuffer } from "../src/core/buffer_pool.ts";
import { Clock, type TimeSource } from "../src/core/clock.ts";
import { Turn } from "../src/core/turn.ts";
import {
  Engine,
  type EngineOptions,
  type HistoryPage,
  type ReplayStart,
} from "../src/engine/engine.ts";
import type { Subscriber } from "../src/engine/ports/subscriber.ts";
import type { Session } from "../src/engine/session.ts";
import { decodeUtf8, encodeUtf8 } from "../src/proto/bytes.ts";

export const START_MS = 1_700_000_000_000;

/** Clocks that stand still until they are set. */
export class FakeTime implements TimeSource {
  wall = START_MS;
  mono = 0;
  wallMs(): number {
    return this.wall;
  }
  monoMs(): number {
    return this.mono;
  }
}

/** One message as a client reads it. */
export interface Got {
  channel: string;
  ts: number;
  msg: string;
  from?: string;
}

/** A client that reads when it is told to; what waits for it is not its own, as with a real socket. */
export class Client implements Subscriber {
  readonly got: Got[] = [];
  readonly forms: string[] = [];
  /** The node that accepts what it gets; null: any. */
  node: string | null = "node-1";
  /** The node of each message, with JSON. */
  readonly nodes: string[] = [];
  isCut = false;
  #waiting: { lines: PooledBuffer; text: string }[] = [];
  #pending = 0;

  constructor(readonly room = Infinity) {}

  deliver(lines: PooledBuffer): void {
    if (this.isCut) return lines.release();
    const text = decodeUtf8(lines.view);
    assert.match(text, /^[^]+\r\n$/);
    this.#waiting.push({ lines, text });
    this.#pending += lines.length;
  }

  replayRoom(): number {
    return this.isCut ? 0 : this.room - this.#pending;
  }

  backlog(): number {
    return 0;
  }

  measureDelivery(): void {}

  caughtUp(): void {}

  cutOff(): void {
    this.isCut = true;
  }

  /** Reads everything that waits. */
  read(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#pending = 0;
    for (const { lines, text } of waiting) {
      assert.equal(decodeUtf8(lines.view), text, "bytes that wait for a client have changed");
      lines.release();
      for (const line of text.split("\r\n").slice(0, -1)) this.got.push(this.#parse(line));
    }
  }

  #parse(line: string): Got {
    if (line.startsWith("EVENT ")) {
      this.forms.push("json");
      const { op, node, channel, ts, msg, from } = JSON.parse(line.slice(6));
      this.nodes.push(node);
      assert.deepEqual([op, this.node === null ? null : node], ["msg", this.node]);
      return from === undefined ? { channel, ts, msg } : { channel, ts, msg, from };
    }
    this.forms.push("text");
    const words = /^MESSAGE ([^ ]+) ([0-9]{16}) ([^\n]+)$/.exec(line);
    assert.ok(words !== null, line);
    return { channel: words[1], ts: Number(words[2]), msg: words[3] };
  }
}

/** The array in the reply to `his`, whose line is given back. */
export function arrayOf({ line }: HistoryPage): string {
  const text = decodeUtf8(line.view);
  line.release();
  const [, json] = /^HISTORY [^ ]+ (?:PARTIAL )?(\[[^]*\])\r\n$/.exec(text) ?? [];
  assert.ok(json !== undefined, text);
  return json;
}

/** An engine without a store: memory answers at once. */
export class MemoryEngine extends Engine {
  override history(...args: Parameters<Engine["history"]>): HistoryPage {
    return atOnce(super.history(...args));
  }

  override subscribeFrom(...args: Parameters<Engine["subscribeFrom"]>): ReplayStart | undefined {
    return atOnce(super.subscribeFrom(...args));
  }
}

function atOnce<T>(answer: T | Promise<T>): T {
  assert.ok(!(answer instanceof Promise), "the answer was to come at once");
  return answer;
}

/** An engine, and what a test does with it. */
export interface Bench {
  engine: MemoryEngine;
  time: FakeTime;
  open(client?: Client): Session;
  pub(session: Session, channel: string, msg: string): number;
}

/** An engine that keeps everything, unless told otherwise. */
export function bench(options: Partial<EngineOptions> = {}): Bench {
  const time = new FakeTime();
  const engine = new MemoryEngine({
    clock: new Clock(time),
    turn: new Turn(),
    node: "node-1",
    keepHistory: true,
    history: { maxMessagesPerChannel: 100_000, maxBytes: 1 << 30, maxIdleChannels: 100_000 },
    maxChannelsPerConnection: 10_000,
    ...options,
  });
  return {
    engine,
    time,
    open: (client = new Client()) => engine.openSession(client, "192.0.2.1"),
    pub(session, name, msg) {
      const line = encodeUtf8(`${name} ${msg}`);
      const end = encodeUtf8(name).length;
      const channel = engine.channelFor(session, line, 0, end);
      const ts = engine.publish(session, channel, line, end + 1, line.length);
      assert.equal(decodeUtf8(engine.timestampDigits), String(ts).padStart(16, "0"));
      return ts;
    },
  };
}

/** `sub <channel>`, where there is nobody to wait for; false when the session follows it already. */
export function follow(engine: Engine, session: Session, channel: string): boolean {
  const joining = engine.subscribe(session, channel);
  assert.equal(joining?.ready ?? null, null);
  joining?.join();
  return joining !== undefined;
}

export function clientOf(session: Session): Client {
  assert.ok(session.subscriber instanceof Client);
  return session.subscriber;
}

/** Ends the turn and returns the messages that the session has received in all. */
export function readAll({ engine }: Bench, session: Session): string[] {
  engine.endTurn();
  const client = clientOf(session);
  client.read();
  engine.pumpReplays(session);
  client.read();
  return client.got.map(({ msg }) => msg);
}
