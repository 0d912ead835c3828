// The calls of the client commands: sub, pub, his, ping, bench.

import { Command, Option } from "commander";
import { WireError } from "../proto/errors.ts";
import { nameBytes } from "../proto/names.ts";
import { shorten } from "../proto/request.ts";
import { parseTimestamp } from "../proto/timestamps.ts";
import { parseServer } from "./client/addresses.ts";
import { type LoadShape, MIN_SIZE } from "./client/bench_plan.ts";
import type { ServerAddress } from "./client/conversation.ts";
import type { Identity } from "./client/identity.ts";
import { type NotRun, quiet, run, usageError } from "./command.ts";

/** What every client command is called with. */
export interface ClientArgs {
  servers: ServerAddress[];
  tls: boolean;
  /** A file of certificates of authorities, PEM. */
  tlsCa?: string;
  identity: Identity;
  json: boolean;
}

/** A call of a client command. */
export type ClientCall =
  | ClientArgs & { command: "sub"; channels: string[]; from?: string }
  | ClientArgs & { command: "pub"; channel: string; message?: string }
  | ClientArgs & { command: "his"; channel: string; from: string; limit?: number }
  | ClientArgs & { command: "ping" }
  | ClientArgs & LoadShape & { command: "bench"; rate: number; seconds: number };

interface SharedOptions {
  server?: string[];
  tls?: boolean;
  tlsCa?: string;
  app?: string;
  secretFile?: string;
  user?: string;
  token?: string;
  tokenCommand?: string;
  json?: boolean;
}

const DEFAULT_SERVER = "127.0.0.1:2222";

export function parseSub(args: string[]): ClientCall | NotRun {
  const command = client("sub", "CHANNEL… [--from TIMESTAMP]")
    .description(
      "Prints what is published on the channels, `<channel> <timestamp> <message>` a line. A connection " +
        "that is lost is made again, and what was missed comes first, each message once, as far as the " +
        "server keeps a history.",
    )
    .argument("<channel...>", "what to follow")
    .option("--from <timestamp>", "first what was kept after it; 0 for everything")
    .addHelpText("after", "\nExample:\n  pushd sub orders invoices --from 0 --json | jq .msg\n");
  return run(command, args, () => {
    const shared = sharedOf(command);
    if ("message" in shared) return shared;
    const { from } = command.opts<{ from?: string }>();
    const channels = [...new Set(command.args)];
    const fault = namesFault(channels) ?? timestampFault(from);
    if (fault !== null) return usageError(fault);
    return { command: "sub", ...shared, channels, ...(from === undefined ? {} : { from }) };
  });
}

export function parsePub(args: string[]): ClientCall | NotRun {
  const command = client("pub", "CHANNEL [MESSAGE]")
    .description(
      "Publishes MESSAGE and prints its timestamp; without it each line of standard input. Ends when the " +
        "server has accepted everything, with 1 where it refused something.",
    )
    .argument("<channel>", "where to")
    .argument("[message]", "what")
    .addHelpText(
      "after",
      "\nExamples:\n  pushd pub orders 'one more'\n  tail -f access.log | pushd pub log\n",
    );
  return run(command, args, () => {
    const shared = sharedOf(command);
    if ("message" in shared) return shared;
    const [channel, message] = command.args;
    const fault = namesFault([channel]) ?? (message === undefined ? null : lossFault(message));
    if (fault !== null) return usageError(fault);
    return { command: "pub", ...shared, channel, ...(message === undefined ? {} : { message }) };
  });
}

export function parseHis(args: string[]): ClientCall | NotRun {
  const command = client("his", "CHANNEL [--from TIMESTAMP] [--limit N]")
    .description("Prints what the channel has kept, oldest first, `<timestamp> <message>` a line.")
    .argument("<channel>", "whose")
    .option("--from <timestamp>", "what was kept at it or after it", "0")
    .option("--limit <n>", "the first N; without it all")
    .addHelpText("after", "\nExample:\n  pushd his orders --from 1795884497 --limit 10\n");
  return run(command, args, () => {
    const shared = sharedOf(command);
    if ("message" in shared) return shared;
    const { from, limit } = command.opts<{ from: string; limit?: string }>();
    const [channel] = command.args;
    const fault = namesFault([channel]) ?? timestampFault(from);
    if (fault !== null) return usageError(fault);
    if (limit !== undefined && !/^[1-9]\d{0,14}$/.test(limit)) {
      return usageError(`--limit ${JSON.stringify(limit)}: write a number from 1 on`);
    }
    const call = { command: "his" as const, ...shared, channel, from };
    return limit === undefined ? call : { ...call, limit: Number(limit) };
  });
}

export function parsePing(args: string[]): ClientCall | NotRun {
  const command = client("ping")
    .description(
      "Asks the server whether it is there, within a few seconds; 0 when it has answered, else 1: for " +
        "scripts, and for what looks after a container.",
    )
    .addHelpText("after", "\nExample:\n  pushd ping --server localhost:2222\n");
  return run(command, args, () => {
    const shared = sharedOf(command);
    return "message" in shared ? shared : { command: "ping", ...shared };
  });
}

export function parseBench(args: string[]): ClientCall | NotRun {
  const command = client("bench")
    .description(
      "Puts a load on the server, and says how much of it went through how fast, whether anything was " +
        "lost, and whether all of it was in order; 1 where not. Its channels begin with `bench.`, and the " +
        "messages are kept as any others.",
    );
  for (const [name, , what, unset] of BENCH_NUMBERS) {
    command.option(`--${name} <n>`, what, `${unset}`);
  }
  command.addHelpText(
    "after",
    "\nExamples:\n  pushd bench --subs 100\n  pushd bench --rate 20000 --channels 100 --json\n",
  );
  return run(command, args, () => {
    const shared = sharedOf(command);
    if ("message" in shared) return shared;
    const options = command.opts<Record<string, string>>();
    const numbers: Record<string, number> = {};
    for (const [name, { least, most }] of BENCH_NUMBERS) {
      const text = options[name];
      const value = /^\d{1,9}$/.test(text) ? Number(text) : NaN;
      if (!(value >= least && value <= most)) {
        return usageError(
          `--${name} ${JSON.stringify(text)}: write a number from ${least} to ${most}`,
        );
      }
      numbers[name] = value;
    }
    const { pubs, subs, channels, size, rate, seconds } = numbers;
    return { command: "bench", ...shared, pubs, subs, channels, size, rate, seconds };
  });
}

const BENCH_NUMBERS = [
  ["pubs", { least: 1, most: 10_000 }, "publishers", 1],
  ["subs", { least: 0, most: 100_000 }, "subscribers, spread over the channels", 1],
  ["channels", { least: 1, most: 1_000_000 }, "channels", 1],
  ["size", { least: MIN_SIZE, most: 1_000_000 }, "bytes of a message", 64],
  [
    "rate",
    { least: 0, most: 10_000_000 },
    "messages a second of all publishers; 0 for all that go",
    0,
  ],
  ["seconds", { least: 1, most: 86_400 }, "how long", 10],
] as const;

function client(name: string, usage = ""): Command {
  return quiet(new Command(`pushd ${name}`))
    .usage(`${usage} [options]`.trim())
    .addOption(
      new Option("--server <host:port>", `a server; several are tried in turn (${DEFAULT_SERVER})`)
        .argParser((text: string, before: string[] = []) => [...before, text]),
    )
    .option("--tls", "the server's TLS door")
    .option("--tls-ca <file>", "believe the authorities in this PEM file, too")
    .option("--app <id>", "as the server of this application, with --secret-file")
    .option("--secret-file <file>", "holds the application's secret")
    .option("--user <name>", "as this user, with --token-command or --token")
    .option("--token-command <command>", "prints a new token; run for each connection")
    .option("--token <token>", "good for one connection")
    .option("--json", "a JSON object a line");
}

/** What the shared options say, or what is wrong with them. */
function sharedOf(command: Command): ClientArgs | { command: "usage_error"; message: string } {
  const options = command.opts<SharedOptions>();
  const servers: ServerAddress[] = [];
  for (const text of options.server ?? [DEFAULT_SERVER]) {
    const server = parseServer(text);
    if (server === null) {
      return usageError(`--server ${JSON.stringify(shorten(text))}: write host:port`);
    }
    servers.push(server);
  }
  const identity = identityOf(options);
  if (typeof identity === "string") return usageError(identity);
  const { tls = false, tlsCa, json = false } = options;
  if (tlsCa !== undefined && !tls) return usageError("--tls-ca goes with --tls");
  return { servers, tls, identity, json, ...(tlsCa === undefined ? {} : { tlsCa }) };
}

/** Who the caller is, or what is wrong with how that was said. */
function identityOf(options: SharedOptions): Identity | string {
  const { app, secretFile, user, token, tokenCommand } = options;
  if (app !== undefined && user !== undefined) return "--app or --user, not both";
  if (app !== undefined) {
    if (secretFile === undefined) return "--app needs --secret-file";
    if (token !== undefined || tokenCommand !== undefined) return "a token goes with --user";
    return nameFault(app, "application") ?? { kind: "app", id: app, secretFile };
  }
  if (secretFile !== undefined) return "--secret-file goes with --app";
  if (user !== undefined) {
    if (token !== undefined && tokenCommand !== undefined) {
      return "--token or --token-command, not both";
    }
    const fault = nameFault(user, "user");
    if (fault !== null) return fault;
    if (tokenCommand !== undefined) {
      return { kind: "user", name: user, token: { kind: "command", command: tokenCommand } };
    }
    if (token === undefined) return "--user needs --token-command or --token";
    return { kind: "user", name: user, token: { kind: "given", token, isUsed: false } };
  }
  if (token !== undefined || tokenCommand !== undefined) return "a token goes with --user";
  return { kind: "nobody" };
}

function namesFault(channels: readonly string[]): string | null {
  for (const channel of channels) {
    const fault = nameFault(channel, "channel");
    if (fault !== null) return fault;
  }
  return null;
}

function nameFault(name: string, what: string): string | null {
  const loss = lossFault(name);
  if (loss !== null) return loss;
  try {
    nameBytes(name, what);
    return null;
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    return `${JSON.stringify(shorten(name))}: ${error.message}`;
  }
}

/** The runtime puts U+FFFD in the place of what is no UTF-8 in an argument, and nobody knows what that was. */
function lossFault(text: string): string | null {
  return text.includes("\ufffd")
    ? `${JSON.stringify(shorten(text))}: an argument that is no UTF-8, or holds U+FFFD; ` +
      "give a message like that on standard input"
    : null;
}

function timestampFault(text: string | undefined): string | null {
  if (text === undefined) return null;
  try {
    parseTimestamp(text);
    return null;
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    return `--from: ${error.message}`;
  }
}
