// Membership by what is no ZooKeeper: tried again, at little cost, and nothing of it is left in the end.

import assert from "node:assert/strict";
import { getAvailablePort } from "@std/net";
import { Process, processReason } from "./process.ts";
import { FAKE_KINDS, FakeZooKeeper } from "./zookeeper_fake.ts";
import { MemberProcess, until } from "./zookeeper_world.ts";

Deno.test({
  name: `zookeeper: what is no ZooKeeper is tried again, and costs nothing${processReason}`,
  ignore: processReason !== "",
  fn: async () => {
    const fakes = FAKE_KINDS.map((kind) => new FakeZooKeeper(kind));
    try {
      const nobody = `127.0.0.1:${getAvailablePort()}`;
      const addrs = [...fakes.map(({ addr }) => addr), nobody];
      // One for each, all in one process.
      await using child = await MemberProcess.start(addrs.map((addr, i) => ({
        id: `n${i}`,
        incarnation: "1",
        servers: [addr],
        sessionTimeoutMs: 10_000,
      })));
      await until(
        "each to be tried again",
        () => fakes.every(({ count, kind }) => count >= (kind === "is silent" ? 1 : 3)),
      );
      const { cpuMs, spanMs } = await measureCpu(new Process(child.pid), 4000);
      const share = cpuMs / spanMs;
      assert.ok(share < 0.05, `${(share * 100).toFixed(1)} % of a processor`);
      const counts = fakes.map(({ kind, count }) => `${kind}: ${count}`).join(", ");
      assert.ok(fakes.every(({ count }) => count < 20), counts);
      assert.ok(fakes.every(({ openCount }) => openCount <= 1), "one connection at a time");
      assert.deepEqual(child.lines, ["started"], "nobody was told of members");
      const { code, errors } = await child.end("SIGTERM");
      assert.deepEqual({ code, errors }, { code: 0, errors: "" });
      await until("every connection to end", () => fakes.every(({ openCount }) => openCount === 0));
    } finally {
      for (const fake of fakes) fake[Symbol.dispose]();
    }
  },
});

/** What a process uses in a while. */
async function measureCpu(process: Process, ms: number) {
  const [startCpuMs, startMs] = [process.cpuMs(), performance.now()];
  await until("some time to pass", () => performance.now() - startMs >= ms);
  return { cpuMs: process.cpuMs() - startCpuMs, spanMs: performance.now() - startMs };
}
