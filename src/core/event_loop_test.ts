// The watch over the event loop: what it sees, for how long it knows it, and how often it looks.

import assert from "node:assert/strict";
import { EventLoopMonitor } from "./event_loop.ts";

/** A monitor on a clock that stands still until it is moved. */
function monitorOnFakeClock() {
  const time = { ms: 1_000_000, cpuMs: 0, turns: 0 };
  const wallMs = Date.parse("2026-01-31T12:00:00Z") - time.ms;
  let timer: { fn: () => void; delayMs: number; dueMs: number } | null = null;
  const monitor = new EventLoopMonitor({
    turns: () => time.turns,
    now: () => time.ms,
    wallMs: () => wallMs + time.ms,
    cpuMs: () => time.cpuMs,
    setTimer: (fn, delayMs) => {
      timer = { fn, delayMs, dueMs: time.ms + delayMs };
      return () => timer = null;
    },
  });
  /** Lets the next look come so late. */
  const look = (lateMs = 0) => {
    if (timer === null) throw new Error("nothing is armed");
    time.ms = timer.dueMs + lateMs;
    timer.fn();
  };
  return { monitor, time, look, period: () => timer?.delayMs };
}

Deno.test("event loop: a stall is known by its time, its length and what ran", () => {
  const { monitor, time, look } = monitorOnFakeClock();
  monitor.start();
  look(1);
  assert.deepEqual([monitor.lagMs, monitor.stalls()], [1, []]);
  time.cpuMs += 280;
  time.turns += 1;
  look(300);
  look(2);
  const [stall, ...others] = monitor.stalls();
  assert.deepEqual(others, []);
  assert.deepEqual([stall.ms, stall.cpuMs, stall.turns], [300, 280, 1]);
  assert.equal(new Date(stall.atMs).toISOString(), "2026-01-31T12:00:00.101Z");
  assert.equal(monitor.lagMs, 2);
  assert.equal(monitor.maxSince(15_000), 300);
});

Deno.test("event loop: the greatest lag is known for a while, for each who asks", () => {
  const { monitor, time, look } = monitorOnFakeClock();
  monitor.start();
  look(300);
  const endMs = time.ms;
  while (time.ms < endMs + 14_000) look(1);
  assert.equal(monitor.maxSince(15_000), 300);
  assert.equal(monitor.maxSince(15_000), 300);
  assert.equal(monitor.maxSince(1000), 1);
  while (time.ms < endMs + 16_500) look(1);
  assert.equal(monitor.maxSince(15_000), 1);
  assert.equal(monitor.maxSince(60_000), 300);
  // Nobody knows it for longer, however far back he asks.
  while (time.ms < endMs + 70_000) look(1);
  assert.equal(monitor.maxSince(3_600_000), 1);
});

Deno.test("event loop: a stall under way is seen before the look that is overdue", () => {
  const { monitor, time } = monitorOnFakeClock();
  monitor.start();
  time.ms += 5050;
  assert.equal(monitor.lagMs, 5000);
  assert.equal(monitor.maxSince(15_000), 5000);
  monitor.stop();
  assert.equal(monitor.lagMs, 0);
});

Deno.test("event loop: the twenty longest stalls of an hour are kept", () => {
  const { monitor, time, look } = monitorOnFakeClock();
  monitor.start();
  for (let ms = 1; ms <= 100; ms++) look(ms % 2 === 0 ? ms : 101 - ms);
  const lengths = monitor.stalls().map(({ ms }) => ms);
  assert.equal(lengths.length, 20);
  assert.deepEqual(lengths, lengths.toSorted((a, b) => b - a));
  assert.equal(lengths[0], 100);
  assert.ok(lengths[19] > 70);
  // A shorter one comes in again when those have become old.
  time.ms += 3_600_000;
  monitor.stop();
  monitor.start();
  look(25);
  assert.deepEqual(monitor.stalls().map(({ ms }) => ms), [25]);
});

Deno.test("event loop: who does nothing is looked at less often, and more often at the first work", () => {
  const { monitor, time, look, period } = monitorOnFakeClock();
  monitor.start();
  assert.equal(period(), 50);
  for (let i = 0; i < 20; i++) look();
  assert.equal(period(), 250);
  time.turns++;
  look();
  assert.equal(period(), 50);
});

Deno.test("event loop: a real one is seen, and the timer holds nobody", async () => {
  const monitor = new EventLoopMonitor();
  monitor.start();
  monitor.start();
  const endMs = performance.now() + 150;
  while (performance.now() < endMs);
  // Two timers of one time: behind it.
  await new Promise((resolve) => setTimeout(resolve, 60));
  assert.ok(monitor.maxSince(15_000) >= 90, `${monitor.maxSince(15_000)} ms`);
  const [stall] = monitor.stalls();
  assert.ok(stall.cpuMs > 0 && Math.abs(stall.atMs + stall.ms - Date.now()) < 10_000);
  monitor.stop();
});
