// The typed configuration that the key table describes, its defaults, and the text form of its values.

import type { KeySpec } from "./key_spec.ts";
import { KEYS } from "./keys.ts";
import type { ValueType } from "./value_types.ts";

export { type Group, GROUPS, type KeySpec } from "./key_spec.ts";
export { KEYS, WITHOUT_EFFECT } from "./keys.ts";
export type { App } from "./value_types.ts";
export type { ListenAddr } from "./values.ts";

type Keys = typeof KEYS;
type ValueOf<S> = S extends { type: ValueType<infer T> } ? T : never;
type Leaves<P extends string> = {
  [K in keyof Keys as K extends `${P}.${infer Leaf}` ? Leaf : never]: ValueOf<Keys[K]>;
};
type TopLevel = {
  [K in keyof Keys as K extends `${string}.${string}` ? never : K]: ValueOf<Keys[K]>;
};

/** `sqlite: { … }` of the file. */
export interface SqliteConfig extends Leaves<"sqlite"> {}
/** `mongodb: { … }` of the file. */
export interface MongodbConfig extends Leaves<"mongodb"> {}

/**
 * A configuration that has passed every check. Field names are those of the file; durations are whole
 * milliseconds, sizes bytes, addresses {@link ListenAddr} or null for off, `max_connections` null where
 * the server has to work it out, `node_id` `""` likewise.
 */
export interface Config extends TopLevel {
  sqlite: SqliteConfig;
  mongodb: MongodbConfig;
}

/** The name of a key in the table, such as `auth` or `sqlite.path`. */
export type KeyName = keyof Keys;

/** Every key, in the order of the documentation. */
export const KEY_NAMES: readonly KeyName[] = Object.keys(KEYS) as KeyName[];

/** Sections of the file: `sqlite`, `mongodb`. */
export const SECTIONS: readonly string[] = [
  ...new Set(KEY_NAMES.filter((name) => name.includes(".")).map((name) => name.split(".")[0])),
];

/** The row of a key, its type of value forgotten. */
export function specOf(name: KeyName): KeySpec {
  // ValueType is used covariantly here except for `format`, which gets back what its schema gave.
  return KEYS[name] as KeySpec;
}

/** Whether `name` is a key of the table. */
export function isKeyName(name: string): name is KeyName {
  return Object.hasOwn(KEYS, name);
}

/** The value that a key has when nobody sets it. */
export function defaultOf(name: KeyName): unknown {
  const { type, default: fallback } = specOf(name);
  return fallback === null ? null : type.schema.parse(fallback);
}

/** Makes a {@link Config} of checked values by key; keys without one get their default. */
export function assemble(values: ReadonlyMap<KeyName, unknown>): Config {
  const config: Record<string, unknown> = {};
  for (const name of KEY_NAMES) {
    const value = values.has(name) ? values.get(name) : defaultOf(name);
    const dot = name.indexOf(".");
    if (dot === -1) {
      config[name] = value;
      continue;
    }
    const section = (config[name.slice(0, dot)] ??= {}) as Record<string, unknown>;
    section[name.slice(dot + 1)] = value;
  }
  // Every key is there, and each value came from its key's own schema.
  return config as unknown as Config;
}

/** The defaults, with some values set otherwise: for tests, and for a server without a file. */
export function defaultConfig(changes: Partial<Config> = {}): Config {
  return { ...assemble(new Map()), ...changes };
}

/** The value of a key in a configuration. */
export function valueOf(config: Config, name: KeyName): unknown {
  const [first, leaf] = name.split(".");
  const value: unknown = config[first as keyof Config];
  return leaf === undefined ? value : (value as Record<string, unknown>)[leaf];
}
