// Membership by a list in the configuration.

import type { MemberInfo, Membership, MembershipEvents } from "./membership.ts";

/**
 * The addresses that were given, and nothing about who is there: the links find that out, also which of them
 * is our own.
 */
export class StaticMembership implements Membership {
  readonly isUp = true;
  readonly isAuthority = false;
  #peers: readonly string[];
  #events: MembershipEvents | undefined;
  #isStopped = false;
  #isTelling = false;

  /** `peers` as `host:port`; who is named twice is one. */
  constructor(peers: readonly string[]) {
    this.#peers = [...new Set(peers)];
  }

  get description(): string {
    return this.#peers.length === 0 ? "s2s_peers" : `s2s_peers ${this.#peers.join(",")}`;
  }

  /** Tells the list at once, but not before this returns. */
  start(_self: MemberInfo, events: MembershipEvents): void {
    if (this.#events !== undefined) return;
    this.#events = events;
    this.#tell();
  }

  /** Another list takes the place of the first, after a reload; told where it is another one. */
  setPeers(peers: readonly string[]): void {
    const list = [...new Set(peers)];
    const isSame = list.toSorted().join() === this.#peers.toSorted().join();
    this.#peers = list;
    if (!isSame) this.#tell();
  }

  stop(_timeoutMs: number): Promise<void> {
    this.#isStopped = true;
    return Promise.resolve();
  }

  #tell(): void {
    if (this.#events === undefined || this.#isTelling) return;
    this.#isTelling = true;
    queueMicrotask(() => {
      this.#isTelling = false;
      if (this.#isStopped) return;
      this.#events?.onMembers(this.#peers.map((s2sAddr) => ({ s2sAddr })));
    });
  }
}
