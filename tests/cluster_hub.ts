// Runs the part of a test that has to be in the hub of the tests' own network: clients, ZooKeeper, who breaks what.

import type { ClusterNet, NetPlan } from "./cluster_net.ts";

/** What a program in the hub is told. */
export interface HubTask<Options> {
  readonly plan: NetPlan;
  readonly options: Options;
}

/** How a program in the hub ended, and what it said. */
export interface HubRun {
  readonly code: number;
  readonly said: string;
}

/**
 * Runs a module in the hub until it ends; `onLine` gets what it says as it comes. It ends itself, and its
 * children, when its standard input does: whatever becomes of this process, nothing of it is left.
 */
export async function runInHub<Options>(
  net: ClusterNet,
  module: string,
  options: Options,
  onLine: (line: string) => void = () => {},
): Promise<HubRun> {
  const task: HubTask<Options> = { plan: net.plan, options };
  const [program, ...prefix] = net.hubPrefix;
  const child = new Deno.Command(program, {
    args: [...prefix, Deno.execPath(), "run", "-A", module, JSON.stringify(task)],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const said: string[] = [];
  const listen = async (stream: ReadableStream<Uint8Array>) => {
    let rest = "";
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        said.push(line);
        onLine(line);
      }
    }
    if (rest !== "") said.push(rest);
  };
  const [{ code }] = await Promise.all([child.status, listen(child.stdout), listen(child.stderr)]);
  await child.stdin.close().catch(() => {
    // It ended, and its input with it.
  });
  return { code, said: said.join("\n") };
}

/** For the module: what it was told. It ends when whoever started it does. */
export function hubTask<Options>(): HubTask<Options> {
  (async () => {
    while (await Deno.stdin.read(new Uint8Array(16)) !== null);
    // With this the servers end that it has started: see harness.ts.
    Deno.exit(1);
  })();
  return JSON.parse(Deno.args[0]);
}
