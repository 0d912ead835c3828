// How rows are written and shown.

import assert from "node:assert/strict";
import { DEFAULT_ROWS, parseRow, parseRows, RowError, rowTitle, unlinked } from "./rows.ts";

Deno.test("parseRow: publishers, channels, subscribers, bytes", () => {
  assert.deepEqual(parseRow("1x100"), {
    id: "1x100",
    publishers: 1,
    channels: 1,
    subscribers: 100,
    size: 64,
  });
  assert.deepEqual(parseRow("4x100x2@1024"), {
    id: "4x100x2@1024",
    publishers: 4,
    channels: 100,
    subscribers: 2,
    size: 1024,
  });
});

Deno.test("parseRow: a link between publishers and subscribers", () => {
  const row = parseRow("link:4x100x1@1024");
  assert.deepEqual(row, { ...parseRow("4x100x1@1024"), id: "link:4x100x1@1024", linked: true });
  assert.deepEqual(unlinked(row), parseRow("4x100x1@1024"));
});

Deno.test("parseRow: popular channels, JSON, and loads", () => {
  const zipf = parseRow("zipf:4x100000");
  assert.deepEqual([zipf.publishers, zipf.channels, zipf.connections], [4, 100_000, 20]);
  assert.equal(rowTitle(zipf), "4 publishers, 100000 channels × 1, 64 B, by popularity");
  const json = parseRow("at:half:json:1x1@1024");
  assert.deepEqual([json.at, json.json, json.size], ["half", true, 1024]);
  const row = parseRow("at:20000:link:1x10");
  assert.deepEqual([row.at, row.linked, unlinked(row).id], [20_000, true, "at:20000:1x10"]);
});

Deno.test("parseRow: what is no row is refused with what would be one", () => {
  for (
    const id of [
      "",
      "1",
      "x1",
      "1x",
      "0x1",
      "1x0",
      "1x0x1",
      "1x1x1x1",
      "1x1@15",
      "at:100:1x1@31",
      "at:0:1x1",
      "link:json:1x1",
      "json:tls:1x1",
      "link:tls:1x1",
      "zipf:4x100001",
      "zipf:0x10",
      "1x1@60001",
      "-1x1",
      "link:",
      "link:0x1",
      "link:link:1x1",
    ]
  ) {
    assert.throws(
      () => parseRow(id),
      (error) => error instanceof RowError && /4x100x1/.test(error.message),
    );
  }
});

Deno.test("rowTitle: for people", () => {
  assert.deepEqual(parseRows("fanout").map((row) => "kind" in row ? row.id : rowTitle(row)), [
    "1 → 1, 64 B",
    "1 → 10, 64 B",
    "1 → 100, 64 B",
    "4 → 1000, 64 B",
    "4 publishers, 100 channels × 1, 64 B",
    "1000 publishers, 1000 channels × 1, 64 B",
    "4 publishers, 100000 channels × 1, 64 B, by popularity",
  ]);
  assert.deepEqual(parseRows("link").map((row) => "kind" in row ? row.id : rowTitle(row)), [
    "1 → 1, 64 B, across a link",
    "1 → 10, 64 B, across a link",
    "1 → 100, 64 B, across a link",
    "4 publishers, 100 channels × 1, 64 B, across a link",
  ]);
});

Deno.test("parseRows: rows by name, and several by the name of their group", () => {
  assert.deepEqual(
    parseRows("durable:100, durable:1000x32,his:store:16,writing:1x10,idle:50x2,1x1"),
    [
      { kind: "durable", id: "durable:100", publishers: 100, window: 1 },
      { kind: "durable", id: "durable:1000x32", publishers: 1000, window: 32 },
      { kind: "his", id: "his:store:16", from: "store", connections: 16 },
      { kind: "writing", id: "writing:1x10", row: parseRow("1x10") },
      { kind: "idle", id: "idle:50x2", connections: 50, channels: 2 },
      parseRow("1x1"),
    ],
  );
  assert.equal(parseRows("durable").length, 6);
  assert.equal(parseRows(DEFAULT_ROWS).length, 40);
  for (
    const id of [
      "durable:",
      "durable:0",
      "durable:1x257",
      "his:disk:1",
      "his:cache",
      "connect:19001",
      "all",
    ]
  ) {
    assert.throws(() => parseRows(id), RowError);
  }
});
