// Takes keys of the configuration out of the environment and the command line.

import { type Given, givenBySource, rawOf } from "./given.ts";
import { scanHjson } from "./hjson_lines.ts";
import { nearest } from "./nearest.ts";
import { plain, type Report, shown } from "./report.ts";
import { isKeyName, KEY_NAMES, type KeyName, specOf, WITHOUT_EFFECT } from "./schema.ts";
import type { Raw } from "./value_types.ts";

const PREFIX = "PUSHD_";
const TAKEN_NAMES = new Map<string, KeyName>(KEY_NAMES.map((name) => [variableOf(name), name]));
const KNOWN_NAMES = [...TAKEN_NAMES.keys()];

/** The environment variable of a key: `PUSHD_SQLITE_PATH` for `sqlite.path`. */
export function variableOf(name: string): string {
  return PREFIX + name.toUpperCase().replaceAll(".", "_");
}

/** The values that `PUSHD_…` variables hold, in the order of the key table. */
export function valuesFromEnv(env: Readonly<Record<string, string>>, report: Report): Given[] {
  for (const variable of Object.keys(env).sort()) {
    if (!variable.startsWith(PREFIX) || TAKEN_NAMES.has(variable)) continue;
    // Those are for the tests of pushd.
    if (variable.startsWith("PUSHD_TEST_") || variable === "PUSHD_BIN") continue;
    if (WITHOUT_EFFECT.some((name) => variableOf(name) === variable)) {
      report.warn(variable, "has no effect; it can be taken out");
    } else {
      report.warn(
        plain(variable),
        `no such key, left out; the nearest known name is ${nearest(variable, KNOWN_NAMES)}`,
      );
    }
  }
  const given: Given[] = [];
  for (const [variable, name] of TAKEN_NAMES) {
    if (!Object.hasOwn(env, variable)) continue;
    const raw = rawOfText(env[variable], name, variable, report);
    if (raw !== undefined) given.push(givenBySource(name, raw, variable));
  }
  return given;
}

/** The values that the command line names, by key. A key that does not exist is a programming error. */
export function valuesFromCommandLine(
  overrides: Readonly<Record<string, string>>,
  report: Report,
): Given[] {
  return Object.entries(overrides).flatMap(([name, text]) => {
    if (!isKeyName(name)) throw new TypeError(`no key is named ${name}`);
    const source = `command line: ${name}`;
    const raw = rawOfText(text, name, source, report);
    return raw === undefined ? [] : [givenBySource(name, raw, source)];
  });
}

/** The value in a text: as it stands, or for a list, Hjson or items between commas. */
function rawOfText(text: string, name: KeyName, source: string, report: Report): Raw | undefined {
  const { type, secret } = specOf(name);
  if (!type.list) return text;
  const trimmed = text.trim();
  // "[::1]:2223" begins like a list and is an address.
  if (type.itemKeys === undefined && (!trimmed.startsWith("[") || /^\[[^\]]*\]:/.test(trimmed))) {
    return trimmed === "" ? [] : trimmed.split(",").map((item) => item.trim());
  }
  if (trimmed === "") return [];
  const scan = scanHjson(trimmed);
  if (scan.ok && scan.root.kind === "array") return rawOf(scan.root);
  report.mistake(
    source,
    shown(text, { secret }),
    type.itemKeys === undefined
      ? 'not a list; write the items with commas between them, or ["…", "…"] with quotes'
      : 'not a list; write [{ "id": "…", "secret": "…" }] with quotes',
  );
  return undefined;
}
