// The configuration as it may be shown: as in the file, defaults filled in, secrets hidden.

import { maskUserinfo } from "./report.ts";
import { type Config, KEY_NAMES, type KeyName, specOf, valueOf } from "./schema.ts";
import type { Raw } from "./value_types.ts";

/** What {@link redact} returns: plain JSON. */
export type Shown = string | number | boolean | null | Shown[] | { [key: string]: Shown };

/** How values were written, by the configuration that came of it. */
const textsOf = new WeakMap<Config, ReadonlyMap<KeyName, Raw>>();

/** Keeps the text forms of the keys that somebody set, for {@link redact}. */
export function rememberTexts(config: Config, texts: ReadonlyMap<KeyName, Raw>): void {
  textsOf.set(config, texts);
}

/** Keeps for `config` the text forms of the configurations that its values came from. */
export function inheritTexts(config: Config, originOf: (name: KeyName) => Config): void {
  const texts = new Map<KeyName, Raw>();
  for (const name of KEY_NAMES) {
    const text = textsOf.get(originOf(name))?.get(name);
    if (text !== undefined) texts.set(name, text);
  }
  rememberTexts(config, texts);
}

/**
 * `config` for `/s/stat` and the log: every key, values as they were written or else as the file would
 * say them, `***` for a secret that is not empty. `max_connections` is null and `node_id` `""` where
 * nobody set them.
 */
export function redact(config: Config): { [key: string]: Shown } {
  const sections: Record<string, Record<string, Shown>> = { "": {} };
  for (const name of KEY_NAMES) {
    const value = shownOf(config, name);
    const [first, leaf] = name.split(".");
    if (leaf === undefined) sections[""][first] = value;
    else (sections[first] ??= {})[leaf] = value;
  }
  const { "": topLevel, ...rest } = sections;
  return { ...topLevel, ...rest };
}

/** The value of one key, as {@link redact} shows it. */
export function shownOf(config: Config, name: KeyName): Shown {
  const { type, secret } = specOf(name);
  const value = valueOf(config, name);
  // Lists of objects hide their secrets themselves.
  if (type.itemKeys !== undefined) return type.format(value);
  const raw = textsOf.get(config)?.get(name) ?? type.format(value);
  if (name === "mongodb.url" && typeof raw === "string") return maskMongoUrl(raw);
  if (secret) return raw === "" ? "" : "***";
  return type.digits && typeof raw === "string" && /^\d+$/.test(raw) ? Number(raw) : raw;
}

/** A connection string without user, password, and options that can hold further secrets. */
function maskMongoUrl(url: string): string {
  return maskUserinfo(url).replace(
    /([?&][^=&]*(?:password|authmechanismproperties)[^=&]*=)[^&]*/gi,
    "$1***",
  );
}
