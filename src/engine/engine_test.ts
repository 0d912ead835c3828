// The engine with subscribers in memory: who gets what, in which order, and what is left behind.

import assert from "node:assert/strict";
import fc from "fast-check";
import { anyText } from "../../tests/any_text.ts";
import { BufferLedger } from "../../tests/buffer_ledger.ts";
import {
  arrayOf,
  bench,
  Client,
  clientOf,
  follow,
  type Got,
  readAll,
  START_MS,
} from "../../tests/engine_bench.ts";
import type { PooledBuffer } from "../core/buffer_pool.ts";
import { encodeUtf8 } from "../proto/bytes.ts";
import { WireError } from "../proto/errors.ts";

function code(run: () => unknown): string {
  try {
    run();
    return "ok";
  } catch (error) {
    if (error instanceof WireError) return error.code;
    throw error;
  }
}

Deno.test("a message goes to the subscribers of its own moment, within one turn too", () => {
  for (const form of ["text", "json"] as const) {
    const b = bench();
    const { engine, pub } = b;
    const session = b.open();
    session.form = form;
    const other = b.open();
    follow(engine, other, "c");
    pub(session, "c", "1");
    assert.ok(follow(engine, session, "c"));
    assert.ok(!follow(engine, session, "c"));
    pub(session, "c", "2");
    assert.ok(engine.unsubscribe(session, "c"));
    assert.ok(!engine.unsubscribe(session, "c"));
    pub(session, "c", "3");
    assert.deepEqual(readAll(b, session), ["2"]);
    assert.deepEqual(readAll(b, other), ["1", "2", "3"]);
    assert.deepEqual(clientOf(session).forms, [form]);
    assert.deepEqual(engine.counters, { published: 3, delivered: 4, subscriptions: 1 });
  }
});

Deno.test("everybody gets one turn's messages from the same bytes, each form encoded once", () => {
  using ledger = new BufferLedger();
  const b = bench({ keepHistory: false });
  const sessions = Array.from({ length: 50 }, () => b.open());
  sessions.forEach((session, i) => {
    if (i % 2 === 0) session.form = "json";
    follow(b.engine, session, "c");
  });
  for (let i = 0; i < 20; i++) b.pub(sessions[0], "c", `${i}`);
  b.engine.endTurn();
  assert.equal(ledger.owned, 2);
  assert.equal(ledger.ownerships, 50);
  for (const session of sessions) assert.equal(readAll(b, session).length, 20);
  assert.equal(ledger.owned, 0);
});

Deno.test("a full batch goes out before the turn ends, and the order holds", () => {
  const b = bench();
  const session = b.open();
  follow(b.engine, session, "c");
  const texts = Array.from({ length: 100 }, (_, i) => `${i}`.padEnd(10_000, "."));
  for (const text of texts) b.pub(session, "c", text);
  clientOf(session).read();
  const early = clientOf(session).got.length;
  assert.ok(early > 20 && early < 100, `${early}`);
  assert.deepEqual(readAll(b, session), texts);
});

Deno.test("sub from a timestamp: what came after it, then what comes, nothing twice", () => {
  const b = bench();
  const publisher = b.open();
  const stamps = ["1", "2", "3"].map((text) => b.pub(publisher, "c", text));
  const session = b.open();
  const replay = b.engine.subscribeFrom(session, "c", stamps[0]);
  assert.deepEqual([replay?.count, replay?.partial], [2, false]);
  replay?.start();
  b.pub(publisher, "c", "4");
  assert.equal(b.engine.subscribeFrom(session, "c", 0), undefined);
  assert.deepEqual(readAll(b, session), ["2", "3", "4"]);
  const late = b.engine.subscribeFrom(b.open(), "c", 99_999_999_999_999);
  assert.equal(late?.count, 4);
  const later = b.engine.subscribeFrom(b.open(), "c", Number.MAX_SAFE_INTEGER);
  assert.deepEqual([later?.count, later?.partial], [0, false]);
});

Deno.test("a client that is full when it subscribes from the newest message misses nothing", () => {
  // Nothing to replay, but no room either: the place has to hold until there is.
  const b = bench();
  const publisher = b.open();
  const session = b.open(new Client(50));
  b.pub(publisher, "full", "x".repeat(100));
  b.engine.subscribeFrom(session, "full", 0)?.start();
  const ts = b.pub(publisher, "c", "1");
  b.engine.endTurn();
  const replay = b.engine.subscribeFrom(session, "c", ts);
  assert.equal(replay?.count, 0);
  replay?.start();
  b.pub(publisher, "c", "2");
  b.engine.endTurn();
  b.pub(publisher, "c", "3");
  for (let i = 0; i < 5; i++) readAll(b, session);
  assert.deepEqual(clientOf(session).got.map(({ msg }) => msg).slice(1), ["2", "3"]);
  assert.equal(session.replays.size, 0);
});

Deno.test("subscribing to a channel that its own last message has pushed out of memory", () => {
  // Where nothing may be kept, closing the channel's batch forgets the channel.
  const history = { maxMessagesPerChannel: 10, maxBytes: 1 << 30, maxIdleChannels: 0 };
  for (const from of [undefined, 0]) {
    const b = bench({ history });
    const session = b.open();
    b.pub(session, "c", "1");
    if (from === undefined) follow(b.engine, session, "c");
    else b.engine.subscribeFrom(session, "c", from)?.start();
    b.pub(session, "c", "2");
    assert.deepEqual(readAll(b, session), ["2"]);
    assert.ok(b.engine.unsubscribe(session, "c"));
    b.pub(session, "c", "3");
    b.engine.endTurn();
    assert.equal(b.engine.channelCount, 0);
  }
});

Deno.test("his behind pub shows the message, whatever else is read and forgotten in that turn", () => {
  const b = bench({
    history: { maxMessagesPerChannel: 10, maxBytes: 1 << 30, maxIdleChannels: 2 },
  });
  const session = b.open();
  const read = (name: string) =>
    JSON.parse(arrayOf(b.engine.history(session, name, 0, 10))).map(({ msg }: Got) => msg);
  for (const name of ["a", "b"]) {
    b.pub(session, name, "1");
    b.engine.endTurn();
  }
  b.pub(session, "a", "2");
  b.pub(session, "c", "1");
  assert.deepEqual(read("c"), ["1"]);
  assert.deepEqual(read("a"), ["1", "2"]);
  assert.deepEqual(read("b"), []);
});

Deno.test("his: from a timestamp on, up to a limit of messages or bytes, page by page", () => {
  const b = bench();
  const session = b.open();
  session.user = "ann";
  const stamps = Array.from({ length: 10 }, (_, i) => b.pub(session, "c", `"${i}\u2028\0`));
  const page = (from: number, limit: number, maxBytes?: number) => {
    const page = b.engine.history(session, "c", from, limit, maxBytes);
    const { partial } = page;
    assert.ok(!partial);
    return JSON.parse(arrayOf(page));
  };
  assert.deepEqual(
    page(stamps[8], 10),
    [8, 9].map((i) => ({
      channel: "c",
      msg: `"${i}\u2028\0`,
      ts: stamps[i],
      from: "ann",
      node: "node-1",
    })),
  );
  assert.deepEqual(page(stamps[9] + 1, 10), []);
  for (const [limit, maxBytes] of [[3, undefined], [100, 200], [100, 1]] as const) {
    const all: number[] = [];
    for (let from = 0;;) {
      const messages = page(from, limit, maxBytes);
      if (messages.length === 0) break;
      all.push(...messages.map(({ ts }: Got) => ts));
      from = messages.at(-1).ts + 1;
    }
    assert.deepEqual(all, stamps);
  }
  const large = b.open();
  for (let i = 0; i < 100; i++) b.pub(large, "large", "x".repeat(60_000));
  const json = arrayOf(b.engine.history(large, "large", 0, 10_000));
  assert.ok(json.length >= 4 << 20 && json.length < (4 << 20) + 61_000, `${json.length}`);
});

Deno.test("what may be missing is said, except from the beginning", () => {
  const b = bench({ history: { maxMessagesPerChannel: 2, maxBytes: 1 << 30, maxIdleChannels: 9 } });
  const session = b.open();
  const startTs = START_MS * 1000;
  const stamps = ["1", "2", "3"].map((text) => b.pub(session, "c", text));
  const partials = (ts: number) => {
    const { partial } = b.engine.history(session, "c", ts, 1);
    const reader = b.open();
    return [partial, b.engine.subscribeFrom(reader, "c", ts)?.partial];
  };
  assert.deepEqual(partials(0), [false, false]);
  assert.deepEqual(partials(stamps[0] - 1), [true, true]);
  assert.deepEqual(partials(stamps[0]), [true, false]);
  assert.deepEqual(partials(stamps[1]), [false, false]);
  // A channel that nobody knows: before the start, anything may have been said.
  const unknown = (ts: number) => b.engine.history(session, "unknown", ts, 1).partial;
  assert.deepEqual([startTs - 1, startTs, startTs + 1, 0].map(unknown), [true, true, false, false]);
});

Deno.test("without history: refused where it is needed, and no channel outlives its use", () => {
  const b = bench({ keepHistory: false });
  const session = b.open();
  assert.equal(code(() => b.engine.history(session, "c", 0, 1)), "history-off");
  assert.equal(code(() => b.engine.subscribeFrom(session, "c", 0)), "history-off");
  assert.equal(b.engine.channelCount, 0);
  for (let i = 0; i < 20_000; i++) {
    follow(b.engine, session, `c${i}`);
    if (i % 3 === 0) b.pub(session, `c${i}`, "x");
    b.engine.unsubscribe(session, `c${i}`);
    if (i % 5 === 0) b.pub(session, `d${i}`, "x");
    if (i % 100 === 0) b.engine.endTurn();
  }
  b.engine.endTurn();
  assert.equal(b.engine.channelCount, 0);
  assert.equal(b.engine.historyBytes, 0);
  assert.equal(b.engine.counters.subscriptions, 0);
});

Deno.test("a forgotten channel says so, and its name is a channel like any other", () => {
  const b = bench({ keepHistory: false });
  const session = b.open();
  const name = encodeUtf8("c");
  const channel = b.engine.channelFor(session, name, 0, 1);
  b.pub(session, "c", "x");
  assert.equal(b.engine.channelFor(session, name, 0, 1), channel);
  b.engine.endTurn();
  assert.ok(channel.forgotten);
  const again = b.engine.channelFor(session, name, 0, 1);
  assert.notEqual(again, channel);
  assert.ok(!again.forgotten);
});

Deno.test("too many channels: nothing is left behind, and one that leaves makes room", () => {
  for (const keepHistory of [true, false]) {
    const b = bench({ keepHistory, maxChannelsPerConnection: 3 });
    const session = b.open();
    for (const name of ["a", "b", "c"]) assert.ok(follow(b.engine, session, name));
    assert.equal(code(() => follow(b.engine, session, "d")), "too-many-channels");
    if (keepHistory) {
      assert.equal(code(() => b.engine.subscribeFrom(session, "d", 0)), "too-many-channels");
    }
    assert.equal(b.engine.channelCount, 3);
    assert.equal(b.engine.counters.subscriptions, 3);
    assert.ok(!follow(b.engine, session, "a"));
    b.engine.unsubscribe(session, "b");
    assert.ok(follow(b.engine, session, "d"));
    b.pub(session, "d", "x");
    assert.deepEqual(readAll(b, session), ["x"]);
  }
});

Deno.test("names that cannot be, and names that only look odd", () => {
  const b = bench();
  const session = b.open();
  for (
    const [name, expected] of [["", "bad-argument"], ["a b", "bad-argument"], [
      "$s",
      "reserved-name",
    ]]
  ) {
    const bytes = encodeUtf8(name);
    const tries = [
      () => follow(b.engine, session, name),
      () => b.engine.subscribeFrom(session, name, 0),
      () => b.engine.unsubscribe(session, name),
      () => b.engine.history(session, name, 0, 1),
      () => b.engine.channelFor(session, bytes, 0, bytes.length),
    ];
    assert.deepEqual(tries.map(code), tries.map(() => expected));
  }
  assert.equal(b.engine.channelCount, 0);
  const names = ["__proto__", "constructor", "toString", "\u00e9", "e\u0301", "\ufeffc", "c"];
  for (const name of names) follow(b.engine, session, name);
  for (const name of names) b.pub(session, name, `to ${name}`);
  readAll(b, session);
  assert.deepEqual(
    clientOf(session).got.map(({ channel, msg }) => [channel, msg]),
    names.map((name) => [name, `to ${name}`]),
  );
  assert.equal(b.engine.channelCount, names.length);
});

Deno.test("applications never meet, however their names and those of channels join", () => {
  const b = bench();
  const pairs = [["a", "b:c"], ["a:b", "c"], ["a", "c"], ["default", "c"], ["__proto__", "c"]];
  const sessions = pairs.map(([app, channel]) => {
    const session = b.open();
    session.app = b.engine.app(app);
    follow(b.engine, session, channel);
    return session;
  });
  const publisher = b.open();
  for (const [app, channel] of pairs) {
    publisher.app = b.engine.app(app);
    b.pub(publisher, channel, `${app} ${channel}`);
  }
  pairs.forEach(([app, channel], i) => {
    assert.deepEqual(readAll(b, sessions[i]), [`${app} ${channel}`]);
    const json = arrayOf(b.engine.history(sessions[i], channel, 0, 10));
    assert.deepEqual(JSON.parse(json).map(({ msg }: Got) => msg), [
      `${app} ${channel}`,
    ]);
  });
});

Deno.test("closing a session ends what it follows, live or catching up, once", () => {
  const b = bench({ history: { maxMessagesPerChannel: 9, maxBytes: 1 << 30, maxIdleChannels: 0 } });
  const session = b.open(new Client(0));
  const other = b.open();
  follow(b.engine, other, "c");
  b.pub(other, "c", "1");
  b.engine.subscribeFrom(session, "c", 0)?.start();
  follow(b.engine, session, "d");
  assert.equal(session.replays.size, 1);
  assert.equal(b.engine.counters.subscriptions, 3);
  b.pub(session, "d", "x");
  b.engine.closeSession(session);
  b.engine.closeSession(session);
  assert.equal(b.engine.counters.subscriptions, 1);
  b.pub(other, "c", "2");
  b.engine.endTurn();
  b.engine.pumpReplays(session);
  assert.deepEqual(clientOf(session).got, []);
  assert.deepEqual(readAll(b, other), ["1", "2"]);
  // "d" has nobody left, and no room is given to such channels.
  assert.equal(b.engine.channelCount, 1);
});

Deno.test("a change of form takes hold between two messages", () => {
  const b = bench();
  const session = b.open();
  follow(b.engine, session, "c");
  session.user = "ann";
  b.pub(session, "c", "1");
  session.user = "bob";
  b.pub(session, "c", "2");
  b.engine.closeBatches(session);
  session.form = "json";
  b.pub(session, "c", "3");
  session.user = undefined;
  b.pub(session, "c", "4");
  readAll(b, session);
  const { got, forms } = clientOf(session);
  assert.deepEqual(forms, ["text", "text", "json", "json"]);
  assert.deepEqual(got.map(({ msg, from }) => [msg, from]), [
    ["1", undefined],
    ["2", undefined],
    ["3", "bob"],
    ["4", undefined],
  ]);
  const reader = b.open();
  reader.form = "json";
  b.engine.subscribeFrom(reader, "c", 0)?.start();
  readAll(b, reader);
  assert.deepEqual(clientOf(reader).got.map(({ from }) => from), ["ann", "bob", "bob", undefined]);
});

Deno.test("timestamps rise and stay with the wall clock, whatever that does between turns", () => {
  const b = bench();
  const session = b.open();
  follow(b.engine, session, "c");
  let last = 0;
  for (const jump of [0, 5, -3_600_000, 10, 0, 1, 7_200_000, -1, 86_400_000, 3]) {
    b.time.wall += jump;
    for (let i = 0; i < 3; i++) {
      const ts = b.pub(session, "c", "x");
      assert.ok(ts > last && ts >= b.time.wall * 1000);
      last = ts;
    }
    b.engine.endTurn();
  }
  readAll(b, session);
  const stamps = clientOf(session).got.map(({ ts }) => ts);
  assert.equal(stamps.length, 30);
  assert.deepEqual(stamps, stamps.toSorted((a, b) => a - b));
});

Deno.test("a client cut off in the middle of a fan-out keeps nobody else from the message", () => {
  class Full extends Client {
    override deliver(lines: PooledBuffer): void {
      this.cutOff();
      super.deliver(lines);
    }
  }
  using ledger = new BufferLedger();
  const b = bench({ keepHistory: false });
  const sessions = [b.open(), b.open(new Full()), b.open()];
  for (const session of sessions) follow(b.engine, session, "c");
  b.pub(sessions[0], "c", "x");
  assert.deepEqual(sessions.map((session) => readAll(b, session)), [["x"], [], ["x"]]);
  for (const session of sessions) b.engine.closeSession(session);
  assert.equal(ledger.owned, 0);
  assert.equal(b.engine.channelCount, 0);
});

Deno.test("any message comes as it was sent, live and kept, in both forms", () => {
  const texts = fc.array(
    anyText(1).map((text) => text.replace(/[\n]/g, "_").replace(/[\r\0]+$/, "_")),
    { minLength: 1, maxLength: 10 },
  );
  fc.assert(fc.property(texts, (texts) => {
    const b = bench();
    const sessions = (["text", "json"] as const).flatMap((form) => {
      const [live, late] = [b.open(), b.open()];
      live.form = late.form = form;
      follow(b.engine, live, "c");
      return [live, late];
    });
    for (const text of texts) b.pub(sessions[0], "c", text);
    for (const late of [sessions[1], sessions[3]]) b.engine.subscribeFrom(late, "c", 0)?.start();
    for (const session of sessions) {
      assert.deepEqual(readAll(b, session), texts);
    }
  }));
});
