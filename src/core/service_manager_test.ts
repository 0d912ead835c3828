// What systemd would hear, heard by nc.

import assert from "node:assert/strict";
import { requireTool } from "../../tests/require.ts";
import { within } from "../../tests/harness_within.ts";
import { ServiceManager } from "./service_manager.ts";

const nc = requireTool("nc");

Deno.test({
  name: `systemd is told of the start, of the watchdog and of the stop${nc.reason}`,
  ignore: nc.ignore || Deno.build.os !== "linux",
  fn: async () => {
    const folder = await Deno.makeTempDir({ prefix: "pushd-notify-" });
    const path = `${folder}/socket`;
    const child = new Deno.Command("nc", {
      args: ["-klvuU", path],
      stdout: "piped",
      stderr: "piped",
    })
      .spawn();
    const stdout = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const stderr = child.stderr.getReader();
    let heard = "";
    const hear = async (pattern: RegExp): Promise<void> => {
      while (!pattern.test(heard)) heard += (await stdout.read()).value ?? assert.fail(heard);
    };
    try {
      // "Bound on …"
      await within(() => "nc to listen", stderr.read());
      const manager = ServiceManager.of({ NOTIFY_SOCKET: path, WATCHDOG_USEC: "20000" });
      assert.ok(manager !== null);
      manager.ready();
      await within(() => "READY and twice WATCHDOG", hear(/^READY=1\n.*(WATCHDOG=1.*){2}/s));
      manager.stopping();
      await within(() => "STOPPING", hear(/STOPPING=1\n/));
      await manager.close();
    } finally {
      child.kill("SIGKILL");
      await Promise.all([child.status, stdout.cancel(), stderr.cancel()]);
      await Deno.remove(folder, { recursive: true });
    }
  },
});

Deno.test("nobody is told where nobody has asked, and a socket that is gone ends nothing", async () => {
  assert.equal(ServiceManager.of({}), null);
  assert.equal(ServiceManager.of({ NOTIFY_SOCKET: "" }), null);
  const manager = ServiceManager.of({ NOTIFY_SOCKET: "/nowhere/notify", WATCHDOG_USEC: "1" });
  manager?.ready();
  manager?.stopping();
  await manager?.close();
});
