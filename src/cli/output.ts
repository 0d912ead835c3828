// What the command line says: text on standard output, one-line errors on standard error.
// deno-lint-ignore-file no-console

import { messageOf } from "../core/message_of.ts";
import { writeAll } from "../core/write_all.ts";

/** Prints text for the caller; where it cannot be written, the process ends: 0 where nobody reads it, else 1. */
export function printOut(text: string): void {
  try {
    console.log(text);
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) Deno.exit(0);
    printError(`standard output: ${messageOf(error)}`);
    Deno.exit(1);
  }
}

/** Prints a one-line error. What it quotes may come from anywhere. */
export function printError(message: string): void {
  console.error(`pushd: ${harmless(message)}`);
}

/** Control characters made visible, so that a text cannot work the terminal. Tabs may stay. */
export function harmless(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/[\u0000-\u0008\u000a-\u001f\u007f-\u009f]/g, (control) => {
    return `\\x${control.charCodeAt(0).toString(16).padStart(2, "0")}`;
  });
}

/** The answer of `pushd --version`: version, what was built, runtime, platform. */
export function versionText(version: string, build: string): string {
  const { os, arch } = Deno.build;
  return `pushd ${version} (${build}, Deno ${Deno.version.deno}, ${os} ${arch})`;
}

/** Says how far something is, on standard error, so that standard output stays what was asked for. */
export function printProgress(text: string): void {
  console.error(text);
}

/** Writes all of `text` to standard output. Rejects with what the system says, such as a broken pipe. */
export async function writeOut(text: string): Promise<void> {
  await writeAll(Deno.stdout, new TextEncoder().encode(text));
}
