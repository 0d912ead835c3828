// The clock of the timestamps, on clocks of the test's own that jump as it is told.

import assert from "node:assert/strict";
import fc from "fast-check";
import { Clock, systemTime, type TimeSource } from "./clock.ts";

const HOUR_MS = 3_600_000;
const START_MS = 1_700_000_000_000;

class FakeTime implements TimeSource {
  wall = START_MS;
  mono = 0;
  wallMs(): number {
    return Math.floor(this.wall);
  }
  monoMs(): number {
    return this.mono;
  }
  /** Time goes by on both clocks. */
  pass(ms: number): void {
    this.wall += ms;
    this.mono += ms;
  }
}

function digitsOf(clock: Clock): number {
  const text = new TextDecoder().decode(clock.digits);
  assert.match(text, /^[0-9]{16}$/);
  return Number(text);
}

Deno.test("the first timestamp is not behind the wall clock, and the digits are the number", () => {
  const time = new FakeTime();
  const clock = new Clock(time);
  clock.refresh();
  assert.ok(clock.next() >= START_MS * 1000);
  assert.equal(digitsOf(clock), clock.last);
});

Deno.test("digits carry over every nine", () => {
  const clock = new Clock(new FakeTime());
  for (const last of [1_799_999_999_999_999, 1_999_999_999_999_998, 8_999_999_999_999_999]) {
    clock.moveFrom(last);
    assert.equal(digitsOf(clock), last);
    for (let i = 1; i <= 12; i++) {
      assert.equal(clock.next(), last + i);
      assert.equal(digitsOf(clock), last + i);
    }
  }
});

Deno.test("between two wall-clock milliseconds the monotonic clock tells them apart", () => {
  const time = new FakeTime();
  const clock = new Clock(time);
  time.pass(0.25);
  clock.refresh();
  assert.equal(clock.next(), START_MS * 1000 + 250);
  time.pass(0.5);
  clock.refresh();
  assert.equal(clock.next(), START_MS * 1000 + 750);
});

Deno.test("set back an hour, it counts on from the last timestamp until the wall clock is there", () => {
  const time = new FakeTime();
  const clock = new Clock(time);
  time.pass(5);
  clock.refresh();
  let last = clock.next();
  time.wall -= HOUR_MS;
  for (let i = 0; i < 100; i++) {
    time.pass(10);
    clock.refresh();
    const ts = clock.next();
    assert.equal(ts, last + 1);
    assert.equal(digitsOf(clock), ts);
    last = ts;
  }
  time.pass(HOUR_MS);
  clock.refresh();
  assert.ok(clock.next() >= time.wallMs() * 1000);
});

Deno.test("after a stop or a jump ahead it is at the wall clock at once", () => {
  const time = new FakeTime();
  const clock = new Clock(time);
  // A stopped process: both clocks went on. A suspended machine: only the wall clock did.
  for (const mono of [HOUR_MS, 0, 3]) {
    time.wall += HOUR_MS;
    time.mono += mono;
    clock.refresh();
    const ts = clock.next();
    assert.ok(ts >= time.wallMs() * 1000, `${ts}`);
    assert.ok(ts < (time.wallMs() + 5) * 1000, `${ts}`);
  }
});

Deno.test("it moves past a timestamp seen elsewhere, never back to one", () => {
  const clock = new Clock(new FakeTime());
  const ahead = START_MS * 1000 + 5_000_000;
  clock.moveFrom(ahead);
  assert.equal(clock.next(), ahead + 1);
  clock.moveFrom(ahead - 1);
  clock.moveFrom(ahead + 1);
  assert.equal(clock.next(), ahead + 2);
  clock.refresh();
  assert.equal(clock.next(), ahead + 3);
  assert.equal(digitsOf(clock), ahead + 3);
});

Deno.test("whatever the clocks do: strictly increasing, at or past the wall clock, digits equal", () => {
  const jump = fc.oneof(
    fc.record({ pass: fc.double({ min: 0, max: 50, noNaN: true }), wall: fc.constant(0) }),
    fc.record({
      pass: fc.double({ min: 0, max: 5, noNaN: true }),
      wall: fc.oneof(
        fc.integer({ min: -24 * HOUR_MS, max: 24 * HOUR_MS }),
        fc.integer({ min: -5, max: 5 }),
      ),
    }),
  );
  const turn = fc.record({ jump, count: fc.nat(20), seen: fc.option(fc.nat(HOUR_MS)) });
  fc.assert(fc.property(fc.array(turn, { maxLength: 60 }), (turns) => {
    const time = new FakeTime();
    const clock = new Clock(time);
    let last = clock.last;
    for (const { jump, count, seen } of turns) {
      time.pass(jump.pass);
      time.wall += jump.wall;
      if (seen !== null) clock.moveFrom(START_MS * 1000 + seen);
      clock.refresh();
      for (let i = 0; i < count; i++) {
        const ts = clock.next();
        assert.ok(Number.isSafeInteger(ts) && ts > last);
        assert.ok(ts >= time.wallMs() * 1000);
        assert.equal(ts, clock.last);
        assert.equal(digitsOf(clock), ts);
        last = ts;
      }
    }
  }));
});

Deno.test("the machine's own clocks will do", () => {
  const clock = new Clock(systemTime);
  const before = Date.now() * 1000;
  clock.refresh();
  assert.ok(clock.next() >= before);
  assert.ok(clock.last <= (Date.now() + 3) * 1000);
});
