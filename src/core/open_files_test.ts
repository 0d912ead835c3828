// The open-file limit as a child process sees it.

import assert from "node:assert/strict";
import { openFileCount, openFileLimit } from "./open_files.ts";

Deno.test("open files: the limit of this process, or unlimited", async () => {
  const { limit, how } = await openFileLimit();
  assert.equal(how, "getconf OPEN_MAX");
  assert.ok(limit >= 64, `${limit}`);
});

Deno.test("open files: a limit set from outside is seen", async () => {
  const module = new URL("./open_files.ts", import.meta.url).href;
  // deno raises the soft limit to the hard one, so both are set.
  const { stdout } = await new Deno.Command("sh", {
    args: [
      "-c",
      'ulimit -n 333 && exec "$0" eval --quiet "$1"',
      Deno.execPath(),
      `
      import { openFileCount, openFileLimit } from "${module}";
      console.log((await openFileLimit()).limit);`,
    ],
    cwd: new URL("../../", import.meta.url),
    stderr: "inherit",
  }).output();
  assert.equal(new TextDecoder().decode(stdout), "333\n");
});

Deno.test("open files: without getconf 1024 is assumed, and said to be", async () => {
  for (const command of ["pushd-no-such-command", "false"]) {
    const { limit, how } = await openFileLimit(command);
    assert.equal(limit, 1024);
    assert.match(how, /^assumed/);
  }
});

Deno.test("open files: their number is known to who may do everything", () => {
  const before = openFileCount();
  assert.ok(before !== null && before > 2, `${before}`);
  const files = [1, 2, 3].map(() => Deno.openSync("/dev/null"));
  assert.equal(openFileCount(), before + 3);
  for (const file of files) file.close();
});
