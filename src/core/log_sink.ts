// Where log lines go: a bounded queue in front of a file or standard output that may fail or stand still.

// Its timers can be left behind by the process in Deno 2.4, too, where the global ones are numbers.
import { clearTimeout, setTimeout } from "node:timers";
import { messageOf } from "./message_of.ts";

/** An output for whole chunks of bytes. `write` may be partial, and rejects with what the system says. */
export interface LogOutput {
  write(bytes: Uint8Array): Promise<number>;
  /** Makes it ready before a chunk: opens what has to be opened. Rejects when that cannot be done. */
  prepare?(): Promise<void>;
  /** Begins anew, in a new file, with the next chunk. */
  reopen?(): void;
  close?(): void;
}

/** What a sink can be told; see {@linkcode LogSink}. */
export interface LogSinkOptions {
  output: LogOutput;
  /** Bound of the queue in bytes; lines beyond it are dropped and counted. */
  maxQueueBytes: number;
  /** Makes the line that says what happened to the log itself, line end included. */
  notice: (message: string, properties: Record<string, unknown>) => string;
  /** Told once per failure, when it begins; for a last word on another channel. */
  onFailure: (reason: string) => void;
  /** First pause before a failed write is tried again; it doubles up to 10 s. Default 1000. */
  retryMs?: number;
}

const MAX_CHUNK_BYTES = 64 * 1024;
const MAX_RETRY_MS = 10_000;
const FULL_PIPE_RETRY_MS = 50;
const LF = 0x0a;

/**
 * Takes lines at once and writes them in the background, in order, several at a time.
 *
 * Nothing that happens to the output reaches the caller: while it stands still or fails, lines wait in the
 * queue; once that is full they are dropped and counted; a failed write is tried again now and then. As
 * soon as the output takes something again, a line says what was wrong and how many lines are missing, in
 * the place where they are missing.
 */
export class LogSink {
  readonly #options: LogSinkOptions;
  readonly #encoder = new TextEncoder();
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #dropped = 0;
  /** What is being written, and how much of it the output has taken. */
  #chunk: Uint8Array | null = null;
  #offset = 0;
  #pumping = false;
  #failure: { reason: string; sinceMs: number; retryMs: number } | null = null;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #reopen = false;
  #closed = false;
  /** Woken when the pump comes to rest, with the queue empty or the output failing. */
  #waiters: (() => void)[] = [];

  constructor(options: LogSinkOptions) {
    this.#options = options;
  }

  /** Lines that were dropped and not yet reported. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Queues a line, its line end included. Never throws, never waits. */
  write(line: string): void {
    if (this.#closed) return;
    const bytes = this.#encoder.encode(line);
    if (this.#queuedBytes + bytes.length > this.#options.maxQueueBytes) {
      this.#dropped++;
    } else {
      this.#reportDropped();
      this.#push(bytes);
    }
    this.#pump();
  }

  /** Continues in a new file; what is queued goes there, whole lines. */
  reopen(): void {
    this.#reopen = true;
    this.#retryNow();
  }

  /**
   * Waits until everything queued so far is written, at most `timeoutMs`; returns whether it is. An output
   * that fails is tried once more and then not waited for.
   */
  async flush(timeoutMs: number): Promise<boolean> {
    this.#retryNow();
    if (!this.#pumping) return this.#isEmpty();
    let timer: ReturnType<typeof setTimeout> | undefined;
    await Promise.race([
      new Promise<void>((resolve) => this.#waiters.push(resolve)),
      new Promise<void>((resolve) => timer = setTimeout(resolve, timeoutMs)),
    ]);
    clearTimeout(timer);
    return this.#isEmpty();
  }

  /** Writes what can be written within `timeoutMs` and lets go of the output; later lines are ignored. */
  async close(timeoutMs: number): Promise<void> {
    await this.flush(timeoutMs);
    this.#closed = true;
    clearTimeout(this.#retryTimer);
    if (!this.#pumping) this.#options.output.close?.();
  }

  #isEmpty(): boolean {
    return this.#queue.length === 0 && this.#chunk === null && this.#failure === null;
  }

  #push(bytes: Uint8Array): void {
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
  }

  #reportDropped(): void {
    if (this.#dropped === 0) return;
    const lines = this.#dropped;
    this.#dropped = 0;
    this.#push(this.#encoder.encode(this.#options.notice("log lines were dropped", { lines })));
  }

  #retryNow(): void {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = undefined;
    this.#pump();
  }

  /** Starts the loop that writes, unless it runs, waits for a retry, or has nothing to do. */
  #pump(): void {
    if (this.#pumping || this.#closed || this.#retryTimer !== undefined) return;
    if (this.#queue.length === 0 && this.#chunk === null && !this.#reopen) return;
    this.#pumping = true;
    // Not through spawn(), which logs; the loop catches everything and wakes whoever waits for it.
    void this.#run();
  }

  async #run(): Promise<void> {
    try {
      // A turn later, so that the lines of one turn go out together.
      await Promise.resolve();
      do {
        await this.#writeChunk();
        if (this.#chunk === null && this.#queue.length === 0) this.#reportDropped();
      } while ((this.#chunk !== null || this.#queue.length > 0 || this.#reopen) && !this.#closed);
    } catch (error) {
      this.#fail(error);
    }
    this.#pumping = false;
    if (this.#closed) this.#options.output.close?.();
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const wake of waiters) wake();
  }

  async #writeChunk(): Promise<void> {
    if (this.#reopen) {
      this.#reopen = false;
      this.#rewindToLine();
      this.#options.output.reopen?.();
    }
    await this.#options.output.prepare?.();
    this.#chunk ??= this.#takeChunk();
    while (this.#chunk !== null && this.#offset < this.#chunk.length) {
      const rest: Uint8Array = this.#offset === 0
        ? this.#chunk
        : this.#chunk.subarray(this.#offset);
      this.#offset += await this.#options.output.write(rest);
    }
    if (this.#chunk !== null) this.#queuedBytes -= this.#chunk.length;
    this.#chunk = null;
    this.#offset = 0;
    this.#recover();
  }

  #takeChunk(): Uint8Array | null {
    if (this.#queue.length === 0) return null;
    let size = 0;
    let count = 0;
    while (
      count < this.#queue.length &&
      (count === 0 || size + this.#queue[count].length <= MAX_CHUNK_BYTES)
    ) {
      size += this.#queue[count++].length;
    }
    const lines = this.#queue.splice(0, count);
    if (lines.length === 1) return lines[0];
    const chunk = new Uint8Array(size);
    let at = 0;
    for (const line of lines) {
      chunk.set(line, at);
      at += line.length;
    }
    return chunk;
  }

  /** A line of which the old file got only the beginning is written whole in the new one. */
  #rewindToLine(): void {
    if (this.#chunk === null || this.#offset === 0) return;
    this.#offset = this.#chunk.lastIndexOf(LF, this.#offset - 1) + 1;
  }

  #fail(error: unknown): void {
    if (error instanceof Deno.errors.WouldBlock) {
      // Somebody made the pipe non-blocking and it is full: a reader that stands still, not a failure.
      this.#retryIn(FULL_PIPE_RETRY_MS);
      return;
    }
    const reason = messageOf(error);
    if (this.#failure === null) {
      const retryMs = this.#options.retryMs ?? 1000;
      this.#failure = { reason, sinceMs: performance.now(), retryMs };
      this.#options.onFailure(reason);
    } else {
      this.#failure.retryMs = Math.min(this.#failure.retryMs * 2, MAX_RETRY_MS);
    }
    this.#retryIn(this.#failure.retryMs);
  }

  #retryIn(delayMs: number): void {
    if (this.#closed) return;
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#retryNow(), delayMs);
    // A log that fails is no reason to stay alive.
    this.#retryTimer.unref();
  }

  #recover(): void {
    if (this.#failure === null) return;
    const seconds = Math.round((performance.now() - this.#failure.sinceMs) / 1000);
    const { reason } = this.#failure;
    this.#failure = null;
    this.#push(
      this.#encoder.encode(
        this.#options.notice("the log could not be written for a while", { seconds, reason }),
      ),
    );
  }
}

/** Standard output. It is written in a thread of its own, so a reader that stands still blocks nothing else. */
export function stdoutOutput(): LogOutput {
  return { write: (bytes) => Deno.stdout.write(bytes) };
}

/**
 * A file that is appended to. One that was removed is created again as soon as that is possible; one that
 * was renamed is written to until `reopen`.
 */
export class FileOutput implements LogOutput {
  readonly #path: string;
  #file: Deno.FsFile | null = null;

  constructor(path: string) {
    this.#path = path;
  }

  async prepare(): Promise<void> {
    if (this.#file !== null) {
      const { nlink } = await this.#file.stat();
      if (nlink !== 0) return;
      // The old handle leads to a file nobody can read any more. It is kept until there is a new one.
    }
    const file = await Deno.open(this.#path, { append: true, create: true });
    this.#file?.close();
    this.#file = file;
  }

  write(bytes: Uint8Array): Promise<number> {
    if (this.#file === null) return Promise.reject(new Error(`${this.#path} is not open`));
    return this.#file.write(bytes);
  }

  reopen(): void {
    this.close();
  }

  close(): void {
    this.#file?.close();
    this.#file = null;
  }
}
