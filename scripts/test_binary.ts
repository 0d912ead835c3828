// Runs tests on the program that `deno task compile` has made, instead of on the source.
// deno-lint-ignore-file no-console

import { fileURLToPath } from "node:url";
import { ownTarget } from "./compile.ts";

/** What a person would try, each by one file or two; `PUSHD_BIN=… deno task test` runs everything on it. */
const FILES = [
  "tests/binary_test.ts",
  "tests/client_tools_test.ts",
  "tests/page_test.ts",
  "tests/protocol_test.ts",
  "tests/stats_test.ts",
  "tests/walkthrough_test.ts",
];
/** They measure nothing short, and most of their time is waiting. */
const JOBS = "3";

const root = fileURLToPath(new URL("../", import.meta.url));
const binary = Deno.env.get("PUSHD_BIN") || `${root}bin/pushd.${ownTarget()}`;
if (!await Deno.stat(binary).then(({ isFile }) => isFile, () => false)) {
  console.error(`${binary} is not there; deno task compile makes it`);
  Deno.exit(2);
}
// The types are checked by `deno task ok`.
const { code } = await new Deno.Command(Deno.execPath(), {
  args: ["test", "-A", "--no-check", "--parallel", ...FILES],
  cwd: root,
  env: { PUSHD_TEST_KILLS: "1", PUSHD_BIN: binary, DENO_JOBS: JOBS },
}).spawn().status;
Deno.exit(code);
