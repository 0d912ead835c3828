// Runs the part of a test that has to be in the hub of the tests' own network: clients, ZooKeeper, who breaks what.
// deno-lint-ignore-file no-console

import { ClusterNet, type NetPlan } from "./cluster_net.ts";

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

/** For the module: does what it was told and ends, with 1 where something was found. It ends when whoever started it does. */
export async function hubTask<Options>(
  run: (net: ClusterNet, options: Options) => Promise<string[]>,
): Promise<never> {
  (async () => {
    while (await Deno.stdin.read(new Uint8Array(16)) !== null);
    // With this the servers end that it has started: see harness.ts.
    Deno.exit(1);
  })();
  const { plan, options }: HubTask<Options> = JSON.parse(Deno.args[0]);
  const findings = await run(ClusterNet.of(plan), options);
  for (const line of findings) console.log(line);
  Deno.exit(findings.length === 0 ? 0 : 1);
}
