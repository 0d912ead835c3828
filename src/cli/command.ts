// What every command's parser does with commander: no printing, no exit, errors as one line.

import { Command, CommanderError } from "commander";
import { nearest } from "../config/nearest.ts";

/** What comes of a call that runs nothing. */
export type NotRun =
  | { command: "version" }
  | { command: "help"; text: string }
  | { command: "usage_error"; message: string };

/** Keeps commander from printing and from ending the process. */
export function quiet(command: Command): Command {
  return command
    .exitOverride()
    .configureOutput({ writeOut: () => {}, writeErr: () => {} })
    .allowExcessArguments(false);
}

/** Thrown by {@linkcode run} instead of parsing: what the command is. */
class Described {
  constructor(readonly command: Command) {}
}

const DESCRIBE: string[] = [];

/** The command that `parse` parses by, with its options and arguments. */
export function commandOf(parse: (args: string[]) => unknown): Command {
  try {
    parse(DESCRIBE);
  } catch (error) {
    if (error instanceof Described) return error.command;
    throw error;
  }
  throw new Error("a parser that does not call run()");
}

/** Parses `args` by `command`; what is called for is made by `result`, once they are right. */
export function run<T>(
  command: Command,
  args: string[],
  result: () => T,
): T | NotRun {
  if (args === DESCRIBE) throw new Described(command);
  try {
    command.parse(args, { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code === "commander.helpDisplayed") {
      return { command: "help", text: helpOf(command) };
    }
    return usageError(messageOf(error, command));
  }
  return command.opts<{ version?: boolean }>().version ? { command: "version" } : result();
}

/** The text of `--help`. */
export function helpOf(command: Command): string {
  let text = "";
  command.configureOutput({ writeOut: (part) => void (text += part) });
  command.outputHelp();
  return text.trimEnd();
}

/** Commander's message on one line; for an unknown option always with the nearest known one. */
function messageOf(error: CommanderError, command: Command): string {
  const text = error.message.replace(/^error: /, "").replace(/\s*\n\s*/g, " ");
  const unknown = error.code === "commander.unknownOption" && /'(.*?)'/s.exec(text)?.[1];
  if (!unknown) return text;
  const known = ["-h", "--help", ...command.options.flatMap(({ short, long }) => [short, long])]
    .filter((flag) => flag !== undefined);
  return `unknown option ${JSON.stringify(unknown)}; the nearest is ${nearest(unknown, known)}`;
}

/** The answer to a wrong call. */
export function usageError(message: string): { command: "usage_error"; message: string } {
  return { command: "usage_error", message };
}
