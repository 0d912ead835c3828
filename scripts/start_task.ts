// What `deno task start` runs the server with, for all that start it otherwise.

const CONFIG = new URL("../deno.json", import.meta.url);

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
