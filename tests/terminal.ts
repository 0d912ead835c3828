// A program on a terminal of its own, as a person would use it.

const encoder = new TextEncoder();

/** A running program; what it shows includes the terminal's echo of what is typed. */
export interface Terminal {
  /** Types a line and Enter. */
  type(line: string): Promise<void>;
  /**
   * Waits until `isRight` says so of everything shown so far, line ends as LF. Returns null, or what
   * was shown when the time was over or the program had ended.
   */
  until(isRight: (shown: string) => boolean, timeoutMs: number): Promise<string | null>;
  /** Ends the program. */
  close(): Promise<void>;
}

/** Starts a program on a pseudo-terminal (that of `script`, whose two kinds differ in their arguments). */
export function spawnTerminal(program: string, args: readonly string[]): Terminal {
  const child = new Deno.Command("script", {
    args: Deno.build.os === "darwin"
      ? ["-q", "/dev/null", program, ...args]
      : ["-q", "-e", "-f", "-c", [program, ...args].join(" "), "/dev/null"],
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const input = child.stdin.getWriter();
  let shown = "";
  let ended = false;
  let wake = Promise.withResolvers<void>();
  const reading = (async () => {
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      shown += text;
      wake.resolve();
      wake = Promise.withResolvers();
    }
    ended = true;
    wake.resolve();
  })();
  // Where "localhost" has an IPv6 address too, telnet says that it tries that one first.
  const text = () =>
    shown.replaceAll("\r\n", "\n").replace(/^Trying ::1\.\.\.\n(.*refused\n)?/, "");
  return {
    async type(line) {
      await input.write(encoder.encode(`${line}\n`));
    },
    async until(isRight, timeoutMs) {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const late = new Promise<boolean>((resolve) => {
        timer = setTimeout(() => resolve(true), timeoutMs);
      });
      try {
        while (true) {
          if (isRight(text())) return null;
          if (ended) return text();
          if (await Promise.race([late, wake.promise.then(() => false)])) return text();
        }
      } finally {
        clearTimeout(timer);
      }
    },
    async close() {
      await input.close().catch(() => {
        // The program has ended by itself.
      });
      try {
        child.kill("SIGTERM");
      } catch {
        // The same.
      }
      await reading;
      await child.status;
    },
  };
}
