// The error codes of the wire, and the exception that carries one of them to the reply.

/** Every code that can stand behind `ERROR` (docs/protocol.md, "Errors"). */
export const ERROR_CODES = [
  "unknown-command",
  "missing-argument",
  "bad-argument",
  "bad-message",
  "reserved-name",
  "line-too-long",
  "need-auth",
  "auth-failed",
  "not-permitted",
  "too-many-channels",
  "too-busy",
  "history-off",
  "storage-unavailable",
  "slow-consumer",
  "idle-timeout",
  "shutting-down",
] as const;
export type ErrorCode = typeof ERROR_CODES[number];

/** A refusal that the client is told about: a code to branch on, and a sentence for a person. */
export class WireError extends Error {
  override readonly name = "WireError";

  constructor(readonly code: ErrorCode, explanation: string) {
    super(explanation);
  }
}
