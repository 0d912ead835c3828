// `pushd check-config`: reads the configuration as a start would and prints what is wrong with it.
// deno-lint-ignore-file no-console

import { loadConfig } from "../config/load.ts";

/** Takes lines for standard output and standard error. */
export interface Printer {
  out(line: string): void;
  err(line: string): void;
}

const CONSOLE: Printer = {
  out: (line) => console.log(line),
  err: (line) => console.error(line),
};

/**
 * Checks `file`, or what a start without `--conf` would read, together with the environment. Every
 * mistake and warning is a line on standard error; the last line is the verdict (`etc/pushd.cf: ok` on
 * standard output, else `etc/pushd.cf: 3 mistakes`). Returns the exit code: 0, or 2 with a mistake.
 */
export function checkConfig(
  file: string | undefined,
  env: Readonly<Record<string, string>>,
  print: Printer = CONSOLE,
): 0 | 2 {
  const result = loadConfig({ path: file, env });
  const mistakes = result.ok ? [] : result.mistakes;
  for (const warning of result.warnings) print.err(`warning: ${warning}`);
  for (const mistake of mistakes) print.err(mistake);
  if (result.ok) {
    print.out(`${result.source}: ok`);
    return 0;
  }
  print.err(
    `${result.source}: ${mistakes.length} ${mistakes.length === 1 ? "mistake" : "mistakes"}`,
  );
  return 2;
}
