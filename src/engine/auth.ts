// Who may do what: applications and their secrets, tokens, and the price of guessing.

import { Buffer } from "node:buffer";
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { WireError } from "../proto/errors.ts";

/** Settings of {@link Auth}; durations in milliseconds. */
export interface AuthOptions {
  /** Whether clients must authenticate. */
  required: boolean;
  apps: readonly { id: string; secret: string }[];
  tokenTtlMs: number;
  /** Unused tokens per application. */
  maxUnusedTokens: number;
  /** Monotonic clock, milliseconds. */
  now?: () => number;
}

/** Wrong tries per address and minute that are answered at once. */
const FREE_FAILURES = 5;
const FAILURE_WINDOW_MS = 60_000;
const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 5_000;
/** Addresses whose failures are remembered; the oldest is forgotten beyond. */
const MAX_ADDRESSES = 100_000;
const TOKEN_BYTES = 32;

interface Token {
  user: string;
  expiresMs: number;
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

/** Issues and takes tokens, and checks secrets. Tokens are kept as hashes only. */
export class Auth {
  readonly required: boolean;

  #secrets: Map<string, Buffer>;
  #ttlMs: number;
  #maxUnused: number;
  #now: () => number;
  /** By application; within one, in the order of issue and so of expiry. */
  #tokens = new Map<string, Map<string, Token>>();
  #failures = new Map<string, { sinceMs: number; count: number }>();

  constructor(options: AuthOptions) {
    this.required = options.required;
    this.#secrets = new Map(options.apps.map(({ id, secret }) => [id, sha256(secret)]));
    this.#ttlMs = options.tokenTtlMs;
    this.#maxUnused = options.maxUnusedTokens;
    this.#now = options.now ?? (() => performance.now());
  }

  /** Whether any application is configured. */
  get hasApps(): boolean {
    return this.#secrets.size > 0;
  }

  /** Whether `secret` is that of the application `id`; takes the same time for any wrong pair. */
  checkSecret(id: string, secret: string): boolean {
    const given = sha256(secret);
    const expected = this.#secrets.get(id);
    return timingSafeEqual(given, expected ?? sha256("")) && expected !== undefined;
  }

  /**
   * A new token for `user` in the application: 32 random bytes in base64url, good for one `auth`.
   * Throws `too-busy` when too many wait unused.
   */
  issue(app: string, user: string): string {
    let tokens = this.#tokens.get(app);
    if (tokens === undefined) this.#tokens.set(app, tokens = new Map());
    const now = this.#now();
    for (const [key, token] of tokens) {
      if (token.expiresMs > now) break;
      tokens.delete(key);
    }
    if (tokens.size >= this.#maxUnused) {
      throw new WireError(
        "too-busy",
        `${tokens.size} tokens wait unused (max_unused_tokens); try again when some have expired`,
      );
    }
    const token = randomBytes(TOKEN_BYTES).toString("base64url");
    tokens.set(sha256(token).toString("base64"), { user, expiresMs: now + this.#ttlMs });
    return token;
  }

  /** The application in which `token` is good for `user`, or undefined. Uses up nothing. */
  find(user: string, token: string): string | undefined {
    const key = sha256(token).toString("base64");
    for (const [app, tokens] of this.#tokens) {
      const found = tokens.get(key);
      if (found === undefined) continue;
      const good = found.expiresMs > this.#now() &&
        timingSafeEqual(sha256(found.user), sha256(user));
      return good ? app : undefined;
    }
    return undefined;
  }

  /** Uses up a token that {@link find} has found. Returns false when it is gone. */
  take(app: string, token: string): boolean {
    return this.#tokens.get(app)?.delete(sha256(token).toString("base64")) ?? false;
  }

  /** Counts a wrong try from `address` and returns for how long its answer is held back, ms. */
  failureDelayMs(address: string): number {
    const now = this.#now();
    let entry = this.#failures.get(address);
    if (entry === undefined || now - entry.sinceMs > FAILURE_WINDOW_MS) {
      this.#failures.delete(address);
      entry = { sinceMs: now, count: 0 };
      this.#failures.set(address, entry);
      if (this.#failures.size > MAX_ADDRESSES) {
        for (const oldest of this.#failures.keys()) {
          this.#failures.delete(oldest);
          break;
        }
      }
    }
    entry.count++;
    if (entry.count <= FREE_FAILURES) return 0;
    return Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** (entry.count - FREE_FAILURES - 1));
  }
}
