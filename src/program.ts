// What was called for, and how it ends.

import { parseArgs, type ServeArgs } from "./cli/args.ts";
import { checkConfig } from "./cli/check_config.ts";
import { printError, printOut, versionText } from "./cli/output.ts";
import { loadConfig } from "./config/load.ts";
import { configureLogging, flushLogs, getLogger, reopen } from "./core/logger.ts";
import { messageOf } from "./core/message_of.ts";
import { openFileLimit } from "./core/open_files.ts";
import { ServiceManager } from "./core/service_manager.ts";
import { closeDebuggerAtSignal, untilStopSignal } from "./core/signals.ts";
import { setCrashHook, spawn } from "./core/spawn.ts";
import { BUILD, VERSION } from "./core/version.ts";
import { Pushd } from "./pushd.ts";
import { Reloader } from "./reload.ts";
import { StartError } from "./start_error.ts";

/** Exit codes: done; failed; called or configured wrongly. */
const DONE = 0;
const FAILED = 1;
const WRONG = 2;

/** How long the last log lines may take, ms. */
const FLUSH_MS = 500;

const log = getLogger("main");

async function main(argv: string[]): Promise<number> {
  closeDebuggerAtSignal();
  const args = parseArgs(argv);
  switch (args.command) {
    case "serve":
      return await serve(args);
    case "check_config":
      return checkConfig(args.file, Deno.env.toObject());
    case "sample_config":
      printOut((await import("./config/sample.ts")).renderSample().trimEnd());
      return DONE;
    case "backup":
    case "export":
    case "import":
      // Not before it is wanted: the server does without.
      return await (await import("./tools.ts")).runTool(args);
    case "dev_cluster": {
      const { devCluster } = await import("./dev_cluster.ts");
      const { count, level } = args;
      const logging = { level, file: "stdout", format: "text" } as const;
      return await devCluster(count, logging, new Wishes().stop);
    }
    case "bench":
      // It may want thousands of connections.
      await openFileLimit();
      return await (await import("./cli/client/run.ts")).runClient(args);
    case "sub":
    case "pub":
    case "his":
    case "ping":
      return await (await import("./cli/client/run.ts")).runClient(args);
    case "top":
      return await (await import("./cli/top.ts")).runTop(args, Deno.env.toObject());
    case "completions":
      printOut(args.script.trimEnd());
      return DONE;
    case "version":
      printOut(versionText(VERSION, BUILD));
      return DONE;
    case "help":
      printOut(args.text);
      return DONE;
    case "usage_error":
      printError(args.message);
      return WRONG;
  }
}

async function serve(args: ServeArgs): Promise<number> {
  const wishes = new Wishes();
  const reloader = new Reloader(
    args.conf ?? null,
    (path) => loadConfig({ path, env: Deno.env.toObject(), overrides: args.overrides }),
  );
  const loaded = reloader.first;
  if (!loaded.ok) {
    for (const warning of loaded.warnings) printError(`warning: ${warning}`);
    for (const mistake of loaded.mistakes) printError(mistake);
    return WRONG;
  }
  try {
    await configureLogging({ level: args.level, file: args.log, format: args.logFormat });
  } catch (error) {
    printError(`--log ${args.log}: ${messageOf(error)}`);
    return FAILED;
  }
  const crashed = new Promise<number>((resolve) => setCrashHook(() => resolve(FAILED)));
  for (const warning of loaded.warnings) log.warn("{warning}", { warning });
  let running: Pushd | null = null;
  Deno.addSignalListener("SIGUSR1", () => {
    reopen();
    running?.reopenFiles();
  });
  Deno.addSignalListener("SIGHUP", () => spawn("reload", () => reloader.reload("SIGHUP")));

  let pushd: Pushd;
  try {
    pushd = await Pushd.start(loaded.config);
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    printError(error.message);
    return FAILED;
  }
  running = pushd;
  reloader.start(pushd);
  const manager = ServiceManager.of();
  manager?.ready();
  return await Promise.race([crashed, stopWhenAsked(pushd, wishes, manager)]);
}

/** What signals ask for, listened to before the server has started: what comes early is done then. */
class Wishes {
  /** Resolves at SIGINT or SIGTERM; a second one ends the process at once. */
  readonly stop: Promise<void> = untilStopSignal(() => Deno.exit(FAILED));
  /** Resolves at SIGUSR2. */
  readonly leave: Promise<void> = new Promise((resolve) => {
    Deno.addSignalListener("SIGUSR2", resolve);
  });
}

/** Stops at SIGINT or SIGTERM at once, and at SIGUSR2 little by little. */
async function stopWhenAsked(
  pushd: Pushd,
  wishes: Wishes,
  manager: ServiceManager | null,
): Promise<number> {
  const leaving = new AbortController();
  const left = new Promise<void>((resolve) => {
    wishes.leave.then(() => {
      log.info("lame duck: no new connections, the present ones are sent away one by one", {
        connections: pushd.server.connections.size,
        drain_timeout_ms: pushd.config.drain_timeout,
      });
      spawn("leave", async () => {
        await pushd.leave(leaving.signal);
        resolve();
      });
    });
  });
  await Promise.race([wishes.stop, left]);
  leaving.abort();
  manager?.stopping();
  const code = await stop(pushd);
  await manager?.close();
  return code;
}

async function stop(pushd: Pushd): Promise<number> {
  const open = pushd.server.connections.size;
  log.info("stopping", { connections: open });
  const { connections, messages } = await pushd.stop();
  if (connections > 0) log.warn("some connections did not close in time", { connections });
  if (messages > 0) {
    log.error("stopped; messages that were acknowledged could not be stored", { messages });
    return FAILED;
  }
  log.info("stopped");
  return DONE;
}

/** Does what the arguments ask for, and ends the process. */
export async function runProgram(argv: string[]): Promise<never> {
  const code = await main(argv);
  await flushLogs(FLUSH_MS);
  Deno.exit(code);
}
