// The types of values that a key of the configuration can have, as zod schemas over what a source gives.

import * as z from "zod";
import {
  formatDuration,
  formatSize,
  parseCount,
  parseDuration,
  parseListenAddr,
  parseSecret,
  parseSize,
  ValueFault,
} from "./values.ts";
import type { ListenAddr } from "./values.ts";

/**
 * What a source (file, environment, command line) gives for a key. Numbers come as the digits that
 * were written, since `1e3` and `0x10` are told from `1000` by their text only.
 */
export type Raw = string | boolean | null | Raw[] | { [key: string]: Raw };

/** A type of value: how it is read, named in the documentation, and written back. */
export interface ValueType<T> {
  /** Takes a {@link Raw}; its issues say what would be right and never hold the value. */
  readonly schema: z.ZodType<T>;
  /** What the key takes, in the words of the documentation. */
  readonly takes: string;
  /** Whether the key holds one value, or a list. */
  readonly list: boolean;
  /** A value as the file says it, where the type alone does not tell what it looks like. */
  readonly example?: string;
  /** Whether a text of digits alone stands for a number. */
  readonly digits?: boolean;
  /** Keys of the objects in the list, where it is one of objects. */
  readonly itemKeys?: readonly string[];
  /** The text form of a value. */
  format(value: T): Raw;
}

/** A type whose values are one text each; `parse` throws a {@link ValueFault}. */
function scalar<T>(
  takes: string,
  parse: (text: string) => T,
  format: (value: T) => Raw = (value) => `${value}`,
): ValueType<T> {
  const schema = z.unknown().transform((raw, ctx): T => {
    try {
      if (typeof raw === "string") return parse(raw);
      throw new ValueFault(wrongKind(raw, takes));
    } catch (error) {
      if (!(error instanceof ValueFault)) throw error;
      ctx.addIssue({ code: "custom", message: error.message });
      return z.NEVER;
    }
  });
  return { schema, takes, list: false, format };
}

function wrongKind(raw: unknown, takes: string): string {
  if (raw === undefined) return `missing; ${takes} is needed`;
  if (raw === null) return `expected is ${takes}; to have the default, leave the key out`;
  if (typeof raw === "boolean") {
    return `expected is ${takes}; if the word itself is meant, quote it`;
  }
  return `expected is ${takes}, not ${Array.isArray(raw) ? "a list" : "a section"}`;
}

/** The longest time for what waits on one timer, ms: 2^31, 24.9 days, is at once for the runtime. */
export const MAX_TIMER_MS = 24 * 24 * 3_600_000;

/** A duration in milliseconds; `0` only where `zero` is set. */
export function duration(
  limits: { zero?: boolean; minMs?: number; maxMs?: number } = {},
): ValueType<number> {
  const { zero = false, minMs = 1, maxMs = Infinity } = limits;
  const parse = (text: string) => {
    const ms = parseDuration(text);
    if (zero && ms === 0) return ms;
    if (ms < minMs) throw new ValueFault(`too short; write ${formatDuration(minMs)} or more`);
    if (ms > maxMs) throw new ValueFault(`too long; write ${formatDuration(maxMs)} or less`);
    return ms;
  };
  const takes = zero ? "a duration, or 0" : "a duration";
  return { ...scalar(takes, parse, formatDuration), digits: true };
}

/** A size in bytes. */
export function size(min: number, max: number): ValueType<number> {
  const parse = (text: string) => {
    const bytes = parseSize(text);
    if (bytes < min || bytes > max) {
      throw new ValueFault(`out of range; write ${formatSize(min)} to ${formatSize(max)}`);
    }
    return bytes;
  };
  return { ...scalar("a size", parse, formatSize), digits: true };
}

/** A whole number. */
export function count(min: number, max = 1_000_000_000): ValueType<number> {
  const parse = (text: string) => {
    const value = parseCount(text);
    if (value < min || value > max) throw new ValueFault(`out of range; write ${min} to ${max}`);
    return value;
  };
  return { ...scalar("a number", parse), digits: true };
}

/** As {@link count}, or not set, which is null. */
export function optionalCount(min: number, max: number): ValueType<number | null> {
  const { schema, takes } = count(min, max);
  return {
    schema: schema.transform((value): number | null => value),
    takes,
    list: false,
    digits: true,
    format: (value) => value === null ? null : `${value}`,
  };
}

/** `true` or `false`. */
export function flag(): ValueType<boolean> {
  const schema = z.unknown().transform((raw, ctx): boolean => {
    if (raw === true || raw === "true") return true;
    if (raw === false || raw === "false") return false;
    ctx.addIssue({ code: "custom", message: "write true or false" });
    return z.NEVER;
  });
  return { schema, takes: "true or false", list: false, format: (value) => value };
}

/** One of a few words. */
export function oneOf<const W extends string>(...words: W[]): ValueType<W> {
  const takes = words.map((word) => JSON.stringify(word)).join(", ").replace(
    /, (?=[^,]*$)/,
    " or ",
  );
  return scalar(takes, (text) => {
    const word = words.find((known) => known === text);
    if (word === undefined) throw new ValueFault(`write ${takes}`);
    return word;
  });
}

/** One of a few whole numbers. */
export function oneOfCounts<const N extends number>(...counts: N[]): ValueType<N> {
  const takes = counts.join(" or ");
  const type = scalar(takes, (text) => {
    const value = counts.find((known) => `${known}` === text);
    if (value === undefined) throw new ValueFault(`write ${takes}`);
    return value;
  });
  return { ...type, digits: true };
}

/** Any text; `parse` checks it. Where `empty` is set, `""` passes unchecked. */
export function text(
  takes: string,
  parse: (text: string) => string,
  options: { empty?: boolean } = {},
): ValueType<string> {
  return scalar(takes, (value) => {
    if (value !== "") return parse(value);
    if (options.empty) return value;
    throw new ValueFault(`empty; ${takes} is needed`);
  });
}

/** An address; `parse` is that of a listener or of a peer. */
export function address(
  parse: (text: string) => ListenAddr = parseListenAddr,
): ValueType<ListenAddr> {
  return scalar("an address", parse, (addr) => addr.text);
}

/** An address, or `""` for off, which is null. */
export function optionalAddress(
  parse: (text: string) => ListenAddr = parseListenAddr,
): ValueType<ListenAddr | null> {
  return scalar(
    'an address, or ""',
    (value) => value === "" ? null : parse(value),
    (addr) => addr === null ? "" : addr.text,
  );
}

/** A list of texts, or of addresses. `one` names an item, `example` shows it. */
export function list<T>(
  one: { plural: string; example: string },
  parse: (text: string) => T,
  format: (item: T) => Raw = (item) => `${item}`,
): ValueType<T[]> {
  const item = scalar(one.example, (value) => {
    if (value === "") throw new ValueFault(`empty; write ${one.example}`);
    return parse(value);
  });
  return {
    schema: z.array(item.schema, { error: `not a list; write ["${one.example}"]` }),
    takes: `a list of ${one.plural}`,
    list: true,
    example: `["${one.example}"]`,
    format: (value) => value.map(format),
  };
}

/** An application whose server may ask for tokens. */
export interface App {
  id: string;
  secret: string;
}

/** The list of applications. That ids differ is checked where their lines are known. */
export function appList(parseId: (text: string) => string): ValueType<App[]> {
  const app = z.object({
    id: text("an id", parseId).schema,
    secret: text("a secret", parseSecret).schema,
  }, { error: 'not an application; write { id: "chat", secret: "…" }' });
  return {
    schema: z.array(app, { error: 'not a list; write [{ id: "chat", secret: "…" }]' }),
    takes: "a list of applications",
    list: true,
    example: '[{ id: "chat", secret: "…" }]',
    itemKeys: ["id", "secret"],
    format: (apps) => apps.map(({ id }) => ({ id, secret: "***" })),
  };
}
