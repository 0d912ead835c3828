// Whether the generator sees what goes wrong: its null server loses, repeats, swaps or changes a message on purpose.

import assert from "node:assert/strict";
import { findCompiler } from "./compile.ts";
import { faultsOf, PROTOCOLS, type Run, type RunOptions } from "./loadgen.ts";
import { findProgram, Processes } from "./processes.ts";
import { parseRow } from "./rows.ts";
import { sharedLoadgen } from "./shared_loadgen.ts";
import { compileTls, makeCertificate } from "./tls.ts";

const why = Deno.build.os !== "linux"
  ? " (skipped: it needs epoll, so Linux)"
  : await findCompiler() === null
  ? " (skipped: no C compiler on PATH)"
  : "";

const whyNoTls = await findProgram("openssl") === null
  ? " (skipped: no openssl on PATH)"
  : await Deno.stat("/usr/include/openssl/ssl.h").then(() => "", () => " (skipped: no libssl-dev)");

/** Messages in all: the fault must come while they are under way. */
const MESSAGES = 4000, FAULT_AT = 700;
/** Two publishers, two channels, three subscribers of each: one message of a channel is three deliveries. */
const ROW = parseRow("2x2x3");

async function withLoadgen(
  test: (run: (options?: Partial<RunOptions>) => Promise<Run>) => Promise<void>,
) {
  const loadgen = await sharedLoadgen();
  await test((options = {}) =>
    loadgen.run({
      protocol: "pushd",
      row: ROW,
      seconds: 1,
      warmupSeconds: 0,
      ...options,
      extra: ["--messages", String(MESSAGES), "--stall", "0.5", ...options.extra ?? []],
    })
  );
}

Deno.test({
  name: `loadgen: every message is seen once, by every protocol${why}`,
  ignore: why !== "",
  fn: () =>
    withLoadgen(async (run) => {
      for (const protocol of PROTOCOLS) {
        for (const size of [16, 64, 5000]) {
          const result = await run({ protocol, row: { ...ROW, size } });
          assert.equal(faultsOf(result), "", `${protocol}, ${size} bytes`);
          assert.equal(result.published, MESSAGES);
          assert.equal(result.deliveries, MESSAGES * ROW.subscribers);
        }
      }
    }),
});

Deno.test({
  name: `loadgen: many channels on a few connections, some popular, by every protocol${why}`,
  ignore: why !== "",
  fn: () =>
    withLoadgen(async (run) => {
      // More channels of a connection than are subscribed to at a time.
      const row = { ...parseRow("zipf:2x1300"), connections: 2 };
      for (const protocol of PROTOCOLS) {
        const result = await run({ protocol, row });
        assert.equal(faultsOf(result), "", protocol);
        assert.equal(result.deliveries, MESSAGES);
        const seeded = await run({ protocol, row, extra: ["--fault", "loss", "--fault-at", "70"] });
        assert.deepEqual([seeded.lost, seeded.corrupt], [1, 0], protocol);
      }
    }),
});

Deno.test({
  name: `loadgen: a fault is counted for what it is, by every protocol${why}`,
  ignore: why !== "",
  fn: () =>
    withLoadgen(async (run) => {
      const seeded = { loss: "lost", duplicate: "duplicated", swap: "disordered" } as const;
      for (const protocol of PROTOCOLS) {
        for (const [fault, counted] of Object.entries(seeded)) {
          const result = await run({
            protocol,
            extra: ["--fault", fault, "--fault-at", String(FAULT_AT)],
          });
          const { lost, duplicated, disordered, corrupt } = result;
          const expected = {
            lost: 0,
            duplicated: 0,
            disordered: 0,
            corrupt: 0,
            [counted]: ROW.subscribers,
          };
          assert.deepEqual(
            { lost, duplicated, disordered, corrupt },
            expected,
            `${protocol}, ${fault}`,
          );
        }
        const { corrupt, problem } = await run({
          protocol,
          extra: ["--fault", "corrupt", "--fault-at", "700"],
        });
        assert.ok(corrupt > 0 && problem !== undefined, protocol);
      }
    }),
});

Deno.test({
  name: `loadgen: the last message lost is lost, too${why}`,
  ignore: why !== "",
  fn: () =>
    withLoadgen(async (run) => {
      const last = MESSAGES / ROW.channels - 1;
      const { lost, stalled } = await run({
        extra: ["--fault", "loss", "--fault-at", String(last)],
      });
      assert.deepEqual({ lost, stalled }, { lost: ROW.subscribers, stalled: true });
    }),
});

Deno.test({
  name: `loadgen: a timed run tells latencies${why}`,
  ignore: why !== "",
  fn: () =>
    withLoadgen(async (run) => {
      const { latency_us: latencies, send_delay_us: delays, ...rest } = await run({ rate: 50_000 });
      assert.equal(faultsOf(rest), "");
      assert.ok(latencies !== undefined && delays !== undefined);
      assert.ok(
        latencies.p50 > 0 && latencies.p50 <= latencies.p99 && latencies.p99 <= latencies.max,
      );
    }),
});

Deno.test({
  name:
    `loadgen: over TLS every message is seen once, and one that is lost is missed${why}${whyNoTls}`,
  ignore: why !== "" || whyNoTls !== "",
  fn: async () => {
    const folder = await Deno.makeTempDir({ prefix: "pushd-bench-test-" });
    const processes = new Processes();
    try {
      const certificate = await makeCertificate(folder, processes);
      const loadgen = await compileTls(folder, processes, certificate);
      const options = { protocol: "pushd" as const, row: ROW, seconds: 1, warmupSeconds: 0 };
      const extra = ["--messages", String(MESSAGES), "--stall", "0.5"];
      const result = await loadgen.run({ ...options, extra });
      assert.equal(faultsOf(result), "");
      assert.equal(result.deliveries, MESSAGES * ROW.subscribers);
      const fault = ["--fault", "loss", "--fault-at", String(FAULT_AT)];
      const { lost } = await loadgen.run({ ...options, extra: [...extra, ...fault] });
      assert.equal(lost, ROW.subscribers);
    } finally {
      await processes.stop();
      await Deno.remove(folder, { recursive: true });
    }
  },
});
