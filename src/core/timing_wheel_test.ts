// The timing wheel on a clock and a timer of the test's own, and once on the real ones.

import assert from "node:assert/strict";
import { TimingWheel, type TimingWheelOptions, type WheelEntry } from "./timing_wheel.ts";

class Entry implements WheelEntry {
  prev: WheelEntry | null = null;
  next: WheelEntry | null = null;
  slot = -1;
  dueMs = 0;
  firedAt: number[] = [];
  constructor(readonly then: (nowMs: number) => number = () => 0) {}
  onDue(nowMs: number): number {
    this.firedAt.push(nowMs);
    return this.then(nowMs);
  }
}

/** Time that passes only when it is told to; timers fire in their turn. */
class FakeTime {
  nowMs = 0;
  timers: { fn: () => void; atMs: number }[] = [];
  started = 0;

  wheel(options: TimingWheelOptions = {}): TimingWheel {
    return new TimingWheel({
      now: () => this.nowMs,
      setTimer: (fn, delayMs) => {
        assert.ok(delayMs >= 1 && delayMs <= 2 ** 31 - 1, `delay ${delayMs}`);
        const timer = { fn, atMs: this.nowMs + delayMs };
        this.timers.push(timer);
        this.started++;
        return () => this.timers = this.timers.filter((other) => other !== timer);
      },
      afterReads: (fn) => fn(),
      ...options,
    });
  }

  /** Lets time pass with every timer on time. */
  pass(ms: number): void {
    const endMs = this.nowMs + ms;
    for (;;) {
      const due = this.timers.filter((timer) => timer.atMs <= endMs);
      if (due.length === 0) break;
      const next = due.reduce((a, b) => (b.atMs < a.atMs ? b : a));
      this.nowMs = Math.max(this.nowMs, next.atMs);
      this.fire(next);
    }
    this.nowMs = endMs;
  }

  /** Lets time pass with nothing running, then fires what is due once. */
  stall(ms: number): void {
    this.nowMs += ms;
    for (const timer of this.timers.filter((timer) => timer.atMs <= this.nowMs)) this.fire(timer);
  }

  fire(timer: { fn: () => void }): void {
    this.timers = this.timers.filter((other) => other !== timer);
    timer.fn();
  }
}

Deno.test("wheel: an entry fires once, at most two ticks late and never early", () => {
  const time = new FakeTime();
  const wheel = time.wheel();
  for (const delayMs of [0, 1, 99, 100, 101, 5_000, 51_199, 51_200, 51_201, 600_000]) {
    time.pass(37);
    const entry = new Entry();
    const dueMs = time.nowMs + delayMs;
    wheel.schedule(entry, dueMs);
    assert.equal(wheel.size, 1);
    time.pass(delayMs + 1000);
    assert.equal(entry.firedAt.length, 1);
    const lateMs = entry.firedAt[0] - dueMs;
    assert.ok(lateMs >= 0 && lateMs <= 200, `${delayMs}: ${lateMs} ms late`);
    assert.equal(wheel.size, 0);
    assert.equal(time.timers.length, 0, "no timer without entries");
  }
});

Deno.test("wheel: a thousand hours", () => {
  const time = new FakeTime();
  const wheel = time.wheel({ tickMs: 10_000 }); // or the test would take long
  const entry = new Entry();
  wheel.schedule(entry, 3_600_000_000);
  time.pass(3_599_999_999);
  assert.deepEqual(entry.firedAt, []);
  time.pass(20_000);
  assert.equal(entry.firedAt.length, 1);
});

Deno.test("wheel: many entries in any order, some moved, some cancelled, all at their time", () => {
  const time = new FakeTime();
  const wheel = time.wheel({ slots: 8 });
  const entries = Array.from({ length: 2000 }, () => new Entry());
  let seed = 1;
  const random = (n: number) => (seed = (seed * 48271) % 0x7fffffff) % n;
  const due = new Map<Entry, number>();
  for (let round = 0; round < 3; round++) {
    for (const entry of entries) {
      const dueMs = time.nowMs + random(20_000);
      if (random(4) === 0) {
        wheel.cancel(entry);
        due.delete(entry);
      } else if (entry.firedAt.length === 0) {
        wheel.schedule(entry, dueMs);
        due.set(entry, dueMs);
      }
    }
    time.pass(1000);
  }
  time.pass(30_000);
  for (const entry of entries) {
    const dueMs = due.get(entry);
    if (dueMs === undefined) assert.equal(entry.firedAt.length <= 1, true);
    else assert.ok(entry.firedAt[0] >= dueMs && entry.firedAt[0] <= dueMs + 200);
  }
  assert.equal(wheel.size, 0);
});

Deno.test("wheel: what onDue returns is the next time; 0, Infinity and NaN mean none", () => {
  const time = new FakeTime();
  const wheel = time.wheel();
  const again = new Entry((nowMs) => nowMs < 3000 ? nowMs + 1000 : Infinity);
  const nan = new Entry(() => NaN);
  wheel.schedule(again, 1000);
  wheel.schedule(nan, 1000);
  time.pass(10_000);
  assert.deepEqual(again.firedAt, [1000, 2000, 3000]);
  assert.deepEqual(nan.firedAt, [1000]);
  assert.equal(wheel.size, 0);
});

Deno.test("wheel: onDue may cancel and schedule neighbours of the same list", () => {
  const time = new FakeTime();
  const wheel = time.wheel();
  const others = [new Entry(), new Entry(), new Entry()];
  const first = new Entry(() => {
    wheel.cancel(others[0]);
    wheel.cancel(others[1]);
    wheel.schedule(others[2], 500);
    return 0;
  });
  for (const entry of [...others, first]) wheel.schedule(entry, 100); // the last one in fires first
  time.pass(100);
  assert.deepEqual([...others, first].map((entry) => entry.firedAt.length), [0, 0, 0, 1]);
  time.pass(1000);
  assert.deepEqual(others.map((entry) => entry.firedAt), [[], [], [500]]);
});

Deno.test("wheel: an entry that is due again at once fires once a tick", () => {
  const time = new FakeTime();
  const wheel = time.wheel();
  const entry = new Entry((nowMs) => nowMs);
  wheel.schedule(entry, 0);
  time.pass(1000);
  assert.deepEqual(entry.firedAt, [100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]);
  wheel.stop();
  assert.equal(wheel.size, 0);
  assert.equal(entry.slot, -1);
  assert.equal(time.timers.length, 0);
});

Deno.test("wheel: one timer however many entries, at most one tick per tickMs", () => {
  const time = new FakeTime();
  const wheel = time.wheel();
  for (let i = 0; i < 100; i++) {
    wheel.schedule(new Entry(), 5000 + i);
    assert.equal(time.timers.length, 1);
  }
  time.pass(5200);
  assert.ok(time.started <= 53, `${time.started} timers`);
});

Deno.test("wheel: after a stall nobody is judged before the event loop has turned for a tick", () => {
  const time = new FakeTime();
  const wheel = time.wheel();
  // A connection that may be silent for 10 s, and whose bytes arrived while we stood still.
  let lastReadMs = 0;
  let cut = false;
  const entry = new Entry((nowMs) => {
    if (lastReadMs + 10_000 > nowMs) return lastReadMs + 10_000;
    cut = true;
    return 0;
  });
  wheel.schedule(entry, 10_000);
  time.pass(1000);
  time.stall(60_000);
  assert.deepEqual(entry.firedAt, []);
  lastReadMs = time.nowMs; // the waiting read is carried out
  time.pass(200);
  assert.equal(entry.firedAt.length, 1);
  assert.equal(cut, false);
  time.pass(9_000);
  assert.equal(cut, false);
  time.pass(2_000);
  assert.equal(cut, true);
});

Deno.test("wheel: grace that comes late is given again; a loop that is always late does not spare anybody for ever", () => {
  const time = new FakeTime();
  const wheel = time.wheel();
  const entry = new Entry();
  wheel.schedule(entry, 100);
  time.stall(5000);
  time.stall(160);
  assert.equal(entry.firedAt.length, 0, "stopped again: nobody could read");
  for (let i = 0; i < 25; i++) time.stall(160);
  assert.equal(entry.firedAt.length, 1);
});

Deno.test("wheel: after the grace, what waits to be read comes before the judgement", () => {
  const time = new FakeTime();
  let judge: (() => void) | null = null;
  const wheel = time.wheel({ afterReads: (fn) => judge = fn });
  const entry = new Entry();
  wheel.schedule(entry, 100);
  time.stall(5000);
  time.pass(100);
  assert.equal(entry.firedAt.length, 0);
  // What is scheduled meanwhile waits for the same.
  const other = new Entry();
  wheel.schedule(other, time.nowMs + 50);
  assert.ok(judge !== null);
  (judge as () => void)();
  assert.equal(entry.firedAt.length, 1);
  time.pass(200);
  assert.equal(other.firedAt.length, 1);
});

Deno.test("wheel: an empty wheel that is used again later starts from there", () => {
  const time = new FakeTime();
  const wheel = time.wheel();
  wheel.schedule(new Entry(), 100);
  time.pass(1_000_000);
  const entry = new Entry();
  wheel.schedule(entry, time.nowMs + 250);
  time.pass(200);
  assert.deepEqual(entry.firedAt, []);
  time.pass(200);
  assert.equal(entry.firedAt.length, 1);
});

Deno.test("wheel: on the real clock", async () => {
  const wheel = new TimingWheel({ tickMs: 5 });
  const fired = Promise.withResolvers<void>();
  const startMs = performance.now();
  wheel.schedule(
    new Entry(() => {
      fired.resolve();
      return 0;
    }),
    startMs + 20,
  );
  await fired.promise;
  assert.ok(performance.now() - startMs >= 20);
  assert.equal(wheel.size, 0);
});
