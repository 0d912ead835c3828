// What the command line says: text on standard output, one-line errors on standard error.
// deno-lint-ignore-file no-console

/** Prints text for the caller. */
export function printOut(text: string): void {
  console.log(text);
}

/** Prints a one-line error. */
export function printError(message: string): void {
  console.error(`pushd: ${message}`);
}

/** The answer of `pushd --version`: version, runtime, platform. */
export function versionText(version: string): string {
  const { os, arch } = Deno.build;
  return `pushd ${version} (Deno ${Deno.version.deno}, ${os} ${arch})`;
}

/** Says how far something is, on standard error, so that standard output stays what was asked for. */
export function printProgress(text: string): void {
  console.error(text);
}
