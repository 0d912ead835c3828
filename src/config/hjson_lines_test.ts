// Tests of the scanner: what it finds, and that it reads what the hjson library reads.

import assert from "node:assert/strict";
import fc from "fast-check";
import Hjson from "hjson";
import { type HjsonNode, scanHjson } from "./hjson_lines.ts";

function scanned(text: string): HjsonNode {
  const scan = scanHjson(text);
  if (!scan.ok) assert.fail(`${JSON.stringify(text)}: ${scan.fault.message}`);
  return scan.root;
}

function faultOf(text: string): string {
  const scan = scanHjson(text);
  if (scan.ok) assert.fail(`${JSON.stringify(text)} was read`);
  const { line, column, path, message } = scan.fault;
  return `${line}:${column} ${path.join(".")}: ${message}`;
}

/** What the library makes of a node: of equal keys the last, `__proto__` lost. */
function valueOf(node: HjsonNode): unknown {
  if (node.kind === "array") return node.items.map(valueOf);
  if (node.kind === "object") {
    return Object.fromEntries(
      node.entries.filter(({ key }) => key !== "__proto__").map(({ key, value }) => [
        key,
        valueOf(value),
      ]),
    );
  }
  if (node.kind === "string") return node.text;
  return node.kind === "number" ? Number(node.text) : JSON.parse(node.text);
}

Deno.test("scanHjson: lines and columns of keys and values", () => {
  const root = scanned(
    '# a comment\r\n{\r\n  a: 1\n  /* two\n lines */ "b": [\n    x\n    y ] z\n  ]\n}',
  );
  assert.equal(root.kind, "object");
  if (root.kind !== "object") return;
  const [a, b] = root.entries;
  assert.deepEqual([a.key, a.line, a.column, a.value.column], ["a", 3, 3, 6]);
  assert.deepEqual([b.key, b.line, b.column], ["b", 5, 11]);
  assert.equal(b.value.kind, "array");
  if (b.value.kind !== "array") return;
  assert.deepEqual(b.value.items.map(({ line, column }) => [line, column]), [[6, 5], [7, 5]]);
});

Deno.test("scanHjson: a key given twice is there twice", () => {
  const root = scanned('a: 1\n"a": 2\n__proto__: {}\n');
  assert.equal(root.kind, "object");
  if (root.kind !== "object") return;
  assert.deepEqual(root.entries.map(({ key, line }) => [key, line]), [
    ["a", 1],
    ["a", 2],
    ["__proto__", 3],
  ]);
});

Deno.test("scanHjson: quotes, numbers, words and what was written", () => {
  const cases: [string, string, boolean, string][] = [
    ["off", "string", false, "off"],
    ["off, # x", "string", false, "off, # x"],
    ['"off"', "string", true, "off"],
    ["'o\"ff'", "string", true, 'o"ff'],
    ['"\\u0041\\n\\/"', "string", true, "A\n/"],
    ["'''one'''", "string", true, "one"],
    ["1e3", "number", false, "1e3"],
    ["1.0, # x", "number", false, "1.0"],
    ["0x10", "string", false, "0x10"],
    ["007", "string", false, "007"],
    ["5s", "string", false, "5s"],
    ["true // x", "word", false, "true"],
    ["trueish", "string", false, "trueish"],
    ["127.0.0.1:2222", "string", false, "127.0.0.1:2222"],
    ["a//b", "string", false, "a//b"],
    ["", "string", false, ""],
  ];
  for (const [text, kind, quoted, value] of cases) {
    const root = scanned(`k: ${text}`);
    assert.equal(root.kind, "object");
    if (root.kind !== "object") return;
    const node = root.entries[0].value;
    assert.ok(node.kind !== "object" && node.kind !== "array");
    assert.deepEqual([node.kind, node.quoted, node.text], [kind, quoted, value], text);
  }
});

Deno.test("scanHjson: a multiline string loses the indent of its quotes", () => {
  const text = "{\n  a: '''\n     one\n      two\r\n   three\n     '''\n}";
  assert.deepEqual(valueOf(scanned(text)), Hjson.parse(text));
});

Deno.test("scanHjson: faults say where and what would be right", () => {
  const cases: [string, RegExp][] = [
    ["a: :2222", /^1:4 a: .*begins with ":" needs quotes/],
    ["{\n a: [::1]:2222\n}", /^2:5 a: .*begins with "\[" needs quotes/],
    ["a: [fe80::1]:22\n", /^1:4 a: .*begins with "\[" needs quotes/],
    ["a: ,", /^1:4 a: a value is expected/],
    ["a b: 1", /^1:2 : .*a key with a space needs quotes/],
    [": 1", /^1:1 : a key is missing/],
    ['"a" 1', /^1:5 a: a ":" is expected/],
    ["{\n  a: 1\n", /^1:1 : this "\{" has no "\}"/],
    ["s: {\n  a: b }\n", /^2:6 s\.a: .*took a "\}" with it/],
    ["s: { a: b }\nt: 1", /^1:9 s\.a: .*took a "\}" with it/],
    ["l: [x, y]\n", /^1:5 l: .*took a "\]" with it/],
    ["apps: [{id: a, secret: b}]", /^1:13 apps\.id: .*took a "\}" with it/],
    ["a: [\n", /^1:4 a: this "\[" has no "\]"/],
    ["a: 'x\n'", /^1:4 a: the quote is not closed on its line/],
    ["a: '", /^1:4 a: the quote is not closed/],
    ["a: '''x", /^1:4 a: the ''' is not closed/],
    ['a: "\\x"', /^1:5 a: .*written/],
    ['a: "\\u12"', /^1:5 a: .*four hexadecimal digits/],
    ["{a:", /^1:1 : this "\{" has no "\}"/],
    ["42", /^1:1 : a ":" and a value are missing/],
    ["{}}", /^1:3 : the text goes on/],
    ["[".repeat(100_000), /nested more than 32 levels/],
    ["a:{".repeat(40), /nested more than 32 levels/],
  ];
  assert.match(faultOf(`a: ${"x".repeat(4097)}`), /^1:4 a: .*needs quotes/);
  for (const [text, expected] of cases) {
    assert.match(faultOf(text), expected, JSON.stringify(text.slice(0, 40)));
    const library = (() => {
      try {
        return typeof Hjson.parse(text.length > 1000 ? "[" : text);
      } catch {
        return "refused";
      }
    })();
    assert.ok(library !== "object", `${text} is an object to the library`);
  }
});

/** Holds the scanner against the library on one text. */
function compare(text: string): void {
  const scan = scanHjson(text);
  let value: unknown;
  try {
    value = Hjson.parse(text);
  } catch {
    assert.ok(!scan.ok, `read, and refused by the library: ${text}`);
    return;
  }
  const single = typeof value !== "object" || value === null;
  assert.equal(scan.ok, !single, text);
  if (scan.ok) assert.deepEqual(valueOf(scan.root), withoutPrototypes(value), text);
}

Deno.test("scanHjson: reads what the library reads, whatever the text", () => {
  const piece = fc.constantFrom(
    ..."{}[],:#/'\"\\ \n\r\t*",
    ..."a b 1 0 - . e true false null key: '''".split(" "),
    "/*",
    "*/",
    "//",
    "\\u00e9",
    "é",
    "\u00a0",
    "a: ",
    "\n  ",
    "1.5",
    "__proto__: ",
  );
  const anything = fc.array(piece, { maxLength: 25 }).map((pieces) => pieces.join(""));
  fc.assert(fc.property(anything, compare), { numRuns: 20_000 });
});

Deno.test("scanHjson: reads what the library writes", () => {
  const objects = fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 3 }));
  fc.assert(
    fc.property(objects, (value) => {
      const plain: unknown = JSON.parse(JSON.stringify(value));
      // Not all that it writes can it read: a ' before the closing ''' ends the text too early.
      compare(Hjson.stringify(plain));
      compare(JSON.stringify(plain, null, 2));
    }),
    { numRuns: 500 },
  );
});

/** A copy without `__proto__`, which is a key like others to Deno and the prototype elsewhere. */
function withoutPrototypes(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutPrototypes);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).filter(([k]) => k !== "__proto__").map((
      [k, v],
    ) => [k, withoutPrototypes(v)]),
  );
}
