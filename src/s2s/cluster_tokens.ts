// Tokens that are good on every node, where each node keeps those that it gave out.

import { StoreError } from "../engine/ports/history_store.ts";
import { PeerError } from "../engine/ports/router.ts";
import type { FoundToken, TokenStore } from "../engine/ports/token_store.ts";
import type { Peer } from "./peer.ts";

/**
 * Asks our own store, then the peers. The store that holds a token decides who has taken it, so there
 * is one, however many ask.
 */
export class ClusterTokenStore implements TokenStore {
  #own: TokenStore;
  #peers: () => Iterable<Peer>;
  #ttlMs: () => number;

  /** `ttlMs`: how long a token is good, and with it what a peer that is away knows of. */
  constructor(own: TokenStore, peers: () => Iterable<Peer>, ttlMs: () => number) {
    this.#own = own;
    this.#peers = peers;
    this.#ttlMs = ttlMs;
  }

  /** Kept on this node; the bound is that of each node. */
  put(...args: Parameters<TokenStore["put"]>): Promise<boolean> {
    return this.#own.put(...args);
  }

  async find(hash: string): Promise<FoundToken | undefined> {
    const own = await this.#own.find(hash);
    if (own !== undefined) return own;
    return await this.#ask({ op: "find_token", hash }, readFound);
  }

  async take(hash: string): Promise<boolean> {
    if (await this.#own.take(hash)) return true;
    return await this.#ask({ op: "take_token", hash }, (value) => value === true || undefined) ??
      false;
  }

  /** The first answer that is one; rejects where there is none, and a peer that may have it cannot be asked. */
  async #ask<T>(
    question: unknown,
    read: (value: unknown) => T | undefined,
  ): Promise<T | undefined> {
    const failed: string[] = [];
    const answers = await Promise.all(
      [...this.#peers()].filter(({ hello }) => hello.capabilities.includes("tokens"))
        .map(async (peer) => {
          try {
            return read((await peer.ask(question)).value);
          } catch (error) {
            if (!(error instanceof PeerError)) throw error;
            const isLong = peer.link === null && Date.now() - peer.sinceMs > this.#ttlMs();
            if (!isLong) failed.push(peer.id);
            return undefined;
          }
        }),
    );
    const answer = answers.find((value) => value !== undefined);
    if (answer === undefined && failed.length > 0) {
      throw new StoreError("unavailable", `${failed.join(", ")} cannot be asked`);
    }
    return answer;
  }
}

function readFound(value: unknown): FoundToken | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { app, user } = value as Record<string, unknown>;
  return typeof app === "string" && typeof user === "string" ? { app, user } : undefined;
}
