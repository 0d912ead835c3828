// The command line: what was called, with which options, or what is wrong with the call.

import { Argument, Command, Option } from "commander";
import { nearest } from "../config/nearest.ts";
import {
  type ClientCall,
  parseBench,
  parseHis,
  parsePing,
  parsePub,
  parseSub,
} from "./client_args.ts";
import { commandOf, helpOf, type NotRun, quiet, run, usageError } from "./command.ts";
import { completionScript, type Shell, SHELLS } from "./completions.ts";
import { parseTop, type TopCall } from "./top/args.ts";

/** From what level on the log is written. */
export type Level = "debug" | "info" | "warn" | "error";

/** `pushd [serve]`. */
export interface ServeArgs {
  command: "serve";
  /** The configuration file, where one was named. */
  conf?: string;
  level: Level;
  /** A file that is appended to, or `stdout`. */
  log: string;
  logFormat: "text" | "json";
  /** Keys of the configuration that the command line sets, in the form of the file. */
  overrides: Record<string, string>;
}

/** What the command line asks for. The caller chooses the exit code; for a usage error that is 2. */
export type Parsed =
  | ServeArgs
  | { command: "check_config"; file?: string }
  | { command: "sample_config" }
  | { command: "completions"; script: string }
  | { command: "backup"; to: string; conf?: string }
  | { command: "export" | "import"; conf?: string }
  | { command: "dev_cluster"; count: number; level: Level }
  | ClientCall
  | TopCall
  | NotRun;

const HERE: Record<string, string> = {
  serve: "run the server (also without any command)",
  "check-config": "read the configuration as a start would and say what is wrong with it",
  "sample-config": "print a configuration file with every key, its meaning and its default",
  backup: "copy the SQLite history to a file, also while the server runs",
  storage: "export or import the history as JSON lines",
  sub: "follow channels, over any number of connections, each message once",
  pub: "publish a message, or each line of standard input",
  his: "print the history of a channel",
  ping: "ask a server whether it is there",
  bench: "put a load on a server, and see what goes through",
  "dev-cluster": "several nodes on this machine, linked, for trying out",
  top: "a live screen of a running server: rates, nodes, channels, slow consumers",
  completions: "print what bash, zsh or fish needs to complete commands and options",
  version: "print the versions of pushd and Deno, and the platform",
  help: "print this",
};

/** Nodes of `dev-cluster`, and at most so many. */
const DEV_NODES = 3;
const MAX_DEV_NODES = 20;

/** Options by their long name, with whether a value follows. The original wrote them with one dash. */
const OPTIONS = new Map([
  ["conf", true],
  ["level", true],
  ["log", true],
  ["log-format", true],
  ["stats", true],
  ["stats-token", true],
  ["interval", true],
  ["version", false],
  ["help", false],
]);

const PARSERS: Record<string, (args: string[]) => Parsed> = {
  serve: parseServe,
  "check-config": parseCheckConfig,
  "sample-config": parseSampleConfig,
  backup: parseBackup,
  storage: parseStorage,
  "dev-cluster": parseDevCluster,
  sub: parseSub,
  pub: parsePub,
  his: parseHis,
  ping: parsePing,
  bench: parseBench,
  top: parseTop,
  completions: parseCompletions,
};

/** Reads the arguments, without the program's name. Never throws for what a caller can do wrong. */
export function parseArgs(argv: readonly string[]): Parsed {
  const args = withLongOptions(argv);
  const at = commandAt(args);
  const name = at === -1 ? "serve" : args[at];
  const rest = at === -1 ? args : args.toSpliced(at, 1);
  if (name === "version") return { command: "version" };
  if (name === "help") return { command: "help", text: helpOf(serveCommand()) };
  const parse = Object.hasOwn(PARSERS, name) ? PARSERS[name] : undefined;
  if (parse !== undefined) return parse(rest);
  const known = nearest(name, Object.keys(HERE));
  return {
    command: "usage_error",
    message: `unknown command ${
      JSON.stringify(name)
    }; the nearest is "${known}", and \`pushd help\` names all`,
  };
}

function parseServe(args: string[]): Parsed {
  const command = serveCommand();
  return run(command, args, () => {
    const { conf, level, log, logFormat } = command.opts<
      { conf?: string; level: Level; log: string; logFormat: "text" | "json" }
    >();
    if (conf === "") return usageError("--conf needs the name of a file");
    if (log === "") return usageError('--log needs the name of a file, or "stdout"');
    const serve: ServeArgs = { command: "serve", level, log, logFormat, overrides: {} };
    return conf === undefined ? serve : { ...serve, conf };
  });
}

function parseCheckConfig(args: string[]): Parsed {
  const command = quiet(new Command("pushd check-config"))
    .usage("[FILE]")
    .description(`Reads FILE as a start would, prints every mistake and warning, and exits 0 or 2.`)
    .argument("[file]", "the configuration; without it etc/pushd.cf where that is there")
    .option("--conf <file>", "the same");
  return run(command, args, () => {
    const { conf } = command.opts<{ conf?: string }>();
    const [named] = command.args;
    if (conf !== undefined && named !== undefined) return usageError("one file at a time");
    const file = named ?? conf;
    if (file === "") return usageError("check-config needs the name of a file, or none");
    return file === undefined ? { command: "check_config" } : { command: "check_config", file };
  });
}

function parseSampleConfig(args: string[]): Parsed {
  const command = quiet(new Command("pushd sample-config"))
    .description("Prints a configuration file that sets nothing and explains every key.")
    .addHelpText("after", "\nExample:\n  pushd sample-config > pushd.cf\n");
  return run(command, args, () => ({ command: "sample_config" }));
}

function parseBackup(args: string[]): Parsed {
  const command = quiet(new Command("pushd backup"))
    .usage("FILE [--conf FILE]")
    .description(
      "Copies the SQLite history of the configuration to FILE, consistently, also while the server " +
        "runs. FILE must not exist yet.",
    )
    .argument("<file>", "the copy")
    .option("--conf <file>", "the configuration; without it etc/pushd.cf where that is there")
    .addHelpText("after", "\nExample:\n  pushd backup /backup/pushd-monday.db\n");
  return run(command, args, () => {
    const { conf } = command.opts<{ conf?: string }>();
    const [to] = command.args;
    if (conf === "") return usageError("--conf needs the name of a file");
    if (to === "") return usageError("backup needs the name of a file");
    return conf === undefined ? { command: "backup", to } : { command: "backup", to, conf };
  });
}

function parseStorage(args: string[]): Parsed {
  const command = quiet(new Command("pushd storage"))
    .usage("export|import [--conf FILE]")
    .description(
      "Writes the history of the configuration to standard output, a JSON object a line (app, " +
        "channel, ts, node, from, msg), or puts such lines from standard input into it.",
    )
    .addArgument(new Argument("<direction>", "which way").choices(["export", "import"]))
    .option("--conf <file>", "the configuration; without it etc/pushd.cf where that is there")
    .addHelpText(
      "after",
      "\nExample, from SQLite to MongoDB:\n" +
        "  pushd storage export | PUSHD_MSG_STORAGE=mongodb pushd storage import\n",
    );
  return run(command, args, () => {
    const { conf } = command.opts<{ conf?: string }>();
    const [direction] = command.processedArgs as ["export" | "import"];
    if (conf === "") return usageError("--conf needs the name of a file");
    return conf === undefined ? { command: direction } : { command: direction, conf };
  });
}

function parseDevCluster(args: string[]): Parsed {
  const command = quiet(new Command("pushd dev-cluster"))
    .usage("[N] [--level LEVEL]")
    .description(
      `Runs N nodes (${DEV_NODES}) on this machine, linked, with ports and files of their own, and says ` +
        "what to type. Ctrl-C ends them and removes their files.",
    )
    .argument("[n]", `how many, at most ${MAX_DEV_NODES}`, `${DEV_NODES}`)
    .addOption(
      new Option("--level <level>", "how much is logged")
        .choices(["debug", "info", "warn", "error"]).default("warn"),
    );
  return run(command, args, () => {
    const { level } = command.opts<{ level: Level }>();
    const [text] = command.processedArgs as [string];
    const count = Number(text);
    if (!/^[1-9]\d*$/.test(text) || count > MAX_DEV_NODES) {
      return usageError(
        `dev-cluster ${JSON.stringify(text)}: write a number from 1 to ${MAX_DEV_NODES}`,
      );
    }
    return { command: "dev_cluster", count, level };
  });
}

function parseCompletions(args: string[]): Parsed {
  const command = quiet(new Command("pushd completions"))
    .usage("bash|zsh|fish")
    .description("Prints the completions of commands and options for a shell.")
    .addArgument(new Argument("<shell>", "which").choices(SHELLS))
    .addHelpText("after", "\nExample, for this shell only:\n  source <(pushd completions bash)\n");
  return run(command, args, () => {
    const [shell] = command.processedArgs as [Shell];
    const commands = Object.entries(HERE).map(([name, what]) => ({
      name,
      what,
      command: Object.hasOwn(PARSERS, name) ? commandOf(PARSERS[name]) : null,
    }));
    return { command: "completions", script: completionScript(shell, commands) };
  });
}

function serveCommand(): Command {
  const commands = Object.entries(HERE).map(([name, what]) => `  ${name.padEnd(22)} ${what}`);
  return quiet(new Command("pushd"))
    .usage("[serve] [options]")
    .description("A pub/sub server for anyone with a TCP socket.")
    .option("--conf <file>", "the configuration; without it etc/pushd.cf where that is there")
    .addOption(
      new Option("--level <level>", "how much is logged")
        .choices(["debug", "info", "warn", "error"]).default("info"),
    )
    .option("--log <file>", 'where the log goes: a file, or "stdout"', "stdout")
    .addOption(
      new Option("--log-format <format>", "of the log").choices(["text", "json"]).default("text"),
    )
    .option("-v, --version", "print the version")
    .helpOption("-h, --help", "print this")
    .addHelpText("after", `\nCommands:\n${commands.join("\n")}\n`);
}

/** The arguments, the original's `-conf FILE` and `-level=x` written with two dashes. */
function withLongOptions(argv: readonly string[]): string[] {
  const args = [...argv];
  for (let i = 0; i < args.length && args[i] !== "--"; i++) {
    const option = optionOf(args[i]);
    if (option === null) continue;
    args[i] = args[i].replace(/^--?/, "--");
    if (option.valueFollows) i++;
  }
  return args;
}

/** Where the command stands: at the first word that is neither an option nor the value of one; or -1. */
function commandAt(args: readonly string[]): number {
  for (let i = 0; i < args.length; i++) {
    if (args[i] === "--") return i + 1 < args.length ? i + 1 : -1;
    const option = optionOf(args[i]);
    if (option?.valueFollows) i++;
    else if (!args[i].startsWith("-") || args[i] === "-") return i;
    // What follows an option that nobody knows may be its value.
    else if (option === null && !/^-[vh]$/.test(args[i])) return -1;
  }
  return -1;
}

/** The known option that `arg` is, written with one dash or two; null for anything else. */
function optionOf(arg: string): { valueFollows: boolean } | null {
  const [, name, value] = /^--?([a-z-]+)(=.*)?$/s.exec(arg) ?? [];
  const takesValue = name === undefined ? undefined : OPTIONS.get(name);
  return takesValue === undefined ? null : { valueFollows: takesValue && value === undefined };
}
