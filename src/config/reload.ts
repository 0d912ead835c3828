// What a reload changes: the running configuration and one newly loaded, into the one in force afterwards.

import { isClustered } from "./clustered.ts";
import { crossCheck, type Finding } from "./cross_checks.ts";
import { inheritTexts, type Shown, shownOf } from "./redact.ts";
import { plain, quoted } from "./report.ts";
import {
  type App,
  assemble,
  type Config,
  KEY_NAMES,
  type KeyName,
  specOf,
  valueOf,
} from "./schema.ts";

/** Longest value, or list of them, that a line shows in full, in characters. */
const MAX_VALUE = 100;

/** Items of a list that a line names. */
const MAX_NAMED = 10;

/** A key whose value the file, the environment or the command line says otherwise than before. */
export interface Change {
  readonly name: KeyName;
  /** For the log, without secrets: `max_line_bytes: 64KiB -> 128KiB`. */
  readonly text: string;
}

/** What a reload comes to; see {@link planReload}. Every line is without secrets. */
export type ReloadPlan =
  | {
    readonly ok: true;
    /** What is in force afterwards. */
    readonly config: Config;
    /** The keys that the reload applies. */
    readonly changes: readonly Change[];
    /** The keys that stay as they are until a restart. */
    readonly needRestart: readonly Change[];
    /** What is to be said of values that stay, together with others; `loaded` itself was warned of. */
    readonly warnings: readonly string[];
  }
  | { readonly ok: false; readonly mistakes: readonly string[] };

/**
 * Compares `loaded`, which has passed every check, with `current`, which is in force: a changed key that
 * a reload applies is taken from `loaded`, another stays and needs a restart. The two together have to
 * pass the checks between keys, too; when they do not, nothing is applied, and each mistake names the
 * keys that need a restart first. Neither argument is changed.
 */
export function planReload(current: Config, loaded: Config): ReloadPlan {
  const changed = KEY_NAMES.filter((name) =>
    !isSame(valueOf(current, name), valueOf(loaded, name))
  );
  // To stand alone, or not to: what a reload applies to a cluster does not make one, or end it.
  const isOther = isClustered(current) !== isClustered(loaded);
  const waiting = new Set(
    changed.filter((name) =>
      !specOf(name).reload || (isOther && (name === "etc_servers" || name === "s2s_peers"))
    ),
  );
  const originOf = (name: KeyName) => waiting.has(name) ? current : loaded;
  const config = assemble(new Map(KEY_NAMES.map((name) => [name, valueOf(originOf(name), name)])));
  inheritTexts(config, originOf);

  const found = crossCheck(config);
  const lineOf = ({ keys, message }: Finding, restart: string) => {
    const stay = keys.filter((name) => waiting.has(name))
      .map((name) => `${name} (now ${textOf(shownOf(current, name))})`);
    return `${keys[0]}: ${message}; ${restart} ${stay.join(" and ")}`;
  };
  if (found.mistakes.length > 0) {
    const restart = "the file is right by itself, but a restart is needed first for";
    return { ok: false, mistakes: found.mistakes.map((finding) => lineOf(finding, restart)) };
  }
  const describe = (name: KeyName) => ({
    name,
    text: `${name}: ${difference(name, current, loaded)}`,
  });
  return {
    ok: true,
    config,
    changes: changed.filter((name) => !waiting.has(name)).map(describe),
    needRestart: [...waiting].map(describe),
    warnings: found.warnings.filter(({ keys }) => keys.some((name) => waiting.has(name)))
      .map((finding) => lineOf(finding, "a restart is needed for")),
  };
}

/** The changes as one line: `token_ttl: 10m -> 5m; stats_token: changed`. */
export function describeChanges(changes: readonly Change[]): string {
  return changes.map(({ text }) => text).join("; ");
}

/** Whether two values of a key mean the same: `text` is only how an address was written. */
function isSame(a: unknown, b: unknown): boolean {
  const meaning = (value: unknown) =>
    JSON.stringify(value, (key, part) => key === "text" ? undefined : part);
  return meaning(a) === meaning(b);
}

function difference(name: KeyName, before: Config, after: Config): string {
  if (name === "apps") return appDifference(before.apps, after.apps);
  const [from, to] = [shownOf(before, name), shownOf(after, name)];
  const [fromText, toText] = [textOf(from), textOf(to)];
  // Secrets, and very long texts, look the same.
  if (fromText === toText) return "changed";
  const isLong = fromText.length > MAX_VALUE || toText.length > MAX_VALUE;
  if (isLong && Array.isArray(from) && Array.isArray(to)) {
    return listDifference(from.map(textOf), to.map(textOf)).join("; ") || "in another order";
  }
  return `${fromText} -> ${toText}`;
}

function appDifference(before: readonly App[], after: readonly App[]): string {
  const secrets = new Map(before.map(({ id, secret }) => [id, secret]));
  const renewed = after.filter(({ id, secret }) => (secrets.get(id) ?? secret) !== secret);
  const ids = (apps: readonly App[]) => apps.map(({ id }) => textOf(id));
  const parts = [
    ...listDifference(ids(before), ids(after)),
    ...named("new secret for", ids(renewed)),
  ];
  return parts.join("; ") || "in another order";
}

function listDifference(before: readonly string[], after: readonly string[]): string[] {
  const [old, young] = [new Set(before), new Set(after)];
  return [
    ...named("added", after.filter((item) => !old.has(item))),
    ...named("removed", before.filter((item) => !young.has(item))),
  ];
}

/** `added a, b and 3 more`, or nothing without items. */
function named(what: string, items: readonly string[]): string[] {
  if (items.length === 0) return [];
  const more = items.length > MAX_NAMED ? ` and ${items.length - MAX_NAMED} more` : "";
  return [`${what} ${items.slice(0, MAX_NAMED).join(", ")}${more}`];
}

/** A value on a line: as the file says it, in quotes where it would not be plain, cut where it is long. */
function textOf(value: Shown): string {
  if (value === null) return "not set";
  if (Array.isArray(value)) return `[${value.map(textOf).join(", ")}]`;
  if (typeof value !== "string") return `${value}`;
  return value.length > MAX_VALUE ? quoted(value) : plain(value);
}
