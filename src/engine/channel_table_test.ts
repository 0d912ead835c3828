// An application's channels, found by the bytes of their names, equal hashes included.

import assert from "node:assert/strict";
import fc from "fast-check";
import { encodeUtf8 } from "../proto/bytes.ts";
import { Channel } from "./channel.ts";
import { App } from "./channel_table.ts";

function find(app: App, name: string): Channel | undefined {
  const bytes = encodeUtf8(`<${name}>`);
  return app.find(bytes, 1, bytes.length - 1);
}

function open(app: App, name: string): Channel {
  const bytes = encodeUtf8(`<${name}>`);
  const channel = app.open(bytes, 1, bytes.length - 1);
  // The channel keeps its own copy.
  bytes.fill(0);
  return channel;
}

Deno.test("opened, found, removed, in any order: what a plain map says", () => {
  const name = fc.integer({ min: 0, max: 8 }).map((i) => i === 8 ? "__proto__" : `é${i}`);
  const step = fc.tuple(fc.constantFrom("open", "find", "remove"), name);
  fc.assert(fc.property(fc.array(step), (steps) => {
    const app = new App("default");
    const known = new Map<string, Channel>();
    for (const [what, name] of steps) {
      const channel = known.get(name);
      if (what === "remove" && channel !== undefined) {
        app.remove(channel);
        // A second time changes nothing.
        app.remove(channel);
        known.delete(name);
      }
      if (what === "open") {
        const opened = open(app, name);
        if (channel !== undefined) assert.equal(opened, channel);
        known.set(name, opened);
      }
      assert.equal(find(app, name), known.get(name));
      assert.equal(app.size, known.size);
      assert.deepEqual(new Set(app.channels()), new Set(known.values()));
    }
  }));
});

Deno.test("a channel that was removed does not take another one of its name with it", () => {
  const app = new App("default");
  const old = open(app, "c");
  app.remove(old);
  const channel = open(app, "c");
  app.remove(old);
  assert.equal(find(app, "c"), channel);
  assert.equal(app.size, 1);
});

Deno.test("channels whose names have the same hash are told apart", () => {
  const imul = Math.imul;
  // Every hash is the same.
  Math.imul = () => 1;
  try {
    const app = new App("default");
    const names = ["a", "b", "c"];
    const channels = names.map((name) => open(app, name));
    assert.equal(new Set(channels.map(({ hash }) => hash)).size, 1);
    assert.deepEqual(names.map((name) => find(app, name)), channels);
    assert.equal(find(app, "d"), undefined);
    for (const [i, channel] of channels.entries()) {
      app.remove(channel);
      app.remove(channel);
      assert.equal(find(app, names[i]), undefined);
      assert.equal(app.size, 2 - i);
      assert.deepEqual([...app.channels()], channels.slice(i + 1));
    }
  } finally {
    Math.imul = imul;
  }
});
