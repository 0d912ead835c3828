// Compiles the generators, which are written in C.

import { findProgram, type Processes } from "./processes.ts";

/** No C compiler, or it failed; the message says what to do. */
export class CompileError extends Error {
  override readonly name = "CompileError";
}

export async function findCompiler(): Promise<string | null> {
  const named = Deno.env.get("CC");
  for (const name of named ? [named] : ["cc", "gcc", "clang"]) {
    const path = await findProgram(name);
    if (path !== null) return path;
  }
  return null;
}

/** Compiles sources of this folder to `folder/name`, with further arguments, and returns that path. Throws a {@link CompileError}. */
export async function compile(
  name: string,
  sources: readonly string[],
  folder: string,
  processes: Processes,
  more: readonly string[] = [],
): Promise<string> {
  if (Deno.build.os !== "linux") {
    throw new CompileError(
      `the load generator uses epoll and so needs Linux, not ${Deno.build.os}`,
    );
  }
  const compiler = await findCompiler();
  if (compiler === null) {
    throw new CompileError(
      `the load generator is written in C, and ${
        Deno.env.get("CC") || "a compiler"
      } was not found: ` +
        "apt-get install gcc libc6-dev, or name a compiler in CC",
    );
  }
  const path = `${folder}/${name}`;
  const paths = sources.map((source) => new URL(source, import.meta.url).pathname);
  const args = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-o", path, ...paths, ...more];
  const { success, stderr } = await processes.run(compiler, args);
  if (!success) {
    throw new CompileError(`${compiler} ${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
  }
  return path;
}
