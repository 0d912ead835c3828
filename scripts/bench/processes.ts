// The processes that a benchmark starts, so that it ends exactly these.

/** How long a process may take to end by itself after SIGTERM, ms. */
const PATIENCE_MS = 3000;

export interface LoggedProcess {
  pid: number;
  logPath: string;
  /** Resolves when the process has ended. */
  ended: Promise<void>;
  /** Ends it. */
  stop(): Promise<void>;
}

export class Processes {
  readonly #running = new Set<Deno.ChildProcess>();
  #stopped = false;

  /** Runs a program to its end and returns what it printed. */
  async run(path: string, args: string[]): Promise<Deno.CommandOutput> {
    const child = this.#spawn(path, { args, stdout: "piped", stderr: "piped" });
    const output = await child.output();
    this.#running.delete(child);
    return output;
  }

  /** Starts a server whose output goes to a file. */
  start(
    path: string,
    options: { args: string[]; cwd: string; env?: Record<string, string>; logPath: string },
  ): LoggedProcess {
    const { args, cwd, env, logPath } = options;
    // The shell replaces itself by the server, which then writes to the file without our help.
    const script = 'log=$1; shift; exec "$@" >"$log" 2>&1';
    const child = this.#spawn("/bin/sh", {
      args: ["-c", script, "sh", logPath, path, ...args],
      cwd,
      stdout: "null",
      stderr: "null",
      ...(env === undefined ? {} : { env, clearEnv: true }),
    });
    const ended = child.status.then(() => {
      this.#running.delete(child);
    });
    return { pid: child.pid, logPath, ended, stop: () => endChild(child) };
  }

  /** Ends what still runs; afterwards nothing can be started any more. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all([...this.#running].map(endChild));
    this.#running.clear();
  }

  #spawn(path: string, options: Deno.CommandOptions): Deno.ChildProcess {
    if (this.#stopped) throw new Error(`${path} is not started: the benchmark is stopping`);
    const child = new Deno.Command(path, { stdin: "null", ...options }).spawn();
    this.#running.add(child);
    return child;
  }
}

async function endChild(child: Deno.ChildProcess): Promise<void> {
  signal(child, "SIGTERM");
  const timer = setTimeout(() => signal(child, "SIGKILL"), PATIENCE_MS);
  await child.status;
  clearTimeout(timer);
}

function signal(child: Deno.ChildProcess, name: Deno.Signal): void {
  try {
    child.kill(name);
  } catch (error) {
    // It has ended in the meantime.
    if (!(error instanceof TypeError) && !(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** Where a program is, by name or path, or null. Debian keeps servers where a user's PATH may not look. */
export async function findProgram(name: string): Promise<string | null> {
  const folders = (Deno.env.get("PATH") ?? "").split(":").concat("/usr/local/sbin", "/usr/sbin");
  const paths = folders.filter((folder) => folder !== "").map((folder) => `${folder}/${name}`);
  for (const path of name.includes("/") ? [name] : paths) {
    const info = await Deno.stat(path).catch(() => null);
    if (info?.isFile && ((info.mode ?? 0) & 0o111) !== 0) return path;
  }
  return null;
}
