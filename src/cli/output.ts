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
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length;) at += await Deno.stdout.write(bytes.subarray(at));
}
