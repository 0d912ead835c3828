// Questions to one peer and their answers: numbered, bounded, with a deadline.

import type { Block } from "../engine/ports/history_store.ts";
import { PeerError } from "../engine/ports/router.ts";
import { FrameBuilder, FrameError, FrameType, type PayloadReader } from "./frame.ts";

/** A question that is not answered after so long has failed, ms. */
export const ANSWER_MS = 2000;
/** Questions to one peer that may wait for their answers. */
const MAX_WAITING = 10_000;

interface Waiting {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: PeerError) => void;
  readonly timer: ReturnType<typeof setTimeout>;
}

/** What a peer has answered: plain values, and bytes beside them. */
export interface Answer {
  readonly value: unknown;
  readonly bytes: Uint8Array;
}

/** Questions under way to one peer. */
export class Questions {
  #lastId = 0;
  #waiting = new Map<number, Waiting>();

  /**
   * Asks by `send`. Rejects with a {@link PeerError} when there is no answer in time, the peer says
   * that it cannot, the link ends, or too many questions wait.
   */
  ask(question: unknown, send: (frame: Uint8Array) => void): Promise<Answer> {
    if (this.#waiting.size >= MAX_WAITING) {
      return Promise.reject(new PeerError(`${MAX_WAITING} questions wait for an answer already`));
    }
    const id = this.#lastId = (this.#lastId + 1) % 2 ** 32;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new PeerError(`no answer in ${ANSWER_MS / 1000} s`));
      }, ANSWER_MS);
      this.#waiting.set(id, { resolve, reject, timer });
      send(new FrameBuilder(FrameType.ask).u32(id).json(question).finish());
    });
  }

  /** An answer has come; one that nobody waits for any more is passed over. */
  processAnswer(payload: PayloadReader): void {
    const id = payload.u32();
    const isGood = payload.u8() === 0;
    const value = payload.json();
    const bytes = payload.rest().slice();
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    this.#waiting.delete(id);
    clearTimeout(waiting.timer);
    if (isGood) waiting.resolve({ value, bytes });
    else waiting.reject(new PeerError(`it answers: ${String(value).slice(0, 300)}`));
  }

  /** Nothing is answered any more. */
  failAll(reason: string): void {
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(new PeerError(reason));
    }
    this.#waiting.clear();
  }
}

/** An answer as a frame; a string with `isGood` false says why there is none. */
export function answerFrame(
  id: number,
  isGood: boolean,
  value: unknown,
  blocks: readonly Block[] = [],
): Uint8Array {
  const frame = new FrameBuilder(FrameType.answer).u32(id).u8(isGood ? 0 : 1).json(value);
  for (const { lines } of blocks) frame.bytes(lines);
  return frame.finish();
}

/** What stands for blocks in an answer's values; their lines follow as bytes, one behind the other. */
export function describeBlocks(blocks: readonly Block[]): unknown[] {
  return blocks.map(({ node, count, firstTs, lastTs, froms, lines }) => ({
    node,
    count,
    firstTs,
    lastTs,
    froms: froms?.map((from) => from ?? null) ?? null,
    bytes: lines.length,
  }));
}

/** The blocks of an answer. Throws a {@link FrameError} for what {@link describeBlocks} never writes. */
export function readBlocks(described: unknown, bytes: Uint8Array): Block[] {
  if (!Array.isArray(described)) throw new FrameError("an answer without its blocks");
  let at = 0;
  return described.map((block: unknown): Block => {
    const { node, count, firstTs, lastTs, froms, bytes: length } = asRecord(block);
    if (
      typeof node !== "string" || !isCount(count) || !isCount(firstTs) || !isCount(lastTs) ||
      !isCount(length) || count === 0 || at + length > bytes.length
    ) {
      throw new FrameError("a block of an answer that cannot be");
    }
    const lines = bytes.subarray(at, at + length);
    at += length;
    return { node, count, firstTs, lastTs, lines, froms: readFroms(froms, count) };
  });
}

function readFroms(froms: unknown, count: number): (string | undefined)[] | null {
  if (froms === null) return null;
  if (!Array.isArray(froms) || froms.length !== count) {
    throw new FrameError("a block of an answer with another number of publishers");
  }
  return froms.map((from: unknown) => typeof from === "string" ? from : undefined);
}

function asRecord(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}
