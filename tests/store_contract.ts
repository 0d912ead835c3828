// What every store has to keep to, as one suite that each driver's tests run against itself.

import assert from "node:assert/strict";
import fc from "fast-check";
import type {
  Block,
  ChannelBlock,
  HistoryStore,
  Page,
  PruneRequest,
} from "../src/engine/ports/history_store.ts";
import {
  BASE_TS,
  block,
  flatten,
  type Kept,
  key,
  type Line,
  Model,
  type Opened,
  pruneAll,
  readAll,
} from "./store_model.ts";

export { tokenStoreContract } from "./token_contract.ts";
export type { Opened } from "./store_model.ts";

/** How much of the suite a driver gets. */
export interface ContractOptions {
  /** Runs of the property test; 40 unless told. */
  readonly propertyRuns?: number;
}

const T = BASE_TS;

/**
 * Registers the suite for one driver. `open` makes a new, empty store that has not been opened yet;
 * one that lasts gives `reopen`, which closes it and makes another over what it has kept.
 */
export function historyStoreContract(
  name: string,
  open: () => Promise<Opened<HistoryStore>>,
  options: ContractOptions = {},
): void {
  const test = (
    title: string,
    run: (store: HistoryStore, opened: Opened<HistoryStore>) => unknown,
  ) =>
    Deno.test(`${name}: ${title}`, async () => {
      const opened = await open();
      try {
        assert.deepEqual(await opened.store.open(), { lastTs: 0 });
        await run(opened.store, opened);
      } finally {
        await opened.close();
      }
    });

  test("an unknown channel is empty", async (store) => {
    assert.ok(store.description.length > 0);
    const request = { app: "app", channel: "ch", maxMessages: 10, maxBytes: 1000 };
    const empty = { blocks: [], isEnd: true, prunedTs: 0 };
    assert.deepEqual(await store.read({ ...request, afterTs: 0 }), empty);
    assert.deepEqual(await store.readNewest(request), empty);
    assert.equal(await store.count("app", "ch", 0, T), 0);
    assert.deepEqual(await collect(store), []);
    await store.append([]);
    await store.forget([]);
    await store.forget([{ app: "app", channel: "ch", node: "a", firstTs: T, lastTs: T + 9 }]);
  });

  test("what is appended is read again, in order", async (store) => {
    const first = [line(1, "one"), line(2, ""), line(3, " three ")];
    const second = [line(7, "seven")];
    await store.append([block("app", "ch", "a", first)]);
    await store.append([
      block("app", "ch", "a", second),
      block("app", "other", "a", [line(5, "x")]),
    ]);
    assert.deepEqual(await readAll(store, "app", "ch"), kept("a", [...first, ...second]));
    assert.deepEqual(await readAll(store, "app", "other"), kept("a", [line(5, "x")]));
    assert.deepEqual(await store.open(), { lastTs: T + 7 });
    assert.deepEqual(await readAll(store, "app", "ch"), kept("a", [...first, ...second]));
  });

  test("several blocks of a channel in one append", async (store) => {
    const lines = range(1, 300, (i) => line(i, `m${i}`));
    await store.append(lines.map((l) => block("app", "ch", "a", [l])));
    assert.deepEqual(await readAll(store, "app", "ch"), kept("a", lines));
    assert.equal(await store.count("app", "ch", 0, T + 1000), 300);
  });

  test("appending again keeps each message once", async (store) => {
    const lines = range(1, 20, (i) => line(i, `m${i}`, i % 3 === 0 ? "ann" : undefined));
    const blocks = [
      block("app", "ch", "a", lines.slice(0, 8)),
      block("app", "ch", "a", lines.slice(8)),
    ];
    await store.append(blocks);
    await store.append(blocks);
    assert.deepEqual(await readAll(store, "app", "ch"), kept("a", lines));
    await store.append([block("app", "ch", "a", lines.slice(3, 5))]);
    await store.append([
      block("app", "ch", "a", lines.slice(6, 12)),
      block("app", "ch", "a", [line(30, "new")]),
    ]);
    await store.append([
      block("app", "ch", "a", [lines[19], line(21, "x"), line(30, "new"), line(31, "y")]),
    ]);
    const all = [...lines, line(21, "x"), line(30, "new"), line(31, "y")];
    assert.deepEqual(await readAll(store, "app", "ch"), kept("a", all));
    assert.equal(await store.count("app", "ch", 0, T + 100), all.length);
  });

  test("a message that is kept already may come again among new ones, in one append too", async (store) => {
    await store.append([block("app", "ch", "a", [line(5, "5")])]);
    await store.append([
      block("app", "ch", "a", [line(1, "1"), line(5, "5"), line(9, "9")]),
      block("app", "ch", "b", [line(5, "5b")]),
      block("app", "ch", "b", [line(6, "6b")]),
      block("app", "ch", "c", [line(5, "5c"), line(9, "9c")]),
    ]);
    assert.deepEqual(
      (await readAll(store, "app", "ch")).map(({ ts, node, text }) => `${ts - T}${node} ${text}`),
      ["1a 1", "5a 5", "5b 5b", "5c 5c", "6b 6b", "9a 9", "9c 9c"],
    );
  });

  test("two nodes with the same timestamp", async (store) => {
    await store.append([block("app", "ch", "b", [line(1, "b1"), line(2, "b2")])]);
    await store.append([block("app", "ch", "a", [line(2, "a2"), line(3, "a3")])]);
    await store.append([block("app", "ch", "c", [line(2, "c2")])]);
    const texts = ["b1", "a2", "b2", "c2", "a3"];
    const all = await readAll(store, "app", "ch");
    assert.deepEqual(all.map(({ text }) => text), texts);
    // A page may not end between them, however small.
    for (const limits of [{ maxMessages: 1 }, { maxMessages: 2 }, { maxBytes: 1 }]) {
      const page = await store.read({
        app: "app",
        channel: "ch",
        afterTs: T + 1,
        maxMessages: 9,
        maxBytes: 9999,
        ...limits,
      });
      assert.deepEqual(flatten(page, "ch").map(({ text }) => text), ["a2", "b2", "c2"]);
      assert.equal(page.isEnd, false);
    }
    assert.equal(await store.count("app", "ch", T + 1, T + 2), 3);
  });

  test("interleaved history of two nodes, imported one after the other", async (store) => {
    const a = range(0, 100, (i) => line(i * 4, `a${i}`));
    const b = range(0, 100, (i) => line(i * 4 + (i % 3), `b${i}`));
    await store.append([block("app", "ch", "a", a)]);
    await store.append(chunks(b, 7).map((lines) => block("app", "ch", "b", lines)));
    const expected = sorted([...kept("a", a), ...kept("b", b)]);
    for (const maxMessages of [1, 3, 10, 1000]) {
      assert.deepEqual(await readAll(store, "app", "ch", { maxMessages }), expected);
    }
    for (const after of [0, 1, 17, 200, 396]) {
      assert.deepEqual(
        await readAll(store, "app", "ch", { afterTs: T + after, maxMessages: 13 }),
        expected.filter(({ ts }) => ts > T + after),
      );
    }
    // An older block that reaches over all of it.
    const wide = [line(-5, "w1"), line(122, "w2"), line(5000, "w3")];
    await store.append([block("app", "ch", "c", wide)]);
    assert.deepEqual(await readAll(store, "app", "ch"), sorted([...expected, ...kept("c", wide)]));
  });

  test("a page keeps to its limits", async (store) => {
    const lines = range(1, 200, (i) => line(i, "x".repeat(i)));
    await store.append([block("app", "ch", "a", lines.slice(0, 120))]);
    await store.append(lines.slice(120).map((l) => block("app", "ch", "a", [l])));
    for (
      const limits of [
        { maxMessages: 1 },
        { maxMessages: 7 },
        { maxBytes: 1 },
        { maxBytes: 1000 },
        {},
      ]
    ) {
      assert.deepEqual(await readAll(store, "app", "ch", limits), kept("a", lines));
    }
    const page = await store.read({
      app: "app",
      channel: "ch",
      afterTs: T + 50,
      maxMessages: 10,
      maxBytes: 99999,
    });
    assert.deepEqual(flatten(page, "ch"), kept("a", lines.slice(50, 60)), "as many as asked for");
  });

  test("isEnd says whether anything is newer", async (store) => {
    const lines = range(1, 10, (i) => line(i, `m${i}`));
    await store.append([
      block("app", "ch", "a", lines.slice(0, 5)),
      block("app", "ch", "a", lines.slice(5)),
    ]);
    const isEnd = async (afterTs: number, maxMessages: number) =>
      (await store.read({ app: "app", channel: "ch", afterTs, maxMessages, maxBytes: 9999 })).isEnd;
    assert.equal(await isEnd(0, 10), true);
    assert.equal(await isEnd(0, 9), false);
    assert.equal(await isEnd(0, 5), false);
    assert.equal(await isEnd(T + 5, 5), true);
    assert.equal(await isEnd(T + 5, 4), false);
    assert.equal(await isEnd(T + 9, 1), true);
    assert.equal(await isEnd(T + 10, 1), true);
    assert.equal(await isEnd(T + 99, 1), true);
  });

  test("afterTs in the middle of a block", async (store) => {
    const lines = range(1, 50, (i) => line(i * 10, `m${i}`, i % 2 === 0 ? `user${i}` : undefined));
    await store.append([block("app", "ch", "a", lines)]);
    for (const after of [-1, 0, 9, 10, 11, 250, 255, 499, 500, 501]) {
      const expected = kept("a", lines).filter(({ ts }) => ts > T + after);
      assert.deepEqual(
        await readAll(store, "app", "ch", { afterTs: T + after, maxMessages: 7 }),
        expected,
      );
      assert.equal(await store.count("app", "ch", T + after, T + 9999), expected.length);
    }
  });

  test("the newest messages", async (store) => {
    const lines = range(1, 400, (i) => line(i, `m${i}`.padEnd(1000, "-")));
    for (const chunk of chunks(lines, 10)) await store.append([block("app", "ch", "a", chunk)]);
    await store.append([block("app", "ch", "b", [line(200, "b200"), line(400, "b400")])]);
    const all = await readAll(store, "app", "ch");
    for (
      const [maxMessages, maxBytes] of [[1, 1], [1, 99999], [10, 1], [15, 99999], [999, 20_000], [
        999,
        999_999,
      ]]
    ) {
      const page = await store.readNewest({ app: "app", channel: "ch", maxMessages, maxBytes });
      const got = flatten(page, "ch");
      assert.ok(got.length > 0);
      assert.deepEqual(got, all.slice(-got.length), "they are the newest");
      assert.equal(page.isEnd, got.length === all.length, "isEnd: nothing is older");
      assert.notEqual(got[0].ts, all.at(-got.length - 1)?.ts, "all of one timestamp");
      const bytes = page.blocks.reduce((sum, { lines }) => sum + lines.length, 0);
      assert.ok(bytes <= maxBytes + 128 * 1024, `${bytes} bytes where ${maxBytes} were asked for`);
      if (maxBytes > 50_000) {
        assert.ok(
          got.length >= Math.min(maxMessages, all.length),
          `${got.length} of ${maxMessages}`,
        );
      }
    }
  });

  test("count", async (store) => {
    await store.append([block("app", "ch", "a", range(1, 10, (i) => line(i * 10, "a")))]);
    await store.append([block("app", "ch", "b", [line(50, "b"), line(51, "b")])]);
    await store.append([block("app", "ch", "a", range(11, 20, (i) => line(i * 10, "a")))]);
    const count = (after: number, through: number) =>
      store.count("app", "ch", T + after, T + through);
    assert.equal(await store.count("app", "ch", 0, T + 1000), 22);
    assert.equal(await count(0, 1000), 22);
    assert.equal(await count(10, 1000), 21);
    assert.equal(await count(9, 10), 1);
    assert.equal(await count(10, 10), 0);
    assert.equal(await count(20, 10), 0);
    assert.equal(await count(49, 50), 2);
    assert.equal(await count(50, 51), 1);
    assert.equal(await count(45, 155), 13);
    assert.equal(await count(200, 999), 0);
    assert.equal(await store.count("other", "ch", 0, T + 1000), 0);
  });

  test("forget takes messages back, whole blocks and parts", async (store, { reopen }) => {
    const lines = range(1, 40, (i) => line(i, `m${i}`, i % 5 === 0 ? "eve" : undefined));
    const others = [line(5, "o5"), line(15, "o15")];
    await store.append(chunks(lines, 10).map((part) => block("app", "ch", "a", part)));
    await store.append([block("app", "ch", "b", others), block("app", "ch2", "a", [line(5, "z")])]);
    const forget = (firstTs: number, lastTs: number, node = "a", channel = "ch") =>
      store.forget([{ app: "app", channel, node, firstTs: T + firstTs, lastTs: T + lastTs }]);
    await forget(3, 6);
    await forget(100, 200);
    await forget(1, 99, "nobody");
    await forget(1, 99, "a", "nowhere");
    const left = (gone: (i: number) => boolean) =>
      sorted([...kept("a", lines.filter((_, i) => !gone(i + 1))), ...kept("b", others)]);
    assert.deepEqual(await readAll(store, "app", "ch"), left((i) => i >= 3 && i <= 6));
    await store.forget([
      { app: "app", channel: "ch", node: "a", firstTs: T + 11, lastTs: T + 20 },
      { app: "app", channel: "ch", node: "a", firstTs: T + 28, lastTs: T + 33 },
    ]);
    const gone = (i: number) => (i >= 3 && i <= 6) || (i >= 11 && i <= 20) || (i >= 28 && i <= 33);
    assert.deepEqual(await readAll(store, "app", "ch"), left(gone));
    assert.deepEqual(await readAll(store, "app", "ch2"), kept("a", [line(5, "z")]));
    const page = await store.read({
      app: "app",
      channel: "ch",
      afterTs: 0,
      maxMessages: 1,
      maxBytes: 1,
    });
    assert.equal(page.prunedTs, 0, "forgetting is not retention");
    // What was forgotten can be kept again.
    await store.append([block("app", "ch", "a", lines.slice(2, 6))]);
    const now = left((i) => gone(i) && !(i >= 3 && i <= 6));
    assert.deepEqual(await readAll(store, "app", "ch"), now);
    if (reopen === undefined) return;
    const again = await reopen();
    await again.open();
    assert.deepEqual(await readAll(again, "app", "ch"), now);
  });

  test("prune by age", async (store, { reopen }) => {
    const lines = range(1, 40, (i) => line(i * 10, `m${i}`, i % 2 === 0 ? "ann" : undefined));
    await store.append(chunks(lines, 10).map((part) => block("app", "ch", "a", part)));
    await store.append([
      block("app", "ch", "b", [line(150, "b")]),
      block("app", "old", "a", [line(1, "o"), line(2, "p")]),
    ]);
    await store.append([block("app", "new", "a", [line(900, "n")])]);
    const nothing = await pruneAll(store, { beforeTs: T + 1, keepPerChannel: 0 });
    assert.deepEqual(nothing, new Map());
    const pruned = await pruneAll(store, { beforeTs: T + 155, keepPerChannel: 0 });
    assert.deepEqual(pruned, new Map([[key("app", "ch"), T + 150], [key("app", "old"), T + 2]]));
    const check = async (store: HistoryStore) => {
      assert.deepEqual(await readAll(store, "app", "ch"), kept("a", lines.slice(15)));
      assert.deepEqual(await readAll(store, "app", "old"), []);
      assert.deepEqual(await readAll(store, "app", "new"), kept("a", [line(900, "n")]));
      assert.equal(await prunedTs(store, "ch"), T + 150);
      assert.equal(await prunedTs(store, "old"), T + 2);
      assert.equal(await prunedTs(store, "new"), 0);
      assert.equal(await store.count("app", "ch", 0, T + 9999), 25);
    };
    await check(store);
    assert.deepEqual(await pruneAll(store, { beforeTs: T + 155, keepPerChannel: 0 }), new Map());
    await check(store);
    if (reopen === undefined) return;
    const again = await reopen();
    await again.open();
    await check(again);
    await again.append([block("app", "old", "a", [line(1000, "q")])]);
    assert.deepEqual(await readAll(again, "app", "old"), kept("a", [line(1000, "q")]));
    assert.equal(await prunedTs(again, "old"), T + 2);
  });

  test("prune per channel", async (store) => {
    const lines = range(1, 30, (i) => line(i, `m${i}`));
    await store.append(chunks(lines, 8).map((part) => block("app", "ch", "a", part)));
    await store.append([block("app", "few", "a", lines.slice(0, 3))]);
    await store.append([block("app", "tie", "a", [line(1, "x"), line(2, "y"), line(3, "z")])]);
    await store.append([block("app", "tie", "b", [line(2, "yy")])]);
    assert.deepEqual(await pruneAll(store, { beforeTs: 0, keepPerChannel: 50 }), new Map());
    const pruned = await pruneAll(store, { beforeTs: 0, keepPerChannel: 7 });
    assert.deepEqual(pruned, new Map([[key("app", "ch"), T + 23]]));
    assert.deepEqual(await readAll(store, "app", "ch"), kept("a", lines.slice(23)));
    assert.equal(await prunedTs(store, "ch"), T + 23);
    // Both messages of the microsecond stay where one of them has to.
    assert.deepEqual(
      await pruneAll(store, { beforeTs: 0, keepPerChannel: 2 }),
      new Map([[key("app", "ch"), T + 28], [key("app", "few"), T + 1], [key("app", "tie"), T + 1]]),
    );
    assert.deepEqual((await readAll(store, "app", "tie")).map(({ text }) => text), [
      "y",
      "yy",
      "z",
    ]);
    // Age and number together: what either deletes.
    assert.deepEqual(
      await pruneAll(store, { beforeTs: T + 3, keepPerChannel: 1 }),
      new Map([[key("app", "ch"), T + 29], [key("app", "few"), T + 2], [key("app", "tie"), T + 2]]),
    );
    assert.deepEqual(await readAll(store, "app", "ch"), kept("a", lines.slice(29)));
  });

  test("prune per channel: more are kept than before, and then fewer again", async (store) => {
    await store.open();
    const lines = Array.from({ length: 8 }, (_, i) => ({ ts: T + i, text: `m${i}` }));
    await store.append([block("app", "ch", "a", lines.slice(0, 4))]);
    await pruneAll(store, { beforeTs: 0, keepPerChannel: 2 });
    await store.append([block("app", "ch", "a", lines.slice(4))]);
    assert.deepEqual(await pruneAll(store, { beforeTs: 0, keepPerChannel: 9 }), new Map());
    const pruned = await pruneAll(store, { beforeTs: 0, keepPerChannel: 5 });
    assert.deepEqual(pruned, new Map([[key("app", "ch"), T + 2]]));
    assert.deepEqual((await readAll(store, "app", "ch")).map(({ text }) => text), [
      "m3",
      "m4",
      "m5",
      "m6",
      "m7",
    ]);
  });

  test("prune with nothing to delete", async (store) => {
    assert.deepEqual(await pruneAll(store, { beforeTs: 0, keepPerChannel: 0 }), new Map());
    assert.deepEqual(await pruneAll(store, { beforeTs: T, keepPerChannel: 1 }), new Map());
    await store.append([block("app", "ch", "a", [line(1, "x"), line(2, "y")])]);
    assert.deepEqual(await pruneAll(store, { beforeTs: 0, keepPerChannel: 0 }), new Map());
    assert.equal((await readAll(store, "app", "ch")).length, 2);
  });

  test("a round of pruning reaches every channel", async (store) => {
    const names = range(1, 210, (i) => `ch${i}`);
    await store.append(names.map((name) => block("app", name, "a", [line(1, "x"), line(9, "y")])));
    const pruned = await pruneAll(store, { beforeTs: T + 5, keepPerChannel: 0 });
    assert.deepEqual(new Set(pruned.keys()), new Set(names.map((name) => key("app", name))));
    for (const name of [names[0], names[104], names[209]]) {
      assert.deepEqual(await readAll(store, "app", name), kept("a", [line(9, "y")]));
    }
  });

  test("names that look alike do not meet", async (store, { reopen }) => {
    const pairs = [
      ["a", "b:c"],
      ["a:b", "c"],
      ["a", "b"],
      ["ab", "c"],
      ["a", "bc"],
      ["A", "b"],
      ["a", "B"],
      ["__proto__", "constructor"],
      ["constructor", "__proto__"],
      ["app", "__proto__"],
      ["app", "hasOwnProperty"],
      ["a/b", "c"],
      ["a", "$b.c"],
      ["a", "%"],
      ["a", "_"],
      ["a", "';DROP_TABLE_blocks;--"],
      ["a", "é"],
      ["a", "e\u0301"],
      ["a", "канал😀"],
    ];
    const text = (app: string, channel: string) => `${app} | ${channel}`;
    await store.append(
      pairs.map(([app, ch]) => block(app, ch, "a", [line(1, text(app, ch)), line(2, "gone")])),
    );
    for (const [app, channel] of pairs) {
      await store.forget([{ app, channel, node: "a", firstTs: T + 2, lastTs: T + 2 }]);
    }
    const check = async (store: HistoryStore) => {
      for (const [app, ch] of pairs) {
        assert.deepEqual(await readAll(store, app, ch), kept("a", [line(1, text(app, ch))]));
        assert.equal(await store.count(app, ch, 0, T + 9), 1);
        const newest = await store.readNewest({ app, channel: ch, maxMessages: 9, maxBytes: 9999 });
        assert.deepEqual(flatten(newest, ch), kept("a", [line(1, text(app, ch))]));
      }
      assert.equal((await collect(store)).length, pairs.length);
    };
    await check(store);
    if (reopen === undefined) return;
    const again = await reopen();
    await again.open();
    await check(again);
  });

  test("nodes and publishers may have any name, too", async (store) => {
    const lines = [
      line(1, "x", "__proto__"),
      line(2, "y", "constructor"),
      line(3, "z", '"\\\u2028😀'),
    ];
    await store.append([
      block("app", "ch", "__proto__", lines),
      block("app", "ch", "constructor", lines),
    ]);
    assert.deepEqual(
      await readAll(store, "app", "ch"),
      sorted([...kept("__proto__", lines), ...kept("constructor", lines)]),
    );
  });

  test("messages of any bytes", async (store, { reopen }) => {
    const texts = [
      "a\0b",
      "\0",
      "\ufeffbom",
      "\ufeff",
      "a\rb",
      "\r",
      "trailing\r",
      "\"quoted\" 'single' \\ back",
      "\u2028\u2029\u0085",
      "😀🏳️‍🌈",
      "\t \u200b",
      "MESSAGE ch 1700000000000999 no",
      "é".repeat(1000),
    ];
    const lines = texts.map((text, i) => line(i, text));
    const other = texts.map((text, i) => line(i, text));
    await store.append([block("app", "ch", "a", lines)]);
    await store.append(other.map((l) => block("app", "each", "a", [l])));
    const check = async (store: HistoryStore) => {
      assert.deepEqual(await readAll(store, "app", "ch"), kept("a", lines));
      assert.deepEqual(await readAll(store, "app", "ch", { maxMessages: 1 }), kept("a", lines));
      assert.deepEqual(await readAll(store, "app", "each"), kept("a", lines));
    };
    await check(store);
    if (reopen === undefined) return;
    const again = await reopen();
    await again.open();
    await check(again);
  });

  test("messages of 64 KiB", async (store) => {
    const lines = range(1, 30, (i) => line(i, String.fromCharCode(64 + i).repeat(65_536)));
    await store.append([block("app", "ch", "a", lines.slice(0, 20))]);
    await store.append(lines.slice(20).map((l) => block("app", "ch", "a", [l])));
    for (const limits of [{ maxBytes: 1 }, { maxBytes: 150_000 }, { maxBytes: 1_048_576 }]) {
      assert.deepEqual(await readAll(store, "app", "ch", limits), kept("a", lines));
    }
    await store.append([block("app", "ch", "b", [line(5, "b")])]);
    assert.equal((await readAll(store, "app", "ch"))[5].text, "b");
  });

  test("publishers, where they are known", async (store) => {
    const none = range(1, 3, (i) => line(i, `m${i}`));
    const mixed = range(4, 9, (i) => line(i, `m${i}`, i % 2 === 0 ? `user ${i}` : undefined));
    const all = range(10, 12, (i) => line(i, `m${i}`, 'é:"\n'));
    await store.append([none, mixed, all].map((lines) => block("app", "ch", "a", lines)));
    const expected = kept("a", [...none, ...mixed, ...all]);
    for (const maxMessages of [1, 2, 5, 100]) {
      assert.deepEqual(await readAll(store, "app", "ch", { maxMessages }), expected);
    }
    const page = await store.read({
      app: "app",
      channel: "ch",
      afterTs: 0,
      maxMessages: 2,
      maxBytes: 9999,
    });
    assert.ok(page.blocks.every(({ froms }) => froms === null), "null where none is known");
  });

  test("the bytes of a page are the caller's", async (store) => {
    await store.append([block("app", "ch", "a", [line(1, "x")])]);
    const request = { app: "app", channel: "ch", maxMessages: 9, maxBytes: 9999 };
    for (
      const page of [await store.read({ ...request, afterTs: 0 }), await store.readNewest(request)]
    ) {
      for (const { lines } of page.blocks) lines.fill(0);
    }
    assert.deepEqual(await readAll(store, "app", "ch"), kept("a", [line(1, "x")]));
  });

  test("appended bytes are the caller's again afterwards", async (store) => {
    const blocks = [block("app", "ch", "a", [line(1, "x"), line(2, "y")])];
    await store.append(blocks);
    for (const { lines } of blocks) lines.fill(0);
    assert.deepEqual(await readAll(store, "app", "ch"), kept("a", [line(1, "x"), line(2, "y")]));
  });

  test("blocks may be views of one larger buffer", async (store) => {
    const parts = [line(1, "x"), line(2, "y")].map((l) => block("app", "ch", "a", [l]));
    const size = parts[0].lines.length;
    const shared = new Uint8Array(100 + 2 * size);
    const blocks = parts.map((part, i) => {
      shared.set(part.lines, 50 + i * size);
      return { ...part, lines: shared.subarray(50 + i * size, 50 + (i + 1) * size) };
    });
    await store.append(blocks);
    assert.deepEqual(await readAll(store, "app", "ch"), kept("a", [line(1, "x"), line(2, "y")]));
    assert.equal(shared.length, 100 + 2 * size, "the caller still has its buffer");
  });

  test("reads during an append see all of it or nothing", async (store) => {
    for (let round = 0; round < 10; round++) {
      const channel = `ch${round}`;
      const blocks = range(1, 40, (i) => block("app", channel, "a", [line(i, `m${i}`)]));
      let appended = false;
      const append = store.append(blocks).then(() => void (appended = true));
      for (;;) {
        const sure = appended;
        const page = await store.read({
          app: "app",
          channel,
          afterTs: 0,
          maxMessages: 99,
          maxBytes: 99999,
        });
        const got = flatten(page, channel).length;
        assert.ok(sure ? got === 40 : got === 0 || got === 40, `${got} messages`);
        if (sure) break;
      }
      await append;
    }
  });

  test("many reads at once", async (store) => {
    const lines = range(1, 100, (i) => line(i, `m${i}`));
    await store.append([block("app", "ch", "a", lines)]);
    const results = await Promise.all(
      range(0, 99, (i) => readAll(store, "app", "ch", { afterTs: T + i })),
    );
    results.forEach((got, i) => assert.deepEqual(got, kept("a", lines.slice(i))));
  });

  test("scan gives every message, by application, channel and time", async (store) => {
    const expected: string[] = [];
    for (const app of ["a", "b"]) {
      for (const channel of range(100, 160, (i) => `ch${i}`)) {
        const lines = range(
          1,
          12,
          (i) => line(i, `${app} ${channel} ${i}`, i === 4 ? "ann" : undefined),
        );
        await store.append([
          ...chunks(lines.slice(0, 8), 3).map((part) => block(app, channel, "n", part)),
          block(app, channel, "m", lines.slice(8)),
        ]);
        expected.push(...lines.map(({ text, from }) => `${text} ${from}`));
      }
    }
    await store.append([block("c", "big", "n", range(1, 20, (i) => line(i, "x".repeat(65_000))))]);
    const blocks = await collect(store);
    const got = blocks.filter(({ app }) => app !== "c").flatMap((b) =>
      flatten({ blocks: [b], isEnd: true, prunedTs: 0 }, b.channel).map(({ text, from }) =>
        `${text} ${from}`
      )
    );
    assert.deepEqual(got, expected);
    const big = blocks.filter(({ app }) => app === "c");
    assert.equal(big.reduce((sum, { count }) => sum + count, 0), 20);
    for await (const _ of store.scan()) break;
    assert.equal((await readAll(store, "a", "ch100")).length, 12, "a scan may be left early");
  });

  test("the newest timestamp ever kept", async (store, { reopen }) => {
    await store.append([block("app", "ch", "a", [line(1, "x"), line(70, "y")])]);
    await store.append([block("app", "other", "b", [line(40, "z")])]);
    assert.deepEqual(await store.open(), { lastTs: T + 70 });
    await pruneAll(store, { beforeTs: T + 1000, keepPerChannel: 0 });
    assert.deepEqual(await readAll(store, "app", "ch"), []);
    assert.deepEqual(await store.open(), { lastTs: T + 70 });
    if (reopen === undefined) return;
    let again = await reopen();
    assert.deepEqual(await again.open(), { lastTs: T + 70 });
    assert.equal(await prunedTs(again, "ch"), T + 70);
    await again.append([block("app", "ch", "a", [line(90, "z")])]);
    again = await reopen();
    assert.deepEqual(await again.open(), { lastTs: T + 90 });
    assert.deepEqual(await readAll(again, "app", "ch"), kept("a", [line(90, "z")]));
  });

  test("close is idempotent", async (store) => {
    await store.append([block("app", "ch", "a", [line(1, "x")])]);
    await Promise.all([store.close(), store.close()]);
    await store.close();
  });

  Deno.test(`${name}: a store that was never opened can be closed`, async () => {
    const opened = await open();
    await opened.store.close();
    await opened.close();
  });

  Deno.test(`${name}: it does what a simple model does`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step(), { maxLength: 12 }), async (steps) => {
        const opened = await open();
        try {
          await opened.store.open();
          const model = new Model();
          for (const run of steps) await run(opened.store, model);
        } finally {
          await opened.close();
        }
      }),
      { numRuns: options.propertyRuns ?? 40 },
    );
  });
}

/** One step of the property test: it does the same to both and compares. */
function step(): fc.Arbitrary<(store: HistoryStore, model: Model) => Promise<void>> {
  const ts = fc.integer({ min: 0, max: 40 }).map((n) => T + n);
  const node = fc.constantFrom("a", "b", "c");
  const channel = fc.constantFrom("x", "y");
  const append = fc.tuple(
    fc.array(fc.tuple(channel, node, ts), { minLength: 1, maxLength: 25 }),
    fc.integer({ min: 1, max: 5 }),
  ).map(([messages, size]) => async (store: HistoryStore, model: Model) => {
    const blocks = model.append(messages, size);
    await store.append(blocks);
    await model.check(store, size * 3);
  });
  const forget = fc.tuple(channel, node, ts, fc.nat(20)).map(
    ([channel, node, firstTs, length]) => async (store: HistoryStore, model: Model) => {
      const range = { app: "app", channel, node, firstTs, lastTs: firstTs + length };
      model.forget(range);
      await store.forget([range]);
      await model.check(store, 2);
    },
  );
  const prune = fc.tuple(fc.oneof(fc.constant(0), ts), fc.integer({ min: 0, max: 9 })).map(
    ([beforeTs, keepPerChannel]) => async (store: HistoryStore, model: Model) => {
      const request: PruneRequest = { beforeTs, keepPerChannel };
      const expected = model.prune(request);
      assert.deepEqual(await pruneAll(store, request), expected);
      await model.check(store, 4);
    },
  );
  const count = fc.tuple(channel, ts, ts).map(
    ([channel, after, through]) => async (store: HistoryStore, model: Model) => {
      assert.equal(
        await store.count("app", channel, after, through),
        model.count(channel, after, through),
      );
    },
  );
  return fc.oneof({ weight: 5, arbitrary: append }, forget, prune, count);
}

function line(offset: number, text: string, from?: string): Line {
  return { ts: T + offset, text, from };
}

function kept(node: string, lines: readonly Line[]): Kept[] {
  return lines.map(({ ts, text, from }) => ({ ts, node, text, from }));
}

function sorted(messages: Kept[]): Kept[] {
  return messages.sort((a, b) => a.ts - b.ts || (a.node < b.node ? -1 : 1));
}

function range<R>(from: number, through: number, make: (i: number) => R): R[] {
  return Array.from({ length: through - from + 1 }, (_, i) => make(from + i));
}

function chunks<R>(items: readonly R[], size: number): R[][] {
  return range(0, Math.ceil(items.length / size) - 1, (i) => items.slice(i * size, (i + 1) * size));
}

async function prunedTs(store: HistoryStore, channel: string): Promise<number> {
  const request = { app: "app", channel, maxMessages: 1, maxBytes: 1 };
  const page: Page = await store.read({ ...request, afterTs: 0 });
  assert.equal((await store.readNewest(request)).prunedTs, page.prunedTs);
  return page.prunedTs;
}

async function collect(store: HistoryStore): Promise<(Block & ChannelBlock)[]> {
  const blocks: ChannelBlock[] = [];
  for await (const block of store.scan()) blocks.push(block);
  return blocks;
}
