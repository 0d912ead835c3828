// The JSON form of answers and errors on the stats door.

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

/** `{"error":{"code","message"}}`; the message is a sentence for a person. */
export function jsonError(
  status: number,
  code: string,
  message: string,
  headers: Record<string, string> = {},
): Response {
  return jsonAnswer({ error: { code, message } }, status, headers);
}
