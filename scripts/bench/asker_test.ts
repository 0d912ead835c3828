// Whether the asker sees what is wrong with answers: its null server withholds, refuses or repeats one on purpose.

import assert from "node:assert/strict";
import {
  Asker,
  askFaultsOf,
  type AskOptions,
  type AskRun,
  PAGE_QUESTIONS,
  QUESTIONS,
} from "./asker.ts";
import { findCompiler } from "./compile.ts";
import { Processes } from "./processes.ts";

const why = Deno.build.os !== "linux"
  ? " (skipped: it needs epoll, so Linux)"
  : await findCompiler() === null
  ? " (skipped: no C compiler on PATH)"
  : "";

const REQUESTS = 2000;

async function withAsker(
  test: (run: (options: Partial<AskOptions>) => Promise<AskRun>) => unknown,
) {
  const folder = await Deno.makeTempDir({ prefix: "pushd-bench-test-" });
  const processes = new Processes();
  try {
    const asker = await Asker.compile(folder, processes);
    await test((options) =>
      asker.run({
        question: "pub",
        connections: 10,
        window: 4,
        size: 64,
        seconds: 1,
        warmupSeconds: 0,
        ...options,
        extra: ["--requests", String(REQUESTS), "--stall", "0.5", ...options.extra ?? []],
      })
    );
  } finally {
    await processes.stop();
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test({
  name: `asker: every request is answered once, whatever is asked${why}`,
  ignore: why !== "",
  fn: () =>
    withAsker(async (run) => {
      for (const question of QUESTIONS) {
        for (const [connections, window] of [[1, 1], [300, 1], [10, 32]]) {
          const result = await run({ question, connections, window });
          const { asked, answered, latency_us: { p50, max } } = result;
          const what = `${question}, ${connections} × ${window}`;
          assert.equal(askFaultsOf(result), "", what);
          assert.deepEqual({ asked, answered }, { asked: REQUESTS, answered: REQUESTS }, what);
          assert.ok(p50 > 0 && p50 <= max, what);
        }
      }
    }),
});

Deno.test({
  name: `asker: a fault is counted for what it is, whatever is asked${why}`,
  ignore: why !== "",
  fn: () =>
    withAsker(async (run) => {
      for (const question of QUESTIONS) {
        if (PAGE_QUESTIONS.some((page) => page === question)) continue;
        const withFault = (fault: string) =>
          run({ question, extra: ["--fault", fault, "--fault-at", "70"] });
        const silent = await withFault("silence");
        assert.equal(askFaultsOf(silent), "1 unanswered, stalled", question);
        const refused = await withFault("failure");
        assert.deepEqual([refused.errors, refused.odd], [1, 0], question);
        assert.ok(refused.problem !== undefined, question);
        const repeated = await withFault("repeat");
        assert.equal(askFaultsOf(repeated), "1 out of order", question);
      }
    }),
});

Deno.test({
  name: `asker: a page of history that is not whole is seen${why}`,
  ignore: why !== "",
  fn: () =>
    withAsker(async (run) => {
      for (const question of PAGE_QUESTIONS) {
        const extra = ["--fault", "silence", "--fault-at", "70"];
        const { odd, errors } = await run({ question, extra });
        assert.ok(odd > 0);
        assert.equal(errors, 0);
      }
    }),
});
