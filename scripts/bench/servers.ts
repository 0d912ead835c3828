// The servers that are compared: how each is found, named and started.

import { findProgram, type LoggedProcess, type Processes } from "./processes.ts";
import { createStream, StreamError } from "./jetstream.ts";
import type { Protocol } from "./loadgen.ts";

export const STORAGES = ["off", "memory", "sqlite"] as const;
/** What pushd does with messages beside delivering them. */
export type Storage = typeof STORAGES[number];

export interface Server {
  protocol: Protocol;
  version: string;
  port: number;
  process: LoggedProcess;
  /** Where its subscribers are, when it is one of two that are linked. */
  subscribersAt?: { port: number; process: LoggedProcess };
}

export interface ServerOptions {
  folder: string;
  processes: Processes;
  storage: Storage;
  /** What the server's own folder is called; its protocol where only one of it runs. */
  name?: string;
  /** NATS and Redis keep messages too, and acknowledge what is on the disk. */
  durable?: boolean;
  /** pushd's `msg_storage_flush_policy`. */
  flushPolicy?: 0 | 1;
  /** pushd's `max_cache_msgs_every_channel`. */
  cacheMessages?: number;
  /** Where it listens; a free port where it is left out. */
  port?: number;
  /** Further arguments of NATS and Redis. */
  args?: readonly string[];
  /** Further keys of pushd's configuration. */
  config?: Readonly<Record<string, unknown>>;
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
export const START_MS = 30_000;
const SQLITE_FILE = "pushd.db";
const ROOT = new URL("../../", import.meta.url).pathname;

/** Starts a server on a free port of the loopback. Throws a {@link MissingError} or a {@link StartError}. */
export async function startServer(protocol: Protocol, options: ServerOptions): Promise<Server> {
  const { folder, processes, name: folderName = protocol } = options;
  const cwd = `${folder}/${folderName}`;
  await Deno.mkdir(cwd);
  const port = options.port ?? freePorts(1)[0];
  const { path, args, env, versionArgs } = await launch(protocol, cwd, port, options);
  const { stdout, stderr } = await processes.run(path, versionArgs);
  const logPath = `${cwd}/log`;
  const process = processes.start(path, { args, cwd, env, logPath });
  const name = protocol === "pushd" ? `pushd (${storageName(options)})` : protocol;
  const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  const version = `${name} ${/\d+\.\d+\.\d+[^\s,;]*/.exec(text)?.[0] ?? "of unknown version"}`;
  const ended = process.ended.then(() => true);
  for (const deadlineMs = Date.now() + START_MS; Date.now() < deadlineMs;) {
    // pushd listens before it has opened its store.
    const isReady = protocol === "pushd"
      ? / ready: /.test(await Deno.readTextFile(logPath).catch(() => ""))
      : await accepts(port);
    if (isReady) {
      await makeReady(protocol, cwd, port, options);
      return { protocol, version, port, process };
    }
    if (await Promise.race([ended, sleep(50)])) break;
  }
  const log = await endOfLog(logPath);
  throw new StartError(`${path} ${args.join(" ")} did not start: ${log}`);
}

export async function endOfLog(path: string): Promise<string> {
  return (await Deno.readTextFile(path).catch(() => "")).trim().slice(-2000);
}

/** What has to be there, or to be made, before the first message. */
async function makeReady(
  protocol: Protocol,
  cwd: string,
  port: number,
  { durable = false, storage }: ServerOptions,
): Promise<void> {
  if (protocol === "pushd" && storage === "sqlite") {
    // A version that only knows the name would be measured without a disk.
    const hasFile = await Deno.stat(`${cwd}/${SQLITE_FILE}`).then(() => true, () => false);
    if (!hasFile) {
      throw new MissingError("this pushd made no database: it does not keep messages in SQLite");
    }
  }
  if (protocol !== "nats" || !durable) return;
  try {
    await createStream(port);
  } catch (error) {
    if (error instanceof StreamError) throw new StartError(error.message, { cause: error });
    throw error;
  }
}

export function storageName({ storage, flushPolicy }: Partial<ServerOptions>): string {
  if (storage === undefined || storage === "off") return "no storage";
  return `storage: ${storage}${flushPolicy === undefined ? "" : `, policy ${flushPolicy}`}`;
}

async function launch(
  protocol: Protocol,
  cwd: string,
  port: number,
  options: ServerOptions,
): Promise<Launch> {
  const durable = options.durable ?? false;
  switch (protocol) {
    case "pushd": {
      const conf = `${cwd}/pushd.cf`;
      await Deno.writeTextFile(conf, pushdConfig(port, cwd, options));
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
      if (durable) return await launchJetStream(cwd, port);
      return {
        path: await installed("nats-server", "nats-server"),
        args: ["-a", "127.0.0.1", "-p", String(port), ...options.args ?? []],
        versionArgs: ["--version"],
      };
    case "redis":
      return {
        path: await installed("redis-server", "redis-server"),
        args: `--bind 127.0.0.1 --port ${port} --dir ${cwd} --save`.split(" ").concat(
          "",
          // A file rewritten in the middle of a run would be work for nobody's message.
          ...durable
            ? "--appendonly yes --appendfsync always --auto-aof-rewrite-percentage 0".split(" ")
            : ["--appendonly", "no"],
          ...options.args ?? [],
        ),
        versionArgs: ["--version"],
      };
  }
}

/** `sync_interval: always` writes through to the disk before each `PubAck`; it came with 2.10. */
async function launchJetStream(cwd: string, port: number): Promise<Launch> {
  const conf = `${cwd}/nats.conf`;
  await Deno.writeTextFile(
    conf,
    `listen: "127.0.0.1:${port}"
jetstream {
  store_dir: ${JSON.stringify(`${cwd}/jetstream`)}
  sync_interval: always
  # By default it refuses what comes when 10,000 messages wait: less than the widest row has under way.
  max_buffered_msgs: 100000
}
`,
  );
  const go = Deno.env.get("GOPATH") || `${Deno.env.get("HOME") ?? ""}/go`;
  for (const name of [Deno.env.get("NATS_BIN") ?? "", `${go}/bin/nats-server`, "nats-server"]) {
    const path = name === "" ? null : await findProgram(name);
    if (path === null) continue;
    const { stdout } = await new Deno.Command(path, { args: ["--version"] }).output();
    const [, major, minor] = /v(\d+)\.(\d+)/.exec(new TextDecoder().decode(stdout)) ?? [];
    if (Number(major) > 2 || (Number(major) === 2 && Number(minor) >= 11)) {
      return { path, args: ["-c", conf], versionArgs: ["--version"] };
    }
  }
  throw new MissingError(
    "JetStream that syncs always needs a nats-server from 2.11 on, and none was found: " +
      "go install github.com/nats-io/nats-server/v2@latest, or name one in NATS_BIN",
  );
}

/** Neither NATS nor Redis keeps a published message, so by default pushd does not either. */
function pushdConfig(
  port: number,
  cwd: string,
  { storage, flushPolicy, cacheMessages, config }: ServerOptions,
): string {
  return JSON.stringify({
    tcp_listen_addr: `127.0.0.1:${port}`,
    stats_listen_addr: "",
    msg_storage: storage === "off" ? "" : storage,
    ...(flushPolicy === undefined ? {} : { msg_storage_flush_policy: flushPolicy }),
    ...(cacheMessages === undefined ? {} : { max_cache_msgs_every_channel: cacheMessages }),
    ...(storage === "sqlite" ? { sqlite: { path: `${cwd}/${SQLITE_FILE}` } } : {}),
    ...config,
  });
}

async function installed(program: string, debianPackage: string): Promise<string> {
  const path = await findProgram(program);
  if (path !== null) return path;
  throw new MissingError(`${program} was not found; on Debian: apt-get install ${debianPackage}`);
}

/** Free ports of the loopback, all different: each is held until the last is found. */
export function freePorts(count: number): number[] {
  const listeners = Array.from(
    { length: count },
    () => Deno.listen({ hostname: "127.0.0.1", port: 0 }),
  );
  for (const listener of listeners) listener.close();
  return listeners.map(({ addr }) => addr.port);
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

export async function sleep(ms: number): Promise<boolean> {
  await new Promise((resolve) => setTimeout(resolve, ms));
  return false;
}
