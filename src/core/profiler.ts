// What the runtime can say about where its time goes and what its memory holds. Costs nothing until asked.

import { Buffer } from "node:buffer";
import { messageOf } from "./message_of.ts";
import { pause } from "./pause.ts";

/** The runtime cannot do it, or may not; the message is a sentence that says what is missing. */
export class ProfilerUnavailable extends Error {
  override readonly name = "ProfilerUnavailable";
}

/** Bytes that are read piece by piece. */
export interface ByteSource {
  /** The next ones; null at the end. */
  read(): Promise<Uint8Array<ArrayBuffer> | null>;
  /** Gives up what it holds; to be called in any case. Idempotent. */
  close(): void;
}

/** Read at one time. */
const CHUNK_BYTES = 64 * 1024;

/**
 * Samples for `ms` which functions run, once a millisecond, and returns the text of a `.cpuprofile`;
 * null when `signal` was aborted before, upon which it ends at once. Throws a
 * {@linkcode ProfilerUnavailable}.
 */
export async function profileCpu(ms: number, signal: AbortSignal): Promise<string | null> {
  const session = await connectInspector();
  try {
    await session.post("Profiler.enable");
    await session.post("Profiler.start");
    const isOver = await pause(ms, signal);
    const { profile } = await session.post("Profiler.stop") as { profile: unknown };
    return isOver ? JSON.stringify(profile) : null;
  } finally {
    // It ends the profile with it.
    session.disconnect();
  }
}

async function connectInspector() {
  try {
    const { Session } = await import("node:inspector/promises");
    const session = new Session();
    session.connect();
    return session;
  } catch (error) {
    throw new ProfilerUnavailable(
      `the runtime gives no access to its inspector (${messageOf(error)}); ` +
        "deno run has the flag --allow-sys for it",
      { cause: error },
    );
  }
}

/**
 * Writes down everything on the heap, and returns the text of a `.heapsnapshot`. The event loop stands
 * still until it is written: seconds, where there are millions of objects minutes; the process needs
 * several times the heap's memory meanwhile. Throws a {@linkcode ProfilerUnavailable}.
 */
export async function heapSnapshot(): Promise<ByteSource> {
  const { getHeapSnapshot, writeHeapSnapshot } = await import("node:v8");
  return heapByFile(writeHeapSnapshot) ?? heapByMemory(getHeapSnapshot);
}

/** By a file without a name, so that the text is never in memory; null where none can be made. */
function heapByFile(write: (path: string) => unknown): ByteSource | null {
  let path: string;
  try {
    path = Deno.makeTempFileSync({ prefix: "pushd-", suffix: ".heapsnapshot" });
  } catch {
    return null;
  }
  let file: Deno.FsFile;
  try {
    write(path);
    file = Deno.openSync(path);
  } catch (error) {
    throw cannotWriteHeap(error);
  } finally {
    Deno.removeSync(path);
  }
  let isOpen = true;
  return {
    async read() {
      const buffer = new Uint8Array(CHUNK_BYTES);
      const count = await file.read(buffer);
      return count === null ? null : buffer.subarray(0, count);
    },
    close() {
      if (isOpen) file.close();
      isOpen = false;
    },
  };
}

function heapByMemory(get: () => NodeJS.ReadableStream): ByteSource {
  let stream: NodeJS.ReadableStream;
  try {
    stream = get();
  } catch (error) {
    throw cannotWriteHeap(error);
  }
  const chunks = stream[Symbol.asyncIterator]();
  return {
    async read() {
      const { value, done } = await chunks.next();
      return done ? null : Uint8Array.from(Buffer.from(value));
    },
    close() {
      void chunks.return?.();
    },
  };
}

function cannotWriteHeap(error: unknown): ProfilerUnavailable {
  return new ProfilerUnavailable(
    `the runtime cannot write its heap down: ${messageOf(error)}`,
    { cause: error },
  );
}
