// Whether the crowd opens every connection, sees those that are closed, and how its figures are shown.

import assert from "node:assert/strict";
import { findCompiler } from "./compile.ts";
import { Crowd, type CrowdRun } from "./crowd.ts";
import { formatCrowd, reportCrowd } from "./crowd_report.ts";
import { LoadgenError, PROTOCOLS } from "./loadgen.ts";
import { Processes } from "./processes.ts";

const why = Deno.build.os !== "linux"
  ? " (skipped: it needs epoll, so Linux)"
  : await findCompiler() === null
  ? " (skipped: no C compiler on PATH)"
  : "";

async function withCrowd(test: (crowd: Crowd) => Promise<void>) {
  const folder = await Deno.makeTempDir({ prefix: "pushd-bench-test-" });
  const processes = new Processes();
  try {
    await test(await Crowd.compile(folder, processes));
  } finally {
    await processes.stop();
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test({
  name: `crowd: every connection is taken and subscribed, by every protocol${why}`,
  ignore: why !== "",
  fn: () =>
    withCrowd(async (crowd) => {
      for (const protocol of PROTOCOLS) {
        const run = await crowd.run({ protocol, connections: 300, channels: 7, restSeconds: 0 });
        assert.deepEqual([run.connections, run.cut], [300, 0], protocol);
        assert.ok(run.per_s > 0 && run.wait_us.p50 > 0, protocol);
      }
    }),
});

Deno.test({
  name: `crowd: a server that closes a connection is named with what it did${why}`,
  ignore: why !== "",
  fn: () =>
    withCrowd(async (crowd) => {
      using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      const closing = (async () => {
        const conn = await listener.accept();
        await conn.read(new Uint8Array(64));
        conn.close();
      })();
      const server = { port: listener.addr.port, pid: Deno.pid };
      const options = { protocol: "pushd" as const, connections: 1, channels: 1, restSeconds: 0 };
      await assert.rejects(crowd.run({ ...options, server }), (error) => {
        return error instanceof LoadgenError && /connection 0 was closed/.test(error.message);
      });
      await closing;
    }),
});

function run(perS: number, processBytes: number): CrowdRun {
  return {
    connections: 1000,
    seconds: 1,
    per_s: perS,
    generator_cpu: 0.5,
    server_cpu: 1,
    other_cpu: 0,
    cut: 0,
    wait_us: { p50: 100, p90: 200, p99: 1500, p999: 2000, max: 3000 },
    process_bytes: processBytes,
    slab_bytes: 9000,
    buffer_bytes: 1000,
  };
}

Deno.test("formatCrowd: ratios of what was asked for: speed, or memory", () => {
  const measured = [
    { name: "pushd", runs: [run(5000, 6000)], ceiling: 50_000 },
    { name: "nats", runs: [run(10_000, 20_000)], ceiling: 50_000 },
  ];
  const shape = { connections: 1000, channels: 1 };
  assert.equal(
    formatCrowd(reportCrowd({ id: "connect:1000", kind: "connect", ...shape }, measured)),
    "1.00 k connections, each subscribed to one channel: connections/s\n" +
      "  pushd is 0.50× (0.50–0.50) nats\n" +
      "  pushd   5.00 k  (5.00 k – 5.00 k)    p50 100 µs, p99 1.50 ms  cpu 1.00, 200 µs each  " +
      "generator 0.50  ceiling 50.0 k\n" +
      "  nats    10.0 k  (10.0 k – 10.0 k)    p50 100 µs, p99 1.50 ms  cpu 1.00, 100 µs each  " +
      "generator 0.50  ceiling 50.0 k\n",
  );
  assert.equal(
    formatCrowd(reportCrowd({ id: "idle:1000", kind: "idle", ...shape }, measured)),
    "1.00 k connections, each subscribed to one channel: memory of one\n" +
      "  pushd is 0.30× (0.30–0.30) nats\n" +
      "  pushd  process 6.00 kB  (6.00 kB – 6.00 kB)  kernel 5.00 kB\n" +
      "  nats   process 20.00 kB  (20.00 kB – 20.00 kB)  kernel 5.00 kB\n",
  );
});
