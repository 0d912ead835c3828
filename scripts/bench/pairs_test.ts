// Whether messages go from one server to the other, and whether the generator sees it when they do not.

import assert from "node:assert/strict";
import { findCompiler } from "./compile.ts";
import { faultsOf, Loadgen, LoadgenError, type Protocol, PROTOCOLS, type Run } from "./loadgen.ts";
import { startPair } from "./pairs.ts";
import { findProgram, Processes } from "./processes.ts";
import { parseRow } from "./rows.ts";
import { type Server, startServer } from "./servers.ts";

const MESSAGES = 4000;
const ROW = parseRow("link:2x2x3");
const PROGRAMS = { pushd: null, nats: "nats-server", redis: "redis-server" };

async function whyNot(protocol: Protocol): Promise<string> {
  if (Deno.build.os !== "linux") return " (skipped: it needs epoll, so Linux)";
  if (await findCompiler() === null) return " (skipped: no C compiler on PATH)";
  const program = PROGRAMS[protocol];
  if (program === null || await findProgram(program) !== null) return "";
  return ` (skipped: no ${program} on PATH)`;
}

interface Parts {
  folder: string;
  processes: Processes;
  /** Publishes at the first, subscribes at the second. */
  run: (near: Server, far: Server) => Promise<Run>;
}

async function withParts(protocol: Protocol, test: (parts: Parts) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "pushd-bench-test-" });
  const processes = new Processes();
  try {
    const loadgen = await Loadgen.compile(folder, processes);
    const endpointOf = ({ port, process: { pid } }: Server) => ({ port, pid });
    const run = (near: Server, far: Server) =>
      loadgen.run({
        protocol,
        row: ROW,
        seconds: 1,
        warmupSeconds: 0,
        server: { ...endpointOf(near), subscribersAt: endpointOf(far) },
        extra: ["--messages", String(MESSAGES), "--stall", "2"],
      });
    await test({ folder, processes, run });
  } finally {
    await processes.stop();
    await Deno.remove(folder, { recursive: true });
  }
}

for (const protocol of PROTOCOLS) {
  const why = await whyNot(protocol);

  Deno.test({
    name: `pairs: every message comes once across a link of ${protocol}${why}`,
    ignore: why !== "",
    fn: () =>
      withParts(protocol, async ({ folder, processes, run }) => {
        const near = await startPair(protocol, { folder, processes, storage: "off" });
        const { subscribersAt: far, ...alone } = near;
        assert.ok(far !== undefined);
        assert.notEqual(far.port, near.port);
        // Again: what the subscribers before wanted must not be what these rely on.
        for (let i = 0; i < 2; i++) {
          const result = await run(alone, { ...alone, ...far });
          assert.equal(faultsOf(result), "");
          assert.equal(result.published, MESSAGES);
          assert.equal(result.deliveries, MESSAGES * ROW.subscribers);
          assert.ok((result.subscribers_cpu ?? Infinity) <= result.server_cpu);
        }
      }),
  });

  Deno.test({
    name: `pairs: servers of ${protocol} that are not linked are seen${why}`,
    ignore: why !== "",
    fn: () =>
      withParts(protocol, async ({ folder, processes, run }) => {
        const settings = { folder, processes, storage: "off" as const };
        const near = await startServer(protocol, { ...settings, name: "near" });
        const far = await startServer(protocol, { ...settings, name: "far" });
        if (protocol === "nats") {
          await assert.rejects(run(near, far), (error) => {
            return error instanceof LoadgenError && /does not reach/.test(error.message);
          });
          return;
        }
        const { lost, stalled } = await run(near, far);
        assert.deepEqual({ lost, stalled }, { lost: MESSAGES * ROW.subscribers, stalled: true });
      }),
  });
}
