// What `deno task start` runs the server with, for all that start it otherwise.

const ROOT = new URL("../", import.meta.url).pathname;
const CONFIG = `${ROOT}deno.json`;

/** The options that it gives to `deno run`. */
export async function startFlags(): Promise<string[]> {
  const { tasks } = JSON.parse(await Deno.readTextFile(CONFIG));
  const start: string = tasks.start.command;
  return start.split(" ").filter((word) => word.startsWith("--"));
}

/** Those among them that go to V8, as one option. */
export async function v8Flags(): Promise<string> {
  const option = "--v8-flags=";
  const found = (await startFlags()).find((flag) => flag.startsWith(option));
  if (found === undefined) throw new Error(`deno.json: the task "start" has no ${option}`);
  return found.slice(option.length);
}

/** The arguments with which Deno runs the source, allowed everything, wherever it is started. */
export async function sourceArgs(): Promise<string[]> {
  const v8 = `--v8-flags=${await v8Flags()}`;
  return ["run", v8, "-A", "--config", CONFIG, `${ROOT}src/main.ts`];
}
