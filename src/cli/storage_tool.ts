// `pushd storage export` and `import`: the whole history as JSON lines, out of a store or into one.

import type { ChannelBlock, HistoryStore } from "../engine/ports/history_store.ts";
import { blockOf, jsonLines, LineFault, type MessageLine, parseLine } from "./message_lines.ts";

/** One append takes about so many messages and bytes of lines. */
const MAX_APPEND_MESSAGES = 10_000;
const MAX_APPEND_BYTES = 4 * 1024 * 1024;
/** A line of the input that is longer cannot be a message. */
const MAX_LINE_BYTES = 8 * 1024 * 1024;
/** How often progress is reported, ms. */
const PROGRESS_MS = 1000;

/** Hears how far it is. */
export type OnProgress = (messages: number) => void;

/** Takes what is written, in order; resolves when it can take more. */
export interface TextSink {
  write(text: string): Promise<void>;
}

/** Writes every message of the store, and returns how many there were. Rejects as the store does. */
export async function exportHistory(
  store: Pick<HistoryStore, "scan">,
  out: TextSink,
  onProgress: OnProgress,
): Promise<number> {
  const report = progress(onProgress);
  let messages = 0;
  for await (const block of store.scan()) {
    await out.write(jsonLines(block));
    messages += block.count;
    report(messages);
  }
  return messages;
}

/**
 * Puts every message of the input into the store, and returns how many there were. What the store has
 * already is kept once, so an import that broke off can be done again from the start. Rejects with a
 * {@link LineFault} that names the line, with everything before it kept, or as the store does.
 */
export async function importHistory(
  input: ReadableStream<Uint8Array>,
  store: Pick<HistoryStore, "append">,
  onProgress: OnProgress,
): Promise<number> {
  const report = progress(onProgress);
  const append = new Appender(store);
  let lineNumber = 0;
  for await (const line of linesOf(input)) {
    lineNumber++;
    if (line.trim() === "") continue;
    try {
      await append.add(parseLine(line));
    } catch (error) {
      if (!(error instanceof LineFault)) throw error;
      await append.flush();
      throw new LineFault(`line ${lineNumber}: ${error.message}`);
    }
    report(append.messages);
  }
  await append.flush();
  return append.messages;
}

/** Gathers messages into blocks of one channel and node, and those into appends. */
class Appender {
  messages = 0;

  #store: Pick<HistoryStore, "append">;
  #blocks: ChannelBlock[] = [];
  #run: MessageLine[] = [];
  #count = 0;
  #bytes = 0;

  constructor(store: Pick<HistoryStore, "append">) {
    this.#store = store;
  }

  async add(message: MessageLine): Promise<void> {
    const last = this.#run.at(-1);
    if (
      last !== undefined &&
      (last.channel !== message.channel || last.app !== message.app ||
        last.node !== message.node || last.ts >= message.ts)
    ) this.#endRun();
    this.#run.push(message);
    this.messages++;
    this.#count++;
    this.#bytes += message.msg.length;
    if (this.#count >= MAX_APPEND_MESSAGES || this.#bytes >= MAX_APPEND_BYTES) await this.flush();
  }

  #endRun(): void {
    if (this.#run.length > 0) this.#blocks.push(blockOf(this.#run));
    this.#run = [];
  }

  async flush(): Promise<void> {
    this.#endRun();
    if (this.#blocks.length > 0) await this.#store.append(this.#blocks);
    this.#blocks = [];
    this.#count = 0;
    this.#bytes = 0;
  }
}

/** The lines of a stream of UTF-8. Throws a {@link LineFault} for what is not UTF-8, or has no end. */
async function* linesOf(input: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let rest = "";
  for await (const chunk of input) {
    rest += decode(decoder, chunk);
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
    if (rest.length > MAX_LINE_BYTES) throw new LineFault("a line is too long to be a message");
  }
  rest += decode(decoder, undefined);
  if (rest !== "") yield rest;
}

function decode(decoder: TextDecoder, chunk: Uint8Array | undefined): string {
  try {
    return decoder.decode(chunk, { stream: chunk !== undefined });
  } catch (error) {
    throw new LineFault("the input is not UTF-8", { cause: error });
  }
}

/** Passes on what it is called with, once in a while. */
function progress(onProgress: OnProgress): OnProgress {
  let lastMs = performance.now();
  return (messages) => {
    const nowMs = performance.now();
    if (nowMs - lastMs < PROGRESS_MS) return;
    lastMs = nowMs;
    onProgress(messages);
  };
}
