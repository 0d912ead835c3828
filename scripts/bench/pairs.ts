// Two servers of a kind that are linked: publishers are at the one, subscribers at the other.

import type { ServerName, ServerOptions } from "./known_servers.ts";
import { endOfLog, freePorts, type Server, sleep } from "./servers.ts";
import { START_MS, StartError, startServer } from "./servers.ts";

/** Starts the two, and waits until both say that they are linked. Throws as {@link startServer}. */
export function startPair(name: ServerName, options: ServerOptions): Promise<Server> {
  switch (name) {
    case "pushd":
    case "binary":
      return startNodes(name, options);
    case "nats":
      return startRoutes(options);
    case "redis":
      return startReplica(options);
    case "mosquitto":
      return startBridge(options);
  }
}

async function startNodes(name: "pushd" | "binary", options: ServerOptions): Promise<Server> {
  const [nearLink, farLink, nearStats, farStats] = freePorts(4);
  const node = (id: string, link: number, stats: number) => ({
    config: {
      node_id: id,
      s2s_listen_addr: `127.0.0.1:${link}`,
      s2s_peers: [`127.0.0.1:${nearLink}`, `127.0.0.1:${farLink}`],
      s2s_secret: "benchmark",
      stats_listen_addr: `127.0.0.1:${stats}`,
    },
  });
  const [near, far] = await startBoth(
    name,
    options,
    node("near", nearLink, nearStats),
    node("far", farLink, farStats),
  );
  const isLinked = (text: string) => {
    const { nodes } = JSON.parse(text) as { nodes: { self: boolean; state: string }[] };
    return nodes.some(({ self, state }) => !self && state === "up");
  };
  await untilLinked(near, () => answerOf(`http://127.0.0.1:${nearStats}/s/nodes`), isLinked);
  await untilLinked(far, () => answerOf(`http://127.0.0.1:${farStats}/s/nodes`), isLinked);
  return { ...near, subscribersAt: far };
}

async function startRoutes(options: ServerOptions): Promise<Server> {
  const [nearRoutes, farRoutes, nearMonitor, farMonitor] = freePorts(4);
  const node = (routes: number, other: number, monitor: number) => ({
    args: [
      ...["--cluster_name", "benchmark", "--cluster", `nats://127.0.0.1:${routes}`],
      ...["--routes", `nats://127.0.0.1:${other}`, "-m", String(monitor)],
    ],
  });
  const [near, far] = await startBoth(
    "nats",
    options,
    node(nearRoutes, farRoutes, nearMonitor),
    node(farRoutes, nearRoutes, farMonitor),
  );
  const isLinked = (text: string) => (JSON.parse(text) as { num_routes: number }).num_routes > 0;
  await untilLinked(near, () => answerOf(`http://127.0.0.1:${nearMonitor}/routez`), isLinked);
  await untilLinked(far, () => answerOf(`http://127.0.0.1:${farMonitor}/routez`), isLinked);
  return { ...near, subscribersAt: far };
}

async function startReplica(options: ServerOptions): Promise<Server> {
  const [nearPort, farPort] = freePorts(2);
  const [near, far] = await startBoth(
    "redis",
    options,
    // By default a primary waits for 5 s whether another replica comes.
    { port: nearPort, args: ["--repl-diskless-sync-delay", "0"] },
    { port: farPort, args: ["--replicaof", "127.0.0.1", String(nearPort)] },
  );
  const isLinked = (text: string) => /^master_link_status:up$/m.test(text);
  await untilLinked(far, () => replicationOf(farPort), isLinked);
  return { ...near, subscribersAt: far };
}

/** A bridge that passes on everything, wanted or not; that it is up, the generator finds out by a message. */
async function startBridge(options: ServerOptions): Promise<Server> {
  const [nearPort, farPort] = freePorts(2);
  const bridge = ["connection far", `address 127.0.0.1:${farPort}`, "topic # out 0"];
  const far = { ...options, port: farPort, folderName: "mosquitto-far" };
  const subscribersAt = await startServer("mosquitto", far);
  const near = { ...options, port: nearPort, folderName: "mosquitto-near", args: bridge };
  return { ...await startServer("mosquitto", near), subscribersAt };
}

async function startBoth(
  name: ServerName,
  options: ServerOptions,
  near: Partial<ServerOptions>,
  far: Partial<ServerOptions>,
): Promise<[Server, Server]> {
  return [
    await startServer(name, { ...options, ...near, folderName: `${name}-near` }),
    await startServer(name, { ...options, ...far, folderName: `${name}-far` }),
  ];
}

/** A link comes up by itself, at a moment that only these answers tell. */
async function untilLinked(
  { port, process: { ended, logPath } }: Server,
  ask: () => Promise<string>,
  isLinked: (answer: string) => boolean,
): Promise<void> {
  const hasEnded = ended.then(() => true);
  for (const deadlineMs = Date.now() + START_MS; Date.now() < deadlineMs;) {
    if (await Promise.race([hasEnded, sleep(50)])) break;
    if (isLinked(await ask())) return;
  }
  throw new StartError(`the server at port ${port} was not linked: ${await endOfLog(logPath)}`);
}

async function answerOf(url: string): Promise<string> {
  const answer = await fetch(url);
  return await answer.text();
}

/** `INFO replication`. */
async function replicationOf(port: number): Promise<string> {
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  await conn.write(new TextEncoder().encode("INFO replication\r\n"));
  const decoder = new TextDecoder();
  const bytes = new Uint8Array(4096);
  for (let text = "";;) {
    const count = await conn.read(bytes);
    if (count === null) return text;
    text += decoder.decode(bytes.subarray(0, count), { stream: true });
    // A length, and the text of so many bytes between line ends.
    const [head, length] = /^\$(\d+)\r\n/.exec(text) ?? [];
    if (head !== undefined && text.length >= head.length + Number(length) + 2) return text;
  }
}
