// Writes docs/configuration.md and etc/pushd.cf.sample from the key table; with --check only compares.
// deno-lint-ignore-file no-console

import { fileForm, notYetText, renderSample } from "../src/config/sample.ts";
import { GROUPS, KEY_NAMES, type KeyName, specOf, WITHOUT_EFFECT } from "../src/config/schema.ts";

const INTRO = `# Configuration

<!-- Written by scripts/gen_config_docs.ts from the key table in src/config; edit that. -->

pushd needs no configuration: without one every key below has its default. To change some, write them into a file and start \`pushd --conf FILE\`. Without \`--conf\` it reads \`etc/pushd.cf\` where that is there. A file with every key, each with its default, is \`etc/pushd.cf.sample\`.

Try a file before a start with \`pushd check-config FILE\`: it prints every mistake and warning and exits 0, or 2 when a start would be refused.

## Where values come from

1. The file.
2. The environment, which wins over the file: \`PUSHD_\` and the key in capitals, with \`_\` for the dot of a section: \`PUSHD_TCP_LISTEN_ADDR\`, \`PUSHD_SQLITE_PATH\`. The value stands there without quotes. Lists are written with commas (\`PUSHD_ALLOWED_HOSTS=a.example.org,b.example.org\`) or as Hjson (\`PUSHD_APPS='[{"id": "chat", "secret": "…"}]'\`). A \`PUSHD_…\` that no key has is warned of; \`PUSHD_TEST_…\` and \`PUSHD_BIN\` belong to the project's own tests and are left alone.
3. The command line, which wins over both where it names the same.

Relative paths are taken from the working directory of the process.

## How to write the file

The file is [Hjson](https://hjson.github.io) in UTF-8: JSON with comments (\`#\`, \`//\`, \`/* … */\`), keys without quotes, and commas and outer braces that may be left out. A file of the original pushd is read as it is.

    # everybody in the house network may connect
    tcp_listen_addr: "0.0.0.0:2222"
    session_timeout: 5m
    allowed_hosts: ["push.example.org", "push.example.com"]
    sqlite: {
      path: "/var/lib/pushd/history.db"
    }

**Values without quotes run to the end of their line**, comma, comment and closing bracket included. That is Hjson's rule, and it is easily forgotten, so pushd refuses such a value and names the line:

| written | right |
| ------- | ----- |
| \`auth: on,\` | \`auth: on\` or \`auth: "on",\` |
| \`session_timeout: 5m # short\` | \`session_timeout: "5m" # short\`, or the comment on a line of its own |
| \`tcp_listen_addr: :2222\` | \`tcp_listen_addr: ":2222"\` |
| \`allowed_hosts: [a.org, b.org]\` | \`allowed_hosts: ["a.org", "b.org"]\` |
| \`sqlite: { path: a.db }\` | \`sqlite: { path: "a.db" }\`, or the brace on a line of its own |

Plain numbers, \`true\` and \`false\` end where they end; \`tcp_backlog: 4096, # more\` is fine. When in doubt, quote.

| value | how to write it |
| ----- | --------------- |
| duration | whole numbers with units, largest first: \`500ms\`, \`5s\`, \`2m\`, \`1h30m\`; at most \`876000h\`. \`0\` where the key gives it a meaning |
| size | \`64KiB\`, \`8MiB\`, \`1GiB\`, or a number of bytes |
| number | decimal digits and nothing else: \`4096\`, not \`0x1000\`, \`4e3\` or \`4_096\` |
| address | \`host:port\`; \`":port"\` for every interface, IPv4 and IPv6; \`"[::1]:port"\` for an IPv6 address. Port 0 takes a free port, and the log says which |
| text | in quotes, or without them to the end of the line |
| list | \`["a", "b"]\`, or each item on a line of its own |

## What a wrong file gets

Nothing starts, or on a reload nothing changes, and for each mistake there is one line with file, line, key, value and what would be right; after a syntax error only that one. The exit code of a start is 2.

    etc/pushd.cf:12: session_timeout: "5": not a duration; write whole numbers with a unit, such as 500ms, 5s, 2m or 1h30m

A key that is given twice is a mistake, also where one of the two is in quotes. A key that nobody knows is left out with a warning that names the nearest known one. Secrets are shown as \`***\` wherever a value is printed.

## Command line

    pushd [serve] [--conf FILE] [--level debug|info|warn|error] [--log FILE|stdout] [--log-format text|json]
    pushd check-config [FILE]
    pushd sample-config
    pushd backup FILE [--conf FILE]
    pushd storage export|import [--conf FILE]
    pushd dev-cluster [N]
    pushd sub|pub|his|ping|bench …
    pushd completions bash|zsh|fish
    pushd --version
    pushd --help

\`-v\` and \`-h\` are short for the last two. The single-dash forms of the original (\`-conf FILE\`, \`-level debug\`, \`-log FILE\`) work too. The log goes to standard output, at level \`info\`, as text, unless these options say otherwise. \`backup\` and \`storage\` work on the history that the configuration names; [operations.md](operations.md) has examples. The clients are described in [tools.md](tools.md).

| exit code | meaning |
| --------- | ------- |
| 0 | done; also an orderly stop of the server, by Ctrl-C or \`SIGTERM\` |
| 1 | failed, such as an address that cannot be listened on, or messages that were acknowledged and could not be stored at the stop |
| 2 | called or configured wrongly |

## Keys

`;

const RELOAD_TEXT =
  "A reload (`SIGHUP`, or the file changing) applies the keys with _yes_ in the column _reload_; for any other key it says that a restart is needed.";

/** docs/configuration.md. */
export function renderMarkdown(): string {
  const notYet = "Keys that say _not yet_ are read and checked, and warned of when they are set.";
  const groups = Object.entries(GROUPS).map(([group, title]) => {
    const names = KEY_NAMES.filter((name) => specOf(name).group === group);
    return `### ${title}\n\n${keyTable(names)}`;
  });
  const unused = "### Without effect\n\n" +
    "Keys of the original that mean nothing any more; they are read, and reported as having no effect: " +
    `${WITHOUT_EFFECT.map((name) => `\`${name}\``).join(", ")}.\n`;
  const intro = INTRO.replace(/(?:^\|.*\n)+/gm, (rows) => alignTable(parseTable(rows)));
  return `${intro}${RELOAD_TEXT} ${notYet}\n\n${[...groups, unused].join("\n")}`;
}

function keyTable(names: readonly KeyName[]): string {
  const rows = names.map((name) => {
    const { type, reload, defaultNote, meaning, default: fallback } = specOf(name);
    const standard = defaultNote ?? `\`${fileForm(name, fallback)}\``;
    const notYet = notYetText(name);
    const text = notYet === null ? meaning : `${meaning} _Not yet: ${notYet}._`;
    const takes = type.example === undefined
      ? type.takes
      : `${type.takes}, such as \`${type.example}\``;
    return [`\`${name}\``, takes, standard, reload ? "yes" : "", text];
  });
  return alignTable([["key", "takes", "default", "reload", "meaning"], ...rows]);
}

function parseTable(rows: string): string[][] {
  const cells = rows.trimEnd().split("\n").map((row) =>
    row.split(/(?<!\\)\|/).slice(1, -1).map((cell) => cell.trim())
  );
  return cells.filter((_, i) => i !== 1);
}

/** A table as `deno fmt` writes it: every column as wide as its widest cell. */
function alignTable(rows: readonly string[][]): string {
  const widths = rows[0].map((_, i) => Math.max(3, ...rows.map((row) => row[i].length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i])).join(" | ")} |\n`;
  const [head, ...body] = rows;
  return line(head) + line(widths.map((width) => "-".repeat(width))) + body.map(line).join("");
}

/** The files that are generated, by their path from the root of the project. */
export function generate(): Record<string, string> {
  return { "docs/configuration.md": renderMarkdown(), "etc/pushd.cf.sample": renderSample() };
}

/** The generated files that are not on disk as they should be. */
export async function drifted(root: URL): Promise<string[]> {
  const found: string[] = [];
  for (const [path, text] of Object.entries(generate())) {
    const onDisk = await Deno.readTextFile(new URL(path, root)).catch(() => null);
    if (onDisk !== text) found.push(path);
  }
  return found;
}

if (import.meta.main) {
  const root = new URL("../", import.meta.url);
  if (Deno.args.includes("--check")) {
    const stale = await drifted(root);
    for (const path of stale) {
      console.error(`${path} is not what the key table says; run scripts/gen_config_docs.ts`);
    }
    if (stale.length > 0) Deno.exit(1);
  } else {
    for (const [path, text] of Object.entries(generate())) {
      const file = new URL(path, root);
      await Deno.mkdir(new URL(".", file), { recursive: true });
      await Deno.writeTextFile(file, text);
      console.log(`wrote ${path}`);
    }
  }
}
