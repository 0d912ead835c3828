// Keeps tokens in memory, for as long as the process lives.

import type { FoundToken, TokenStore } from "../engine/ports/token_store.ts";

interface Token extends FoundToken {
  readonly hash: string;
  readonly expiresMs: number;
}

/** Keeps tokens in memory; they expire by the monotonic clock, so a clock that is set moves nothing. */
export class MemoryTokenStore implements TokenStore {
  readonly #tokens = new Map<string, Token>();
  /** Of each application, in order of expiry. */
  readonly #byApp = new Map<string, Token[]>();
  readonly #now: () => number;

  /** `now`: a monotonic clock, milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  put(
    { hash, app, user, ttlMs }: { hash: string; app: string; user: string; ttlMs: number },
    maxUnused: number,
  ): Promise<boolean> {
    const now = this.#now();
    const tokens = this.#byApp.get(app) ?? [];
    const expired = firstLater(tokens, now);
    for (const token of tokens.splice(0, expired)) this.#tokens.delete(token.hash);
    this.#remove(hash);
    if (tokens.length >= maxUnused) return Promise.resolve(false);
    const token = { hash, app, user, expiresMs: now + ttlMs };
    tokens.splice(firstLater(tokens, token.expiresMs), 0, token);
    this.#byApp.set(app, tokens);
    this.#tokens.set(hash, token);
    return Promise.resolve(true);
  }

  find(hash: string): Promise<FoundToken | undefined> {
    const token = this.#good(hash);
    return Promise.resolve(token && { app: token.app, user: token.user });
  }

  take(hash: string): Promise<boolean> {
    if (this.#good(hash) === undefined) return Promise.resolve(false);
    this.#remove(hash);
    return Promise.resolve(true);
  }

  #good(hash: string): Token | undefined {
    const token = this.#tokens.get(hash);
    return token !== undefined && token.expiresMs > this.#now() ? token : undefined;
  }

  #remove(hash: string): void {
    const token = this.#tokens.get(hash);
    if (token === undefined) return;
    this.#tokens.delete(hash);
    const tokens = this.#byApp.get(token.app) ?? [];
    let at = firstLater(tokens, token.expiresMs) - 1;
    while (at >= 0 && tokens[at] !== token) at--;
    if (at >= 0) tokens.splice(at, 1);
    if (tokens.length === 0) this.#byApp.delete(token.app);
  }
}

/** Index of the first token that expires later than `ms`. */
function firstLater(tokens: readonly Token[], ms: number): number {
  let low = 0;
  let high = tokens.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (tokens[middle].expiresMs <= ms) low = middle + 1;
    else high = middle;
  }
  return low;
}
