// For tests: the generator, compiled once for all tests of a file.

import { Loadgen } from "./loadgen.ts";
import { Processes } from "./processes.ts";

let compiled: Promise<Loadgen> | null = null;

export function sharedLoadgen(): Promise<Loadgen> {
  return compiled ??= compile();
}

async function compile(): Promise<Loadgen> {
  const folder = Deno.makeTempDirSync({ prefix: "pushd-bench-test-" });
  globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
  return await Loadgen.compile(folder, new Processes());
}
