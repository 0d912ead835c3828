// Gives a server under test another time than the machine has.

/** The environment of a process whose wall clock is off by `offset`, such as `-1d`; needs `faketime`. */
export async function fakeTimeEnv(offset: string): Promise<Record<string, string>> {
  // Not `faketime` itself in front of the server: it stays, as another process, until that one ends.
  const { stdout } = await new Deno.Command("faketime", {
    args: ["-f", "+0s", "sh", "-c", 'printf %s "$LD_PRELOAD"'],
  }).output();
  return {
    LD_PRELOAD: new TextDecoder().decode(stdout),
    FAKETIME: offset,
    FAKETIME_DONT_FAKE_MONOTONIC: "1",
    DONT_FAKE_MONOTONIC: "1",
  };
}
