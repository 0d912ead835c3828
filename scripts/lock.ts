// Checks deno.lock: as the code needs it, npm packages only, and no registry named.
// deno-lint-ignore-file no-console

/** Returns a sentence for everything in a lock file that would tie a build to one machine or network. */
export function checkLock(text: string): string[] {
  const faults = new Set<string>();
  const lock: Record<string, unknown> = JSON.parse(text);
  for (const key of ["jsr", "remote", "redirects"]) {
    if (key in lock) faults.add(`deno.lock has "${key}" entries; only npm packages are used`);
  }
  for (const [url] of text.matchAll(/https?:\/\/[^\s"]+/g)) {
    faults.add(`deno.lock names ${url}; remove the line, the registry is the builder's choice`);
  }
  return [...faults];
}

if (import.meta.main) {
  const faults = checkLock(await Deno.readTextFile(new URL("../deno.lock", import.meta.url)));
  for (const fault of faults) console.error(fault);
  if (faults.length > 0) Deno.exit(1);
  const { code } = await new Deno.Command(Deno.execPath(), {
    args: ["install", "--frozen"],
    cwd: new URL("../", import.meta.url),
  }).spawn().status;
  Deno.exit(code);
}
