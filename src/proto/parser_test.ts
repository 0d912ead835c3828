// The parser, cut at every byte, against a plain model of what it must see.

import assert from "node:assert/strict";
import { isUtf8 } from "node:buffer";
import fc from "fast-check";
import { encodeUtf8 } from "./bytes.ts";
import { WINDOW_BYTES } from "./line_ends.ts";
import { Parser, type ParserEvents } from "./parser.ts";

const IAC = 255;
const SB = 250;
const SE = 240;
const MAX_SUBNEGOTIATION_BYTES = 4096;
const SLACK = 64;

function bytesOf(...parts: (string | number | number[] | Uint8Array)[]): Uint8Array {
  const all: number[] = [];
  for (const part of parts) {
    if (typeof part === "string") all.push(...encodeUtf8(part));
    else if (typeof part === "number") all.push(part);
    else for (const byte of part) all.push(byte);
  }
  return Uint8Array.from(all);
}

/** Bytes as text, one character each. */
function show(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

/** Writes down what the parser says; halts it where it is told to. */
class Recorder implements ParserEvents {
  readonly seen: string[] = [];
  parser: Parser;

  constructor(limit: number, readonly haltsAt: (event: number) => boolean = () => false) {
    this.parser = new Parser(this, limit);
  }

  onPub(bytes: Uint8Array, nameStart: number, nameEnd: number, end: number, utf8: boolean): void {
    const name = show(bytes.subarray(nameStart, nameEnd));
    this.#saw(`pub "${name}" "${show(bytes.subarray(nameEnd + 1, end))}" ${utf8}`);
  }

  onLine(bytes: Uint8Array, start: number, end: number, utf8: boolean): void {
    this.#saw(`line "${show(bytes.subarray(start, end))}" ${utf8}`);
  }

  onTooLong(): void {
    this.#saw("too long");
  }

  #saw(event: string): void {
    this.seen.push(event);
    if (this.haltsAt(this.seen.length - 1)) this.parser.halt();
  }

  /** Gives the bytes in the pieces that end at `cuts`. */
  feed(bytes: Uint8Array, cuts: number[] = []): this {
    let from = 0;
    for (const to of [...cuts, bytes.length]) {
      // A copy that is spoilt behind the parser's back: it must not keep a view of it.
      const piece = bytes.slice(from, to);
      let at = 0;
      do {
        const before = this.seen.length;
        const next = this.parser.push(piece, at);
        const halted = this.seen.slice(before).findIndex((_, i) => this.haltsAt(before + i));
        if (halted < 0) assert.equal(next, piece.length);
        else assert.equal(halted, this.seen.length - before - 1, "an event behind a halt");
        assert.ok(next >= at);
        at = next;
      } while (at < piece.length);
      piece.fill(0x21);
      assert.ok(this.parser.heldBytes <= this.parser.maxLineBytes + SLACK);
      from = to;
    }
    return this;
  }
}

/** What must be seen, found the slow way: telnet out first, then lines. */
function expected(bytes: Uint8Array, limit: number): string[] {
  const GIVE_UP = -1;
  const data: number[] = [];
  for (let i = 0; i < bytes.length; i++) {
    if (bytes[i] !== IAC) {
      data.push(bytes[i]);
      continue;
    }
    const command = bytes[++i];
    if (command === undefined) break;
    if (command === SB) {
      let length = 0;
      let isBehindIac = false;
      for (i++; i < bytes.length; i++) {
        if (isBehindIac && bytes[i] === SE) break;
        if (++length > MAX_SUBNEGOTIATION_BYTES) {
          data.push(GIVE_UP);
          break;
        }
        isBehindIac = !isBehindIac && bytes[i] === IAC;
      }
    } else if (command > SB && command < IAC) {
      i++;
    } else if (command < SE) {
      data.push(IAC);
      i--;
    }
  }
  const seen: string[] = [];
  let line: number[] = [];
  let isDropping = false;
  for (const symbol of data) {
    if (symbol === 0x0a) {
      if (!isDropping) seen.push(...expectedOfLine(line, limit));
      line = [];
      isDropping = false;
      continue;
    }
    if (symbol !== GIVE_UP) line.push(symbol);
    if (!isDropping && (symbol === GIVE_UP || line.length > limit + SLACK)) {
      seen.push("too long");
      isDropping = true;
    }
  }
  return seen;
}

function expectedOfLine(raw: number[], limit: number): string[] {
  const utf8 = isUtf8(Uint8Array.from(raw));
  const line = show(Uint8Array.from(raw)).replace(/\0*$/, "").replace(/\r$/, "").replace(
    /\0*$/,
    "",
  );
  if (line.length > limit) return ["too long"];
  if (line === "") return [];
  const pub = /^pub ([^ -][^ ]*) ([^]*)$/i.exec(line);
  return [pub ? `pub "${pub[1]}" "${pub[2]}" ${utf8}` : `line "${line}" ${utf8}`];
}

const LIMIT = 64;

function longLine(length: number, ending: string): Uint8Array {
  return bytesOf(`pub c ${"x".repeat(length - 6)}${ending}`);
}

/** Requests, each ended, that say all there is to say. */
const CORPUS: [name: string, Uint8Array][] = [
  ["commands", bytesOf("ping\nhelp\r\nhello 1 json\nsub c\r\nunsub c\nhis c 0 1\nquit\n")],
  ["auth", bytesOf("gettoken ann\r\nauth ann t0k-en_\r\nauth_server a s\n")],
  ["pub", bytesOf("pub c a\r\npub c  a  b \nPUB c é\nPuB é 🎉\r\n")],
  [
    "not quite pub",
    bytesOf("pub\npub \npub c\npub c \npub  c x\npub -i=1 c m\npublish c m\n pub c m\n"),
  ],
  [
    "folding",
    bytesOf("\u017fub c\np\u0131ng\n\u0050UB c m\n", [
      0x10,
      0x55,
      0x42,
      0x20,
      0x63,
      0x20,
      0x6d,
      0x0a,
    ]),
  ],
  ["empty lines", bytesOf("\n\r\n\0\n\r\0\n\0\r\n\n")],
  ["line ends", bytesOf("a\0\0\nb\r\0\nc\0\r\nd\r\r\ne\0\r\0\r\n\rf\n\0g\nh\ri\0j\n")],
  [
    "pub's line ends",
    bytesOf("pub c a\0\npub c a\r\0\npub c \r\npub c \0\npub c a\r\r\npub c\r\n"),
  ],
  ["BOM", bytesOf([0xef, 0xbb, 0xbf], "ping\npub c ", [0xef, 0xbb, 0xbf], "x\n")],
  [
    "not UTF-8",
    bytesOf("pub c ", [0xc0, 0xaf], "\npub c ", [0x80], "\n", [0xed, 0xa0, 0x80], "\nok\n"),
  ],
  ["a character cut by a line end", bytesOf("pub c ", [0xc3], "\n", [0xa9], " é\n")],
  ["telnet", bytesOf("pi", [IAC, 253, 10], "ng\n", [IAC, 241], "ping", [IAC, 251, 13], "\r\n")],
  ["telnet option that is IAC", bytesOf([IAC, 254, IAC], "ping\n")],
  ["IAC IAC", bytesOf([IAC, IAC], "ping", [IAC, IAC], "\n")],
  ["IAC IAC in a message", bytesOf("pub c a", [IAC, IAC], "é\n")],
  ["lone IAC", bytesOf([IAC], "ping\n", [IAC, 10], "ping", [IAC], "\r\n")],
  ["IAC as last byte", bytesOf("ping\n", [IAC])],
  ["SB", bytesOf("p", [IAC, SB, 24, 10, 13, 0, IAC, IAC, 10, IAC, SE], "ing\n")],
  [
    "SB with IAC SB and IAC DO in it",
    bytesOf([IAC, SB, IAC, SB, IAC, 253, 240, IAC, SE], "ping\n"),
  ],
  ["SB of nothing, SE alone", bytesOf([IAC, SB, IAC, SE], "a", [IAC, SE], "b\n")],
  ["SB without end", bytesOf("ping\n", [IAC, SB], "ping\nping\n")],
  ["é around telnet", bytesOf("pub c ", [0xc3, IAC, 241, 0xa9], "\n")],
  ...[LIMIT - 1, LIMIT, LIMIT + 1].flatMap((length) =>
    ["\n", "\r\n", "\0\0\n", "\r\0\n"].map((ending): [string, Uint8Array] => [
      `${length} bytes and ${JSON.stringify(ending)}`,
      bytesOf("ping\n", longLine(length, ending), "ping\n"),
    ])
  ),
  ["at the slack", bytesOf("a".repeat(LIMIT), "\0".repeat(SLACK), "\nping\n")],
  ["past the slack", bytesOf("a".repeat(LIMIT), "\0".repeat(SLACK + 1), "\nping\n")],
  [
    "long in characters of two bytes",
    bytesOf("é".repeat(LIMIT / 2), "\n", "é".repeat(LIMIT / 2 + 1), "\n"),
  ],
  ["telnet does not count", bytesOf("a".repeat(LIMIT), Array(99).fill([IAC, 241]).flat(), "\nb\n")],
  ["far too long", bytesOf("ping\n", "x".repeat(4 * LIMIT), "\r\nping\n", "x".repeat(4 * LIMIT))],
];

for (const [name, bytes] of CORPUS) {
  Deno.test(`cut at every byte, and at every two: ${name}`, () => {
    const whole = new Recorder(LIMIT).feed(bytes).seen;
    assert.deepEqual(whole, expected(bytes, LIMIT));
    for (let i = 0; i <= bytes.length; i++) {
      assert.deepEqual(new Recorder(LIMIT).feed(bytes, [i]).seen, whole, `cut at ${i}`);
      if (bytes.length > 100) continue;
      for (let j = i; j <= bytes.length; j++) {
        assert.deepEqual(new Recorder(LIMIT).feed(bytes, [i, j]).seen, whole, `cut at ${i}, ${j}`);
      }
    }
    const bytewise = Array.from(bytes, (_, i) => i);
    assert.deepEqual(new Recorder(LIMIT).feed(bytes, bytewise).seen, whole, "byte by byte");
  });
}

Deno.test("the corpus in one piece and byte by byte", () => {
  const ended = CORPUS.filter(([name]) => !/without end|as last byte|far too long/.test(name));
  const bytes = bytesOf(...ended.map(([, bytes]) => bytes));
  const whole = new Recorder(LIMIT).feed(bytes).seen;
  assert.deepEqual(whole, ended.flatMap(([, bytes]) => expected(bytes, LIMIT)));
  assert.deepEqual(new Recorder(LIMIT).feed(bytes, Array.from(bytes, (_, i) => i)).seen, whole);
});

Deno.test("what the model says of a few lines is what a person would say", () => {
  const seen = (...parts: (string | number[])[]) => new Recorder(10).feed(bytesOf(...parts)).seen;
  assert.deepEqual(seen("pub c  x \r\n"), ['pub "c" " x " true']);
  assert.deepEqual(seen("ping\0\r\n\r\n"), ['line "ping" true']);
  assert.deepEqual(seen([IAC, 253, 10], "ping\n"), ['line "ping" true']);
  assert.deepEqual(seen([IAC, SB, 10, IAC, IAC, 10, IAC, SE], "ping\n"), ['line "ping" true']);
  assert.deepEqual(seen("12345678901\n", "1234567890\n"), ["too long", 'line "1234567890" true']);
  assert.deepEqual(seen("pub c ", [0x80], "\n"), ['pub "c" "\x80" false']);
  assert.deepEqual(seen("pin"), []);
});

Deno.test("a subnegotiation is given up behind 4096 bytes, once, and the line with it", () => {
  for (const fill of [[0], [IAC, IAC], [IAC, 253], [10]]) {
    const inside = (length: number) => Array.from({ length }, (_, i) => fill[i % fill.length]);
    for (const length of [4094, 4095, 4096, 4097, 10_000]) {
      const bytes = bytesOf("pi", [IAC, SB], inside(length), [IAC, SE], "ng\nping\n");
      const whole = expected(bytes, LIMIT);
      assert.deepEqual(new Recorder(LIMIT).feed(bytes).seen, whole, `${length} of ${fill}`);
      for (const cut of [3, 4, 5, 4097, 4098, 4099, 4100, 4101, 4102, 4103]) {
        assert.deepEqual(new Recorder(LIMIT).feed(bytes, [cut]).seen, whole, `cut at ${cut}`);
      }
    }
  }
  const { seen } = new Recorder(LIMIT).feed(bytesOf([IAC, SB], Array(4097).fill(1), "x\nping\n"));
  assert.deepEqual(seen, ["too long", 'line "ping" true']);
  // Each begins to count anew.
  const some = Array.from({ length: 3 }, () => [IAC, SB, ...Array(3000).fill(1), IAC, SE]).flat();
  assert.deepEqual(new Recorder(LIMIT).feed(bytesOf(some, "a\n")).seen, ['line "a" true']);
  const { seen: none } = new Recorder(LIMIT).feed(
    bytesOf([IAC, SB], Array(4095).fill(1), [IAC, SE], "a\n"),
  );
  assert.deepEqual(none, ['line "a" true']);
});

Deno.test("endless input without a line end is held no further than the limit", () => {
  for (const unit of [[0x61], [IAC, SB, 0x61], [0x61, IAC, 241], [IAC, 0x61], [0]]) {
    const recorder = new Recorder(LIMIT);
    const chunk = bytesOf(...Array.from({ length: 20_000 / unit.length }, () => unit));
    for (let i = 0; i < 20; i++) recorder.feed(chunk);
    assert.deepEqual(recorder.seen, ["too long"], `${unit}`);
    assert.ok(recorder.parser.heldBytes <= LIMIT + SLACK);
    recorder.feed(bytesOf([IAC, SE], "\nping\n"));
    assert.deepEqual(recorder.seen, ["too long", 'line "ping" true'], `${unit}`);
  }
});

Deno.test("the limit may change between two reads, in the middle of a line", () => {
  const recorder = new Recorder(8).feed(bytesOf("123456"));
  recorder.parser.maxLineBytes = 1000;
  recorder.feed(bytesOf("7".repeat(900), "\n"));
  assert.equal(recorder.seen[0], `line "123456${"7".repeat(900)}" true`);
  recorder.feed(bytesOf("x".repeat(500)));
  recorder.parser.maxLineBytes = 8;
  recorder.feed(bytesOf("x"));
  recorder.feed(bytesOf("x\nping\n"));
  assert.deepEqual(recorder.seen.slice(1), ["too long", 'line "ping" true']);
});

/** Bytes among which everything that matters is frequent. */
function anyBytes(maxLength: number): fc.Arbitrary<Uint8Array> {
  const piece = fc.oneof(
    fc.constantFrom<number[][]>(
      [10],
      [13, 10],
      [13],
      [0],
      [32],
      [IAC],
      [IAC, IAC],
      [SB],
      [SE],
      [IAC, SB],
      [IAC, SE],
      [IAC, 253],
      [IAC, 241],
      [0xc3],
      [0xa9],
      [0xc3, 0xa9],
      [...encodeUtf8("🎉")],
      [...encodeUtf8("pub c ")],
      [...encodeUtf8("ping")],
      Array(20).fill(0x78),
    ),
    fc.integer({ min: 0, max: 255 }).map((byte) => [byte]),
  );
  return fc.array(piece, { maxLength }).map((pieces) => Uint8Array.from(pieces.flat()));
}

function cutsOf(bytes: Uint8Array, places: number[]): number[] {
  return places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b);
}

const PLACES = fc.array(fc.nat(), { maxLength: 12 });

Deno.test("random bytes in random pieces, halted at random: the same events", () => {
  const limit = fc.constantFrom(1, 4, 12, 30, 100);
  const halts = fc.array(fc.boolean(), { maxLength: 20 });
  fc.assert(
    fc.property(anyBytes(60), PLACES, limit, halts, (bytes, places, limit, halts) => {
      const whole = expected(bytes, limit);
      assert.deepEqual(new Recorder(limit).feed(bytes).seen, whole);
      const cuts = cutsOf(bytes, places);
      assert.deepEqual(new Recorder(limit).feed(bytes, cuts).seen, whole);
      const haltsAt = (event: number) => halts.length > 0 && halts[event % halts.length];
      assert.deepEqual(new Recorder(limit, haltsAt).feed(bytes).seen, whole);
      assert.deepEqual(new Recorder(limit, haltsAt).feed(bytes, cuts).seen, whole);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("halted at every event, a line that becomes too long by a lone IAC included", () => {
  const bytes = bytesOf("x".repeat(LIMIT + SLACK), [IAC], "x\nping\nping\n");
  const recorder = new Recorder(LIMIT, () => true).feed(bytes);
  assert.deepEqual(recorder.seen, ["too long", 'line "ping" true', 'line "ping" true']);
});

/** An array that counts the bytes which are searched or looked at as a whole. */
class Counted extends Uint8Array<ArrayBuffer> {
  static work = 0;

  override indexOf(byte: number, from = 0): number {
    const at = super.indexOf(byte, from);
    Counted.work += (at < 0 ? this.length : at) - from + 1;
    return at;
  }

  override lastIndexOf(byte: number): number {
    const at = super.lastIndexOf(byte);
    Counted.work += this.length - Math.max(at, 0);
    return at;
  }

  override subarray(start = 0, end = this.length): Uint8Array<ArrayBuffer> {
    // From 0 it only bounds a search; else somebody is about to look at all of it.
    if (start > 0) Counted.work += end - start;
    return super.subarray(start, end);
  }
}

Deno.test("the work grows with the bytes and no faster, whatever they are", () => {
  const shapes: [string, number[]][] = [
    ["IAC storm", [IAC, 241]],
    ["IAC between the bytes", [0x61, IAC, 241]],
    ["lone IACs", [IAC, 0x61]],
    ["SB storm", [IAC, SB, 1, IAC, SE]],
    ["short lines", [0x61, 10]],
    ["short lines with telnet", [0x61, IAC, 253, 1, 10]],
    ["short lines that are not UTF-8", [0x80, 10]],
    ["one line that is not UTF-8", [0x80]],
    ["empty lines", [10]],
    ["NULs", [0]],
    ["publishes", [...encodeUtf8(`pub c ${"x".repeat(200)}\n`)]],
    ["publishes that are not UTF-8", [...bytesOf("pub c ", "x".repeat(200), [0x80], "\n")]],
  ];
  const workOf = (unit: number[], length: number) => {
    const bytes = new Counted(new ArrayBuffer(length));
    for (let i = 0; i < length; i++) bytes[i] = unit[i % unit.length];
    Counted.work = 0;
    const recorder = new Recorder(65_536);
    assert.equal(recorder.parser.push(bytes), length);
    return Counted.work;
  };
  for (const [name, unit] of shapes) {
    const small = workOf(unit, 20_000);
    const large = workOf(unit, 200_000);
    assert.ok(large <= 8 * 200_000, `${name}: ${large} for 200,000 bytes`);
    // The first window of lines is not counted, as it begins at 0.
    assert.ok(large <= 11 * (small + WINDOW_BYTES), `${name}: ${small}, ${large}`);
  }
});
