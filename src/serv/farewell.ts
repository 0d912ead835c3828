// How the server parts from its clients: what it says last, and how it leaves without a rush.

import { pause } from "../core/pause.ts";
import { nextTurn } from "../core/turn.ts";
import type { ErrorCode } from "../proto/errors.ts";
import type { CloseReason } from "./limits.ts";

/** The last line of a connection, once everything that was read has been answered. */
export interface Farewell {
  readonly code: CloseReason & ErrorCode;
  readonly explanation: string;
}

export const SHUTTING_DOWN: Farewell = {
  code: "shutting-down",
  explanation: "the server is stopping; come back soon",
};

export const APP_GONE: Farewell = {
  code: "auth-failed",
  explanation: "your application is no longer in this server's configuration",
};

/** What can be sent away. */
export interface Leaving {
  tellToReconnect(afterMs: number): void;
  sayGoodbye(farewell: Farewell): void;
}

/** From `RECONNECT` to the end of a connection, ms at most, and as a part of the whole time. */
const MAX_NOTICE_MS = 1000;
const NOTICE_PART = 1 / 4;
/** What the process takes to end once the last client is told, ms at most: lingering, and a last call. */
const END_MS = 3000;
const STEP_MS = 20;
/** Connections that are told in one step before others have their turn. */
const TOLD_AT_ONCE = 500;

/**
 * Tells one connection after the other to come back later, and closes each some time after it was told,
 * evenly over `durationMs`. Resolves when none is left, when the time is over, or at `signal`.
 *
 * Who reads `RECONNECT` learns when to come back: after the server's end, and spread over as long again,
 * so that whoever takes its place is not met by everybody at once.
 */
export async function leaveSlowly(
  connections: ReadonlySet<Leaving>,
  durationMs: number,
  signal: AbortSignal,
): Promise<void> {
  const startMs = performance.now();
  const leaving = [...connections];
  const noticeMs = Math.min(MAX_NOTICE_MS, durationMs * NOTICE_PART);
  const telling = durationMs - noticeMs;
  let told = 0;
  let closed = 0;
  while (connections.size > 0 && !signal.aborted) {
    const passedMs = performance.now() - startMs;
    if (passedMs >= durationMs) return;
    const due = (ms: number) => Math.ceil(leaving.length * Math.min(1, Math.max(0, ms) / telling));
    const toTell = Math.min(due(passedMs), told + TOLD_AT_ONCE);
    for (; told < toTell; told++) {
      const leftMs = durationMs - passedMs + END_MS;
      leaving[told].tellToReconnect(Math.round(leftMs + Math.random() * durationMs));
    }
    const toClose = Math.min(due(passedMs - noticeMs), told, closed + TOLD_AT_ONCE);
    for (; closed < toClose; closed++) leaving[closed].sayGoodbye(SHUTTING_DOWN);
    if (told < due(passedMs) || closed < due(passedMs - noticeMs)) await nextTurn();
    else await pause(STEP_MS, signal);
  }
}
