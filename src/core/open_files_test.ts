// The open-file limit as the C library and a child process tell it.

import assert from "node:assert/strict";
import { fileLimits, openLibc } from "./libc.ts";
import { openFileCount, openFileLimit } from "./open_files.ts";

Deno.test("open files: the limit of this process, or unlimited, from the C library", async () => {
  const { limit, how } = await openFileLimit();
  // `deno test` has raised it as far as it goes.
  assert.equal(how, "getrlimit");
  assert.equal(limit, (await openFileLimit(null)).limit);
  assert.ok(limit >= 64, `${limit}`);
});

Deno.test("open files: a limit set from outside is seen, without the C library as well", async () => {
  const module = new URL("./open_files.ts", import.meta.url).href;
  for (const permission of ["--allow-run=getconf", "--allow-run=getconf --allow-ffi"]) {
    // deno raises the soft limit to the hard one, so both are set.
    const { stdout } = await new Deno.Command("sh", {
      args: [
        "-c",
        `ulimit -n 333; printf %s "$1" | exec "$0" run --quiet --no-prompt ${permission} -`,
        Deno.execPath(),
        `import { openFileLimit } from "${module}"; console.log(await openFileLimit());`,
      ],
      cwd: new URL("../../", import.meta.url),
      stderr: "inherit",
    }).output();
    const how = permission.includes("ffi") ? "getrlimit" : "getconf OPEN_MAX";
    assert.equal(new TextDecoder().decode(stdout), `{ limit: 333, how: "${how}" }\n`);
  }
});

Deno.test("open files: without getconf 1024 is assumed, and said to be", async () => {
  for (const command of ["pushd-no-such-command", "false"]) {
    const { limit, how } = await openFileLimit(null, command);
    assert.equal(limit, 1024);
    assert.match(how, /^assumed/);
  }
});

Deno.test("open files: the C library tells the limit in force and the hard one", () => {
  const libc = openLibc();
  assert.ok(libc !== null);
  const limits = fileLimits(libc);
  libc.close();
  assert.ok(limits !== null && limits.soft > 0 && limits.soft <= limits.hard);
});

Deno.test("open files: their number is known to who may do everything", () => {
  const before = openFileCount();
  assert.ok(before !== null && before > 2, `${before}`);
  const files = [1, 2, 3].map(() => Deno.openSync("/dev/null"));
  assert.equal(openFileCount(), before + 3);
  for (const file of files) file.close();
});
