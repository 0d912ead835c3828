// Questions to one peer and their answers: numbered, bounded, with a deadline.

import type { Block } from "../engine/ports/history_store.ts";
import { PeerError } from "../engine/ports/router.ts";
import { FrameBuilder, FrameError, FrameType, type PayloadReader } from "./frame.ts";

/** A question that is not answered after so long has failed, ms. */
export const ANSWER_MS = 2000;
/** Questions to one peer that may wait for their answers. */
const MAX_WAITING = 10_000;

/** Questions with large answers that are under way at most; further ones wait their turn. */
const MAX_LARGE = 64;
/** How long they wait for it, ms. */
const TURN_MS = 10_000;

interface Waiting {
  readonly isLarge: boolean;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: PeerError) => void;
  readonly timer: ReturnType<typeof setTimeout>;
}

/** A question that waits for its turn. */
interface Queued {
  readonly start: () => void;
  readonly reject: (error: PeerError) => void;
  readonly sinceMs: number;
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

  #large = 0;
  #queue: Queued[] = [];

  /**
   * Asks by `send`; a question `isLarge` when its answer may be. Rejects with a {@link PeerError} when
   * there is no answer in time, the peer says that it cannot, the link ends, or too many questions wait.
   */
  ask(question: unknown, send: (frame: Uint8Array) => void, isLarge = false): Promise<Answer> {
    if (this.#waiting.size + this.#queue.length >= MAX_WAITING) {
      return Promise.reject(new PeerError(`${MAX_WAITING} questions wait for an answer already`));
    }
    return new Promise((resolve, reject) => {
      const start = () => this.#start(question, send, isLarge, resolve, reject);
      if (!isLarge || this.#large < MAX_LARGE) start();
      else this.#queue.push({ start, reject, sinceMs: performance.now() });
    });
  }

  #start(
    question: unknown,
    send: (frame: Uint8Array) => void,
    isLarge: boolean,
    resolve: Waiting["resolve"],
    reject: Waiting["reject"],
  ): void {
    const id = this.#lastId = (this.#lastId + 1) % 2 ** 32;
    const timer = setTimeout(() => {
      this.#end(id);
      reject(new PeerError(`no answer in ${ANSWER_MS / 1000} s`));
    }, ANSWER_MS);
    this.#waiting.set(id, { isLarge, resolve, reject, timer });
    if (isLarge) this.#large++;
    send(new FrameBuilder(FrameType.ask).u32(id).json(question).finish());
  }

  /** A question is settled; the next one has its turn. */
  #end(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return undefined;
    this.#waiting.delete(id);
    clearTimeout(waiting.timer);
    if (!waiting.isLarge) return waiting;
    this.#large--;
    while (this.#large < MAX_LARGE && this.#queue.length > 0) {
      const [next] = this.#queue.splice(0, 1);
      if (performance.now() - next.sinceMs < TURN_MS) next.start();
      else next.reject(new PeerError(`not asked for ${TURN_MS / 1000} s: too many questions wait`));
    }
    return waiting;
  }

  /** An answer has come; one that nobody waits for any more is passed over. */
  processAnswer(payload: PayloadReader): void {
    const id = payload.u32();
    const isGood = payload.u8() === 0;
    const value = payload.json();
    const bytes = payload.rest().slice();
    const waiting = this.#end(id);
    if (waiting === undefined) return;
    if (isGood) waiting.resolve({ value, bytes });
    else waiting.reject(new PeerError(`it answers: ${String(value).slice(0, 300)}`));
  }

  /** Nothing is answered any more. */
  failAll(reason: string): void {
    const queued = this.#queue.splice(0);
    for (const { reject } of queued) reject(new PeerError(reason));
    for (const [id, { reject }] of [...this.#waiting]) {
      this.#end(id);
      reject(new PeerError(reason));
    }
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
    const publishers = froms === null ? null : publishersOf(froms, count);
    return { node, count, firstTs, lastTs, lines, froms: publishers };
  });
}

/** The publishers of so many messages, as JSON has them. Throws a {@link FrameError}. */
export function publishersOf(froms: unknown, count: number): (string | undefined)[] {
  if (!Array.isArray(froms) || froms.length !== count) {
    throw new FrameError("another number of publishers than messages");
  }
  return froms.map((from: unknown) => typeof from === "string" ? from : undefined);
}

function asRecord(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
}

/** Whether a peer has sent a whole number that is not negative. */
export function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}
