// The requests of one connection: a client may send the next ones before the first is answered.

import type { IncomingMessage, ServerResponse } from "node:http";
import type { AnswerTurns } from "./answer_turns.ts";
import type { ConnStream } from "./conn_stream.ts";

/** What {@linkcode Pipeline} takes. */
export interface PipelineOptions {
  /** See `HttpLimits`. */
  answerTimeoutMs: number;
  halfClosedMs: number;
  /** Those of the door. */
  turns: AnswerTurns;
  /** Whether an answer may take any time while it is read. */
  goesOn(response: ServerResponse): boolean;
  /** Everything that was asked is answered. */
  onIdle(): void;
}

/** A request, and what makes its answer when those before it have left; it must not throw. */
export interface Exchange {
  request: IncomingMessage;
  response: ServerResponse;
  begin(): void;
}

/**
 * Answers in order, one at a time. Nothing is read while one waits: what waits was in one read, which is bounded.
 */
export class Pipeline {
  #socket: ConnStream;
  #options: PipelineOptions;
  #waiting: Exchange[] = [];
  /** The newest, also when it has been answered. */
  #newest: Exchange | null = null;
  #isBusy = false;
  #hasEnded = false;
  /** What closes the connection when everything before it is answered. */
  #last: (() => void) | null = null;
  #deadline: ReturnType<typeof setTimeout> | undefined;
  #halfClosed: ReturnType<typeof setTimeout> | undefined;

  constructor(socket: ConnStream, options: PipelineOptions) {
    this.#socket = socket;
    this.#options = options;
    socket.once("end", () => this.#watchHalfClosed());
  }

  /** Whether something is being answered. */
  get isBusy(): boolean {
    return this.#isBusy;
  }

  /** Answers when those before it have been. */
  add(exchange: Exchange): void {
    if (this.#hasEnded || this.#last !== null) return;
    this.#newest = exchange;
    if (this.#isBusy) {
      this.#waiting.push(exchange);
      this.#socket.hold();
    } else this.#queue(exchange);
  }

  /**
   * Calls `refuse` behind the answers that are due: it says what is wrong with what was sent next, and
   * closes the connection. Where that was the body of a request (`isBody`), it is the answer to this one.
   * Nothing more is read.
   */
  finish(refuse: (isBody: boolean) => void): void {
    if (this.#hasEnded || this.#last !== null) return;
    this.#socket.hold();
    const isBody = this.#newest !== null && !this.#newest.request.complete;
    this.#last = () => refuse(isBody);
    if (this.#newest !== null && isBody) {
      if (this.#newest.response.headersSent) this.#last = () => this.#socket.destroySoon();
      // The one before it is not to begin it.
      else if (this.#waiting.pop() === undefined) this.#isBusy = false;
    }
    if (!this.#isBusy) this.#last();
  }

  /** The connection is gone: nothing is answered any more. */
  end(): void {
    this.#hasEnded = true;
    this.#isBusy = false;
    this.#waiting = [];
    clearTimeout(this.#deadline);
    clearTimeout(this.#halfClosed);
  }

  #queue(exchange: Exchange): void {
    this.#isBusy = true;
    // Where it is not busy any more, the body of this request could not be understood.
    this.#options.turns.add(() => this.#isBusy && this.#begin(exchange));
  }

  #begin(exchange: Exchange): void {
    const { response } = exchange;
    if (this.#waiting.length === 0 && this.#last === null) this.#socket.goOn();
    this.#watch(response);
    response.once("close", () => this.#onAnswered());
    exchange.begin();
  }

  #onAnswered(): void {
    clearTimeout(this.#deadline);
    if (this.#hasEnded) return;
    // One that was the last by its "Connection: close" closes by itself.
    const next = this.#socket.writableEnded ? undefined : this.#waiting.shift();
    if (next !== undefined) return this.#queue(next);
    this.#isBusy = false;
    if (this.#last !== null && !this.#socket.writableEnded) this.#last();
    else this.#options.onIdle();
  }

  #watch(response: ServerResponse): void {
    const { bytesWritten } = this.#socket;
    this.#deadline = setTimeout(() => {
      const isStalled = this.#socket.writableLength > 0 &&
        this.#socket.bytesWritten === bytesWritten;
      if (!this.#options.goesOn(response) || isStalled) this.#socket.destroy();
      else this.#watch(response);
    }, this.#options.answerTimeoutMs);
  }

  /** A client that sends no more may be waiting for its answer, or gone; one that is gone takes nothing. */
  #watchHalfClosed(): void {
    if (this.#hasEnded) return;
    const { bytesWritten } = this.#socket;
    this.#halfClosed = setTimeout(() => {
      if (this.#socket.bytesWritten === bytesWritten) this.#socket.destroy();
      else this.#watchHalfClosed();
    }, this.#options.halfClosedMs);
  }
}
