// Completions for shells, made of the commands as they are parsed.

import type { Command, Option } from "commander";

/** Shells that are known. */
export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = typeof SHELLS[number];

/** A command, and what is said of it; `command` is null where it has neither options nor arguments. */
export interface Completed {
  name: string;
  what: string;
  command: Command | null;
}

/** What may stand somewhere: one of some words, a file, or what nobody can know. */
type Values = readonly string[] | "files" | "any";

interface Flag {
  /** With its dashes. */
  long: string;
  short?: string;
  what: string;
  /** What follows it; null where nothing does. */
  values: Values | null;
}

/** The command that is meant where none is written. */
const DEFAULT = "serve";

/** The text for a shell to read. */
export function completionScript(shell: Shell, commands: readonly Completed[]): string {
  return { bash, zsh, fish }[shell](commands);
}

function flagsOf(command: Command | null): Flag[] {
  const help: Flag = { long: "--help", short: "-h", what: "what it does", values: null };
  const own = (command?.options ?? []).flatMap((option) => {
    const { long, short, description } = option;
    if (!long) return [];
    return [{ long, ...(short ? { short } : {}), what: description, values: valuesOf(option) }];
  });
  return [...own, help];
}

function valuesOf({ flags, argChoices, required, optional }: Option): Values | null {
  if (!required && !optional) return null;
  return argChoices ?? (flags.includes("<file>") ? "files" : "any");
}

/** What the first argument may be. */
function argumentOf(command: Command | null): Values {
  const [first] = command?.registeredArguments ?? [];
  return first?.argChoices ?? (first?.name() === "file" ? "files" : "any");
}

function bash(commands: readonly Completed[]): string {
  const names = commands.map(({ name }) => name);
  const after: string[] = [];
  const words: string[] = [];
  for (const { name, command } of commands) {
    const flags = flagsOf(command);
    for (const { long, short, values } of flags) {
      if (values === null) continue;
      const flag = short === undefined ? long : `${long}|${name}:${short}`;
      after.push(`    ${name}:${flag}) ${bashReply(values)}; return ;;`);
    }
    const all = flags.map(({ long }) => long).concat(name === DEFAULT ? names : []);
    const values = argumentOf(command);
    const more = typeof values === "string" ? [] : values;
    const files = values === "files"
      ? '; [[ $cur == -* ]] || COMPREPLY+=($(compgen -f -- "$cur"))'
      : "";
    words.push(`    ${name}) ${bashReply([...more, ...all])}${files} ;;`);
  }
  return `# Completions of pushd for bash; read them with: source <(pushd completions bash)
_pushd() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} command=${DEFAULT} i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case \${COMP_WORDS[i]} in
      ${names.join("|")}) command=\${COMP_WORDS[i]}; break ;;
    esac
  done
  case $command:$prev in
${after.join("\n")}
  esac
  case $command in
${words.join("\n")}
  esac
}
complete -o filenames -o bashdefault -F _pushd pushd
`;
}

function bashReply(values: Values): string {
  if (values === "any") return ":";
  if (values === "files") return 'COMPREPLY=($(compgen -f -- "$cur"))';
  return `COMPREPLY=($(compgen -W ${quoted(values.join(" "))} -- "$cur"))`;
}

function zsh(commands: readonly Completed[]): string {
  const list = commands.map(({ name, what }) => `    ${quoted(`${name}:${what}`)}`);
  const cases = commands.map(({ name, command }) => {
    const flags = flagsOf(command).map((flag) => zshFlag(flag));
    const values = argumentOf(command);
    const rest = name === DEFAULT ? [] : [quoted(`*:argument:${zshValues(values)}`)];
    return `    ${name}) _arguments ${[...flags, ...rest].join(" ")} ;;`;
  });
  return `#compdef pushd
# Completions of pushd for zsh; put them into a file _pushd in a folder of $fpath.
_pushd() {
  local -a commands=(
${list.join("\n")}
  )
  local command=${DEFAULT} i
  for ((i = 2; i < CURRENT; i++)); do
    if (( \${commands[(I)\${words[i]}:*]} )); then
      command=\${words[i]}
      words=("\${(@)words[1,i-1]}" "\${(@)words[i+1,-1]}")
      (( CURRENT-- ))
      break
    fi
  done
  if [[ $command == ${DEFAULT} && \${words[CURRENT]} != -* && \${words[CURRENT-1]} != --* ]]; then
    _describe command commands
    return
  fi
  case $command in
${cases.join("\n")}
  esac
}
if [[ $funcstack[1] == _pushd ]]; then _pushd "$@"; else compdef _pushd pushd; fi
`;
}

function zshFlag({ long, what, values }: Flag): string {
  const said = what.replace(/[[\]:\\]/g, "\\$&");
  return quoted(`*${long}[${said}]${values === null ? "" : `:value:${zshValues(values)}`}`);
}

function zshValues(values: Values): string {
  if (values === "files") return "_files";
  return values === "any" ? " " : `(${values.join(" ")})`;
}

function fish(commands: readonly Completed[]): string {
  const lines = [
    "# Completions of pushd for fish; put them into ~/.config/fish/completions/pushd.fish",
  ];
  const names = commands.map(({ name }) => name).join(" ");
  const none = `not __fish_seen_subcommand_from ${names}`;
  lines.push("complete -c pushd -f");
  for (const { name, what } of commands) {
    lines.push(`complete -c pushd -n ${quoted(none)} -a ${name} -d ${quoted(what)}`);
  }
  for (const { name, command } of commands) {
    const seen = name === DEFAULT
      ? `${none}; or __fish_seen_subcommand_from ${name}`
      : `__fish_seen_subcommand_from ${name}`;
    const begin = `complete -c pushd -n ${quoted(seen)}`;
    for (const { long, short, what, values } of flagsOf(command)) {
      const flag = `-l ${long.slice(2)}${short === undefined ? "" : ` -s ${short.slice(1)}`}`;
      lines.push(`${begin} ${flag}${fishValues(values)} -d ${quoted(what)}`);
    }
    const values = argumentOf(command);
    if (values !== "any") lines.push(`${begin}${values === "files" ? " -F" : fishWords(values)}`);
  }
  return `${lines.join("\n")}\n`;
}

function fishValues(values: Values | null): string {
  if (values === null) return "";
  if (values === "files") return " -r -F";
  return values === "any" ? " -x" : ` -x${fishWords(values)}`;
}

function fishWords(values: readonly string[]): string {
  return ` -a ${quoted(values.join(" "))}`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
