import assert from "node:assert/strict";
import { TimingWheel } from "../core/timing_wheel.ts";
import { ARRIVAL_MS, Arrivals } from "./arrivals.ts";

/** A socket whose work ends when it is closed, or when told to. */
class Coming {
  isClosed = false;
  #work = Promise.withResolvers<string>();

  close(): void {
    this.isClosed = true;
    this.#work.reject(new Error("closed"));
  }

  arrive(): void {
    this.#work.resolve("here");
  }

  bring(arrivals: Arrivals, maxFiles = 100): Promise<string> {
    return arrivals.bring({ socket: this, files: 3, maxFiles }, () => this.#work.promise);
  }
}

Deno.test("Arrivals: who comes in time is brought, and counts no longer", async () => {
  const wheel = new TimingWheel();
  const arrivals = new Arrivals(wheel);
  const coming = new Coming();
  const brought = coming.bring(arrivals);
  assert.deepEqual([arrivals.size, arrivals.files, wheel.size], [1, 3, 1]);
  coming.arrive();
  assert.equal(await brought, "here");
  assert.deepEqual([arrivals.size, arrivals.files, wheel.size], [0, 0, 0]);
  assert.ok(!coming.isClosed);
});

Deno.test("Arrivals: who is late is closed, with a reason", async () => {
  let nowMs = performance.now();
  let tick = () => {};
  const wheel = new TimingWheel({
    now: () => nowMs,
    setTimer: (fn) => {
      tick = fn;
      return () => tick = () => {};
    },
    stallMs: Infinity,
  });
  const arrivals = new Arrivals(wheel);
  const coming = new Coming();
  const rejected = assert.rejects(coming.bring(arrivals), /not done within 8 s/);
  nowMs += ARRIVAL_MS - 200;
  tick();
  assert.ok(!coming.isClosed);
  nowMs += 400;
  tick();
  assert.ok(coming.isClosed);
  await rejected;
});

Deno.test("Arrivals: those that have been longest make room", async () => {
  const arrivals = new Arrivals(new TimingWheel());
  const all = Array.from({ length: 4 }, () => new Coming());
  const results = all.map((coming) => coming.bring(arrivals, 9));
  assert.deepEqual(all.map(({ isClosed }) => isClosed), [true, false, false, false]);
  assert.equal(arrivals.files, 9);
  await assert.rejects(results[0], /make room/);
  for (const coming of all.slice(1)) coming.arrive();
  await Promise.all(results.slice(1));
  assert.equal(arrivals.files, 0);
});

Deno.test("Arrivals: a failure closes the socket and is told", async () => {
  const arrivals = new Arrivals(new TimingWheel());
  let isClosed = false;
  const socket = { close: () => void (isClosed = true) };
  const work = () => Promise.reject(new Error("no header"));
  await assert.rejects(arrivals.bring({ socket, files: 1, maxFiles: 9 }, work), /no header/);
  assert.ok(isClosed);
  assert.equal(arrivals.size, 0);
});
