// Whether a benchmark ends what it started.

import assert from "node:assert/strict";
import { findProgram, Processes } from "./processes.ts";

Deno.test("Processes: stop ends what was started, and nothing starts after it", async () => {
  const folder = await Deno.makeTempDir({ prefix: "pushd-bench-test-" });
  try {
    const processes = new Processes();
    const logPath = `${folder}/log`;
    const script = "console.log('up'); setInterval(() => {}, 1000)";
    const server = processes.start(Deno.execPath(), {
      args: ["eval", script],
      cwd: folder,
      logPath,
    });
    while ((await Deno.readTextFile(logPath).catch(() => "")) === "") {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await processes.stop();
    await server.ended;
    assert.throws(() => Deno.kill(server.pid, "SIGCONT"), Deno.errors.NotFound);
    await assert.rejects(processes.run(Deno.execPath(), ["--version"]), /stopping/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("findProgram: a program on PATH, and null for what is not there", async () => {
  assert.match(await findProgram("sh") ?? "", /\/sh$/);
  assert.equal(await findProgram("/bin/sh"), "/bin/sh");
  assert.equal(await findProgram("/no/such/program"), null);
  assert.equal(await findProgram("no-such-program-anywhere"), null);
});
