// Many who come at once: while the server is busy with something else, and when its files are all taken.

import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { somaxconn } from "../src/core/somaxconn.ts";
import { Client, errorLine, PATIENCE_MS, startPushd, within } from "./harness.ts";
import { Process, processReason } from "./process.ts";
import { requireTool } from "./require.ts";

const CROWD = 2000;
/** For how long the server is busy, ms. */
const BUSY_MS = 300;

/** Deno 2.4 has one backlog for everybody, and the log says so. */
const FIXED = /INFO .*Deno 2\.4\.\d+ is old: tcp_backlog has no effect \((\d+) connections wait\)/;

const cap = await somaxconn();
const capReason = cap === undefined || cap >= CROWD ? "" : ` (somaxconn ${cap} is below ${CROWD})`;

/** Connects `count` times at once; what is returned tells how many have got through so far. */
function connectAll(port: number, count: number) {
  const sockets: Socket[] = [];
  const state = { connected: 0, failed: 0, sockets, all: Promise.resolve() };
  const { promise, resolve } = Promise.withResolvers<void>();
  state.all = promise;
  const settle = () => {
    if (state.connected + state.failed === count) resolve();
  };
  for (let i = 0; i < count; i++) {
    const socket = connect({ host: "127.0.0.1", port });
    socket.once("connect", () => {
      state.connected++;
      settle();
    });
    socket.once("error", () => {
      state.failed++;
      settle();
    });
    sockets.push(socket);
  }
  return state;
}

/**
 * How many of `count` connects are through after the server has done nothing for a while, and how many the
 * log says may be, where its runtime does not heed `tcp_backlog`.
 */
async function connectsWhileBusy(
  backlog: number,
  count: number,
  check: boolean,
): Promise<{ connected: number; fixed: number | null }> {
  await using pushd = await startPushd({ config: { msg_storage: "memory", tcp_backlog: backlog } });
  const [, fixed = null] = FIXED.exec(pushd.log()) ?? [];
  pushd.signal("SIGSTOP");
  const crowd = connectAll(pushd.port, count);
  try {
    // That is the subject, not a wait: the loop turns no more for so long.
    await new Promise((resolve) => setTimeout(resolve, BUSY_MS));
    const { connected } = crowd;
    pushd.signal("SIGCONT");
    if (check) {
      await within(() => "all to be connected", crowd.all);
      assert.equal(crowd.failed, 0);
      await Promise.all(crowd.sockets.map((socket) =>
        within(
          () => "a PONG",
          new Promise<void>((resolve) => {
            socket.once("data", (data) => {
              assert.equal(`${data}`, "PONG\r\n");
              resolve();
            });
            socket.write("ping\n");
          }),
        )
      ));
    }
    return { connected, fixed: fixed === null ? null : Number(fixed) };
  } finally {
    for (const socket of crowd.sockets) socket.destroy();
  }
}

Deno.test({
  name: `2,000 come at once while the server is busy: none is refused or kept waiting${capReason}`,
  ignore: capReason !== "",
  async fn() {
    const { connected, fixed } = await connectsWhileBusy(4096, CROWD, true);
    if (fixed !== null) {
      // Linux completes one more. The others come in later, which is checked already.
      assert.ok(connected <= fixed + 1, `${connected} got into a backlog of ${fixed}`);
      return;
    }
    assert.equal(connected, CROWD);
    // With a short backlog most of them would have to try again a second later.
    const { connected: few } = await connectsWhileBusy(16, 200, false);
    assert.ok(few < 100, `${few} of 200 got into a backlog of 16`);
  },
});

const prlimit = requireTool("prlimit");

Deno.test({
  name: `at the open-file limit: too-busy, no spinning, and room at once when others leave${
    prlimit.reason || processReason
  }`,
  ignore: prlimit.ignore || processReason !== "",
  async fn() {
    await using pushd = await startPushd({
      // More than the limit allows.
      config: { max_connections: 100_000 },
      prefix: ["prlimit", "--nofile=256:256"],
    });
    await pushd.waitForLog(/WARN.*max_connections 100000 is more than the open-file limit of 256/);
    const [, most] = await pushd.waitForLog(/at most (\d+) connections/);
    const crowd = connectAll(pushd.port, 400);
    await within(() => "the crowd to be told", crowd.all);
    await pushd.untilStat("connections", Number(most));
    using refused = await Client.connect(pushd.port);
    await refused.expect(errorLine("too-busy"));
    const server = new Process(pushd.pid);
    const cpuMs = server.cpuMs();
    const startMs = performance.now();
    // Everything else goes on meanwhile: statistics, and the store.
    const [member] = crowd.sockets;
    let answers = 0;
    while (performance.now() - startMs < 1000) {
      const published = new Promise<string>((resolve) =>
        member.once("data", (data) => resolve(`${data}`))
      );
      member.write("pub c x\n");
      assert.match(await within(() => "PUBLISHED", published), /^PUBLISHED/);
      assert.equal((await (await pushd.get("/readyz")).json()).ready, true);
      answers++;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    const cpu = (server.cpuMs() - cpuMs) / (performance.now() - startMs);
    assert.ok(cpu < 0.15, `${Math.round(cpu * 100)} % of a processor for ${answers} answers`);
    for (const socket of crowd.sockets.slice(1)) socket.destroy();
    const left = performance.now();
    const enter = async () => {
      for (;;) {
        const client = await Client.connect(pushd.port);
        const line = await client.reply("ping").catch(() => "");
        client.close();
        if (line === "PONG") return;
      }
    };
    await within(() => "room for another", enter(), { ms: PATIENCE_MS });
    assert.ok(performance.now() - left < 1000, `${performance.now() - left} ms`);
    member.destroy();
  },
});
