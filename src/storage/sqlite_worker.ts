// The thread in which SQLite works: writes at once, reads in slices between them.

import { type MessageRange, StoreError, type StoreInfo } from "../engine/ports/history_store.ts";
import { BlockTable } from "./sqlite_blocks.ts";
import { SqliteDatabase } from "./sqlite_database.ts";
import { Journal } from "./sqlite_journal.ts";
import type { Operation, Operations, PackedBlocks, Reply, Request } from "./sqlite_messages.ts";
import { Pruning } from "./sqlite_prune.ts";
import { BlockReads, SLICE_MS, type Sliced } from "./sqlite_reads.ts";
import { TokenTable } from "./sqlite_tokens.ts";

/** How often a WAL that a reader holds is looked at when nothing is written. */
const WAL_TEND_MS = 2000;
/** How often the journal is looked at when nothing is written. */
const FOLD_CHECK_MS = 250;

type TokenWrite = Extract<Request, { op: "put" | "take" }>;

/** The ends of this thread that are used, since the types of `self` are those of the main thread. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<Request>) => void) | null;
  postMessage(message: Reply, transfer?: Transferable[]): void;
}

interface Open {
  readonly db: SqliteDatabase;
  readonly blocks: BlockTable;
  readonly journal: Journal;
  readonly reads: BlockReads;
  readonly pruning: Pruning;
  readonly tokens: TokenTable;
}

/** Work that is under way; `work` is advanced slice by slice. */
interface Reading {
  readonly id: number;
  readonly work: Sliced<Operations[Operation]["out"]>;
}

const scope = self as unknown as WorkerScope;
let open: Open | undefined;
let tokenWrites: TokenWrite[] = [];
const readings: Reading[] = [];
let timer: ReturnType<typeof setTimeout> | undefined;
let foldTimer: ReturnType<typeof setTimeout> | undefined;
let walTimer: ReturnType<typeof setTimeout> | undefined;

scope.onmessage = ({ data }) => receive(data);

/** Writes are done here and now: whatever else is under way stands between two of its slices. */
function receive(request: Request): void {
  switch (request.op) {
    case "open":
      return answer(request.id, () => openFile(request.input));
    case "append":
      answer(request.id, () => append(request.input));
      return fold();
    case "forget":
      return answer(request.id, () => forget(request.input));
    case "put":
    case "take":
      tokenWrites.push(request);
      return schedule();
    case "close":
      writeTokens();
      return answer(request.id, closeFile);
    default: {
      readings.push({ id: request.id, work: startReading(request) });
      // The first of a burst at once; what comes behind it gives way to writes.
      if (timer === undefined) advance();
      return schedule();
    }
  }
}

function* startReading(
  request: Exclude<Request, { op: "open" | "append" | "forget" | "put" | "take" | "close" }>,
): Sliced<Operations[Operation]["out"]> {
  const { journal, reads, pruning, tokens } = opened();
  switch (request.op) {
    case "read":
      journal.foldChannel(request.input.app, request.input.channel);
      return reads.read(request.input);
    case "readNewest":
      journal.foldChannel(request.input.app, request.input.channel);
      return yield* reads.readNewest(request.input);
    case "count":
      journal.foldChannel(request.input.app, request.input.channel);
      return yield* reads.count(request.input);
    case "scan":
      yield* journal.foldAll();
      return reads.scan(request.input);
    case "find":
      return tokens.find(request.input);
    case "prune":
      yield* journal.foldAll();
      return yield* pruning.prune(request.input);
  }
}

function append(packed: PackedBlocks): void {
  const { db, journal } = opened();
  try {
    journal.append(packed);
  } finally {
    tendWal(db);
  }
}

function forget(ranges: readonly MessageRange[]): void {
  // All of it: what stays in the journal would come back when the file is opened next.
  for (const _ of opened().journal.foldAll());
  write(({ blocks }) => blocks.forget(ranges));
}

/** Folds a little of the journal where that is due, and sees to it that the rest is folded in time. */
function fold(): void {
  if (open === undefined || open.journal.isEmpty) return;
  try {
    if (open.journal.isDue(performance.now())) open.journal.foldSlice();
  } catch (error) {
    // The next append says so, and the file is opened anew with all that is in its journal.
    if (!(error instanceof StoreError)) throw error;
    return;
  }
  if (foldTimer === undefined && !open.journal.isEmpty) {
    foldTimer = setTimeout(() => {
      foldTimer = undefined;
      fold();
    }, open.journal.isDue(performance.now()) ? 0 : FOLD_CHECK_MS);
  }
}

/** A timer, because it lets messages in before the next turn; `setImmediate` keeps them waiting. */
function schedule(): void {
  if (timer !== undefined || (tokenWrites.length === 0 && readings.length === 0)) return;
  timer = setTimeout(() => {
    timer = undefined;
    writeTokens();
    const end = performance.now() + SLICE_MS;
    while (readings.length > 0 && performance.now() < end) advance();
    schedule();
  }, 0);
}

/** One slice of the reading that has waited longest. */
function advance(): void {
  const reading = readings.shift();
  if (reading === undefined) return;
  try {
    const step = reading.work.next();
    if (step.done === true) reply(reading.id, step.value);
    else readings.push(reading);
  } catch (error) {
    fail(reading.id, error);
  }
}

/** All token writes that wait, in one transaction; each is answered after its commit. */
function writeTokens(): void {
  const waiting = tokenWrites;
  tokenWrites = [];
  if (waiting.length === 0) return;
  try {
    const results = write(({ tokens }) =>
      waiting.map((request) =>
        request.op === "put" ? tokens.put(request.input) : tokens.take(request.input)
      )
    );
    waiting.forEach(({ id }, i) => reply(id, results[i]));
  } catch (error) {
    for (const { id } of waiting) fail(id, error);
  }
}

function write<R>(work: (open: Open) => R): R {
  const now = opened();
  try {
    return now.db.transaction(() => work(now));
  } finally {
    tendWal(now.db);
  }
}

function tendWal(db: SqliteDatabase): void {
  db.tendWal(performance.now());
  if (db.needsTending && walTimer === undefined) {
    walTimer = setTimeout(() => {
      walTimer = undefined;
      if (open !== undefined) tendWal(open.db);
    }, WAL_TEND_MS);
  }
}

function openFile(file: string): StoreInfo {
  open?.db.close();
  open = undefined;
  const db = new SqliteDatabase(file, (bytes) => scope.postMessage({ pinnedWal: file, bytes }));
  const next = db.reading(() => {
    const blocks = new BlockTable(db);
    const journal = new Journal(db, blocks);
    journal.recover();
    return {
      db,
      blocks,
      journal,
      reads: new BlockReads(db, blocks),
      pruning: new Pruning(db, blocks),
      tokens: new TokenTable(db),
    };
  });
  open = next;
  return { lastTs: db.reading(() => next.blocks.lastTs()) };
}

function closeFile(): void {
  clearTimeout(timer);
  clearTimeout(walTimer);
  clearTimeout(foldTimer);
  const closed = new StoreError("unavailable", "the store is closed");
  for (const { id } of readings.splice(0)) fail(id, closed);
  open?.db.close();
  open = undefined;
}

function opened(): Open {
  if (open !== undefined) return open;
  throw new StoreError("unavailable", "the SQLite store is not open");
}

function answer(id: number, work: () => Operations[Operation]["out"]): void {
  try {
    reply(id, work());
  } catch (error) {
    fail(id, error);
  }
}

/** The bytes of pages go over without a copy. */
function reply(id: number, output: Operations[Operation]["out"]): void {
  const transfer = typeof output === "object" && "blocks" in output
    ? output.blocks.map(({ lines }) => lines.buffer as ArrayBuffer)
    : [];
  scope.postMessage({ id, output }, transfer);
}

/** What is no StoreError is a bug, and ends the thread. */
function fail(id: number, error: unknown): void {
  if (!(error instanceof StoreError)) throw error;
  // What a failed transaction did is not there; after other failures this only costs searches.
  open?.blocks.forgetRemembered();
  open?.tokens.forgetCounts();
  scope.postMessage({ id, fault: error.fault, message: error.message });
}
