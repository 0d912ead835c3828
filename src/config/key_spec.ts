// What is known of a key of the configuration beside its value, and the groups that keys stand in.

import type { Raw, ValueType } from "./value_types.ts";

/** What is known of a key beside its name. */
export interface KeySpec<T = unknown> {
  readonly group: Group;
  readonly type: ValueType<T>;
  /** In the form of the file; null where the server works the default out, see `defaultNote`. */
  readonly default: Raw;
  /** What the default is, where it is no fixed value. */
  readonly defaultNote?: string;
  /** Whether a reload applies a changed value; otherwise a restart does. */
  readonly reload: boolean;
  /** Sentences for docs/configuration.md, in which words in backticks are code. */
  readonly meaning: string;
  /** Never printed. */
  readonly secret: boolean;
  /** What happens instead, for a key (or, as a function, a value) that this version cannot serve yet. */
  readonly notYet?: string | ((value: Raw) => string | null);
}

/** The groups of docs/configuration.md, in its order. */
export const GROUPS = {
  clients: "Where clients come in",
  limits: "Limits",
  auth: "Who may connect",
  history: "History",
  cluster: "Cluster",
  stats: "Statistics",
  web: "Web door",
  stop: "Stopping",
} as const;

export type Group = keyof typeof GROUPS;

/** Marks a key that a reload applies. */
export const RELOAD = { reload: true } as const;

/** Makes the row of a key; `fallback` is its default. */
export function key<T>(
  group: Group,
  type: ValueType<T>,
  fallback: Raw,
  meaning: string,
  more: Partial<Pick<KeySpec<T>, "reload" | "secret" | "notYet" | "defaultNote">> = {},
): KeySpec<T> {
  return { group, type, default: fallback, meaning, reload: false, secret: false, ...more };
}
