// How fast publishers are read: a budget per turn, and a wait for subscribers that are behind.

import assert from "node:assert/strict";
import type { Subscriber } from "../engine/ports/subscriber.ts";
import { Channel } from "../engine/channel.ts";
import { holdBack, ReadBudget } from "./pace.ts";

/** A channel with a subscriber for each backlog, from 0 to 1, or -1 for one that has stopped. */
function channelOf(backlogs: number[]): { channel: Channel; backlogs: number[] } {
  const channel = new Channel({ id: "a", remove() {} }, Uint8Array.of(0x63), 0);
  backlogs.forEach((_, i) => {
    const subscriber: Subscriber = {
      deliver: (lines) => lines.release(),
      replayRoom: () => 0,
      backlog: () => backlogs[i],
      measureDelivery() {},
      caughtUp() {},
      cutOff() {},
    };
    channel.join({ follower: { subscriber, form: "text" }, channel, index: -1 });
  });
  return { channel, backlogs };
}

async function heldMs(channel: Channel, bytes: number, isOpen = () => true): Promise<number> {
  const startMs = performance.now();
  const engine = { backlogs: (channel: Channel, nowMs: number) => channel.backlogs(nowMs) };
  await holdBack(engine, channel, bytes, isOpen);
  return performance.now() - startMs;
}

Deno.test("nobody is held back where everybody keeps up, or nobody is there, or has stopped", async () => {
  for (const backlogs of [[], [0], [0.25, 0.5], [-1], [-1, -1, 0.1]]) {
    const { channel } = channelOf(backlogs);
    // Held back, it would take minutes.
    assert.ok(await heldMs(channel, 1 << 30) < 1000, `${backlogs}`);
  }
});

Deno.test("who publishes to subscribers that are all behind waits, by its bytes", async () => {
  const { channel } = channelOf([0.3, 0.9, -1]);
  assert.ok(await heldMs(channel, 200 * 1024) >= 50);
});

Deno.test("one that is far behind is waited for a shorter while", async () => {
  const { channel } = channelOf([0, 0.6]);
  assert.ok(await heldMs(channel, 1024 * 1024) >= 32);
});

Deno.test("it goes on as soon as somebody has caught up, or the publisher has gone", async () => {
  const { channel, backlogs } = channelOf([0.9, 0.9]);
  const held = heldMs(channel, 1 << 30);
  backlogs.fill(0);
  assert.ok(await held < 1000);
  backlogs.fill(0.9);
  let isOpen = true;
  const gone = heldMs(channel, 1 << 30, () => isOpen);
  isOpen = false;
  assert.ok(await gone < 1000);
});

Deno.test("a turn serves two shares of bytes, at least one read, and the next turn begins anew", () => {
  const budget = new ReadBudget();
  const turn = { count: 1, isBehind: false };
  assert.ok(budget.take(10_000, turn, 100), "a read that is larger than all of it");
  assert.ok(!budget.take(101, turn, 100));
  turn.count = 2;
  assert.ok(budget.take(100, turn, 100));
  assert.ok(budget.take(100, turn, 100));
  assert.ok(!budget.take(65, turn, 100));
  // Where nothing ends the turn, the wait does.
  assert.ok(budget.take(65, turn, 100));
});

Deno.test("while a turn's writes go on in the next ones, those have no bytes of their own", () => {
  const budget = new ReadBudget();
  const turn = { count: 1, isBehind: false };
  assert.ok(budget.take(200, turn, 100));
  turn.isBehind = true;
  for (turn.count = 2; turn.count < 10; turn.count++) {
    assert.ok(!budget.take(65, turn, 100));
    assert.ok(budget.take(64, turn, 100), "a small request");
  }
  turn.isBehind = false;
  assert.ok(budget.take(65, turn, 100));
});
