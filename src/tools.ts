// The commands that work on a store without serving: backup, storage export, storage import.

import { resolve } from "node:path";
import { LineFault } from "./cli/message_lines.ts";
import { printError, printProgress } from "./cli/output.ts";
import { exportHistory, importHistory, type TextSink } from "./cli/storage_tool.ts";
import { loadConfig } from "./config/load.ts";
import type { Config } from "./config/schema.ts";
import { type HistoryStore, StoreError } from "./engine/ports/history_store.ts";
import { unopenedStore } from "./open_storage.ts";
import { backupSqlite } from "./storage/sqlite_backup.ts";

/** How often a backup says how far it is, ms. */
const PROGRESS_MS = 1000;

/** What is called for; see `pushd help`. */
export type ToolArgs =
  | { command: "backup"; to: string; conf?: string }
  | { command: "export" | "import"; conf?: string };

/** Runs one of the commands; the exit code is 0, 1 when it has failed, 2 for a wrong configuration. */
export async function runTool(args: ToolArgs): Promise<number> {
  const loaded = loadConfig({ path: args.conf, env: Deno.env.toObject() });
  if (!loaded.ok) {
    for (const mistake of loaded.mistakes) printError(mistake);
    return 2;
  }
  try {
    return await run(args, loaded.config);
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) return 0;
    if (!(error instanceof StoreError) && !(error instanceof LineFault)) throw error;
    printError(error.message);
    return 1;
  }
}

async function run(args: ToolArgs, config: Config): Promise<number> {
  if (args.command === "backup") return await backup(config, args.to);
  if (config.msg_storage !== "sqlite" && config.msg_storage !== "mongodb") {
    printError(
      `msg_storage: ${JSON.stringify(config.msg_storage)} keeps nothing that could be ` +
        `${args.command}ed; it has to be "sqlite" or "mongodb"`,
    );
    return 2;
  }
  const { store } = await unopenedStore(config, "storage-tool");
  try {
    await store.open();
    return args.command === "export" ? await exportAll(store) : await importAll(store);
  } finally {
    await store.close();
  }
}

async function backup(config: Config, to: string): Promise<number> {
  if (config.msg_storage !== "sqlite") {
    printError(
      `msg_storage: ${JSON.stringify(config.msg_storage)} is no SQLite file; ` +
        "for MongoDB use its own mongodump",
    );
    return 2;
  }
  const from = resolve(config.sqlite.path);
  let saidMs = performance.now();
  await backupSqlite(from, resolve(to), (done) => {
    if (performance.now() - saidMs < PROGRESS_MS) return;
    saidMs = performance.now();
    printProgress(`backup: ${done}`);
  });
  printProgress(`backup: ${from} copied to ${resolve(to)}`);
  return 0;
}

async function exportAll(store: HistoryStore): Promise<number> {
  const messages = await exportHistory(
    store,
    stdoutSink(),
    (count) => printProgress(`export: ${count} messages`),
  );
  printProgress(`export: ${counted(messages)} from ${store.description}`);
  return 0;
}

async function importAll(store: HistoryStore): Promise<number> {
  const messages = await importHistory(
    Deno.stdin.readable,
    store,
    (count) => printProgress(`import: ${count} messages`),
  );
  printProgress(`import: ${counted(messages)} into ${store.description}`);
  return 0;
}

function counted(messages: number): string {
  return `${messages} ${messages === 1 ? "message" : "messages"}`;
}

function stdoutSink(): TextSink {
  const writer = Deno.stdout.writable.getWriter();
  const encoder = new TextEncoder();
  return { write: (text) => writer.write(encoder.encode(text)) };
}
