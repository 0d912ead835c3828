// Loads the configuration: file, environment and command line into one checked Config, or every mistake.

import { crossCheck } from "./cross_checks.ts";
import { valuesFromCommandLine, valuesFromEnv } from "./from_env.ts";
import { valuesFromFile } from "./from_file.ts";
import type { Given, Steps } from "./given.ts";
import { FileFault, isThere, readConfigFile } from "./read_file.ts";
import { rememberTexts } from "./redact.ts";
import { plain, Report, shown } from "./report.ts";
import { assemble, type Config, defaultOf, type KeyName, specOf } from "./schema.ts";
import type { Raw } from "./value_types.ts";

/** Read when no file is named and this one is there. */
export const DEFAULT_PATH = "etc/pushd.cf";

/** Where {@link loadConfig} looks. */
export interface LoadOptions {
  /** The file; without it {@link DEFAULT_PATH} where that is there, else the defaults. */
  path?: string | null;
  /** The text of the file, when it is not to be read; `path` then only names it. */
  text?: string;
  /** The environment; of it only `PUSHD_…` is looked at. */
  env?: Readonly<Record<string, string>>;
  /** What the command line sets, in the form of the file, by key (`sqlite.path` for one in a section). */
  overrides?: Readonly<Record<string, string>>;
}

/**
 * What came of loading. Mistakes and warnings are one line each and never hold a secret. `source` names
 * for people what was read: the path, or `defaults`. `path` is the file, null for the defaults; the next
 * time is to read {@link pathToRead} of it.
 */
export type LoadResult =
  & ({ ok: true; config: Config } | { ok: false; mistakes: string[] })
  & { warnings: string[]; source: string; path: string | null };

/**
 * The file to read: `path`, which somebody named or which was read before, so that a file that is gone
 * is a mistake and never silently the defaults; without one, {@link DEFAULT_PATH} where that is there,
 * else null, the defaults. `exists` is for tests.
 */
export function pathToRead(
  path: string | null,
  exists: (path: string) => boolean = isThere,
): string | null {
  return path ?? (exists(DEFAULT_PATH) ? DEFAULT_PATH : null);
}

/**
 * Loads the configuration. The environment wins over the file, the command line over both. Nothing is
 * thrown for what an operator can do wrong: all mistakes come back at once (of a file that is not
 * Hjson, the first), each with file and line or variable, key, value, and what would be right.
 */
export function loadConfig(options: LoadOptions = {}): LoadResult {
  const { env = {}, overrides = {} } = options;
  const report = new Report();
  const named = options.path ?? null;
  const path = options.text === undefined ? pathToRead(named) : named;
  const source = plain(path ?? (options.text === undefined ? "defaults" : "configuration"));

  const wrong = new Set<KeyName>();
  const winners = new Map<KeyName, Given>();
  const values = new Map<KeyName, unknown>();
  const take = (given: Given) => {
    const { type, secret } = specOf(given.name);
    const result = type.schema.safeParse(given.raw);
    if (result.success) {
      winners.set(given.name, given);
      values.set(given.name, result.data);
      return;
    }
    wrong.add(given.name);
    for (const issue of result.error.issues) {
      const hidden = secret && issue.path.at(-1) !== "id";
      const value = shown(partOf(given.raw, issue.path), { secret: hidden });
      report.mistake(given.place(issue.path), value, issue.message);
    }
  };

  const text = options.text ?? (path === null ? null : readText(path, source, report));
  if (text !== null) {
    const { given, refused } = valuesFromFile(text.replace(/^\uFEFF/, ""), source, report);
    refused.forEach((name) => wrong.add(name));
    given.forEach(take);
    sortByLine(report.mistakes, source);
  }
  valuesFromEnv(env, report).forEach(take);
  valuesFromCommandLine(overrides, report).forEach(take);

  const config = assemble(values);
  const placeOf = (name: KeyName, steps: Steps) => winners.get(name)?.place(steps) ?? name;
  const found = crossCheck(config, wrong);
  for (const { keys, steps, message } of found.mistakes) {
    report.mistake(placeOf(keys[0], steps), message);
  }
  for (const { keys, steps, message } of found.warnings) {
    report.warn(placeOf(keys[0], steps), message);
  }
  for (const given of winners.values()) warnNotYet(given, values.get(given.name), report);

  const { mistakes, warnings } = report;
  if (mistakes.length > 0) return { ok: false, mistakes, warnings, source, path };
  rememberTexts(config, new Map([...winners].map(([name, { raw }]) => [name, raw])));
  return { ok: true, config, warnings, source, path };
}

function readText(path: string, source: string, report: Report): string | null {
  try {
    return readConfigFile(path);
  } catch (error) {
    if (!(error instanceof FileFault)) throw error;
    report.mistake(error.line === null ? source : `${source}:${error.line}`, error.message);
    return null;
  }
}

/** Says of a key that this version cannot serve what happens instead; not of one left at its default. */
function warnNotYet(given: Given, value: unknown, report: Report): void {
  const { notYet, secret } = specOf(given.name);
  const instead = typeof notYet === "function" ? notYet(given.raw) : notYet;
  if (instead === undefined || instead === null) return;
  if (JSON.stringify(value) === JSON.stringify(defaultOf(given.name))) return;
  const text = shown(given.raw, { secret });
  report.warn(given.place(), text, `is not yet in this version: ${instead}`);
}

/** The part of a value that an issue is about; undefined where it is missing. */
function partOf(raw: Raw, steps: Steps): Raw | undefined {
  let part: Raw | undefined = raw;
  for (const step of steps) {
    if (typeof part !== "object" || part === null) return undefined;
    part = (part as Record<PropertyKey, Raw | undefined>)[step];
  }
  return part;
}

/** Brings lines about the file into its order; it has been looked through more than once. */
function sortByLine(mistakes: string[], file: string): void {
  const lineOf = (mistake: string) => {
    const rest = mistake.startsWith(`${file}:`) ? mistake.slice(file.length + 1) : "";
    return Number.parseInt(rest, 10) || 0;
  };
  mistakes.sort((a, b) => lineOf(a) - lineOf(b));
}
