// What is said about links that did not come about, each thing now and then.

import { LogRate } from "../core/log_rate.ts";
import { getLogger } from "../core/logger.ts";
import { messageOf } from "../core/message_of.ts";
import type { Dialer } from "./dialer.ts";
import { FrameError } from "./frame.ts";
import { HANDSHAKE_MS } from "./handshake.ts";
import { Refusal } from "./hello.ts";

/** What goes wrong over and over is logged so often at most, ms. */
const LOG_PERIOD_MS = 10_000;
const REPEAT_LOG_MS = 60_000;
/** So many nodes that are refused are told apart. */
const MAX_REFUSED_RATES = 100;

const log = getLogger("s2s");

/** Counts and logs them. */
export class LinkFailures {
  /** Connections that were no node's of this cluster. */
  refused = 0;

  #refusedRate = new LogRate(LOG_PERIOD_MS);
  /** By node and reason. */
  #refusedRates = new Map<string, LogRate>();
  #duplicateRate = new LogRate(LOG_PERIOD_MS);
  /** By address, when a failure was logged last, monotonic ms. */
  #failedMs = new Map<string, number>();

  /** Who came in from `remote` was not taken. */
  onRefused(remote: string, error: unknown): void {
    if (error instanceof Refusal && (error.code === "linked" || error.code === "self")) return;
    this.refused++;
    const peer = error instanceof Refusal ? error.hello?.id : undefined;
    // A node that is refused comes back for ever, and is not to hide another one.
    const rate = peer === undefined
      ? this.#refusedRate
      : this.#rateOf(`${peer} ${reasonOf(error)}`);
    const more = rate.next();
    if (more === null) return;
    log.warn("a connection to the door for nodes was refused", {
      remote,
      ...(peer === undefined ? {} : { peer }),
      reason: reasonOf(error),
      ...more,
    });
  }

  #rateOf(key: string): LogRate {
    let rate = this.#refusedRates.get(key);
    if (rate === undefined) {
      if (this.#refusedRates.size >= MAX_REFUSED_RATES) return this.#refusedRate;
      this.#refusedRates.set(key, rate = new LogRate(REPEAT_LOG_MS));
    }
    return rate;
  }

  /** Who was dialled is not linked; `isNew`: for another reason than the time before. */
  onNotLinked(dialer: Dialer, error: unknown, isNew: boolean): void {
    if (isDouble(error)) {
      const more = this.#duplicateRate.next();
      if (more !== null) log.error("{reason}", { reason: reasonOf(error), ...more });
      return;
    }
    const nowMs = performance.now();
    const lastMs = this.#failedMs.get(dialer.addr) ?? -Infinity;
    if (!isNew && nowMs - lastMs < REPEAT_LOG_MS) return;
    this.#failedMs.set(dialer.addr, nowMs);
    log.warn("cannot be linked; it is tried again", {
      ...(dialer.id === undefined ? {} : { peer: dialer.id }),
      addr: dialer.addr,
      reason: reasonOf(error),
      tries: dialer.failures,
    });
  }

  /** Nobody is looked for at this address any more. */
  forget(addr: string): void {
    this.#failedMs.delete(addr);
  }
}

/** Whether somebody with our id has answered, or has told us that there is one. */
function isDouble(error: unknown): boolean {
  return error instanceof Refusal && error.code === "node-id";
}

function reasonOf(error: unknown): string {
  if (error instanceof FrameError) return `it does not speak as a node does: ${error.message}`;
  if (error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted) {
    return `no handshake within ${HANDSHAKE_MS / 1000} s`;
  }
  return messageOf(error);
}
