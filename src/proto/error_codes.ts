// Every error code as a value, for whoever needs them all.

import type { ErrorCode } from "./errors.ts";

/** A record, so that the compiler sees when one is missing. */
const KNOWN: Record<ErrorCode, true> = {
  "unknown-command": true,
  "missing-argument": true,
  "bad-argument": true,
  "bad-message": true,
  "reserved-name": true,
  "line-too-long": true,
  "need-auth": true,
  "auth-failed": true,
  "not-permitted": true,
  "too-many-channels": true,
  "too-busy": true,
  "history-off": true,
  "storage-unavailable": true,
  "slow-consumer": true,
  "idle-timeout": true,
  "shutting-down": true,
};

/** Every code that can stand behind `ERROR` (docs/protocol.md, "Errors"). */
export const ERROR_CODES = Object.keys(KNOWN) as readonly ErrorCode[];
