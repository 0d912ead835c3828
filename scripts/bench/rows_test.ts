// How rows are written and shown.

import assert from "node:assert/strict";
import { DEFAULT_ROWS, parseRow, parseRows, RowError, rowTitle } from "./rows.ts";

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
      "1x1@31",
      "1x1@60001",
      "-1x1",
    ]
  ) {
    assert.throws(
      () => parseRow(id),
      (error) => error instanceof RowError && /4x100x1/.test(error.message),
    );
  }
});

Deno.test("rowTitle: for people", () => {
  assert.deepEqual(parseRows(DEFAULT_ROWS).map(rowTitle), [
    "1 → 1, 64 B",
    "1 → 10, 64 B",
    "1 → 100, 64 B",
    "4 publishers, 100 channels × 1, 64 B",
    "1 → 1, 1 KiB",
  ]);
});
