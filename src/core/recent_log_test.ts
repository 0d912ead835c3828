// The last warnings: which are kept, how many, and how they read.

import assert from "node:assert/strict";
import type { LogLevel, LogRecord } from "@logtape/logtape";
import { RecentLog } from "./recent_log.ts";

function record(level: LogLevel, message: string, properties = {}): LogRecord {
  return {
    category: ["pushd", "serv"],
    level,
    message: [message],
    rawMessage: message,
    timestamp: Date.UTC(2026, 10, 25, 12),
    properties,
  };
}

Deno.test("recent log: warnings and worse, as a line of text says them", () => {
  const log = new RecentLog(100);
  for (const level of ["trace", "debug", "info"] as const) log.add(record(level, "nothing"));
  log.add(record("warning", "slow", { address: "::1", name: "a\nb" }));
  log.add(record("fatal", "a task failed"));
  assert.deepEqual(log.after(0), [
    {
      number: 1,
      time: "2026-11-25T12:00:00.000Z",
      level: "warn",
      category: "serv",
      text: 'slow address=::1 name="a\\nb"',
    },
    {
      number: 2,
      time: "2026-11-25T12:00:00.000Z",
      level: "fatal",
      category: "serv",
      text: "a task failed",
    },
  ]);
  assert.equal(log.after(1).length, 1);
});

Deno.test("recent log: the newest are kept, each cut to a bound", () => {
  const log = new RecentLog(3);
  let told = 0;
  const end = log.onAdded(() => told++);
  for (let i = 0; i < 10; i++) log.add(record("error", `${i}`.repeat(10_000)));
  end();
  log.add(record("error", "last"));
  assert.equal(told, 10);
  assert.equal(log.count, 11);
  assert.deepEqual(log.after(0).map(({ number }) => number), [9, 10, 11]);
  assert.equal(log.after(0)[0].text.length, 2001);
});
