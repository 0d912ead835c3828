// The servers that are compared: how each is found, named and started.

import { findProgram, type LoggedProcess, type Processes } from "./processes.ts";
import type { Protocol } from "./loadgen.ts";

export const STORAGES = ["off", "memory", "sqlite"] as const;
/** What pushd does with messages beside delivering them. */
export type Storage = typeof STORAGES[number];

export interface Server {
  protocol: Protocol;
  version: string;
  port: number;
  process: LoggedProcess;
}

/** A server that did not start; the message holds the end of its log. */
export class StartError extends Error {
  override readonly name = "StartError";
}

/** A server that is not installed; the message says how to get it. */
export class MissingError extends Error {
  override readonly name = "MissingError";
}

interface Launch {
  path: string;
  args: string[];
  env?: Record<string, string>;
  versionArgs: string[];
}

/** How long a server may take until it accepts connections, ms. */
const START_MS = 30_000;
const ROOT = new URL("../../", import.meta.url).pathname;

/** Starts a server on a free port of the loopback. Throws a {@link MissingError} or a {@link StartError}. */
export async function startServer(
  protocol: Protocol,
  options: { folder: string; storage: Storage; processes: Processes },
): Promise<Server> {
  const { folder, storage, processes } = options;
  const cwd = `${folder}/${protocol}`;
  await Deno.mkdir(cwd);
  const port = freePort();
  const { path, args, env, versionArgs } = await launch(protocol, { cwd, port, storage });
  const { stdout, stderr } = await processes.run(path, versionArgs);
  const logPath = `${cwd}/log`;
  const process = processes.start(path, { args, cwd, env, logPath });
  const name = protocol === "pushd" ? `pushd (${storageName(storage)})` : protocol;
  const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  const version = `${name} ${/\d+\.\d+\.\d+[^\s,;]*/.exec(text)?.[0] ?? "of unknown version"}`;
  const ended = process.ended.then(() => true);
  for (const deadlineMs = Date.now() + START_MS; Date.now() < deadlineMs;) {
    if (await accepts(port)) return { protocol, version, port, process };
    if (await Promise.race([ended, sleep(50)])) break;
  }
  const log = await Deno.readTextFile(logPath).catch(() => "");
  throw new StartError(`${path} ${args.join(" ")} did not start: ${log.trim().slice(-2000)}`);
}

function storageName(storage: Storage): string {
  return storage === "off" ? "no storage" : `storage: ${storage}`;
}

async function launch(
  protocol: Protocol,
  { cwd, port, storage }: { cwd: string; port: number; storage: Storage },
): Promise<Launch> {
  switch (protocol) {
    case "pushd": {
      const conf = `${cwd}/pushd.cf`;
      await Deno.writeTextFile(conf, pushdConfig(port, storage, cwd));
      const args = ["--conf", conf];
      const binary = Deno.env.get("PUSHD_BIN");
      // A setting in the environment would win over the file.
      const env = Object.fromEntries(
        Object.entries(Deno.env.toObject()).filter(([name]) => !name.startsWith("PUSHD_")),
      );
      if (binary !== undefined && binary !== "") {
        return { path: await Deno.realPath(binary), args, env, versionArgs: ["--version"] };
      }
      const run = ["run", "-A", "--config", `${ROOT}deno.json`, `${ROOT}src/main.ts`];
      return {
        path: Deno.execPath(),
        args: [...run, ...args],
        env,
        versionArgs: [...run, "--version"],
      };
    }
    case "nats":
      return {
        path: await installed("nats-server", "nats-server"),
        args: ["-a", "127.0.0.1", "-p", String(port)],
        versionArgs: ["--version"],
      };
    case "redis":
      return {
        path: await installed("redis-server", "redis-server"),
        args: `--bind 127.0.0.1 --port ${port} --appendonly no --dir ${cwd} --save`.split(" ")
          .concat(""),
        versionArgs: ["--version"],
      };
  }
}

/** Neither NATS nor Redis keeps a published message, so by default pushd does not either. */
function pushdConfig(port: number, storage: Storage, cwd: string): string {
  return JSON.stringify({
    tcp_listen_addr: `127.0.0.1:${port}`,
    stats_listen_addr: "",
    msg_storage: storage === "off" ? "" : storage,
    ...(storage === "sqlite" ? { sqlite: { path: `${cwd}/pushd.db` } } : {}),
  });
}

async function installed(program: string, debianPackage: string): Promise<string> {
  const path = await findProgram(program);
  if (path !== null) return path;
  throw new MissingError(`${program} was not found; on Debian: apt-get install ${debianPackage}`);
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

async function accepts(port: number): Promise<boolean> {
  try {
    using _connection = await Deno.connect({ hostname: "127.0.0.1", port });
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) return false;
    throw error;
  }
}

async function sleep(ms: number): Promise<boolean> {
  await new Promise((resolve) => setTimeout(resolve, ms));
  return false;
}
