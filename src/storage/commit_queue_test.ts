// Group commit and write-behind before a store that commits, fails and comes back when it is told to.

import assert from "node:assert/strict";
import { buffers } from "../core/buffer_pool.ts";
import { nextTurn, Turn } from "../core/turn.ts";
import type { CommitGroup, QueuedBlock } from "../engine/ports/history_queue.ts";
import { type ChannelBlock, type MessageRange, StoreError } from "../engine/ports/history_store.ts";
import { encodeUtf8 } from "../proto/bytes.ts";
import { type CommitLimits, CommitQueue } from "./commit_queue.ts";
import { MemoryStore } from "./memory.ts";

const LIMITS: CommitLimits = {
  flushPolicy: 0,
  maxMessages: 1000,
  maxBytes: 1 << 20,
  maxBufferedMessages: 1000,
};
const START_TS = 1_700_000_000_000_000;

/** A real store that is held up and broken by the test. */
class GatedStore extends MemoryStore {
  readonly appends: number[] = [];
  readonly forgotten: MessageRange[] = [];
  isBroken = false;
  /** Ends the append under way. */
  release: (() => void) | null = null;
  #isGated = true;

  /** Appends are no longer held up. */
  ungate(): void {
    this.#isGated = false;
    this.release?.();
  }

  override async open() {
    if (this.isBroken) throw new StoreError("unavailable", "broken for a test");
    return await super.open();
  }

  override async append(blocks: readonly ChannelBlock[]): Promise<void> {
    this.appends.push(blocks.reduce((sum, { count }) => sum + count, 0));
    if (this.#isGated) await new Promise<void>((resolve) => this.release = resolve);
    this.release = null;
    if (this.isBroken) throw new StoreError("unavailable", "broken for a test");
    await super.append(blocks);
  }

  override async forget(ranges: readonly MessageRange[]): Promise<void> {
    this.forgotten.push(...ranges);
    await super.forget(ranges);
  }
}

class Bench {
  readonly store = new GatedStore();
  readonly failed: MessageRange[] = [];
  readonly settled: string[] = [];
  opened = 0;
  ts = START_TS;
  readonly queue: CommitQueue;
  #onOpened: (() => void) | null = null;

  constructor(limits: Partial<CommitLimits> = {}) {
    this.queue = new CommitQueue({
      store: this.store,
      turn: new Turn(),
      limits: { ...LIMITS, ...limits },
      onOpened: () => {
        this.opened++;
        this.#onOpened?.();
      },
      onFailed: (ranges) => void this.failed.push(...ranges),
    });
  }

  static async open(limits: Partial<CommitLimits> = {}): Promise<Bench> {
    const bench = new Bench(limits);
    await bench.queue.open();
    bench.queue.startAt(START_TS);
    return bench;
  }

  /** Publishes one message, with the end of its turn to come; `name` is noted when it is settled. */
  publish(name: string, channel = "c"): number {
    const ts = ++this.ts;
    const line = encodeUtf8(`MESSAGE ${channel} ${ts} ${name}\r\n`);
    const buffer = buffers.acquire(line.length);
    buffer.bytes.set(line);
    buffer.length = line.length;
    buffer.seal();
    const block: QueuedBlock = {
      app: "default",
      channel,
      node: "n",
      buffer,
      lines: buffer.view,
      count: 1,
      firstTs: ts,
      lastTs: ts,
      froms: null,
    };
    this.queue.accept(line.length);
    this.queue.group.waiters.push({
      onSettled: ({ state }: CommitGroup) => void this.settled.push(`${name} ${state}`),
    });
    this.queue.append(block);
    return ts;
  }

  async kept(): Promise<string[]> {
    const names: string[] = [];
    for await (const { lines } of this.store.scan()) {
      const text = new TextDecoder().decode(lines);
      names.push(...text.trimEnd().split("\r\n").map((line) => line.split(" ")[3]));
    }
    return names;
  }

  untilOpened(): Promise<void> {
    return new Promise((resolve) => this.#onOpened = resolve);
  }
}

/** Lets what is under way go on until `isDone`. */
async function until(isDone: () => boolean): Promise<void> {
  while (!isDone()) await nextTurn();
}

Deno.test("what arrives during a commit goes into the next one, all of it", async () => {
  const bench = await Bench.open();
  const { queue, store } = bench;
  bench.publish("a");
  await until(() => store.release !== null);
  for (const name of ["b", "c", "d"]) bench.publish(name);
  await nextTurn();
  assert.deepEqual(store.appends, [1]);
  assert.equal(bench.settled.length, 0);
  store.release?.();
  await until(() => store.appends.length === 2);
  assert.deepEqual(bench.settled, ["a stored"]);
  assert.equal(queue.settledTs, START_TS + 1);
  await until(() => store.release !== null);
  store.release?.();
  await until(() => queue.messages === 0);
  assert.deepEqual(store.appends, [1, 3]);
  assert.deepEqual(bench.settled, ["a stored", "b stored", "c stored", "d stored"]);
  assert.equal(queue.bytes, 0);
  assert.equal(queue.settledTs, bench.ts);
  assert.equal(await queue.close(1000), 0);
});

Deno.test("policy 0: when a commit fails, so does what waits behind it, and then nothing is taken", async () => {
  const bench = await Bench.open();
  const { queue, store } = bench;
  queue.supervise();
  const first = bench.publish("a");
  await until(() => store.release !== null);
  const second = bench.publish("b");
  bench.publish("x", "other");
  store.isBroken = true;
  store.release?.();
  await until(() => bench.settled.length === 3);
  assert.deepEqual(bench.settled, ["a failed", "b failed", "x failed"]);
  assert.equal(queue.admission, "down");
  assert.ok(!queue.isUp);
  assert.equal(queue.messages, 0);
  const range = { app: "default", channel: "c", node: "n", firstTs: first };
  assert.deepEqual(bench.failed[0], { ...range, lastTs: second });
  assert.equal(bench.failed.length, 2);
  assert.deepEqual(store.appends, [1], "nothing more is given to a store that is down");

  // It comes back by itself; what may have been kept of the failed append is taken back first.
  store.isBroken = false;
  store.ungate();
  await bench.untilOpened();
  await until(() => queue.isUp);
  assert.deepEqual(store.forgotten, [{ ...range, lastTs: first }]);
  assert.equal(queue.admission, "open");
  bench.publish("c");
  await until(() => queue.messages === 0);
  assert.deepEqual(bench.settled.at(-1), "c stored");
  assert.deepEqual(await bench.kept(), ["c"]);
  assert.equal(await queue.close(1000), 0);
});

Deno.test("policy 1: what is accepted waits for its commit, is tried again, and is lost at no failure", async () => {
  const bench = await Bench.open({ flushPolicy: 1, maxBufferedMessages: 10 });
  const { queue, store } = bench;
  queue.supervise();
  assert.ok(!queue.repliesAfterCommit);
  for (const name of ["a", "b"]) bench.publish(name);
  await nextTurn();
  assert.deepEqual(store.appends, [], "it waits for more");
  await until(() => store.release !== null);
  assert.deepEqual(store.appends, [2], "but not for long");
  store.isBroken = true;
  store.release?.();
  await until(() => !queue.isUp);
  assert.equal(bench.settled.length, 0);
  assert.equal(queue.admission, "open", "there is room yet");
  for (let i = 0; i < 8; i++) bench.publish(`m${i}`);
  assert.equal(queue.admission, "down");
  await nextTurn();
  assert.equal(queue.messages, 10);
  store.isBroken = false;
  store.ungate();
  await until(() => queue.messages === 0);
  assert.equal(queue.admission, "open");
  assert.deepEqual(await bench.kept(), ["a", "b", ...Array.from({ length: 8 }, (_, i) => `m${i}`)]);
  assert.ok(bench.settled.every((line) => line.endsWith("stored")));
  assert.deepEqual(bench.failed, []);
  assert.equal(await queue.close(1000), 0);
});

Deno.test("policy 1: half of the room taken begins a commit at once", async () => {
  const bench = await Bench.open({ flushPolicy: 1, maxBufferedMessages: 10 });
  for (let i = 0; i < 5; i++) bench.publish(`${i}`);
  await nextTurn();
  assert.deepEqual(bench.store.appends, [5]);
  bench.store.ungate();
  assert.equal(await bench.queue.close(1000), 0);
});

Deno.test("at a bound who comes waits, in order, and only as many go on as there is room for", async () => {
  for (const bound of [{ maxMessages: 2 }, { maxBytes: 60 }]) {
    const bench = await Bench.open(bound);
    const { queue, store } = bench;
    const order: string[] = [];
    bench.publish("a");
    assert.equal(queue.admission, "open");
    bench.publish("b");
    assert.equal(queue.admission, "full");
    await until(() => store.release !== null);
    for (const name of ["c", "d", "e"]) {
      queue.whenAdmitted(() => {
        assert.equal(queue.admission, "open");
        order.push(name);
        bench.publish(name);
      });
    }
    await nextTurn();
    assert.deepEqual(order, []);
    store.release?.();
    await until(() => store.appends.length === 2);
    assert.deepEqual(order, ["c", "d"]);
    assert.equal(queue.messages, 2);
    store.ungate();
    await until(() => queue.messages === 0);
    assert.deepEqual(store.appends, [2, 2, 1]);
    assert.deepEqual(await bench.kept(), ["a", "b", "c", "d", "e"]);
    assert.equal(await queue.close(1000), 0);
  }
});

Deno.test("who waits for room hears it when the store goes down instead", async () => {
  const bench = await Bench.open({ maxMessages: 1 });
  const { queue, store } = bench;
  bench.publish("a");
  await until(() => store.release !== null);
  const heard = new Promise<string>((resolve) =>
    queue.whenAdmitted(() => resolve(queue.admission))
  );
  store.isBroken = true;
  store.release?.();
  assert.equal(await heard, "down");
  assert.equal(await queue.close(1000), 0);
});

Deno.test("a stop keeps what was promised, or says how much it could not", async () => {
  const kept = await Bench.open({ flushPolicy: 1 });
  kept.store.ungate();
  kept.publish("a");
  assert.equal(await kept.queue.close(5000), 0);
  assert.deepEqual(kept.settled, ["a stored"]);

  const lost = await Bench.open({ flushPolicy: 1 });
  lost.store.ungate();
  lost.queue.supervise();
  lost.store.isBroken = true;
  for (const name of ["a", "b", "c"]) lost.publish(name);
  assert.equal(await lost.queue.close(300), 3);
});

Deno.test("a stop takes back what was said not to be kept", async () => {
  const bench = await Bench.open();
  const ts = bench.publish("a");
  await nextTurn();
  bench.store.isBroken = true;
  bench.store.ungate();
  await nextTurn();
  assert.deepEqual(bench.settled, ["a failed"]);
  bench.store.isBroken = false;
  assert.equal(await bench.queue.close(1000), 0);
  const range = { app: "default", channel: "c", node: "n", firstTs: ts, lastTs: ts };
  assert.deepEqual(bench.store.forgotten, [range]);
});

Deno.test("a change of policy leaves promised what was promised", async () => {
  const bench = await Bench.open({ flushPolicy: 1 });
  const { queue, store } = bench;
  bench.publish("promised");
  queue.setLimits({ ...LIMITS, flushPolicy: 0 });
  await until(() => queue.repliesAfterCommit);
  bench.publish("asked");
  await until(() => store.release !== null);
  store.isBroken = true;
  store.release?.();
  await until(() => bench.settled.length > 0);
  assert.deepEqual(bench.settled, ["asked failed"]);
  assert.equal(queue.messages, 1);
  store.isBroken = false;
  store.ungate();
  queue.supervise();
  await until(() => queue.messages === 0);
  assert.deepEqual(await bench.kept(), ["promised"]);
  assert.equal(await queue.close(1000), 0);
});

Deno.test("a change to policy 1 waits until nothing waits for a commit", async () => {
  const bench = await Bench.open({ flushPolicy: 0 });
  const { queue, store } = bench;
  bench.publish("asked");
  await until(() => store.release !== null);
  queue.setLimits({ ...LIMITS, flushPolicy: 1 });
  await nextTurn();
  assert.equal(queue.admission, "full");
  let isAdmitted = false;
  queue.whenAdmitted(() => isAdmitted = true);
  await nextTurn();
  assert.equal(isAdmitted, false);
  store.isBroken = true;
  store.release?.();
  await until(() => bench.settled.length > 0);
  assert.deepEqual(bench.settled, ["asked failed"]);
  await until(() => isAdmitted);
  assert.equal(queue.repliesAfterCommit, false);
  store.isBroken = false;
  store.ungate();
  queue.supervise();
  bench.publish("promised");
  await until(() => queue.messages === 0);
  assert.deepEqual(await bench.kept(), ["promised"]);
  assert.equal(await queue.close(1000), 0);
});

Deno.test("messages go to a store that is down at the start once it is there, with policy 1", async () => {
  const bench = new Bench({ flushPolicy: 1 });
  bench.store.isBroken = true;
  bench.store.ungate();
  await assert.rejects(() => bench.queue.open(), StoreError);
  bench.queue.supervise();
  bench.publish("a");
  await nextTurn();
  assert.equal(bench.queue.admission, "open");
  bench.store.isBroken = false;
  await until(() => bench.queue.messages === 0);
  assert.deepEqual(await bench.kept(), ["a"]);
  assert.equal(await bench.queue.close(1000), 0);
});
