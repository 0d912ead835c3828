// The JSON form of answers and errors on the stats door.

import { Slices } from "../core/slices.ts";

const JSON_TYPE = "application/json; charset=utf-8";

/** How long a client should wait before it asks again after a 503, in seconds. */
const RETRY_AFTER_S = "1";

/** A JSON answer; 503 gets a `Retry-After`. */
export function jsonAnswer(
  body: unknown,
  status = 200,
  headers: Record<string, string> = {},
): Response {
  const all: Record<string, string> = { "Content-Type": JSON_TYPE, ...headers };
  if (status === 503) all["Retry-After"] = RETRY_AFTER_S;
  return new Response(`${JSON.stringify(body)}\n`, { status, headers: all });
}

/** Items of a list that are written before a look at the clock. */
const ITEMS_AT_ONCE = 200;

/** As {@linkcode jsonAnswer} of a list that may be long: others have their turn while it is written. */
export async function jsonListAnswer(items: readonly unknown[]): Promise<Response> {
  const slices = new Slices();
  const parts: string[] = [];
  for (let at = 0; at < items.length; at += ITEMS_AT_ONCE) {
    // Without its brackets.
    parts.push(JSON.stringify(items.slice(at, at + ITEMS_AT_ONCE)).slice(1, -1));
    if (slices.isOver) await slices.turn();
  }
  return new Response(`[${parts.join(",")}]\n`, { headers: { "Content-Type": JSON_TYPE } });
}

/** `{"error":{"code","message"}}`; the message is a sentence for a person. */
export function jsonError(
  status: number,
  code: string,
  message: string,
  headers: Record<string, string> = {},
): Response {
  return jsonAnswer({ error: { code, message } }, status, headers);
}
