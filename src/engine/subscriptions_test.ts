// What a connection follows, by channel: as a Map of it, whatever is done.

import assert from "node:assert/strict";
import fc from "fast-check";
import { encodeUtf8 } from "../proto/bytes.ts";
import type { Channel, Subscription } from "./channel.ts";
import { App } from "./channel_table.ts";
import { Session } from "./session.ts";
import { Subscriptions } from "./subscriptions.ts";

const app = new App("a");
const CHANNELS = ["a", "b", "c", "d"].map((name) => app.open(encodeUtf8(name), 0, name.length));
const subscriber = {
  deliver: () => {},
  replayRoom: () => 0,
  backlog: () => 0,
  measureDelivery: () => {},
  caughtUp: () => {},
  cutOff: () => {},
};

Deno.test("any subscriptions and ends of them: those of a Map, in its order", () => {
  const step = fc.record({ adds: fc.boolean(), channel: fc.constantFrom(...CHANNELS) });
  fc.assert(fc.property(fc.array(step), (steps) => {
    const session = new Session(app, subscriber, "::1");
    const ours = new Subscriptions();
    const model = new Map<Channel, Subscription>();
    for (const { adds, channel } of steps) {
      if (!adds) {
        ours.delete(channel);
        model.delete(channel);
      } else if (!model.has(channel)) {
        const subscription = { follower: session, channel, index: -1 };
        ours.add(subscription);
        model.set(channel, subscription);
      }
      assert.equal(ours.size, model.size);
      assert.deepEqual([...ours].map((s) => s.channel.name), [...model.keys()].map((c) => c.name));
      for (const other of CHANNELS) {
        assert.equal(ours.get(other), model.get(other));
        assert.equal(ours.has(other), model.has(other));
      }
    }
    ours.clear();
    assert.deepEqual([ours.size, [...ours].length], [0, 0]);
  }));
});
