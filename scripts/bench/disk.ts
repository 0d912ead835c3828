// What a store is measured on: a file system that must be a disk, and how long that takes to keep something.

/** File systems that live in memory, where keeping something costs nothing. */
const IN_MEMORY = ["tmpfs", "ramfs"];
const SYNCS = 200;

/** There is no disk at hand; the message says how to name one. */
export class DiskError extends Error {
  override readonly name = "DiskError";
}

/** The type of the file system that holds a path, from the text of `/proc/mounts`. */
export function fileSystemOf(path: string, mounts: string): string {
  let best = "", type = "unknown";
  for (const line of mounts.split("\n")) {
    const [, point, kind] = line.split(" ");
    if (point === undefined || kind === undefined) continue;
    const holds = point === "/" || path === point || path.startsWith(`${point}/`);
    // Of two mounts on one point the later one is seen.
    if (holds && point.length >= best.length) [best, type] = [point, kind];
  }
  return type;
}

/** Makes a folder on a disk: in the named folder, or in the first usual one that is no memory. */
export async function makeFolder(named: string | undefined): Promise<string> {
  const mounts = await Deno.readTextFile("/proc/mounts").catch(() => "");
  const usual = [Deno.env.get("TMPDIR") ?? "/tmp", "/var/tmp"];
  for (const dir of named === undefined ? usual : [named]) {
    const path = await Deno.realPath(dir).catch(() => null);
    if (path === null || IN_MEMORY.includes(fileSystemOf(path, mounts))) continue;
    return await Deno.makeTempDir({ dir: path, prefix: "pushd-bench-" });
  }
  throw new DiskError(
    `${
      named ?? usual.join(" and ")
    } cannot be used: stores are measured on a disk; name a folder on one with --dir`,
  );
}

/** `ext4, 0.21 ms to sync 4 KiB`: the least that a store takes to keep something, whoever wrote it. */
export async function diskLine(folder: string): Promise<string> {
  const path = `${folder}/sync`;
  const ms: number[] = [];
  const file = await Deno.open(path, { write: true, create: true });
  try {
    const block = new Uint8Array(4096).fill(1);
    for (let i = 0; i < SYNCS; i++) {
      const startMs = performance.now();
      file.writeSync(block);
      file.syncDataSync();
      ms.push(performance.now() - startMs);
    }
  } finally {
    file.close();
    await Deno.remove(path);
  }
  const type = fileSystemOf(folder, await Deno.readTextFile("/proc/mounts").catch(() => ""));
  ms.sort((a, b) => a - b);
  return `${type}, ${ms[SYNCS >> 1].toFixed(2)} ms to append and sync 4 KiB`;
}
