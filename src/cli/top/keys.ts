// What is typed at a program that has the terminal for itself.

/** `q`, and Ctrl-C and Ctrl-D, which are no signals in this mode. */
const QUIT = ["q", "Q", "\x03", "\x04"];
/** What keys with a name send begins with it, and may hold any letter. */
const ESCAPE = "\x1b";

/**
 * Takes the keyboard, and resolves when somebody wants to quit, or the terminal is gone. `release` gives
 * it back, also where that has not happened; idempotent. Where standard input is no terminal nothing is
 * read, and it never resolves.
 */
export function takeKeyboard(): { quit: Promise<void>; release(): void } {
  if (!Deno.stdin.isTerminal()) return { quit: new Promise(() => {}), release() {} };
  Deno.stdin.setRaw(true);
  let isTaken = true;
  return {
    quit: untilQuit(),
    release() {
      if (!isTaken) return;
      isTaken = false;
      try {
        Deno.stdin.setRaw(false);
      } catch {
        // The terminal is gone.
      }
    },
  };
}

async function untilQuit(): Promise<void> {
  const buffer = new Uint8Array(256);
  const decoder = new TextDecoder("latin1");
  try {
    while (true) {
      const count = await Deno.stdin.read(buffer);
      if (count === null) return;
      const typed = decoder.decode(buffer.subarray(0, count));
      if (!typed.startsWith(ESCAPE) && QUIT.some((key) => typed.includes(key))) return;
    }
  } catch {
    // The terminal is gone.
  }
}
