// Tasks under supervision: ends, stops, crashes.

import assert from "node:assert/strict";
import { type Crash, runningTasks, setCrashHook, spawn } from "./spawn.ts";

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

/** Runs `fn` with a crash hook that collects. */
async function collectCrashes(fn: () => Promise<void>): Promise<Crash[]> {
  const crashes: Crash[] = [];
  setCrashHook((crash) => crashes.push(crash));
  try {
    await fn();
  } finally {
    setCrashHook(null);
  }
  return crashes;
}

Deno.test("spawn: running tasks are known by name and number, ended ones are forgotten", async () => {
  const gate = Promise.withResolvers<void>();
  const tasks = ["b", "a", "b"].map((name) => spawn(name, () => gate.promise));
  assert.deepEqual(runningTasks().map(({ name, count }) => [name, count]), [["a", 1], ["b", 2]]);
  gate.resolve();
  await Promise.all(tasks.map((task) => task.done));
  assert.deepEqual(runningTasks(), []);
});

Deno.test("spawn: of each name it is known since when the oldest and the newest task run", async () => {
  let nowMs = 5000;
  const { now } = performance;
  performance.now = () => nowMs;
  try {
    const gates = [1, 2, 3, 4].map(() => Promise.withResolvers<void>());
    const tasks = gates.map((gate) => {
      nowMs += 1000;
      return spawn("a", () => gate.promise);
    });
    const ages = () =>
      runningTasks().map(({ count, oldestMs, newestMs }) => [count, oldestMs, newestMs]);
    const end = async (i: number) => {
      gates[i].resolve();
      await tasks[i].done;
    };
    assert.deepEqual(ages(), [[4, 3000, 0]]);
    await end(1);
    assert.deepEqual(ages(), [[3, 3000, 0]]);
    await end(0);
    assert.deepEqual(ages(), [[2, 1000, 0]]);
    await end(3);
    nowMs += 500;
    assert.deepEqual(ages(), [[1, 1500, 1500]]);
    await end(2);
    assert.deepEqual(ages(), []);
  } finally {
    performance.now = now;
  }
});

Deno.test("spawn: a task that throws what it was stopped with has ended in order", async () => {
  const crashes = await collectCrashes(async () => {
    const one = spawn("one", untilAborted);
    one.stop();
    await one.done;
    const two = spawn("two", untilAborted);
    two.stop("reload");
    await two.done;
  });
  assert.deepEqual(crashes, []);
  assert.deepEqual(runningTasks(), []);
});

Deno.test("spawn: any other throw is a crash with the task's name, also before the first await", async () => {
  const late = new Error("late");
  const early = new Error("early");
  const crashes = await collectCrashes(async () => {
    await spawn("late", async () => {
      await Promise.resolve();
      throw late;
    }).done;
    await spawn("early", () => {
      throw early;
    }).done;
    const stopped = spawn("stopped", async (signal) => {
      await untilAborted(signal).catch(() => {});
      throw late;
    });
    stopped.stop();
    await stopped.done;
  });
  assert.deepEqual(crashes, [
    { name: "late", error: late },
    { name: "early", error: early },
    { name: "stopped", error: late },
  ]);
});

Deno.test("spawn: without a hook a crash ends the process", async () => {
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "eval",
      "--quiet",
      `
      import { spawn } from "${new URL("./spawn.ts", import.meta.url).href}";
      setInterval(() => {}, 1000);
      spawn("bad", () => Promise.reject(new Error("a bug")));`,
    ],
    cwd: new URL("../../", import.meta.url),
  }).output();
  assert.equal(code, 1);
  assert.match(new TextDecoder().decode(stderr), /a bug/);
});
