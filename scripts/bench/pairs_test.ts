// Whether messages go from one server to the other, and whether the generator sees it when they do not.

import assert from "node:assert/strict";
import { findCompiler } from "./compile.ts";
import { PROTOCOL_OF, type ServerName } from "./known_servers.ts";
import { faultsOf, LoadgenError, type Run } from "./loadgen.ts";
import { startPair } from "./pairs.ts";
import { findProgram, Processes } from "./processes.ts";
import { parseRow } from "./rows.ts";
import { sharedLoadgen } from "./shared_loadgen.ts";
import { type Server, startServer } from "./servers.ts";

const MESSAGES = 4000;
// With a power of ten the channel by which a link is awaited has a digit more than the others need.
const ROW = parseRow("link:2x10x3");
const PROGRAMS = {
  pushd: null,
  nats: "nats-server",
  redis: "redis-server",
  mosquitto: "mosquitto",
};
const NAMES = ["pushd", "nats", "redis", "mosquitto"] as const;

async function whyNot(name: typeof NAMES[number]): Promise<string> {
  if (Deno.build.os !== "linux") return " (skipped: it needs epoll, so Linux)";
  if (await findCompiler() === null) return " (skipped: no C compiler on PATH)";
  const program = PROGRAMS[name];
  if (program === null || await findProgram(program) !== null) return "";
  return ` (skipped: no ${program} on PATH)`;
}

interface Parts {
  folder: string;
  processes: Processes;
  /** Publishes at the first, subscribes at the second. */
  run: (near: Server, far: Server) => Promise<Run>;
}

async function withParts(name: ServerName, test: (parts: Parts) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "pushd-bench-test-" });
  const processes = new Processes();
  try {
    const loadgen = await sharedLoadgen();
    const endpointOf = ({ port, process: { pid } }: Server) => ({ port, pid });
    const run = (near: Server, far: Server) =>
      loadgen.run({
        protocol: PROTOCOL_OF[name],
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

for (const name of NAMES) {
  const why = await whyNot(name);

  Deno.test({
    name: `pairs: every message comes once across a link of ${name}${why}`,
    ignore: why !== "",
    fn: () =>
      withParts(name, async ({ folder, processes, run }) => {
        const near = await startPair(name, { folder, processes, storage: "off" });
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

  // The generator looks for Mosquitto's link as it does for that of NATS.
  if (name === "mosquitto") continue;
  Deno.test({
    name: `pairs: servers of ${name} that are not linked are seen${why}`,
    ignore: why !== "",
    fn: () =>
      withParts(name, async ({ folder, processes, run }) => {
        const settings = { folder, processes, storage: "off" as const };
        const near = await startServer(name, { ...settings, folderName: "near" });
        const far = await startServer(name, { ...settings, folderName: "far" });
        if (name === "nats") {
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
