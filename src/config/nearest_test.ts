// Tests of finding the nearest known name.

import assert from "node:assert/strict";
import fc from "fast-check";
import { editDistance, nearest } from "./nearest.ts";

Deno.test("editDistance: insert, drop, change, swap neighbours", () => {
  const cases: [string, string, number][] = [
    ["auth", "auth", 0],
    ["auht", "auth", 1],
    ["aut", "auth", 1],
    ["aauth", "auth", 1],
    ["buth", "auth", 1],
    ["", "auth", 4],
    ["auth", "", 4],
    ["kitten", "sitting", 3],
  ];
  for (const [a, b, distance] of cases) assert.equal(editDistance(a, b), distance, `${a} ${b}`);
});

Deno.test("editDistance: the same both ways, and never more than the longer text", () => {
  fc.assert(fc.property(fc.string(), fc.string(), (a, b) => {
    assert.equal(editDistance(a, b), editDistance(b, a));
    assert.ok(editDistance(a, b) <= Math.max(a.length, b.length));
  }));
});

Deno.test("nearest: whatever the name", () => {
  const known = ["tcp_listen_addr", "tls_listen_addr", "auth"];
  assert.equal(nearest("tcp_lsiten_adr", known), "tcp_listen_addr");
  assert.equal(nearest("TLS_LISTEN", known), "tls_listen_addr");
  assert.ok(known.includes(nearest("__proto__", known)));
  assert.ok(known.includes(nearest("x".repeat(1_000_000), known)));
});
