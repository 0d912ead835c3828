// One request to the stats door, on a connection of its own that does not stay.

import type { Pushd } from "./harness.ts";

/** What a visit found. */
export interface Visit {
  status: number;
  text: string;
  /** From before the connection was made until the answer was there. */
  ms: number;
}

/** Asks for `path`; throws where it is refused, or not answered within 5 s. */
export async function visitStats({ statsPort }: Pushd, path: string): Promise<Visit> {
  using client = Deno.createHttpClient({ poolMaxIdlePerHost: 0 });
  const startMs = performance.now();
  const signal = AbortSignal.timeout(5000);
  const response = await fetch(`http://127.0.0.1:${statsPort}${path}`, { client, signal });
  const text = await response.text();
  return { status: response.status, text, ms: performance.now() - startMs };
}
