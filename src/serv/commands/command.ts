// What a command handler is, and what it may do to its connection.

import type { PooledBuffer } from "../../core/buffer_pool.ts";
import type { Auth } from "../../engine/auth.ts";
import type { Engine } from "../../engine/engine.ts";
import type { Session } from "../../engine/session.ts";
import type { ServLimits } from "../limits.ts";

/** The connection, as commands see it. */
export interface CommandContext {
  readonly engine: Engine;
  readonly auth: Auth;
  readonly session: Session;
  readonly limits: ServLimits;
  /** Bytes of one reply that can be queued without a risk of cutting the client off. */
  readonly maxReplyBytes: number;
  /** Queues a reply line, without its line end. */
  reply(line: string): void;
  /** Queues a reply line that has been encoded, with its line end, and takes its ownership. */
  replyLine(line: PooledBuffer): void;
  /** After a successful authentication: lifts what held before it. */
  authenticated(): void;
  /** Takes no more requests; closes once everything is written. */
  quit(): void;
  /** Logs a refusal that an operator wants to know of; never with a secret. */
  refused(command: string, reason: string): void;
}

/** One command of the protocol. */
export interface Command {
  /** Its syntax, as shown in explanations. */
  readonly usage: string;
  /** Whether it is served before authentication, where that is needed. */
  readonly beforeAuth?: boolean;
  /** Whether it begins although commands of its kind have not been replied to: then `run` gives a {@link Begun}. */
  overlaps?(words: readonly string[]): boolean;
  /**
   * Carries it out and queues exactly one reply line; throws a WireError instead to refuse it.
   * Until a returned promise is settled, the connection's next request waits.
   */
  run(context: CommandContext, words: readonly string[]): Running;
}

/** Undefined when it is done; see {@link Command.run}. */
export type Running = void | Promise<void> | Begun;

/**
 * A command that has begun, and is replied to once it is ready: those that follow it need not wait for
 * that where they begin in the same way, and are replied to in order.
 */
export interface Begun {
  readonly ready: Promise<void> | null;
  /** Does the rest, and queues the reply; as `run` does at once. */
  finish(): void;
}
