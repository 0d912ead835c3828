// The seam to what keeps the tokens by which clients authenticate.

/** A token that has been found. */
export interface FoundToken {
  readonly app: string;
  readonly user: string;
}

/**
 * Keeps unused tokens by their hash (SHA-256, base64url), never the tokens themselves. A method that
 * cannot do its work rejects with a `StoreError`.
 */
export interface TokenStore {
  /**
   * Keeps a token for `user` of `app`, durably where the store is, until it has been taken or
   * `ttlMs` have passed. Resolves to false, with nothing kept, when the application already holds
   * `maxUnused` tokens that are neither taken nor expired (a store may count them with a delay of
   * seconds).
   */
  put(
    token: { hash: string; app: string; user: string; ttlMs: number },
    maxUnused: number,
  ): Promise<boolean>;

  /** Who the token is for, while it is good. Uses up nothing. */
  find(hash: string): Promise<FoundToken | undefined>;

  /**
   * Uses up a token that is good. Of several callers at once, on however many nodes, exactly one gets
   * true; it stays used after a crash.
   */
  take(hash: string): Promise<boolean>;
}
