// `pushd dev-cluster`: several nodes in one process, linked, for trying out.

import { getAvailablePort } from "@std/net";
import { printError, printOut } from "./cli/output.ts";
import { loadConfig } from "./config/load.ts";
import type { Config } from "./config/schema.ts";
import { configureLogging, type LoggingOptions } from "./core/logger.ts";
import { setCrashHook } from "./core/spawn.ts";
import { Pushd } from "./pushd.ts";
import { StartError } from "./start_error.ts";

/** Where the first node's clients come in, and where its statistics are; the next ones ten further each. */
const CLIENT_PORT = 2222;
const STATS_PORT = 9020;
const PORT_STEP = 10;

/** The addresses of one node. */
interface DevNode {
  readonly id: string;
  readonly clientPort: number;
  readonly statsPort: number;
  readonly s2sPort: number;
}

/**
 * Starts so many nodes, says how to use them, and ends them at `stop`; what they kept is removed then.
 * Returns the exit code.
 */
export async function devCluster(
  count: number,
  logging: LoggingOptions,
  stop: Promise<void>,
): Promise<number> {
  await configureLogging(logging);
  const crashed = new Promise<number>((resolve) => setCrashHook(() => resolve(1)));
  const folder = await Deno.makeTempDir({ prefix: "pushd-dev-" });
  const running: Pushd[] = [];
  try {
    const nodes = Array.from({ length: count }, (_, i) => devNode(i));
    // Each finds those that run already.
    for (const node of nodes) {
      const others = nodes.slice(0, running.length);
      running.push(await Pushd.start(configOf(node, others, folder)));
    }
    printOut(helpText(nodes, folder));
    return await Promise.race([crashed, stop.then(() => 0)]);
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    printError(error.message);
    return 1;
  } finally {
    await Promise.all(running.map((pushd) => pushd.stop()));
    await Deno.remove(folder, { recursive: true });
  }
}

function devNode(i: number): DevNode {
  const clientPort = getAvailablePort({ preferredPort: CLIENT_PORT + i * PORT_STEP });
  const s2sPort = getAvailablePort({ preferredPort: clientPort + 1 });
  const statsPort = getAvailablePort({ preferredPort: STATS_PORT + i * PORT_STEP });
  return { id: `node${i + 1}`, clientPort, s2sPort, statsPort };
}

function configOf(
  { id, clientPort, statsPort, s2sPort }: DevNode,
  others: readonly DevNode[],
  folder: string,
): Config {
  const text = JSON.stringify({
    node_id: id,
    tcp_listen_addr: `127.0.0.1:${clientPort}`,
    stats_listen_addr: `127.0.0.1:${statsPort}`,
    s2s_listen_addr: `127.0.0.1:${s2sPort}`,
    s2s_peers: others.map((node) => `127.0.0.1:${node.s2sPort}`),
    sqlite: { path: `${folder}/${id}.db` },
  });
  const loaded = loadConfig({ path: id, text, env: {} });
  if (!loaded.ok) throw new Error(loaded.mistakes.join("\n"));
  return loaded.config;
}

function helpText(nodes: DevNode[], folder: string): string {
  const [first] = nodes;
  const last = nodes[nodes.length - 1];
  return [
    `${nodes.length === 1 ? "One node" : `${nodes.length} nodes, linked`}; files in ${folder}`,
    "",
    ...nodes.map(({ id, clientPort, statsPort }) =>
      `  ${id}  telnet 127.0.0.1 ${clientPort}  curl http://127.0.0.1:${statsPort}/s/nodes`
    ),
    "",
    `In one terminal:   telnet 127.0.0.1 ${first.clientPort}   and type   sub channel1`,
    `in another one:    telnet 127.0.0.1 ${last.clientPort}   and type   pub channel1 hello`,
    "",
    "Ctrl-C ends them and removes their files.",
  ].join("\n");
}
