// SIGUSR1 opens the log anew, and must not leave a debugger behind, which Deno opens for it.

import assert from "node:assert/strict";
import { startPushd, within } from "./harness.ts";

Deno.test("SIGUSR1 leaves no debugger open", async () => {
  await using pushd = await startPushd();
  const opened = /Debugger listening on ws:\/\/127\.0\.0\.1:(\d+)/;
  // Deno listens to the signal some time after the start; an older one never does.
  const untilMs = performance.now() + 3000;
  while (!opened.test(pushd.stderr) && performance.now() < untilMs) {
    pushd.signal("SIGUSR1");
    await pushd.get("/s/ping").then((response) => response.body?.cancel());
  }
  const [, port] = opened.exec(pushd.stderr) ?? [];
  if (port === undefined) return;
  let isLate = false;
  const refused = (async () => {
    while (!isLate) {
      try {
        (await Deno.connect({ hostname: "127.0.0.1", port: Number(port) })).close();
      } catch (error) {
        assert.ok(error instanceof Deno.errors.ConnectionRefused, String(error));
        return;
      }
    }
  })();
  await within(() => "the debugger to be closed", refused, { onLate: () => isLate = true });
});
