// A missing program skips a test, or fails it where everything is required.

import assert from "node:assert/strict";
import { findTool, requireTool } from "./require.ts";

Deno.test("findTool: a program on the path, and one that does not exist", () => {
  assert.match(findTool("sh") ?? "", /\/sh$/);
  assert.equal(findTool("pushd-no-such-tool"), null);
});

Deno.test("requireTool: nothing missing, nothing said", () => {
  assert.deepEqual(requireTool(), { ignore: false, reason: "" });
});

/** Runs a test file that needs telnet on a machine without any program. */
async function runWithoutTools(env: Record<string, string>) {
  const dir = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(
      `${dir}/needs_test.ts`,
      `import { requireTool } from "${new URL("./require.ts", import.meta.url).href}";
       const telnet = requireTool("telnet");
       Deno.test({ name: "a person" + telnet.reason, ignore: telnet.ignore, fn() {} });`,
    );
    // The directories for root's programs hold no telnet.
    const { code, stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["test", "-A", "--no-check", "--no-config", "--no-lock", `${dir}/needs_test.ts`],
      env: { PATH: "/nowhere", NO_COLOR: "1", PUSHD_TEST_REQUIRE: "", ...env },
    }).output();
    return { code, text: new TextDecoder().decode(stdout) };
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("requireTool: a missing program skips the test and says why", async () => {
  const { code, text } = await runWithoutTools({});
  assert.equal(code, 0, text);
  assert.match(text, /a person \(telnet is missing: apt-get install telnet\) \.\.\. ignored/);
});

Deno.test("requireTool: with PUSHD_TEST_REQUIRE=all it is a failure", async () => {
  const { code, text } = await runWithoutTools({ PUSHD_TEST_REQUIRE: "all" });
  assert.equal(code, 1, text);
  assert.match(text, /telnet is missing: apt-get install telnet \.\.\. FAILED/);
});
