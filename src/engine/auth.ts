// Who may do what: applications and their secrets, tokens, and the price of guessing.

import type { Buffer } from "node:buffer";
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { networkOf } from "../core/ip_address.ts";
import { type ErrorCode, WireError } from "../proto/errors.ts";
import { DEFAULT_APP } from "./channel_table.ts";
import { StoreError } from "./ports/history_store.ts";
import type { TokenStore } from "./ports/token_store.ts";

/** What may change while the server runs; durations in milliseconds. */
export interface AuthLimits {
  apps: readonly { id: string; secret: string }[];
  tokenTtlMs: number;
  /** Unused tokens per application. */
  maxUnusedTokens: number;
}

/** Settings of {@link Auth}. */
export interface AuthOptions extends AuthLimits {
  /** Whether clients must authenticate. */
  required: boolean;
  tokens: TokenStore;
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

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

function hashOf(token: string): string {
  return sha256(token).toString("base64url");
}

/** Issues and takes tokens, and checks secrets. Tokens are kept as hashes only. */
export class Auth {
  readonly required: boolean;

  #secrets = new Map<string, Buffer>();
  #ttlMs = 0;
  #maxUnused = 0;
  #now: () => number;
  #tokens: TokenStore;
  #failures = new Map<string, { sinceMs: number; count: number }>();

  constructor(options: AuthOptions) {
    this.required = options.required;
    this.#tokens = options.tokens;
    this.#now = options.now ?? (() => performance.now());
    this.setLimits(options);
  }

  /** Takes other applications and bounds. Tokens that have been given out keep their time. */
  setLimits({ apps, tokenTtlMs, maxUnusedTokens }: AuthLimits): void {
    this.#secrets = new Map(apps.map(({ id, secret }) => [id, sha256(secret)]));
    this.#ttlMs = tokenTtlMs;
    this.#maxUnused = maxUnusedTokens;
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
   * Rejects with `too-busy` when too many wait unused, or they cannot be kept now.
   */
  async issue(app: string, user: string): Promise<string> {
    const token = randomBytes(TOKEN_BYTES).toString("base64url");
    const record = { hash: hashOf(token), app, user, ttlMs: this.#ttlMs };
    const isKept = await this.#ask("too-busy", () => this.#tokens.put(record, this.#maxUnused));
    if (isKept) return token;
    throw new WireError(
      "too-busy",
      `${this.#maxUnused} tokens wait unused (max_unused_tokens); try again when some have expired`,
    );
  }

  /**
   * The application in which `token` is good for `user`, or undefined. Uses up nothing. Rejects with
   * `storage-unavailable`.
   */
  async find(user: string, token: string): Promise<string | undefined> {
    const found = await this.#ask("storage-unavailable", () => this.#tokens.find(hashOf(token)));
    if (found === undefined || !this.isKnown(found.app)) return undefined;
    return timingSafeEqual(sha256(found.user), sha256(user)) ? found.app : undefined;
  }

  /** Whether there is such an application: a token can outlive its own. */
  isKnown(app: string): boolean {
    return app === DEFAULT_APP || this.#secrets.has(app);
  }

  /**
   * Uses up a token that {@link find} has found. Resolves to false when it is gone; rejects with
   * `storage-unavailable`.
   */
  take(token: string): Promise<boolean> {
    return this.#ask("storage-unavailable", () => this.#tokens.take(hashOf(token)));
  }

  async #ask<T>(code: ErrorCode, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      throw new WireError(
        code,
        "the store that keeps tokens does not answer; try again in a while",
      );
    }
  }

  /** Counts a wrong try from the network of `address` and returns for how long its answer is held back, ms. */
  failureDelayMs(address: string): number {
    const now = this.#now();
    const network = networkOf(address);
    let entry = this.#failures.get(network);
    if (entry === undefined || now - entry.sinceMs > FAILURE_WINDOW_MS) {
      this.#failures.delete(network);
      entry = { sinceMs: now, count: 0 };
      this.#failures.set(network, entry);
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
