// The servers that are compared: how each is started, named, and known to be ready.

import { createStream, StreamError } from "./jetstream.ts";
import { MissingError, PROTOCOL_OF, type ServerName, type ServerOptions } from "./known_servers.ts";
import { launch, SQLITE_FILE } from "./launch.ts";
import type { Protocol } from "./loadgen.ts";
import type { LoggedProcess, Processes } from "./processes.ts";

export interface Server {
  name: ServerName;
  protocol: Protocol;
  version: string;
  port: number;
  process: LoggedProcess;
  /** Where its subscribers are, when it is one of two that are linked. */
  subscribersAt?: { port: number; process: LoggedProcess };
}

/** A server that did not start; the message holds the end of its log. */
export class StartError extends Error {
  override readonly name = "StartError";
}

/** How long a server may take until it accepts connections, ms. */
export const START_MS = 30_000;

/** Starts a server on a free port of the loopback. Throws a {@link MissingError} or a {@link StartError}. */
export async function startServer(name: ServerName, options: ServerOptions): Promise<Server> {
  const { folder, processes, folderName = name } = options;
  const protocol = PROTOCOL_OF[name];
  const port = options.port ?? freePorts(1)[0];
  const cwd = `${folder}/${folderName}`;
  await Deno.mkdir(cwd);
  const { path, args, env, versionArgs } = await launch(name, cwd, port, options);
  const text = await versionText(processes, path, versionArgs);
  const version = `${titleOf(name, options)} ${
    /\d+\.\d+\.\d+[^\s,;]*/.exec(text)?.[0] ?? "of unknown version"
  }`;
  const logPath = `${cwd}/log`;
  const process = processes.start(path, { args, cwd, env, logPath });
  const ended = process.ended.then(() => true);
  for (const deadlineMs = Date.now() + START_MS; Date.now() < deadlineMs;) {
    // pushd listens before it has opened its store.
    const isReady = protocol === "pushd"
      ? / ready: /.test(await Deno.readTextFile(logPath).catch(() => ""))
      : await accepts(port);
    if (isReady) {
      await makeReady(protocol, cwd, port, options);
      return { name, protocol, version, port, process };
    }
    if (await Promise.race([ended, sleep(50)])) break;
  }
  const log = await endOfLog(logPath);
  throw new StartError(`${path} ${args.join(" ")} did not start: ${log}`);
}

/** What programs said of their version: it is asked once. */
const versionTexts = new Map<string, string>();

async function versionText(processes: Processes, path: string, args: string[]): Promise<string> {
  const key = [path, ...args].join(" ");
  const known = versionTexts.get(key);
  if (known !== undefined) return known;
  const { stdout, stderr } = await processes.run(path, args);
  const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  versionTexts.set(key, text);
  return text;
}

function titleOf(name: ServerName, options: ServerOptions): string {
  if (PROTOCOL_OF[name] !== "pushd") return name;
  const kept = storageName(options);
  return `pushd (${name === "binary" ? `one file, ${kept}` : kept})`;
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
