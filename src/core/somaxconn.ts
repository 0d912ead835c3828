// The kernel's bound of a listen backlog.

/** Where Linux and macOS have it; a path, because it is often not on the one of an ordinary user. */
const SYSCTL = "/usr/sbin/sysctl";

/**
 * `net.core.somaxconn` (Linux) or `kern.ipc.somaxconn` (macOS), as `sysctl` tells; undefined where
 * it cannot be asked. (Reading /proc would need every permission there is.)
 */
export async function somaxconn(): Promise<number | undefined> {
  const name = Deno.build.os === "darwin" ? "kern.ipc.somaxconn" : "net.core.somaxconn";
  try {
    const { success, stdout } = await new Deno.Command(SYSCTL, {
      args: ["-n", name],
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).output();
    const answer = new TextDecoder().decode(stdout).trim();
    return success && /^[0-9]+$/.test(answer) ? Number(answer) : undefined;
  } catch {
    // No sysctl here: then nothing is said about it.
    return undefined;
  }
}
