// Parameters of a request's query, checked.

import type { Context } from "hono";
import { jsonError } from "./answers.ts";

/** A parameter is not what it may be; the message says what is right. */
export class QueryFault extends Error {
  override readonly name = "QueryFault";
}

/** The parameter's text; undefined where it is not there. Throws a {@link QueryFault} where it is there twice. */
function single(c: Context, name: string): string | undefined {
  const texts = c.req.queries(name) ?? [];
  if (texts.length > 1) throw new QueryFault(`${name}: given ${texts.length} times; give it once`);
  return texts[0];
}

/** A whole number from 1 to `most`. Throws a {@link QueryFault}. */
export function countOf(c: Context, name: string, unset: number, most: number): number {
  const text = single(c, name);
  if (text === undefined) return unset;
  if (/^[1-9]\d{0,8}$/.test(text) && Number(text) <= most) return Number(text);
  throw new QueryFault(`${name}: write a whole number from 1 to ${most}`);
}

/** One of some words. Throws a {@link QueryFault}. */
export function wordOf<T extends string>(
  c: Context,
  name: string,
  unset: T,
  words: readonly T[],
): T {
  const text = single(c, name);
  if (text === undefined) return unset;
  const word = words.find((known) => known === text);
  if (word !== undefined) return word;
  throw new QueryFault(`${name}: write one of ${words.join(", ")}`);
}

/** A text of at most `most` characters. Throws a {@link QueryFault}. */
export function textOf(c: Context, name: string, most: number): string {
  const text = single(c, name) ?? "";
  const [, raw = ""] = new RegExp(`[?&]${name}=([^&#]*)`).exec(c.req.url) ?? [];
  try {
    decodeURIComponent(raw);
  } catch {
    // Hono leaves it as it is.
    throw new QueryFault(`${name}: write it percent-encoded as UTF-8, a % as %25`);
  }
  if (text.length <= most) return text;
  throw new QueryFault(`${name}: write at most ${most} characters`);
}

/** The answer to a fault. */
export function queryError({ message }: QueryFault): Response {
  return jsonError(400, "bad-argument", message);
}
