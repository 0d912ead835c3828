import assert from "node:assert/strict";
import { ServerRing } from "./zookeeper_servers.ts";

Deno.test("zookeeper servers: one round at once, then a growing pause before each", () => {
  const ring = new ServerRing(["a:1", "b:2", "[::1]:3"], { maxPauseMs: 1000, random: () => 0 });
  const rounds = Array.from({ length: 7 }, () => {
    return [ring.next(), ring.next(), ring.next()];
  });
  for (const round of rounds) {
    assert.deepEqual(round.map(({ hostname }) => hostname).sort(), ["::1", "a", "b"]);
    assert.deepEqual(round.slice(1).map(({ pauseMs }) => pauseMs), [0, 0]);
  }
  const pauses = rounds.map(([{ pauseMs }]) => pauseMs);
  assert.deepEqual(pauses, [0, 50, 100, 200, 400, 500, 500]);
  ring.reset();
  assert.equal(ring.next().pauseMs, 0);
});

Deno.test("zookeeper servers: exhausted when each was tried", () => {
  const ring = new ServerRing(["a:1", "b:1"], { maxPauseMs: 1000 });
  assert.equal(ring.isExhausted, false);
  ring.next();
  assert.equal(ring.isExhausted, false);
  ring.next();
  assert.equal(ring.isExhausted, true);
  ring.reset();
  assert.equal(ring.isExhausted, false);
});

Deno.test("zookeeper servers: pauses differ, and stay within bounds for ever", () => {
  const ring = new ServerRing(["a:1"], { maxPauseMs: 300, random: () => 1 });
  const pauses = Array.from({ length: 2000 }, () => ring.next().pauseMs);
  assert.deepEqual(pauses.slice(0, 4), [0, 100, 200, 300]);
  assert.equal(pauses.at(-1), 300);
  const other = new ServerRing(["a:1"], { maxPauseMs: 300 });
  other.next();
  const pause = other.next().pauseMs;
  assert.ok(pause >= 50 && pause <= 100, `${pause}`);
});

Deno.test("zookeeper servers: what is no host and port is refused", () => {
  for (const text of ["", "a", "a:", ":1", "a:0", "a:65536", "a:1e3", "a:0x10", "a: 1"]) {
    assert.throws(() => new ServerRing([text], { maxPauseMs: 1 }), RangeError, text);
  }
  assert.throws(() => new ServerRing([], { maxPauseMs: 1 }), RangeError);
});
