import assert from "node:assert/strict";
import { BufferLedger } from "../../tests/buffer_ledger.ts";
import { buffers } from "../core/buffer_pool.ts";
import { decodeUtf8, encodeUtf8 } from "../proto/bytes.ts";
import { ArrivalSegment, type LogCursor } from "./arrival_segment.ts";
import { Vector } from "./vector.ts";

const BASE = 1_700_000_000_000_000;
const PREFIX = "MESSAGE c ";

function segmentOf(
  arrived: Record<string, number> = { a: 0, b: 0 },
  complete: Record<string, number> = arrived,
): ArrivalSegment {
  const stamps = (of: Record<string, number>) =>
    new Map(Object.entries(of).map(([node, ts]) => [node, BASE + ts]));
  return new ArrivalSegment(
    { arrived: stamps(arrived), complete: stamps(complete) },
    PREFIX.length,
  );
}

function add(
  segment: ArrivalSegment,
  node: string,
  stamps: readonly number[],
  marks: Record<string, number> = {},
): void {
  const lines = stamps.map((ts) => `${PREFIX}${BASE + ts} ${node}${ts}\r\n`).join("");
  const buffer = buffers.copyOf(encodeUtf8(lines));
  segment.append({
    buffer,
    node,
    count: stamps.length,
    firstTs: BASE + stamps[0],
    lastTs: BASE + stamps[stamps.length - 1],
    froms: null,
    marks: new Map(Object.entries(marks).map(([other, ts]) => [other, BASE + ts])),
  });
  buffer.release();
}

function read(
  segment: ArrivalSegment,
  cursor: LogCursor = segment.start(),
  vector = new Vector(0),
  maxBytes = Infinity,
): string[] {
  const pieces: string[] = [];
  for (let piece; (piece = segment.next(cursor, vector, maxBytes)) !== undefined;) {
    const texts = decodeUtf8(piece.lines).trimEnd().split("\r\n").map((line) => line.split(" ")[3]);
    assert.equal(texts.length, piece.count);
    assert.equal(`${piece.node}${piece.lastTs - BASE}`, texts.at(-1));
    pieces.push(texts.join(" "));
    vector.raise(piece.node, piece.lastTs);
  }
  return pieces;
}

function find(segment: ArrivalSegment, ts: number) {
  const found = segment.find(BASE + ts, BASE - 1000);
  if (found === null) return null;
  const at = (node: string) => found.vector.get(node) - BASE;
  return { ...found, at };
}

Deno.test("a segment: read in the order of arrival, whole lines of one entry", () => {
  const segment = segmentOf();
  add(segment, "a", [5, 6]);
  add(segment, "b", [3]);
  add(segment, "a", [7]);
  assert.deepEqual(read(segment), ["a5 a6", "b3", "a7"]);
  assert.deepEqual(read(segment, segment.start(), new Vector(0), 1), ["a5", "a6", "b3", "a7"]);
  const two = `${PREFIX}${BASE} a5\r\n`.length * 2;
  assert.deepEqual(read(segment, segment.start(), new Vector(0), two - 1), [
    "a5",
    "a6",
    "b3",
    "a7",
  ]);
  assert.deepEqual(read(segment, segment.start(), new Vector(0), two), ["a5 a6", "b3", "a7"]);
  segment.drop();
});

Deno.test("a segment: a whole entry comes with its owner, a part of one does not", () => {
  const segment = segmentOf();
  add(segment, "a", [5, 6]);
  assert.notEqual(segment.next(segment.start(), new Vector(0), Infinity)?.whole, null);
  assert.equal(segment.next(segment.start(), new Vector(0), 1)?.whole, null);
  assert.equal(segment.next(segment.start(), new Vector(BASE + 5), Infinity)?.whole, null);
  segment.drop();
});

Deno.test("a segment: what lies before a vector is passed over and not counted", () => {
  const segment = segmentOf();
  add(segment, "a", [5, 6, 8]);
  add(segment, "b", [3, 4]);
  const vector = new Vector(BASE + 3, [["a", BASE + 6]]);
  assert.equal(segment.countFrom(segment.start(), vector.copy()), 2);
  assert.deepEqual(read(segment, segment.start(), vector), ["a8", "b4"]);
  segment.drop();
});

Deno.test("a place: what had arrived up to and including the message, and nothing behind it", () => {
  const segment = segmentOf({ a: 1, b: 2, c: 3 });
  add(segment, "a", [5, 6], { b: 4 });
  add(segment, "b", [7], { c: 9 });
  add(segment, "a", [10, 11, 12], { b: 8, c: 10 });
  add(segment, "b", [13], { a: 20 });
  const found = find(segment, 11);
  assert.ok(found !== null);
  assert.deepEqual(["a", "b", "c", "d"].map(found.at), [11, 8, 10, -1000]);
  assert.equal(segment.countFrom(found.cursor, found.vector.copy()), 2);
  assert.deepEqual(read(segment, found.cursor, found.vector), ["a12", "b13"]);
  // The mark of the entry itself is of no use: it may be behind the rest of its lines.
  add(segment, "a", [21, 22], { a: 22 });
  assert.equal(find(segment, 21)?.at("a"), 21);
  segment.drop();
});

Deno.test("a place: a message that arrived late lies where it arrived", () => {
  const segment = segmentOf();
  add(segment, "a", [10]);
  add(segment, "b", [5]);
  add(segment, "a", [11]);
  const found = find(segment, 5);
  assert.deepEqual(found && [found.at("a"), found.at("b")], [10, 5]);
  const later = find(segment, 10);
  assert.deepEqual(later && read(segment, later.cursor, later.vector), ["b5", "a11"]);
  segment.drop();
});

Deno.test("a place: of two messages with one timestamp the first", () => {
  const segment = segmentOf();
  add(segment, "b", [5]);
  add(segment, "a", [5, 6]);
  const found = find(segment, 5);
  assert.deepEqual(found && read(segment, found.cursor, found.vector), ["a5 a6"]);
  segment.drop();
});

Deno.test("a place: not found is what is not there, and what may have been another's", () => {
  const segment = segmentOf();
  add(segment, "a", [5, 8]);
  assert.equal(find(segment, 4), null);
  assert.equal(find(segment, 6), null);
  assert.equal(find(segment, 9), null);
  // b had one at the same timestamp, and that one is here no more.
  const other = segmentOf();
  add(other, "b", [5]);
  add(other, "a", [5]);
  add(other, "b", [6]);
  other.dropOldest();
  assert.equal(find(other, 5), null);
  assert.notEqual(find(other, 6), null);
  for (const one of [segment, other]) one.drop();
});

Deno.test("a place: what may have been read elsewhere, in another order, is not found", () => {
  // b heard at 8 that it is wanted; its messages up to there are read from itself.
  const segment = segmentOf({ a: 0, b: 0 }, { a: 0, b: 8 });
  add(segment, "b", [7, 9]);
  assert.equal(find(segment, 7), null);
  const found = find(segment, 9);
  assert.ok(found !== null);
  segment.drop();
});

Deno.test("covers: nothing may be missing before its begin, dropped, or not wanted yet", () => {
  const segment = segmentOf({ a: 1, b: 1 }, { a: 1, b: 8 });
  const at = (a: number, b: number) => new Vector(BASE, [["a", BASE + a], ["b", BASE + b]]);
  assert.equal(segment.covers(at(1, 8)), true);
  assert.equal(segment.covers(at(0, 8)), false);
  assert.equal(segment.covers(at(1, 7)), false);
  // b was read to its end, which was before 8.
  assert.equal(segment.covers(at(1, 7), new Set(["b"])), true);
  assert.equal(segment.covers(at(1, 0), new Set(["b"])), false);
  add(segment, "a", [5]);
  segment.dropOldest();
  assert.equal(segment.covers(at(4, 8)), false);
  assert.equal(segment.covers(at(4, 8), new Set(["a", "b"])), false);
  assert.equal(segment.covers(at(5, 8)), true);
  assert.deepEqual([segment.limit("a"), segment.limit("b")], [BASE + 5, BASE + 8]);
  assert.equal(segment.limit("c"), undefined);
  assert.deepEqual([...segment.limits()].sort(), [["a", BASE + 5], ["b", BASE + 8]]);
  segment.drop();
});

Deno.test("dropped: a cursor before it is lost, one behind it is not; buffers are given back", () => {
  using ledger = new BufferLedger();
  const segment = segmentOf();
  add(segment, "a", [5]);
  add(segment, "a", [6]);
  const start = segment.start();
  const behind = find(segment, 5)?.cursor;
  assert.ok(behind !== undefined);
  segment.next(behind, new Vector(BASE + 5), 1);
  assert.equal(segment.dropOldest(), true);
  assert.equal(segment.isLost(start), true);
  assert.equal(segment.isLost(behind), false);
  assert.equal(segment.count, 1);
  assert.equal(ledger.owned, 1);
  segment.drop();
  assert.equal(segment.isLost(behind), true);
  assert.deepEqual([segment.count, segment.bytes, ledger.owned], [0, 0, 0]);
  assert.equal(segment.dropOldest(), false);
});

Deno.test("taken back: a node's messages from a timestamp on are given to nobody", () => {
  const segment = segmentOf();
  add(segment, "a", [5, 6, 7]);
  add(segment, "b", [8]);
  add(segment, "a", [9]);
  const inside = segment.start();
  segment.next(inside, new Vector(0), Infinity);
  segment.takeBack("a", BASE + 6);
  assert.equal(segment.count, 2);
  assert.deepEqual(read(segment), ["a5", "b8"]);
  assert.deepEqual(read(segment, inside), ["b8"]);
  assert.equal(find(segment, 6), null);
  add(segment, "a", [10]);
  assert.deepEqual(read(segment), ["a5", "b8", "a10"]);
  segment.drop();
});

Deno.test("pruned: the oldest entries whose messages are all old", () => {
  const segment = segmentOf();
  add(segment, "a", [5, 6]);
  add(segment, "b", [4]);
  add(segment, "a", [7, 9]);
  segment.prune(BASE + 5);
  assert.equal(segment.count, 5);
  segment.prune(BASE + 8);
  assert.deepEqual(read(segment), ["a7 a9"]);
  assert.deepEqual([segment.limit("a"), segment.limit("b")], [BASE + 6, BASE + 4]);
  segment.drop();
});
