// Compiles pushd to one file for each system that is named, or for this one: deno task compile linux mac
//
// `deno compile` puts the program behind a runtime of its own version, which it fetches where it does not
// have it. With DENORT_BIN it takes the one in that file (for this machine only), and with
// PUSHD_COMPILE_DENO=2.4.2 that version of Deno, from npm, does it: the two belong together.
// deno-lint-ignore-file no-console

import { fileURLToPath } from "node:url";
import { stop as stopEsbuild, transform } from "esbuild";
import { startFlags, v8Flags } from "./start_task.ts";

/** What is compiled for, by the name of the program that comes of it, `bin/pushd.NAME`. */
const TARGETS: Record<string, string> = {
  "linux": "x86_64-unknown-linux-gnu",
  "linux-arm64": "aarch64-unknown-linux-gnu",
  "mac": "aarch64-apple-darwin",
  "mac-x64": "x86_64-apple-darwin",
};

/** The C library of each target, by the paths where systems have it: nothing else may be loaded. */
const C_LIBRARIES: Record<string, readonly string[]> = {
  "linux": ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6", "/usr/lib/libc.so.6"],
  "linux-arm64": ["/lib/aarch64-linux-gnu/libc.so.6", "/lib64/libc.so.6", "/usr/lib/libc.so.6"],
  "mac": ["/usr/lib/libSystem.B.dylib"],
  "mac-x64": ["/usr/lib/libSystem.B.dylib"],
};

/**
 * What the runtime is told for good, beside what `deno task start` tells it. The heap may grow to 16 GiB
 * instead of some 4, which a million connections need. V8's options that save memory at the start saved
 * 3 MB of 88 at most, or took the compiler away.
 */
const V8_FLAGS = "--max-old-space-size=16384";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const BUILD = "build";
/** Of what is bundled: a place in a stack trace is a line, not a column of a million. */
const LINE_LENGTH = 120;
/** The words that src/core/version.ts has where the commit is to stand. */
const STAMP = '"pushd: what was compiled"';

/** Something that keeps this from being compiled; the message says what to do. */
export class CompileError extends Error {
  override readonly name = "CompileError";
}

/** The name of this machine's target. Throws a {@link CompileError} where there is none. */
export function ownTarget(): string {
  const { target } = Deno.build;
  const own = Object.keys(TARGETS).find((name) => TARGETS[name] === target);
  if (own === undefined) throw new CompileError(`there is no target for ${target}`);
  return own;
}

async function run(command: readonly string[]): Promise<void> {
  const [program, ...args] = command;
  const { code } = await new Deno.Command(program, { args, cwd: ROOT }).spawn().status;
  if (code !== 0) throw new CompileError(`${command.join(" ")} ended with ${code}`);
}

async function git(...args: string[]): Promise<string | null> {
  try {
    const { success, stdout } = await new Deno.Command("git", { args, cwd: ROOT, stderr: "null" })
      .output();
    return success ? new TextDecoder().decode(stdout).trim() : null;
  } catch {
    return null;
  }
}

/**
 * The commit, "-dirty" behind it where files have been changed; outside of a repository PUSHD_COMMIT, or
 * "unknown".
 */
async function commit(): Promise<string> {
  const hash = await git("rev-parse", "--short=12", "HEAD");
  if (hash === null) return Deno.env.get("PUSHD_COMMIT") || "unknown";
  return await git("status", "--porcelain", "--untracked-files=no") === "" ? hash : `${hash}-dirty`;
}

/**
 * Bundles to the folder `build`: what `main.ts` needs at once to main.js, what it loads when it is wanted
 * (the server, MongoDB, the client tools) to chunks beside it, and the worker by itself; all of it without
 * spaces, which the runtime would hold in memory, and with its names, which stand in stack traces.
 */
async function bundle(): Promise<void> {
  await Deno.remove(`${ROOT}${BUILD}`, { recursive: true }).catch(() => {});
  await Deno.mkdir(`${ROOT}${BUILD}`);
  const deno = [Deno.execPath(), "bundle", "--quiet", "--platform=deno"];
  await run([...deno, "--code-splitting", `--outdir=${BUILD}`, "src/main.ts"]);
  // Under the name by which src/storage/sqlite.ts starts it.
  await run([
    ...deno,
    `--output=${BUILD}/sqlite_worker.ts`,
    "src/storage/sqlite_worker.ts",
  ]);
  const stamp = JSON.stringify(await commit());
  let stamped = 0;
  for (const { name } of Deno.readDirSync(`${ROOT}${BUILD}`)) {
    const path = `${ROOT}${BUILD}/${name}`;
    const text = await Deno.readTextFile(path);
    const parts = text.split(STAMP);
    stamped += parts.length - 1;
    await Deno.writeTextFile(path, await squeezed(parts.join(stamp)));
  }
  await stopEsbuild();
  if (stamped === 0) throw new CompileError(`no place for the commit: ${STAMP} is in no bundle`);
}

async function squeezed(code: string): Promise<string> {
  const options = { minifyWhitespace: true, minifySyntax: true, lineLimit: LINE_LENGTH } as const;
  return (await transform(code, options)).code;
}

/**
 * The permissions of the task "start", and the C library. A program without a path is left out: it is
 * looked for in PATH before anything else, and without PATH nothing starts. (That is getconf, which the
 * C library stands in for.)
 */
async function permissions(name: string): Promise<string[]> {
  const start = (await startFlags()).filter((flag) => !flag.startsWith("--v8-flags="));
  const flags = start.map((flag) => {
    const [, programs] = /^--allow-run=(.*)$/.exec(flag) ?? [];
    if (programs === undefined) return flag;
    return `--allow-run=${programs.split(",").filter((path) => path.startsWith("/")).join(",")}`;
  });
  return [...flags, `--allow-ffi=${C_LIBRARIES[name].join(",")}`];
}

async function compile(name: string): Promise<void> {
  const version = Deno.env.get("PUSHD_COMPILE_DENO");
  const deno = version ? ["npx", "-y", `deno@${version}`] : [Deno.execPath()];
  const output = `bin/pushd.${name}`;
  try {
    await run([
      ...deno,
      "compile",
      "--quiet",
      "--no-lock",
      "--no-check",
      "--no-config",
      // It would lie in /tmp under a name that anybody can take first, and holds code.
      "--no-code-cache",
      ...await permissions(name),
      `--v8-flags=${V8_FLAGS},${await v8Flags()}`,
      `--include=${BUILD}/sqlite_worker.ts`,
      // Without it the stub in DENORT_BIN is looked for under the target's name.
      ...(name === ownTarget() ? [] : [`--target=${TARGETS[name]}`]),
      `--output=${output}`,
      `${BUILD}/main.js`,
    ]);
  } catch (error) {
    if (!(error instanceof CompileError)) throw error;
    throw new CompileError(
      `${error.message}\nA target's runtime comes from dl.deno.land; where that cannot be reached, ` +
        "DENORT_BIN names this machine's, and PUSHD_COMPILE_DENO its version",
    );
  }
  const { size } = await Deno.stat(`${ROOT}${output}`);
  console.log(`${output}: ${(size / 1e6).toFixed(1)} MB, ${TARGETS[name]}`);
}

async function main(names: readonly string[]): Promise<number> {
  const unknown = names.find((name) => !(name in TARGETS));
  if (unknown !== undefined) {
    console.error(`compile ${unknown}: the targets are ${Object.keys(TARGETS).join(", ")}`);
    return 2;
  }
  try {
    await bundle();
    for (const name of names.length > 0 ? names : [ownTarget()]) await compile(name);
    return 0;
  } catch (error) {
    if (!(error instanceof CompileError)) throw error;
    console.error(error.message);
    return 1;
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
