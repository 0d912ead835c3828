// A line that says on what a figure was measured.

/** `2 × AMD EPYC, Linux 6.1.0`. */
export function machine(): string {
  const { cores, model } = processors(readText("/proc/cpuinfo"));
  return `${
    cores || navigator.hardwareConcurrency
  } × ${model}, ${Deno.build.os} ${Deno.osRelease()}`;
}

/** What Linux tells about its processors. */
export function processors(cpuinfo: string): { cores: number; model: string } {
  const models = [...cpuinfo.matchAll(/^model name\s*:\s*(.+)$/gm)].map((match) => match[1].trim());
  return { cores: models.length, model: models[0] ?? Deno.build.arch };
}

function readText(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return "";
  }
}
